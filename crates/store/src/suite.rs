//! One suite for every engine (invariant 8).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::Clock;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

pub mod server;

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

async fn a_check_leaves_its_record_as_it_is(records: &dyn Records) {
    let first = records.commit(vec![put("checked", Expect::Absent, "1")]).await.unwrap();
    let check = |change| Write::Check { key: key("checked"), change };
    records.commit(vec![check(first), put("beside", Expect::Absent, "1")]).await.unwrap();
    assert_eq!(records.get(key("checked")).await.unwrap().unwrap().change, first);
    let refused = records.commit(vec![put("never", Expect::Absent, "1"), check(first + 9)]).await;
    assert!(matches!(refused, Err(RecordsError::Conflict(k)) if k == key("checked")));
    assert_eq!(records.get(key("never")).await.unwrap(), None);
    let gone = ["checked", "beside"].map(|id| Write::Delete { key: key(id), expect: Expect::Anything });
    records.commit(gone.into()).await.unwrap();
    assert!(records.commit(vec![check(first)]).await.is_err());
}

/// Names sort as bytes, whatever they are made of, and values hold any.
async fn any_text_is_a_name_and_any_bytes_are_a_value(records: &dyn Records) {
    let ids = ["b/\u{1}x", "b/\u{2}\u{3}", "b/A", "b/a", "b/\u{e9}", "b/\u{ffff}", "b/\u{10ffff}"];
    let value = Bytes::from((0..=255).collect::<Vec<u8>>());
    let at = |id: &str| Key { kind: "s3-object", ..key(id) };
    let puts = ids.iter().rev().map(|id| Write::Put { key: at(id), expect: Expect::Absent, value: value.clone() });
    records.commit(puts.collect()).await.unwrap();
    let found = records.list(key("").partition, "s3-object", None, 99).await.unwrap();
    assert_eq!(found.iter().map(|record| &*record.id).collect::<Vec<_>>(), ids);
    assert!(found.iter().all(|record| record.value == value));
}

async fn records_suite(records: &dyn Records) {
    a_batch_applies_whole_or_not_at_all(records).await;
    lists_are_sorted_paged_and_partitioned(records).await;
    a_check_leaves_its_record_as_it_is(records).await;
    any_text_is_a_name_and_any_bytes_are_a_value(records).await;
}

/// Time that stands still until it is moved.
struct Hand(std::sync::Mutex<std::time::Instant>);

impl Clock for Hand {
    fn now(&self) -> std::time::Instant {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH
    }
}

async fn leases_suite(records: Arc<dyn Records>) {
    let clock = Arc::new(Hand(std::sync::Mutex::new(std::time::Instant::now())));
    let (one, other) = (Leases::new(records.clone(), clock.clone()), Leases::new(records.clone(), clock.clone()));
    let pass = |time| *clock.0.lock().unwrap() += time;
    let first = one.take("work").await.unwrap().unwrap();
    assert!(other.take("work").await.unwrap().is_none());
    assert!(other.take("other work").await.unwrap().is_some());
    // A holder that is heard keeps it, however long that is.
    for _ in 0..3 {
        pass(leases::LIFETIME);
        first.beat().await.unwrap();
        assert!(other.take("work").await.unwrap().is_none());
    }
    pass(leases::LIFETIME - std::time::Duration::from_millis(1));
    assert!(other.take("work").await.unwrap().is_none());
    pass(std::time::Duration::from_millis(1));
    let second = other.take("work").await.unwrap().unwrap();
    assert!(second.token() > first.token());
    // The slow holder can do nothing any more, neither write nor give back what is not its own.
    assert!(matches!(first.beat().await, Err(RecordsError::Conflict(_))));
    let write = |lease: &Lease, id| records.commit(vec![lease.fence(), put(id, Expect::Anything, "1")]);
    assert!(matches!(write(&first, "slow").await, Err(RecordsError::Conflict(_))));
    first.give_back().await.unwrap();
    write(&second, "holder").await.unwrap();
    second.give_back().await.unwrap();
    let third = one.take("work").await.unwrap().unwrap();
    assert!(records.get(key("slow")).await.unwrap().is_none());
    third.give_back().await.unwrap();
    records.commit(vec![Write::Delete { key: key("holder"), expect: Expect::Anything }]).await.unwrap();
}

