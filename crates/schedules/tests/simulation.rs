//! Histories under a virtual clock: schedules that fire, targets that fail and are slow, dead letters, and a server that dies
//! and stays down. Seeded; a failing seed is printed, and `HEARTH_SEED=N` runs it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use hearth_model::{BoxFuture, Clock};
use hearth_schedules::{Attempt, Config, DeadLetter, Failure, Ports, Schedules, Targets};
use hearth_store::simulation::{Chance, Rewritten, Virtual, Written, histories};
use hearth_store::{MemoryQueue, MemoryRecords, Queue, Records, RecordsError, Write};
use hearth_wire::Context;
use hearth_wire_scheduler::SchedulesApi;
use hearth_wire_scheduler::types::*;

const MINUTE: u64 = 60_000;
/// Longest that records which are not written hold what is due up, in milliseconds.
const HELD_UP: u64 = 30_000;
/// Longer than anything is tried.
const END: Duration = Duration::from_secs(60);

/// A schedule as a seed makes it.
#[derive(Clone, Debug)]
struct Plan {
    name: String,
    expression: String,
    /// None of a one-time schedule.
    every: Option<u64>,
    window: Option<u64>,
    retries: u64,
    has_dead_letters: bool,
    made: u64,
}

impl Plan {
    fn of(chance: &Chance, at: usize, now: u64) -> Self {
        let (expression, every) = match chance.next(4) {
            0 => {
                // Some are over already.
                let moment = (now + chance.next(60 * MINUTE)).saturating_sub(10 * MINUTE) / 1000;
                let shown = jiff::Timestamp::from_second(moment as i64).unwrap().strftime("%Y-%m-%dT%H:%M:%S");
                (format!("at({shown})"), None)
            }
            1 => ("cron(0/5 * * * ? *)".to_owned(), Some(5)),
            _ => {
                let minutes = 1 + chance.next(9);
                (format!("rate({minutes} minutes)"), Some(minutes))
            }
        };
        let window = chance.once_in(3).then(|| 1 + chance.next(20));
        let (retries, has_dead_letters) = (chance.next(4), chance.once_in(2));
        Plan { name: format!("s{at}"), expression, every, window, retries, has_dead_letters, made: 0 }
    }

    fn input(&self) -> CreateScheduleInput {
        let arn = |service: &str, name: &str| Some(format!("arn:aws:{service}:us-east-1:000000000000:{name}"));
        CreateScheduleInput {
            name: Some(self.name.clone()),
            schedule_expression: Some(self.expression.clone()),
            flexible_time_window: Some(FlexibleTimeWindow {
                mode: Some(if self.window.is_some() { "FLEXIBLE" } else { "OFF" }.to_owned()),
                maximum_window_in_minutes: self.window.map(|minutes| minutes as i64),
            }),
            target: Some(Target {
                arn: arn("sqs", "q"),
                role_arn: Some("arn:aws:iam::000000000000:role/r".to_owned()),
                retry_policy: Some(RetryPolicy {
                    maximum_retry_attempts: Some(self.retries as i64),
                    maximum_event_age_in_seconds: None,
                }),
                dead_letter_config: self.has_dead_letters.then(|| DeadLetterConfig { arn: arn("sqs", "dead") }),
                ..Target::default()
            }),
            action_after_completion: Some("DELETE".to_owned()),
            ..CreateScheduleInput::default()
        }
    }
}

/// What was seen of one occurrence.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// When it was first tried.
    first: u64,
    late: Option<u64>,
    failed: u32,
    /// Whether the server has heard of its end.
    is_over: bool,
    reached: u32,
    buried: u32,
}

struct World {
    chance: Chance,
    clock: Arc<Virtual>,
    /// By schedule and occurrence.
    seen: Mutex<BTreeMap<(String, u64), Seen>>,
    became: Mutex<BTreeSet<&'static str>>,
}

impl World {
    fn now(&self) -> u64 {
        self.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
    }

    fn became(&self, what: &'static str) {
        self.became.lock().unwrap().insert(what);
    }

    fn see<T>(&self, attempt: &Attempt<'_>, change: impl FnOnce(&mut Seen) -> T) -> T {
        let key = (attempt.firing.name.clone(), attempt.firing.scheduled);
        let mut seen = self.seen.lock().unwrap();
        let now = self.now();
        let late = attempt.firing.late.map(|late| late.by);
        let seen = seen.entry(key).or_insert_with(|| Seen { first: now, late, ..Seen::default() });
        assert!(!seen.is_over, "what is over is tried again: {seen:?}");
        assert_eq!(seen.late, late);
        change(seen)
    }
}

