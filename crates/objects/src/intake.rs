//! A body on its way to a blob: in pieces, hashed as it comes, checked against what the client says of it.

use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use hearth_store::{BlobId, Blobs, Draft, Naming, bulk};
use hearth_wire::sigv4::ChunkError;
use md5::{Digest, Md5};
use s3s::{S3Error, S3Result};
use sha2::Sha256;

use crate::checksum::{Algorithm, Checksum, Hasher, is_value};
use crate::chunked::{ChunkedError, Trailers};
use crate::error;

/// Largest object of one request, and largest part, bytes.
pub const PUT_MAX: u64 = 5 << 30;
/// What is written at once. An upload has up to two of these in memory.
const PIECE: usize = 1 << 20;
/// A client that is silent for this long in the middle of a body is let go.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Below this, hashing is not worth another thread.
const INLINE: usize = 64 * 1024;

/// What the client says of a body.
#[derive(Default)]
pub struct Said {
    pub length: Option<u64>,
    /// As in the header: base64.
    pub md5: Option<String>,
    pub sha256: Option<[u8; 32]>,
    /// With its value, where it was known before the body.
    pub checksum: Option<(Algorithm, Option<String>)>,
    pub trailers: Option<Trailers>,
}

/// A whole body, in a blob that no record names yet. Dropped, its blob waits for the sweep of the next start.
pub struct Taken {
    pub blob: BlobId,
    pub size: u64,
    pub md5: [u8; 16],
    pub checksum: Checksum,
}

struct Hashes {
    md5: Md5,
    checksum: Hasher,
    sha256: Option<Sha256>,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.checksum.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }
}

/// Reads a body to its end. `Ok` once it is on disk.
pub async fn take<S, E>(blobs: &dyn Blobs, body: Option<S>, said: Said) -> S3Result<Taken>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wanted_md5 = said.md5.as_deref().map(decode_md5).transpose()?;
    if let Some((algorithm, Some(value))) = &said.checksum
        && !is_value(*algorithm, value)
    {
        let message = format!("Value for {} header is invalid.", algorithm.header());
        return Err(error::invalid_request(message));
    }
    if said.length.is_some_and(|length| length > PUT_MAX) {
        return Err(error::too_large());
    }
    let algorithm = said.checksum.as_ref().map_or(Algorithm::Crc64Nvme, |(algorithm, _)| *algorithm);
    let hashes =
        Hashes { md5: Md5::new(), checksum: Hasher::new(algorithm), sha256: said.sha256.map(|_| Sha256::new()) };
    let draft = blobs.create().await.map_err(error::of_blobs)?;
    let mut intake = Intake { draft, hashes: Some(hashes), waiting: BytesMut::new(), size: 0 };
    if let Some(mut body) = body {
        while let Some(piece) = next(&mut body).await? {
            intake.piece(piece).await?;
        }
    }
    intake.flush().await?;
    let Some(hashes) = intake.hashes.take() else { return Err(error::incomplete()) };
    if said.length.is_some_and(|length| length != intake.size) {
        return Err(error::incomplete());
    }
    let md5: [u8; 16] = hashes.md5.finalize().into();
    if wanted_md5.is_some_and(|wanted| wanted != md5) {
        return Err(error::bad_digest());
    }
    if let (Some(wanted), Some(sha256)) = (said.sha256, hashes.sha256)
        && wanted != <[u8; 32]>::from(sha256.finalize())
    {
        return Err(error::sha256_mismatch());
    }
    let checksum = hashes.checksum.finish();
    let told = said.checksum.and_then(|(_, value)| value);
    let told = told.or_else(|| said.trailers.as_ref()?.get(&algorithm.header()));
    if told.is_some_and(|told| told != checksum.value) {
        return Err(error::bad_checksum(algorithm.name()));
    }
    let blob = intake.draft.finish(Naming::Drawn).await.map_err(error::of_blobs)?;
    Ok(Taken { blob, size: intake.size, md5, checksum })
}

fn decode_md5(text: &str) -> S3Result<[u8; 16]> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| error::invalid_digest())?;
    bytes.try_into().map_err(|_| error::invalid_digest())
}

async fn next<S, E>(body: &mut S) -> S3Result<Option<Bytes>>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_next(cx));
    match tokio::time::timeout(SILENCE_MAX, next).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(broken(error.into())),
        Err(_) => Err(error::silent()),
    }
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> S3Error {
    match error.downcast_ref::<ChunkedError>() {
        Some(ChunkedError::Chunks(ChunkError::Malformed)) => error::invalid_request("The body is not in aws-chunked."),
        _ => error::incomplete(),
    }
}

struct Intake {
    draft: Box<dyn Draft>,
    /// Away while another thread works on them.
    hashes: Option<Hashes>,
    waiting: BytesMut,
    size: u64,
}

impl Intake {
    async fn piece(&mut self, piece: Bytes) -> S3Result<()> {
        self.size += piece.len() as u64;
        if self.size > PUT_MAX {
            return Err(error::too_large());
        }
        self.waiting.extend_from_slice(&piece);
        if self.waiting.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> S3Result<()> {
        let bytes = self.waiting.split().freeze();
        let Some(mut hashes) = self.hashes.take() else { return Ok(()) };
        if bytes.len() < INLINE {
            hashes.update(&bytes);
            self.hashes = Some(hashes);
            return if bytes.is_empty() { Ok(()) } else { self.draft.write(bytes).await.map_err(error::of_blobs) };
        }
        let same = bytes.clone();
        let hashed = bulk(move || {
            hashes.update(&same);
            hashes
        });
        let (hashed, written) = tokio::join!(hashed, self.draft.write(bytes));
        written.map_err(error::of_blobs)?;
        self.hashes = hashed.ok();
        Ok(())
    }
}
