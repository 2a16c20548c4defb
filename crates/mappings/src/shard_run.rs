//! One run of one batch of a shard, and what is told of records that are given up (spec 6.5).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_events::{Delivery, Parcel, Target};
use hearth_model::{FunctionArn, InvokeError, LookupError, Trace, Way, draw};
use hearth_store::queue::Ms;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::batch::{self, Answered};
use crate::counts::add;
use crate::mappings::{Live, Shared};
use crate::record::MappingRecord;
use crate::shard::{Condition, Discard, Ended, Entry, Ran, Window, Work};
use crate::stream::Origin;
use crate::verdict::{self, Verdict};

const FAILED: &str = "PROBLEM: Function call failed";
/// Attempts to reach a destination, and the wait after the first, which doubles. Then the records are given up without.
const DELIVERIES: u32 = 6;
const DELIVER_AGAIN: Duration = Duration::from_millis(250);
/// One that does not answer by then has failed.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

pub struct Run<'a> {
    pub shared: &'a Arc<Shared>,
    pub live: &'a Live,
    pub record: &'a MappingRecord,
    pub origin: &'a Origin,
}

impl Run<'_> {
    pub async fn run(&self, work: Work) -> Ended {
        let Some(arn) = FunctionArn::parse(&self.record.function) else { return Ended::Refused };
        let found = self.shared.ports.functions.find(&arn);
        let function = match found.and_then(|target| target.choose(draw(uuid::Uuid::new_v4().as_u128()))) {
            Ok(function) => function,
            Err(LookupError::NotReady(_) | LookupError::Idle(_)) => {
                self.shared.ports.functions.wake(&arn);
                return Ended::Refused;
            }
            Err(LookupError::NotFound(_)) => {
                self.live.has_problem(Some("PROBLEM: Function does not exist".to_owned()));
                return Ended::Refused;
            }
        };
        // Streams pass no trace on, so what comes of one is in no chain: AWS sees no loops through them either.
        let now = self.shared.now();
        let mut trace = Trace::of(None, now / 1000, uuid::Uuid::new_v4().as_u128());
        let _ = self.shared.ports.guard.enter(&mut trace, &function.arn(), Way::Sent, || true);
        let length = work.records.iter().map(|entry| entry.json.len() + 1).sum::<usize>()
            + work.window.as_ref().map_or(0, |(window, _)| window.state.len());
        let payload = (length, &(|| payload(&work, self.origin)) as &(dyn Fn() -> Bytes + Sync));
        match batch::invoke(self.shared, &self.record.function, function, payload, trace).await {
            // The end of the server may have cut it off: no attempt.
            Ok(answered) if answered.failed && self.shared.stopping.is_cancelled() => Ended::Refused,
            Ok(answered) => {
                if let Some(last) = work.records.last() {
                    self.shared.ages.add(&arn, now.saturating_sub(last.arrived));
                }
                let ended = self.ended(&work, answered);
                let failed = match &ended {
                    Ended::Well { .. } => 0,
                    Ended::Partly { first, .. } => work.records.len() - first,
                    _ => work.records.len(),
                };
                add(&self.live.numbers.invoked, work.records.len());
                add(&self.live.numbers.failed, failed);
                self.live.has_run();
                let is_well = matches!(ended, Ended::Well { .. });
                self.live.has_problem((!is_well).then(|| FAILED.to_owned()));
                ended
            }
            Err(InvokeError::Throttled(_) | InvokeError::HostFull { .. } | InvokeError::ShuttingDown) => Ended::Refused,
            Err(error) => {
                self.live.has_problem(Some(format!("PROBLEM: {error}")));
                Ended::Refused
            }
        }
    }

    fn ended(&self, work: &Work, answered: Answered) -> Ended {
        let Answered { answer, failed, version, request_id } = answered;
        let ran = |is_error| Ran { request_id: request_id.clone(), version: version.clone(), is_error };
        if failed {
            return Ended::Failed(ran(true));
        }
        let (answer, state) = match work.window {
            None => (answer, None),
            // The last run of a window has nothing to keep.
            Some((_, true)) => return Ended::Well { state: None },
            Some((_, false)) => match without_state(&answer) {
                Some((answer, state)) => (answer, Some(state)),
                None => return Ended::Failed(ran(false)),
            },
        };
        let ids: Vec<&str> = work.records.iter().map(|entry| entry.sequence.0.as_str()).collect();
        match verdict::of(&answer, false, self.record.settings.reports, &ids) {
            Verdict::Success => Ended::Well { state },
            Verdict::Failed => Ended::Failed(ran(false)),
            Verdict::Partly(places) => {
                Ended::Partly { first: places.first().copied().unwrap_or_default(), ran: ran(false), state }
            }
        }
    }
}

/// The answer without the state of a window, and that. `None` where there is no state.
fn without_state(answer: &[u8]) -> Option<(Bytes, String)> {
    let mut members: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_slice(answer).ok()?;
    let state = members.remove("state")?;
    let rest = serde_json::to_vec(&members).ok()?;
    (state.get() != "null").then(|| (rest.into(), state.get().to_owned()))
}

