//! Which sandboxes are kept ahead of need, and how many: decisions only.
//!
//! What is kept is of kinds: sandboxes of one class with nothing in them, or with a runtime that was started. Of each
//! kind that was asked for lately some are kept: as many as were asked for within a second, but one at least, as far as
//! their number and the memory that they hold allow. Kinds that were asked for longer ago go without first; of those that
//! were asked for at once each has one, the cheaper first, before the rest goes to the dearer, which saves more time.
//! Restocking gives way: it waits until no start is under way, but not for ever.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Kinds that are remembered. Functions choose the size of `/tmp` and some variables, so there may be very many.
const KINDS_MAX: usize = 64;
/// How long after it was asked for last a kind is remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// What is asked for within this is one burst: about the time that restocking for it takes.
const BURST: Duration = Duration::from_secs(1);
/// After this, half as large a burst is expected.
const HALF_LIFE: Duration = Duration::from_secs(300);
/// No restocking so soon after a sandbox was taken: its start needs the launcher and the CPUs more.
const HUSH: Duration = Duration::from_millis(50);
/// Where starts never cease, restocking begins so long after the first.
const PATIENCE: Duration = Duration::from_millis(500);
/// No restocking so soon after one failed, or after the host needed what was kept.
const BACK_OFF: Duration = Duration::from_secs(10);
/// How often what is kept is looked at, while there is anything.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Kinds `K`, what is kept of them `P`.
pub struct Stock<K, P> {
    most: usize,
    /// Memory that all may hold together, bytes.
    budget: u64,
    shelves: HashMap<K, Shelf<P>>,
    /// Of kinds that are no longer remembered.
    surplus: Vec<P>,
    /// When the first and the last one were taken, since there was nothing to restock.
    taken: Option<(Instant, Instant)>,
    not_before: Option<Instant>,
    closed: bool,
}

struct Shelf<P> {
    ready: Vec<P>,
    /// Memory that each holds, bytes.
    cost: u64,
    asked_at: Instant,
    /// When the latest burst began, and how large it is.
    burst: (Instant, u32),
    /// The largest lately, and when it was that large.
    peak: (Instant, u32),
}

/// What to do now.
pub struct Plan<K, P> {
    /// To be ended.
    pub surplus: Vec<P>,
    pub next: Next<K>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next<K> {
    /// One of this kind is to be made.
    Make(K),
    LookAt(Instant),
    /// Nothing, until something is asked for.
    Rest,
    /// Nothing, ever.
    End,
}

impl<P> Shelf<P> {
    fn new(cost: u64, now: Instant) -> Self {
        Shelf { ready: Vec::new(), cost, asked_at: now, burst: (now, 0), peak: (now, 0) }
    }

    fn ask(&mut self, now: Instant) {
        self.asked_at = now;
        if now.saturating_duration_since(self.burst.0) >= BURST {
            self.burst = (now, 0);
        }
        self.burst.1 = self.burst.1.saturating_add(1);
        if self.burst.1 >= self.expected(now) {
            self.peak = (now, self.burst.1);
        }
    }

    fn expected(&self, now: Instant) -> u32 {
        let (at, size) = self.peak;
        let halvings = now.saturating_duration_since(at).as_secs() / HALF_LIFE.as_secs();
        size.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    fn is_remembered(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked_at) < REMEMBERED
    }
}

impl<K: Clone + Eq + Hash, P> Stock<K, P> {
    /// Keeps at most so many, in at most so much memory.
    pub fn new(most: usize, budget: u64) -> Self {
        Stock {
            most,
            budget,
            shelves: HashMap::new(),
            surplus: Vec::new(),
            taken: None,
            not_before: None,
            closed: false,
        }
    }

    /// One is asked for, of a kind that costs so much; `None` when there is none.
    pub fn take(&mut self, kind: &K, cost: u64, now: Instant) -> Option<P> {
        if self.closed {
            return None;
        }
        if !self.shelves.contains_key(kind) && self.shelves.len() >= KINDS_MAX {
            self.forget_one();
        }
        let shelf = self.shelves.entry(kind.clone()).or_insert_with(|| Shelf::new(cost, now));
        shelf.ask(now);
        self.taken = Some((self.taken.map_or(now, |(first, _)| first), now));
        shelf.ready.pop()
    }

