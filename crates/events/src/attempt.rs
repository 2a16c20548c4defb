//! One run of one event: what it takes to begin, how it ended, and what follows.

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{
    FunctionArn, FunctionError, FunctionRef, FunctionVersion, Invocation, InvokeError, LookupError,
    RESPONSE_PAYLOAD_MAX, RequestId,
};
use hearth_store::queue::{Change, Message, Ms};

use crate::events::Shared;
use crate::note::{Attempt, FAILED, Note, SUCCEEDED};
use crate::record::{Answer, KEPT_MAX};
use crate::retry::{self, Condition, Ended, Next};
use crate::settle::{self, Over};

/// Longest text of an error that is kept.
const ERROR_MAX: usize = 1024;

/// What came of an attempt.
pub struct Done {
    pub felt: Felt,
    /// When the event is to be tried again.
    pub again: Option<Ms>,
}

/// What an attempt says of its function.
pub enum Felt {
    /// It ran, for so long.
    Ran(Ms),
    /// It, or the host, has no room.
    Throttled,
    /// The event did not reach it.
    Nothing,
}

const OVER: Done = Done { felt: Felt::Nothing, again: None };

/// Runs an event once, or ends it. Ready when what follows is on disk.
pub async fn run(shared: Arc<Shared>, message: Message, payload: Bytes) -> Done {
    let now = shared.now();
    let mut note = match Note::read(&message.note) {
        Ok(note) => note,
        Err(error) => {
            tracing::error!(request_id = %message.id, %error, "what is kept of an event cannot be read");
            Note::default()
        }
    };
    note.taken(message.turns);
    let Some(arn) = parse(&note.arn) else {
        settle::over(&shared, &message, note, payload, Over::nowhere(Condition::FunctionNotFound)).await;
        return OVER;
    };
    shared.counts.age(&arn, now.saturating_sub(message.sent));
    let policy = shared.policy(&arn);
    let target = match shared.ports.functions.find(&arn) {
        Ok(target) => target,
        Err(LookupError::NotFound(_)) => {
            settle::over(&shared, &message, note, payload, Over::nowhere(Condition::FunctionNotFound)).await;
            return OVER;
        }
        Err(error @ LookupError::NotReady(_)) => {
            let refused = Refused { kind: "ResourceConflictException", said: error.to_string(), throttled: false };
            return back(&shared, &message, note, &policy, refused, now).await;
        }
    };
    let function = target.choose(shared.draw());
    let reserved = shared.ports.functions.reservation(&function.key).function;
    if let Some(condition) = retry::before(&policy, &note.standing(message.sent), reserved, now) {
        let answer = note.answer.take();
        let over = Over { condition, answer, function: Some(function) };
        settle::over(&shared, &message, note, payload, over).await;
        return OVER;
    }
    match invoke(&shared, &message, &note, &function, payload.clone()).await {
        Err(InvokeError::ShuttingDown) => {
            give_back(&shared, &message, note, now).await;
            Done { felt: Felt::Nothing, again: Some(now) }
        }
        Err(error) => back(&shared, &message, note, &policy, refused(&error), now).await,
        Ok(answer) => {
            let ended = shared.now();
            let again = settled_or_again(&shared, message, note, payload, answer, function, (now, ended)).await;
            Done { felt: Felt::Ran(ended.saturating_sub(now)), again }
        }
    }
}

async fn settled_or_again(
    shared: &Arc<Shared>,
    message: Message,
    mut note: Note,
    payload: Bytes,
    answer: Answer,
    function: Arc<FunctionVersion>,
    (started, now): (Ms, Ms),
) -> Option<Ms> {
    let (outcome, ended) = if answer.failed { (FAILED, Ended::Failed) } else { (SUCCEEDED, Ended::Succeeded) };
    let (error_type, error_message) = if answer.failed { answer.error() } else { (None, None) };
    let error_message = error_message.map(|text| cut(text, ERROR_MAX));
    note.add(Attempt { started: Some(started), outcome: outcome.to_owned(), error_type, error_message });
    note.refusals = 0;
    note.failures += u32::from(answer.failed);
    let policy = parse(&note.arn).map(|arn| shared.policy(&arn)).unwrap_or_else(|| shared.default_policy());
    match retry::after(&policy, &note.standing(message.sent), ended, now) {
        Next::Over(condition) => {
            note.answer = None;
            let over = Over { condition, answer: Some(answer), function: Some(function) };
            settle::over(shared, &message, note, payload, over).await;
            None
        }
        Next::Again(due) => {
            note.answer = Some(answer).filter(|answer| answer.payload.get().len() <= KEPT_MAX);
            let change = Change::Return { receipt: message.receipt(), due, note: note.written() };
            shared.commit(vec![change]).await;
            Some(due)
        }
    }
}

