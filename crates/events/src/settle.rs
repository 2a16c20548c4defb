//! The end of an event: what becomes of it is delivered, and then written in the transaction that takes it off its queue.
//!
//! Functions get their record in that transaction itself, as an event of their own. What leaves the room is delivered
//! before it, so that a crash between the two delivers it again rather than never.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_model::{ASYNC_PAYLOAD_MAX, FunctionArn, FunctionVersion, Qualifier, Trace};
use hearth_store::queue::{Change, Message};

use crate::attempt::cut;
use crate::destination::{Delivery, Parcel, Service, Target};
use crate::events::Shared;
use crate::note::{DELIVERED, DROPPED, KIND, Note, SUCCEEDED};
use crate::record::{self, Answer, Facts};
use crate::retry::Condition;

/// Tries of a delivery, one second apart and then two. AWS says nothing of how often it tries.
const TRIES: u32 = 3;
/// Longest that one may take.
const DELIVERY_MAX: Duration = Duration::from_secs(10);
/// Longest `ErrorMessage` of a dead letter, bytes.
const DEAD_LETTER_ERROR_MAX: usize = 1024;

pub struct Over {
    pub condition: Condition,
    /// Of the last attempt that reached the function.
    pub answer: Option<Answer>,
    /// `None` when there is none any more.
    pub function: Option<Arc<FunctionVersion>>,
}

/// What was delivered where, and what was not and why.
#[derive(Default)]
struct Delivered {
    to: Vec<String>,
    failed: Vec<String>,
    /// Of this room's queues.
    changes: Vec<Change>,
    woken: Vec<FunctionArn>,
}

/// Ends an event.
pub async fn over(shared: &Arc<Shared>, message: &Message, mut note: Note, payload: Bytes, over: Over) {
    let arn = FunctionArn::parse(&note.arn);
    let mut delivered = Delivered::default();
    if let Some(arn) = &arn {
        deliver(shared, arn, message, &note, &payload, &over, &mut delivered).await;
    }
    let success = over.condition == Condition::Success;
    let state = match (success, delivered.to.is_empty()) {
        (true, _) => SUCCEEDED,
        (false, false) => DELIVERED,
        (false, true) => DROPPED,
    };
    note.answer = None;
    note.destination = Some(delivered.to.join(",")).filter(|to| !to.is_empty());
    note.reason = (!success).then(|| over.condition.as_str().to_owned());
    note.detail = Some(delivered.failed.join("; ")).filter(|failed| !failed.is_empty());
    if let Some(detail) = &note.detail {
        tracing::warn!(request_id = %message.id, function = %note.arn, %detail, "a delivery failed");
    }
    let mut changes = delivered.changes;
    changes.push(Change::Rest { receipt: message.receipt(), state, note: note.written() });
    changes.push(tally(state));
    changes.extend(note.reason.as_ref().map(|reason| tally(&format!("reason/{reason}"))));
    if !shared.commit(changes).await {
        return;
    }
    if let (Some(arn), false) = (&arn, success) {
        shared.counts.dropped(arn);
    }
    for woken in delivered.woken {
        shared.counts.received(&woken);
        shared.wake(&crate::note::queue_of(&woken));
    }
}

pub fn tally(name: &str) -> Change {
    Change::Tally { kind: KIND, name: name.to_owned(), by: 1 }
}

