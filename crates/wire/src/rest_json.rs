//! REST-JSON: a request's parts to one value that the model knows, and structures back to replies.

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::document::Document;
use crate::event_stream::{self, Frames};
use crate::route::Labels;
use crate::shape::{Kind, Location, Member, Shape};
use crate::validate::validate;
use crate::{Context, Error, Reply, ReplyBody, json};

const JSON: &str = "application/json";

/// What of a request may hold members.
pub struct Parts<'a> {
    pub labels: Labels,
    /// Without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: Bytes,
}

/// A request's structure. The payload member, where there is one, stays the body's bytes.
pub trait Input: DeserializeOwned {
    fn set_payload(&mut self, _payload: Bytes) {}
}

/// A response's structure.
pub trait Output: Serialize {
    /// Members that are headers.
    fn headers(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// A status that the handler chose.
    fn status(&self) -> Option<u16> {
        None
    }

    /// The payload member, where there is one: the whole body.
    fn payload(&mut self) -> Option<Bytes> {
        None
    }

    /// The payload member that is an event stream.
    fn frames(&mut self) -> Option<Frames> {
        None
    }
}

/// The answer of operations without output.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Nothing {}

impl Output for Nothing {
    fn payload(&mut self) -> Option<Bytes> {
        Some(Bytes::new())
    }
}

/// Collects, checks types, checks constraints, and notes unknown members.
pub fn decode<T: Input>(shape: &'static Shape, mut parts: Parts<'_>, cx: &Context) -> Result<T, Error> {
    let Kind::Structure { members } = &shape.kind else {
        return Err(Error::serialization("the input is no structure"));
    };
    let has_payload = members.iter().any(|member| member.location == Location::Payload);
    let has_body = members.iter().any(|member| member.location == Location::Body);
    let mut value = Map::new();
    if has_body && !has_payload {
        value = body(shape, std::mem::take(&mut parts.body))?;
        let mut ignored = Vec::new();
        retain_known(members, &mut value, "", &mut ignored);
        cx.ignore(ignored);
    }
    for member in *members {
        if let Some(found) = elsewhere(member, &parts)? {
            value.insert(member.name.to_owned(), found);
        }
    }
    for member in *members {
        if let Some(found) = value.get(member.name) {
            check_type(member.shape, found)?;
        }
    }
    let payload = has_payload.then_some(parts.body);
    let value = Value::Object(value);
    if let Some(text) = validate(shape, &value) {
        return Err(Error::validation(text));
    }
    let mut input: T = serde_json::from_value(value).map_err(|e| Error::serialization(e.to_string()))?;
    if let Some(payload) = payload {
        input.set_payload(payload);
    }
    Ok(input)
}

fn body(shape: &'static Shape, bytes: Bytes) -> Result<Map<String, Value>, Error> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let document = Document::read(shape, &bytes).map_err(|_| {
        let message = format!("Could not parse request body into json: {}", json::fault(&bytes));
        Error::new(400, "InvalidRequestContentException", message)
    })?;
    match document.with_blobs(bytes) {
        Value::Object(map) => Ok(map),
        _ => Err(Error::serialization("Start of structure or map found where not expected.")),
    }
}

/// Removes what the model does not have, at every depth.
pub(crate) fn retain_known(members: &[Member], value: &mut Map<String, Value>, path: &str, ignored: &mut Vec<String>) {
    value.retain(|name, _| {
        let known = members.iter().any(|member| member.name == name && member.location == Location::Body);
        if !known {
            ignored.push(format!("{path}{name}"));
        }
        known
    });
    for member in members {
        let Some(found) = value.get_mut(member.name) else { continue };
        match (&member.shape.kind, found) {
            (Kind::Structure { members }, Value::Object(inner)) => {
                retain_known(members, inner, &format!("{path}{}.", member.name), ignored);
            }
            (Kind::List { member: element, .. }, Value::Array(items)) => {
                if let Kind::Structure { members } = &element.kind {
                    for inner in items.iter_mut().filter_map(Value::as_object_mut) {
                        retain_known(members, inner, &format!("{path}{}.", member.name), ignored);
                    }
                }
            }
            _ => {}
        }
    }
}

