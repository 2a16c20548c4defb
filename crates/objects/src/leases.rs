//! Blobs that are being read, which are deleted only when nobody reads them any more: an object that is replaced while it
//! is read is read to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_store::{BlobId, Blobs};

pub struct Leases {
    blobs: Arc<dyn Blobs>,
    read: Mutex<HashMap<BlobId, Readers>>,
}

#[derive(Default)]
struct Readers {
    count: usize,
    /// Whether the last one is to delete it.
    deleted: bool,
}

/// While it lives, its blobs can be opened.
pub struct Lease {
    leases: Arc<Leases>,
    blobs: Vec<BlobId>,
}

impl Leases {
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Leases { blobs, read: Mutex::default() }
    }

    fn read(&self) -> MutexGuard<'_, HashMap<BlobId, Readers>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take(self: &Arc<Self>, blobs: Vec<BlobId>) -> Lease {
        let mut read = self.read();
        for blob in &blobs {
            read.entry(*blob).or_default().count += 1;
        }
        drop(read);
        Lease { leases: self.clone(), blobs }
    }

    /// Deletes blobs that nothing refers to, now or when they have been read. What fails is found at the next start.
    pub async fn discard(&self, mut blobs: Vec<BlobId>) {
        {
            let mut read = self.read();
            blobs.retain(|blob| match read.get_mut(blob) {
                Some(readers) => {
                    readers.deleted = true;
                    false
                }
                None => true,
            });
        }
        for blob in blobs {
            if let Err(error) = self.blobs.delete(blob).await {
                tracing::warn!(%error, "the content of a deleted object could not be deleted");
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = Vec::new();
        let mut read = self.leases.read();
        for blob in &self.blobs {
            let Some(readers) = read.get_mut(blob) else { continue };
            readers.count -= 1;
            if readers.count == 0 {
                if readers.deleted {
                    free.push(*blob);
                }
                read.remove(blob);
            }
        }
        drop(read);
        // Without a runtime the server is ending, and the next start finds them.
        if let (false, Ok(runtime)) = (free.is_empty(), tokio::runtime::Handle::try_current()) {
            let leases = self.leases.clone();
            runtime.spawn(async move { leases.discard(free).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hearth_store::MemoryBlobs;

    #[tokio::test]
    async fn a_blob_goes_with_its_last_reader() {
        let blobs: Arc<dyn Blobs> = Arc::new(MemoryBlobs::default());
        let leases = Arc::new(Leases::new(blobs.clone()));
        let blob = BlobId::from(blobs.put(Bytes::from_static(b"x")).await.unwrap());
        let (first, second) = (leases.take(vec![blob]), leases.take(vec![blob]));
        leases.discard(vec![blob]).await;
        drop(first);
        tokio::task::yield_now().await;
        assert!(blobs.open(blob).await.is_ok());
        drop(second);
        while blobs.open(blob).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(leases.read().is_empty());
    }
}
