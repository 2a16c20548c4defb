//! The host's memory budget and the calls that wait for a share of it: decisions only.
//!
//! An environment holds the memory of its function from start to end. Calls for which there is no room stand in one
//! line for the whole host, first come first served: a large function is not overtaken for ever by small ones. Used
//! on cold starts alone; the warm path never comes here.

use std::collections::VecDeque;

/// A share of memory that was given to a waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub ticket: u64,
    /// Bytes.
    pub memory: u64,
}

/// Answer to a request for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Granted,
    Waits,
    /// More than the whole budget: it can never be granted.
    Never,
}

/// See the module. Amounts are bytes.
pub struct Room {
    budget: u64,
    used: u64,
    /// Part of `used` whose environments are being shut down. Below zero for a moment when such an environment ends
    /// before [`Room::leave`] was told of it.
    leaving: i64,
    line: VecDeque<Grant>,
}

impl Room {
    pub fn new(budget: u64) -> Self {
        Room { budget, used: 0, leaving: 0, line: VecDeque::new() }
    }

    /// Takes memory if there is some and nobody waits.
    pub fn take(&mut self, memory: u64) -> Request {
        if memory > self.budget {
            Request::Never
        } else if self.line.is_empty() && self.used + memory <= self.budget {
            self.used += memory;
            Request::Granted
        } else {
            Request::Waits
        }
    }

    /// As [`Room::take`], but stands in line when there is none.
    pub fn request(&mut self, ticket: u64, memory: u64) -> Request {
        let answer = self.take(memory);
        if answer == Request::Waits {
            self.line.push_back(Grant { ticket, memory });
        }
        answer
    }

    /// A call left the line; those behind it may fit now.
    pub fn withdraw(&mut self, ticket: u64) -> Vec<Grant> {
        self.line.retain(|waiting| waiting.ticket != ticket);
        self.grant()
    }

    /// An environment that holds `memory` is being shut down.
    pub fn leave(&mut self, memory: u64) {
        self.leaving += signed(memory);
    }

    /// Memory came back, from an environment that was being shut down or from any other holder.
    pub fn release(&mut self, memory: u64, was_leaving: bool) -> Vec<Grant> {
        self.used -= memory;
        if was_leaving {
            self.leaving -= signed(memory);
        }
        self.grant()
    }

    /// What idle environments must give up so that the whole line can be served.
    pub fn shortage(&self) -> u64 {
        let wanted: u64 = self.line.iter().map(|waiting| waiting.memory).sum();
        let coming = u64::try_from(self.leaving).unwrap_or(0);
        wanted.saturating_sub(self.budget - self.used + coming)
    }

    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.used
    }

    fn grant(&mut self) -> Vec<Grant> {
        let mut granted = Vec::new();
        while self.line.front().is_some_and(|first| self.used + first.memory <= self.budget) {
            let Some(first) = self.line.pop_front() else { break };
            self.used += first.memory;
            granted.push(first);
        }
        granted
    }
}

fn signed(memory: u64) -> i64 {
    i64::try_from(memory).unwrap_or(i64::MAX)
}

/// Idle environments of one function version.
#[derive(Clone, Debug)]
pub struct Idle<K> {
    pub key: K,
    pub last_used: Option<std::time::Instant>,
    pub count: usize,
    /// Bytes of each.
    pub memory: u64,
}

/// Which idle environments to give up for `shortage` bytes: those of the least recently used versions first.
pub fn give_up<K>(mut idle: Vec<Idle<K>>, shortage: u64) -> Vec<(K, usize)> {
    idle.sort_by_key(|version| version.last_used);
    let mut missing = shortage;
    let mut chosen = Vec::new();
    for version in idle {
        if missing == 0 {
            break;
        }
        let enough = missing.div_ceil(version.memory.max(1));
        let count = version.count.min(usize::try_from(enough).unwrap_or(usize::MAX));
        missing = missing.saturating_sub(version.memory * count as u64);
        chosen.push((version.key, count));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waiting_calls_are_served_in_order_of_arrival() {
        let mut room = Room::new(100);
        assert_eq!(room.request(1, 80), Request::Granted);
        assert_eq!(room.request(2, 60), Request::Waits);
        assert_eq!(room.request(3, 10), Request::Waits, "nobody overtakes");
        assert_eq!(room.release(80, false).iter().map(|g| g.ticket).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(room.used(), 70);
    }

    #[test]
    fn who_leaves_the_line_lets_the_next_pass() {
        let mut room = Room::new(100);
        room.request(1, 80);
        room.request(2, 60);
        room.request(3, 10);
        assert_eq!(room.withdraw(2), [Grant { ticket: 3, memory: 10 }]);
    }

    #[test]
    fn more_than_the_budget_is_refused_at_once() {
        assert_eq!(Room::new(100).request(1, 101), Request::Never);
    }

    #[test]
    fn memory_on_its_way_back_is_not_asked_for_twice() {
        let mut room = Room::new(100);
        room.take(100);
        room.request(1, 60);
        assert_eq!(room.shortage(), 60);
        room.leave(50);
        assert_eq!(room.shortage(), 10);
    }

    #[test]
    fn an_environment_may_end_before_it_is_said_to_leave() {
        let mut room = Room::new(100);
        room.take(100);
        assert!(room.release(50, true).is_empty());
        room.leave(50);
        assert_eq!(room.request(1, 60), Request::Waits);
        assert_eq!(room.shortage(), 10, "nothing is on its way back");
    }

    #[test]
    fn the_least_recently_used_versions_give_up_first() {
        let start = Instant::now();
        let idle = |key, age: u64, count| Idle {
            key,
            last_used: Some(start + Duration::from_secs(100 - age)),
            count,
            memory: 128,
        };
        let chosen = give_up(vec![idle("new", 1, 5), idle("old", 9, 1), idle("middle", 5, 3)], 300);
        assert_eq!(chosen, [("old", 1), ("middle", 2)]);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded_and_nothing_is_lost(
            steps in prop::collection::vec((0u8..3, 1u64..40), 1..200)
        ) {
            let mut room = Room::new(100);
            let mut held: Vec<u64> = Vec::new();
            let mut line: Vec<(u64, u64)> = Vec::new();
            for (ticket, (step, amount)) in steps.into_iter().enumerate() {
                let ticket = ticket as u64;
                let granted = match step {
                    0 => match room.request(ticket, amount) {
                        Request::Granted => { held.push(amount); Vec::new() }
                        Request::Waits => { line.push((ticket, amount)); Vec::new() }
                        Request::Never => Vec::new(),
                    },
                    1 if !held.is_empty() => {
                        let memory = held.remove(amount as usize % held.len());
                        room.release(memory, false)
                    }
                    _ if !line.is_empty() => {
                        let (ticket, _) = line.remove(amount as usize % line.len());
                        room.withdraw(ticket)
                    }
                    _ => Vec::new(),
                };
                for grant in granted {
                    prop_assert_eq!(line.remove(0), (grant.ticket, grant.memory), "in order");
                    held.push(grant.memory);
                }
                prop_assert_eq!(room.used(), held.iter().sum::<u64>());
                prop_assert!(room.used() <= 100);
                prop_assert!(line.first().is_none_or(|(_, first)| room.used() + first > 100), "nobody waits for nothing");
            }
        }
    }
}
