//! Sandboxes kept ahead of need: with nothing of a runtime in them, or with a runtime that waits to be told whose it is.
//! What is asked for is given from stock where there is some of its kind, else made; which is kept, and how many, `stock`
//! decides.
//!
//! What is in stock is nobody's: it holds nothing of any function, and is bound once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hearth_model::Clock;
use hearth_sandbox::{Class, Driver, Error, Identity, Prepared, Sandbox};
use tokio::sync::Notify;

use crate::ahead::Recipe;
use crate::parked::Parked;
use crate::stock::{LOOK_EVERY, Next, Plan, Stock};

/// Memory of the host that a prepared sandbox holds, bytes, rounded up: two small processes and what the kernel keeps of
/// namespaces, control groups and mounts.
const COST: u64 = 1 << 20;
/// Sandboxes in stock on one host. Each also holds two host uids, a loop device and a few descriptors.
const KEPT_MAX: usize = 64;

/// The host's memory, as a port.
pub trait HostMemory: Send + Sync + 'static {
    /// Whether others need what could be done without.
    fn is_short(&self) -> bool;
}

/// As `/proc/meminfo` tells it: less than one part in twenty can be had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meminfo;

impl HostMemory for Meminfo {
    fn is_short(&self) -> bool {
        std::fs::read_to_string("/proc/meminfo").is_ok_and(|text| is_short(&text))
    }
}

fn is_short(meminfo: &str) -> bool {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    kib("MemAvailable").zip(kib("MemTotal")).is_some_and(|(available, total)| available < total / 20)
}

/// A cheap handle.
#[derive(Clone)]
pub struct Pools {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Arc<dyn Driver>,
    clock: Arc<dyn Clock>,
    memory: Arc<dyn HostMemory>,
    stock: Mutex<Stock<Kind, Kept>>,
    /// Something was taken, or it is the end.
    wake: Notify,
}

/// What is interchangeable in stock.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    class: Class,
    /// Of the runtime that waits in it.
    runtime: Option<Arc<Recipe>>,
}

impl Kind {
    fn cost(&self) -> u64 {
        COST + self.runtime.as_ref().map_or(0, |recipe| recipe.cost)
    }
}

/// One in stock.
struct Kept {
    prepared: Box<dyn Prepared>,
    parked: Option<Parked>,
}

/// What a start was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A sandbox with a runtime that waits.
    Runtime,
    /// A sandbox from stock.
    Stock,
    /// Made for it.
    Nothing,
}

impl Origin {
    pub const ALL: [Origin; 3] = [Origin::Runtime, Origin::Stock, Origin::Nothing];

    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Runtime => "runtime",
            Origin::Stock => "sandbox",
            Origin::Nothing => "nothing",
        }
    }
}

impl Pools {
    /// Keeps as many as fit into `budget` bytes: with 0 none.
    pub fn new(budget: u64, driver: Arc<dyn Driver>, clock: Arc<dyn Clock>, memory: Arc<dyn HostMemory>) -> Self {
        let stock = Mutex::new(Stock::new(KEPT_MAX, budget));
        Pools { inner: Arc::new(Inner { driver, clock, memory, stock, wake: Notify::new() }) }
    }

    /// Restocks, until it is closed.
    pub async fn run(self) {
        let Inner { clock, memory, wake, .. } = &*self.inner;
        let (mut looked_at, mut is_short) = (None::<Instant>, false);
        loop {
            let now = clock.now();
            if looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY) {
                (looked_at, is_short) = (Some(now), memory.is_short());
                drop(self.inner.weed());
            }
            let Plan { surplus, next } = self.inner.stock().plan(now, is_short);
            drop(surplus);
            match next {
                Next::Make(kind) => self.inner.restock(kind).await,
                Next::LookAt(at) => {
                    let _ = tokio::time::timeout_at(at.into(), wake.notified()).await;
                }
                Next::Rest => wake.notified().await,
                Next::End => return,
            }
        }
    }

    /// Ends what is in stock. What is asked for later is made.
    pub fn close(&self) {
        let surplus = self.inner.stock().close();
        drop(surplus);
        self.inner.wake.notify_one();
    }

    /// Whether runtimes can be started ahead of need on this host.
    pub fn starts_ahead(&self) -> bool {
        self.inner.driver.starts_ahead()
    }

    /// A sandbox of this class; with a runtime in it, where one is asked for and waits.
    pub async fn take(&self, class: Class, runtime: Option<Arc<Recipe>>) -> Result<Taken, Error> {
        let inner = &self.inner;
        let kept = if class.root.whole {
            // A whole root may leave the cache while nobody's environment lives in it: what is in stock holds no lease.
            None
        } else {
            let kept = inner.take(&class, runtime);
            inner.wake.notify_one();
            kept
        };
        let kept = match kept {
            Some(kept) => Ok(kept),
            None => Err(inner.make(class.clone()).await?),
        };
        Ok(Taken { kept, class, pools: inner.clone() })
    }
}

