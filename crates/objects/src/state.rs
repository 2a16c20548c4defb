//! Reading and writing what is stored, in turns.
//!
//! Writers of one key take its turn, so that what they read stays true until they have written. They share the bucket,
//! which whoever deletes it has alone.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use hearth_store::{Blobs, Expect, Key, Record, Records, RecordsError, Write, every};
use s3s::S3Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::{self, damaged, of_records};
use crate::leases::Leases;
use crate::record::{
    BUCKET, BUCKET_NAME, Body, BucketName, BucketRecord, OBJECT, ObjectRecord, Owner, PARTS, PartsRecord, UPLOAD,
    UploadRecord, VERSION, below, object_id,
};
use crate::sweep::Kept;

/// Locks that buckets, and keys, share.
const LOCKS: usize = 256;
/// Records that are read at once where all of a range are needed.
const PAGE: usize = 500;

/// A document as it was read.
#[derive(Clone)]
pub struct Found<T> {
    pub change: u64,
    pub value: T,
}

impl<T> Found<T> {
    pub fn expect(&self) -> Expect {
        Expect::Change(self.change)
    }
}

pub fn expect_of<T>(found: Option<&Found<T>>) -> Expect {
    found.map_or(Expect::Absent, Found::expect)
}

pub struct State {
    pub records: Arc<dyn Records>,
    pub blobs: Arc<dyn Blobs>,
    pub kept: Kept,
    pub leases: Arc<Leases>,
    buckets: Vec<RwLock<()>>,
    keys: Vec<Mutex<()>>,
}

/// While it lives, nobody else writes the key, and the bucket stays.
pub struct Turn<'a> {
    _bucket: RwLockReadGuard<'a, ()>,
    _key: MutexGuard<'a, ()>,
}

fn slot(parts: impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0)
}

impl State {
    pub fn new(records: Arc<dyn Records>, blobs: Arc<dyn Blobs>) -> Self {
        State {
            records,
            kept: Kept::default(),
            leases: Arc::new(Leases::new(blobs.clone())),
            blobs,
            buckets: (0..LOCKS).map(|_| RwLock::default()).collect(),
            keys: (0..LOCKS).map(|_| Mutex::default()).collect(),
        }
    }

