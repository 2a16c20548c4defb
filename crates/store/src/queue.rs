//! The port for durable queues: whole transactions over batches, no begin and commit (decision 12).
//!
//! ```text
//!            Send            take              Return
//!   ─────────────► waiting ───────► taken ───────────────► waiting
//!                     ▲                │
//!                     └── its time ────┤ Rest: stays to be looked at ───► resting ── sweep ──►
//!                         is over      └ Delete ──►
//! ```
//!
//! A message is due at a moment; taking it puts that moment off, which hides it from others. Whoever took it last holds
//! it: what an earlier receipt asks for is refused as stale, with the whole batch that asks for it. A message that is done
//! with may rest, so that what has become of it stands in the same transaction that ended it, and tallies with it: they
//! balance at every moment, whenever the process is killed.
//!
//! Knows nothing of what is sent, or of time: moments come from outside, in milliseconds since 1970.

mod memory;
mod sealed;
mod sqlite;
#[cfg(test)]
mod suite;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::BoxFuture;

use crate::embedded::Fault;

pub use memory::MemoryQueue;
pub use sealed::SealedQueue;
pub use sqlite::SqliteQueue;

/// A moment, in milliseconds since 1970.
pub type Ms = u64;

/// Later than any clock says: what is due then waits for nothing but its holder.
pub const NEVER: Ms = i64::MAX.cast_unsigned();

/// Messages of one queue that a taking in line looks at.
pub const LOOKED_AT_MAX: usize = 120_000;

/// A queue's address. `partition` is `ACCOUNT/REGION`; `kind` says whose queue it is, such as `event`. Queues need not be
/// made: one is there while it has messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName {
    pub partition: String,
    pub kind: &'static str,
    pub name: String,
}

/// A message to be.
#[derive(Clone)]
pub struct NewMessage {
    pub queue: QueueName,
    /// No two messages of any queue share one.
    pub id: String,
    pub sent: Ms,
    /// When it can first be taken.
    pub due: Ms,
    /// What its owner keeps beside it and writes anew with each change. Small.
    pub note: Bytes,
    pub body: Bytes,
}

/// What is sent only once: a second message by that key is refused until a moment, whatever has become of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    pub key: String,
    pub now: Ms,
    pub until: Ms,
}

/// Names one taking of one message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    pub queue: Arc<QueueName>,
    pub id: String,
    /// How often the message had been taken then, this time included.
    pub turn: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Can be taken at that moment.
    Waiting(Ms),
    /// Was taken, and can be again at that moment.
    Taken(Ms),
    /// Done with, as its owner names it.
    Resting(String),
}

/// A message as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub queue: Arc<QueueName>,
    pub id: String,
    /// The order in which messages came, over all queues.
    pub number: u64,
    pub sent: Ms,
    pub state: State,
    /// How often it was taken.
    pub turns: u32,
    /// When it was taken first.
    pub first: Option<Ms>,
    /// Where it stands in a line with others of its queue.
    pub line: Option<String>,
    pub note: Bytes,
    /// Of its body.
    pub size: u64,
}

impl Message {
    /// When it can be taken, but for its line.
    fn due(&self) -> Option<Ms> {
        match self.state {
            State::Waiting(due) | State::Taken(due) => Some(due),
            State::Resting(_) => None,
        }
    }

    /// Of the last taking.
    pub fn receipt(&self) -> Receipt {
        Receipt { queue: self.queue.clone(), id: self.id.clone(), turn: self.turns }
    }
}