/// `feed` is of `records`.
async fn feed_suite(records: &dyn Records, feed: &dyn Feed) {
    let mut follower = feed.follow(&["function"]).await.unwrap();
    let elsewhere = Key { kind: "alias", ..key("x") };
    let other = Write::Put { key: elsewhere, expect: Expect::Anything, value: Bytes::new() };
    let first = records.commit(vec![put("followed", Expect::Absent, "1"), other]).await.unwrap();
    let told = follower.next().await.unwrap();
    assert_eq!(told.iter().map(|change| (&change.key, change.number)).collect::<Vec<_>>(), [(&key("followed"), first)]);
    assert_eq!(told[0].record, records.get(key("followed")).await.unwrap());
    // Not told twice, and a key once, as it is now.
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(50), follower.next()).await;
    assert!(waiting.is_err(), "nothing was written");
    records.commit(vec![put("followed", Expect::Anything, "2")]).await.unwrap();
    let gone = Write::Delete { key: key("followed"), expect: Expect::Anything };
    let last = records.commit(vec![gone, put("beside", Expect::Anything, "2")]).await.unwrap();
    let mut told = Vec::new();
    while told.iter().all(|change: &Change| change.number != last) {
        told.extend(follower.next().await.unwrap());
    }
    let of_key = told.iter().rfind(|change| change.key == key("followed")).unwrap();
    assert_eq!((of_key.number, &of_key.record), (last, &None));
    let gone = Write::Delete { key: key("beside"), expect: Expect::Anything };
    records.commit(vec![gone]).await.unwrap();
}

async fn sealed(inner: Arc<dyn Records>) -> SealedRecords {
    let keys = Keyring::open(inner.clone(), MasterKey::generate()).await.unwrap();
    SealedRecords::new(inner, Arc::new(keys))
}

#[tokio::test]
async fn the_memory_engines_pass_also_sealed() {
    records_suite(&MemoryRecords::default()).await;
    let memory = MemoryRecords::default();
    records_suite(&sealed(Arc::new(memory.clone())).await).await;
    feed_suite(&memory, &memory).await;
    leases_suite(Arc::new(memory)).await;
    let (dir, keys) = (tempfile::tempdir().unwrap(), Arc::new(MemoryRecords::default()));
    let keys = Keyring::open(keys, MasterKey::generate()).await.unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(MemoryBlobs::default());
    blobs_suite::run(&SealedBlobs::new(blobs, &keys, "packages", dir.path()).await.unwrap()).await;
    blobs_suite::run(&MemoryBlobs::default()).await;
}

#[tokio::test]
async fn the_embedded_engines_pass_and_keep_what_they_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let records = Sqlite::open(&dir.path().join("records")).unwrap();
    records_suite(&records).await;
    leases_suite(Arc::new(records.clone())).await;
    let before = records.all("function", None, usize::MAX).await.unwrap();
    let last = records.commit(vec![put("d", Expect::Anything, "9")]).await.unwrap();
    drop(records);
    let records = Sqlite::open(&dir.path().join("records")).unwrap();
    assert_eq!(records.all("function", None, usize::MAX).await.unwrap().len(), before.len());
    assert!(records.commit(Vec::new()).await.unwrap() > last, "a change number is never reused");
    blobs_suite::run(&Files::open(&dir.path().join("blobs")).unwrap()).await;
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/new")).unwrap().count(), 0, "no draft is left");
}

