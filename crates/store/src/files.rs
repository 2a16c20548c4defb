//! Blobs as files: `aa/bb/HEX` below one folder.
//!
//! A blob is written beside its place, flushed, and renamed, and the folders are flushed before it counts: a crash leaves
//! a whole blob, or a file in `new/` that the next opening removes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hearth_model::BoxFuture;

use crate::blobs::{blocking, broken};
use crate::keys::random;
use crate::{BlobId, Blobs, BlobsError, Draft, Naming};

/// Room on the disk that blobs leave to records and logs: this, or that share of the disk where it is less.
const RESERVE_MAX: u64 = 1 << 30;
const RESERVE_SHARE: u64 = 20;
/// Bytes of a blob between two looks at the room that is left.
const LOOK_EVERY: u64 = 64 << 20;

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
        work: impl FnOnce(&Arc<Inner>) -> Result<T, BlobsError> + Send + 'static,
    ) -> Result<T, BlobsError> {
        let inner = self.inner.clone();
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn place(&self, id: BlobId) -> PathBuf {
        let hex = id.to_hex();
        self.root.join(&hex[..2]).join(&hex[2..4]).join(hex)
    }

    /// A file in `new/`, for one blob.
    fn beside(&self) -> PathBuf {
        self.root.join("new").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn draft(self: &Arc<Self>) -> Result<Writing, BlobsError> {
        self.has_room()?;
        let path = self.beside();
        let file = File::create_new(&path)?;
        Ok(Writing { store: self.clone(), path, file, written: 0, looked: 0 })
    }

    fn has_room(&self) -> Result<(), BlobsError> {
        let disk = rustix::fs::statvfs(&self.root).map_err(io::Error::from)?;
        let reserve = (disk.f_blocks.saturating_mul(disk.f_frsize) / RESERVE_SHARE).min(RESERVE_MAX);
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        if left < reserve { Err(BlobsError::Full) } else { Ok(()) }
    }

    /// Gives a flushed file its name.
    fn settle(&self, beside: &Path, id: BlobId) -> io::Result<()> {
        let place = self.place(id);
        let Some(folder) = place.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
        if !place.exists() {
            fs::create_dir_all(folder)?;
            fs::rename(beside, &place)?;
        }
        for folder in folder.ancestors().take(3) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn copy(&self, id: BlobId) -> io::Result<BlobId> {
        let (from, beside) = (self.place(id), self.beside());
        let made = fs::hard_link(&from, &beside).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Err(error),
            // Too many names, or a file system without such names.
            _ => fs::copy(&from, &beside).and_then(|_| File::open(&beside)?.sync_all()),
        });
        let copied = made.and_then(|()| {
            let copy = BlobId::from_bytes(random());
            self.settle(&beside, copy).map(|()| copy)
        });
        let _ = fs::remove_file(&beside);
        copied
    }

    fn list(&self) -> io::Result<Vec<BlobId>> {
        let mut found = Vec::new();
        for first in fs::read_dir(&self.root)? {
            let first = first?;
            if first.file_name() == "new" || !first.file_type()?.is_dir() {
                continue;
            }
            for second in fs::read_dir(first.path())? {
                for file in fs::read_dir(second?.path())? {
                    found.extend(file?.file_name().to_str().and_then(BlobId::from_hex));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// An error that is about one blob.
fn failed_with(id: BlobId) -> impl Fn(io::Error) -> BlobsError {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => BlobsError::Missing(id),
        _ => error.into(),
    }
}

impl Blobs for Files {
    fn create(&self) -> BoxFuture<'_, Result<Box<dyn Draft>, BlobsError>> {
        Box::pin(async move {
            let writing = self.blocking(move |inner| inner.draft()).await?;
            Ok(Box::new(FileDraft { writing: Some(writing) }) as Box<dyn Draft>)
        })
    }

    fn open(&self, id: BlobId) -> BoxFuture<'_, Result<File, BlobsError>> {
        Box::pin(self.blocking(move |inner| File::open(inner.place(id)).map_err(failed_with(id))))
    }

    fn copy(&self, id: BlobId) -> BoxFuture<'_, Result<BlobId, BlobsError>> {
        Box::pin(self.blocking(move |inner| inner.copy(id).map_err(failed_with(id))))
    }

    fn delete(&self, id: BlobId) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(self.blocking(move |inner| match fs::remove_file(inner.place(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobId>, BlobsError>> {
        Box::pin(self.blocking(|inner| inner.list().map_err(BlobsError::from)))
    }
}

struct FileDraft {
    /// Away while a piece is written; lost with a piece that could not be.
    writing: Option<Writing>,
}

/// A file in `new/`, which goes with this value.
struct Writing {
    store: Arc<Inner>,
    path: PathBuf,
    file: File,
    written: u64,
    /// How much was written when the room was last looked at.
    looked: u64,
}

impl Writing {
    fn write(&mut self, piece: &[u8]) -> Result<(), BlobsError> {
        self.file.write_all(piece)?;
        self.written += piece.len() as u64;
        if self.written - self.looked >= LOOK_EVERY {
            self.looked = self.written;
            self.store.has_room()?;
        }
        Ok(())
    }

    fn finish(self, naming: Naming) -> io::Result<BlobId> {
        self.file.sync_all()?;
        let id = match naming {
            Naming::As(id) => id,
            Naming::Drawn => BlobId::from_bytes(random()),
        };
        self.store.settle(&self.path, id)?;
        Ok(id)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Nothing is there where it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Draft for FileDraft {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(async move {
            let mut writing = self.writing.take().ok_or_else(broken)?;
            let written = blocking(move || writing.write(&piece).map(|()| writing)).await?;
            self.writing = Some(written);
            Ok(())
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<File, BlobsError>> {
        let path = self.writing.as_ref().map(|writing| writing.path.clone()).ok_or_else(broken);
        Box::pin(async move {
            let path = path?;
            blocking(move || File::open(path).map_err(BlobsError::from)).await
        })
    }

    fn finish(mut self: Box<Self>, naming: Naming) -> BoxFuture<'static, Result<BlobId, BlobsError>> {
        Box::pin(async move {
            let writing = self.writing.take().ok_or_else(broken)?;
            blocking(move || writing.finish(naming).map_err(BlobsError::from)).await
        })
    }
}
