//! What schedules reach: functions, through the asynchronous queue, and queues.

use std::sync::Arc;

use hearth_model::{
    ASYNC_PAYLOAD_MAX, AcceptError, AcceptEvents, AccountId, BoxFuture, FunctionArn, Functions, LookupError, NewEvent,
    Qualifier, RequestId,
};
use hearth_queues::{Attribute, Delivery, PortError, Queues, Sender};

use crate::ids;
use crate::input::Attempt;
use crate::record::{Firing, Late, split};
use crate::retry::Condition;
use crate::timetable::written;
use crate::universal::{Call, Operation, Unusable};

/// Why a target was not reached: code and text are AWS's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    pub code: String,
    pub message: String,
}

/// An occurrence that did not reach its target.
pub struct DeadLetter<'a> {
    pub attempt: &'a Attempt<'a>,
    pub queue: &'a str,
    pub failure: &'a Failure,
    pub condition: Condition,
}

/// The port to targets.
pub trait Targets: Send + Sync + 'static {
    /// Ends once the target has taken it. An attempt that is made again after a crash is known by its id, or is taken twice.
    fn reach<'a>(&'a self, attempt: &'a Attempt<'a>) -> BoxFuture<'a, Result<(), Failure>>;

    fn bury<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), Failure>>;
}

/// What an ARN names, as far as schedules can reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Function(FunctionArn),
    Queue { is_fifo: bool },
    Universal(Operation),
}

impl Kind {
    pub fn of(arn: &str) -> Option<Self> {
        if let Some(function) = FunctionArn::parse(arn) {
            return Some(Kind::Function(function));
        }
        if let Some(operation) = Operation::of(arn) {
            return Some(Kind::Universal(operation));
        }
        let parts: Vec<&str> = arn.split(':').collect();
        match parts[..] {
            ["arn", partition, "sqs", region, account, name]
                if partition.starts_with("aws") && AccountId::parse(account).is_some() =>
            {
                let named = !region.is_empty() && !name.is_empty();
                named.then(|| Kind::Queue { is_fifo: name.ends_with(".fifo") })
            }
            _ => None,
        }
    }
}

/// Functions and queues of this server.
pub struct Local {
    pub functions: Arc<dyn Functions>,
    pub events: Arc<dyn AcceptEvents>,
    pub queues: Queues,
}

impl Targets for Local {
    fn reach<'a>(&'a self, attempt: &'a Attempt<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Firing { target, partition, .. } = attempt.firing;
            match Kind::of(&target.arn) {
                Some(Kind::Function(function)) => self.invoke(function, attempt, attempt.payload()).await,
                Some(Kind::Queue { .. }) => {
                    let group = target.message_group.clone();
                    let delivery = Delivery { body: attempt.payload(), group, ..Delivery::default() };
                    self.deliver(attempt, &target.arn, delivery).await
                }
                Some(Kind::Universal(operation)) => {
                    let (account, region) = split(partition);
                    match operation.read(&attempt.payload(), account, region) {
                        Ok(Call::Invoke { function, payload }) => self.invoke(function, attempt, payload).await,
                        Ok(Call::Send { queue, body, group, deduplication }) => {
                            let delivery = Delivery { body, group, deduplication, ..Delivery::default() };
                            self.deliver(attempt, &queue, delivery).await
                        }
                        // What context attributes have made of it.
                        Err(Unusable::Invalid(why) | Unusable::NotBuilt(why)) => {
                            Err(failure("ValidationException", why))
                        }
                    }
                }
                // Checked when the schedule was made.
                None => Err(failure("InvalidTarget", format!("{} is no target here", target.arn))),
            }
        })
    }

    fn bury<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let DeadLetter { attempt, queue, failure, condition } = letter;
            let text = |name, value: String| Attribute { name, kind: "String", value };
            // Names and types as the User Guide shows them ("Dead-letter queue").
            let attributes = vec![
                text("ERROR_CODE", failure.code.clone()),
                text("ERROR_MESSAGE", failure.message.clone()),
                text("EXECUTION_ID", attempt.execution_id()),
                text("EXHAUSTED_RETRY_CONDITION", condition.as_str().to_owned()),
                text("IS_PAYLOAD_TRUNCATED", "false".to_owned()),
                text("RETRY_ATTEMPTS", attempt.number.saturating_sub(1).to_string()),
                text("SCHEDULED_TIME", written(attempt.firing.scheduled)),
                text("SCHEDULE_ARN", attempt.firing.place().arn()),
                text("TARGET_ARN", attempt.firing.target.arn.clone()),
            ];
            let delivery = Delivery { body: attempt.payload(), attributes, ..Delivery::default() };
            self.deliver(attempt, queue, delivery).await
        })
    }
}