async fn deliver(
    shared: &Arc<Shared>,
    arn: &FunctionArn,
    message: &Message,
    note: &Note,
    payload: &Bytes,
    over: &Over,
    delivered: &mut Delivered,
) {
    let success = over.condition == Condition::Success;
    let latest = || arn.qualified(Qualifier::new(Qualifier::LATEST));
    let qualified = if arn.qualifier.is_some() { arn.clone() } else { latest() };
    if let Some(destination) = shared.configs.destination(&qualified, success) {
        let facts = Facts {
            at: shared.now(),
            request_id: &message.id,
            function_arn: &qualified.to_string(),
            condition: over.condition.as_str(),
            attempts: note.tried(),
            payload,
            answer: over.answer.as_ref(),
        };
        let record = record::json(&facts);
        match Target::parse(&destination) {
            Some(target) if target.service == Service::Lambda => {
                to_function(shared, arn, &target, record, note, delivered)
            }
            Some(target) => {
                let parcel = || Parcel::Record {
                    json: record.clone(),
                    success,
                    function_arn: latest().to_string(),
                    function_name: arn.name.to_string(),
                    request_id: message.id.clone(),
                    at: facts.at,
                };
                if !courier(shared, arn, note, target, parcel, delivered).await {
                    shared.counts.destination_failed(arn);
                }
            }
            None => delivered.failed.push(format!("{destination}: no destination")),
        }
    }
    let dead_letters = over.function.as_ref().and_then(|function| function.dead_letters.as_deref());
    if let (false, Some(queue)) = (success, dead_letters) {
        let (code, text) = dead_letter_error(note, over);
        let parcel = || Parcel::DeadLetter {
            body: payload.clone(),
            request_id: message.id.clone(),
            error_code: code.clone(),
            error_message: text.clone(),
        };
        let reached = match Target::parse(queue) {
            Some(target) => courier(shared, arn, note, target, parcel, delivered).await,
            None => {
                delivered.failed.push(format!("{queue}: no dead-letter queue"));
                false
            }
        };
        if !reached {
            shared.counts.dead_letter_failed(arn);
        }
    }
}

/// `ErrorCode` and `ErrorMessage` (spec 5.6). What is said of events that never failed in the function is Hearth's own.
fn dead_letter_error(note: &Note, over: &Over) -> (String, String) {
    let said = match &over.answer {
        Some(answer) => answer.error().1.unwrap_or_else(|| answer.payload.get().to_owned()),
        None => over.condition.as_str().to_owned(),
    };
    let refused = note.refusals > 0 || over.condition == Condition::ZeroReservedConcurrency;
    let code = if refused { "429" } else { "200" };
    (code.to_owned(), cut(said, DEAD_LETTER_ERROR_MAX))
}

/// The record becomes an event of the other function, in the transaction that ends this one.
fn to_function(
    shared: &Shared,
    from: &FunctionArn,
    target: &Target,
    record: Bytes,
    note: &Note,
    delivered: &mut Delivered,
) {
    let mut to = || {
        let arn = FunctionArn::parse(&target.arn).ok_or("no function's ARN")?;
        shared.ports.functions.known(&arn).map_err(|error| error.to_string())?;
        if arn.account != from.account && !shared.ports.functions.lets_invoke(&arn, &from.account) {
            return Err("access denied".to_owned());
        }
        if record.len() > ASYNC_PAYLOAD_MAX {
            return Err(format!("the record has {} bytes, more than {ASYNC_PAYLOAD_MAX}", record.len()));
        }
        let now = shared.now() / 1000;
        let trace = note.trace.as_deref().map(|trace| {
            let mut trace = Trace::of(Some(trace), now, uuid::Uuid::new_v4().as_u128());
            trace.enter(&arn, shared.ports.guard.means_all());
            trace.for_runtime
        });
        let new = Note { arn: target.arn.clone(), trace, ..Note::default() };
        delivered.changes.extend(shared.accepting(&arn, uuid::Uuid::new_v4().to_string(), &new, record.clone()));
        delivered.woken.push(arn);
        Ok::<(), String>(())
    };
    match to() {
        Ok(()) => delivered.to.push(target.arn.clone()),
        Err(why) => {
            shared.counts.destination_failed(from);
            delivered.failed.push(format!("{}: {why}", target.arn));
        }
    }
}

/// Whether it arrived.
async fn courier(
    shared: &Arc<Shared>,
    arn: &FunctionArn,
    note: &Note,
    target: Target,
    parcel: impl Fn() -> Parcel,
    delivered: &mut Delivered,
) -> bool {
    let mut why = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
        }
        let delivery = Delivery {
            account: arn.account.to_string(),
            region: arn.region.to_string(),
            target: target.clone(),
            parcel: parcel(),
            trace: note.trace.clone(),
        };
        let delivering = tokio::time::timeout(DELIVERY_MAX, shared.ports.couriers.deliver(delivery)).await;
        match delivering.unwrap_or_else(|_| Err(format!("no answer within {} s", DELIVERY_MAX.as_secs()))) {
            Ok(()) => {
                delivered.to.push(target.arn);
                return true;
            }
            Err(error) => why = error,
        }
        if shared.ports.couriers.unable(target.service).is_some() {
            break;
        }
    }
    delivered.failed.push(format!("{}: {why}", target.arn));
    false
}
