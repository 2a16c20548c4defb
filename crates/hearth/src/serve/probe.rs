//! Whether a function could be created and run now: asked by making a sandbox and throwing it away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hearth_model::{Materials, Memory, Runtime};
use hearth_sandbox::{Class, Driver};
use tokio::sync::Semaphore;

/// How long a good answer holds.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// Making a sandbox takes milliseconds; the first also makes its root.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Probe {
    driver: Arc<dyn Driver>,
    materials: Arc<dyn Materials>,
    /// One probe at a time.
    turn: Semaphore,
    last_good: Mutex<Option<Instant>>,
}

impl Probe {
    pub fn new(driver: Arc<dyn Driver>, materials: Arc<dyn Materials>) -> Self {
        Probe { driver, materials, turn: Semaphore::new(1), last_good: Mutex::new(None) }
    }

    pub async fn ready(&self) -> Result<(), String> {
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        if self.last_good().is_some_and(|at| at.elapsed() < GOOD_FOR) {
            return Ok(());
        }
        let probed = tokio::time::timeout(PATIENCE, self.make_sandbox()).await;
        probed.unwrap_or_else(|_| Err(format!("no sandbox within {} s", PATIENCE.as_secs())))?;
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    fn last_good(&self) -> Option<Instant> {
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make_sandbox(&self) -> Result<(), String> {
        let runtime = Runtime::parse("provided.al2023").map_err(|e| e.to_string())?;
        let tree = self.materials.runtime(runtime, None).await.map_err(|e| e.to_string())?;
        let class = Class { root: tree.root.clone(), ephemeral_storage: Memory::mib(512), listeners: Vec::new() };
        self.driver.prepare(class).await.map(drop).map_err(|e| e.to_string())
    }
}
