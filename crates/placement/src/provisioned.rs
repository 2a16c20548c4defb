//! Environments that are kept initialised, whether calls come or not (spec 8.4): the driver of their ledgers. Calls find
//! them before any other; one that finds none free is served on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hearth_model::{FunctionVersion, Initialization, LogStreamId, Provision, Provisioned, Provisioning, VersionKey};
use hearth_worker::{Environment, Start};

use crate::concurrency::Permit;
use crate::events::Events;
use crate::host::Asked;
use crate::ledger::{Ledger, Plan};
use crate::lock;
use crate::placement::{Inner, Placement, VersionPool};
use crate::pool::Turn;

/// As AWS says that a function did not initialise (recorded).
const INIT_FAILURE: &str = "FUNCTION_ERROR_INIT_FAILURE";

/// What is kept of one version.
pub(crate) struct Stock {
    pub pool: Arc<Mutex<VersionPool>>,
    function: Arc<FunctionVersion>,
    /// The decision that the ledger follows.
    decision: Mutex<String>,
    ledger: Mutex<Ledger<LogStreamId>>,
}

impl Stock {
    /// An environment has become idle. Whether it is kept.
    pub fn keeps(&self, environment: &Environment) -> bool {
        let mut ledger = lock(&self.ledger);
        if !environment.is_initialised() {
            return false;
        }
        ledger.initialised(environment.id());
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
        let Some(stock) = self.inner.stocks.get(key) else { return Provisioned::default() };
        let ledger = lock(&stock.ledger);
        Provisioned { ready: ledger.ready() as u32, failure: ledger.failure().map(str::to_owned) }
    }

    fn changed(&self) {
        self.inner.provisions_changed.notify_one();
    }
}

impl Inner {
    /// An initialised environment for a call, if the version has one that is free, or is about to be.
    pub async fn stocked(&self, function: &Arc<FunctionVersion>) -> Option<(Arc<Stock>, Turn<Environment>)> {
        let stock = self.stocks.get(&function.key)?.clone();
        let arrived = lock(&stock.pool).arrive(Permit::provisioned(), self.now());
        let turn = match arrived {
            Ok(turn) => turn,
            Err(permit) => self.finishing(&stock.pool, function, permit).await?,
        };
        Some((stock, turn))
    }

    /// One step from what there is towards what is wanted. Idempotent.
    pub fn provision(self: &Arc<Self>) {
        if self.is_draining() {
            return;
        }
        let wanted = self.functions.provisions();
        let wanted: HashMap<&VersionKey, &Provision> = wanted.iter().map(|one| (&one.function.key, one)).collect();
        for (key, provision) in &wanted {
            let stock = self.stocks.entry((*key).clone()).or_insert_with(|| self.stock(&provision.function));
            let anew = std::mem::replace(&mut *lock(&stock.decision), provision.decision.clone()) != provision.decision;
            lock(&stock.ledger).want(provision.count as usize, anew);
        }
        let stocks: Vec<Arc<Stock>> = self.stocks.iter().map(|stock| stock.clone()).collect();
        for stock in &stocks {
            let key = &stock.function.key;
            // An alias that has moved on: the old version's go when the new one's are there.
            let awaits_successor = wanted.iter().any(|(other, _)| {
                let same = (&other.account, &other.region, &other.name) == (&key.account, &key.region, &key.name);
                same && !stocks.iter().any(|stock| stock.function.key == **other && lock(&stock.ledger).is_ready())
            });
            if !wanted.contains_key(key) && !awaits_successor {
                lock(&stock.ledger).want(0, true);
            }
            self.fill(stock);
        }
        self.stocks.retain(|key, stock| wanted.contains_key(key) || !lock(&stock.pool).is_empty());
    }

    fn stock(&self, function: &Arc<FunctionVersion>) -> Arc<Stock> {
        let pool = Arc::new(Mutex::new(VersionPool::new(crate::placement::WAITING_MAX)));
        let (decision, ledger) = (Mutex::default(), Mutex::default());
        Arc::new(Stock { pool, function: function.clone(), decision, ledger })
    }

    fn fill(self: &Arc<Self>, stock: &Arc<Stock>) {
        let now = self.now();
        // Those whose credentials end are replaced.
        let over = lock(&stock.pool).retire_unused(Duration::MAX, now);
        self.dismiss(stock, over);
        let plan = lock(&stock.ledger).plan(now.steady);
        match plan {
            Plan::Retire(count) => {
                let retired = lock(&stock.pool).retire(count);
                self.dismiss(stock, retired);
            }
            Plan::Start(count) => {
                for _ in 0..count {
                    if !self.begin(stock) {
                        break;
                    }
                }
            }
        }
    }

    /// Starts one, if there is memory; where others must give it up first, the next step finds it.
    fn begin(self: &Arc<Self>, stock: &Arc<Stock>) -> bool {
        let (ticket, memory) = (self.ticket(), stock.function.memory.as_bytes());
        let granted = match self.memory.request(ticket, memory) {
            Asked::Granted => true,
            Asked::Waits(_) => {
                self.make_room();
                self.memory.withdraw(ticket)
            }
            Asked::Never => {
                lock(&stock.ledger).failed(self.now().steady, self.host_full().to_string());
                false
            }
        };
        if granted {
            let (events, function) = (Arc::new(Events::of_stock(self, stock.clone())), stock.function.clone());
            // Ledger and pool know it before it can say anything.
            let (mut ledger, mut pool) = (lock(&stock.ledger), lock(&stock.pool));
            pool.start();
            let initialization = Initialization::Provisioned;
            let environment = self.worker.start(Start { function, initialization, events });
            ledger.begun(environment.id().clone());
            // No call's turn: it is busy with its init.
            pool.started(environment, Permit::provisioned());
        }
        granted
    }

    fn dismiss(&self, stock: &Stock, environments: Vec<Environment>) {
        environments.iter().for_each(|environment| stock.ended(environment, self));
        self.shut_down(environments);
    }

    /// Everything that is free is shut down, for good.
    pub fn give_up_stocks(&self) {
        for stock in self.stocks.iter() {
            lock(&stock.ledger).want(0, true);
            let retired = lock(&stock.pool).retire(usize::MAX);
            self.dismiss(&stock, retired);
        }
    }
}
