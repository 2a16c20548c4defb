use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::{Feed, Follower, MemoryBlobs, MemoryRecords};

const FUNCTION: &str = "function";
const KINDS: &[&str] = &[FUNCTION, BLOB, USE];

/// A clock that is set by hand, for all servers.
#[derive(Clone)]
struct ByHand(Arc<Mutex<Instant>>);

impl ByHand {
    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for ByHand {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// A server as `control` is one: what it knows of functions is what it wrote and what the feed has told.
struct Server {
    records: MemoryRecords,
    blobs: SharedBlobs,
    follower: Box<dyn Follower>,
    /// The change and the blob of each function.
    functions: BTreeMap<String, (u64, Option<BlobId>)>,
}

struct World {
    records: MemoryRecords,
    bare: Arc<MemoryBlobs>,
    clock: ByHand,
    servers: Vec<Server>,
}

impl World {
    async fn new() -> Self {
        let clock = ByHand(Arc::new(Mutex::new(Instant::now())));
        let mut world = World { records: MemoryRecords::default(), bare: Arc::default(), clock, servers: Vec::new() };
        for _ in 0..2 {
            let server = world.start().await;
            world.servers.push(server);
        }
        world
    }

    async fn start(&self) -> Server {
        let records: Arc<dyn Records> = Arc::new(self.records.clone());
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let leases = Leases::new(records.clone(), clock.clone());
        let blobs = SharedBlobs::new(records.clone(), self.bare.clone(), clock, leases);
        let follower = self.records.follow(KINDS).await.unwrap();
        let inventory = blobs.inventory().await.unwrap();
        let mut functions = BTreeMap::new();
        for record in records.list(String::new(), FUNCTION, None, 1000).await.unwrap() {
            functions.insert(record.id.clone(), (record.change, place_in(&record)));
        }
        blobs.take_stock(inventory);
        Server { records: self.records.clone(), blobs, follower, functions }
    }

    /// Whatever any record needs can be read.
    async fn check(&self) {
        for record in self.records.list(String::new(), FUNCTION, None, 1000).await.unwrap() {
            let name = place_in(&record).unwrap();
            for server in &self.servers {
                let mut read = Vec::new();
                let opened = server.blobs.open(name).await;
                opened.unwrap_or_else(|e| panic!("{}: {e}", record.id)).read_to_end(&mut read).unwrap();
                assert_eq!(BlobId::from_bytes(Sha256::digest(&read).into()), name);
            }
        }
    }
}

fn function(name: &str) -> Key {
    Key { partition: String::new(), kind: FUNCTION, id: name.to_owned() }
}

fn content(number: u8) -> Bytes {
    vec![number; 3].into()
}

fn named(number: u8) -> BlobId {
    BlobId::from_bytes(Sha256::digest(content(number)).into())
}

impl Server {
    async fn write(&self, number: u8) {
        self.blobs.put(content(number)).await.unwrap();
    }

    /// A function is to need this from now on.
    async fn point(&mut self, name: &str, number: u8) -> Result<u64, RecordsError> {
        let (blob, known) = (named(number), self.functions.get(name).copied());
        let expect = known.map_or(Expect::Absent, |(change, _)| Expect::Change(change));
        let value = Bytes::from(blob.to_hex());
        let is_news = known.and_then(|(_, blob)| blob) != Some(blob);
        let needs = if is_news { BTreeSet::from([blob]) } else { BTreeSet::new() };
        let written = self.blobs.commit(vec![Write::Put { key: function(name), expect, value }], &needs).await;
        if let Ok(change) = written {
            self.functions.insert(name.to_owned(), (change, Some(blob)));
        }
        written
    }

    async fn delete(&mut self, name: &str) {
        let Some((change, _)) = self.functions.get(name).copied() else { return };
        let gone = Write::Delete { key: function(name), expect: Expect::Change(change) };
        if self.records.commit(vec![gone]).await.is_ok() {
            self.functions.remove(name);
        }
    }

    /// What the feed has to tell by now.
    async fn hear(&mut self) {
        loop {
            let mut next = pin!(self.follower.next());
            let Poll::Ready(changes) = next.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { return };
            let changes = changes.unwrap();
            for change in changes.iter().filter(|change| change.key.kind == FUNCTION) {
                if self.functions.get(&change.key.id).is_some_and(|(known, _)| *known >= change.number) {
                    continue;
                }
                match &change.record {
                    Some(record) => {
                        self.functions.insert(change.key.id.clone(), (change.number, place_in(record)));
                    }
                    None => drop(self.functions.remove(&change.key.id)),
                }
            }
            self.blobs.told(&changes);
        }
    }

    async fn sweep(&self) {
        let needed: BTreeSet<BlobId> = self.functions.values().filter_map(|(_, blob)| *blob).collect();
        self.blobs.sweep(|name| needed.contains(&name)).await.unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8),
    Point(usize, u8, u8),
    Delete(usize, u8),
    Hear(usize),
    Sweep(usize),
    Wait,
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (server, thing) = (0..2usize, 0..3u8);
    let step = prop_oneof![
        3 => (server.clone(), thing.clone()).prop_map(|(s, b)| Step::Write(s, b)),
        4 => (server.clone(), thing.clone(), thing.clone()).prop_map(|(s, f, b)| Step::Point(s, f, b)),
        3 => (server.clone(), thing).prop_map(|(s, f)| Step::Delete(s, f)),
        3 => server.clone().prop_map(Step::Hear),
        4 => server.clone().prop_map(Step::Sweep),
        3 => Just(Step::Wait),
        1 => server.prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..80)
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new().await;
    for step in steps {
        match step {
            Step::Write(s, b) => world.servers[s].write(b).await,
            // A conflict refuses it, and leaves nothing.
            Step::Point(s, f, b) => drop(world.servers[s].point(&format!("f{f}"), b).await),
            Step::Delete(s, f) => world.servers[s].delete(&format!("f{f}")).await,
            Step::Hear(s) => world.servers[s].hear().await,
            Step::Sweep(s) => world.servers[s].sweep().await,
            Step::Wait => world.clock.advance(IDLE_MAX),
            Step::Restart(s) => world.servers[s] = world.start().await,
        }
        world.check().await;
    }
    // When everybody has heard of everything, what is needed is all that is left.
    for _ in 0..4 {
        for server in &mut world.servers {
            server.hear().await;
            server.sweep().await;
        }
        world.clock.advance(DRAFT_MAX);
    }
    world.check().await;
    let needed: BTreeSet<Option<BlobId>> = world.servers[0].functions.values().map(|(_, blob)| *blob).collect();
    assert_eq!(world.bare.list().await.unwrap().len(), needed.len());
    assert_eq!(world.servers[0].blobs.list().await.unwrap().len(), needed.len());
    assert!(world.records.list(String::new(), DRAFT, None, 1).await.unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Servers that hear of each other late write, delete and sweep in any order.
    #[test]
    fn what_a_record_needs_is_never_removed_and_what_none_needs_goes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn a_blob_that_another_server_has_just_begun_to_need_stays() {
    let mut world = World::new().await;
    let [one, other] = &mut world.servers[..] else { unreachable!() };
    one.write(1).await;
    one.point("f", 1).await.unwrap();
    one.hear().await;
    other.hear().await;
    one.delete("f").await;
    // The other needs it, by bytes of its own; the first has not heard of that when it sweeps.
    other.write(1).await;
    other.point("g", 1).await.unwrap();
    for _ in 0..2 {
        one.sweep().await;
        world.clock.advance(IDLE_MAX);
    }
    assert!(other.blobs.open(named(1)).await.is_ok());
    // The bytes that were not needed twice are gone.
    other.sweep().await;
    assert_eq!(world.bare.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_went_while_a_server_heard_nothing_is_told_by_its_next_stock() {
    let mut world = World::new().await;
    let [one, other] = &mut world.servers[..] else { unreachable!() };
    one.write(1).await;
    one.point("f", 1).await.unwrap();
    one.hear().await;
    other.hear().await;
    one.delete("f").await;
    for _ in 0..2 {
        one.sweep().await;
        world.clock.advance(IDLE_MAX);
    }
    assert!(world.bare.list().await.unwrap().is_empty());
    assert!(other.blobs.gone().is_empty());
    let inventory = other.blobs.inventory().await.unwrap();
    other.blobs.take_stock(inventory);
    assert_eq!(other.blobs.gone(), [named(1)]);
}

/// Records that cannot be reached.
struct Unreachable;

impl Records for Unreachable {
    fn get(&self, _: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>> {
        Box::pin(async { Err(RecordsError::Engine("away".into())) })
    }

    fn list(
        &self,
        _: String,
        _: &'static str,
        _: Option<String>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async { Err(RecordsError::Engine("away".into())) })
    }

    fn all(
        &self,
        _: &'static str,
        _: Option<(String, String)>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async { Err(RecordsError::Engine("away".into())) })
    }

    fn commit(&self, _: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>> {
        Box::pin(async { Err(RecordsError::Engine("away".into())) })
    }
}

#[tokio::test]
async fn a_blob_that_is_known_is_read_while_the_records_cannot_be_reached() {
    let mut world = World::new().await;
    let one = &mut world.servers[0];
    one.write(1).await;
    one.point("f", 1).await.unwrap();
    let inventory = one.blobs.inventory().await.unwrap();
    let away: Arc<dyn Records> = Arc::new(Unreachable);
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let cut_off = SharedBlobs::new(away.clone(), world.bare.clone(), clock.clone(), Leases::new(away, clock));
    assert!(matches!(cut_off.open(named(1)).await, Err(BlobsError::Io(_))));
    cut_off.take_stock(inventory);
    assert!(cut_off.open(named(1)).await.is_ok());
}

#[tokio::test]
async fn who_has_no_bytes_of_a_blob_that_is_gone_is_refused() {
    let mut world = World::new().await;
    let one = &mut world.servers[0];
    assert!(matches!(one.point("f", 1).await, Err(RecordsError::Conflict(key)) if key.kind == BLOB));
    // Bytes that were taken for left behind are not needed by anything any more, and can be brought again.
    one.write(1).await;
    one.sweep().await;
    world.clock.advance(DRAFT_MAX);
    one.sweep().await;
    assert!(world.bare.list().await.unwrap().is_empty());
    assert!(one.point("f", 1).await.is_err());
    one.write(1).await;
    one.point("f", 1).await.unwrap();
}

#[tokio::test]
async fn what_was_kept_before_there_were_records_of_it_is_kept_on_and_goes_like_the_rest() {
    let world = World::new().await;
    let name = BlobId::from(world.bare.put(content(1)).await.unwrap());
    let record = Write::Put { key: function("f"), expect: Expect::Absent, value: name.to_hex().into() };
    world.records.commit(vec![record]).await.unwrap();
    let mut server = world.start().await;
    server.blobs.adopt([name]).await.unwrap();
    server.blobs.adopt([name]).await.unwrap();
    assert!(server.blobs.open(name).await.is_ok());
    server.hear().await;
    server.delete("f").await;
    server.sweep().await;
    world.clock.advance(IDLE_MAX);
    server.sweep().await;
    assert!(world.bare.list().await.unwrap().is_empty());
}
