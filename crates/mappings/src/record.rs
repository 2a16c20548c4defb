//! What is stored: a JSON document for each mapping, keyed by account and region, and its UUID.

use std::collections::BTreeMap;

use hearth_store::Key;
use serde::{Deserialize, Serialize};

use crate::life::State;
use crate::shard::Position;

pub const KIND: &str = "event-source-mapping";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MappingRecord {
    /// ARN of the source.
    pub source: String,
    /// ARN of the function, qualified as it was asked for.
    pub function: String,
    pub state: State,
    /// Whether it is to be enabled, when it has come to rest.
    pub enabled: bool,
    /// Seconds since 1970.
    pub modified: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    pub settings: Settings,
}

impl MappingRecord {
    pub fn is_fifo(&self) -> bool {
        self.source.ends_with(".fifo")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub batch_size: u32,
    pub window_s: u32,
    /// Texts of patterns, each of which was compiled once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// `ReportBatchItemFailures`.
    #[serde(default)]
    pub reports: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pollers: Option<Pollers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Of a mapping of a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub start: Position,
    /// `ParallelizationFactor`.
    pub factor: u32,
    pub bisect: bool,
    /// `None`: without limit.
    pub retries: Option<u32>,
    pub age_max_s: Option<u32>,
    pub tumbling_s: u32,
    /// ARN.
    pub on_failure: Option<String>,
}

impl Default for Stream {
    fn default() -> Self {
        let start = Position::Horizon;
        Stream { start, factor: 1, bisect: false, retries: None, age_max_s: None, tumbling_s: 0, on_failure: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pollers {
    pub min: u32,
    pub max: u32,
}

pub fn key(partition: &str, id: &str) -> Key {
    Key { partition: partition.to_owned(), kind: KIND, id: id.to_owned() }
}
