//! What is stored: JSON documents, keyed by account and region, kind and id.
//!
//! | kind | id |
//! |---|---|
//! | `queue` | name |
//! | `queue-gone` | name: when it was deleted, for as long as it cannot be made again |
//! | `queue-move` | handle of the task |
//!
//! Messages are under the queue's own id, which no second queue has: what a deleted queue left behind is nobody's.

use std::collections::BTreeMap;

use hearth_store::Key;
use hearth_store::queue::Ms;
use serde::{Deserialize, Serialize};

use crate::names::Place;

pub const QUEUE: &str = "queue";
pub const GONE: &str = "queue-gone";
pub const MOVE: &str = "queue-move";
/// Of the store's queues.
pub const KIND: &str = "sqs";

#[derive(Clone, Serialize, Deserialize)]
pub struct QueueRecord {
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    pub modified: u64,
    /// Those that were set.
    pub attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub purged: Option<Ms>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct GoneRecord {
    pub deleted: Ms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Running,
    Completed,
    Cancelled,
    Failed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Cancelled => "CANCELLED",
            Status::Failed => "FAILED",
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct MoveRecord {
    pub handle: String,
    pub source: String,
    /// Else each message goes back where it came from.
    pub destination: Option<String>,
    pub rate: Option<u32>,
    pub started: Ms,
    pub status: Status,
    pub moved: u64,
    pub to_move: u64,
    pub failure: Option<String>,
}

pub fn key(place: &Place, kind: &'static str, id: &str) -> Key {
    Key { partition: place.partition(), kind, id: id.to_owned() }
}
