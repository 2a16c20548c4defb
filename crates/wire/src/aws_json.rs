//! AWS-JSON: the operation is in a header, what is asked and answered in JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::event_stream::{self, Event, Frames};
use crate::rest_json::{check_type, retain_known};
use crate::shape::{Kind, Shape};
use crate::validate::validate;
use crate::{Context, Error, Reply, ReplyBody};

/// Of version 1.1, which answers have unless their service says otherwise.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
pub const CONTENT_TYPE_1_0: &str = "application/x-amz-json-1.0";

/// Checks types, checks constraints, and notes unknown members. `invalid` is the service's code of a broken constraint.
pub fn decode<T: DeserializeOwned>(
    shape: &'static Shape,
    body: &[u8],
    invalid: &'static str,
    cx: &Context,
) -> Result<T, Error> {
    let Kind::Structure { members } = &shape.kind else {
        return Err(Error::serialization("the input is no structure"));
    };
    let mut value = parse(body)?;
    let mut ignored = Vec::new();
    retain_known(members, &mut value, "", &mut ignored);
    cx.ignore(ignored);
    let value = Value::Object(value);
    check_type(shape, &value)?;
    if let Some(text) = validate(shape, &value) {
        return Err(Error::new(400, invalid, text));
    }
    serde_json::from_value(value).map_err(|e| Error::serialization(e.to_string()))
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::serialization("Start of structure or map found where not expected.")),
        Err(_) => Err(Error { message: None, ..Error::serialization("") }),
    }
}

/// What an operation that is not generated is answered. `refused` are the names that the service knows.
pub fn unknown(service: &str, name: &str, refused: &[&str]) -> Error {
    if refused.contains(&name) {
        return Error::not_supported(format_args!("{service}:{name}"));
    }
    Error { message: None, ..Error::new(400, "UnknownOperationException", "") }
}

/// A structure as a reply. Absent members are left out.
pub fn encode<T: Serialize>(output: &T) -> Reply {
    Reply::new(200, CONTENT_TYPE, serde_json::to_vec(output).unwrap_or_default())
}

/// An output with a stream of events.
pub trait Streams {
    fn frames(&mut self) -> Option<Frames>;
}

/// A stream as a reply. Its first event is what the output has beside it.
pub fn stream<T: Serialize + Streams>(mut output: T) -> Reply {
    let Some(frames) = output.frames() else { return encode(&output) };
    let frames = frames.after(Event::json("initial-response", &output));
    Reply::with(200, event_stream::CONTENT_TYPE, ReplyBody::Frames(frames))
}

/// The answer of operations without output.
pub fn acknowledge() -> Reply {
    Reply::new(200, CONTENT_TYPE, Vec::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shape::{Location, Member};

    static NAME: Shape =
        Shape { name: "Name", kind: Kind::String { pattern: Some("[^:*]*"), min: Some(1), max: Some(4), values: &[] } };
    static REQUEST: Shape = Shape {
        name: "Request",
        kind: Kind::Structure {
            members: &[Member { name: "logGroupName", location: Location::Body, required: true, shape: &NAME }],
        },
    };

    fn read(body: &str) -> Result<(Value, String), Error> {
        let cx = Context::default();
        decode(&REQUEST, body.as_bytes(), "InvalidParameterException", &cx).map(|value| (value, cx.ignored()))
    }

    #[test]
    fn members_are_read_and_others_are_noted() {
        let (value, ignored) = read(r#"{"logGroupName": "a", "other": 1}"#).ok().unwrap();
        assert_eq!((value, &*ignored), (json!({"logGroupName": "a"}), "other"));
    }

    #[test]
    fn what_breaks_constraints_has_the_services_code() {
        let told = |body: &str| read(body).err().map(|error| (error.code.to_string(), error.message));
        let null = "1 validation error detected: Value null at 'logGroupName' failed to satisfy constraint: Member must not \
                    be null";
        assert_eq!(told(""), Some(("InvalidParameterException".to_owned(), Some(null.to_owned()))));
        assert_eq!(told(r#"{"logGroupName": 1}"#).unwrap().0, "SerializationException");
        assert_eq!(told("{").unwrap(), ("SerializationException".to_owned(), None));
    }

    #[test]
    fn an_operation_is_refused_by_name_when_the_service_has_it() {
        assert_eq!(unknown("logs", "CreateDelivery", &["CreateDelivery"]).status, 501);
        let error = unknown("logs", "Nonsense", &[]);
        assert_eq!((error.status, &*error.code), (400, "UnknownOperationException"));
    }
}
