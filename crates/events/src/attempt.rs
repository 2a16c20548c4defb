//! One run of one event: what it takes to begin, how it ended, and what follows.

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{
    FunctionArn, FunctionVersion, Invocation, InvokeError, LookupError, RESPONSE_PAYLOAD_MAX, RequestId, ResponseMode,
    TooLarge, draw,
};
use hearth_store::queue::{Change, Message, Ms};

use crate::events::Shared;
use crate::note::{Attempt, FAILED, Note, SUCCEEDED};
use crate::record::{Answer, KEPT_MAX};
use crate::retry::{self, Condition, Ended, Next, Policy};
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

/// Runs an event once, or ends it. Ready when what follows is on disk.
pub async fn run(shared: Arc<Shared>, message: Message, payload: Bytes) -> Done {
    let run = Run::begin(&shared, message, payload);
    let Some(arn) = FunctionArn::parse(&run.note.arn) else {
        return run.over(Condition::FunctionNotFound, None, None).await;
    };
    shared.counts.age(&arn, run.started.saturating_sub(run.message.sent));
    let found = shared.ports.functions.find(&arn);
    let function = match found.and_then(|target| target.choose(draw(uuid::Uuid::new_v4().as_u128()))) {
        Ok(function) => function,
        Err(LookupError::NotFound(_)) => return run.over(Condition::FunctionNotFound, None, None).await,
        Err(error @ (LookupError::NotReady(_) | LookupError::Idle(_))) => {
            shared.ports.functions.wake(&arn);
            return run.refused(Refused::by_platform("ResourceConflictException", error.to_string())).await;
        }
    };
    let reserved = shared.ports.functions.reservation(&function.key).function;
    let standing = run.note.standing(run.message.sent);
    if let Some(condition) = retry::before(&run.policy, &standing, reserved, run.started) {
        let answer = run.note.answer.clone();
        return run.over(condition, answer, Some(function)).await;
    }
    let trace = run.note.trace.as_deref().unwrap_or_default();
    if let Err(cut) = shared.ports.guard.cuts(trace, &arn, || shared.ports.functions.allows_loops(&function.key)) {
        tracing::warn!(request_id = %run.message.id, function = %arn, runs = cut.runs, "a recursive loop was cut: an event");
        return run.over(Condition::RecursiveLoop, None, Some(function)).await;
    }
    match run.invoke(&function).await {
        Ok(answer) => run.answered(answer, function).await,
        Err(InvokeError::ShuttingDown) => {
            let now = run.started;
            give_back(&shared, &run.message, run.note, now).await;
            Done { felt: Felt::Nothing, again: Some(now) }
        }
        Err(error) => run.refused(Refused::of(&error)).await,
    }
}

/// What to do about an attempt that a fault of Hearth's own has cut off.
pub async fn broken(shared: &Arc<Shared>, message: Message) -> Done {
    Run::begin(shared, message, Bytes::new()).refused(Refused::by_fault()).await
}

/// One attempt under way.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    message: Message,
    note: Note,
    payload: Bytes,
    policy: Policy,
    started: Ms,
}

impl<'a> Run<'a> {
    fn begin(shared: &'a Arc<Shared>, message: Message, payload: Bytes) -> Self {
        let mut note = Note::read(&message.note).unwrap_or_else(|error| {
            tracing::error!(request_id = %message.id, %error, "what is kept of an event cannot be read");
            Note::default()
        });
        note.taken(message.turns);
        let policy = FunctionArn::parse(&note.arn).map_or_else(|| shared.default_policy(), |arn| shared.policy(&arn));
        Run { shared, started: shared.now(), message, note, payload, policy }
    }

    async fn invoke(&self, function: &Arc<FunctionVersion>) -> Result<Answer, InvokeError> {
        let invocation = Invocation {
            request_id: RequestId::new(self.message.id.as_str()),
            function: function.clone(),
            invoked_arn: self.note.arn.clone(),
            payload: self.payload.clone(),
            content_type: self.note.content_type.clone(),
            client_context: self.note.client_context.clone(),
            tenant: self.note.tenant.clone(),
            trace: self.note.trace.clone(),
            wants_log_tail: false,
            mode: ResponseMode::Buffered,
        };
        let response = self.shared.invoke()?.invoke(invocation).await?;
        let failed = |error: TooLarge| InvokeError::Internal(error.to_string().into());
        let (head, body, _) = response.collect(RESPONSE_PAYLOAD_MAX).await.map_err(failed)?;
        let failed = head.function_error.is_some();
        Ok(Answer::new(head.executed_version.to_string(), failed, &body))
    }

