//! Schedules and groups as they are answered.

use hearth_store::queue::Ms;
use hearth_wire_scheduler::types::*;

use crate::record::{GroupRecord, Place, ScheduleRecord, group_arn};

fn seconds(moment: Ms) -> Option<f64> {
    Some(moment as f64 / 1000.0)
}

fn state(record: &ScheduleRecord) -> Option<String> {
    Some(if record.definition.enabled { "ENABLED" } else { "DISABLED" }.to_owned())
}

pub fn schedule(place: &Place, record: ScheduleRecord) -> GetScheduleOutput {
    let state = state(&record);
    let definition = record.definition;
    let target = definition.target;
    let mode = if definition.window_minutes.is_some() { "FLEXIBLE" } else { "OFF" };
    GetScheduleOutput {
        arn: Some(place.arn()),
        group_name: Some(place.group.clone()),
        name: Some(place.name.clone()),
        action_after_completion: Some(if definition.goes { "DELETE" } else { "NONE" }.to_owned()),
        creation_date: seconds(record.created),
        last_modification_date: seconds(record.modified),
        description: definition.description,
        end_date: definition.end.and_then(seconds),
        flexible_time_window: Some(FlexibleTimeWindow {
            mode: Some(mode.to_owned()),
            maximum_window_in_minutes: definition.window_minutes.map(i64::from),
        }),
        kms_key_arn: definition.kms_key,
        schedule_expression: Some(definition.expression),
        schedule_expression_timezone: Some(definition.zone),
        start_date: definition.start.and_then(seconds),
        state,
        target: Some(Target {
            arn: Some(target.arn),
            role_arn: Some(target.role),
            input: target.input,
            dead_letter_config: target.dead_letters.map(|arn| DeadLetterConfig { arn: Some(arn) }),
            retry_policy: Some(RetryPolicy {
                maximum_event_age_in_seconds: Some(target.age_max_s.into()),
                maximum_retry_attempts: Some(target.retries.into()),
            }),
            sqs_parameters: target.message_group.map(|group| SqsParameters { message_group_id: Some(group) }),
            ..Target::default()
        }),
    }
}

pub fn summary(place: &Place, record: ScheduleRecord) -> ScheduleSummary {
    ScheduleSummary {
        arn: Some(place.arn()),
        name: Some(place.name.clone()),
        group_name: Some(place.group.clone()),
        state: state(&record),
        creation_date: seconds(record.created),
        last_modification_date: seconds(record.modified),
        target: Some(TargetSummary { arn: Some(record.definition.target.arn) }),
    }
}

/// Of a schedule whose record cannot be read: that it is there.
pub fn unreadable(place: &Place) -> ScheduleSummary {
    ScheduleSummary {
        arn: Some(place.arn()),
        name: Some(place.name.clone()),
        group_name: Some(place.group.clone()),
        ..ScheduleSummary::default()
    }
}

pub fn group(partition: &str, name: &str, record: &GroupRecord) -> ScheduleGroupSummary {
    ScheduleGroupSummary {
        arn: Some(group_arn(partition, name)),
        name: Some(name.to_owned()),
        state: Some(if record.going { "DELETING" } else { "ACTIVE" }.to_owned()),
        creation_date: seconds(record.created),
        last_modification_date: seconds(record.modified),
    }
}
