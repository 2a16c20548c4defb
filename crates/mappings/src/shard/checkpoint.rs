//! What is kept of a shard: how far each lane has come, what is tried again, and the state of its window.

use std::cmp::Ordering;

use hearth_store::queue::Ms;
use serde::{Deserialize, Serialize};

/// A sequence number: decimal digits, more than a machine's numbers have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sequence(pub String);

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> Ordering {
        let digits = |sequence: &'_ Self| sequence.0.len() - sequence.0.trim_start_matches('0').len();
        let (own, others) = (&self.0[digits(self)..], &other.0[digits(other)..]);
        own.len().cmp(&others.len()).then_with(|| own.cmp(others))
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    Horizon,
    Latest,
    /// With what arrived then, or later.
    Moment(Ms),
    After(Sequence),
}

/// How far lanes have come, of which there were so many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub after: Vec<Option<Sequence>>,
}

impl Marks {
    pub fn has(&self, key: &str, sequence: &Sequence) -> bool {
        self.after[lane_of(key, self.after.len())].as_ref().is_some_and(|after| sequence <= after)
    }
}

/// A run that reached the function, and failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    pub request_id: String,
    pub version: String,
    /// An error, not a response that names failures.
    pub is_error: bool,
}

/// A batch that is under way, or tried again: whatever its lane has up to a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub last: Sequence,
    /// Runs that count.
    pub failures: u32,
    pub ran: Option<Ran>,
}

/// A tumbling window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start: Ms,
    pub end: Ms,
    /// JSON.
    pub state: String,
    /// It ends before its time.
    pub early: bool,
    /// Runs of its end that failed.
    pub failures: u32,
}

impl Window {
    /// The one that a moment is in.
    pub fn of(moment: Ms, length: Ms) -> Self {
        let start = moment / length * length;
        Window { start, end: start + length, state: "{}".to_owned(), early: false, failures: 0 }
    }

    pub fn length(&self) -> Ms {
        self.end - self.start
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneNote {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endings: Vec<Window>,
}

/// What is on disk of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub position: Position,
    pub finished: bool,
    /// Those of the present lanes come last.
    pub marks: Vec<Marks>,
    pub lanes: Vec<LaneNote>,
}

impl Checkpoint {
    /// Of a shard that nothing was read of.
    pub fn new(position: Position) -> Self {
        Checkpoint { position, finished: false, marks: Vec::new(), lanes: Vec::new() }
    }
}

/// The lane of a partition key (FNV-1a). It is on disk what it means: it stays as it is.
pub fn lane_of(key: &str, lanes: usize) -> usize {
    let hash = key.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % lanes.max(1)
}
