//! The port for blobs: bytes that never change, under names of 32 bytes.
//!
//! Each store of blobs has one owner, who alone knows which blobs are needed (docs/decisions/0014).

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{BoxFuture, CodeHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bulk::bulk;

/// A blob's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(CodeHash);

impl BlobId {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        BlobId(CodeHash(bytes))
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        self.0.to_hex()
    }

    pub fn from_hex(hex: &str) -> Option<Self> {
        CodeHash::from_hex(hex).map(BlobId)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The blob of these bytes, where it is named by them.
impl From<CodeHash> for BlobId {
    fn from(hash: CodeHash) -> Self {
        BlobId(hash)
    }
}

/// The hash of the bytes of a blob that is named by them.
impl From<BlobId> for CodeHash {
    fn from(id: BlobId) -> Self {
        id.0
    }
}

/// What a blob is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// At random: whoever wrote it is the only one who knows of it, and may delete it without asking anybody.
    Drawn,
    /// By the name that its writer knows it by. Where that is the SHA-256 of its bytes, the same bytes are one blob,
    /// whoever brings them.
    As(BlobId),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum BlobsError {
    #[error("no blob {0:?}")]
    Missing(BlobId),
    #[error("the store is full")]
    Full,
    #[error("the blob store failed: {0}")]
    Io(Arc<str>),
}

impl From<io::Error> for BlobsError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobsError::Full,
            _ => BlobsError::Io(error.to_string().into()),
        }
    }
}

/// An engine's work on files.
pub(crate) async fn blocking<T: Send + 'static, E: Into<BlobsError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, BlobsError> {
    bulk(work).await?.map_err(E::into)
}

/// What a draft answers after a piece that could not be written.
pub(crate) fn broken() -> BlobsError {
    BlobsError::Io("an earlier piece of this blob could not be written".into())
}

/// Immutable bytes under names. A crash leaves a whole blob or none.
pub trait Blobs: Send + Sync + 'static {
    /// A blob that is written in pieces.
    fn create(&self) -> BoxFuture<'_, Result<Box<dyn Draft>, BlobsError>>;

    /// A whole blob, named by its bytes; idempotent. `Ok` once they are on disk.
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<CodeHash, BlobsError>> {
        Box::pin(async move {
            let mut draft = self.create().await?;
            draft.write(bytes.clone()).await?;
            let hash = blocking(move || Ok::<_, BlobsError>(CodeHash(Sha256::digest(&bytes).into()))).await?;
            draft.finish(Naming::As(hash.into())).await.map(CodeHash::from)
        })
    }

    /// An open file of the whole blob, positioned at its start. It stays readable when the blob is deleted.
    fn open(&self, id: BlobId) -> BoxFuture<'_, Result<File, BlobsError>>;

    /// Another blob of the same bytes, with a drawn name; it takes no room of its own where the engine can share.
    fn copy(&self, id: BlobId) -> BoxFuture<'_, Result<BlobId, BlobsError>>;

    /// Idempotent.
    fn delete(&self, id: BlobId) -> BoxFuture<'_, Result<(), BlobsError>>;

    /// Ascending.
    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobId>, BlobsError>>;
}

/// A blob that is being written. Dropped, it leaves nothing.
pub trait Draft: Send + Sync {
    /// Writes at the end. Pieces of about a megabyte cost least.
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobsError>>;

    /// What was written so far, positioned at its start.
    fn open(&self) -> BoxFuture<'_, Result<File, BlobsError>>;

    /// `Ok` once the blob is on disk under this name.
    fn finish(self: Box<Self>, naming: Naming) -> BoxFuture<'static, Result<BlobId, BlobsError>>;
}
