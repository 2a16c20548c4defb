//! The Query protocol of services that also speak AWS-JSON: lists and maps are flattened, and their elements have names of
//! their own (`Attribute.1.Name`). A form becomes the JSON that would ask the same, and an answer in JSON becomes XML.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Form, NO_MEMBERS, escape, response, typed};
use crate::shape::{Kind, Shape};
use crate::{Context, Error, Reply};

/// Most elements of a list or map that are looked for.
const ELEMENTS_MAX: usize = 1000;

/// How a list or a map is called, element by element.
#[derive(Clone, Copy, Debug)]
pub struct Flat {
    /// The structure's member.
    pub member: &'static str,
    /// `*` stands for the action.
    pub element: &'static str,
    /// Of a map: what its keys are called. Its values are `Value`.
    pub key: &'static str,
}

/// One action's form and answer.
pub struct Flattened<'a> {
    pub names: &'a [Flat],
    pub action: &'a str,
}

impl Flattened<'_> {
    /// The members of a request.
    pub fn read(&self, shape: &'static Shape, form: &Form, cx: &Context) -> Result<Map<String, Value>, Error> {
        let mut used = BTreeSet::new();
        let read = self.structure(shape, form, "", &mut used)?;
        let is_member = |key: &&String| !NO_MEMBERS.iter().any(|other| key.starts_with(other));
        cx.ignore(form.fields.keys().filter(is_member).filter(|key| !used.contains(*key)).cloned());
        Ok(read)
    }

    /// An answer that was made in JSON.
    pub fn write(&self, namespace: &str, json: &[u8], request_id: &str) -> Reply {
        let mut result = String::new();
        if let Ok(Value::Object(members)) = serde_json::from_slice(json) {
            let name = format!("{}Result", self.action);
            result.extend(["<", &name, ">"]);
            self.members(&members, &mut result);
            result.extend(["</", &name, ">"]);
        }
        response(self.action, namespace, &result, request_id)
    }

    fn flat(&self, member: &str) -> Option<(String, &'static str)> {
        let flat = self.names.iter().find(|flat| flat.member == member)?;
        Some((flat.element.replace('*', self.action), flat.key))
    }

    /// `prefix` is empty or ends with a dot.
    fn structure(
        &self,
        shape: &'static Shape,
        form: &Form,
        prefix: &str,
        used: &mut BTreeSet<String>,
    ) -> Result<Map<String, Value>, Error> {
        let Kind::Structure { members } = &shape.kind else { return Ok(Map::new()) };
        let mut read = Map::new();
        for member in *members {
            let (element, key) = self.flat(member.name).unwrap_or((member.name.to_owned(), ""));
            let path = format!("{prefix}{element}");
            if let Some(value) = self.value(member.shape, form, &path, key, used)? {
                read.insert(member.name.to_owned(), value);
            }
        }
        Ok(read)
    }

    fn value(
        &self,
        shape: &'static Shape,
        form: &Form,
        path: &str,
        key: &str,
        used: &mut BTreeSet<String>,
    ) -> Result<Option<Value>, Error> {
        match &shape.kind {
            Kind::Structure { .. } if form.has_below(path) => {
                Ok(Some(Value::Object(self.structure(shape, form, &format!("{path}."), used)?)))
            }
            Kind::Structure { .. } => Ok(None),
            Kind::List { member, .. } => {
                let mut items = Vec::new();
                while items.len() < ELEMENTS_MAX
                    && let Some(item) = self.value(member, form, &format!("{path}.{}", items.len() + 1), "", used)?
                {
                    items.push(item);
                }
                Ok((!items.is_empty()).then_some(Value::Array(items)))
            }
            Kind::Map { value: of_values, .. } => {
                let mut entries = Map::new();
                for number in 1..=ELEMENTS_MAX {
                    let (key, value) = (format!("{path}.{number}.{key}"), format!("{path}.{number}.Value"));
                    let Some(name) = form.fields.get(&key) else { break };
                    used.insert(key);
                    let value = self.value(of_values, form, &value, "", used)?;
                    entries.insert(name.clone(), value.unwrap_or_else(|| "".into()));
                }
                Ok((!entries.is_empty()).then_some(Value::Object(entries)))
            }
            kind => {
                let Some(text) = form.fields.get(path) else { return Ok(None) };
                used.insert(path.to_owned());
                typed(kind, text, path).map(Some)
            }
        }
    }

    fn members(&self, members: &Map<String, Value>, xml: &mut String) {
        for (member, value) in members {
            match (self.flat(member), value) {
                (Some((element, _)), Value::Array(items)) => {
                    items.iter().for_each(|item| self.element(&element, item, xml));
                }
                (Some((element, key)), Value::Object(entries)) => {
                    for (name, value) in entries {
                        xml.extend(["<", &element, "><", key, ">", &escape(name), "</", key, ">"]);
                        self.element("Value", value, xml);
                        xml.extend(["</", &element, ">"]);
                    }
                }
                (_, value) => self.element(member, value, xml),
            }
        }
    }

    fn element(&self, name: &str, value: &Value, xml: &mut String) {
        xml.extend(["<", name, ">"]);
        match value {
            Value::Object(members) => self.members(members, xml),
            Value::String(text) => xml.push_str(&escape(text)),
            other => xml.push_str(&other.to_string()),
        }
        xml.extend(["</", name, ">"]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shape::{Location, Member};

    static TEXT: Shape =
        Shape { name: "Text", kind: Kind::String { pattern: None, min: None, max: None, values: &[] } };
    static COUNT: Shape = Shape { name: "Count", kind: Kind::Integer { min: None, max: None } };
    static MAP: Shape = Shape { name: "Map", kind: Kind::Map { key: &TEXT, value: &TEXT, min: None, max: None } };
    static ENTRY: Shape = Shape {
        name: "Entry",
        kind: Kind::Structure {
            members: &[
                Member { name: "Id", location: Location::Body, required: true, shape: &TEXT },
                Member { name: "Delay", location: Location::Body, required: false, shape: &COUNT },
                Member { name: "Attributes", location: Location::Body, required: false, shape: &MAP },
            ],
        },
    };
    static ENTRIES: Shape = Shape { name: "Entries", kind: Kind::List { member: &ENTRY, min: None, max: None } };
    static REQUEST: Shape = Shape {
        name: "Request",
        kind: Kind::Structure {
            members: &[Member { name: "Entries", location: Location::Body, required: true, shape: &ENTRIES }],
        },
    };
    const NAMES: &[Flat] = &[
        Flat { member: "Entries", element: "*Entry", key: "" },
        Flat { member: "Attributes", element: "Attribute", key: "Name" },
    ];

    #[test]
    fn a_form_asks_what_its_json_would_and_answers_are_named_alike() {
        let form = "Action=Send&SendEntry.1.Id=a&SendEntry.1.Delay=5&SendEntry.2.Id=b&SendEntry.2.Attribute.1.Name=n\
                    &SendEntry.2.Attribute.1.Value=v&Other=1";
        let cx = Context::default();
        let send = Flattened { names: NAMES, action: "Send" };
        let value = send.read(&REQUEST, &Form::parse(form.as_bytes()), &cx).ok().unwrap();
        let expected = json!({"Entries": [{"Id": "a", "Delay": 5}, {"Id": "b", "Attributes": {"n": "v"}}]});
        assert_eq!((Value::Object(value), &*cx.ignored()), (expected.clone(), "Other"));
        let reply = send.write("n", expected.to_string().as_bytes(), "r");
        let xml = String::from_utf8(reply.whole().unwrap().to_vec()).unwrap();
        let result = "<SendEntry><Id>a</Id><Delay>5</Delay></SendEntry><SendEntry><Id>b</Id><Attribute><Name>n</Name>\
                      <Value>v</Value></Attribute></SendEntry>";
        assert!(xml.contains(&format!("<SendResult>{result}</SendResult>")), "{xml}");
    }
}
