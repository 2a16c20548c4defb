//! The Query protocol: form parameters in, XML out. Members of structures are dotted paths (`Tags.member.1.Key`).

mod flat;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::shape::{Kind, Shape};
use crate::validate::validate;
use crate::{Context, Error, Reply};

pub use flat::{Flat, Flattened};

/// Parameters of the protocol, and of signatures in a URL, which are no members of a request.
const NO_MEMBERS: &[&str] = &["Action", "Version", "X-Amz-"];

/// A request: the body, or what follows a URL's question mark.
pub struct Form {
    fields: BTreeMap<String, String>,
}

impl Form {
    pub fn parse(text: &[u8]) -> Self {
        Form { fields: form_urlencoded::parse(text).into_owned().collect() }
    }

    pub fn action(&self) -> Result<&str, Error> {
        let missing = || Error::new(400, "MissingAction", "The request must contain the parameter Action.");
        self.fields.get("Action").map(String::as_str).ok_or_else(missing)
    }

    /// Of the API, which tells services apart where a request is not signed.
    pub fn version(&self) -> Option<&str> {
        self.fields.get("Version").map(String::as_str)
    }

    fn has_below(&self, path: &str) -> bool {
        let path = format!("{path}.");
        self.fields.range(path.clone()..).next().is_some_and(|(key, _)| key.starts_with(&path))
    }
}

/// Collects, checks types, checks constraints, and notes unknown members.
pub fn decode<T: DeserializeOwned>(shape: &'static Shape, form: &Form, cx: &Context) -> Result<T, Error> {
    let mut reading = Reading { form, used: BTreeSet::new() };
    let value = reading.structure(shape, "")?;
    let is_member = |key: &&String| !NO_MEMBERS.iter().any(|other| key.starts_with(other));
    let unknown = form.fields.keys().filter(is_member).filter(|key| !reading.used.contains(key.as_str()));
    cx.ignore(unknown.cloned());
    if let Some(text) = validate(shape, &value) {
        return Err(invalid(text));
    }
    serde_json::from_value(value).map_err(|e| invalid(e.to_string()))
}

fn invalid(text: String) -> Error {
    Error::new(400, "ValidationError", text)
}

struct Reading<'a> {
    form: &'a Form,
    used: BTreeSet<&'a str>,
}

impl Reading<'_> {
    /// `prefix` is empty or ends with a dot.
    fn structure(&mut self, shape: &'static Shape, prefix: &str) -> Result<Value, Error> {
        let Kind::Structure { members } = &shape.kind else { return Ok(Value::Null) };
        let mut read = Map::new();
        for member in *members {
            if let Some(value) = self.value(member.shape, format!("{prefix}{}", member.name))? {
                read.insert(member.name.to_owned(), value);
            }
        }
        Ok(Value::Object(read))
    }

    fn value(&mut self, shape: &'static Shape, path: String) -> Result<Option<Value>, Error> {
        match &shape.kind {
            Kind::Structure { .. } if self.form.has_below(&path) => {
                Ok(Some(self.structure(shape, &format!("{path}."))?))
            }
            Kind::Structure { .. } => Ok(None),
            Kind::List { member, .. } => self.list(member, &path),
            kind => self.take(&path).map(|text| typed(kind, text, &path)).transpose(),
        }
    }

    /// Numbered from 1; ends at the first gap. An empty list is a field without a number.
    fn list(&mut self, member: &'static Shape, path: &str) -> Result<Option<Value>, Error> {
        let mut items = Vec::new();
        while let Some(item) = self.value(member, format!("{path}.member.{}", items.len() + 1))? {
            items.push(item);
        }
        let given = self.take(path).is_some() || !items.is_empty();
        Ok(given.then_some(Value::Array(items)))
    }

    fn take(&mut self, path: &str) -> Option<&str> {
        let (key, value) = self.form.fields.get_key_value(path)?;
        self.used.insert(key);
        Some(value)
    }
}

fn typed(kind: &Kind, text: &str, path: &str) -> Result<Value, Error> {
    let wrong = |what| invalid(format!("'{text}' at '{path}' can not be converted to {what}"));
    Ok(match kind {
        Kind::Integer { .. } => text.parse::<i64>().map_err(|_| wrong("an Integer"))?.into(),
        Kind::Double { .. } => text.parse::<f64>().map_err(|_| wrong("a Double"))?.into(),
        Kind::Boolean => text.parse::<bool>().map_err(|_| wrong("a Boolean"))?.into(),
        _ => text.into(),
    })
}

/// What an action that is not generated is answered. `refused` are the names that the service knows.
pub fn unknown(service: &str, action: &str, refused: &[&str], version: &str) -> Error {
    if refused.contains(&action) {
        return Error::not_supported(format_args!("{service}:{action}"));
    }
    let action: String = action.chars().take(64).collect();
    Error::new(400, "InvalidAction", format!("Could not find operation {action} for version {version}"))
}

/// `<ActionResponse><ActionResult>…</ActionResult>…</ActionResponse>`.
pub fn encode<T: Serialize>(action: &str, namespace: &str, output: &T, request_id: &str) -> Reply {
    let mut result = String::new();
    element(&format!("{action}Result"), &serde_json::to_value(output).unwrap_or_default(), &mut result);
    response(action, namespace, &result, request_id)
}

/// The answer of operations without output.
pub fn acknowledge(action: &str, namespace: &str, request_id: &str) -> Reply {
    response(action, namespace, "", request_id)
}

