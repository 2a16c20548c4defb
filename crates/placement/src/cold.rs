//! A call that found no idle environment: it waits for one that is about to be free, or starts another, for which there
//! must be memory.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hearth_model::{
    FunctionArn, FunctionVersion, Initialization, Invocation, InvokeError, Response, ThrottleReason, Version,
};
use hearth_worker::{Environment, Meter, Start};
use tokio::sync::oneshot;

use crate::concurrency::Permit;
use crate::events::Events;
use crate::host::{Asked, Granted};
use crate::lock;
use crate::placement::{Inner, Unserved, VersionPool, serve};
use crate::pool::{Line, Turn};

/// How long a call waits for an environment that has answered and is about to ask for more, before another is started.
const FINISHING_WAIT: Duration = Duration::from_millis(50);

/// How waiting for an environment ended.
enum Stood {
    Served(Turn<Environment>),
    Left(Permit),
}

/// Whose environment is wanted.
struct Wanted {
    pool: Arc<Mutex<VersionPool>>,
    function: Arc<FunctionVersion>,
    ticket: u64,
    /// When the call began to look for an environment.
    since: Instant,
}

impl Inner {
    pub async fn cold(
        self: Arc<Self>,
        pool: Arc<Mutex<VersionPool>>,
        invocation: Invocation,
        permit: Permit,
        meter: Arc<Meter>,
    ) -> Result<Response, InvokeError> {
        match self.attempt(&pool, invocation, permit, &meter).await {
            Ok(response) => Ok(response),
            Err(unserved) => self.again(unserved, meter).await,
        }
    }

    /// Once more, in another environment, when the first one was lost before the invocation reached it.
    pub async fn again(self: Arc<Self>, unserved: Unserved, meter: Arc<Meter>) -> Result<Response, InvokeError> {
        let Unserved { error: InvokeError::Internal(reason), invocation: Some(invocation), permit } = unserved else {
            return Err(unserved.error);
        };
        tracing::warn!(request_id = %invocation.request_id, %reason, "an environment was lost; another is tried");
        let permit = match permit {
            Some(permit) => permit,
            None => self.admit(&invocation.function)?,
        };
        let invocation = self.renewed(invocation);
        let pool = self.pools.get(&invocation.function.key, invocation.tenant.as_ref());
        self.attempt(&pool, invocation, permit, &meter).await.map_err(|unserved| unserved.error)
    }

