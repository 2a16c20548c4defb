//! Pools over a driver whose sandboxes are numbers, and whose runtimes are tasks.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_model::{BoxFuture, CodeTree, Memory, Root, SystemClock};
use hearth_sandbox::{
    Class, Command, Driver, Error, Exit, Identity, Prepared, Process, Promise, Sandbox, Signal, Tunnel, Usage,
};
use hearth_worker::{HostMemory, Origin, Pools, Recipe, Taken};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(10);
const BUDGET: u64 = 8 << 20;

#[derive(Default)]
struct Host {
    made: AtomicUsize,
    /// Prepared and not yet bound or ended.
    waiting: Mutex<BTreeSet<usize>>,
    /// Bound, each once.
    bound: Mutex<Vec<usize>>,
    /// At most so many may wait; 0 is no limit.
    room: AtomicUsize,
    /// The next that is bound was lost meanwhile.
    lost: AtomicBool,
    memory_is_short: AtomicBool,
    runtimes: Runtimes,
}

/// What was started ahead of need.
#[derive(Default)]
struct Runtimes {
    started: AtomicUsize,
    /// Ends each, once.
    ends: Mutex<Vec<oneshot::Sender<()>>>,
    /// None of them ever says that it is ready: it ends instead.
    fail: AtomicBool,
}

struct Double(Arc<Host>);

fn refused() -> Error {
    Error::Step { step: "take host uids".into(), source: std::io::ErrorKind::QuotaExceeded.into() }
}

impl HostMemory for Double {
    fn is_short(&self) -> bool {
        self.0.memory_is_short.load(Ordering::SeqCst)
    }
}