/// One step of a batch.
#[derive(Clone)]
pub enum Change {
    Send(NewMessage),
    /// Sends to a queue of lines, for [`Queue::take_in_line`].
    SendInLine {
        message: NewMessage,
        line: String,
        once: Option<Once>,
    },
    /// Puts off, or brings nearer, the moment at which a message that is held is due again. Its holder goes on holding it.
    Hold {
        receipt: Receipt,
        now: Ms,
        due: Ms,
    },
    /// Gives a taken message back.
    Return {
        receipt: Receipt,
        due: Ms,
        note: Bytes,
    },
    /// Writes the body of a message that is held anew: what is done with need not rest with the whole of it.
    Rewrite {
        receipt: Receipt,
        body: Bytes,
    },
    /// Ends a taken message and keeps it.
    Rest {
        receipt: Receipt,
        state: &'static str,
        note: Bytes,
    },
    /// Ends a taken message.
    Delete(Receipt),
    /// Adds to a number that is kept for ever.
    Tally {
        kind: &'static str,
        name: String,
        by: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Take {
    pub queue: Arc<QueueName>,
    /// What is due by then, the longest due first.
    pub now: Ms,
    /// What is taken is due again then.
    pub until: Ms,
    pub limit: usize,
    /// Bodies together, but for the first, which comes at any size.
    pub bytes_max: u64,
}

pub struct Taken {
    pub messages: Vec<(Message, Bytes)>,
    /// When the next of those that were left is due.
    pub next: Option<Ms>,
}

/// Which messages to look at. They come newest first.
#[derive(Clone, Debug)]
pub struct Look {
    pub kind: &'static str,
    pub partition: Option<String>,
    pub name: Option<String>,
    pub state: Option<Which>,
    /// Sent then or later.
    pub since: Ms,
    /// Sent before.
    pub until: Ms,
    /// Below this number: how pages go on.
    pub below: u64,
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Waiting,
    Taken,
    Resting(String),
}

/// What is in one queue, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Can be taken.
    pub due: u64,
    /// Will be due, and was not taken yet.
    pub delayed: u64,
    pub held: u64,
}

/// Everything there is of one kind, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub waiting: u64,
    pub taken: u64,
    pub tallies: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The message has been taken again, given back or ended meanwhile; nothing was written.
    #[error("the message {0} is not held by this receipt any more")]
    Stale(String),
    /// Nothing was written.
    #[error("there is a message {0} already")]
    Duplicate(String),
    /// A message was sent by the same key before ([`Once`]): its id and number. Nothing was written.
    #[error("the message {id} repeats {first}")]
    Repeated { id: String, first: String, number: u64 },
    #[error("the store is full")]
    Full,
    #[error("the store failed: {0}")]
    Engine(Arc<str>),
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => QueueError::Full,
            Fault::Engine(said) => QueueError::Engine(said),
        }
    }
}

/// Durable queues. Every engine passes the suite of this module.
pub trait Queue: Send + Sync + 'static {
    /// Applies all changes in their order, or none; `Ok` only once they are on disk.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), QueueError>>;

    /// Takes messages that are due. A loss of power may undo a taking, but nothing that came before it.
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>>;

    /// Takes messages of a queue of lines, by the order of their numbers: none of a line of which one is held, none before
    /// one that came earlier in its line. Looks no further than [`LOOKED_AT_MAX`] messages. `next` is when a line opens, or
    /// the first moment of those that were left.
    fn take_in_line(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>>;

    /// `now` tells what is due from what is not.
    fn counts(&self, queue: QueueName, now: Ms) -> BoxFuture<'_, Result<Counts, QueueError>>;

    /// Of the `limit` oldest messages of a queue, held or not, removes those that were sent before a moment. Answers how
    /// many they were.
    fn clear(&self, queue: QueueName, before: Ms, limit: usize) -> BoxFuture<'_, Result<usize, QueueError>>;

    /// Gives back what is taken in all queues of a kind, due at `due`: what a process that has died was doing.
    fn recover(&self, kind: &'static str, due: Ms) -> BoxFuture<'_, Result<u64, QueueError>>;

    /// Queues of a kind that have messages to take, and when the first of them is due.
    fn queues(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<(QueueName, Ms)>, QueueError>>;

    /// A message and its body.
    fn find(&self, kind: &'static str, id: String) -> BoxFuture<'_, Result<Option<(Message, Bytes)>, QueueError>>;

    fn look(&self, look: Look) -> BoxFuture<'_, Result<Vec<Message>, QueueError>>;

    fn census(&self, kind: &'static str) -> BoxFuture<'_, Result<Census, QueueError>>;

    /// Forgets resting messages of a kind that were sent before a moment, of the `limit` oldest messages above the number
    /// `after`. Answers the last number that it saw, or `None` when nothing older is left.
    fn sweep(
        &self,
        kind: &'static str,
        before: Ms,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Option<u64>, QueueError>>;
}
