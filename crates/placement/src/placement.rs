//! The driver: finds or starts an environment for each call, gives memory back, shuts down what is idle too long.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use hearth_model::{
    AccountId, Architecture, BoxFuture, Clock, FunctionVersion, Functions, Invocation, Invoke, InvokeError,
    LogStreamId, Region, Response, ThrottleReason, VersionKey,
};
use hearth_worker::{Environment, EnvironmentEvents, Worker};
use tokio::sync::oneshot;

use crate::account::{Account, Permit};
use crate::pool::{Idled, Line, Member, Pool, Turn, Was};
use crate::room::{self, Idle, Request, Room};

/// Calls of one version that may wait for an environment.
const WAITING_MAX: usize = 10_000;
/// How long a call waits for an environment that has answered and is about to ask for more, before another is started.
const FINISHING_WAIT: Duration = Duration::from_millis(50);
/// Between looks for environments to shut down.
const REAP_EVERY: Duration = Duration::from_secs(1);

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
}

/// A cheap handle.
#[derive(Clone)]
pub struct Placement {
    pub(crate) inner: Arc<Inner>,
}

type VersionPool = Pool<Environment, Permit, oneshot::Sender<Turn<Environment>>>;

pub(crate) struct Inner {
    config: Config,
    worker: Worker,
    pub(crate) functions: Arc<dyn Functions>,
    clock: Arc<dyn Clock>,
    accounts: DashMap<(AccountId, Region), Arc<Account>>,
    pools: DashMap<VersionKey, Arc<Mutex<VersionPool>>>,
    memory: Mutex<Memory>,
    tickets: AtomicU64,
    draining: AtomicBool,
}

struct Memory {
    room: Room<VersionKey>,
    /// Calls that wait for memory, by ticket.
    waiting: HashMap<u64, oneshot::Sender<()>>,
}

impl Member for Environment {
    type Id = LogStreamId;

    fn id(&self) -> LogStreamId {
        Environment::id(self).clone()
    }

