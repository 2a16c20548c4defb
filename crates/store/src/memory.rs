//! Engines without a disk, for tests and simulation. They answer as the durable ones do (invariant 8).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write as _};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hearth_model::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::{
    BlobId, Blobs, BlobsError, Change, Draft, Expect, Feed, Follower, Key, Naming, Record, Records, RecordsError, Write,
};

/// Clones are the same records, as servers share them.
#[derive(Clone, Default)]
pub struct MemoryRecords {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    change: u64,
    /// By kind, partition and id.
    records: BTreeMap<(&'static str, String, String), (u64, Bytes)>,
    /// The change of each key that was written last, also when it was deleted by it.
    last: BTreeMap<(&'static str, String, String), u64>,
}

impl State {
    fn check(&self, key: &Key, expect: Expect) -> Result<(), RecordsError> {
        let found = self.records.get(&address(key)).map(|(change, _)| *change);
        let holds = match expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Change(change) => found == Some(change),
        };
        if holds { Ok(()) } else { Err(RecordsError::Conflict(key.clone())) }
    }

    fn range<'a>(
        &'a self,
        kind: &'static str,
        from: Bound<(&'static str, String, String)>,
    ) -> impl Iterator<Item = Record> + 'a {
        self.records.range((from, Bound::Unbounded)).take_while(move |((k, _, _), _)| *k == kind).map(
            |((_, partition, id), (change, value))| Record {
                key_partition: partition.clone(),
                id: id.clone(),
                change: *change,
                value: value.clone(),
            },
        )
    }
}

fn address(key: &Key) -> (&'static str, String, String) {
    (key.kind, key.partition.clone(), key.id.clone())
}

impl MemoryRecords {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, writes: Vec<Write>) -> Result<u64, RecordsError> {
        let mut state = self.state();
        let change = state.change + 1;
        let before = state.records.clone();
        let mut written = Vec::new();
        for write in writes {
            let (key, expect) = write.condition();
            if let Err(conflict) = state.check(key, expect) {
                state.records = before;
                return Err(conflict);
            }
            let address = address(key);
            match write {
                Write::Put { value, .. } => drop(state.records.insert(address.clone(), (change, value))),
                Write::Delete { .. } => drop(state.records.remove(&address)),
                Write::Check { .. } => continue,
            }
            written.push((address, change));
        }
        state.change = change;
        state.last.extend(written);
        drop(state);
        self.changed.notify_waiters();
        Ok(change)
    }
}

impl Records for MemoryRecords {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>> {
        Box::pin(async move {
            Ok(self.state().records.get(&address(&key)).map(|(change, value)| Record {
                key_partition: key.partition.clone(),
                id: key.id.clone(),
                change: *change,
                value: value.clone(),
            }))
        })
    }

    fn list(
        &self,
        partition: String,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async move {
            let from = match after {
                Some(after) => Bound::Excluded((kind, partition.clone(), after)),
                None => Bound::Included((kind, partition.clone(), String::new())),
            };
            let state = self.state();
            Ok(state.range(kind, from).take_while(|record| record.key_partition == partition).take(limit).collect())
        })
    }

    fn all(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async move {
            let from = match after {
                Some((partition, id)) => Bound::Excluded((kind, partition, id)),
                None => Bound::Included((kind, String::new(), String::new())),
            };
            let state = self.state();
            Ok(state.range(kind, from).take(limit).collect())
        })
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>> {
        Box::pin(async move { self.apply(writes) })
    }
}

impl Feed for MemoryRecords {
    fn follow(&self, kinds: &'static [&'static str]) -> BoxFuture<'_, Result<Box<dyn Follower>, RecordsError>> {
        let follower = MemoryFollower { records: self.clone(), kinds, told: self.state().change };
        Box::pin(async move { Ok(Box::new(follower) as Box<dyn Follower>) })
    }
}

struct MemoryFollower {
    records: MemoryRecords,
    kinds: &'static [&'static str],
    told: u64,
}

impl MemoryFollower {
    fn take(&mut self) -> Vec<Change> {
        let state = self.records.state();
        let new = state.last.iter().filter(|((kind, ..), number)| **number > self.told && self.kinds.contains(kind));
        let changes = new.map(|(address, number)| {
            let (kind, partition, id) = address.clone();
            let record = state.records.get(address).map(|(change, value)| Record {
                key_partition: partition.clone(),
                id: id.clone(),
                change: *change,
                value: value.clone(),
            });
            Change { key: Key { partition, kind, id }, number: *number, record }
        });
        let changes = changes.collect();
        self.told = state.change;
        changes
    }
}

impl Follower for MemoryFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, RecordsError>> {
        Box::pin(async move {
            let changed = self.records.changed.clone();
            loop {
                let mut notified = std::pin::pin!(changed.notified());
                notified.as_mut().enable();
                let changes = self.take();
                if !changes.is_empty() {
                    return Ok(changes);
                }
                notified.await;
            }
        })
    }
}

#[derive(Default)]
pub struct MemoryBlobs {
    inner: Arc<Shelf>,
}

#[derive(Default)]
struct Shelf {
    blobs: Mutex<BTreeMap<BlobId, Bytes>>,
    drawn: AtomicU64,
}

impl Shelf {
    fn blobs(&self) -> MutexGuard<'_, BTreeMap<BlobId, Bytes>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) -> BlobId {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        BlobId::from_bytes(Sha256::digest(format!("drawn {number}")).into())
    }
}

impl Blobs for MemoryBlobs {
    fn create(&self) -> BoxFuture<'_, Result<Box<dyn Draft>, BlobsError>> {
        let draft = MemoryDraft { shelf: self.inner.clone(), bytes: Vec::new() };
        Box::pin(async move { Ok(Box::new(draft) as Box<dyn Draft>) })
    }

    fn open(&self, id: BlobId) -> BoxFuture<'_, Result<File, BlobsError>> {
        Box::pin(async move {
            let bytes = self.inner.blobs().get(&id).cloned().ok_or(BlobsError::Missing(id))?;
            file_of(&bytes)
        })
    }

    fn copy(&self, id: BlobId) -> BoxFuture<'_, Result<BlobId, BlobsError>> {
        Box::pin(async move {
            let copy = self.inner.draw();
            let mut blobs = self.inner.blobs();
            let bytes = blobs.get(&id).cloned().ok_or(BlobsError::Missing(id))?;
            blobs.insert(copy, bytes);
            Ok(copy)
        })
    }

    fn delete(&self, id: BlobId) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(async move {
            self.inner.blobs().remove(&id);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobId>, BlobsError>> {
        Box::pin(async move { Ok(self.inner.blobs().keys().copied().collect()) })
    }
}

struct MemoryDraft {
    shelf: Arc<Shelf>,
    bytes: Vec<u8>,
}

impl Draft for MemoryDraft {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobsError>> {
        self.bytes.extend_from_slice(&piece);
        Box::pin(async { Ok(()) })
    }

    fn open(&self) -> BoxFuture<'_, Result<File, BlobsError>> {
        Box::pin(async move { file_of(&self.bytes) })
    }

    fn finish(self: Box<Self>, naming: Naming) -> BoxFuture<'static, Result<BlobId, BlobsError>> {
        let id = match naming {
            Naming::Drawn => self.shelf.draw(),
            Naming::As(id) => id,
        };
        self.shelf.blobs().insert(id, self.bytes.into());
        Box::pin(async move { Ok(id) })
    }
}

fn file_of(bytes: &[u8]) -> Result<File, BlobsError> {
    let file = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file)
    };
    file().map_err(|e: std::io::Error| BlobsError::Io(e.to_string().into()))
}
