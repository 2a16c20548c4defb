//! Blobs in a place that servers share, named by their bytes, which go when no record needs them any more: whatever
//! another server is about to write, and however late a request to the place arrives (decision 19).
//!
//! Under its name a blob has a record that says where its bytes lie: under a name that was drawn for them and is never
//! drawn again, so that who deletes late deletes nothing else. Who writes a record that needs a blob does so by
//! [`SharedBlobs::commit`], which makes sure in the same batch that the blob is there, and marks it as used by that
//! change. Who removes a blob expects that mark as it was told by the feed. The feed tells a batch whole: so whoever knows
//! the mark knows every record that was written with it or before, and nobody removes what a record needs of which he has not
//! heard yet.
//!
//! | kind | id | value | written |
//! |---|---|---|---|
//! | `blob` | name | where its bytes lie | with the first record that needs it; deleted when none does |
//! | `blob-use` | name | | with each record that needs it anew |
//! | `blob-draft` | where bytes lie | whether they are to go | before they are written there; deleted with the first record that needs them, or once they are gone |
//!
//! So there are no bytes without a record of either kind, and nothing has to be searched for.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_model::{BoxFuture, Clock};

use crate::keys::random;
use crate::{
    BlobId, Blobs, BlobsError, Change, Draft, Expect, Key, Leases, Naming, Record, Records, RecordsError, Write, every,
};

const BLOB: &str = "blob";
const USE: &str = "blob-use";
const DRAFT: &str = "blob-draft";

/// How long a blob that no record needs stays: other servers hear of that within a second or so, and finish unpacking it.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long bytes that no record needs yet stay, as others see them: an upload and its checks end long before.
const DRAFT_MAX: Duration = Duration::from_secs(60 * 60);
/// How often a batch is tried whose blobs another server brings or removes at the same moment. Each time one of them gets
/// ahead.
const ATTEMPTS: u32 = 16;
/// The lease of who removes: others need not try the same at the same time. Nothing depends on it.
const SWEEP: &str = "blobs";

const WRITING: &[u8] = b"writing";
const GOING: &[u8] = b"going";

/// A cheap handle.
#[derive(Clone)]
pub struct SharedBlobs {
    inner: Arc<Inner>,
}

struct Inner {
    records: Arc<dyn Records>,
    bare: Arc<dyn Blobs>,
    clock: Arc<dyn Clock>,
    leases: Leases,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As the feed has told it, and not further.
    known: HashMap<BlobId, Known>,
    /// By whomever they were removed.
    gone: Vec<BlobId>,
    /// Bytes that this server has written and no record needs yet, by their name.
    written: HashMap<BlobId, Vec<Written>>,
    /// Drafts of all servers: the change of each and since when it was seen.
    watched: HashMap<BlobId, (u64, Instant)>,
}

#[derive(Clone, Copy)]
struct Known {
    /// The change that made it, and the one that used it last; 0 while only the other was told.
    made: u64,
    used: u64,
    place: BlobId,
    /// Since when no record needs it.
    idle_since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Written {
    place: BlobId,
    change: u64,
    at: Instant,
}

/// Everything of the kinds in [`SharedBlobs::KINDS`] as it was at one time, to be taken in once whatever needs blobs was
/// read after it.
pub struct Inventory(HashMap<BlobId, Known>);

impl SharedBlobs {
    /// What a follower must tell of, in one answer with the records that need blobs.
    pub const KINDS: [&str; 2] = [BLOB, USE];

    pub fn new(records: Arc<dyn Records>, bare: Arc<dyn Blobs>, clock: Arc<dyn Clock>, leases: Leases) -> Self {
        SharedBlobs { inner: Arc::new(Inner { records, bare, clock, leases, state: Mutex::default() }) }
    }