    /// What is next; to be asked again whenever something was taken, and when that is done.
    pub fn plan(&mut self, now: Instant, memory_is_short: bool) -> Plan<K, P> {
        let mut surplus = std::mem::take(&mut self.surplus);
        if self.closed {
            return Plan { surplus, next: Next::End };
        }
        if memory_is_short {
            self.not_before = Some(now + BACK_OFF);
        }
        self.shelves.retain(|_, shelf| {
            let is_remembered = shelf.is_remembered(now);
            if !is_remembered {
                surplus.append(&mut shelf.ready);
            }
            is_remembered
        });
        let (mut room, mut memory) = if memory_is_short { (0, 0) } else { (self.most, self.budget) };
        let mut missing = None;
        let mut take = |shelf: &Shelf<P>, count: usize| {
            let affordable = usize::try_from(memory / shelf.cost.max(1)).unwrap_or(usize::MAX);
            let taken = count.min(room).min(affordable);
            room -= taken;
            memory -= taken as u64 * shelf.cost;
            taken
        };
        let mut shelves: Vec<_> = self.shelves.iter_mut().map(|(kind, shelf)| (kind, shelf, 0)).collect();
        shelves.sort_by_key(|(_, shelf, _)| (Reverse(shelf.asked_at), shelf.cost));
        for group in shelves.chunk_by_mut(|(_, one, _), (_, other, _)| one.asked_at == other.asked_at) {
            // A call that finds the cheaper one is helped, too.
            for (kind, shelf, wanted) in group.iter_mut() {
                *wanted = take(shelf, 1);
                if shelf.ready.len() < *wanted {
                    missing.get_or_insert_with(|| kind.clone());
                }
            }
            for (kind, shelf, wanted) in group.iter_mut().rev() {
                *wanted += take(shelf, (shelf.expected(now) as usize).saturating_sub(*wanted));
                if shelf.ready.len() > *wanted {
                    surplus.extend(shelf.ready.drain(*wanted..));
                } else if shelf.ready.len() < *wanted {
                    missing.get_or_insert_with(|| kind.clone());
                }
            }
        }
        let next = self.next(now, missing);
        Plan { surplus, next }
    }

    fn next(&mut self, now: Instant, missing: Option<K>) -> Next<K> {
        let Some(kind) = missing else {
            self.taken = None;
            return if self.shelves.is_empty() { Next::Rest } else { Next::LookAt(now + LOOK_EVERY) };
        };
        let quiet = self.taken.map(|(first, last)| (last + HUSH).min(first + PATIENCE));
        match quiet.max(self.not_before).filter(|at| *at > now) {
            Some(at) => Next::LookAt(at.min(now + LOOK_EVERY)),
            None => Next::Make(kind),
        }
    }

    /// One was made. It comes back when nobody wants it any more.
    pub fn add(&mut self, kind: &K, prepared: P) -> Option<P> {
        match self.shelves.get_mut(kind) {
            Some(shelf) if !self.closed => {
                shelf.ready.push(prepared);
                None
            }
            _ => Some(prepared),
        }
    }

    /// What is of no use any more; it is made again.
    pub fn weed(&mut self, mut is_good: impl FnMut(&mut P) -> bool) -> Vec<P> {
        let shelves = self.shelves.values_mut();
        shelves.flat_map(|shelf| shelf.ready.extract_if(.., |one| !is_good(one)).collect::<Vec<_>>()).collect()
    }

    /// One of this kind cannot be made at all: no other is tried before it is asked for again.
    pub fn forget(&mut self, kind: &K) {
        let forgotten = self.shelves.remove(kind);
        self.surplus.extend(forgotten.into_iter().flat_map(|shelf| shelf.ready));
    }

