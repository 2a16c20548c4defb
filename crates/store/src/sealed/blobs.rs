//! Blobs that lie on disk sealed, in chunks. They are read and written as plain ones, by unnamed files elsewhere.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::BoxFuture;

use crate::blobs::{blocking, broken};
use crate::keys::{Cipher, SEALING, random};
use crate::{BlobId, Blobs, BlobsError, Draft, Keyring, Naming, RecordsError};

/// How a sealed blob begins; a salt follows. What was written before there were keys begins otherwise, and is read as it
/// is.
const MAGIC: &[u8] = b"hearth sealed 1\n";
const SALT_LENGTH: usize = 16;
/// Plain bytes of a chunk; the last has fewer, if only none.
const CHUNK: usize = 64 * 1024;
/// Chunks that are sealed in one go.
const CHUNKS: usize = 16;

/// See the module.
pub struct SealedBlobs {
    inner: Arc<dyn Blobs>,
    cipher: Arc<Cipher>,
    /// Where unnamed files are made: not where blobs are kept.
    plain: PathBuf,
}

impl SealedBlobs {
    /// Sealed with a key of its own under this name: the same bytes may be several accounts', so it is no account's.
    pub async fn new(inner: Arc<dyn Blobs>, keys: &Keyring, name: &str, plain: &Path) -> Result<Self, RecordsError> {
        Ok(SealedBlobs { inner, cipher: keys.of(name).await?, plain: plain.to_owned() })
    }
}

impl Blobs for SealedBlobs {
    fn create(&self) -> BoxFuture<'_, Result<Box<dyn Draft>, BlobsError>> {
        let (inner, cipher, folder) = (self.inner.clone(), self.cipher.clone(), self.plain.clone());
        Box::pin(async move {
            let plain = blocking(move || tempfile::tempfile_in(folder)).await?;
            let writing = Some(plain);
            Ok(Box::new(SealedDraft { inner, cipher, writing }) as Box<dyn Draft>)
        })
    }

    fn open(&self, id: BlobId) -> BoxFuture<'_, Result<File, BlobsError>> {
        let (cipher, folder) = (self.cipher.clone(), self.plain.clone());
        Box::pin(async move {
            let sealed = self.inner.open(id).await?;
            blocking(move || open(&cipher, sealed, &folder)).await
        })
    }

    fn copy(&self, id: BlobId) -> BoxFuture<'_, Result<BlobId, BlobsError>> {
        self.inner.copy(id)
    }

    fn delete(&self, id: BlobId) -> BoxFuture<'_, Result<(), BlobsError>> {
        self.inner.delete(id)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobId>, BlobsError>> {
        self.inner.list()
    }
}

struct SealedDraft {
    inner: Arc<dyn Blobs>,
    cipher: Arc<Cipher>,
    /// Away while a piece is written; lost with a piece that could not be.
    writing: Option<File>,
}

