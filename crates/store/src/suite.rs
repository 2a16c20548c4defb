//! One suite for every engine (invariant 8).

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::CodeHash;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

fn key(id: &str) -> Key {
    Key { partition: "000000000000/us-east-1".to_owned(), kind: "function", id: id.to_owned() }
}

fn put(id: &str, expect: Expect, value: &'static str) -> Write {
    Write::Put { key: key(id), expect, value: Bytes::from_static(value.as_bytes()) }
}

async fn a_batch_applies_whole_or_not_at_all(records: &dyn Records) {
    let change = records.commit(vec![put("a", Expect::Absent, "1"), put("b", Expect::Absent, "1")]).await.unwrap();
    let conflict = records.commit(vec![put("c", Expect::Absent, "1"), put("a", Expect::Absent, "2")]).await;
    assert!(matches!(conflict, Err(RecordsError::Conflict(k)) if k == key("a")));
    assert_eq!(records.get(key("c")).await.unwrap(), None);
    let later = records.commit(vec![put("a", Expect::Change(change), "2")]).await.unwrap();
    assert!(later > change);
    assert!(records.commit(vec![Write::Delete { key: key("a"), expect: Expect::Change(change) }]).await.is_err());
    records.commit(vec![Write::Delete { key: key("a"), expect: Expect::Change(later) }]).await.unwrap();
    assert_eq!(records.get(key("a")).await.unwrap(), None);
}

async fn lists_are_sorted_paged_and_partitioned(records: &dyn Records) {
    let elsewhere = Key { partition: "000000000000/eu-west-1".to_owned(), ..key("x") };
    let writes = ["e", "d", "f"].map(|id| put(id, Expect::Anything, "1"));
    records.commit(writes.into()).await.unwrap();
    records.commit(vec![Write::Put { key: elsewhere, expect: Expect::Absent, value: Bytes::new() }]).await.unwrap();
    let ids = |found: Vec<Record>| found.into_iter().map(|record| record.id).collect::<Vec<_>>();
    let partition = key("").partition;
    let first = records.list(partition.clone(), "function", Some("b".to_owned()), 2).await.unwrap();
    assert_eq!(ids(first), ["d", "e"]);
    assert_eq!(ids(records.list(partition, "function", Some("e".to_owned()), 9).await.unwrap()), ["f"]);
    assert_eq!(ids(records.all("function", None, usize::MAX).await.unwrap())[0], "x");
    let all = records.all("function", None, usize::MAX).await.unwrap();
    let mut paged = records.all("function", None, 2).await.unwrap();
    while let Some(last) = paged.last() {
        let after = Some((last.key_partition.clone(), last.id.clone()));
        let more = records.all("function", after, 2).await.unwrap();
        if more.is_empty() {
            break;
        }
        paged.extend(more);
    }
    assert_eq!(paged, all);
    assert!(records.all("alias", None, usize::MAX).await.unwrap().is_empty());
}

async fn records_suite(records: &dyn Records) {
    a_batch_applies_whole_or_not_at_all(records).await;
    lists_are_sorted_paged_and_partitioned(records).await;
}

async fn read_whole(blobs: &dyn Blobs, id: BlobId) -> Vec<u8> {
    let mut read = Vec::new();
    blobs.open(id).await.unwrap().read_to_end(&mut read).unwrap();
    read
}

async fn the_same_bytes_are_one_blob_where_they_name_it(blobs: &dyn Blobs) {
    let hash = blobs.put(Bytes::from_static(b"package")).await.unwrap();
    assert_eq!(hash, CodeHash(Sha256::digest(b"package").into()));
    assert_eq!(blobs.put(Bytes::from_static(b"package")).await.unwrap(), hash);
    let mut draft = blobs.create(Naming::OfContent).await.unwrap();
    draft.write(Bytes::from_static(b"pack")).await.unwrap();
    draft.write(Bytes::from_static(b"age")).await.unwrap();
    assert_eq!(draft.finish().await.unwrap(), hash.into());
    assert_eq!(read_whole(blobs, hash.into()).await, b"package");
    assert_eq!(blobs.list().await.unwrap(), [hash.into()]);
    blobs.delete(hash.into()).await.unwrap();
    blobs.delete(hash.into()).await.unwrap();
    assert!(matches!(blobs.open(hash.into()).await, Err(BlobsError::Missing(missing)) if missing == hash.into()));
}

async fn a_drawn_name_is_nobody_elses(blobs: &dyn Blobs) {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut draft = blobs.create(Naming::Drawn).await.unwrap();
        draft.write(Bytes::from_static(b"object")).await.unwrap();
        ids.push(draft.finish().await.unwrap());
    }
    ids.push(blobs.copy(ids[0]).await.unwrap());
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    // Open files outlive their blobs, and copies their originals.
    let mut open = blobs.open(ids[0]).await.unwrap();
    blobs.delete(ids[0]).await.unwrap();
    let mut read = String::new();
    open.read_to_string(&mut read).unwrap();
    assert_eq!(read, "object");
    assert!(matches!(blobs.copy(ids[0]).await, Err(BlobsError::Missing(missing)) if missing == ids[0]));
    for id in &ids[1..] {
        assert_eq!(read_whole(blobs, *id).await, b"object");
        blobs.delete(*id).await.unwrap();
    }
    assert!(blobs.list().await.unwrap().is_empty());
}

