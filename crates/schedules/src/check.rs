//! What a schedule may be told, beyond the constraints of the model. Texts that are not AWS's: decision 34.

use hearth_model::AccountId;
use hearth_store::queue::Ms;
use hearth_wire::{Context, Error};
use hearth_wire_scheduler::errors::validation_exception as invalid;
use hearth_wire_scheduler::types::{self, CreateScheduleInput, FlexibleTimeWindow};
use serde::de::IgnoredAny;

use crate::expression::Expression;
use crate::record::{Definition, Target};
use crate::targets::Kind;
use crate::timetable::{UTC, zone};
use crate::universal::Unusable;

/// Longest input, bytes.
const INPUT_MAX: usize = 256 * 1024;
/// How long ago a start may be.
const START_AGO: Ms = 5 * 60_000;
const AGE_MAX_S: u32 = 86_400;
const RETRIES: u32 = 185;
const ENABLED: &str = "ENABLED";

/// What a request tells a schedule to do. `operation` is named where it asks for what is not built.
pub fn definition(cx: &Context, operation: &str, input: CreateScheduleInput, now: Ms) -> Result<Definition, Error> {
    let text = input.schedule_expression.unwrap_or_default();
    let Some(expression) = Expression::parse(&text) else {
        return Err(invalid(format!("Invalid Schedule Expression {text}.")));
    };
    let zone_name = input.schedule_expression_timezone.unwrap_or_else(|| UTC.to_owned());
    if zone(&zone_name).is_none() {
        return Err(invalid(format!("Invalid Schedule Expression Timezone {zone_name}.")));
    }
    let (start, end) = (moment(input.start_date), moment(input.end_date));
    if !matches!(expression, Expression::At(_)) {
        dates(start, end, now)?;
    }
    let target = target(cx, operation, input.target.unwrap_or_default())?;
    Ok(Definition {
        description: input.description,
        expression: text,
        zone: zone_name,
        start,
        end,
        window_minutes: window(input.flexible_time_window.unwrap_or_default())?,
        enabled: input.state.is_none_or(|state| state == ENABLED),
        goes: input.action_after_completion.is_some_and(|action| action == "DELETE"),
        kms_key: input.kms_key_arn,
        target,
    })
}

fn moment(seconds: Option<f64>) -> Option<Ms> {
    // Beyond what a clock shows, a number stays the greatest or the smallest.
    seconds.map(|seconds| (seconds * 1000.0).round() as Ms)
}

fn dates(start: Option<Ms>, end: Option<Ms>, now: Ms) -> Result<(), Error> {
    if start.is_some_and(|start| start.saturating_add(START_AGO) < now) {
        return Err(invalid("The StartDate you specify cannot be earlier than 5 minutes ago."));
    }
    match (start, end) {
        (_, Some(end)) if end < now => Err(invalid("The EndDate you specify cannot be in the past.")),
        (Some(start), Some(end)) if start >= end => {
            Err(invalid("The StartDate you specify must come before the EndDate."))
        }
        _ => Ok(()),
    }
}

fn window(window: FlexibleTimeWindow) -> Result<Option<u32>, Error> {
    let minutes = window.maximum_window_in_minutes.and_then(|minutes| u32::try_from(minutes).ok());
    match (window.mode.as_deref(), minutes) {
        (Some("FLEXIBLE"), Some(minutes)) => Ok(Some(minutes)),
        (Some("FLEXIBLE"), None) => {
            Err(invalid("MaximumWindowInMinutes is required when the mode of FlexibleTimeWindow is FLEXIBLE."))
        }
        (_, Some(_)) => Err(invalid("MaximumWindowInMinutes goes with the mode FLEXIBLE of FlexibleTimeWindow.")),
        (_, None) => Ok(None),
    }
}

fn target(cx: &Context, operation: &str, target: types::Target) -> Result<Target, Error> {
    let refused = |what: &str| Err(Error::not_supported(format_args!("scheduler:{operation} with {what}")));
    let arn = target.arn.unwrap_or_default();
    for (is_there, name) in [
        (target.ecs_parameters.is_some(), "EcsParameters"),
        (target.event_bridge_parameters.is_some(), "EventBridgeParameters"),
        (target.event_bridge_put_events_v2_parameters.is_some(), "EventBridgePutEventsV2Parameters"),
        (target.event_bridge_put_raw_events_parameters.is_some(), "EventBridgePutRawEventsParameters"),
        (target.kinesis_parameters.is_some(), "KinesisParameters"),
        (target.sage_maker_pipeline_parameters.is_some(), "SageMakerPipelineParameters"),
    ] {
        if is_there {
            return refused(&format!("Target.{name}"));
        }
    }
    if !arn.starts_with("arn:") {
        return Err(invalid(format!("Provided Arn is not in correct format: {arn}")));
    }
    let Some(kind) = Kind::of(&arn) else { return refused(&format!("the target {arn}")) };
    let role = target.role_arn.unwrap_or_default();
    if role.split(':').nth(4).and_then(AccountId::parse).is_none_or(|account| account.as_str() != cx.account) {
        return Err(Error::new(403, "AccessDeniedException", "Cross-account pass role is not allowed."));
    }
    let message_group = target.sqs_parameters.and_then(|parameters| parameters.message_group_id);
    match (&kind, &message_group) {
        (Kind::Queue { is_fifo: true }, None) => {
            return Err(invalid("SqsParameters.MessageGroupId is required when the target is a FIFO queue."));
        }
        (Kind::Queue { is_fifo: true }, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(invalid("SqsParameters.MessageGroupId goes with targets that are FIFO queues.")),
    }
    let policy = target.retry_policy.unwrap_or_default();
    let number = |given: Option<i64>, default| given.and_then(|given| u32::try_from(given).ok()).unwrap_or(default);
    Ok(Target {
        input: input(cx, operation, target.input, &kind)?,
        arn,
        role,
        // The model's pattern lets no FIFO queue through.
        dead_letters: target.dead_letter_config.and_then(|config| config.arn),
        age_max_s: number(policy.maximum_event_age_in_seconds, AGE_MAX_S),
        retries: number(policy.maximum_retry_attempts, RETRIES),
        message_group,
    })
}

fn input(cx: &Context, operation: &str, text: Option<String>, kind: &Kind) -> Result<Option<String>, Error> {
    if text.as_ref().is_some_and(|text| text.len() > INPUT_MAX) {
        return Err(invalid(format!("The Input of a target has at most {INPUT_MAX} bytes.")));
    }
    match (kind, &text) {
        (Kind::Function(_), Some(text)) if serde_json::from_str::<IgnoredAny>(text).is_err() => {
            return Err(invalid("The Input of a function must be well-formed JSON."));
        }
        (Kind::Universal(request), text) => {
            let text = text.as_deref().unwrap_or("{}");
            request.read(text, &cx.account, &cx.region).map_err(|unusable| match unusable {
                Unusable::Invalid(why) => invalid(why),
                Unusable::NotBuilt(what) => Error::not_supported(format_args!("scheduler:{operation} with {what}")),
            })?;
        }
        _ => {}
    }
    Ok(text)
}