/// A member from path, query or headers.
fn elsewhere(member: &Member, parts: &Parts<'_>) -> Result<Option<Value>, Error> {
    let text = match member.location {
        Location::Body | Location::Payload => None,
        Location::Path(name) => parts.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.clone()),
        Location::Query(name) => {
            let mut pairs = form_urlencoded::parse(parts.query.as_bytes()).filter(|(key, _)| key == name);
            if let Kind::List { .. } = member.shape.kind {
                let all: Vec<Value> = pairs.map(|(_, value)| value.into_owned().into()).collect();
                return Ok(if all.is_empty() { None } else { Some(all.into()) });
            }
            pairs.next().map(|(_, value)| value.into_owned())
        }
        Location::Header(name) => match parts.headers.get(name) {
            Some(value) => {
                let text =
                    value.to_str().map_err(|_| Error::serialization(format!("The header {name} is not text.")))?;
                Some(text.to_owned())
            }
            None => None,
        },
    };
    text.map(|text| typed(member, text)).transpose()
}

/// Text of a URL or header as the member's type.
fn typed(member: &Member, text: String) -> Result<Value, Error> {
    let wrong =
        |what: &str| Error::serialization(format!("'{text}' at '{}' can not be converted to {what}", member.name));
    Ok(match member.shape.kind {
        Kind::Integer { .. } => text.parse::<i64>().map_err(|_| wrong("an Integer"))?.into(),
        Kind::Double { .. } | Kind::Timestamp => text.parse::<f64>().map_err(|_| wrong("a Double"))?.into(),
        Kind::Boolean => text.parse::<bool>().map_err(|_| wrong("a Boolean"))?.into(),
        _ => text.into(),
    })
}

/// Types, at every depth (the service's own parser's texts).
pub(crate) fn check_type(shape: &Shape, value: &Value) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let wrong =
        |expected: &str| Err(Error::serialization(format!("{} can not be converted to {expected}", token(value))));
    match (&shape.kind, value) {
        (Kind::Structure { members }, Value::Object(map)) => {
            for member in *members {
                map.get(member.name).map_or(Ok(()), |value| check_type(member.shape, value))?;
            }
            Ok(())
        }
        (Kind::List { member, .. }, Value::Array(items)) => items.iter().try_for_each(|item| check_type(member, item)),
        (Kind::Map { value: of_values, .. }, Value::Object(map)) => {
            map.values().try_for_each(|value| check_type(of_values, value))
        }
        (Kind::String { .. } | Kind::Blob, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => Ok(()),
        (Kind::Integer { .. }, Value::Number(number)) if number.is_i64() => Ok(()),
        (Kind::Double { .. } | Kind::Timestamp, Value::Number(_)) => Ok(()),
        (Kind::Structure { .. } | Kind::Map { .. }, _) => Err(Error::serialization("Expected null or a structure")),
        (Kind::List { .. }, _) => Err(Error::serialization("Expected list or null")),
        (Kind::String { .. }, _) => wrong("a String"),
        (Kind::Blob, _) => wrong("a Blob"),
        (Kind::Boolean, _) => wrong("a Boolean"),
        (Kind::Integer { .. }, _) => wrong("an Integer"),
        (Kind::Double { .. } | Kind::Timestamp, _) => wrong("a Double"),
    }
}

fn token(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    }
}

/// A structure as a reply. Absent members are left out.
pub fn encode<T: Output>(mut output: T, status: u16) -> Reply {
    let headers = output.headers();
    let status = output.status().unwrap_or(status);
    let mut reply = match (output.frames(), output.payload()) {
        (Some(frames), _) => Reply::with(status, event_stream::CONTENT_TYPE, ReplyBody::Frames(frames)),
        (None, Some(payload)) => Reply::new(status, JSON, payload),
        (None, None) if status == 204 => Reply::new(status, JSON, Bytes::new()),
        (None, None) => Reply::new(status, JSON, serde_json::to_vec(&output).unwrap_or_default()),
    };
    for (name, value) in headers {
        reply.header(name, &value);
    }
    reply
}