async fn a_draft_is_read_before_it_counts_and_leaves_nothing_when_it_is_dropped(blobs: &dyn Blobs) {
    let mut draft = blobs.create(Naming::OfContent).await.unwrap();
    draft.write(Bytes::from_static(b"half")).await.unwrap();
    let mut read = String::new();
    draft.open().await.unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "half");
    assert!(blobs.list().await.unwrap().is_empty());
    drop(draft);
    assert!(blobs.list().await.unwrap().is_empty());
    let empty = blobs.create(Naming::Drawn).await.unwrap().finish().await.unwrap();
    assert!(read_whole(blobs, empty).await.is_empty());
    blobs.delete(empty).await.unwrap();
}

async fn blobs_suite(blobs: &dyn Blobs) {
    the_same_bytes_are_one_blob_where_they_name_it(blobs).await;
    a_drawn_name_is_nobody_elses(blobs).await;
    a_draft_is_read_before_it_counts_and_leaves_nothing_when_it_is_dropped(blobs).await;
}

async fn sealed(inner: Arc<dyn Records>) -> SealedRecords {
    let keys = Keyring::open(inner.clone(), MasterKey::generate()).await.unwrap();
    SealedRecords::new(inner, Arc::new(keys))
}

#[tokio::test]
async fn the_memory_engines_pass_also_sealed() {
    records_suite(&MemoryRecords::default()).await;
    records_suite(&sealed(Arc::new(MemoryRecords::default())).await).await;
    let (dir, keys) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
    let keys = Keyring::open(keys, MasterKey::generate()).await.unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(MemoryBlobs::default());
    blobs_suite(&SealedBlobs::new(blobs, &keys, "packages", dir.path()).await.unwrap()).await;
    blobs_suite(&MemoryBlobs::default()).await;
}

#[tokio::test]
async fn the_embedded_engines_pass_and_keep_what_they_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let records = Sqlite::open(&dir.path().join("records")).unwrap();
    records_suite(&records).await;
    let before = records.all("function", None, usize::MAX).await.unwrap();
    let last = records.commit(vec![put("d", Expect::Anything, "9")]).await.unwrap();
    drop(records);
    let records = Sqlite::open(&dir.path().join("records")).unwrap();
    assert_eq!(records.all("function", None, usize::MAX).await.unwrap().len(), before.len());
    assert!(records.commit(Vec::new()).await.unwrap() > last, "a change number is never reused");
    blobs_suite(&Files::open(&dir.path().join("blobs")).unwrap()).await;
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/new")).unwrap().count(), 0, "no draft is left");
}

#[tokio::test]
async fn many_writers_share_syncs_and_a_conflict_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let records = Sqlite::open(&dir.path().join("records")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let records = records.clone();
        tasks
            .spawn(async move { records.commit(vec![put(&(i % 100).to_string(), Expect::Absent, "1")]).await.is_ok() });
    }
    let won = tasks.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!((won, records.all("function", None, usize::MAX).await.unwrap().len()), (100, 100));
}

#[test]
fn a_half_written_blob_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("new")).unwrap();
    std::fs::write(dir.path().join("new/7"), "half").unwrap();
    Files::open(dir.path()).unwrap();
    assert!(!dir.path().join("new/7").exists());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, bool),
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step =
        prop_oneof![(0..5u8, any::<bool>()).prop_map(|(id, new)| Step::Put(id, new)), (0..5u8).prop_map(Step::Delete)];
    prop::collection::vec(prop::collection::vec(step, 1..4), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn both_engines_agree_with_a_map(batches in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&dir.path().join("records")).unwrap();
        let memory = MemoryRecords::default();
        let mut model: BTreeMap<String, u64> = BTreeMap::new();
        for batch in batches {
            let mut next = model.clone();
            let mut ok = true;
            let writes: Vec<Write> = batch.iter().map(|step| match step {
                Step::Put(id, new) => {
                    ok &= !(*new && next.contains_key(&id.to_string()));
                    next.insert(id.to_string(), 0);
                    put(&id.to_string(), if *new { Expect::Absent } else { Expect::Anything }, "v")
                }
                Step::Delete(id) => {
                    next.remove(&id.to_string());
                    Write::Delete { key: key(&id.to_string()), expect: Expect::Anything }
                }
            }).collect();
            let answers = runtime.block_on(async { (sqlite.commit(writes.clone()).await, memory.commit(writes).await) });
            prop_assert_eq!(answers.0.as_ref().ok(), answers.1.as_ref().ok());
            prop_assert_eq!(answers.0.is_ok(), ok);
            if ok { model = next; }
            let found = runtime.block_on(sqlite.all("function", None, usize::MAX)).unwrap();
            prop_assert_eq!(found.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), model.keys().cloned().collect::<Vec<_>>());
            prop_assert_eq!(found, runtime.block_on(memory.all("function", None, usize::MAX)).unwrap());
        }
    }
}