fn response(action: &str, namespace: &str, result: &str, request_id: &str) -> Reply {
    let xml = format!(
        "<{action}Response xmlns=\"{namespace}\">{result}<ResponseMetadata><RequestId>{request_id}</RequestId>\
         </ResponseMetadata></{action}Response>"
    );
    Reply::new(200, "text/xml", xml)
}

fn element(name: &str, value: &Value, xml: &mut String) {
    xml.extend(["<", name, ">"]);
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| element(name, value, xml)),
        Value::Array(items) => items.iter().for_each(|item| element("member", item, xml)),
        Value::String(text) => xml.push_str(&escape(text)),
        other => xml.push_str(&other.to_string()),
    }
    xml.extend(["</", name, ">"]);
}

pub fn error(error: &Error, namespace: &str, request_id: &str) -> Reply {
    let fault = if error.status < 500 { "Sender" } else { "Receiver" };
    let message = escape(error.message.as_deref().unwrap_or_default());
    let xml = format!(
        "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{fault}</Type><Code>{}</Code><Message>{message}</Message>\
         </Error><RequestId>{request_id}</RequestId></ErrorResponse>",
        escape(&error.code)
    );
    Reply::new(error.status, "text/xml", xml)
}

/// Text inside an element.
pub fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // A reader of XML would make a line's end of it.
            '\r' => escaped.push_str("&#xD;"),
            other => escaped.push(other),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shape::{Location, Member};

    static TEXT: Shape =
        Shape { name: "Text", kind: Kind::String { pattern: Some("[\\w]+"), min: Some(1), max: Some(4), values: &[] } };
    static COUNT: Shape = Shape { name: "Count", kind: Kind::Integer { min: Some(1), max: None } };
    static TAG: Shape = Shape {
        name: "Tag",
        kind: Kind::Structure {
            members: &[
                Member { name: "Key", location: Location::Body, required: true, shape: &TEXT },
                Member { name: "Value", location: Location::Body, required: false, shape: &TEXT },
            ],
        },
    };
    static TAGS: Shape = Shape { name: "Tags", kind: Kind::List { member: &TAG, min: None, max: None } };
    static KEYS: Shape = Shape { name: "Keys", kind: Kind::List { member: &TEXT, min: None, max: None } };
    static REQUEST: Shape = Shape {
        name: "Request",
        kind: Kind::Structure {
            members: &[
                Member { name: "RoleName", location: Location::Body, required: true, shape: &TEXT },
                Member { name: "MaxItems", location: Location::Body, required: false, shape: &COUNT },
                Member { name: "Tags", location: Location::Body, required: false, shape: &TAGS },
                Member { name: "Keys", location: Location::Body, required: false, shape: &KEYS },
            ],
        },
    };

    fn read(form: &str) -> Result<(Value, String), Error> {
        let cx = Context::default();
        decode(&REQUEST, &Form::parse(form.as_bytes()), &cx).map(|value| (value, cx.ignored()))
    }

    #[test]
    fn structures_and_lists_are_dotted_paths() {
        let form = "Action=A&Version=V&RoleName=r&MaxItems=5&Tags.member.1.Key=a&Tags.member.1.Value=b&Tags.member.2.Key=c\
                    &Keys.member.1=x&Keys.member.2=y&Keys.member.4=z&Other=1&X-Amz-Date=d";
        let (value, ignored) = read(form).ok().unwrap();
        let expected = json!({"RoleName": "r", "MaxItems": 5, "Tags": [{"Key": "a", "Value": "b"}, {"Key": "c"}],
            "Keys": ["x", "y"]});
        assert_eq!(value, expected);
        assert_eq!(ignored, "Keys.member.4,Other");
        assert_eq!(read("RoleName=r&Keys=").ok().unwrap().0, json!({"RoleName": "r", "Keys": []}));
    }

    #[test]
    fn what_breaks_constraints_is_told_as_by_the_service() {
        let text = |form: &str| read(form).err().map(|error| (error.code.to_string(), error.message.unwrap()));
        let null = "1 validation error detected: Value null at 'roleName' failed to satisfy constraint: Member must not be \
                    null";
        assert_eq!(text("Action=A"), Some(("ValidationError".to_owned(), null.to_owned())));
        assert!(text("RoleName=r&Tags.member.1.Value=b").unwrap().1.contains("at 'tags.1.member.key'"));
        assert!(text("RoleName=r&MaxItems=x").unwrap().1.contains("at 'MaxItems' can not be converted to an Integer"));
        assert!(
            text("RoleName=%C3%A9").unwrap().1.contains("regular expression pattern"),
            "letters are those of ASCII"
        );
    }

    #[test]
    fn answers_are_elements_and_texts_are_escaped() {
        let body = |reply: Reply| String::from_utf8(reply.whole().unwrap().to_vec()).unwrap();
        let answer = encode("Get", "n", &json!({"A": "<&>\r", "B": [{"C": 1}, {}], "D": true}), "r");
        assert_eq!(
            body(answer),
            "<GetResponse xmlns=\"n\"><GetResult><A>&lt;&amp;&gt;&#xD;</A><B><member><C>1</C></member><member></member></B>\
             <D>true</D></GetResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetResponse>"
        );
        let answer = acknowledge("Put", "n", "r");
        assert!(body(answer).starts_with("<PutResponse xmlns=\"n\"><ResponseMetadata>"));
    }

    #[test]
    fn an_action_is_refused_by_name_when_the_service_has_it() {
        assert_eq!(unknown("iam", "CreateUser", &["CreateUser"], "v").status, 501);
        let error = unknown("iam", "Nonsense", &["CreateUser"], "v");
        assert_eq!((error.status, &*error.code), (400, "InvalidAction"));
    }
}