fn payload(work: &Work, origin: &Origin) -> Bytes {
    let records: Vec<&str> = work.records.iter().map(|entry| entry.json.as_str()).collect();
    let records = records.join(",");
    let Some((window, is_final)) = &work.window else { return format!("{{\"Records\":[{records}]}}").into() };
    let Window { start, end, state, early, .. } = window;
    let (start, end) = (seconds(*start), seconds(*end));
    let (shard, stream) = (Value::from(origin.shard.as_str()), Value::from(origin.stream.as_str()));
    let early = *early && *is_final;
    format!(
        "{{\"Records\":[{records}],\"window\":{{\"start\":\"{start}\",\"end\":\"{end}\"}},\"state\":{state},\
         \"shardId\":{shard},\"eventSourceARN\":{stream},\"isFinalInvokeForWindow\":{is_final},\
         \"isWindowTerminatedEarly\":{early}}}"
    )
    .into()
}

fn timestamp(at: Ms) -> jiff::Timestamp {
    i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).unwrap_or_default()
}

/// `2026-01-31T12:00:00Z`.
fn seconds(at: Ms) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Takes records that are given up to where the mapping wants them. What cannot be taken there is dropped, and said so:
/// it must not keep the rest of its shard.
pub async fn discard(shared: &Shared, live: &Live, record: &MappingRecord, origin: &Origin, discard: Discard) {
    let Discard { records, .. } = &discard;
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        tracing::warn!(mapping = %live.uuid, shard = %origin.shard, "the end of a window is given up with its state");
        return;
    };
    add(&live.numbers.dropped, records.len());
    tracing::warn!(
        mapping = %live.uuid, shard = %origin.shard, first = %first.sequence.0, last = %last.sequence.0,
        condition = ?discard.condition, "records of a stream are given up"
    );
    let destination = record.settings.stream.as_ref().and_then(|stream| stream.on_failure.as_deref());
    let Some(target) = destination.and_then(Target::parse) else { return };
    let Some(function) = FunctionArn::parse(&record.function) else { return };
    let request_id = discard.ran.as_ref().map(|ran| ran.request_id.clone());
    let request_id = request_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let at = shared.now();
    let json = told(&function, origin, &discard, (first, last), &request_id, at);
    // Several batches of one run may be given up within one second.
    let object = uuid::Uuid::new_v4().to_string();
    let mut wait = DELIVER_AGAIN;
    for attempt in 1..=DELIVERIES {
        let parcel = Parcel::Batch {
            json: json.to_string().into(),
            records: Bytes::from(records.iter().map(|entry| entry.json.as_str()).collect::<Vec<_>>().join(",")),
            folder: format!("{}/{}", live.uuid, origin.shard),
            request_id: object.clone(),
            at,
        };
        let (account, region) = (function.account.to_string(), function.region.to_string());
        let delivery = Delivery { account, region, target: target.clone(), parcel, trace: None };
        let delivering = tokio::time::timeout(DELIVERY_MAX, shared.ports.couriers.deliver(delivery)).await;
        match delivering.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
            Ok(()) => return add(&live.numbers.delivered, records.len()),
            Err(error) if attempt == DELIVERIES => {
                tracing::error!(mapping = %live.uuid, destination = %target.arn, %error, "given up without a trace");
            }
            Err(error) => {
                tracing::warn!(mapping = %live.uuid, destination = %target.arn, %error, "a delivery failed");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
}

/// Recorded (spec 6.5).
fn told(
    function: &FunctionArn,
    origin: &Origin,
    discard: &Discard,
    (first, last): (&Entry, &Entry),
    request_id: &str,
    at: Ms,
) -> Value {
    let condition = match discard.condition {
        Condition::RetryAttemptsExhausted => "RetryAttemptsExhausted",
        Condition::RecordAgeExceeded => "RecordAgeExceeded",
    };
    let moment = |at| format!("{:.3}", timestamp(at));
    let mut told = json!({
        "requestContext": {
            "requestId": request_id,
            "functionArn": function.unqualified().to_string(),
            "condition": condition,
            "approximateInvokeCount": discard.attempts,
        },
        "version": "1.0",
        "timestamp": moment(at),
        "KinesisBatchInfo": {
            "shardId": origin.shard,
            "startSequenceNumber": first.sequence.0,
            "endSequenceNumber": last.sequence.0,
            "approximateArrivalOfFirstRecord": moment(first.arrived),
            "approximateArrivalOfLastRecord": moment(last.arrived),
            "batchSize": discard.records.len(),
            "streamArn": origin.stream,
        },
    });
    if let (Condition::RetryAttemptsExhausted, Some(ran)) = (discard.condition, &discard.ran) {
        let error = ran.is_error.then_some("Unhandled");
        told["responseContext"] = json!({"statusCode": 200, "executedVersion": ran.version, "functionError": error});
    }
    told
}