    /// What is called may have been updated since it was found, and the code of before be gone.
    fn renewed(&self, invocation: Invocation) -> Invocation {
        let key = &invocation.function.key;
        if key.version != Version::Latest || self.functions.is_current(key) {
            return invocation;
        }
        let (account, region, name) = (key.account.clone(), key.region.clone(), key.name.clone());
        let found = self.functions.find(&FunctionArn { account, region, name, qualifier: None });
        match found.and_then(|target| target.primary) {
            Ok(function) => Invocation { function, ..invocation },
            Err(_) => invocation,
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        pool: &Arc<Mutex<VersionPool>>,
        invocation: Invocation,
        permit: Permit,
        meter: &Arc<Meter>,
    ) -> Result<Response, Unserved> {
        let wanted = Wanted {
            pool: pool.clone(),
            function: invocation.function.clone(),
            ticket: self.ticket(),
            since: self.clock.now(),
        };
        let turn = self.obtain(&wanted, permit).await?;
        serve(pool, turn, invocation, meter).await
    }

    async fn obtain(self: &Arc<Self>, wanted: &Wanted, permit: Permit) -> Result<Turn<Environment>, InvokeError> {
        let is_at_hand = lock(&wanted.pool).one_is_at_hand();
        let permit = if is_at_hand {
            match wanted.stand_in_line(self, permit, FINISHING_WAIT, std::future::pending()).await? {
                Stood::Served(turn) => return Ok(turn),
                Stood::Left(permit) => permit,
            }
        } else {
            permit
        };
        match self.memory.request(wanted.ticket, wanted.function.memory.as_bytes()) {
            Asked::Granted => self.start(wanted, permit),
            Asked::Waits(granted) => self.wait_for_memory(wanted, permit, granted).await,
            Asked::Never => Err(self.host_full()),
        }
    }

    /// Until there is memory, or an environment of the same version is free.
    async fn wait_for_memory(
        self: &Arc<Self>,
        wanted: &Wanted,
        permit: Permit,
        granted: Granted,
    ) -> Result<Turn<Environment>, InvokeError> {
        self.make_room();
        let granted = async {
            if granted.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let stood = wanted.stand_in_line(self, permit, self.config.wait, granted).await;
        match (stood, self.memory.withdraw(wanted.ticket)) {
            (Ok(Stood::Left(permit)), true) => self.start(wanted, permit),
            (Ok(Stood::Left(_)), false) => Err(self.host_full()),
            (Ok(Stood::Served(turn)), has_memory) => {
                self.give_up_memory(wanted, has_memory);
                Ok(turn)
            }
            (Err(error), has_memory) => {
                self.give_up_memory(wanted, has_memory);
                Err(error)
            }
        }
    }

    fn give_up_memory(&self, wanted: &Wanted, has_memory: bool) {
        if has_memory {
            self.memory.release(wanted.function.memory.as_bytes(), false);
        }
    }

    /// The memory has been taken; the environment gives it back when it is gone. Only a call that would start one is
    /// measured against the rate: whoever was served while it waited has cost nothing.
    fn start(self: &Arc<Self>, wanted: &Wanted, permit: Permit) -> Result<Turn<Environment>, InvokeError> {
        if !self.may_start(&wanted.function) {
            self.give_up_memory(wanted, true);
            return Err(throttled());
        }
        lock(&wanted.pool).start();
        let events = Arc::new(Events::new(self, wanted.pool.clone()));
        let function = wanted.function.clone();
        let (initialization, asked) = (Initialization::OnDemand, Some(wanted.since));
        let environment = self.worker.start(Start { function, initialization, asked, events });
        Ok(lock(&wanted.pool).started(environment, permit))
    }

    /// An environment of the pool that has answered and is about to ask for more, if there is one.
    pub async fn finishing(
        &self,
        pool: &Arc<Mutex<VersionPool>>,
        function: &Arc<FunctionVersion>,
        permit: Permit,
    ) -> Option<Turn<Environment>> {
        if !lock(pool).one_is_at_hand() {
            return None;
        }
        let wanted =
            Wanted { pool: pool.clone(), function: function.clone(), ticket: self.ticket(), since: self.clock.now() };
        match wanted.stand_in_line(self, permit, FINISHING_WAIT, std::future::pending()).await {
            Ok(Stood::Served(turn)) => Some(turn),
            Ok(Stood::Left(_)) | Err(_) => None,
        }
    }

    pub fn host_full(&self) -> InvokeError {
        InvokeError::HostFull { budget_mb: self.config.memory_budget / (1024 * 1024) }
    }
}

impl Wanted {
    /// Waits for an idle environment, at most for `longest` or until `enough`.
    async fn stand_in_line(
        &self,
        placement: &Inner,
        permit: Permit,
        longest: Duration,
        enough: impl Future<Output = ()>,
    ) -> Result<Stood, InvokeError> {
        let (seat, mut served) = oneshot::channel();
        match lock(&self.pool).wait(self.ticket, permit, seat, placement.now()) {
            Line::Assigned(turn) => return Ok(Stood::Served(turn)),
            Line::Full(..) => return Err(throttled()),
            Line::Waits => {}
        }
        tokio::select! {
            biased;
            turn = &mut served => if let Ok(turn) = turn { return Ok(Stood::Served(turn)) },
            () = enough => {}
            () = tokio::time::sleep(longest) => {}
        }
        match lock(&self.pool).withdraw(self.ticket) {
            Some(waiting) => Ok(Stood::Left(waiting.permit)),
            // It was served in this very moment.
            None => match served.try_recv() {
                Ok(turn) => Ok(Stood::Served(turn)),
                Err(_) => Err(InvokeError::Internal("a call in line was lost".into())),
            },
        }
    }
}

fn throttled() -> InvokeError {
    InvokeError::Throttled(ThrottleReason::ConcurrentInvocationLimitExceeded)
}
