//! The driver of pools, permits and memory. A call that finds an idle environment is served from here; nothing on its way
//! but the counters of account and function, a lookup and the lock of its own pool.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dashmap::DashMap;
use futures_core::Stream;
use hearth_model::{
    AcceptEvents, AccountId, Architecture, Body, BodyError, BoxFuture, Clock, FunctionName, FunctionVersion, Functions,
    Guard, Invocation, Invoke, InvokeError, LogStreamId, Region, Response, ResponseMode, VersionKey,
};
use hearth_worker::{Environment, Meter, Refused, Running, Worker};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::concurrency::{Account, Counter, Permit};
use crate::host::HostMemory;
use crate::lock;
use crate::meters::Meters;
use crate::pool::{Member, Now, Pool, Turn};
use crate::pools::Pools;
use crate::provisioned::{Found, Kept};
use crate::rate::Starts;
use crate::room::{self, Idle};

/// Calls of one version that may wait for an environment.
pub(crate) const WAITING_MAX: usize = 10_000;
/// Between looks for environments to shut down.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// Between looks for what is counted of functions that are there no more.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Between looks at what is left while draining, when nothing is heard.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct Config {
    /// Of each account and region.
    pub concurrent_executions: u32,
    /// An environment that is not used for so long is shut down.
    pub idle_timeout: Duration,
    /// Memory that environments of this host may hold together, bytes.
    pub memory_budget: u64,
    /// How long a call waits for memory.
    pub wait: Duration,
    /// Environments that may be started of one function every ten seconds.
    pub scaling_rate: u32,
}

pub struct Ports {
    pub worker: Worker,
    pub functions: Arc<dyn Functions>,
    pub events: Arc<dyn AcceptEvents>,
    pub guard: Arc<Guard>,
    pub clock: Arc<dyn Clock>,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Placement {
    pub(crate) inner: Arc<Inner>,
}

/// The environments of one function version. A seat is the way to a call in line.
pub(crate) type VersionPool = Pool<Environment, Permit, oneshot::Sender<Turn<Environment>>>;

type FunctionKey = (AccountId, Region, FunctionName);

pub(crate) struct Inner {
    pub config: Config,
    pub worker: Worker,
    pub functions: Arc<dyn Functions>,
    /// What is to run with nobody waiting.
    pub events: Arc<dyn AcceptEvents>,
    pub guard: Arc<Guard>,
    pub clock: Arc<dyn Clock>,
    pub accounts: DashMap<(AccountId, Region), Arc<Account>>,
    /// Calls that each function has, of all its versions.
    running: DashMap<FunctionKey, Arc<Counter>>,
    pub pools: Pools,
    /// What is kept initialised.
    pub kept: DashMap<VersionKey, Arc<Kept>>,
    /// What is to be kept has changed, or what is.
    pub provisions_changed: Notify,
    pub meters: Meters,
    starts: DashMap<FunctionKey, Starts>,
    pub memory: HostMemory,
    tickets: AtomicU64,
    draining: AtomicBool,
    /// An environment is gone.
    pub gone: Notify,
}

impl Member for Environment {
    type Id = LogStreamId;

    fn id(&self) -> LogStreamId {
        Environment::id(self).clone()
    }

    fn memory(&self) -> u64 {
        self.function().memory.as_bytes()
    }

    fn usable_until(&self) -> SystemTime {
        Environment::usable_until(self)
    }
}

impl Placement {
    pub fn new(config: Config, ports: Ports) -> Self {
        let Ports { worker, functions, events, guard, clock } = ports;
        let inner = Inner {
            memory: HostMemory::new(config.memory_budget),
            config,
            worker,
            functions,
            events,
            guard,
            clock,
            accounts: DashMap::new(),
            running: DashMap::new(),
            pools: Pools::default(),
            kept: DashMap::new(),
            provisions_changed: Notify::new(),
            meters: Meters::default(),
            starts: DashMap::new(),
            tickets: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            gone: Notify::new(),
        };
        Placement { inner: Arc::new(inner) }
    }

