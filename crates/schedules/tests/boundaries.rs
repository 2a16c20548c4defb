//! Quotas at their boundary, and groups that a death has left half gone.

use std::sync::Arc;
use std::time::Duration;

use hearth_model::{BoxFuture, SystemClock};
use hearth_schedules::{Attempt, Config, DeadLetter, Failure, Ports, Schedules, Targets};
use hearth_store::{Expect, Key, MemoryQueue, MemoryRecords, Records, Write};
use hearth_wire::{Context, Error};
use hearth_wire_scheduler::types::*;
use hearth_wire_scheduler::{GroupsApi, SchedulesApi};

struct Nowhere;

impl Targets for Nowhere {
    fn reach<'a>(&'a self, _: &'a Attempt<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::pending())
    }

    fn bury<'a>(&'a self, _: DeadLetter<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::pending())
    }
}

async fn open(records: &Arc<MemoryRecords>, schedules_max: usize, groups_max: usize) -> Schedules {
    let ports = Ports {
        records: records.clone(),
        queue: Arc::<MemoryQueue>::default(),
        targets: Arc::new(Nowhere),
        roles: None,
        clock: Arc::new(SystemClock),
        uuids: Arc::new(uuid::Uuid::new_v4),
    };
    let config = Config { schedules_max, groups_max, ..Config::new(Duration::from_secs(60)) };
    Schedules::open(config, ports).await.unwrap()
}

fn cx() -> Context {
    Context::new("000000000000", "us-east-1", "r", "http://localhost", None)
}

async fn make(schedules: &Schedules, group: Option<&str>, name: &str) -> Result<CreateScheduleOutput, Error> {
    let target = Target {
        arn: Some("arn:aws:sqs:us-east-1:000000000000:q".to_owned()),
        role_arn: Some("arn:aws:iam::000000000000:role/r".to_owned()),
        ..Target::default()
    };
    let window = FlexibleTimeWindow { mode: Some("OFF".to_owned()), ..FlexibleTimeWindow::default() };
    let input = CreateScheduleInput {
        group_name: group.map(str::to_owned),
        name: Some(name.to_owned()),
        schedule_expression: Some("rate(1 day)".to_owned()),
        flexible_time_window: Some(window),
        target: Some(target),
        ..CreateScheduleInput::default()
    };
    schedules.create_schedule(&cx(), input).await
}

async fn make_group(schedules: &Schedules, name: &str) -> Result<CreateScheduleGroupOutput, Error> {
    let input = CreateScheduleGroupInput { name: Some(name.to_owned()), ..CreateScheduleGroupInput::default() };
    schedules.create_schedule_group(&cx(), input).await
}

fn refused<T>(answer: Result<T, Error>) -> (u16, String) {
    answer.err().map(|error| (error.status, error.code.into_owned())).unwrap_or_default()
}

#[tokio::test]
async fn there_are_as_many_schedules_and_groups_as_the_quotas_say() {
    let records = Arc::default();
    let over_quota = (402, "ServiceQuotaExceededException".to_owned());
    let schedules = open(&records, 3, 2).await;
    for name in ["a", "b", "c"] {
        assert!(make(&schedules, None, name).await.is_ok());
    }
    assert_eq!(refused(make(&schedules, None, "d").await), over_quota);
    // One that is there is not counted again, nor one that is gone.
    assert_eq!(refused(make(&schedules, None, "a").await).0, 409);
    let gone = DeleteScheduleInput { name: Some("a".to_owned()), ..DeleteScheduleInput::default() };
    schedules.delete_schedule(&cx(), gone).await.ok().unwrap();
    assert!(make(&schedules, None, "d").await.is_ok());
    // The default group is one of them.
    assert!(make_group(&schedules, "g").await.is_ok());
    assert_eq!(refused(make_group(&schedules, "h").await), over_quota);
    // After a restart, too.
    let schedules = open(&records, 3, 2).await;
    assert_eq!(refused(make(&schedules, None, "e").await), over_quota);
}

#[tokio::test]
async fn a_group_that_was_going_is_gone_after_a_restart() {
    let records: Arc<MemoryRecords> = Arc::default();
    let schedules = open(&records, 1000, 500).await;
    make_group(&schedules, "g").await.ok().unwrap();
    for at in 0..120 {
        make(&schedules, Some("g"), &format!("s{at}")).await.ok().unwrap();
    }
    make(&schedules, None, "s0").await.ok().unwrap();
    // As a server leaves it that dies over the deletion.
    let key = Key { partition: "000000000000/us-east-1".to_owned(), kind: "schedule-group", id: "g".to_owned() };
    let group = records.get(key.clone()).await.unwrap().unwrap();
    let mut group: serde_json::Value = serde_json::from_slice(&group.value).unwrap();
    group["going"] = true.into();
    let value = serde_json::to_vec(&group).unwrap().into();
    records.commit(vec![Write::Put { key, expect: Expect::Anything, value }]).await.unwrap();
    // Nothing is made in it meanwhile.
    assert_eq!(refused(make(&schedules, Some("g"), "late").await), (409, "ConflictException".to_owned()));
    let schedules = open(&records, 1000, 500).await;
    let get = GetScheduleGroupInput { name: Some("g".to_owned()) };
    assert_eq!(refused(schedules.get_schedule_group(&cx(), get).await).0, 404);
    let listed = schedules.list_schedules(&cx(), ListSchedulesInput::default()).await.ok().unwrap();
    let names: Vec<Option<String>> = listed.schedules.unwrap().into_iter().map(|schedule| schedule.name).collect();
    assert_eq!(names, [Some("s0".to_owned())]);
}
