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
}

type TestPool = Pool<Fake, (), u64>;

fn pool() -> TestPool {
    Pool::new(100)
}

#[test]
fn the_environment_used_last_is_used_first() {
    let (mut pool, now) = (pool(), Instant::now());
    for id in [1, 2] {
        pool.start();
        pool.started(Fake(id), ());
    }
    assert!(matches!(pool.idle(Fake(1), true, now), Idled::Parked));
    assert!(matches!(pool.idle(Fake(2), true, now), Idled::Parked));
    assert_eq!(pool.arrive((), now).unwrap().environment, Fake(2));
}

#[test]
fn a_waiting_call_gets_the_next_idle_environment() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.start();
    let (turn, _) = pool.started(Fake(1), ());
    assert!(!pool.one_is_finishing());
    assert!(pool.answered(&1, turn.number).is_some());
    assert!(pool.one_is_finishing());
    assert!(matches!(pool.wait(7, (), 70), Line::Waits));
    assert!(!pool.one_is_finishing(), "that one is spoken for");
    assert!(matches!(pool.idle(Fake(1), true, now), Idled::Assign(_, 70)));
}

#[test]
fn what_is_not_to_be_kept_is_retired() {
    let (mut pool, now) = (pool(), Instant::now());
    pool.start();
    pool.started(Fake(1), ());
    assert!(matches!(pool.idle(Fake(1), false, now), Idled::Retire(Fake(1))));
    assert_eq!(pool.gone(&1), Some(Was::Leaving));
    assert!(pool.is_empty());
}

#[test]
fn an_environment_may_end_before_its_start_is_reported() {
    let mut pool = pool();
    pool.start();
    assert_eq!(pool.gone(&1), None);
    assert_eq!(pool.started(Fake(1), ()).1, Some(Was::Busy));
    assert!(pool.is_empty());
}

proptest! {
    /// No environment ever serves two calls, and no waiting call is forgotten while one is idle.
    #[test]
    fn no_environment_serves_two_calls(steps in prop::collection::vec((0u8..5, 0usize..8), 1..300)) {
        let (mut pool, now) = (pool(), Instant::now());
        let (mut busy, mut next, mut ticket): (Vec<Turn<Fake>>, u32, u64) = (Vec::new(), 0, 0);
        for (step, pick) in steps {
            match step {
                0 => if let Ok(turn) = pool.arrive((), now) { busy.push(turn) },
                1 => {
                    next += 1;
                    pool.start();
                    busy.push(pool.started(Fake(next), ()).0);
                }
                2 if !busy.is_empty() => {
                    let turn = busy.remove(pick % busy.len());
                    match pool.idle(turn.environment, true, now) {
                        Idled::Assign(turn, _) => busy.push(turn),
                        Idled::Parked => {}
                        _ => prop_assert!(false, "it was busy"),
                    }
                }
                3 => {
                    ticket += 1;
                    if let Line::Assigned(turn) = pool.wait(ticket, (), ticket) { busy.push(turn) }
                }
                4 if !busy.is_empty() => {
                    let turn = busy.remove(pick % busy.len());
                    prop_assert_eq!(pool.gone(&turn.environment.id()), Some(Was::Busy));
                }
                _ => {}
            }
            let mut ids: Vec<u32> = busy.iter().map(|turn| turn.environment.0).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), busy.len());
            prop_assert_eq!(pool.busy_count(), busy.len());
            prop_assert!(pool.waiting_count() == 0 || pool.idle_count() == 0);
        }
    }
}