    /// Keeps what is provisioned, and shuts down what is unused or out of date. Runs until it is dropped.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(REAP_EVERY);
        let mut sweeps = tokio::time::interval(FORGET_EVERY);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.inner.reap(self.inner.config.idle_timeout),
                _ = sweeps.tick() => self.inner.forget_meters(),
                () = self.inner.provisions_changed.notified() => {}
            }
            self.inner.provision();
        }
    }

    /// Refuses new calls and shuts every environment down, each after the call that it serves. Ready when all are gone
    /// or `deadline` has passed; what is left then is the worker's to end.
    pub async fn drain(&self, deadline: Instant) {
        self.inner.draining.store(true, Ordering::Release);
        while Instant::now() < deadline {
            let gone = self.inner.gone.notified();
            self.inner.reap(Duration::ZERO);
            self.inner.give_up_kept();
            if self.environments() == 0 {
                return;
            }
            let _ = tokio::time::timeout(DRAIN_LOOK.min(deadline - Instant::now()), gone).await;
        }
    }

    /// Environments on this host, of any state.
    pub fn environments(&self) -> usize {
        let on_demand: usize = self.inner.pools.map(|_, pool| lock(pool).environments()).into_iter().sum();
        let provisioned: usize = self.inner.kept.iter().map(|kept| lock(&kept.pool).environments()).sum();
        on_demand + provisioned
    }
}

impl Invoke for Placement {
    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Response, InvokeError>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.invoke(invocation).await })
    }
}

impl Inner {
    async fn invoke(self: Arc<Self>, invocation: Invocation) -> Result<Response, InvokeError> {
        if self.is_draining() {
            return Err(InvokeError::ShuttingDown);
        }
        let meter = self.meters.of(&invocation.invoked_arn);
        let ran = self.place(invocation, &meter).await;
        if let Err(InvokeError::Throttled(_) | InvokeError::HostFull { .. }) = ran {
            meter.throttled();
        }
        ran
    }

    async fn place(self: Arc<Self>, invocation: Invocation, meter: &Arc<Meter>) -> Result<Response, InvokeError> {
        let function = &invocation.function;
        if let Some(last_used) = &function.last_used {
            last_used.note(self.clock.wall());
        }
        function.admits(invocation.tenant.as_ref())?;
        if Architecture::of_host() != Some(function.architecture) {
            return Err(InvokeError::OtherArchitecture(function.architecture.as_str()));
        }
        let invocation = match self.find_kept(function).await {
            Found::NotKept => invocation,
            Found::NoneFree => {
                meter.spilled();
                invocation
            }
            Found::Free(kept, turn) => match serve(&kept.pool, turn, invocation, meter).await {
                Ok(response) => return Ok(response),
                Err(Unserved { error: InvokeError::Internal(_), invocation: Some(invocation), .. }) => invocation,
                Err(unserved) => return Err(unserved.error),
            },
        };
        let function = &invocation.function;
        let permit = self.admit(function)?;
        let pool = self.pools.get(&function.key, invocation.tenant.as_ref());
        let arrived = lock(&pool).arrive(permit, self.now());
        // What may start an environment has a task of its own: a caller that goes away leaves nothing half done.
        let cold = match arrived {
            Ok(turn) => match serve(&pool, turn, invocation, meter).await {
                Ok(response) => return Ok(response),
                Err(unserved) => tokio::spawn(self.again(unserved, meter.clone())),
            },
            Err(permit) => tokio::spawn(self.cold(pool, invocation, permit, meter.clone())),
        };
        cold.await.unwrap_or_else(|e| Err(InvokeError::Internal(e.to_string().into())))
    }

    pub fn admit(&self, function: &FunctionVersion) -> Result<Permit, InvokeError> {
        let VersionKey { account, region, name, .. } = &function.key;
        let account = shared(&self.accounts, (account.clone(), region.clone()));
        let running = shared(&self.running, (function.key.account.clone(), region.clone(), name.clone()));
        let reservation = self.functions.reservation(&function.key);
        let permit = account.admit(&running, reservation, self.config.concurrent_executions);
        permit.map(|permit| permit.of(function)).map_err(InvokeError::Throttled)
    }