    pub async fn turn(&self, owner: &Owner, bucket: &str, key: &str) -> Turn<'_> {
        let partition = owner.partition();
        let _bucket = self.buckets[slot((&partition, bucket))].read().await;
        let _key = self.keys[slot((&partition, bucket, key))].lock().await;
        Turn { _bucket, _key }
    }

    pub async fn alone(&self, owner: &Owner, bucket: &str) -> RwLockWriteGuard<'_, ()> {
        self.buckets[slot((owner.partition(), bucket))].write().await
    }

    pub async fn get<T: DeserializeOwned>(&self, key: Key) -> S3Result<Option<Found<T>>> {
        self.records.get(key).await.map_err(of_records)?.map(|record| parse(&record)).transpose()
    }

    /// A bucket of the region that is asked. Of another's it is said where it is.
    pub async fn bucket(&self, owner: &Owner, bucket: &str) -> S3Result<Found<BucketRecord>> {
        match self.get(owner.key(BUCKET, bucket.to_owned())).await? {
            Some(found) => Ok(found),
            None => match self.home(owner, bucket).await? {
                Some(home) if home.region != owner.region => Err(error::elsewhere(&home.region)),
                _ => Err(error::no_bucket()),
            },
        }
    }

    /// The account in the region that its bucket is in.
    pub async fn home(&self, owner: &Owner, bucket: &str) -> S3Result<Option<Owner>> {
        let found: Option<Found<BucketName>> = self.get(owner.name_key(bucket)).await?;
        Ok(found.and_then(|found| Some(owner.within(&found.value.region()?))))
    }

    /// Buckets of an account, in every region.
    pub async fn names(
        &self,
        owner: &Owner,
        after: Option<String>,
        limit: usize,
    ) -> S3Result<Vec<(String, BucketName)>> {
        let listed = self.records.list(owner.account.to_string(), BUCKET_NAME, after, limit).await;
        let records = listed.map_err(of_records)?;
        records.iter().map(|record| Ok((record.id.clone(), parse(record)?.value))).collect()
    }

    /// Gives buckets that were made before names were their account's a name. Of two in different regions one gets it.
    pub async fn name_buckets(&self) -> Result<(), RecordsError> {
        let names = every(&*self.records, BUCKET_NAME).await?;
        let mut named: HashSet<_> = names.into_iter().map(|name| (name.key_partition, name.id)).collect();
        let mut writes = Vec::new();
        for record in every(&*self.records, BUCKET).await? {
            let Some((account, region)) = record.key_partition.split_once('/') else { continue };
            let Ok(found) = parse::<BucketRecord>(&record) else { continue };
            if !named.insert((account.to_owned(), record.id.clone())) {
                continue;
            }
            let key = Key { partition: account.to_owned(), kind: BUCKET_NAME, id: record.id.clone() };
            let name = BucketName { region: region.to_owned(), created_ms: found.value.created_ms };
            writes.extend(put(key, Expect::Absent, &name));
        }
        while !writes.is_empty() {
            let batch = writes.drain(..writes.len().min(PAGE)).collect();
            self.records.commit(batch).await?;
        }
        Ok(())
    }

    /// The current version, which may be a delete marker.
    pub async fn current(&self, owner: &Owner, bucket: &str, key: &str) -> S3Result<Option<Found<ObjectRecord>>> {
        self.get(owner.key(OBJECT, object_id(bucket, key))).await
    }

    /// One version of a key, and where it is.
    pub async fn version(
        &self,
        owner: &Owner,
        bucket: &str,
        key: &str,
        version: &str,
    ) -> S3Result<Option<(Key, Found<ObjectRecord>)>> {
        let id = object_id(bucket, key);
        if let Some(current) = self.current(owner, bucket, key).await?
            && current.value.version() == version
        {
            return Ok(Some((owner.key(OBJECT, id), current)));
        }
        let earlier = self.earlier(owner, &id).await?;
        let found = earlier.into_iter().find(|found| found.value.version() == version);
        Ok(found.map(|found| (owner.key(VERSION, below(&id, &found.value.order)), found)))
    }

    /// All earlier versions of a key, the newest first.
    async fn earlier(&self, owner: &Owner, object_id: &str) -> S3Result<Vec<Found<ObjectRecord>>> {
        let records = self.range(owner, VERSION, &below(object_id, "")).await?;
        records.iter().map(parse).collect()
    }

    /// The newest of the earlier versions of a key.
    pub async fn newest_earlier(&self, owner: &Owner, object_id: &str) -> S3Result<Option<Found<ObjectRecord>>> {
        let prefix = below(object_id, "");
        let page = self.list(owner, VERSION, Some(prefix.clone()), 1).await?;
        page.first().filter(|record| record.id.starts_with(&prefix)).map(parse).transpose()
    }

    pub async fn upload(
        &self,
        owner: &Owner,
        bucket: &str,
        key: &str,
        upload: &str,
    ) -> S3Result<Option<Found<UploadRecord>>> {
        self.get(owner.key(UPLOAD, below(&object_id(bucket, key), upload))).await
    }

    /// The parts of an object that came in parts; none of another. An object that was deleted has none any more.
    pub async fn parts_left(&self, owner: &Owner, body: &Body) -> S3Result<Option<PartsRecord>> {
        let Body::Parts { upload, .. } = body else { return Ok(Some(PartsRecord { parts: Vec::new() })) };
        let found: Option<Found<PartsRecord>> = self.get(owner.key(PARTS, upload.clone())).await?;
        Ok(found.map(|found| found.value))
    }

    /// The same, where it is there for certain or was a moment ago.
    pub async fn parts(&self, owner: &Owner, body: &Body) -> S3Result<PartsRecord> {
        self.parts_left(owner, body).await?.ok_or_else(error::no_key)
    }

    pub async fn list(
        &self,
        owner: &Owner,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> S3Result<Vec<Record>> {
        self.records.list(owner.partition(), kind, after, limit).await.map_err(of_records)
    }

    /// Every record whose id is longer than `prefix` and begins with it.
    pub async fn range(&self, owner: &Owner, kind: &'static str, prefix: &str) -> S3Result<Vec<Record>> {
        let mut all = Vec::new();
        let mut after = prefix.to_owned();
        loop {
            let page = self.list(owner, kind, Some(after), PAGE).await?;
            let more = page.len() == PAGE;
            let before = all.len();
            all.extend(page.into_iter().take_while(|record| record.id.starts_with(prefix)));
            match all.last() {
                Some(last) if more && all.len() - before == PAGE => after = last.id.clone(),
                _ => return Ok(all),
            }
        }
    }

    pub async fn commit(&self, writes: Vec<Write>) -> S3Result<()> {
        self.records.commit(writes).await.map(drop).map_err(of_records)
    }
}

pub fn parse<T: DeserializeOwned>(record: &Record) -> S3Result<Found<T>> {
    let value = serde_json::from_slice(&record.value).map_err(|error| damaged(&error))?;
    Ok(Found { change: record.change, value })
}

pub fn put(key: Key, expect: Expect, value: &impl Serialize) -> S3Result<Write> {
    let value = serde_json::to_vec(value).map(Bytes::from).map_err(|error| damaged(&error))?;
    Ok(Write::Put { key, expect, value })
}

pub fn delete(key: Key, expect: Expect) -> Write {
    Write::Delete { key, expect }
}