    /// Applies a batch with records that need these blobs and did not before. A conflict about a blob means that it was
    /// removed, and that this server has no bytes of it.
    pub async fn commit(&self, writes: Vec<Write>, needs: &BTreeSet<BlobId>) -> Result<u64, RecordsError> {
        let inner = &self.inner;
        let mut attempt = 1;
        loop {
            let mut batch = writes.clone();
            let mut spent = Vec::new();
            for name in needs {
                inner.claim(*name, &mut batch, &mut spent).await?;
            }
            match inner.records.commit(batch).await {
                Ok(change) => {
                    spent.iter().for_each(|(name, place)| inner.forget(*name, *place));
                    return Ok(change);
                }
                Err(RecordsError::Conflict(key)) if attempt < ATTEMPTS && matches!(key.kind, BLOB | DRAFT) => {
                    if key.kind == DRAFT {
                        // It took too long, and was taken for left behind.
                        let taken = spent.iter().filter(|(_, place)| place.to_hex() == key.id);
                        taken.for_each(|(name, place)| inner.forget(*name, *place));
                    }
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything that there is. What needs blobs is to be read after this.
    pub async fn inventory(&self) -> Result<Inventory, RecordsError> {
        let mut all = Inventory(HashMap::new());
        for kind in Self::KINDS {
            for record in every(&*self.inner.records, kind).await? {
                note(&mut all.0, kind, &record);
            }
        }
        Ok(all)
    }

    /// From now on this is what is known. What was known and is not there went while the feed told nothing.
    pub fn take_stock(&self, inventory: Inventory) {
        let mut state = self.inner.state();
        let before = std::mem::replace(&mut state.known, inventory.0);
        let gone: Vec<BlobId> = before.into_keys().filter(|name| !state.known.contains_key(name)).collect();
        state.gone.extend(gone);
    }

    /// Makes records for blobs that were written before there were any.
    pub async fn adopt(&self, needed: impl IntoIterator<Item = BlobId>) -> Result<(), RecordsError> {
        for name in needed {
            if self.inner.state().known.contains_key(&name) {
                continue;
            }
            let value = Bytes::from(name.to_hex());
            let adopted = vec![put(BLOB, name, Expect::Absent, value), put(USE, name, Expect::Anything, Bytes::new())];
            match self.inner.records.commit(adopted).await {
                Ok(_) | Err(RecordsError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in what the feed tells, once the records in the same answer are taken in.
    pub fn told(&self, changes: &[Change]) {
        let mut state = self.inner.state();
        for change in changes {
            match (&change.record, BlobId::from_hex(&change.key.id)) {
                (Some(record), Some(_)) => note(&mut state.known, change.key.kind, record),
                (None, Some(name))
                    if change.key.kind == BLOB
                        && state.known.get(&name).is_none_or(|known| known.made < change.number) =>
                {
                    state.known.remove(&name);
                    state.gone.push(name);
                }
                _ => {}
            }
        }
    }

    /// What has gone since this was asked last.
    pub fn gone(&self) -> Vec<BlobId> {
        std::mem::take(&mut self.inner.state().gone)
    }

    /// Removes what no record needs, for long enough.
    pub async fn sweep(&self, is_needed: impl Fn(BlobId) -> bool) -> Result<(), RecordsError> {
        let inner = &self.inner;
        let idle = inner.idle(is_needed);
        let left = inner.left().await?;
        if idle.is_empty() && left.is_empty() {
            return Ok(());
        }
        let Some(lease) = inner.leases.take(SWEEP).await? else { return Ok(()) };
        let removed = lease.hold_during(async {
            for (name, known) in idle {
                inner.remove(name, known).await?;
            }
            for (place, change, is_going) in left {
                match is_going {
                    true => inner.finish_off(place, change).await?,
                    false => inner.give_up(place, change).await?,
                }
            }
            Ok(())
        });
        let removed = removed.await;
        lease.give_back().await?;
        removed.unwrap_or(Ok(()))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, kind: &'static str, id: BlobId) -> Result<Option<Record>, RecordsError> {
        self.records.get(key(kind, id)).await
    }

    /// Adds what makes a batch need a blob.
    async fn claim(
        &self,
        name: BlobId,
        batch: &mut Vec<Write>,
        spent: &mut Vec<(BlobId, BlobId)>,
    ) -> Result<(), RecordsError> {
        let own = self.state().written.get(&name).and_then(|written| written.last().copied());
        match (self.get(BLOB, name).await?, own) {
            (Some(there), own) => {
                batch.push(Write::Check { key: key(BLOB, name), change: there.change });
                // It was brought again: these bytes may go.
                if let Some(Written { place, change, .. }) = own {
                    batch.push(put(DRAFT, place, Expect::Change(change), Bytes::from_static(GOING)));
                }
            }
            (None, Some(Written { place, change, .. })) => {
                batch.push(put(BLOB, name, Expect::Absent, place.to_hex().into()));
                batch.push(Write::Delete { key: key(DRAFT, place), expect: Expect::Change(change) });
            }
            (None, None) => return Err(RecordsError::Conflict(key(BLOB, name))),
        }
        batch.push(put(USE, name, Expect::Anything, Bytes::new()));
        spent.extend(own.map(|written| (name, written.place)));
        Ok(())
    }

    /// Bytes of this server that a record needs now, or that are not its own any more.
    fn forget(&self, name: BlobId, place: BlobId) {
        let mut state = self.state();
        if let Some(written) = state.written.get_mut(&name) {
            written.retain(|written| written.place != place);
            if written.is_empty() {
                state.written.remove(&name);
            }
        }
    }

    fn remember(&self, name: BlobId, written: Written) {
        let mut state = self.state();
        // Of those whose record was never written.
        state.written.retain(|_, all| {
            all.retain(|old| written.at.saturating_duration_since(old.at) < DRAFT_MAX);
            !all.is_empty()
        });
        state.written.entry(name).or_default().push(written);
    }

    /// Blobs that no record has needed for long enough, as far as is known here.
    fn idle(&self, is_needed: impl Fn(BlobId) -> bool) -> Vec<(BlobId, Known)> {
        let now = self.clock.now();
        let mut idle = Vec::new();
        for (name, known) in &mut self.state().known {
            if is_needed(*name) || known.made == 0 || known.used == 0 {
                known.idle_since = None;
                continue;
            }
            let since = *known.idle_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= IDLE_MAX {
                idle.push((*name, *known));
            }
        }
        idle
    }

    /// Drafts that are to go: with `false` those that were written and never needed.
    async fn left(&self) -> Result<Vec<(BlobId, u64, bool)>, RecordsError> {
        let records = every(&*self.records, DRAFT).await?;
        let now = self.clock.now();
        let mut state = self.state();
        let mut watched = HashMap::new();
        let mut left = Vec::new();
        for record in &records {
            let Some(place) = BlobId::from_hex(&record.id) else { continue };
            if record.value == GOING {
                left.push((place, record.change, true));
                continue;
            }
            let seen = state.watched.get(&place).filter(|(change, _)| *change == record.change);
            let since = seen.map_or(now, |(_, since)| *since);
            if now.saturating_duration_since(since) >= DRAFT_MAX {
                left.push((place, record.change, false));
            }
            watched.insert(place, (record.change, since));
        }
        state.watched = watched;
        Ok(left)
    }

    async fn remove(&self, name: BlobId, known: Known) -> Result<(), RecordsError> {
        let batch = vec![
            Write::Delete { key: key(BLOB, name), expect: Expect::Change(known.made) },
            Write::Delete { key: key(USE, name), expect: Expect::Change(known.used) },
            put(DRAFT, known.place, Expect::Absent, Bytes::from_static(GOING)),
        ];
        match self.records.commit(batch).await {
            Ok(change) => self.finish_off(known.place, change).await,
            // It is needed again, or another was faster. The feed tells.
            Err(RecordsError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes bytes from who wrote them and has not come back.
    async fn give_up(&self, place: BlobId, change: u64) -> Result<(), RecordsError> {
        let going = put(DRAFT, place, Expect::Change(change), Bytes::from_static(GOING));
        match self.records.commit(vec![going]).await {
            Ok(change) => self.finish_off(place, change).await,
            Err(RecordsError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn finish_off(&self, place: BlobId, change: u64) -> Result<(), RecordsError> {
        if let Err(error) = self.bare.delete(place).await {
            tracing::warn!(%error, "a blob that nobody needs could not be deleted: it is tried again");
            return Ok(());
        }
        let done = Write::Delete { key: key(DRAFT, place), expect: Expect::Change(change) };
        match self.records.commit(vec![done]).await {
            Ok(_) | Err(RecordsError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where the bytes lie, as far as it is known here: also while the records cannot be reached.
    fn known_place(&self, name: BlobId) -> Option<BlobId> {
        let state = self.state();
        let known = state.known.get(&name).filter(|known| known.made != 0).map(|known| known.place);
        known.or_else(|| Some(state.written.get(&name)?.last()?.place))
    }

    async fn open(&self, name: BlobId) -> Result<File, BlobsError> {
        let missing = || BlobsError::Missing(name);
        if let Some(place) = self.known_place(name) {
            match self.bare.open(place).await {
                // It was removed a moment ago, and perhaps brought again.
                Err(BlobsError::Missing(_)) => {}
                other => return other,
            }
        }
        let found = self.get(BLOB, name).await.map_err(failed)?;
        let place = found.as_ref().and_then(place_in).ok_or_else(missing)?;
        match self.bare.open(place).await {
            Err(BlobsError::Missing(_)) => Err(missing()),
            other => other,
        }
    }
}

impl Blobs for SharedBlobs {
    fn create(&self) -> BoxFuture<'_, Result<Box<dyn Draft>, BlobsError>> {
        Box::pin(async move {
            let bare = self.inner.bare.create().await?;
            Ok(Box::new(SharedDraft { inner: self.inner.clone(), bare }) as Box<dyn Draft>)
        })
    }

    fn open(&self, id: BlobId) -> BoxFuture<'_, Result<File, BlobsError>> {
        Box::pin(self.inner.open(id))
    }

    fn copy(&self, _: BlobId) -> BoxFuture<'_, Result<BlobId, BlobsError>> {
        Box::pin(async { Err(drawn()) })
    }

    /// Leaves it: others may need it. What nobody needs goes by [`SharedBlobs::sweep`].
    fn delete(&self, _: BlobId) -> BoxFuture<'_, Result<(), BlobsError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobId>, BlobsError>> {
        Box::pin(async move {
            let records = every(&*self.inner.records, BLOB).await.map_err(failed)?;
            Ok(records.iter().filter_map(|record| BlobId::from_hex(&record.id)).collect())
        })
    }
}

struct SharedDraft {
    inner: Arc<Inner>,
    bare: Box<dyn Draft>,
}

impl Draft for SharedDraft {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), BlobsError>> {
        self.bare.write(piece)
    }

    fn open(&self) -> BoxFuture<'_, Result<File, BlobsError>> {
        self.bare.open()
    }

    fn finish(self: Box<Self>, naming: Naming) -> BoxFuture<'static, Result<BlobId, BlobsError>> {
        Box::pin(async move {
            let SharedDraft { inner, bare } = *self;
            let Naming::As(name) = naming else { return Err(drawn()) };
            let place = BlobId::from_bytes(random());
            let draft = put(DRAFT, place, Expect::Absent, Bytes::from_static(WRITING));
            let change = inner.records.commit(vec![draft]).await.map_err(failed)?;
            bare.finish(Naming::As(place)).await?;
            inner.remember(name, Written { place, change, at: inner.clock.now() });
            Ok(name)
        })
    }
}

fn drawn() -> BlobsError {
    BlobsError::Io("blobs that servers share are named by their bytes".into())
}

fn key(kind: &'static str, id: BlobId) -> Key {
    Key { partition: String::new(), kind, id: id.to_hex() }
}

fn put(kind: &'static str, id: BlobId, expect: Expect, value: Bytes) -> Write {
    Write::Put { key: key(kind, id), expect, value }
}

fn failed(error: RecordsError) -> BlobsError {
    BlobsError::Io(error.to_string().into())
}

fn place_in(record: &Record) -> Option<BlobId> {
    BlobId::from_hex(std::str::from_utf8(&record.value).ok()?)
}

/// Later numbers of what is known already, or a blob that was not.
fn note(known: &mut HashMap<BlobId, Known>, kind: &str, record: &Record) {
    let Some(name) = BlobId::from_hex(&record.id) else { return };
    let entry = known.entry(name).or_insert(Known { made: 0, used: 0, place: name, idle_since: None });
    match kind {
        BLOB if record.change > entry.made => {
            entry.made = record.change;
            // One that does not read is nowhere, and stays.
            match place_in(record) {
                Some(place) => entry.place = place,
                None => entry.made = 0,
            }
        }
        USE => entry.used = entry.used.max(record.change),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
