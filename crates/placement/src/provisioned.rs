//! Environments that are kept initialised, whether calls come or not (spec 8.4): the driver of their ledgers. Calls find
//! them before any other; one that finds none free is served on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_model::{
    FunctionArn, FunctionVersion, Initialization, LogStreamId, Provision, Provisioned, Provisioning, VersionKey,
};
use hearth_worker::{Environment, Start};

use crate::concurrency::Permit;
use crate::events::Events;
use crate::host::Asked;
use crate::ledger::{Ledger, Plan};
use crate::lock;
use crate::placement::{Inner, Placement, VersionPool, WAITING_MAX};
use crate::pool::Turn;

/// As AWS says that a function did not initialise (recorded).
const INIT_FAILURE: &str = "FUNCTION_ERROR_INIT_FAILURE";

/// What is kept of one version.
pub(crate) struct Kept {
    pub pool: Arc<Mutex<VersionPool>>,
    function: Arc<FunctionVersion>,
    /// The decision that the ledger follows.
    decision: Mutex<String>,
    ledger: Mutex<Ledger<LogStreamId>>,
}

/// What there is for a call among what is kept.
pub(crate) enum Found {
    NotKept,
    NoneFree,
    Free(Arc<Kept>, Turn<Environment>),
}

impl Kept {
    pub fn arn(&self) -> FunctionArn {
        self.function.arn()
    }

    /// Environments that are initialised.
    pub fn ready(&self) -> u32 {
        lock(&self.ledger).ready() as u32
    }

    fn new(function: &Arc<FunctionVersion>) -> Arc<Self> {
        let pool = Arc::new(Mutex::new(VersionPool::new(WAITING_MAX)));
        let (decision, ledger) = (Mutex::default(), Mutex::default());
        Arc::new(Kept { pool, function: function.clone(), decision, ledger })
    }

    /// An environment has become idle. Whether it is kept.
    pub fn keeps(&self, environment: &Environment, placement: &Inner) -> bool {
        let mut ledger = lock(&self.ledger);
        if !environment.is_initialised() {
            return false;
        }
        if ledger.initialised(environment.id()) {
            // The next one has its turn.
            placement.provisions_changed.notify_one();
        }
        ledger.keeps_one_more()
    }

    /// An environment is shut down, or gone.
    pub fn ended(&self, environment: &Environment, placement: &Inner) {
        let reason = || environment.loss().map_or_else(|| INIT_FAILURE.to_owned(), |loss| loss.to_string());
        lock(&self.ledger).ended(environment.id(), placement.now().steady, reason);
        placement.provisions_changed.notify_one();
    }
}

impl Provisioning for Placement {
    fn observe(&self, key: &VersionKey) -> Provisioned {
        let Some(kept) = self.inner.kept.get(key) else { return Provisioned::default() };
        let ledger = lock(&kept.ledger);
        Provisioned { ready: ledger.ready() as u32, failure: ledger.failure().map(str::to_owned) }
    }

    fn changed(&self) {
        self.inner.provisions_changed.notify_one();
    }
}

impl Inner {
    /// An initialised environment for a call: one that is free, or is about to be.
    pub async fn find_kept(&self, function: &Arc<FunctionVersion>) -> Found {
        let Some(kept) = self.kept.get(&function.key).map(|kept| kept.clone()) else { return Found::NotKept };
        let arrived = lock(&kept.pool).arrive(Permit::provisioned().of(function), self.now());
        let turn = match arrived {
            Ok(turn) => turn,
            Err(permit) => match self.finishing(&kept.pool, function, permit).await {
                Some(turn) => turn,
                None => return Found::NoneFree,
            },
        };
        Found::Free(kept, turn)
    }

    /// One step from what there is towards what is wanted. Idempotent.
    pub fn provision(self: &Arc<Self>) {
        if self.is_draining() {
            return;
        }
        let wanted = self.functions.provisions();
        let wanted: HashMap<&VersionKey, &Provision> = wanted.iter().map(|one| (&one.function.key, one)).collect();
        for (key, provision) in &wanted {
            let kept = self.kept.entry((*key).clone()).or_insert_with(|| Kept::new(&provision.function));
            let anew = std::mem::replace(&mut *lock(&kept.decision), provision.decision.clone()) != provision.decision;
            lock(&kept.ledger).want(provision.count as usize, anew);
        }
        let all: Vec<Arc<Kept>> = self.kept.iter().map(|kept| kept.clone()).collect();
        for kept in &all {
            let key = &kept.function.key;
            // An alias that has moved on: the old version's go when the new one's are there.
            let awaits_successor = || {
                wanted.keys().any(|other| {
                    let same = (&other.account, &other.region, &other.name) == (&key.account, &key.region, &key.name);
                    same && !all.iter().any(|kept| kept.function.key == **other && lock(&kept.ledger).is_ready())
                })
            };
            let provision = wanted.get(key);
            if provision.is_none() && !awaits_successor() {
                lock(&kept.ledger).want(0, true);
            }
            if provision.is_none_or(|provision| provision.is_awake) {
                self.fill(kept);
            }
        }
        self.kept.retain(|key, kept| wanted.contains_key(key) || !lock(&kept.pool).is_empty());
    }

    fn fill(self: &Arc<Self>, kept: &Arc<Kept>) {
        let now = self.now();
        // Those whose credentials end are replaced.
        let over = lock(&kept.pool).retire_unused(Duration::MAX, now);
        self.dismiss(kept, over);
        let plan = lock(&kept.ledger).plan(now.steady);
        match plan {
            Plan::Retire(count) => {
                let retired = lock(&kept.pool).retire(count);
                self.dismiss(kept, retired);
            }
            Plan::Start(count) => {
                for _ in 0..count {
                    if !self.begin(kept) {
                        break;
                    }
                }
            }
        }
    }

    /// Starts one, if there is memory; where others must give it up first, the next step finds it.
    fn begin(self: &Arc<Self>, kept: &Arc<Kept>) -> bool {
        let (ticket, memory) = (self.ticket(), kept.function.memory.as_bytes());
        let granted = match self.memory.request(ticket, memory) {
            Asked::Granted => true,
            Asked::Waits(_) => {
                self.make_room();
                self.memory.withdraw(ticket)
            }
            Asked::Never => {
                lock(&kept.ledger).failed(self.now().steady, self.host_full().to_string());
                false
            }
        };
        if granted {
            let (events, function) = (Arc::new(Events::of_kept(self, kept.clone())), kept.function.clone());
            // Ledger and pool know it before it can say anything.
            let (mut ledger, mut pool) = (lock(&kept.ledger), lock(&kept.pool));
            pool.start();
            let initialization = Initialization::Provisioned;
            let environment = self.worker.start(Start { function, initialization, asked: None, events });
            ledger.begun(environment.id().clone());
            // No call's turn: it is busy with its init.
            pool.started(environment, Permit::provisioned());
        }
        granted
    }

    fn dismiss(&self, kept: &Kept, environments: Vec<Environment>) {
        environments.iter().for_each(|environment| kept.ended(environment, self));
        self.shut_down(environments);
    }

    /// Everything that is free is shut down, for good.
    pub fn give_up_kept(&self) {
        for kept in self.kept.iter() {
            lock(&kept.ledger).want(0, true);
            let retired = lock(&kept.pool).retire(usize::MAX);
            self.dismiss(&kept, retired);
        }
    }
}
