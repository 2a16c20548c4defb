//! How many environments of one version are to be kept initialised, and how many there are: decisions only.
//!
//! ```text
//!   begun ──► initialising ──initialised──► ready
//!                 │ ended: a failure          │ ended: another is begun
//! ```
//!
//! Who fails to initialise is tried again, alone and ever more seldom, until one succeeds or something else is wanted.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Environments of a version that initialise at a time: they have the cores to themselves and calls of others.
const INITIALISING_MAX: usize = 10;
/// Before a version whose init failed is tried again; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Start(usize),
    Retire(usize),
}

#[derive(Debug)]
pub struct Ledger<Id> {
    wanted: usize,
    initialising: HashSet<Id>,
    ready: HashSet<Id>,
    failures: u32,
    failure: Option<String>,
    not_before: Option<Instant>,
}

impl<Id> Default for Ledger<Id> {
    fn default() -> Self {
        Ledger {
            wanted: 0,
            initialising: HashSet::new(),
            ready: HashSet::new(),
            failures: 0,
            failure: None,
            not_before: None,
        }
    }
}

impl<Id: Eq + Hash> Ledger<Id> {
    /// So many are wanted. `anew`: by a new decision, which is tried at once whatever failed before.
    pub fn want(&mut self, wanted: usize, anew: bool) {
        self.wanted = wanted;
        if anew {
            (self.failures, self.failure, self.not_before) = (0, None, None);
        }
    }

    pub fn plan(&self, now: Instant) -> Plan {
        let there = self.initialising.len() + self.ready.len();
        if there > self.wanted {
            return Plan::Retire(there - self.wanted);
        }
        if self.not_before.is_some_and(|at| now < at) {
            return Plan::Start(0);
        }
        let most = if self.failures > 0 { 1 } else { INITIALISING_MAX };
        Plan::Start((self.wanted - there).min(most.saturating_sub(self.initialising.len())))
    }

    pub fn begun(&mut self, id: Id) {
        self.initialising.insert(id);
    }

    /// Whether it was not so before.
    pub fn initialised(&mut self, id: &Id) -> bool {
        let Some(id) = self.initialising.take(id) else { return false };
        self.ready.insert(id);
        (self.failures, self.failure, self.not_before) = (0, None, None);
        true
    }

    /// It is to be no more, or is no more already; `reason` is for one that was never initialised.
    pub fn ended(&mut self, id: &Id, now: Instant, reason: impl FnOnce() -> String) {
        if self.initialising.remove(id) {
            self.failed(now, reason());
        }
        self.ready.remove(id);
    }

    /// Another could not be begun, or was not initialised.
    pub fn failed(&mut self, now: Instant, reason: String) {
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures += 1;
        self.failure = Some(reason);
        self.not_before = Some(now + wait);
    }

    /// One that has become idle is kept.
    pub fn keeps_one_more(&self) -> bool {
        self.ready.len() <= self.wanted
    }

    pub fn is_ready(&self) -> bool {
        self.ready.len() >= self.wanted
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Why there are not as many as wanted, when that is more than a matter of time.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fails_is_tried_again_alone_and_ever_more_seldom() {
        let (start, mut ledger) = (Instant::now(), Ledger::default());
        ledger.want(3, true);
        assert_eq!(ledger.plan(start), Plan::Start(3));
        (0..3).for_each(|id| ledger.begun(id));
        (0..3).for_each(|id| ledger.ended(&id, start, || "broken".to_owned()));
        assert_eq!(ledger.failure(), Some("broken"));
        assert_eq!(ledger.plan(start + Duration::from_secs(3)), Plan::Start(0));
        assert_eq!(ledger.plan(start + Duration::from_secs(4)), Plan::Start(1));
        ledger.begun(3);
        assert_eq!(ledger.plan(start + Duration::from_secs(4)), Plan::Start(0));
        ledger.initialised(&3);
        assert_eq!((ledger.failure(), ledger.plan(start + Duration::from_secs(4))), (None, Plan::Start(2)));
        ledger.failed(start, "full".to_owned());
        ledger.want(3, true);
        assert_eq!((ledger.failure(), ledger.plan(start)), (None, Plan::Start(2)));
    }

    proptest! {
        /// Whatever happens, as many are there as wanted once everything that was planned has succeeded.
        #[test]
        fn it_ends_with_what_is_wanted(steps in prop::collection::vec((0..5usize, 0..12usize), 0..60), wanted in 0..30usize) {
            let (mut now, mut ledger, mut ids, mut live) = (Instant::now(), Ledger::default(), 0, Vec::new());
            for (what, which) in steps {
                now += Duration::from_secs(1);
                match what {
                    0 => ledger.want(which, which % 2 == 0),
                    1 => if let Plan::Start(count) = ledger.plan(now) {
                        prop_assert!(count <= INITIALISING_MAX);
                        for _ in 0..count {
                            ledger.begun(ids);
                            live.push(ids);
                            ids += 1;
                        }
                    },
                    2 => live.iter().take(which).for_each(|id| { ledger.initialised(id); }),
                    _ => live.drain(..which.min(live.len())).for_each(|id| ledger.ended(&id, now, String::new)),
                }
            }
            ledger.want(wanted, true);
            for _ in 0..40 {
                live.iter().for_each(|id| { ledger.initialised(id); });
                match ledger.plan(now) {
                    Plan::Start(count) => for _ in 0..count {
                        ledger.begun(ids);
                        live.push(ids);
                        ids += 1;
                    },
                    Plan::Retire(count) => {
                        live.drain(..count).for_each(|id| ledger.ended(&id, now, String::new));
                    }
                }
            }
            live.iter().for_each(|id| { ledger.initialised(id); });
            prop_assert_eq!((ledger.ready(), live.len(), ledger.is_ready()), (wanted, wanted, true));
            prop_assert_eq!(ledger.failure(), None);
        }
    }
}