    /// One could not be made.
    pub fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + BACK_OFF);
    }

    /// All there are: the host needs what they hold.
    pub fn give_up(&mut self, now: Instant) -> Vec<P> {
        self.failed(now);
        self.empty()
    }

    /// No more are kept.
    pub fn close(&mut self) -> Vec<P> {
        self.closed = true;
        self.empty()
    }

    fn empty(&mut self) -> Vec<P> {
        let shelves = self.shelves.values_mut().flat_map(|shelf| shelf.ready.drain(..));
        self.surplus.drain(..).chain(shelves).collect()
    }

    fn forget_one(&mut self) {
        let oldest = self.shelves.iter().min_by_key(|(_, shelf)| shelf.asked_at).map(|(kind, _)| kind.clone());
        oldest.into_iter().for_each(|kind| self.forget(&kind));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Makes what is wanted until nothing is; how many were given up.
    fn settle(stock: &mut Stock<u8, u32>, now: &mut Instant, made: &mut u32) -> usize {
        let mut given_up = 0;
        loop {
            let Plan { surplus, next } = stock.plan(*now, false);
            given_up += surplus.len();
            match next {
                Next::Make(kind) => {
                    *made += 1;
                    assert!(stock.add(&kind, *made).is_none());
                }
                Next::LookAt(at) if at - *now < LOOK_EVERY => *now = at,
                _ => return given_up,
            }
        }
    }

    fn kept(stock: &Stock<u8, u32>, kind: u8) -> usize {
        stock.shelves.get(&kind).map_or(0, |shelf| shelf.ready.len())
    }

    #[test]
    fn nothing_is_kept_before_something_is_asked_for() {
        let mut stock: Stock<u8, u32> = Stock::new(8, 1000);
        assert_eq!(stock.plan(Instant::now(), false).next, Next::Rest);
    }

    #[test]
    fn what_was_taken_is_replaced_once_the_start_is_past() {
        let (mut stock, mut now, mut made) = (Stock::new(8, 1000), Instant::now(), 0);
        assert_eq!(stock.take(&1, 1, now), None);
        assert_eq!(stock.plan(now + MS, false).next, Next::LookAt(now + HUSH));
        settle(&mut stock, &mut now, &mut made);
        assert_eq!(stock.take(&1, 1, now), Some(1));
        assert_eq!(stock.take(&1, 1, now), None, "one at a time was asked for");
    }

    #[test]
    fn as_many_are_kept_as_were_asked_for_at_once_and_fewer_as_time_goes() {
        let (mut stock, mut now, mut made) = (Stock::new(8, 1000), Instant::now(), 0);
        for _ in 0..6 {
            stock.take(&1, 1, now);
        }
        settle(&mut stock, &mut now, &mut made);
        assert_eq!(kept(&stock, 1), 6);
        now += HALF_LIFE;
        assert_eq!(settle(&mut stock, &mut now, &mut made), 3);
        now += HALF_LIFE * 8;
        settle(&mut stock, &mut now, &mut made);
        assert_eq!(kept(&stock, 1), 1);
        now += REMEMBERED;
        assert_eq!(settle(&mut stock, &mut now, &mut made), 1);
        assert_eq!(stock.plan(now, false).next, Next::Rest);
    }

    #[test]
    fn restocking_does_not_wait_for_ever() {
        let (mut stock, start): (Stock<u8, u32>, _) = (Stock::new(8, 1000), Instant::now());
        let mut now = start;
        while now < start + PATIENCE {
            stock.take(&1, 1, now);
            assert!(matches!(stock.plan(now, false).next, Next::LookAt(_)));
            now += MS * 10;
        }
        stock.take(&1, 1, now);
        assert_eq!(stock.plan(now, false).next, Next::Make(1));
    }

    #[test]
    fn kinds_that_were_asked_for_longer_ago_go_without_first() {
        let (mut stock, mut now, mut made) = (Stock::new(3, 1000), Instant::now(), 0);
        stock.take(&1, 1, now);
        settle(&mut stock, &mut now, &mut made);
        for _ in 0..5 {
            stock.take(&2, 1, now + MS);
        }
        assert_eq!(settle(&mut stock, &mut now, &mut made), 1);
        assert_eq!((kept(&stock, 1), kept(&stock, 2)), (0, 3));
    }

    #[test]
    fn what_costs_more_than_is_left_is_not_kept() {
        let (mut stock, mut now, mut made) = (Stock::new(8, 100), Instant::now(), 0);
        for _ in 0..4 {
            stock.take(&1, 40, now);
        }
        stock.take(&2, 1, now);
        settle(&mut stock, &mut now, &mut made);
        assert_eq!((kept(&stock, 1), kept(&stock, 2)), (2, 1), "two of 40 and one of 1 are less than 100");
        for _ in 0..90 {
            stock.take(&3, 1, now + MS);
        }
        settle(&mut stock, &mut now, &mut made);
        assert_eq!((kept(&stock, 3), kept(&stock, 1)), (8, 0), "what was asked for last goes first");
    }

    #[test]
    fn of_kinds_that_were_asked_for_at_once_each_has_one_and_the_dearer_the_rest() {
        let now = &mut Instant::now();
        let mut stock = Stock::new(64, 100);
        for _ in 0..8 {
            stock.take(&1, 10, *now);
            stock.take(&2, 20, *now);
        }
        settle(&mut stock, now, &mut 0);
        assert_eq!((kept(&stock, 1), kept(&stock, 2)), (2, 4));
    }

    #[test]
    fn what_has_died_is_made_again_and_what_cannot_be_made_is_not_tried_again() {
        let (mut stock, mut now, mut made) = (Stock::new(8, 100), Instant::now(), 0);
        stock.take(&1, 1, now);
        settle(&mut stock, &mut now, &mut made);
        assert_eq!(stock.weed(|one| *one != 1), [1]);
        assert_eq!(stock.plan(now, false).next, Next::Make(1));
        stock.forget(&1);
        assert_eq!((stock.add(&1, 9), stock.plan(now, false).next), (Some(9), Next::Rest));
    }

    #[test]
    fn all_is_given_up_while_memory_is_short_and_not_made_again_at_once() {
        let (mut stock, mut now, mut made) = (Stock::new(8, 1000), Instant::now(), 0);
        stock.take(&1, 1, now);
        settle(&mut stock, &mut now, &mut made);
        let plan = stock.plan(now, true);
        assert_eq!((plan.surplus, plan.next), (vec![1], Next::LookAt(now + LOOK_EVERY)));
        assert_eq!(stock.plan(now + BACK_OFF - MS, false).next, Next::LookAt(now + BACK_OFF));
        assert_eq!(stock.plan(now + BACK_OFF, false).next, Next::Make(1));
    }

    #[test]
    fn a_failure_is_not_repeated_at_once() {
        let (mut stock, now): (Stock<u8, u32>, _) = (Stock::new(8, 1000), Instant::now());
        stock.take(&1, 1, now);
        stock.failed(now + HUSH);
        assert!(matches!(stock.plan(now + BACK_OFF, false).next, Next::LookAt(_)));
        assert_eq!(stock.plan(now + BACK_OFF + HUSH, false).next, Next::Make(1));
    }

    #[test]
    fn a_closed_stock_keeps_nothing() {
        let (mut stock, mut now, mut made) = (Stock::new(8, 1000), Instant::now(), 0);
        stock.take(&1, 1, now);
        settle(&mut stock, &mut now, &mut made);
        assert_eq!(stock.close(), [1]);
        assert_eq!((stock.add(&1, 7), stock.take(&1, 1, now)), (Some(7), None));
        assert_eq!(stock.plan(now, false).next, Next::End);
    }

    proptest! {
        #[test]
        fn no_more_are_kept_than_may_be_and_each_goes_one_way(
            most in 0usize..6,
            steps in prop::collection::vec((0u8..10, 0u8..4, 0u64..2000), 1..200),
        ) {
            let (mut stock, mut now, mut made) = (Stock::new(most, 1000), Instant::now(), Vec::new());
            let mut gone = Vec::new();
            for (step, kind, pause) in steps {
                now += MS * u32::try_from(pause).unwrap();
                match step {
                    0..=3 => {
                        if let Some(prepared) = stock.take(&kind, 1, now) {
                            prop_assert_eq!(made[prepared], kind, "each is of its kind");
                            gone.push(prepared);
                        }
                    }
                    4 => gone.extend(stock.give_up(now)),
                    5 => now += REMEMBERED,
                    _ => {
                        let Plan { surplus, next } = stock.plan(now, step == 6);
                        gone.extend(surplus);
                        if let Next::Make(kind) = next {
                            made.push(kind);
                            prop_assert!(step != 6);
                            prop_assert_eq!(stock.add(&kind, made.len() - 1), None);
                        }
                        let kept: usize = stock.shelves.values().map(|shelf| shelf.ready.len()).sum();
                        prop_assert!(kept <= most);
                    }
                }
            }
            gone.extend(stock.close());
            gone.sort_unstable();
            prop_assert_eq!(gone, (0..made.len()).collect::<Vec<_>>());
        }
    }
}