impl Local {
    /// An event, which is accepted once however often it is tried: its id is the occurrence's.
    async fn invoke(&self, arn: FunctionArn, attempt: &Attempt<'_>, payload: String) -> Result<(), Failure> {
        let (account, _) = split(&attempt.firing.partition);
        if arn.account.as_str() != account {
            let is_let = AccountId::parse(account).is_some_and(|account| self.functions.lets_invoke(&arn, &account));
            if !is_let {
                return Err(failure("AccessDeniedException", format!("{account} may not invoke {arn}")));
            }
        }
        self.functions.known(&arn).map_err(|error| match error {
            LookupError::NotFound(_) => {
                // Recorded of invocations: an unqualified one names `$LATEST`.
                let latest = || arn.qualified(Qualifier::new(Qualifier::LATEST));
                let asked = if arn.qualifier.is_some() { arn.clone() } else { latest() };
                failure("ResourceNotFoundException", format!("Function not found: {asked}"))
            }
            LookupError::NotReady(_) | LookupError::Idle(_) => failure("ResourceConflictException", error.to_string()),
        })?;
        if payload.len() > ASYNC_PAYLOAD_MAX {
            let text =
                format!("Request must be smaller than {ASYNC_PAYLOAD_MAX} bytes for the InvokeFunction operation");
            return Err(failure("RequestEntityTooLargeException", text));
        }
        let event = NewEvent {
            request_id: RequestId::new(ids::request(attempt.id)),
            arn,
            payload: payload.into(),
            content_type: None,
            client_context: None,
            tenant: None,
            trace: None,
            origin: Some(origin(attempt)),
        };
        match self.events.accept(event).await {
            Ok(()) | Err(AcceptError::Repeated) => Ok(()),
            Err(error @ AcceptError::NotStored) => Err(failure("ServiceException", error.to_string())),
        }
    }

    /// As the schedule's role, whose account is the schedule's.
    async fn deliver(&self, attempt: &Attempt<'_>, queue: &str, delivery: Delivery) -> Result<(), Failure> {
        let (account, _) = split(&attempt.firing.partition);
        let sender = Sender::Role { account, arn: &attempt.firing.target.role };
        let sent = self.queues.deliver(sender, queue, delivery).await;
        sent.map(drop).map_err(|PortError { code, message, .. }| Failure { code, message })
    }
}

/// What `hearth events show` says of where an event comes from.
fn origin(attempt: &Attempt<'_>) -> String {
    let said = format!("{}, of {}", attempt.firing.place().arn(), written(attempt.firing.scheduled));
    match attempt.firing.late {
        Some(late) => format!("{said}, {}", told(late)),
        None => said,
    }
}

/// How a missed occurrence is told of.
pub fn told(Late { by, skipped, was_down }: Late) -> String {
    let why = if was_down { "the server was down" } else { "the server was held up" };
    let others = match skipped {
        0 => String::new(),
        1 => "; 1 more was missed and does not fire".to_owned(),
        more => format!("; {more} more were missed and do not fire"),
    };
    format!("{} s late: {why}{others}", by / 1000)
}

fn failure(code: &str, message: String) -> Failure {
    Failure { code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_queues_are_told_from_other_targets() {
        let function = "arn:aws:lambda:us-east-1:000000000000:function:f:live";
        assert!(matches!(Kind::of(function), Some(Kind::Function(arn)) if arn.to_string() == function));
        let universal = "arn:aws:scheduler:::aws-sdk:sqs:sendMessage";
        assert_eq!(Kind::of(universal), Some(Kind::Universal(Operation::SendMessage)));
        assert_eq!(Kind::of("arn:aws:sqs:us-east-1:000000000000:q"), Some(Kind::Queue { is_fifo: false }));
        assert_eq!(Kind::of("arn:aws:sqs:us-east-1:000000000000:q.fifo"), Some(Kind::Queue { is_fifo: true }));
        for other in [
            "",
            "f",
            "arn:aws:sqs:us-east-1:q",
            "arn:aws:sqs::000000000000:q",
            "arn:aws:sns:us-east-1:000000000000:t",
            "arn:aws:scheduler:::aws-sdk:sns:publish",
            "arn:aws:sqs:us-east-1:000000000000:a:b",
        ] {
            assert_eq!(Kind::of(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_missed_is_told_in_words() {
        let late = Late { by: 125_900, skipped: 1, was_down: true };
        assert_eq!(told(late), "125 s late: the server was down; 1 more was missed and does not fire");
        assert_eq!(told(Late { skipped: 0, was_down: false, ..late }), "125 s late: the server was held up");
    }
}