impl Targets for World {
    fn reach<'a>(&'a self, attempt: &'a Attempt<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.see(attempt, |_| ());
            tokio::time::sleep(Duration::from_millis(self.chance.next(500))).await;
            if self.chance.once_in(3) {
                self.see(attempt, |seen| {
                    // A death may hide one.
                    assert!(attempt.number <= seen.failed + 1, "{seen:?}");
                    seen.failed += 1;
                });
                self.became("failed");
                return Err(Failure { code: "No".to_owned(), message: "no".to_owned() });
            }
            self.see(attempt, |seen| seen.reached += 1);
            // It is told of later than it happens.
            tokio::time::sleep(Duration::from_millis(self.chance.next(500))).await;
            self.see(attempt, |seen| seen.is_over = true);
            self.became(if attempt.number > 1 { "reached again" } else { "reached" });
            Ok(())
        })
    }

    fn bury<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            assert_eq!(letter.condition.as_str(), "MaximumRetryAttempts");
            self.see(letter.attempt, |seen| seen.buried += 1);
            tokio::time::sleep(Duration::from_millis(self.chance.next(500))).await;
            self.see(letter.attempt, |seen| seen.is_over = true);
            self.became("buried");
            Ok(())
        })
    }
}

/// Records are written late, and sometimes not: a death may come between what fires and what is next.
fn late(world: Arc<World>, records: Arc<MemoryRecords>, writes: Vec<Write>) -> Written {
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(world.chance.next(900))).await;
        if world.chance.once_in(20) {
            world.became("not written");
            return Err(RecordsError::Full);
        }
        records.commit(writes).await
    })
}

struct Simulation {
    world: Arc<World>,
    clock: Arc<Virtual>,
    records: Arc<MemoryRecords>,
    queue: Arc<MemoryQueue>,
    /// From when to when a server was there.
    lives: Vec<(u64, u64)>,
}

fn cx() -> Context {
    Context::new("000000000000", "us-east-1", "r", "http://localhost", None)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let clock: Arc<Virtual> = Arc::default();
        let world =
            World { chance: Chance::of(seed), clock: clock.clone(), seen: Mutex::default(), became: Mutex::default() };
        Simulation { world: Arc::new(world), clock, records: Arc::default(), queue: Arc::default(), lives: Vec::new() }
    }

    /// A server from its start to its death, at which nothing of it goes on.
    fn live<T>(&mut self, life: impl AsyncFnOnce(Schedules) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.clock.begin();
            let (world, writer) = (self.world.clone(), self.world.clone());
            let written = move |records, writes| late(writer.clone(), records, writes);
            let ports = Ports {
                records: Arc::new(Rewritten::new(self.records.clone(), written)),
                queue: self.queue.clone(),
                targets: self.world.clone(),
                roles: None,
                clock: self.clock.clone(),
                uuids: Arc::new(move || {
                    uuid::Uuid::from_u64_pair(world.chance.next(u64::MAX), world.chance.next(u64::MAX))
                }),
            };
            let schedules = Schedules::open(Config::new(Duration::from_secs(86_400)), ports).await.unwrap();
            schedules.run();
            let began = self.world.now();
            let lived = life(schedules).await;
            self.lives.push((began, self.world.now()));
            self.clock.end();
            lived
        })
    }

    /// Time passes without one.
    fn down(&self, time: Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.clock.begin();
            tokio::time::sleep(time).await;
            self.clock.end();
        });
    }

    /// When what is due then was tried at the latest: some server was there long enough, whatever held it up.
    fn tried_by(&self, due: u64) -> u64 {
        let tried_by = |(began, until): &(u64, u64)| {
            let at = due.max(*began) + HELD_UP;
            (at < *until).then_some(at)
        };
        self.lives.iter().find_map(tried_by).unwrap_or(u64::MAX)
    }

    /// Each occurrence has one end, comes in time, and is left out only when one before it was late.
    fn holds(&self, plan: &Plan, end: u64) {
        let seen = self.world.seen.lock().unwrap();
        let of_plan: BTreeMap<u64, &Seen> =
            seen.iter().filter(|((name, _), _)| *name == plan.name).map(|((_, at), seen)| (*at, seen)).collect();
        let deaths = self.lives.len() as u64 - 1;
        let window = plan.window.unwrap_or(0) * MINUTE;
        for (at, seen) in &of_plan {
            let tries = u64::from(seen.failed + seen.reached);
            assert!(seen.first >= *at, "{plan:?} fired before {at}: {seen:?}");
            assert!(tries <= plan.retries + 1 + deaths, "{plan:?} was tried {tries} times: {seen:?}");
            // Twice only when a death came between.
            let doubled = u64::from(seen.reached.saturating_sub(1).max(seen.buried.saturating_sub(1)));
            assert!(doubled <= deaths, "{plan:?} was doubled: {seen:?}");
            let is_lost = !seen.is_over && (plan.has_dead_letters || u64::from(seen.failed) <= plan.retries);
            assert!(!is_lost, "{plan:?} has lost {at}: {seen:?}");
            let due = (*at).max(plan.made);
            assert!(seen.first <= self.tried_by(due + window), "{plan:?} took its time: {seen:?}");
            if let Some(late) = seen.late {
                let was_down = self.lives.iter().any(|(began, _)| (due..=seen.first).contains(began));
                assert!(late > 0 && seen.first - due >= late && was_down, "{plan:?} said that it was late: {seen:?}");
                self.world.became("late");
            }
        }
        let Some(every) = plan.every else {
            assert_eq!(of_plan.len(), 1, "{plan:?} occurs once: {of_plan:?}");
            return;
        };
        let every = every * MINUTE;
        let first = if plan.expression.starts_with("cron") { plan.made.div_ceil(every) * every } else { plan.made };
        let expected = (0..).map(|times| first + times * every).take_while(|at| at + window + MINUTE < end);
        for at in expected.filter(|at| !of_plan.contains_key(at)) {
            let before = of_plan.range(..at).rev().find(|(_, seen)| seen.late.is_some());
            let is_skipped = before.is_some_and(|(_, seen)| seen.first >= at);
            assert!(is_skipped, "{plan:?} has left out {at}: {before:?}, lives {:?}", self.lives);
            self.world.became("skipped");
        }
        assert!(of_plan.keys().all(|at| (at - first) % every == 0), "{plan:?} fires when it should not: {of_plan:?}");
    }
}