impl Inner {
    fn stock(&self) -> MutexGuard<'_, Stock<Kind, Kept>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From stock. What only a sandbox was found for is asked for as both: it may be so again.
    fn take(&self, class: &Class, runtime: Option<Arc<Recipe>>) -> Option<Kept> {
        let now = self.clock.now();
        let take = |runtime| {
            let kind = Kind { class: class.clone(), runtime };
            self.stock().take(&kind, kind.cost(), now)
        };
        if runtime.is_some() {
            let mut dead = Vec::new();
            while let Some(mut kept) = take(runtime.clone()) {
                if kept.is_good() {
                    return Some(kept);
                }
                dead.push(kept);
            }
        }
        take(None)
    }

    async fn restock(&self, kind: Kind) {
        let prepared = match self.driver.prepare(kind.class.clone()).await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(%error, "a sandbox could not be prepared ahead of need");
                return self.stock().failed(self.clock.now());
            }
        };
        let parked = match &kind.runtime {
            None => None,
            Some(recipe) => match Parked::start(&*prepared, recipe).await {
                Ok(parked) => Some(parked),
                Err(error) => {
                    tracing::warn!(%error, "a runtime could not be started ahead of need");
                    return self.stock().forget(&kind);
                }
            },
        };
        let unwanted = self.stock().add(&kind, Kept { prepared, parked });
        drop(unwanted);
    }

    /// Runtimes that died while they waited.
    fn weed(&self) -> Vec<Kept> {
        let dead = self.stock().weed(Kept::is_good);
        if !dead.is_empty() {
            tracing::warn!(count = dead.len(), "runtimes that were started ahead of need have ended");
        }
        dead
    }

    /// What it needs may be held by those in stock.
    async fn make(&self, class: Class) -> Result<Box<dyn Prepared>, Error> {
        let error = match self.driver.prepare(class.clone()).await {
            Ok(prepared) => return Ok(prepared),
            Err(error) => error,
        };
        let given_up = self.stock().give_up(self.clock.now());
        if given_up.is_empty() {
            return Err(error);
        }
        tracing::warn!(%error, count = given_up.len(), "prepared sandboxes are given up for one that could not be made");
        let ending: Vec<_> = given_up.into_iter().map(|kept| kept.prepared.end()).collect();
        for ended in ending {
            ended.await;
        }
        self.driver.prepare(class).await
    }
}

impl Kept {
    fn is_good(&mut self) -> bool {
        self.parked.as_mut().is_none_or(Parked::is_alive)
    }
}

/// Nobody's yet. One from stock may have been lost there without anybody seeing it: then another is made in its place.
pub struct Taken {
    /// From stock, or made.
    kept: Result<Kept, Box<dyn Prepared>>,
    class: Class,
    pools: Arc<Inner>,
}

/// Somebody's.
pub struct Bound {
    pub sandbox: Box<dyn Sandbox>,
    pub(crate) parked: Option<Parked>,
    pub origin: Origin,
}

impl Taken {
    pub async fn bind(self, identity: Identity) -> Result<Bound, Error> {
        let made = |sandbox| Bound { sandbox, parked: None, origin: Origin::Nothing };
        let Kept { prepared, parked } = match self.kept {
            Ok(kept) => kept,
            Err(prepared) => return prepared.bind(identity).await.map(made),
        };
        match prepared.bind(identity.clone()).await {
            Ok(sandbox) => {
                let origin = if parked.is_some() { Origin::Runtime } else { Origin::Stock };
                Ok(Bound { sandbox, parked, origin })
            }
            Err(error) => {
                tracing::info!(%error, "a prepared sandbox was of no use");
                self.pools.make(self.class).await?.bind(identity).await.map(made)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_when_little_can_be_had() {
        let text = |available: u32| format!("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  {available} kB\n");
        assert!(is_short(&text(49)) && !is_short(&text(50)) && !is_short("nothing"));
    }
}
