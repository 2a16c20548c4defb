//! What is kept beside an event's payload: how it is to be run, what has been tried, and in the end what became of it.

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{FunctionArn, TenantId};
use hearth_store::queue::{Ms, QueueName};
use serde::{Deserialize, Serialize};

use crate::record::Answer;
use crate::retry::Standing;

/// Whose queues these are, in `store`.
pub const KIND: &str = "event";

/// Attempts that are remembered one by one. Back-off up to six hours makes about eighty; an event of which there are more
/// keeps the first and the last ones.
const ATTEMPTS_MAX: usize = 120;

/// How an event rests.
pub const SUCCEEDED: &str = "succeeded";
pub const DELIVERED: &str = "delivered";
pub const DROPPED: &str = "dropped";
pub const PURGED: &str = "purged";
/// The number of events that were ever accepted.
pub const ACCEPTED: &str = "accepted";

/// How an attempt ends: as an event does, or in one of these ways.
pub const FAILED: &str = "failed";
/// The server died over it.
pub const INTERRUPTED: &str = "interrupted";

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Note {
    /// As invoked: with the caller's qualifier or without.
    pub arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// What it comes from, when nobody called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Takings of the message that are accounted for: the others were cut off.
    #[serde(default)]
    pub turns: u32,
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub refusals: u32,
    /// The last answer of the function, for the record of an event whose age runs out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Where the record went, in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Why it is over, and what could not be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One try. `started` is absent when the server died over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Ms>,
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

impl Note {
    pub fn read(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    pub fn written(&self) -> Bytes {
        // Texts and numbers: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub fn standing(&self, accepted: Ms) -> Standing {
        Standing { accepted, failures: self.failures, refusals: self.refusals }
    }

    /// Accounts for a taking; those before it that nobody accounted for were cut off, and the function may have run.
    pub fn taken(&mut self, turns: u32) {
        for _ in self.turns + 1..turns {
            let outcome = INTERRUPTED.to_owned();
            self.add(Attempt { started: None, outcome, error_type: None, error_message: None });
        }
        self.turns = turns;
    }

    /// Attempts that reached the function, as far as is known.
    pub fn tried(&self) -> u32 {
        let reached = |attempt: &&Attempt| matches!(&*attempt.outcome, FAILED | SUCCEEDED | INTERRUPTED);
        u32::try_from(self.attempts.iter().filter(reached).count()).unwrap_or(u32::MAX)
    }

    pub fn add(&mut self, attempt: Attempt) {
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.attempts.remove(ATTEMPTS_MAX / 2);
        }
        self.attempts.push(attempt);
    }
}

/// The queue of a function: its qualifiers share it, as they share its concurrency.
pub fn queue_of(arn: &FunctionArn) -> Arc<QueueName> {
    Arc::new(QueueName { partition: partition(arn), kind: KIND, name: arn.name.to_string() })
}

/// `ACCOUNT/REGION`.
pub fn partition(arn: &FunctionArn) -> String {
    format!("{}/{}", arn.account, arn.region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takings_that_nobody_accounted_for_were_cut_off() {
        let mut note = Note::default();
        note.taken(1);
        assert_eq!(note.attempts, []);
        note.taken(4);
        assert_eq!(note.attempts.len(), 2);
        assert!(note.attempts.iter().all(|attempt| attempt.outcome == INTERRUPTED && attempt.started.is_none()));
        note.taken(5);
        assert_eq!(note.attempts.len(), 2);
    }

    #[test]
    fn attempts_are_remembered_up_to_a_limit_the_first_and_the_last() {
        let mut note = Note::default();
        for at in 0..1000 {
            let outcome = "throttled".to_owned();
            note.add(Attempt { started: Some(at), outcome, error_type: None, error_message: None });
        }
        assert_eq!(note.attempts.len(), ATTEMPTS_MAX);
        assert_eq!((note.attempts[0].started, note.attempts[ATTEMPTS_MAX - 1].started), (Some(0), Some(999)));
        assert_eq!(Note::read(&note.written()).unwrap().attempts, note.attempts);
    }
}
