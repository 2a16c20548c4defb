//! Numbers for metrics (spec 10.1, "Event source mappings"), since the server's start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hearth_model::{FunctionArn, Qualifier};

/// Upper bounds of the histogram of ages, milliseconds: from a stream that is followed closely to the longest that records
/// are kept.
pub const AGE_BUCKETS_MS: [u64; 10] =
    [100, 500, 1_000, 5_000, 30_000, 60_000, 300_000, 3_600_000, 86_400_000, 604_800_000];

/// `IteratorAge` of one function, as its mappings name it: batches by the age of their last record, those up to each of
/// [`AGE_BUCKETS_MS`], and the older ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    pub counts: [u64; AGE_BUCKETS_MS.len() + 1],
    pub sum_ms: u64,
}

#[derive(Default)]
pub struct AllAges(Mutex<BTreeMap<FunctionArn, Ages>>);

impl AllAges {
    pub fn add(&self, arn: &FunctionArn, ms: u64) {
        let arn = match &arn.qualifier {
            Some(qualifier) if qualifier.as_str() == Qualifier::LATEST => arn.unqualified(),
            _ => arn.clone(),
        };
        let bucket = AGE_BUCKETS_MS.iter().position(|bound| ms <= *bound).unwrap_or(AGE_BUCKETS_MS.len());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ages = all.entry(arn).or_default();
        ages.counts[bucket] += 1;
        ages.sum_ms += ms;
    }

    pub fn all(&self) -> BTreeMap<FunctionArn, Ages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Default)]
pub struct Numbers {
    pub polled: AtomicU64,
    pub filtered_out: AtomicU64,
    pub invoked: AtomicU64,
    pub failed: AtomicU64,
    pub deleted: AtomicU64,
    /// Given up, and of those what a destination has.
    pub dropped: AtomicU64,
    pub delivered: AtomicU64,
    pub pollers: AtomicU64,
}

/// The numbers of one mapping, as far as it is to tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub account: String,
    pub region: String,
    pub uuid: String,
    /// Asked for by `MetricsConfig`.
    pub events: Option<Events>,
    /// Of provisioned ones.
    pub pollers: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    pub polled: u64,
    pub filtered_out: u64,
    pub invoked: u64,
    pub failed: u64,
    pub deleted: u64,
    pub dropped: u64,
    pub delivered: u64,
}

pub fn add(number: &AtomicU64, more: usize) {
    number.fetch_add(more as u64, Ordering::Relaxed);
}

impl Numbers {
    pub fn events(&self) -> Events {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Events {
            polled: read(&self.polled),
            filtered_out: read(&self.filtered_out),
            invoked: read(&self.invoked),
            failed: read(&self.failed),
            deleted: read(&self.deleted),
            dropped: read(&self.dropped),
            delivered: read(&self.delivered),
        }
    }
}
