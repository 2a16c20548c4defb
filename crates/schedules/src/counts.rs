//! Numbers for metrics, by group (User Guide, "Monitoring"), since the server's start.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Groups that are told apart: those of which there are more are counted by none.
const GROUPS_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Tries to reach a target.
    pub attempts: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
    /// Occurrences that never reached their target.
    pub dropped: u64,
    pub dead_letters: u64,
    pub dead_letters_failed: u64,
    /// Occurrences that were missed, and fired late.
    pub late: u64,
    /// Schedules that were set aside: their records cannot be read.
    pub set_aside: u64,
}

/// The numbers of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub account: String,
    pub region: String,
    pub group: String,
    pub numbers: Numbers,
}

#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<(String, String), Numbers>>);

impl Counts {
    pub fn count(&self, partition: &str, group: &str, change: impl FnOnce(&mut Numbers)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (partition.to_owned(), group.to_owned());
        if all.len() < GROUPS_MAX || all.contains_key(&key) {
            change(all.entry(key).or_default());
        }
    }

    pub fn all(&self) -> Vec<Counted> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = all.iter().map(|((partition, group), numbers)| {
            let (account, region) = crate::record::split(partition);
            let (account, region) = (account.to_owned(), region.to_owned());
            Counted { account, region, group: group.clone(), numbers: *numbers }
        });
        counted.collect()
    }
}
