//! The port for blobs: bytes named by their SHA-256.

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{BoxFuture, CodeHash};

#[derive(Clone, Debug, thiserror::Error)]
pub enum BlobsError {
    #[error("no blob {0:?}")]
    Missing(CodeHash),
    #[error("the store is full")]
    Full,
    #[error("the blob store failed: {0}")]
    Io(Arc<str>),
}

/// Content-addressed bytes. `put` is idempotent; a crash leaves a whole blob or none.
pub trait Blobs: Send + Sync + 'static {
    /// `Ok` once the bytes are on disk.
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<CodeHash, BlobsError>>;

    /// An open file of the whole blob, positioned at its start.
    fn open(&self, hash: CodeHash) -> BoxFuture<'_, Result<std::fs::File, BlobsError>>;

    /// Idempotent.
    fn delete(&self, hash: CodeHash) -> BoxFuture<'_, Result<(), BlobsError>>;

    fn list(&self) -> BoxFuture<'_, Result<Vec<CodeHash>, BlobsError>>;
}