#[tokio::test]
async fn postgres_passes_also_sealed_and_keeps_what_it_acknowledged() {
    let mut server = server::Server::start();
    let url = server.database().await;
    let records = Postgres::open(&url, Company::Servers).await.unwrap();
    records_suite(&records).await;
    leases_suite(Arc::new(records.clone())).await;
    feed_suite(&records, &records).await;
    let other = Postgres::open(&server.database().await, Company::Servers).await.unwrap();
    let keys = Arc::new(Keyring::open(Arc::new(other.clone()), MasterKey::generate()).await.unwrap());
    let sealed = SealedRecords::new(Arc::new(other.clone()), keys.clone());
    records_suite(&sealed).await;
    feed_suite(&sealed, &SealedFeed::new(Arc::new(other), keys)).await;
    let before = records.all("function", None, usize::MAX).await.unwrap();
    let last = records.commit(vec![put("d", Expect::Anything, "9")]).await.unwrap();
    // As after a loss of power; the records reach the database again by themselves.
    server.crash_and_start();
    let after = loop {
        match records.all("function", None, usize::MAX).await {
            Ok(after) => break after,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    assert_eq!(after.len(), before.len());
    assert_eq!(records.get(key("d")).await.unwrap().unwrap().change, last);
    assert!(records.commit(Vec::new()).await.unwrap() > last, "a change number is never reused");
}

#[tokio::test]
async fn servers_share_a_database_and_nobody_else_is_let_in_meanwhile() {
    let server = server::Server::start();
    let url = server.database().await;
    let one = Postgres::open(&url, Company::Servers).await.unwrap();
    let other = Postgres::open(&url, Company::Servers).await.unwrap();
    let refused = Postgres::open(&url, Company::Nobody).await.err().unwrap().to_string();
    assert!(refused.contains("in use by another Hearth"), "{refused}");
    // Writers of one key on two servers: one wins each time, and numbers of a key only grow.
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..24 {
        let records = if i % 2 == 0 { one.clone() } else { other.clone() };
        tasks.spawn(async move {
            let before = records.get(key("contended")).await.unwrap();
            let expect = before.as_ref().map_or(Expect::Absent, |before| Expect::Change(before.change));
            let written = records.commit(vec![put("contended", expect, "1"), put(&i.to_string(), expect, "1")]).await;
            match written {
                Ok(change) => assert!(before.is_none_or(|before| before.change < change)),
                Err(error) => assert!(matches!(error, RecordsError::Conflict(_)), "{error}"),
            }
        });
    }
    tasks.join_all().await;
    let anything = |ids: [&'static str; 3]| ids.map(|id| put(id, Expect::Anything, "1")).to_vec();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..16 {
        let records = if i % 2 == 0 { one.clone() } else { other.clone() };
        // In opposite orders: none waits for another in a ring.
        let ids = if i % 3 == 0 { ["x", "y", "z"] } else { ["z", "y", "x"] };
        tasks.spawn(async move { records.commit(anything(ids)).await.unwrap() });
    }
    let mut numbers = tasks.join_all().await;
    numbers.sort_unstable();
    assert_eq!(one.get(key("x")).await.unwrap().unwrap().change, *numbers.last().unwrap());
    drop((one, other));
    let alone = loop {
        match Postgres::open(&url, Company::Nobody).await {
            Ok(alone) => break alone,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    assert!(Postgres::open(&url, Company::Servers).await.is_err());
    drop(alone);
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

/// An engine answers as a map would; it is empty before and after.
async fn agrees_with_a_map(batches: &[Vec<Step>], records: &dyn Records) -> Result<(), TestCaseError> {
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    for batch in batches {
        let mut next = model.clone();
        let mut ok = true;
        let writes = batch.iter().map(|step| match step {
            Step::Put(id, new) => {
                ok &= !(*new && next.contains_key(&id.to_string()));
                next.insert(id.to_string(), 0);
                put(&id.to_string(), if *new { Expect::Absent } else { Expect::Anything }, "v")
            }
            Step::Delete(id) => {
                next.remove(&id.to_string());
                Write::Delete { key: key(&id.to_string()), expect: Expect::Anything }
            }
        });
        let answer = records.commit(writes.collect()).await;
        prop_assert_eq!(answer.is_ok(), ok);
        if let Ok(change) = answer {
            let written = |step: &Step| match step {
                Step::Put(id, _) | Step::Delete(id) => id.to_string(),
            };
            batch.iter().map(written).for_each(|id| {
                next.entry(id).and_modify(|at| *at = change);
            });
            model = next;
        }
        let found = records.all("function", None, usize::MAX).await.unwrap();
        prop_assert_eq!(found.into_iter().map(|r| (r.id, r.change)).collect::<BTreeMap<_, _>>(), model.clone());
    }
    let left = model.keys().map(|id| Write::Delete { key: key(id), expect: Expect::Anything });
    records.commit(left.collect()).await.unwrap();
    Ok(())
}

#[test]
fn engines_agree_with_a_map() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (dir, server) = (tempfile::tempdir().unwrap(), server::Server::start());
    let postgres = async { Postgres::open(&server.database().await, Company::Servers).await };
    let postgres = runtime.block_on(postgres).unwrap();
    let sqlite = Sqlite::open(&dir.path().join("records")).unwrap();
    let engines: [&dyn Records; 3] = [&MemoryRecords::default(), &sqlite, &postgres];
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) });
    let agreed = runner.run(&steps(), |batches| {
        engines.iter().try_for_each(|engine| runtime.block_on(agrees_with_a_map(&batches, *engine)))
    });
    agreed.unwrap();
}
