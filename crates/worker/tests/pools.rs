//! Pools in front of a driver whose sandboxes are numbers.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_model::{BoxFuture, CodeTree, Memory, Root, SystemClock};
use hearth_sandbox::{
    Class, Command, Driver, Error, Identity, Prepared, Process, Promise, Sandbox, Signal, Tunnel, Usage,
};
use hearth_worker::{HostMemory, Pools};

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

    async fn prepare(&self) -> Result<Box<dyn Prepared>, Error> {
        let root = Arc::new(Root { skeleton: "/".into(), binds: Vec::new(), whole: false });
        self.pools.prepare(Class { root, ephemeral_storage: Memory::mib(512), listeners: Vec::new() }).await
    }

    /// Which sandbox a start got.
    async fn start(&self) -> Result<usize, Error> {
        let code = CodeTree { path: "/".into(), lease: Arc::new(()) };
        self.prepare().await?.bind(Identity { memory: Memory::mib(128), code: Some(code), opt: None }).await?;
        Ok(*self.host.bound.lock().unwrap().last().unwrap())
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
    let (one, two) = (world.prepare().await.unwrap(), world.prepare().await.unwrap());
    assert!(world.prepare().await.is_err(), "nothing is left to give way");
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
