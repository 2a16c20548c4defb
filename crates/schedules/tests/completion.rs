//! What is left of occurrences and schedules that are over, and of those that cannot be read, under a virtual clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use hearth_model::{BoxFuture, Clock};
use hearth_schedules::{Attempt, Config, DeadLetter, Failure, Ports, Schedules, Targets};
use hearth_store::queue::{Look, Message, NEVER};
use hearth_store::simulation::{Rewritten, Virtual, Written};
use hearth_store::{Expect, Key, MemoryQueue, MemoryRecords, Queue, Records, Write};
use hearth_wire::{Context, Error};
use hearth_wire_scheduler::SchedulesApi;
use hearth_wire_scheduler::types::*;

const PARTITION: &str = "000000000000/us-east-1";
/// What became of occurrences is kept for so long, here.
const RETENTION: Duration = Duration::from_secs(120);

/// Reached at once, and counted.
#[derive(Default)]
struct Reached(AtomicUsize);

impl Targets for Reached {
    fn reach<'a>(&'a self, _: &'a Attempt<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn bury<'a>(&'a self, _: DeadLetter<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

struct Room {
    schedules: Schedules,
    clock: Arc<Virtual>,
    records: Arc<MemoryRecords>,
    /// Whether writing a record takes longer than a minute: something is due whenever one ends.
    is_slow: Arc<AtomicBool>,
    queue: Arc<MemoryQueue>,
    reached: Arc<Reached>,
}

fn cx() -> Context {
    Context::new("000000000000", "us-east-1", "r", "http://localhost", None)
}

async fn passes(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Room {
    async fn begin() -> Self {
        let clock = Arc::<Virtual>::default();
        clock.begin();
        Room::on(clock, Arc::default(), Arc::default()).await
    }

    async fn on(clock: Arc<Virtual>, records: Arc<MemoryRecords>, queue: Arc<MemoryQueue>) -> Self {
        let (reached, is_slow) = (Arc::<Reached>::default(), Arc::<AtomicBool>::default());
        let slow = is_slow.clone();
        let written = move |records: Arc<MemoryRecords>, writes| -> Written {
            let takes = Duration::from_secs(if slow.load(Ordering::Relaxed) { 61 } else { 0 });
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                records.commit(writes).await
            })
        };
        let ports = Ports {
            records: Arc::new(Rewritten::new(records.clone(), written)),
            queue: queue.clone(),
            targets: reached.clone(),
            roles: None,
            clock: clock.clone(),
            uuids: Arc::new(uuid::Uuid::new_v4),
        };
        let schedules = Schedules::open(Config::new(RETENTION), ports).await.unwrap();
        schedules.run();
        Room { schedules, clock, records, is_slow, queue, reached }
    }

    fn seconds(&self) -> i64 {
        self.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
    }

    async fn make(&self, name: &str, expression: &str, more: CreateScheduleInput) -> Result<(), Error> {
        let target = Target {
            arn: Some("arn:aws:sqs:us-east-1:000000000000:q".to_owned()),
            role_arn: Some("arn:aws:iam::000000000000:role/r".to_owned()),
            input: Some("a long text".to_owned()),
            ..Target::default()
        };
        let input = CreateScheduleInput {
            name: Some(name.to_owned()),
            schedule_expression: Some(expression.to_owned()),
            flexible_time_window: Some(FlexibleTimeWindow { mode: Some("OFF".to_owned()), ..Default::default() }),
            target: Some(target),
            ..more
        };
        self.schedules.create_schedule(&cx(), input).await.map(drop)
    }

    async fn is_there(&self, name: &str) -> bool {
        let get = GetScheduleInput { name: Some(name.to_owned()), ..Default::default() };
        self.schedules.get_schedule(&cx(), get).await.is_ok()
    }

    async fn occurrences(&self) -> Vec<Message> {
        let (since, until, below, limit) = (0, NEVER, NEVER, usize::MAX);
        let look = Look { kind: "schedule", partition: None, name: None, state: None, since, until, below, limit };
        self.queue.look(look).await.unwrap()
    }

    fn reached(&self) -> usize {
        self.reached.0.load(Ordering::Relaxed)
    }

    fn set_aside(&self) -> u64 {
        self.schedules.counted().iter().map(|counted| counted.numbers.set_aside).sum()
    }
}

fn goes() -> CreateScheduleInput {
    CreateScheduleInput { action_after_completion: Some("DELETE".to_owned()), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_rests_without_its_body() {
    let room = Room::begin().await;
    room.make("a", "at(2020-01-01T00:00:00)", CreateScheduleInput::default()).await.ok().unwrap();
    passes(5).await;
    let messages = room.occurrences().await;
    let (message, body) = room.queue.find("schedule", messages[0].id.clone()).await.unwrap().unwrap();
    assert_eq!((room.reached(), messages.len(), message.size, body.len()), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_outlived_its_retention_goes_also_while_something_is_always_due() {
    let room = Room::begin().await;
    room.make("a", "rate(1 minute)", CreateScheduleInput::default()).await.ok().unwrap();
    room.is_slow.store(true, Ordering::Relaxed);
    passes(1800).await;
    assert!(room.reached() > 25, "{}", room.reached());
    // Those of the retention, and those that came between two sweeps.
    let left = room.occurrences().await.len();
    assert!(left <= 5, "{left} are left");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_schedule_is_set_aside_and_others_fire() {
    let room = Room::begin().await;
    for name in ["a", "b"] {
        room.make(name, "rate(1 minute)", CreateScheduleInput::default()).await.ok().unwrap();
    }
    passes(5).await;
    assert_eq!((room.reached(), room.set_aside()), (2, 0));
    let key = Key { partition: PARTITION.to_owned(), kind: "schedule", id: "default/a".to_owned() };
    let damage = Write::Put { key, expect: Expect::Anything, value: "{\"uuid\"".into() };
    room.records.commit(vec![damage]).await.unwrap();
    passes(300).await;
    assert_eq!((room.reached(), room.set_aside()), (7, 1));
    // After a start, too.
    room.schedules.stop();
    room.schedules.stopped().await;
    let room = Room::on(room.clock, room.records, room.queue).await;
    passes(300).await;
    assert_eq!((room.reached(), room.set_aside()), (5, 1));
    // It is seen, and can be deleted.
    let listed = room.schedules.list_schedules(&cx(), ListSchedulesInput::default()).await.ok().unwrap();
    let names: Vec<_> = listed.schedules.unwrap().into_iter().filter_map(|schedule| schedule.name).collect();
    assert_eq!(names, ["a", "b"]);
    let gone = DeleteScheduleInput { name: Some("a".to_owned()), ..Default::default() };
    room.schedules.delete_schedule(&cx(), gone).await.ok().unwrap();
    room.make("a", "rate(1 minute)", CreateScheduleInput::default()).await.ok().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_asked_for_again_does_not_fire_again_when_it_is_completed_and_gone() {
    let room = Room::begin().await;
    let once = |token: &str| CreateScheduleInput { client_token: Some(token.to_owned()), ..goes() };
    room.make("a", "at(2020-01-01T00:00:00)", once("t")).await.ok().unwrap();
    passes(5).await;
    assert_eq!((room.reached(), room.is_there("a").await), (1, false));
    // After a start, too.
    room.schedules.stop();
    room.schedules.stopped().await;
    let room = Room::on(room.clock, room.records, room.queue).await;
    room.make("a", "at(2020-01-01T00:00:00)", once("t")).await.ok().unwrap();
    passes(600).await;
    assert_eq!((room.reached(), room.is_there("a").await), (0, false));
    // Another request is another schedule.
    room.make("a", "at(2020-01-01T00:00:00)", once("u")).await.ok().unwrap();
    passes(5).await;
    assert_eq!(room.reached(), 1);
    // It is not remembered for ever.
    assert_eq!(room.records.all("schedule-gone", None, 9).await.unwrap().len(), 2);
    passes(2 * 3600).await;
    assert_eq!(room.records.all("schedule-gone", None, 9).await.unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_never_occurs_goes_when_its_end_is_over() {
    let room = Room::begin().await;
    let end = |action: &str| CreateScheduleInput {
        end_date: Some((room.seconds() + 300) as f64),
        action_after_completion: Some(action.to_owned()),
        ..Default::default()
    };
    room.make("goes", "cron(0 0 1 1 ? 2190)", end("DELETE")).await.ok().unwrap();
    room.make("stays", "cron(0 0 1 1 ? 2190)", end("NONE")).await.ok().unwrap();
    passes(290).await;
    assert_eq!((room.is_there("goes").await, room.is_there("stays").await), (true, true));
    passes(60).await;
    assert_eq!((room.is_there("goes").await, room.is_there("stays").await), (false, true));
    assert_eq!(room.reached(), 0);
}
