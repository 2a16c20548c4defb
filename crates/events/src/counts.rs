//! Numbers for metrics (spec 5.7), since the server's start.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use hearth_model::{FunctionArn, Qualifier};

/// Upper bounds of the histogram of ages, milliseconds: from an idle queue to the longest that an event lives.
pub const AGE_BUCKETS_MS: [u64; 12] =
    [5, 10, 25, 100, 500, 1_000, 5_000, 30_000, 60_000, 300_000, 3_600_000, 21_600_000];

#[derive(Default)]
pub struct Counts {
    functions: DashMap<FunctionArn, Numbers>,
}

#[derive(Default)]
struct Numbers {
    received: AtomicU64,
    dropped: AtomicU64,
    dead_letters_failed: AtomicU64,
    destinations_failed: AtomicU64,
    ages: [AtomicU64; AGE_BUCKETS_MS.len() + 1],
    age_sum: AtomicU64,
}

/// The numbers of one function as it was invoked: without a qualifier, or with one that is not `$LATEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub arn: FunctionArn,
    pub received: u64,
    pub dropped: u64,
    pub dead_letters_failed: u64,
    pub destinations_failed: u64,
    /// Attempts by the age of their event: those up to each of [`AGE_BUCKETS_MS`], and the older ones.
    pub ages: [u64; AGE_BUCKETS_MS.len() + 1],
    pub age_sum_ms: u64,
}

impl Counts {
    pub fn received(&self, arn: &FunctionArn) {
        self.add(arn, |numbers| &numbers.received);
    }

    /// Given up, whether or not somebody was told.
    pub fn dropped(&self, arn: &FunctionArn) {
        self.add(arn, |numbers| &numbers.dropped);
    }

    pub fn dead_letter_failed(&self, arn: &FunctionArn) {
        self.add(arn, |numbers| &numbers.dead_letters_failed);
    }

    pub fn destination_failed(&self, arn: &FunctionArn) {
        self.add(arn, |numbers| &numbers.destinations_failed);
    }

    /// Of an event, when it is attempted.
    pub fn age(&self, arn: &FunctionArn, ms: u64) {
        let bucket = AGE_BUCKETS_MS.iter().position(|bound| ms <= *bound).unwrap_or(AGE_BUCKETS_MS.len());
        self.of(arn, |numbers| {
            numbers.ages[bucket].fetch_add(1, Ordering::Relaxed);
            numbers.age_sum.fetch_add(ms, Ordering::Relaxed);
        });
    }

    fn add(&self, arn: &FunctionArn, number: impl Fn(&Numbers) -> &AtomicU64) {
        self.of(arn, |numbers| {
            number(numbers).fetch_add(1, Ordering::Relaxed);
        });
    }

    fn of(&self, arn: &FunctionArn, count: impl Fn(&Numbers)) {
        let arn = match &arn.qualifier {
            Some(qualifier) if qualifier.as_str() == Qualifier::LATEST => &arn.unqualified(),
            _ => arn,
        };
        match self.functions.get(arn) {
            Some(numbers) => count(&numbers),
            None => count(&self.functions.entry(arn.clone()).or_default()),
        }
    }

    pub fn all(&self) -> Vec<Counted> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let mut all: Vec<Counted> = self
            .functions
            .iter()
            .map(|entry| Counted {
                arn: entry.key().clone(),
                received: read(&entry.received),
                dropped: read(&entry.dropped),
                dead_letters_failed: read(&entry.dead_letters_failed),
                destinations_failed: read(&entry.destinations_failed),
                ages: std::array::from_fn(|bucket| read(&entry.ages[bucket])),
                age_sum_ms: read(&entry.age_sum),
            })
            .collect();
        all.sort_by(|one, other| one.arn.cmp(&other.arn));
        all
    }
}
