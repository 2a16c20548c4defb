//! Events as they are looked at from outside: what became of each, and what an operator does about it.

use std::collections::BTreeMap;

use hearth_model::FunctionArn;
use hearth_store::QueueError;
use hearth_store::queue::{Census, Change, Look, Message, Ms, NEVER, State, Take, Which};
use serde::Serialize;

use crate::events::Events;
use crate::note::{ACCEPTED, DELIVERED, DROPPED, KIND, Note, PURGED, SUCCEEDED, partition, queue_of};
use crate::record::timestamp;

/// Events of one list.
pub const LIST_MAX: usize = 10_000;
/// Events that are read at once: they may have answers with them.
const LOOK: usize = 500;
/// Events that a purge ends in one transaction.
const PURGE_STEP: usize = 500;

/// Which events of one account and region. Times in milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Qualified or not: a qualifier selects the events that were sent to it.
    pub function: Option<FunctionArn>,
    /// Where there is no function.
    pub partition: String,
    pub state: Option<String>,
    pub since: Ms,
    pub until: Ms,
    pub limit: usize,
}

impl Filter {
    pub fn everything(partition: String) -> Self {
        Filter { function: None, partition, state: None, since: 0, until: NEVER, limit: LIST_MAX }
    }
}

/// One event, as documents show it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub id: String,
    pub function_arn: String,
    pub state: String,
    pub accepted_at: String,
    pub attempts: Vec<Attempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What could not be delivered, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of one that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// What it comes from, when nobody called: such as a schedule, and whether that was late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// Counts since the store was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    pub accepted: u64,
    pub succeeded: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub purged: u64,
    pub queued: u64,
    pub running: u64,
    /// Of those that were delivered or dropped.
    pub reasons: BTreeMap<String, u64>,
    pub balanced: bool,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OutcomeError {
    #[error("there is no event {0}")]
    Missing(String),
    #[error("the event {0} is not over: it is {1}")]
    NotOver(String, String),
    #[error("there is no state {0:?}: queued, running, succeeded, delivered, dropped, purged")]
    NoState(String),
    #[error("Function not found: {0}")]
    NoFunction(String),
    #[error("the event could not be stored")]
    NotStored,
    #[error(transparent)]
    Store(#[from] QueueError),
}

impl Events {
    /// Newest first.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Event>, OutcomeError> {
        let state = filter.state.as_deref().map(which).transpose()?;
        let wanted = filter.function.clone().filter(|arn| arn.qualifier.is_some()).map(|arn| arn.to_string());
        let mut look = Look {
            kind: KIND,
            partition: Some(filter.function.as_ref().map_or(filter.partition, partition)),
            name: filter.function.as_ref().map(|arn| arn.name.to_string()),
            state,
            since: filter.since,
            until: filter.until,
            below: NEVER,
            limit: LOOK,
        };
        let limit = filter.limit.min(LIST_MAX);
        let mut events = Vec::new();
        loop {
            let page = self.shared.ports.queue.look(look.clone()).await?;
            let meant = |event: &Event| wanted.as_ref().is_none_or(|wanted| event.function_arn == *wanted);
            events.extend(page.iter().map(shown).filter(meant).take(limit - events.len()));
            match page.last() {
                Some(last) if page.len() == LOOK && events.len() < limit => look.below = last.number,
                _ => return Ok(events),
            }
        }
    }

    /// An event of an account and region.
    pub async fn show(&self, partition: &str, id: &str) -> Result<Event, OutcomeError> {
        let (message, _) = self.find(partition, id).await?;
        Ok(shown(&message))
    }

    /// The payload again, as a new event; answers its id.
    pub async fn retry(&self, partition: &str, id: &str) -> Result<String, OutcomeError> {
        let (message, payload) = self.find(partition, id).await?;
        if !matches!(message.state, State::Resting(_)) {
            return Err(OutcomeError::NotOver(id.to_owned(), state(&message.state)));
        }
        let old = Note::read(&message.note).unwrap_or_default();
        let arn = FunctionArn::parse(&old.arn).ok_or_else(|| OutcomeError::NoFunction(old.arn.clone()))?;
        if self.shared.ports.functions.known(&arn).is_err() {
            return Err(OutcomeError::NoFunction(old.arn));
        }
        let note = Note {
            arn: old.arn,
            trace: old.trace,
            client_context: old.client_context,
            tenant: old.tenant,
            content_type: old.content_type,
            retry_of: Some(id.to_owned()),
            origin: old.origin,
            ..Note::default()
        };
        let new = uuid::Uuid::new_v4().to_string();
        let accepted = self.shared.accept(&arn, new.clone(), &note, payload).await;
        accepted.map_err(|_| OutcomeError::NotStored)?;
        Ok(new)
    }

    /// Ends what waits; what runs goes on. Answers how many there were.
    pub async fn purge(&self, partition: &str, function: Option<&FunctionArn>) -> Result<u64, OutcomeError> {
        let wanted = function.map(|arn| (*queue_of(arn)).clone());
        let mut purged = 0;
        for (queue, _) in self.shared.ports.queue.queues(KIND).await? {
            let meant = wanted.as_ref().map_or(queue.partition == partition, |wanted| *wanted == queue);
            if meant {
                purged += self.purge_queue(queue.into()).await?;
            }
        }
        Ok(purged)
    }

    async fn purge_queue(&self, queue: std::sync::Arc<hearth_store::queue::QueueName>) -> Result<u64, OutcomeError> {
        let mut purged = 0;
        loop {
            // Whatever waits, however long; what runs is due never.
            let now = NEVER - 1;
            let take = Take { queue: queue.clone(), now, until: NEVER, limit: PURGE_STEP, bytes_max: 1 << 20 };
            let taken = self.shared.ports.queue.take(take).await?.messages;
            if taken.is_empty() {
                return Ok(purged);
            }
            let count = taken.len() as u64;
            let mut changes = Vec::with_capacity(taken.len() + 1);
            for (message, _) in taken {
                let mut note = Note::read(&message.note).unwrap_or_default();
                // This taking is no attempt.
                note.taken(message.turns);
                note.answer = None;
                changes.push(Change::Rest { receipt: message.receipt(), state: PURGED, note: note.written() });
            }
            changes.push(Change::Tally { kind: KIND, name: PURGED.to_owned(), by: count });
            if self.shared.commit(changes).await {
                purged += count;
            }
        }
    }

    /// Whether every event that was ever accepted has exactly one outcome, or is still to get it.
    pub async fn audit(&self) -> Result<Audit, OutcomeError> {
        let Census { waiting, taken, tallies } = self.shared.ports.queue.census(KIND).await?;
        let tally = |name: &str| tallies.get(name).copied().unwrap_or(0);
        let reasons = tallies.iter().filter_map(|(name, n)| Some((name.strip_prefix("reason/")?.to_owned(), *n)));
        let mut audit = Audit {
            accepted: tally(ACCEPTED),
            succeeded: tally(SUCCEEDED),
            delivered: tally(DELIVERED),
            dropped: tally(DROPPED),
            purged: tally(PURGED),
            queued: waiting,
            running: taken,
            reasons: reasons.collect(),
            balanced: false,
        };
        let ended = audit.succeeded + audit.delivered + audit.dropped + audit.purged;
        audit.balanced = audit.accepted == ended + audit.queued + audit.running;
        Ok(audit)
    }

    async fn find(&self, partition: &str, id: &str) -> Result<(Message, bytes::Bytes), OutcomeError> {
        let found = self.shared.ports.queue.find(KIND, id.to_owned()).await?;
        found
            .filter(|(message, _)| message.queue.partition == partition)
            .ok_or_else(|| OutcomeError::Missing(id.to_owned()))
    }
}