    /// The function has answered.
    async fn answered(mut self, answer: Answer, function: Arc<FunctionVersion>) -> Done {
        let now = self.shared.now();
        let felt = Felt::Ran(now.saturating_sub(self.started));
        let (outcome, ended) = if answer.failed { (FAILED, Ended::Failed) } else { (SUCCEEDED, Ended::Succeeded) };
        let (error_type, error_message) = if answer.failed { answer.error() } else { (None, None) };
        let error_message = error_message.map(|text| cut(text, ERROR_MAX));
        let (started, outcome) = (Some(self.started), outcome.to_owned());
        self.note.add(Attempt { started, outcome, error_type, error_message });
        self.note.refusals = 0;
        self.note.failures += u32::from(answer.failed);
        match retry::after(&self.policy, &self.note.standing(self.message.sent), ended, now) {
            Next::Over(condition) => Done { felt, ..self.over(condition, Some(answer), Some(function)).await },
            Next::Again(due) => {
                self.note.answer = Some(answer).filter(|answer| answer.payload.get().len() <= KEPT_MAX);
                self.again(due, felt).await
            }
        }
    }

    /// The function has not seen it.
    async fn refused(mut self, refused: Refused) -> Done {
        self.note.add(Attempt {
            started: Some(self.started),
            outcome: if refused.throttled { "throttled" } else { "refused" }.to_owned(),
            error_type: Some(refused.kind.to_owned()),
            error_message: Some(cut(refused.said, ERROR_MAX)),
        });
        self.note.refusals += 1;
        let felt = if refused.throttled { Felt::Throttled } else { Felt::Nothing };
        let standing = self.note.standing(self.message.sent);
        // It is never over by this: its age ends it, when it is looked at again.
        let due = match retry::after(&self.policy, &standing, Ended::Refused, self.shared.now()) {
            Next::Again(due) => due,
            Next::Over(_) => self.started,
        };
        self.again(due, felt).await
    }

    /// To the queue, to be tried again later.
    async fn again(self, due: Ms, felt: Felt) -> Done {
        let change = Change::Return { receipt: self.message.receipt(), due, note: self.note.written() };
        self.shared.commit(vec![change]).await;
        Done { felt, again: Some(due) }
    }

    async fn over(self, condition: Condition, answer: Option<Answer>, function: Option<Arc<FunctionVersion>>) -> Done {
        let over = Over { condition, answer, function };
        settle::over(self.shared, &self.message, self.note, self.payload, over).await;
        Done { felt: Felt::Nothing, again: None }
    }
}

/// Why an attempt did not reach its function.
struct Refused {
    kind: &'static str,
    said: String,
    throttled: bool,
}

impl Refused {
    fn of(error: &InvokeError) -> Self {
        match error {
            InvokeError::Throttled(_) | InvokeError::HostFull { .. } => {
                Refused { kind: "TooManyRequestsException", said: error.to_string(), throttled: true }
            }
            InvokeError::Tenancy(_) => Refused::by_platform("InvalidParameterValueException", error.to_string()),
            InvokeError::RuntimeMissing(_)
            | InvokeError::RuntimeVersionMissing { .. }
            | InvokeError::OtherArchitecture(_) => Refused::by_platform("InvalidRuntimeException", error.to_string()),
            InvokeError::Unconfined { .. } | InvokeError::ShuttingDown => {
                Refused::by_platform("ServiceException", error.to_string())
            }
            InvokeError::Internal(cause) => {
                tracing::error!(%cause, "an event could not be run");
                Refused::by_fault()
            }
        }
    }

    fn by_platform(kind: &'static str, said: String) -> Self {
        Refused { kind, said, throttled: false }
    }

    fn by_fault() -> Self {
        Refused::by_platform("ServiceException", "An internal error occurred; Hearth's log says more.".to_owned())
    }
}

/// To the queue as if it had never been taken.
pub async fn give_back(shared: &Arc<Shared>, message: &Message, mut note: Note, due: Ms) {
    note.turns = message.turns;
    shared.commit(vec![Change::Return { receipt: message.receipt(), due, note: note.written() }]).await;
}

/// At most so many bytes, whole characters.
pub fn cut(mut text: String, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}
