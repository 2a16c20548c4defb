//! Fields of an event: those that every event has, those that the platform's lines of a function say, and members of JSON.

use std::cell::OnceCell;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::value::Value;
use crate::page;

/// What `@ptr` says: which event it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    pub group: Arc<str>,
    pub at: i64,
    pub number: u64,
}

#[derive(Debug)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at: i64,
    pub ingested: i64,
    pub number: u64,
    pub group: Arc<str>,
    /// `ACCOUNT:GROUP`.
    pub log: Arc<str>,
    pub stream: Arc<str>,
    pub message: String,
    json: OnceCell<Option<Json>>,
}

impl Event {
    pub fn new(
        Pointer { group, at, number }: Pointer,
        ingested: i64,
        (log, stream): (Arc<str>, Arc<str>),
        message: String,
    ) -> Self {
        Event { at, ingested, number, group, log, stream, message, json: OnceCell::new() }
    }

    /// Names it to GetLogRecord.
    pub fn pointer(&self) -> String {
        page::token(&Pointer { group: self.group.clone(), at: self.at, number: self.number })
    }

    pub fn get(&self, name: &str) -> Value {
        match name {
            "@timestamp" => Value::Time(self.at),
            "@ingestionTime" => Value::Time(self.ingested),
            "@message" => Value::Text(self.message.clone()),
            "@logStream" => Value::Text(self.stream.to_string()),
            "@log" => Value::Text(self.log.to_string()),
            "@ptr" => Value::Text(self.pointer()),
            _ if name.starts_with('@') => self.of_platform(name),
            _ => self.json().and_then(|json| member(json, name)).map_or(Value::Nothing, Value::of_json),
        }
    }

    /// Every field, for GetLogRecord.
    pub fn all(&self) -> Vec<(String, Value)> {
        const ALWAYS: [&str; 5] = ["@timestamp", "@ingestionTime", "@message", "@logStream", "@log"];
        const OF_PLATFORM: [&str; 7] =
            ["@type", "@requestId", "@duration", "@billedDuration", "@initDuration", "@memorySize", "@maxMemoryUsed"];
        let mut all: Vec<(String, Value)> =
            ALWAYS.iter().chain(&OF_PLATFORM).map(|name| ((*name).to_owned(), self.get(name))).collect();
        if let Some(json) = self.json() {
            leaves(json, &mut String::new(), &mut all);
        }
        all.retain(|(_, value)| *value != Value::Nothing);
        all
    }

    pub fn size(&self) -> usize {
        size_of::<Event>() + self.message.len()
    }

    /// The message, or the first object in it.
    fn json(&self) -> Option<&Json> {
        let read = || {
            let text = &self.message[self.message.find('{')?..];
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<Json>();
            values.next()?.ok()
        };
        self.json.get_or_init(read).as_ref()
    }

    /// What Lambda's own lines say.
    fn of_platform(&self, name: &str) -> Value {
        let text = self.message.as_str();
        let kind = ["START", "END", "REPORT"]
            .into_iter()
            .find(|kind| text.strip_prefix(kind).is_some_and(|rest| rest.starts_with(" RequestId: ")));
        let after = |label: &str| {
            let rest = &text[text.find(label)? + label.len()..];
            Some(rest.split(['\t', ' ', '\n']).next().unwrap_or_default())
        };
        let number = |label: &str, unit: f64| {
            let found =
                kind.filter(|kind| *kind == "REPORT").and_then(|_| after(label)).and_then(|text| text.parse().ok());
            found.map_or(Value::Nothing, |number: f64| Value::Number(number * unit))
        };
        match name {
            "@type" => kind.map_or(Value::Nothing, |kind| Value::Text(kind.to_owned())),
            "@requestId" => {
                let own = kind.and_then(|_| after(" RequestId: "));
                let id = own.or_else(|| text.split('\t').take(4).find(|part| is_uuid(part)));
                id.map_or(Value::Nothing, |id| Value::Text(id.to_owned()))
            }
            "@duration" => number("\tDuration: ", 1.0),
            "@billedDuration" => number("\tBilled Duration: ", 1.0),
            "@initDuration" => number("\tInit Duration: ", 1.0),
            "@memorySize" => number("\tMemory Size: ", 1e6),
            "@maxMemoryUsed" => number("\tMax Memory Used: ", 1e6),
            "@xrayTraceId" => after("XRAY TraceId: ").map_or(Value::Nothing, |id| Value::Text(id.to_owned())),
            "@xraySegmentId" => after("\tSegmentId: ").map_or(Value::Nothing, |id| Value::Text(id.to_owned())),
            _ => Value::Nothing,
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if hyphens.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// `a.b.0`: a member may itself have dots in its name.
fn member<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    match json {
        Json::Object(members) => {
            if let Some(found) = members.get(path) {
                return Some(found);
            }
            path.match_indices('.').find_map(|(at, _)| member(members.get(&path[..at])?, &path[at + 1..]))
        }
        Json::Array(items) => {
            let (index, rest) = path.split_once('.').map_or((path, None), |(index, rest)| (index, Some(rest)));
            let found = items.get(index.parse::<usize>().ok()?)?;
            rest.map_or(Some(found), |rest| member(found, rest))
        }
        _ => None,
    }
}

fn leaves(json: &Json, path: &mut String, found: &mut Vec<(String, Value)>) {
    let length = path.len();
    let mut step = |name: &str, inner: &Json, path: &mut String| {
        if length > 0 {
            path.push('.');
        }
        path.push_str(name);
        leaves(inner, path, found);
        path.truncate(length);
    };
    match json {
        Json::Object(members) => members.iter().for_each(|(name, inner)| step(name, inner, path)),
        Json::Array(items) => items.iter().enumerate().for_each(|(at, inner)| step(&at.to_string(), inner, path)),
        leaf if length > 0 => found.push((path.clone(), Value::of_json(leaf))),
        _ => {}
    }
}
