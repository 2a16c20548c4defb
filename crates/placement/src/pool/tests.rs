use std::sync::Arc;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fake(u32);

impl Member for Fake {
    type Id = u32;

    fn id(&self) -> u32 {
        self.0
    }

    fn memory(&self) -> u64 {
        1
    }

    /// Those with even numbers are over after a minute.
    fn usable_until(&self) -> SystemTime {
        if self.0.is_multiple_of(2) { UNIX_EPOCH + MINUTE } else { UNIX_EPOCH + MINUTE * 1000 }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// A moment, and later ones.
fn begin() -> Now {
    Now { steady: Instant::now(), wall: UNIX_EPOCH }
}

impl std::ops::Add<Duration> for Now {
    type Output = Now;

    fn add(self, later: Duration) -> Now {
        Now { steady: self.steady + later, wall: self.wall + later }
    }
}

fn pool() -> Pool<Fake, (), u64> {
    Pool::new(100)
}

/// A pool with these environments, each serving a call.
fn busy(ids: &[u32]) -> (Pool<Fake, (), u64>, Vec<Turn<Fake>>) {
    let mut pool = pool();
    let start = |id: &u32| {
        pool.start();
        pool.started(Fake(*id), ())
    };
    let turns = ids.iter().map(start).collect();
    (pool, turns)
}

#[test]
fn the_environment_used_last_is_used_first() {
    let ((mut pool, _), now) = (busy(&[1, 2]), begin());
    assert!(matches!(pool.idle(Fake(1), true, now), Idled::Parked));
    assert!(matches!(pool.idle(Fake(2), true, now), Idled::Parked));
    assert_eq!(pool.arrive((), now).unwrap().environment, Fake(2));
}

#[test]
fn a_waiting_call_gets_the_next_idle_environment() {
    let ((mut pool, turns), now) = (busy(&[1]), begin());
    assert!(!pool.one_is_at_hand());
    assert!(pool.answered(&1, turns[0].number).is_some());
    assert!(pool.one_is_at_hand());
    assert!(matches!(pool.wait(7, (), 70, now), Line::Waits));
    assert!(!pool.one_is_at_hand(), "that one is spoken for");
    assert!(matches!(pool.idle(Fake(1), true, now), Idled::Assign(_, 70)));
}

#[test]
fn a_full_line_takes_no_more() {
    let mut pool: Pool<Fake, (), u64> = Pool::new(1);
    assert!(matches!(pool.wait(1, (), 10, begin()), Line::Waits));
    assert!(matches!(pool.wait(2, (), 20, begin()), Line::Full((), 20)));
    assert_eq!(pool.withdraw(1).map(|waiting| waiting.seat), Some(10));
    assert!(matches!(pool.wait(3, (), 30, begin()), Line::Waits));
}

#[test]
fn what_is_not_to_be_kept_is_retired() {
    let ((mut pool, _), now) = (busy(&[1]), begin());
    assert!(matches!(pool.idle(Fake(1), false, now), Idled::Retire(Fake(1))));
    assert_eq!(pool.gone(&1), Some(Was::Leaving));
    assert!(pool.is_empty());
}

#[test]
fn an_environment_may_end_before_its_start_is_reported() {
    let mut pool = pool();
    pool.start();
    assert_eq!(pool.gone(&1), None);
    let turn = pool.started(Fake(1), ());
    assert!(pool.is_empty());
    assert!(pool.answered(&1, turn.number).is_none());
}

#[test]
fn an_answer_that_comes_late_does_not_end_the_next_turn() {
    let ((mut pool, turns), now) = (busy(&[1]), begin());
    assert!(matches!(pool.idle(Fake(1), true, now), Idled::Parked));
    let next = pool.arrive((), now).unwrap();
    assert!(pool.answered(&1, turns[0].number).is_none());
    assert!(pool.answered(&1, next.number).is_some());
}

#[test]
fn environments_are_retired_once_they_were_idle_for_long() {
    let ((mut pool, _), start) = (busy(&[1, 2]), begin());
    let (late, timeout) = (start + Duration::from_secs(5), Duration::from_secs(10));
    pool.idle(Fake(1), true, start);
    pool.idle(Fake(2), true, late);
    assert!(pool.retire_unused(timeout, late).is_empty());
    assert_eq!(pool.retire_unused(timeout, start + timeout), [Fake(1)]);
    assert_eq!((pool.idle_count(), pool.environments()), (1, 2));
    assert!(matches!(pool.idle(Fake(1), true, late), Idled::Ignored), "who leaves is given no more calls");
}

#[test]
fn an_environment_whose_time_is_over_is_given_no_call() {
    let ((mut pool, _), now) = (busy(&[1, 2, 4]), begin());
    let late = now + MINUTE;
    assert!(matches!(pool.idle(Fake(1), true, now), Idled::Parked));
    assert!(matches!(pool.idle(Fake(2), true, now), Idled::Parked));
    assert_eq!(pool.arrive((), late).unwrap().environment, Fake(1), "not the one used last");
    assert!(matches!(pool.wait(7, (), 70, late), Line::Waits));
    assert!(matches!(pool.idle(Fake(4), true, late), Idled::Retire(Fake(4))), "not even to who waits");
    assert_eq!(pool.retire_unused(MINUTE * 9, late), [Fake(2)]);
    assert_eq!((pool.gone(&2), pool.gone(&4)), (Some(Was::Leaving), Some(Was::Leaving)));
    assert!(matches!(pool.idle(Fake(1), true, late), Idled::Assign(_, 70)));
}

#[test]
fn a_clock_that_goes_on_while_the_host_sleeps_decides_when_time_is_over() {
    let ((mut pool, _), now) = (busy(&[2]), begin());
    assert!(matches!(pool.idle(Fake(2), true, now), Idled::Parked));
    let awake = Now { wall: now.wall + MINUTE, ..now };
    assert!(pool.arrive((), awake).is_err());
}

/// What the properties compare a pool with.
#[derive(Default)]
struct Model {
    busy: Vec<Turn<Fake>>,
    idle: usize,
    leaving: Vec<Fake>,
    /// Tickets, in the order in which they must be served.
    line: VecDeque<u64>,
    next: u32,
    ticket: u64,
}

impl Model {
    fn take(&mut self, pick: usize) -> Turn<Fake> {
        self.busy.remove(pick % self.busy.len())
    }
}

proptest! {
    /// Over any sequence: no environment serves two calls, no waiting call is lost, overtaken, or left waiting while an
    /// environment is idle, and every permit is held by exactly one call.
    #[test]
    fn calls_environments_and_permits_are_conserved(steps in prop::collection::vec((0u8..8, 0usize..8), 1..300)) {
        let (mut pool, now): (Pool<Fake, Arc<()>, u64>, _) = (Pool::new(5), begin());
        let (permit, mut model) = (Arc::new(()), Model::default());
        for (step, pick) in steps {
            match step {
                0 => if let Ok(turn) = pool.arrive(permit.clone(), now) {
                    model.idle -= 1;
                    model.busy.push(turn);
                } else {
                    prop_assert_eq!(model.idle, 0);
                },
                1 => {
                    model.next += 1;
                    pool.start();
                    model.busy.push(pool.started(Fake(model.next), permit.clone()));
                }
                2 if !model.busy.is_empty() => {
                    let turn = model.take(pick);
                    pool.answered(&turn.environment.id(), turn.number);
                    match (pool.idle(turn.environment, pick % 3 > 0, now), model.line.pop_front()) {
                        (Idled::Assign(turn, seat), first) => {
                            prop_assert_eq!(Some(seat), first);
                            model.busy.push(turn);
                        }
                        (Idled::Parked, None) => model.idle += 1,
                        (Idled::Retire(environment), None) => model.leaving.push(environment),
                        _ => prop_assert!(false, "it was busy, and a waiting call goes first"),
                    }
                }
                3 => {
                    model.ticket += 1;
                    match pool.wait(model.ticket, permit.clone(), model.ticket, now) {
                        Line::Assigned(turn) => {
                            model.idle -= 1;
                            model.busy.push(turn);
                        }
                        Line::Waits => model.line.push_back(model.ticket),
                        Line::Full(..) => prop_assert_eq!(model.line.len(), 5),
                    }
                }
                4 if !model.busy.is_empty() => {
                    let turn = model.take(pick);
                    prop_assert_eq!(pool.gone(&turn.environment.id()), Some(Was::Busy));
                }
                5 if !model.line.is_empty() => {
                    let ticket = model.line.remove(pick % model.line.len()).unwrap();
                    prop_assert_eq!(pool.withdraw(ticket).map(|waiting| waiting.seat), Some(ticket));
                    prop_assert!(pool.withdraw(ticket).is_none());
                }
                6 => {
                    let retired = pool.retire(pick);
                    prop_assert_eq!(retired.len(), pick.min(model.idle));
                    model.idle -= retired.len();
                    model.leaving.extend(retired);
                }
                7 if !model.leaving.is_empty() => {
                    let environment = model.leaving.remove(pick % model.leaving.len());
                    prop_assert_eq!(pool.gone(&environment.id()), Some(Was::Leaving));
                }
                _ => {}
            }
            let mut ids: Vec<u32> = model.busy.iter().map(|turn| turn.environment.0).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), model.busy.len(), "no environment serves two calls");
            prop_assert_eq!(pool.idle_count(), model.idle);
            prop_assert_eq!(pool.environments(), model.busy.len() + model.idle + model.leaving.len());
            prop_assert!(model.line.is_empty() || model.idle == 0, "nobody waits while one is idle");
            prop_assert_eq!(Arc::strong_count(&permit) - 1, model.busy.len() + model.line.len());
        }
    }
}
