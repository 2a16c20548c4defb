//! The port that streams of shards stand behind, and how their records look to functions and to filters (spec 6.5, 6.9).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_model::BoxFuture;
use hearth_patterns::{Node, Pattern};
use hearth_store::queue::Ms;
use serde_json::Value;

use crate::shard::{Entry, Position, Sequence};

/// Why a stream gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    #[error("Stream not found: {0}")]
    NotFound(String),
    /// The iterator, or what it pointed to, is too old.
    #[error("the iterator has expired")]
    Expired,
    #[error("{0}")]
    Failed(String),
}

/// A part of a stream, with an order of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardFacts {
    pub id: String,
    /// What it was made of.
    pub parents: Vec<String>,
    /// Nothing more comes into it.
    pub is_closed: bool,
}

/// A record, as its stream gives it.
#[derive(Clone, Debug)]
pub struct Given {
    pub sequence: String,
    pub key: String,
    /// Base64.
    pub data: String,
    pub arrived: Ms,
}

pub struct Batch {
    pub records: Vec<Given>,
    /// None at the end of a shard.
    pub next: Option<String>,
    pub behind: Ms,
}

/// What is to be known of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// How long records are kept.
    pub retention: Ms,
    /// When it was created: tells it from another of its name. `None` where its endpoint does not say.
    pub created: Option<Ms>,
}

pub trait Streams: Send + Sync + 'static {
    fn facts(&self, stream: String) -> BoxFuture<'_, Result<StreamFacts, StreamError>>;

    fn shards(&self, stream: String) -> BoxFuture<'_, Result<Vec<ShardFacts>, StreamError>>;

    fn iterator(&self, stream: String, shard: String, from: Position) -> BoxFuture<'_, Result<String, StreamError>>;

    fn read(&self, stream: String, iterator: String, limit: usize) -> BoxFuture<'_, Result<Batch, StreamError>>;
}

/// What every record of a shard has in common.
pub struct Origin {
    /// ARN of the stream.
    pub stream: String,
    pub region: String,
    pub shard: String,
    pub filters: Arc<[Pattern]>,
}

impl Origin {
    /// `role`: of the function.
    pub fn entry(&self, given: Given, role: &str) -> Entry {
        let wanted = self.filters.is_empty() || self.is_wanted(&given);
        let text = |text: &str| Value::from(text).to_string();
        let (key, data, sequence) = (text(&given.key), text(&given.data), text(&given.sequence));
        let id = text(&format!("{}:{}", self.shard, given.sequence));
        let (role, region, stream) = (text(role), text(&self.region), text(&self.stream));
        let (seconds, ms) = (given.arrived / 1000, given.arrived % 1000);
        let json = format!(
            "{{\"kinesis\":{{\"kinesisSchemaVersion\":\"1.0\",\"partitionKey\":{key},\"sequenceNumber\":{sequence},\
             \"data\":{data},\"approximateArrivalTimestamp\":{seconds}.{ms:03}}},\"eventSource\":\"aws:kinesis\",\
             \"eventVersion\":\"1.0\",\"eventID\":{id},\"eventName\":\"aws:kinesis:record\",\
             \"invokeIdentityArn\":{role},\"awsRegion\":{region},\"eventSourceARN\":{stream}}}"
        );
        Entry { sequence: Sequence(given.sequence), key: given.key, json, arrived: given.arrived, wanted }
    }

    /// Data that is no JSON object is wanted only by filters that ask nothing of it.
    fn is_wanted(&self, given: &Given) -> bool {
        let data = STANDARD.decode(&given.data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let data = data.as_deref().and_then(|text| Node::parse(text).ok());
        let data = data.filter(|data| matches!(data, Node::Object(_)));
        let is_object = data.is_some();
        let id = format!("{}:{}", self.shard, given.sequence);
        let text = |name: &'static str, value| (name.into(), Node::text(value));
        let mut members = vec![
            text("kinesisSchemaVersion", "1.0"),
            text("partitionKey", given.key.as_str()),
            text("sequenceNumber", given.sequence.as_str()),
            text("eventSource", "aws:kinesis"),
            text("eventVersion", "1.0"),
            text("eventID", id.as_str()),
            text("eventName", "aws:kinesis:record"),
            text("awsRegion", self.region.as_str()),
            text("eventSourceARN", self.stream.as_str()),
        ];
        members.extend(data.map(|data| ("data".into(), data)));
        let record = Node::Object(members);
        self.filters.iter().any(|filter| {
            filter.asks_inside("data").is_none_or(|inside| inside && is_object) && filter.matches(&record)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(filters: &[&str]) -> Origin {
        let filters = filters.iter().map(|text| Pattern::compile(text).unwrap()).collect();
        let (stream, region) = ("arn:aws:kinesis:eu-west-1:1:stream/s".to_owned(), "eu-west-1".to_owned());
        Origin { stream, region, shard: "shardId-000000000000".to_owned(), filters }
    }

    fn given(data: &str) -> Given {
        let (sequence, key) = ("49590338271490256608".to_owned(), "k\"1".to_owned());
        Given { sequence, key, data: STANDARD.encode(data), arrived: 1_769_860_800_023 }
    }

    #[test]
    fn a_record_looks_as_recorded() {
        let entry = origin(&[]).entry(given("hi"), "arn:aws:iam::1:role/r");
        let expected = serde_json::json!({
            "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "k\"1", "sequenceNumber": "49590338271490256608",
                "data": "aGk=", "approximateArrivalTimestamp": 1_769_860_800.023},
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
            "eventID": "shardId-000000000000:49590338271490256608", "awsRegion": "eu-west-1",
            "invokeIdentityArn": "arn:aws:iam::1:role/r", "eventSourceARN": "arn:aws:kinesis:eu-west-1:1:stream/s",
        });
        assert_eq!(serde_json::from_str::<Value>(&entry.json).unwrap(), expected);
        assert!(entry.wanted);
    }

    #[test]
    fn filters_ask_of_data_that_is_an_object_and_of_what_is_beside_it() {
        for (pattern, data, expected) in [
            (r#"{"data":{"a":[1]}}"#, r#"{"a":1}"#, true),
            (r#"{"data":{"a":[1]}}"#, r#"{"a":2}"#, false),
            (r#"{"data":{"a":[{"exists":false}]}}"#, "plain", false),
            (r#"{"partitionKey":["k\"1"]}"#, "plain", true),
            (r#"{"partitionKey":["other"]}"#, "plain", false),
        ] {
            assert_eq!(origin(&[pattern]).is_wanted(&given(data)), expected, "{pattern} of {data}");
        }
    }
}