    pub fn now(&self) -> Now {
        Now { steady: self.clock.now(), wall: self.clock.wall() }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Tells one waiting call from another.
    pub fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes one start of this function, if its rate allows it.
    pub fn may_start(&self, function: &FunctionVersion) -> bool {
        let VersionKey { account, region, name, .. } = &function.key;
        let key = (account.clone(), region.clone(), name.clone());
        self.starts.entry(key).or_default().take(self.config.scaling_rate, self.clock.now())
    }

    /// Shuts idle environments of other versions down for the calls that wait for memory.
    pub fn make_room(&self) {
        let shortage = self.memory.shortage();
        if shortage == 0 {
            return;
        }
        let idle = self.pools.map(|_, shared| {
            let pool = lock(shared);
            let memory = pool.idle_memory()?;
            Some(Idle { key: shared.clone(), last_used: pool.last_used(), count: pool.idle_count(), memory })
        });
        for (pool, count) in room::give_up(idle.into_iter().flatten().collect(), shortage) {
            let retired = lock(&pool).retire(count);
            self.shut_down(retired);
        }
    }

    /// Of environments that were taken out of service.
    pub fn shut_down(&self, environments: Vec<Environment>) {
        for environment in environments {
            self.memory.leave(environment.memory());
            tokio::spawn(environment.shutdown());
        }
    }

    /// Shuts down what was idle for `idle_timeout`, and at once what is out of date.
    pub(crate) fn reap(&self, idle_timeout: Duration) {
        let now = self.now();
        let unused = self.pools.map(|version, pool| {
            let timeout = if self.functions.is_current(version) { idle_timeout } else { Duration::ZERO };
            lock(pool).retire_unused(timeout, now)
        });
        unused.into_iter().for_each(|environments| self.shut_down(environments));
        self.pools.forget_empty();
        self.starts.retain(|_, starts| !starts.is_fresh(now.steady));
        self.running.retain(|_, running| Arc::strong_count(running) > 1 || running.count() > 0);
    }
}

/// The value of a key, made when there is none. Most calls find it under a shared lock.
fn shared<K: Eq + std::hash::Hash, V: Default>(map: &DashMap<K, Arc<V>>, key: K) -> Arc<V> {
    match map.get(&key) {
        Some(found) => found.clone(),
        None => map.entry(key).or_default().clone(),
    }
}

#[cfg(test)]
impl Inner {
    pub(crate) fn idle(&self) -> usize {
        self.pools.map(|_, pool| lock(pool).idle_count()).into_iter().sum()
    }

    pub(crate) fn running(&self) -> u32 {
        self.accounts.iter().map(|account| account.running()).sum()
    }
}

/// A call that did not reach its function, and why.
pub(crate) struct Unserved {
    pub error: InvokeError,
    /// For another try, when an environment had it.
    pub invocation: Option<Invocation>,
    /// Unless the environment's end has given it back.
    pub permit: Option<Permit>,
}

impl From<InvokeError> for Unserved {
    fn from(error: InvokeError) -> Self {
        Unserved { error, invocation: None, permit: None }
    }
}

/// Gives a call to the environment whose turn it has. Once this is polled the invocation is on its way, whether or not
/// the answer is waited for.
pub(crate) async fn serve(
    pool: &Arc<Mutex<VersionPool>>,
    turn: Turn<Environment>,
    invocation: Invocation,
    meter: &Arc<Meter>,
) -> Result<Response, Unserved> {
    let mode = invocation.mode;
    match (turn.environment.invoke(invocation, Running::of(meter)).await, mode) {
        (Ok(response), ResponseMode::Buffered) => {
            drop(answered(pool, &turn));
            Ok(response)
        }
        (Ok(Response { head, body, outcome }), ResponseMode::Streamed) => {
            let body = Box::pin(Answering { body, answered: Some((pool.clone(), turn)) });
            Ok(Response { head, body, outcome })
        }
        (Err(Refused { error, invocation }), _) => {
            let permit = answered(pool, &turn);
            Err(Unserved { error, invocation, permit })
        }
    }
}

/// The caller's share of concurrency ends with its answer; the environment is busy a moment longer.
fn answered(pool: &Mutex<VersionPool>, turn: &Turn<Environment>) -> Option<Permit> {
    lock(pool).answered(turn.environment.id(), turn.number)
}

/// A body at whose end its caller has its answer. One that is not read to its end holds its share as long as the
/// invocation runs.
struct Answering {
    body: Body,
    answered: Option<(Arc<Mutex<VersionPool>>, Turn<Environment>)>,
}

impl Stream for Answering {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = std::task::ready!(self.body.as_mut().poll_next(cx));
        if !matches!(piece, Some(Ok(_)))
            && let Some((pool, turn)) = self.answered.take()
        {
            drop(answered(&pool, &turn));
        }
        Poll::Ready(piece)
    }
}
