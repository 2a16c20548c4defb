//! Contents on their way out: a range over one or many blobs, in pieces, never more than a few of them in memory.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use hearth_store::{BlobId, Blobs, BlobsError, bulk};
use s3s::S3Result;
use tokio::sync::mpsc;

use crate::error::of_blobs;
use crate::record::{Body, Content, Owner};
use crate::state::State;

/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;
/// A client that takes nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(600);

/// A blob and its size.
type Segment = (BlobId, u64);

/// Pieces of a range. Ends with an error when it cannot be read to its end.
pub struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// The bytes of a range that lies within the content, or nothing where the object has been deleted. What begins to be read
/// can be read to its end.
pub async fn read(state: &State, owner: &Owner, content: &Content, range: Range<u64>) -> S3Result<Option<Pieces>> {
    let segments: Vec<Segment> = match &content.body {
        Body::Blob(blob) => vec![(*blob, content.size)],
        parts => match state.parts_left(owner, parts).await? {
            Some(found) => found.parts.iter().map(|part| (part.blob, part.size)).collect(),
            None => return Ok(None),
        },
    };
    let mut wanted = within(&segments, range);
    let lease = state.leases.take(wanted.iter().map(|(blob, _)| *blob).collect());
    // Whoever deletes it from here on finds the lease.
    if state.parts_left(owner, &content.body).await?.is_none() {
        return Ok(None);
    }
    wanted.reverse();
    let (sender, receiver) = mpsc::channel(1);
    if let Some((blob, range)) = wanted.pop() {
        let file = match state.blobs.open(blob).await {
            Ok(file) => file,
            Err(BlobsError::Missing(_)) => return Ok(None),
            Err(error) => return Err(of_blobs(error)),
        };
        let blobs = state.blobs.clone();
        tokio::spawn(async move {
            send(&*blobs, file, range, wanted, sender).await;
            drop(lease);
        });
    }
    Ok(Some(Pieces(receiver)))
}

/// Which bytes of which blob, in order.
fn within(segments: &[Segment], range: Range<u64>) -> Vec<(BlobId, Range<u64>)> {
    let mut begin = 0;
    let mut wanted = Vec::new();
    for (blob, size) in segments {
        let end = begin + size;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if from < to {
            wanted.push((*blob, from - begin..to - begin));
        }
        begin = end;
    }
    wanted
}

async fn send(
    blobs: &dyn Blobs,
    file: std::fs::File,
    mut range: Range<u64>,
    mut rest: Vec<(BlobId, Range<u64>)>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut file = Arc::new(file);
    loop {
        while range.start < range.end {
            let length = PIECE.min(range.end - range.start);
            let (from, at) = (file.clone(), range.start);
            let piece = bulk(move || read_piece(&from, at, length)).await.flatten();
            let failed = piece.is_err();
            if let Err(error) = &piece {
                tracing::error!(%error, "the content of an object could not be read");
            }
            range.start += length;
            if !matches!(tokio::time::timeout(PATIENCE, sender.send(piece)).await, Ok(Ok(()))) || failed {
                return;
            }
        }
        let Some((blob, next)) = rest.pop() else { return };
        range = next;
        match blobs.open(blob).await {
            Ok(opened) => file = Arc::new(opened),
            Err(error) => {
                tracing::error!(%error, "the content of an object could not be read");
                let _ = sender.send(Err(io::Error::other(error))).await;
                return;
            }
        }
    }
}

fn read_piece(file: &std::fs::File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_range_is_the_same_bytes_however_the_content_is_divided(
            sizes in prop::collection::vec(0u64..5, 0..8),
            from in 0u64..40,
            length in 0u64..40,
        ) {
            let segments: Vec<Segment> =
                sizes.iter().enumerate().map(|(i, size)| (BlobId::from_bytes([i as u8; 32]), *size)).collect();
            let all: Vec<(BlobId, u64)> =
                segments.iter().flat_map(|(blob, size)| (0..*size).map(move |at| (*blob, at))).collect();
            let to = (from + length).min(all.len() as u64);
            let wanted = within(&segments, from.min(to)..to);
            let found: Vec<(BlobId, u64)> =
                wanted.into_iter().flat_map(|(blob, range)| range.map(move |at| (blob, at))).collect();
            prop_assert_eq!(&found[..], &all[usize::try_from(from.min(to)).unwrap()..usize::try_from(to).unwrap()]);
        }
    }
}