fn history(seed: u64) -> BTreeSet<&'static str> {
    let mut simulation = Simulation::new(seed);
    let world = simulation.world.clone();
    let plans = simulation.live(async |schedules| {
        tokio::time::sleep(Duration::from_secs(world.chance.next(600))).await;
        let made = world.now();
        let mut plans: Vec<Plan> = (0..4).map(|at| Plan::of(&world.chance, at, made)).collect();
        for plan in &mut plans {
            plan.made = world.now();
            while schedules.create_schedule(&cx(), plan.input()).await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                plan.made = world.now();
            }
        }
        tokio::time::sleep(Duration::from_millis(1 + world.chance.next(1_200_000))).await;
        plans
    });
    for _ in 0..world.chance.next(4) {
        // Dead for a moment, or for a while.
        let most = if world.chance.once_in(2) { 30 } else { 40 * 60 };
        simulation.down(Duration::from_secs(1 + world.chance.next(most)));
        simulation.live(async |_| {
            tokio::time::sleep(Duration::from_millis(1 + world.chance.next(1_200_000))).await;
        });
    }
    simulation.down(Duration::from_secs(1 + world.chance.next(600)));
    let end = simulation.live(async |schedules| {
        tokio::time::sleep(Duration::from_secs(1_200)).await;
        let end = world.now();
        for plan in &plans {
            // Those that are completed are gone.
            let input = DeleteScheduleInput { name: Some(plan.name.clone()), ..DeleteScheduleInput::default() };
            let deleted = loop {
                match schedules.delete_schedule(&cx(), input.clone()).await {
                    Err(error) if error.status == 500 => {}
                    deleted => break deleted,
                }
            };
            if let Some(is_over) = plan.is_over(end) {
                assert_eq!(deleted.is_err(), is_over, "{plan:?}");
            }
        }
        tokio::time::sleep(END).await;
        end
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let census = runtime.block_on(simulation.queue.census("schedule")).unwrap();
    assert_eq!((census.waiting, census.taken), (0, 0), "something is left");
    for plan in &plans {
        if plan.every.is_some() || plan.is_over(end) == Some(true) {
            simulation.holds(plan, end);
        }
    }
    world.became.lock().unwrap().clone()
}

impl Plan {
    /// Whether a schedule was completed by then; `None` where its window does not tell.
    fn is_over(&self, moment: u64) -> Option<bool> {
        let Some(text) = self.expression.strip_prefix("at(") else { return Some(false) };
        let at: jiff::civil::DateTime = text.trim_end_matches(')').parse().unwrap();
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond() as u64;
        match at + self.window.unwrap_or(0) * MINUTE {
            last if last < moment => Some(true),
            _ if at > moment => Some(false),
            _ => None,
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_late_without_saying_so() {
    let mut became = BTreeSet::new();
    let many = histories(200, history, |lived| became.extend(lived));
    let whatever = ["buried", "failed", "late", "not written", "reached", "reached again", "skipped"];
    assert!(!many || whatever.iter().all(|what| became.contains(what)), "not everything happens: {became:?}");
}