fn which(state: &str) -> Result<Which, OutcomeError> {
    match state {
        "queued" => Ok(Which::Waiting),
        "running" => Ok(Which::Taken),
        SUCCEEDED | DELIVERED | DROPPED | PURGED => Ok(Which::Resting(state.to_owned())),
        other => Err(OutcomeError::NoState(other.to_owned())),
    }
}

fn state(state: &State) -> String {
    match state {
        State::Waiting(_) => "queued".to_owned(),
        State::Taken(_) => "running".to_owned(),
        State::Resting(state) => state.clone(),
    }
}

fn shown(message: &Message) -> Event {
    let note = Note::read(&message.note).unwrap_or_default();
    let attempts = note.attempts.into_iter().map(|attempt| Attempt {
        started_at: attempt.started.map(timestamp),
        outcome: attempt.outcome,
        error_type: attempt.error_type,
        error_message: attempt.error_message,
    });
    Event {
        id: message.id.clone(),
        function_arn: note.arn,
        state: state(&message.state),
        accepted_at: timestamp(message.sent),
        attempts: attempts.collect(),
        destination: note.destination,
        reason: note.reason,
        detail: note.detail,
        due_at: if let State::Waiting(due) = message.state { Some(timestamp(due)) } else { None },
        retry_of: note.retry_of,
        origin: note.origin,
    }
}
