//! The port for what others have written: a server that keeps records in memory follows the records that it shares.

use hearth_model::BoxFuture;

use crate::{Key, Record, RecordsError};

/// A key that was written, and what is there since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    /// That wrote it last: the record's, or the one that deleted it.
    pub number: u64,
    /// `None` where it was deleted.
    pub record: Option<Record>,
}

/// Tells what is written to records, by whomever, the asker included.
pub trait Feed: Send + Sync + 'static {
    /// From now on. Who reads everything once this has answered, and then what the follower tells, misses nothing.
    fn follow(&self, kinds: &'static [&'static str]) -> BoxFuture<'_, Result<Box<dyn Follower>, RecordsError>>;
}

/// One reader of a [`Feed`].
pub trait Follower: Send {
    /// Waits for changes, and answers all that became visible since the last answer, as they are at one moment: a batch is
    /// told whole or not yet. Changes are told when they become visible, whatever their numbers. A key is in an answer once.
    ///
    /// Nothing is lost when the future is dropped. After an error the follower is of no more use: what it would have told
    /// is found by reading everything again.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, RecordsError>>;
}
