//! Records whose values nobody reads without the key: an engine around another one. Keys (names, kinds) stay open, for
//! they are what is looked up.

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::BoxFuture;

use crate::keys::{Cipher, Keyring};
use crate::{Change, Feed, Follower, Key, Record, Records, RecordsError, Write};

/// How a sealed value begins. What was written before there were keys is JSON, which begins otherwise: it is read as it
/// is, and sealed when it is written again.
const SEALED: u8 = 1;

pub struct SealedRecords {
    inner: Arc<dyn Records>,
    keys: Arc<Keyring>,
}

impl SealedRecords {
    pub fn new(inner: Arc<dyn Records>, keys: Arc<Keyring>) -> Self {
        SealedRecords { inner, keys }
    }

    async fn open(&self, kind: &'static str, record: Record) -> Result<Record, RecordsError> {
        open(&self.keys, kind, record).await
    }

    async fn open_all(&self, kind: &'static str, records: Vec<Record>) -> Result<Vec<Record>, RecordsError> {
        let mut opened = Vec::with_capacity(records.len());
        for record in records {
            opened.push(self.open(kind, record).await?);
        }
        Ok(opened)
    }
}

impl Records for SealedRecords {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>> {
        Box::pin(async move {
            let kind = key.kind;
            match self.inner.get(key).await? {
                Some(record) => self.open(kind, record).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn list(
        &self,
        partition: String,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async move { self.open_all(kind, self.inner.list(partition, kind, after, limit).await?).await })
    }

    fn all(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async move { self.open_all(kind, self.inner.all(kind, after, limit).await?).await })
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>> {
        Box::pin(async move {
            let mut sealed = Vec::with_capacity(writes.len());
            for write in writes {
                sealed.push(match write {
                    Write::Put { key, expect, value } => {
                        let cipher = self.keys.of(account(&key.partition)).await?;
                        let value = seal(&cipher, &key, &value);
                        Write::Put { key, expect, value }
                    }
                    other @ (Write::Delete { .. } | Write::Check { .. }) => other,
                });
            }
            self.inner.commit(sealed).await
        })
    }
}

/// A feed of sealed records, opened.
pub struct SealedFeed {
    inner: Arc<dyn Feed>,
    keys: Arc<Keyring>,
}

impl SealedFeed {
    pub fn new(inner: Arc<dyn Feed>, keys: Arc<Keyring>) -> Self {
        SealedFeed { inner, keys }
    }
}

impl Feed for SealedFeed {
    fn follow(&self, kinds: &'static [&'static str]) -> BoxFuture<'_, Result<Box<dyn Follower>, RecordsError>> {
        Box::pin(async move {
            let (inner, keys) = (self.inner.follow(kinds).await?, self.keys.clone());
            Ok(Box::new(SealedFollower { inner, keys }) as Box<dyn Follower>)
        })
    }
}

struct SealedFollower {
    inner: Box<dyn Follower>,
    keys: Arc<Keyring>,
}

impl Follower for SealedFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, RecordsError>> {
        Box::pin(async move {
            let mut changes = self.inner.next().await?;
            for change in &mut changes {
                if let Some(record) = change.record.take() {
                    change.record = Some(open(&self.keys, change.key.kind, record).await?);
                }
            }
            Ok(changes)
        })
    }
}

async fn open(keys: &Keyring, kind: &'static str, mut record: Record) -> Result<Record, RecordsError> {
    if let Some((&SEALED, sealed)) = record.value.split_first() {
        let cipher = keys.of(account(&record.key_partition)).await?;
        let opened = cipher.open(&place(&record.key_partition, kind, &record.id), sealed);
        let damaged = || format!("the {kind} {} of {} is damaged", record.id, record.key_partition);
        record.value = opened.ok_or_else(|| RecordsError::Engine(damaged().into()))?;
    }
    Ok(record)
}

fn seal(cipher: &Cipher, key: &Key, value: &[u8]) -> Bytes {
    [&[SEALED], cipher.seal(&place(&key.partition, key.kind, &key.id), value).as_slice()].concat().into()
}

/// Of a partition, `ACCOUNT/REGION`.
pub(crate) fn account(partition: &str) -> &str {
    partition.split('/').next().unwrap_or_default()
}

/// A value moved to another key is not that key's.
fn place(partition: &str, kind: &str, id: &str) -> Vec<u8> {
    [partition, kind, id].join("\0").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expect, MasterKey, MemoryRecords};

    #[tokio::test]
    async fn values_are_sealed_bound_to_their_key_and_older_ones_still_read() {
        let inner: Arc<dyn Records> = Arc::new(MemoryRecords::default());
        let keys = Arc::new(Keyring::open(inner.clone(), MasterKey::generate()).await.unwrap());
        let sealed = SealedRecords::new(inner.clone(), keys);
        let key = |id: &str| Key { partition: "1/us-east-1".to_owned(), kind: "function", id: id.to_owned() };
        let put = |id: &str, value: Bytes| vec![Write::Put { key: key(id), expect: Expect::Anything, value }];
        sealed.commit(put("a", Bytes::from_static(b"a secret"))).await.unwrap();
        let stored = inner.get(key("a")).await.unwrap().unwrap().value;
        assert!(!stored.windows(6).any(|window| window == b"secret"));
        assert_eq!(sealed.get(key("a")).await.unwrap().unwrap().value, "a secret");
        inner.commit(put("b", stored)).await.unwrap();
        assert!(matches!(sealed.get(key("b")).await, Err(RecordsError::Engine(_))));
        inner.commit(put("b", Bytes::from_static(b"{}"))).await.unwrap();
        assert_eq!(sealed.get(key("b")).await.unwrap().unwrap().value, "{}");
    }
}
