//! Sandboxes prepared ahead of need: a driver in front of the driver. What is asked for is given from stock where there
//! is some of its class, else made; which is kept, and how many, `stock` decides.
//!
//! What is in stock is nobody's: it holds nothing of any function, and is bound once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hearth_model::{BoxFuture, Clock};
use hearth_sandbox::{Class, Driver, Error, Identity, Prepared, Promise, Sandbox};
use tokio::sync::Notify;

use crate::stock::{LOOK_EVERY, Next, Plan, Stock};

/// Memory of the host that a prepared sandbox holds, bytes, rounded up: two small processes and what the kernel keeps of
/// namespaces, control groups and mounts.
const COST: u64 = 1 << 20;
/// Prepared sandboxes of one host. Restocked in a quarter of a second; each also holds two host uids, a loop device and a
/// few descriptors.
const PREPARED_MAX: u64 = 64;

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
    stock: Mutex<Stock<Class, Box<dyn Prepared>>>,
    /// Something was taken, or it is the end.
    wake: Notify,
}

impl Pools {
    /// Keeps as many as fit into `budget` bytes: with 0 none.
    pub fn new(budget: u64, driver: Arc<dyn Driver>, clock: Arc<dyn Clock>, memory: Arc<dyn HostMemory>) -> Self {
        let most = (budget / COST).min(PREPARED_MAX) as usize;
        let stock = Mutex::new(Stock::new(most));
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
            }
            let Plan { surplus, next } = self.inner.stock().plan(now, is_short);
            drop(surplus);
            match next {
                Next::Make(class) => self.inner.restock(class).await,
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
}

impl Inner {
    fn stock(&self) -> MutexGuard<'_, Stock<Class, Box<dyn Prepared>>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn restock(&self, class: Class) {
        match self.driver.prepare(class.clone()).await {
            Ok(prepared) => {
                let unwanted = self.stock().add(&class, prepared);
                drop(unwanted);
            }
            Err(error) => {
                tracing::warn!(%error, "a sandbox could not be prepared ahead of need");
                self.stock().failed(self.clock.now());
            }
        }
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
        let ending: Vec<_> = given_up.into_iter().map(Prepared::end).collect();
        for ended in ending {
            ended.await;
        }
        self.driver.prepare(class).await
    }
}

impl Driver for Pools {
    fn prepare(&self, class: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>> {
        if class.root.whole {
            // An image's tree may leave the cache while nobody's environment lives in it: what is in stock holds no lease.
            return Box::pin(self.inner.make(class));
        }
        let taken = self.inner.stock().take(&class, self.inner.clock.now());
        self.inner.wake.notify_one();
        Box::pin(async move {
            match taken {
                Some(prepared) => Ok(Box::new(Taken { prepared, class, pools: self.inner.clone() }) as _),
                None => self.inner.make(class).await,
            }
        })
    }

    fn promises(&self) -> Vec<Promise> {
        self.inner.driver.promises()
    }

    fn leads_out(&self) -> bool {
        self.inner.driver.leads_out()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<Promise>, Error>> {
        self.inner.driver.probe()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.inner.driver.closed()
    }
}

/// One from stock. It may have been lost there without anybody seeing it: then another is made in its place.
struct Taken {
    prepared: Box<dyn Prepared>,
    class: Class,
    pools: Arc<Inner>,
}

impl Prepared for Taken {
    fn bind(self: Box<Self>, identity: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>> {
        let Taken { prepared, class, pools } = *self;
        Box::pin(async move {
            match prepared.bind(identity.clone()).await {
                Ok(sandbox) => Ok(sandbox),
                Err(error) => {
                    tracing::info!(%error, "a prepared sandbox was of no use");
                    pools.make(class).await?.bind(identity).await
                }
            }
        })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.prepared.end()
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