    fn memory(&self) -> u64 {
        self.function().memory.as_bytes()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Placement {
    pub fn new(config: Config, worker: Worker, functions: Arc<dyn Functions>, clock: Arc<dyn Clock>) -> Self {
        let memory = Memory { room: Room::new(config.memory_budget), waiting: HashMap::new() };
        let inner = Inner {
            config,
            worker,
            functions,
            clock,
            accounts: DashMap::new(),
            pools: DashMap::new(),
            memory: Mutex::new(memory),
            tickets: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        };
        Placement { inner: Arc::new(inner) }
    }

    /// Shuts down what is unused or out of date. Runs until it is dropped.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(REAP_EVERY);
        loop {
            ticks.tick().await;
            self.inner.reap(self.inner.config.idle_timeout);
        }
    }

    /// Refuses new calls and shuts every environment down, each after the call that it serves. Ready when all are gone
    /// or `deadline` has passed.
    pub async fn drain(&self, deadline: tokio::time::Instant) {
        self.inner.draining.store(true, Ordering::Release);
        while tokio::time::Instant::now() < deadline {
            self.inner.reap(Duration::ZERO);
            if self.inner.pools.iter().all(|pool| lock(&pool).is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Environments on this host, of any state.
    pub fn environments(&self) -> usize {
        self.inner.pools.iter().map(|pool| lock(&pool).environments()).sum()
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
        if self.draining.load(Ordering::Acquire) {
            return Err(InvokeError::ShuttingDown);
        }
        let function = invocation.function.clone();
        if Architecture::of_host() != Some(function.architecture) {
            return Err(InvokeError::OtherArchitecture(function.architecture.as_str()));
        }
        let permit = self.admit(&function)?;
        let pool = self.pool(&function.key);
        let arrived = lock(&pool).arrive(permit, self.clock.now());
        let turn = match arrived {
            Ok(turn) => turn,
            Err(permit) => self.clone().obtain(&pool, &function, permit).await?,
        };
        let response = turn.environment.invoke(invocation).await?;
        // The caller's share of concurrency ends with its answer; the environment is busy a moment longer.
        let permit = lock(&pool).answered(turn.environment.id(), turn.number);
        drop(permit);
        Ok(response)
    }

    fn admit(&self, function: &FunctionVersion) -> Result<Permit, InvokeError> {
        let key = (function.key.account.clone(), function.key.region.clone());
        let account = match self.accounts.get(&key) {
            Some(account) => account.clone(),
            None => self.accounts.entry(key).or_default().clone(),
        };
        account
            .admit(self.config.concurrent_executions)
            .ok_or(InvokeError::Throttled(ThrottleReason::ConcurrentInvocationLimitExceeded))
    }

    fn pool(&self, key: &VersionKey) -> Arc<Mutex<VersionPool>> {
        if let Some(pool) = self.pools.get(key) {
            return pool.clone();
        }
        self.pools.entry(key.clone()).or_insert_with(|| Arc::new(Mutex::new(Pool::new(WAITING_MAX)))).clone()
    }

    /// An environment for a call that found none idle.
    async fn obtain(
        self: Arc<Self>,
        pool: &Arc<Mutex<VersionPool>>,
        function: &Arc<FunctionVersion>,
        permit: Permit,
    ) -> Result<Turn<Environment>, InvokeError> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let permit = if lock(pool).one_is_finishing() {
            match self.stand_in_line(pool, ticket, permit, FINISHING_WAIT, std::future::pending()).await? {
                Stood::Served(turn) => return Ok(turn),
                Stood::Left(permit) => permit,
            }
        } else {
            permit
        };
        let memory = function.memory.as_bytes();
        let (granted, may_start) = oneshot::channel();
        let request = {
            let mut held = lock(&self.memory);
            let request = held.room.request(ticket, function.key.clone(), memory);
            if request == Request::Waits {
                held.waiting.insert(ticket, granted);
            }
            request
        };
        match request {
            Request::Granted => Ok(self.start(pool, function, permit)),
            Request::Never => Err(self.host_full()),
            Request::Waits => self.wait_for_memory(pool, function, permit, ticket, may_start).await,
        }
    }

    async fn wait_for_memory(
        self: Arc<Self>,
        pool: &Arc<Mutex<VersionPool>>,
        function: &Arc<FunctionVersion>,
        permit: Permit,
        ticket: u64,
        mut may_start: oneshot::Receiver<()>,
    ) -> Result<Turn<Environment>, InvokeError> {
        self.make_room();
        let granted = async {
            if (&mut may_start).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let stood = self.stand_in_line(pool, ticket, permit, self.config.wait, granted).await;
        let has_memory = {
            let mut held = lock(&self.memory);
            let waited = held.waiting.remove(&ticket).is_some();
            if waited {
                let grants = held.room.withdraw(ticket);
                grant(&mut held, grants);
            }
            !waited
        };
        match (stood, has_memory) {
            (Ok(Stood::Left(permit)), true) => Ok(self.start(pool, function, permit)),
            (Ok(Stood::Left(_)), false) => Err(self.host_full()),
            (other, has_memory) => {
                if has_memory {
                    self.give_back(function.memory.as_bytes(), false);
                }
                match other? {
                    Stood::Served(turn) => Ok(turn),
                    Stood::Left(_) => Err(self.host_full()),
                }
            }
        }
    }

    /// Waits for an idle environment, at most for `longest` or until `enough`.
    async fn stand_in_line(
        &self,
        pool: &Arc<Mutex<VersionPool>>,
        ticket: u64,
        permit: Permit,
        longest: Duration,
        enough: impl Future<Output = ()>,
    ) -> Result<Stood, InvokeError> {
        let (seat, mut served) = oneshot::channel();
        match lock(pool).wait(ticket, permit, seat) {
            Line::Assigned(turn) => return Ok(Stood::Served(turn)),
            Line::Full(..) => return Err(InvokeError::Throttled(ThrottleReason::ConcurrentInvocationLimitExceeded)),
            Line::Waits => {}
        }
        tokio::select! {
            biased;
            turn = &mut served => if let Ok(turn) = turn { return Ok(Stood::Served(turn)) },
            () = enough => {}
            () = tokio::time::sleep(longest) => {}
        }
        match lock(pool).withdraw(ticket) {
            Some(waiting) => Ok(Stood::Left(waiting.permit)),
            // It was served in this very moment.
            None => match served.try_recv() {
                Ok(turn) => Ok(Stood::Served(turn)),
                Err(_) => Err(InvokeError::Internal("a call in line was lost".into())),
            },
        }
    }

    /// The memory has been taken.
    fn start(
        self: &Arc<Self>,
        pool: &Arc<Mutex<VersionPool>>,
        function: &Arc<FunctionVersion>,
        permit: Permit,
    ) -> Turn<Environment> {
        lock(pool).start();
        let events = Arc::new(Events { placement: Arc::downgrade(self), pool: pool.clone() });
        let environment = self.worker.start(function.clone(), events);
        lock(pool).started(environment, permit).0
    }

    /// Shuts idle environments of other versions down for the calls that wait for memory.
    fn make_room(&self) {
        let shortage = lock(&self.memory).room.shortage();
        if shortage == 0 {
            return;
        }
        let idle = self.pools.iter().filter_map(|entry| {
            let pool = lock(entry.value());
            let memory = pool.idle_memory()?;
            Some(Idle { key: entry.key().clone(), last_used: pool.last_used(), count: pool.idle_count(), memory })
        });
        for (key, count) in room::give_up(idle.collect(), shortage) {
            if let Some(pool) = self.pools.get(&key) {
                let retired = lock(&pool).retire(count);
                self.shut_down(retired);
            }
        }
    }

    fn shut_down(&self, environments: Vec<Environment>) {
        for environment in environments {
            lock(&self.memory).room.leave(environment.function().memory.as_bytes());
            tokio::spawn(environment.shutdown());
        }
    }

    fn reap(&self, idle_timeout: Duration) {
        let now = self.clock.now();
        for entry in &self.pools {
            let keep = self.functions.is_current(entry.key());
            let timeout = if keep { idle_timeout } else { Duration::ZERO };
            let retired = lock(entry.value()).retire_unused(timeout, now);
            self.shut_down(retired);
        }
        // An `Arc` more than ours belongs to a call that has just looked the pool up.
        self.pools.retain(|_, pool| Arc::strong_count(pool) > 1 || !lock(pool).is_empty());
    }

    fn give_back(&self, memory: u64, was_leaving: bool) {
        let mut held = lock(&self.memory);
        let grants = held.room.release(memory, was_leaving);
        grant(&mut held, grants);
    }

    fn host_full(&self) -> InvokeError {
        InvokeError::HostFull { budget_mb: self.config.memory_budget / (1024 * 1024) }
    }
}

fn grant(held: &mut Memory, grants: Vec<room::Grant<VersionKey>>) {
    for granted in grants {
        // Who waited and went away has withdrawn: its ticket is not granted.
        if let Some(waiting) = held.waiting.remove(&granted.ticket) {
            let _ = waiting.send(());
        }
    }
}

enum Stood {
    Served(Turn<Environment>),
    Left(Permit),
}

/// What environments of one pool report.
struct Events {
    placement: Weak<Inner>,
    pool: Arc<Mutex<VersionPool>>,
}

impl EnvironmentEvents for Events {
    fn idle(&self, environment: &Environment) {
        let Some(placement) = self.placement.upgrade() else { return };
        let now = placement.clock.now();
        let keep =
            !placement.draining.load(Ordering::Acquire) && placement.functions.is_current(&environment.function().key);
        loop {
            let idled = lock(&self.pool).idle(environment.clone(), keep, now);
            match idled {
                // A caller that went away in line: the environment is idle again.
                Idled::Assign(turn, seat) => match seat.send(turn) {
                    Ok(()) => return,
                    Err(_) => continue,
                },
                Idled::Retire(environment) => return placement.shut_down(vec![environment]),
                Idled::Parked | Idled::Ignored => return,
            }
        }
    }

    fn gone(&self, environment: &Environment) {
        let was = lock(&self.pool).gone(environment.id());
        if let Some(placement) = self.placement.upgrade() {
            placement.give_back(environment.function().memory.as_bytes(), was == Some(Was::Leaving));
        }
    }
}