impl Driver for Double {
    fn prepare(&self, _: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>> {
        let host = self.0.clone();
        Box::pin(async move {
            let mut waiting = host.waiting.lock().unwrap();
            let room = host.room.load(Ordering::SeqCst);
            if room > 0 && waiting.len() >= room {
                return Err(refused());
            }
            let number = host.made.fetch_add(1, Ordering::SeqCst);
            waiting.insert(number);
            drop(waiting);
            Ok(Box::new(Place { host, number }) as Box<dyn Prepared>)
        })
    }

    fn promises(&self) -> Vec<Promise> {
        Vec::new()
    }

    fn starts_ahead(&self) -> bool {
        true
    }

    fn leads_out(&self) -> bool {
        false
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<Promise>, Error>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Place {
    host: Arc<Host>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.waiting.lock().unwrap().remove(&self.number);
    }
}

impl Prepared for Place {
    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>> {
        let Runtimes { started, ends, fail } = &self.host.runtimes;
        let id = u32::try_from(started.fetch_add(1, Ordering::SeqCst)).unwrap();
        let (end, ended) = oneshot::channel();
        ends.lock().unwrap().push(end);
        assert!(command.environment.contains(&("_HEARTH_TOLD_FD".to_owned(), "61".to_owned())));
        let mut told = UnixStream::from(command.told.unwrap());
        if !fail.load(Ordering::SeqCst) {
            told.write_all(b"R").unwrap();
        }
        let exit = async move {
            // It holds its end for as long as it lives.
            let _ = ended.await;
            drop(told);
            Ok(Exit::Signal(9))
        };
        if fail.load(Ordering::SeqCst) {
            ends.lock().unwrap().clear();
        }
        let exit = tokio::spawn(exit);
        let exit = Box::pin(async move { exit.await.unwrap_or(Err(Error::Gone)) });
        Box::pin(std::future::ready(Ok(Process { id, exit })))
    }

    fn bind(self: Box<Self>, _: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>> {
        let is_lost = self.host.lost.swap(false, Ordering::SeqCst);
        if !is_lost {
            self.host.bound.lock().unwrap().push(self.number);
        }
        Box::pin(async move { if is_lost { Err(Error::Gone) } else { Ok(Box::new(Nothing) as Box<dyn Sandbox>) } })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Nothing;

impl Sandbox for Nothing {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, Result<TcpListener, Error>> {
        Box::pin(std::future::ready(Err(Error::Gone)))
    }

    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, Result<TcpStream, Error>> {
        Box::pin(std::future::ready(Err(Error::Gone)))
    }

    fn dials(&self) -> bool {
        false
    }

    fn tunnel(&self) -> Option<Tunnel> {
        None
    }

    fn spawn(&self, _: Command) -> BoxFuture<'_, Result<Process, Error>> {
        Box::pin(std::future::ready(Err(Error::Gone)))
    }

    fn signal(&self, _: u32, _: Signal) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn kill_processes(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn limit_cpu(&self) -> Result<(), Error> {
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), Error> {
        Ok(())
    }

    fn usage(&self) -> Result<Usage, Error> {
        Ok(Usage::default())
    }
}

struct World {
    host: Arc<Host>,
    pools: Pools,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    fn new(budget: u64) -> Self {
        let host = Arc::new(Host::default());
        let (driver, memory) = (Arc::new(Double(host.clone())), Arc::new(Double(host.clone())));
        let pools = Pools::new(budget, driver, Arc::new(SystemClock), memory);
        let running = Some(tokio::spawn(pools.clone().run()));
        World { host, pools, running }
    }

    async fn take(&self, runtime: Option<&Arc<Recipe>>) -> Result<Taken, Error> {
        let root = Arc::new(Root { skeleton: "/".into(), binds: Vec::new(), whole: false });
        let class = Class { root, ephemeral_storage: Memory::mib(512), listeners: Vec::new() };
        self.pools.take(class, runtime.cloned()).await
    }

    /// Which sandbox a start got, and whence.
    async fn start_as(&self, runtime: Option<&Arc<Recipe>>) -> Result<(usize, Origin), Error> {
        let code = CodeTree { path: "/".into(), lease: Arc::new(()) };
        let identity = Identity { memory: Memory::mib(128), code: Some(code), opt: None };
        let bound = self.take(runtime).await?.bind(identity).await?;
        Ok((*self.host.bound.lock().unwrap().last().unwrap(), bound.origin))
    }

    async fn start(&self) -> Result<usize, Error> {
        Ok(self.start_as(None).await?.0)
    }

    /// Starts until one is given a runtime that waits.
    async fn until_from_runtime(&self, runtime: &Arc<Recipe>) {
        let given = async {
            while self.start_as(Some(runtime)).await.unwrap().1 != Origin::Runtime {
                // Restocking gives way to starts.
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        };
        tokio::time::timeout(PATIENCE, given).await.expect("no start was given a runtime");
    }

    async fn runtimes(&self, count: usize) {
        let started = async {
            while self.host.runtimes.started.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, started).await.expect("runtimes were never started");
    }

    async fn stock(&self, count: usize) {
        self.stock_until(|waiting| waiting == count).await;
    }

    async fn stock_until(&self, settled: impl Fn(usize) -> bool) {
        let settled = async {
            while !settled(self.host.waiting.lock().unwrap().len()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("the stock never settled");
    }
}

#[tokio::test]
async fn a_start_takes_what_was_prepared_and_another_takes_its_place() {
    let world = World::new(BUDGET);
    assert_eq!(world.start().await.unwrap(), 0);
    world.stock(1).await;
    assert_eq!((world.start().await.unwrap(), world.host.made.load(Ordering::SeqCst)), (1, 2));
    world.stock_until(|waiting| waiting > 0).await;
}

#[tokio::test]
async fn no_sandbox_is_bound_twice() {
    let world = World::new(BUDGET);
    for _ in 0..20 {
        let (a, b, c) = tokio::join!(world.start(), world.start(), world.start());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        tokio::task::yield_now().await;
    }
    let mut bound = world.host.bound.lock().unwrap().clone();
    bound.sort_unstable();
    bound.dedup();
    assert_eq!(bound.len(), 60);
}

#[tokio::test]
async fn one_that_was_lost_in_stock_is_replaced_within_the_start() {
    let world = World::new(BUDGET);
    world.start().await.unwrap();
    world.stock(1).await;
    world.host.lost.store(true, Ordering::SeqCst);
    assert_eq!(world.start().await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_in_stock_makes_way_for_a_start_that_needs_what_it_holds() {
    let world = World::new(BUDGET);
    let _ = tokio::join!(world.start(), world.start());
    world.stock(2).await;
    world.host.room.store(1, Ordering::SeqCst);
    let (one, two) = (world.take(None).await.unwrap(), world.take(None).await.unwrap());
    assert!(world.take(None).await.is_err(), "nothing is left to give way");
    drop((one, two));
    assert!(world.start().await.is_ok());
}

#[tokio::test]
async fn nothing_is_in_stock_while_memory_is_short() {
    let world = World::new(BUDGET);
    world.start().await.unwrap();
    world.stock(1).await;
    world.host.memory_is_short.store(true, Ordering::SeqCst);
    world.stock(0).await;
    assert!(world.start().await.is_ok());
}

#[tokio::test]
async fn a_pool_of_size_zero_is_the_driver() {
    let world = World::new(0);
    for expected in 0..5 {
        assert_eq!(world.start().await.unwrap(), expected);
    }
    assert_eq!(world.host.made.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn the_end_ends_what_is_in_stock() {
    let mut world = World::new(BUDGET);
    world.start().await.unwrap();
    world.stock(1).await;
    world.pools.close();
    world.stock(0).await;
    tokio::time::timeout(PATIENCE, world.running.take().unwrap()).await.unwrap().unwrap();
    assert!(world.start().await.is_ok(), "what is asked for later is made");
}

fn recipe(zone: &str) -> Arc<Recipe> {
    let environment = vec![("TZ".to_owned(), zone.to_owned())];
    Arc::new(Recipe { command: vec!["/runtime".to_owned()], environment, cost: 1 << 20 })
}

#[tokio::test]
async fn a_runtime_that_waits_is_given_to_who_would_start_the_same_one() {
    let world = World::new(BUDGET);
    let (utc, berlin) = (recipe("UTC"), recipe("Europe/Berlin"));
    assert_eq!(world.start_as(Some(&utc)).await.unwrap().1, Origin::Nothing);
    // One with a runtime in it, and one without: nobody had either.
    world.stock(2).await;
    assert_eq!(world.start_as(Some(&berlin)).await.unwrap().1, Origin::Stock, "another recipe");
    world.until_from_runtime(&utc).await;
    // One of the other recipe too, and sandboxes with nothing in them.
    world.stock_until(|waiting| waiting >= 3).await;
    assert_ne!(world.start_as(None).await.unwrap().1, Origin::Runtime, "who wants none gets none");
    world.runtimes(2).await;
    world.until_from_runtime(&berlin).await;
}

#[tokio::test]
async fn a_runtime_that_died_while_it_waited_is_replaced_and_not_handed_out() {
    let world = World::new(BUDGET);
    let utc = recipe("UTC");
    world.start_as(Some(&utc)).await.unwrap();
    world.stock(2).await;
    world.host.runtimes.ends.lock().unwrap().clear();
    world.runtimes(2).await;
    world.until_from_runtime(&utc).await;
    assert!(world.host.runtimes.started.load(Ordering::SeqCst) >= 2, "none that died was given");
}

#[tokio::test]
async fn a_runtime_that_cannot_be_started_ahead_is_tried_at_most_once_for_each_start() {
    let world = World::new(BUDGET);
    world.host.runtimes.fail.store(true, Ordering::SeqCst);
    let utc = recipe("UTC");
    let tried = || world.host.runtimes.started.load(Ordering::SeqCst);
    let mut starts = 0;
    let again = async {
        while tried() < 3 {
            starts += 1;
            assert_ne!(world.start_as(Some(&utc)).await.unwrap().1, Origin::Runtime);
            // Until it was tried, or sandboxes alone are made again because it was forgotten while that was asked for.
            world.stock_until(|waiting| waiting > 0).await;
            // One that is being tried is waiting, too.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it was never tried again");
    assert!(tried() <= starts, "{} tries for {starts} starts", tried());
}