impl Draft for SealedDraft {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(async move {
            let mut plain = self.writing.take().ok_or_else(broken)?;
            let written = blocking(move || plain.write_all(&piece).map(|()| plain));
            self.writing = Some(written.await?);
            Ok(())
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<File, BlobsError>> {
        use std::os::fd::AsRawFd;
        let place =
            self.writing.as_ref().map(|plain| format!("/proc/self/fd/{}", plain.as_raw_fd())).ok_or_else(broken);
        Box::pin(async move {
            let place = place?;
            blocking(move || File::open(place)).await
        })
    }

    fn finish(mut self: Box<Self>, naming: Naming) -> BoxFuture<'static, Result<BlobId, BlobsError>> {
        Box::pin(async move {
            let mut plain = self.writing.take().ok_or_else(broken)?;
            let mut draft = self.inner.create().await?;
            let salt: [u8; SALT_LENGTH] = random();
            draft.write([MAGIC, &salt].concat().into()).await?;
            plain = blocking(move || plain.rewind().map(|()| plain)).await?;
            for first in (0..).step_by(CHUNKS) {
                let cipher = self.cipher.clone();
                let (file, sealed, was_last) = blocking(move || {
                    let mut sealed = Vec::with_capacity(CHUNKS * (CHUNK + SEALING));
                    for number in first..first + CHUNKS as u64 {
                        let chunk = read_chunk(&mut plain, CHUNK)?;
                        let is_last = chunk.len() < CHUNK;
                        sealed.extend(cipher.seal(&place(salt, number, is_last), &chunk));
                        if is_last {
                            return Ok((plain, sealed, true));
                        }
                    }
                    Ok::<_, io::Error>((plain, sealed, false))
                })
                .await?;
                plain = file;
                draft.write(sealed.into()).await?;
                if was_last {
                    break;
                }
            }
            draft.finish(naming).await
        })
    }
}

fn open(cipher: &Cipher, mut sealed: File, folder: &Path) -> io::Result<File> {
    let head = read_chunk(&mut sealed, MAGIC.len() + SALT_LENGTH)?;
    let Some(salt) = head.strip_prefix(MAGIC) else {
        sealed.rewind()?;
        return Ok(sealed);
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a sealed blob is damaged");
    let salt = salt.try_into().map_err(|_| damaged())?;
    let mut plain = tempfile::tempfile_in(folder)?;
    for number in 0.. {
        let chunk = read_chunk(&mut sealed, CHUNK + SEALING)?;
        let is_last = chunk.len() < CHUNK + SEALING;
        plain.write_all(&cipher.open(&place(salt, number, is_last), &chunk).ok_or_else(damaged)?)?;
        if is_last {
            break;
        }
    }
    plain.rewind()?;
    Ok(plain)
}

/// So many bytes; fewer only at the end.
fn read_chunk(file: &mut File, length: usize) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// A chunk is where it was put, and the last is the last.
fn place(salt: [u8; SALT_LENGTH], number: u64, is_last: bool) -> Vec<u8> {
    [&salt[..], &number.to_le_bytes(), &[u8::from(is_last)]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, MasterKey, MemoryRecords};

    async fn put(blobs: &SealedBlobs, bytes: Vec<u8>) -> BlobId {
        blobs.put(bytes.into()).await.unwrap().into()
    }

    #[tokio::test]
    async fn blobs_of_any_length_are_sealed_whole_and_damage_is_noticed() {
        let (kept, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = Files::open(kept.path()).unwrap();
        let keys = Keyring::open(Arc::new(MemoryRecords::default()), MasterKey::generate()).await.unwrap();
        let blobs = SealedBlobs::new(Arc::new(files.clone()), &keys, "packages", plain.path()).await.unwrap();
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes = vec![b'x'; length];
            let id = put(&blobs, bytes.clone()).await;
            let mut read = Vec::new();
            blobs.open(id).await.unwrap().read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length}");
            let mut on_disk = Vec::new();
            files.open(id).await.unwrap().read_to_end(&mut on_disk).unwrap();
            assert!(length < 64 || !on_disk.windows(64).any(|window| window == &bytes[..64]));
            // Cut at a chunk's end, or changed anywhere, it does not open.
            for damaged in [&on_disk[..on_disk.len() - 1], &on_disk[..MAGIC.len() + SALT_LENGTH]] {
                let mut draft = files.create().await.unwrap();
                draft.write(Bytes::copy_from_slice(damaged)).await.unwrap();
                let cut = draft.finish(Naming::Drawn).await.unwrap();
                assert!(matches!(blobs.open(cut).await, Err(BlobsError::Io(_))));
            }
        }
        assert_eq!(std::fs::read_dir(plain.path()).unwrap().count(), 0, "no plain file has a name");
        let older = files.put(Bytes::from_static(b"PK")).await.unwrap();
        let mut read = Vec::new();
        blobs.open(older.into()).await.unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"PK");
    }
}
