//! Those who watch a log live. A slow one misses batches and is told how many; nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use hearth_model::LogGroup;
use tokio::sync::broadcast::{self, error::RecvError};

use super::queue::Batch;
use super::{LogsError, Stored, failed};

/// Batches that a follower may lag behind.
const LAG_MAX: usize = 256;
/// Groups that may be followed at once.
const GROUPS_MAX: usize = 256;

/// New events of one group. Ends when the logs are closed.
pub struct Follower {
    batches: broadcast::Receiver<Arc<[Stored]>>,
}

/// What a follower sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    Events(Arc<[Stored]>),
    /// The follower was too slow for this many batches. They can be read.
    Missed {
        batches: u64,
    },
}

impl Follower {
    pub async fn next(&mut self) -> Option<Followed> {
        match self.batches.recv().await {
            Ok(events) => Some(Followed::Events(events)),
            Err(RecvError::Lagged(batches)) => Some(Followed::Missed { batches }),
            Err(RecvError::Closed) => None,
        }
    }
}

#[derive(Default)]
pub(super) struct Followers {
    groups: HashMap<LogGroup, broadcast::Sender<Arc<[Stored]>>>,
}

impl Followers {
    pub fn follow(&mut self, group: &LogGroup) -> Result<Follower, LogsError> {
        self.groups.retain(|_, followers| followers.receiver_count() > 0);
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(group) {
            return Err(failed(format_args!("{GROUPS_MAX} logs are followed already")));
        }
        let followers = self.groups.entry(group.clone()).or_insert_with(|| broadcast::Sender::new(LAG_MAX));
        Ok(Follower { batches: followers.subscribe() })
    }

    pub fn tell(&mut self, batch: &Batch) {
        let Some(followers) = self.groups.get(&batch.group) else { return };
        if followers.send(batch.stored().collect()).is_err() {
            self.groups.remove(&batch.group);
        }
    }
}
