//! The port for records: whole transactions over batches, no begin and commit (decision 12).

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::BoxFuture;

/// Records that are read at one time.
const PAGE: usize = 1000;

/// A record's address. `partition` is `ACCOUNT/REGION`, `ACCOUNT` alone for what
/// belongs to no region, or empty; `kind` a resource type such as `function`; `id` sorts as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub partition: String,
    pub kind: &'static str,
    pub id: String,
}

/// A stored value with the number of the change that wrote it (larger is later; never reused for a key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key_partition: String,
    pub id: String,
    pub change: u64,
    pub value: Bytes,
}

/// What must be true of a key for a batch to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    /// The record is there and was last written by this change. Numbers begin at 1.
    Change(u64),
}

#[derive(Clone, Debug)]
pub enum Write {
    Put {
        key: Key,
        expect: Expect,
        value: Bytes,
    },
    Delete {
        key: Key,
        expect: Expect,
    },
    /// Leaves the record as it is, which was last written by this change: the rest of the batch depends on it.
    Check {
        key: Key,
        change: u64,
    },
}

impl Write {
    /// Whose record, and what must be true of it.
    pub(crate) fn condition(&self) -> (&Key, Expect) {
        match self {
            Write::Put { key, expect, .. } | Write::Delete { key, expect } => (key, *expect),
            Write::Check { key, change } => (key, Expect::Change(*change)),
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordsError {
    /// An [`Expect`] did not hold; nothing was written.
    #[error("{0:?} was changed meanwhile")]
    Conflict(Key),
    #[error("the store is full")]
    Full,
    #[error("the store failed: {0}")]
    Engine(Arc<str>),
}

/// Durable records. Every engine passes `store`'s shared suite (invariant 8).
pub trait Records: Send + Sync + 'static {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>>;

    /// Records of one kind in one partition, ascending by id, after `after`, at most `limit`.
    fn list(
        &self,
        partition: String,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>>;

    /// Records of one kind in every partition, ascending by partition and id, after `after` (those two), at most `limit`:
    /// for start-up.
    fn all(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>>;

    /// Applies all writes or none; `Ok` only once they are on disk. Answers the number of the change.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>>;
}

/// Every record of one kind, in every partition, read by the page.
pub async fn every(records: &dyn Records, kind: &'static str) -> Result<Vec<Record>, RecordsError> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let after = all.last().map(|last| (last.key_partition.clone(), last.id.clone()));
        let page = records.all(kind, after, PAGE).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
