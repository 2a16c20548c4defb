//! A response on its way from the runtime to its caller, piece by piece.
//!
//! ```text
//!   connection of the runtime ──Writer──► pieces ──► Body ──► connection of the caller
//!   owner of the environment ──End──────────────────►┘
//! ```
//!
//! What is on the way is counted until the caller's connection has written it: a caller that reads slowly holds up the
//! function, not memory. Only the owner ends a stream, because it alone knows whether the invocation went on to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use hearth_model::{Body, BodyError, ErrorType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Bytes of one response in memory at a time, from the runtime's connection to the caller's.
const ROOM: usize = 64 * 1024;
/// Bytes of a piece. A quarter of the room, so that one can be read while others are written.
const PIECE_MAX: usize = ROOM / 4;
/// Pieces that wait to be taken. Small ones cost more than their bytes.
const WAITING_MAX: usize = 16;

/// Where pieces go in.
pub struct StreamWriter {
    pieces: mpsc::Sender<Bytes>,
    room: Arc<Semaphore>,
}

/// How a stream ends. Dropping it is an end, too: the platform's failure.
pub struct StreamEnd(oneshot::Sender<Result<(), BodyError>>);

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

/// A stream in its three parts: for the runtime's connection, for its owner, for its caller.
pub fn stream() -> (StreamWriter, StreamEnd, Body) {
    let (pieces, taken) = mpsc::channel(WAITING_MAX);
    let (end, ended) = oneshot::channel();
    let reader = Reader { pieces: taken, end: Some(ended), last: None };
    (StreamWriter { pieces, room: Arc::new(Semaphore::new(ROOM)) }, StreamEnd(end), Box::pin(reader))
}

impl StreamWriter {
    /// Waits until there is room for all of it.
    pub async fn write(&self, data: &[u8]) -> Result<(), Unread> {
        for piece in data.chunks(PIECE_MAX) {
            let room = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let room = tokio::select! {
                room = self.room.clone().acquire_many_owned(room) => room.map_err(|_| Unread)?,
                () = self.pieces.closed() => return Err(Unread),
            };
            // Copied: what was read keeps the whole buffer of its connection alive.
            let held = Held { bytes: piece.into(), _room: room };
            self.pieces.send(Bytes::from_owner(held)).await.map_err(|_| Unread)?;
        }
        Ok(())
    }
}

impl StreamEnd {
    /// After what was written before.
    pub fn end(self, how: Result<(), BodyError>) {
        let _ = self.0.send(how);
    }
}

struct Held {
    bytes: Box<[u8]>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Reader {
    pieces: mpsc::Receiver<Bytes>,
    /// Until it is known.
    end: Option<oneshot::Receiver<Result<(), BodyError>>>,
    /// The error that follows the last piece.
    last: Option<BodyError>,
}

impl Stream for Reader {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(end) = &mut self.end
            && let Poll::Ready(how) = Pin::new(end).poll(cx)
        {
            self.last = how.unwrap_or_else(|_| Err(lost())).err();
            self.end = None;
        }
        // After the end, so that a piece that came between the two is not missed.
        match self.pieces.poll_recv(cx) {
            Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            // The writer may be gone a moment before the end is told.
            Poll::Ready(None) | Poll::Pending if self.end.is_none() => Poll::Ready(self.last.take().map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

fn lost() -> BodyError {
    let error_type = ErrorType::SANDBOX_FAILURE.as_str().to_owned();
    let details = format!(r#"{{"errorType":"{error_type}"}}"#).into();
    BodyError { error_type, details }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(body: &mut Body) -> Option<Result<Bytes, String>> {
        let piece = poll_fn(|cx| body.as_mut().poll_next(cx)).await;
        piece.map(|piece| piece.map_err(|error| error.error_type))
    }

    #[tokio::test]
    async fn pieces_come_in_order_and_then_the_end() {
        let (writer, end, mut body) = stream();
        writer.write(b"one").await.unwrap();
        writer.write(b"two").await.unwrap();
        end.end(Ok(()));
        assert_eq!(next(&mut body).await, Some(Ok("one".into())));
        assert_eq!(next(&mut body).await, Some(Ok("two".into())));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn an_error_comes_after_what_was_written() {
        let (writer, end, mut body) = stream();
        writer.write(b"half").await.unwrap();
        end.end(Err(BodyError { error_type: "E".to_owned(), details: Bytes::new() }));
        assert_eq!(next(&mut body).await, Some(Ok("half".into())));
        assert_eq!(next(&mut body).await, Some(Err("E".to_owned())));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn a_stream_that_nobody_ends_is_the_platforms_failure() {
        let (writer, end, mut body) = stream();
        drop((writer, end));
        assert_eq!(next(&mut body).await, Some(Err("Sandbox.Failure".to_owned())));
    }

    #[tokio::test]
    async fn no_more_than_the_room_is_in_memory() {
        let (writer, _end, mut body) = stream();
        let more_than_room = vec![7; ROOM + 1];
        let writing = tokio::spawn(async move { writer.write(&more_than_room).await });
        let mut pieces = Vec::new();
        for _ in 0..ROOM / PIECE_MAX {
            pieces.push(next(&mut body).await.unwrap().unwrap());
        }
        // On one thread: the writer has gone as far as it can.
        tokio::task::yield_now().await;
        let held_up = poll_fn(|cx| Poll::Ready(body.as_mut().poll_next(cx).is_pending())).await;
        assert!(held_up, "there is no room while the first pieces are held");
        pieces.pop();
        assert_eq!(next(&mut body).await.unwrap().unwrap().len(), 1);
        assert_eq!(writing.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_lets_the_writer_go_on() {
        let (writer, _end, body) = stream();
        let writing = tokio::spawn(async move { writer.write(&vec![7; 2 * ROOM]).await });
        tokio::task::yield_now().await;
        drop(body);
        assert_eq!(writing.await.unwrap(), Err(Unread));
    }
}
