//! Blobs as files named by their SHA-256: `aa/bb/HEX` below one folder.
//!
//! A blob is written beside its place, flushed, and renamed, and both folders are flushed before `put` answers: a
//! crash leaves a whole blob, or a file in `new/` that the next opening removes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hearth_model::{BoxFuture, CodeHash};
use sha2::{Digest, Sha256};

use crate::{Blobs, BlobsError};

/// The embedded engine of [`Blobs`].
#[derive(Clone)]
pub struct Files {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    next: AtomicU64,
}

impl Files {
    pub fn open(root: &Path) -> io::Result<Self> {
        let new = root.join("new");
        match fs::remove_dir_all(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir_all(&new)?,
        }
        Ok(Files { inner: Arc::new(Inner { root: root.to_owned(), next: AtomicU64::new(0) }) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BlobsError> + Send + 'static,
    ) -> Result<T, BlobsError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|e| Err(BlobsError::Io(e.to_string().into())))
    }
}

impl Inner {
    fn place(&self, hash: CodeHash) -> PathBuf {
        let hex = hash.to_hex();
        self.root.join(&hex[..2]).join(&hex[2..4]).join(hex)
    }

    fn put(&self, bytes: &Bytes) -> io::Result<CodeHash> {
        let hash = CodeHash(Sha256::digest(bytes).into());
        let place = self.place(hash);
        let Some(folder) = place.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
        if !place.exists() {
            let beside = self.root.join("new").join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
            let written = write_whole(&beside, bytes).and_then(|()| {
                fs::create_dir_all(folder)?;
                fs::rename(&beside, &place)
            });
            if let Err(error) = written {
                let _ = fs::remove_file(&beside);
                return Err(error);
            }
        }
        for folder in folder.ancestors().take(3) {
            File::open(folder)?.sync_all()?;
        }
        Ok(hash)
    }

    fn list(&self) -> io::Result<Vec<CodeHash>> {
        let mut found = Vec::new();
        for first in fs::read_dir(&self.root)? {
            let first = first?;
            if first.file_name() == "new" || !first.file_type()?.is_dir() {
                continue;
            }
            for second in fs::read_dir(first.path())? {
                for file in fs::read_dir(second?.path())? {
                    found.extend(file?.file_name().to_str().and_then(CodeHash::from_hex));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(error: io::Error) -> BlobsError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobsError::Full,
        _ => BlobsError::Io(error.to_string().into()),
    }
}

impl Blobs for Files {
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<CodeHash, BlobsError>> {
        Box::pin(self.blocking(move |inner| inner.put(&bytes).map_err(failed)))
    }

    fn open(&self, hash: CodeHash) -> BoxFuture<'_, Result<File, BlobsError>> {
        Box::pin(self.blocking(move |inner| match File::open(inner.place(hash)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(BlobsError::Missing(hash)),
            other => other.map_err(failed),
        }))
    }

    fn delete(&self, hash: CodeHash) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(self.blocking(move |inner| match fs::remove_file(inner.place(hash)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(()),
        }))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<CodeHash>, BlobsError>> {
        Box::pin(self.blocking(|inner| inner.list().map_err(failed)))
    }
}
