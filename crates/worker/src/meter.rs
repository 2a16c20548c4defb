//! What is counted of calls (spec 10.1), by who called: under the name of the function, of an alias or of a version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hearth_model::{Initialization, Report, Status};

/// Upper bounds of durations, milliseconds; one more bucket is for what took longer.
pub const DURATION_BUCKETS_MS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 300_000, 900_000];

/// Counts up, from many calls at once, with nothing locked and nothing allocated.
#[derive(Debug, Default)]
pub struct Meter {
    running: AtomicU32,
    invocations: AtomicU64,
    errors: AtomicU64,
    throttles: AtomicU64,
    provisioned: AtomicU64,
    spilled: AtomicU64,
    durations: Histogram,
    extensions: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; DURATION_BUCKETS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// Of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many took up to each of [`DURATION_BUCKETS_MS`] and more than the one before.
    pub buckets: [u64; DURATION_BUCKETS_MS.len() + 1],
    pub sum: Duration,
}

impl Histogram {
    fn add(&self, duration: Duration) {
        let bucket = DURATION_BUCKETS_MS.partition_point(|bound| Duration::from_millis(*bound) < duration);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(took, Ordering::Relaxed);
    }

    fn read(&self) -> Durations {
        let buckets = self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
        Durations { buckets, sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)) }
    }
}

/// What a meter has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// Calls that are with an environment at this moment.
    pub running: u32,
    /// That came to their end, well or not.
    pub invocations: u64,
    /// Exceptions, timeouts and runtimes that ended; not what the platform failed to do.
    pub errors: u64,
    /// Refused for concurrency, rate or room; counted nowhere else.
    pub throttles: u64,
    /// In environments that were kept initialised.
    pub provisioned: u64,
    /// On demand, as no environment that is kept was free.
    pub spilled: u64,
    /// How long functions ran.
    pub durations: Durations,
    /// What extensions took after runtimes were done, where there were any.
    pub extensions: Durations,
}

impl Meter {
    pub fn throttled(&self) {
        self.throttles.fetch_add(1, Ordering::Relaxed);
    }

    pub fn spilled(&self) {
        self.spilled.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, report: &Report) {
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.invocations, 1);
        if matches!(report.status, Status::Error | Status::Timeout) {
            add(&self.errors, 1);
        }
        if report.initialization == Initialization::Provisioned {
            add(&self.provisioned, 1);
        }
        self.durations.add(report.duration);
        if let Some(overhead) = &report.overhead {
            self.extensions.add(overhead.duration);
        }
    }

    pub fn read(&self) -> Metered {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metered {
            running: self.running.load(Ordering::Relaxed),
            invocations: load(&self.invocations),
            errors: load(&self.errors),
            throttles: load(&self.throttles),
            provisioned: load(&self.provisioned),
            spilled: load(&self.spilled),
            durations: self.durations.read(),
            extensions: self.extensions.read(),
        }
    }
}

/// A call that runs, as its meter sees it, until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Meter>);

impl Running {
    pub fn of(meter: &Arc<Meter>) -> Self {
        meter.running.fetch_add(1, Ordering::Relaxed);
        Running(meter.clone())
    }

    pub(crate) fn ended(self, report: &Report) {
        self.0.ended(report);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
