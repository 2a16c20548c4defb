//! What simulations share: chance that a seed decides, a clock that goes on over lives of a server, and records that are written
//! otherwise. For tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hearth_model::{BoxFuture, Clock};

use crate::memory::MemoryRecords;
use crate::records::{Key, Record, Records, RecordsError, Write};

/// Chance that a seed decides.
pub struct Chance(AtomicU64);

impl Chance {
    pub fn of(seed: u64) -> Self {
        Chance(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// Uniform, as good as, below a number.
    pub fn next(&self, below: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        (x >> 16) % below
    }

    pub fn once_in(&self, times: u64) -> bool {
        self.next(times) == 0
    }
}

/// Lives through a history for each of as many seeds as `HEARTH_SEEDS` says, or for the one of `HEARTH_SEED`. Whether
/// there were so many that everything has happened that can.
pub fn histories<T>(usual: u64, history: impl Fn(u64) -> T, mut became: impl FnMut(T)) -> bool {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("HEARTH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HEARTH_SEEDS").unwrap_or(usual),
    };
    let many = seeds.end - seeds.start >= 100;
    for seed in seeds {
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history(seed)));
        became(lived.unwrap_or_else(|panic| {
            eprintln!("HEARTH_SEED={seed} shows it again");
            std::panic::resume_unwind(panic)
        }));
    }
    many
}

/// Time passes as the runtime of the present life lets it, on from where the former one died.
#[derive(Default)]
pub struct Virtual {
    past: Mutex<Duration>,
    began: Mutex<Option<tokio::time::Instant>>,
}

impl Virtual {
    /// A server's life begins.
    pub fn begin(&self) {
        *self.began.lock().unwrap() = Some(tokio::time::Instant::now());
    }

    /// It ends; there is no time until the next.
    pub fn end(&self) {
        let lived = self.began.lock().unwrap().take().unwrap().elapsed();
        *self.past.lock().unwrap() += lived;
    }
}

impl Clock for Virtual {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> SystemTime {
        let lived = self.began.lock().unwrap().unwrap().elapsed();
        UNIX_EPOCH + Duration::from_secs(1_769_860_800) + *self.past.lock().unwrap() + lived
    }
}

/// What becomes of a commit.
pub type Written = BoxFuture<'static, Result<u64, RecordsError>>;

/// Records that are read as they are, and written as a test says: late, or not at all.
pub struct Rewritten<F> {
    records: Arc<MemoryRecords>,
    commit: F,
}

impl<F: Fn(Arc<MemoryRecords>, Vec<Write>) -> Written + Send + Sync + 'static> Rewritten<F> {
    pub fn new(records: Arc<MemoryRecords>, commit: F) -> Self {
        Rewritten { records, commit }
    }
}

impl<F: Fn(Arc<MemoryRecords>, Vec<Write>) -> Written + Send + Sync + 'static> Records for Rewritten<F> {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>> {
        self.records.get(key)
    }

    fn list(
        &self,
        partition: String,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        self.records.list(partition, kind, after, limit)
    }

    fn all(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        self.records.all(kind, after, limit)
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>> {
        (self.commit)(self.records.clone(), writes)
    }
}