async fn invoke(
    shared: &Shared,
    message: &Message,
    note: &Note,
    function: &Arc<FunctionVersion>,
    payload: Bytes,
) -> Result<Answer, InvokeError> {
    let invocation = Invocation {
        request_id: RequestId::new(message.id.as_str()),
        function: function.clone(),
        invoked_arn: note.arn.clone(),
        payload,
        content_type: note.content_type.clone(),
        client_context: note.client_context.clone(),
        trace: note.trace.clone(),
        wants_log_tail: false,
    };
    let response = shared.invoke()?.invoke(invocation).await?;
    let failed = |error: hearth_model::BodyError| InvokeError::Internal(error.to_string().into());
    let (head, body, _) = response.collect(RESPONSE_PAYLOAD_MAX).await.map_err(failed)?;
    let failed = matches!(head.function_error, Some(FunctionError::Unhandled));
    Ok(Answer::new(head.executed_version.to_string(), failed, &body))
}

/// Why an attempt did not reach its function.
struct Refused {
    kind: &'static str,
    said: String,
    throttled: bool,
}

fn refused(error: &InvokeError) -> Refused {
    let said = error.to_string();
    match error {
        InvokeError::Throttled(_) | InvokeError::HostFull { .. } => {
            Refused { kind: "TooManyRequestsException", said, throttled: true }
        }
        InvokeError::RuntimeMissing(_) | InvokeError::OtherArchitecture(_) => {
            Refused { kind: "InvalidRuntimeException", said, throttled: false }
        }
        InvokeError::Unconfined { .. } | InvokeError::ShuttingDown => {
            Refused { kind: "ServiceException", said, throttled: false }
        }
        InvokeError::Internal(cause) => {
            tracing::error!(%cause, "an event could not be run");
            let said = "An internal error occurred; Hearth's log says more.".to_owned();
            Refused { kind: "ServiceException", said, throttled: false }
        }
    }
}

/// To the queue, to be tried again later.
async fn back(
    shared: &Arc<Shared>,
    message: &Message,
    mut note: Note,
    policy: &retry::Policy,
    refused: Refused,
    started: Ms,
) -> Done {
    let outcome = if refused.throttled { "throttled" } else { "refused" };
    note.add(Attempt {
        started: Some(started),
        outcome: outcome.to_owned(),
        error_type: Some(refused.kind.to_owned()),
        error_message: Some(cut(refused.said, ERROR_MAX)),
    });
    note.refusals += 1;
    // It is never over by this: its age ends it, when it is looked at again.
    let again = match retry::after(policy, &note.standing(message.sent), Ended::Refused, shared.now()) {
        Next::Again(due) => due,
        Next::Over(_) => started,
    };
    shared.commit(vec![Change::Return { receipt: message.receipt(), due: again, note: note.written() }]).await;
    let felt = if refused.throttled { Felt::Throttled } else { Felt::Nothing };
    Done { felt, again: Some(again) }
}

/// What to do about an attempt that a fault of Hearth's own has cut off.
pub async fn broken(shared: &Arc<Shared>, message: &Message) -> Done {
    let now = shared.now();
    let mut note = Note::read(&message.note).unwrap_or_default();
    note.taken(message.turns);
    let said = "An internal error occurred; Hearth's log says more.".to_owned();
    let refused = Refused { kind: "ServiceException", said, throttled: false };
    back(shared, message, note, &shared.default_policy(), refused, now).await
}

/// To the queue as if it had never been taken.
pub async fn give_back(shared: &Arc<Shared>, message: &Message, mut note: Note, due: Ms) {
    note.turns = message.turns;
    shared.commit(vec![Change::Return { receipt: message.receipt(), due, note: note.written() }]).await;
}

/// A full ARN.
pub fn parse(arn: &str) -> Option<FunctionArn> {
    let reference = FunctionRef::parse(arn).ok()?;
    let account = hearth_model::AccountId::parse(reference.account.as_deref()?)?;
    let region = hearth_model::Region::parse(reference.region.as_deref()?)?;
    reference.resolve(&account, &region, None).ok()
}

/// At most so many bytes, whole characters.
pub fn cut(mut text: String, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}
