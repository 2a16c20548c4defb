//! A request's JSON as a value, with the text of blobs left in the request's own buffer: a package is a request almost
//! whole, and need not be in memory twice.
//!
//! While a document is read, a blob's text is a mark that says where it is. Then the texts are taken out of the buffer, and
//! the longest takes the buffer over.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::shape::{Kind, Shape};

/// JSON that has been read, as far as it is no blob.
pub(crate) struct Document {
    shape: &'static Shape,
    /// Texts of blobs are marks.
    value: Value,
}

impl Document {
    pub fn read(shape: &'static Shape, json: &[u8]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let value = Reading { shape: Some(shape), json }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(Document { shape, value })
    }

    /// The whole value. `json` is what was read; nothing of it is copied where there is one blob, and no other handle to
    /// the buffer.
    pub fn with_blobs(mut self, json: Bytes) -> Value {
        let mut marks = Vec::new();
        collect(self.shape, &mut self.value, &mut marks);
        let mut blobs: Vec<(Bytes, &mut String)> =
            marks.into_iter().filter_map(|mark| Some((json.slice(place(mark)?), mark))).collect();
        drop(json);
        // The last one has the buffer for itself.
        blobs.sort_by_key(|(text, _)| text.len());
        for (text, mark) in blobs {
            let mut text = Vec::from(text);
            unescape(&mut text);
            // It is: JSON is UTF-8, and what was escaped is ASCII.
            *mark = String::from_utf8(text).unwrap_or_default();
        }
        self.value
    }
}

fn mark(place: Range<usize>) -> Value {
    format!("{} {}", place.start, place.end).into()
}

fn place(mark: &str) -> Option<Range<usize>> {
    let (start, end) = mark.split_once(' ')?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

/// Every text that a blob's shape has.
fn collect<'a>(shape: &Shape, value: &'a mut Value, marks: &mut Vec<&'a mut String>) {
    match (&shape.kind, value) {
        (Kind::Blob, Value::String(mark)) => marks.push(mark),
        (Kind::Structure { members }, Value::Object(found)) => {
            for (name, value) in found {
                if let Some(member) = members.iter().find(|member| member.name == name) {
                    collect(member.shape, value, marks);
                }
            }
        }
        (Kind::List { member, .. }, Value::Array(items)) => {
            items.iter_mut().for_each(|item| collect(member, item, marks));
        }
        (Kind::Map { value: of_values, .. }, Value::Object(entries)) => {
            entries.values_mut().for_each(|value| collect(of_values, value, marks));
        }
        _ => {}
    }
}

/// A value of a shape, or of none.
#[derive(Clone, Copy)]
struct Reading<'a> {
    shape: Option<&'static Shape>,
    json: &'a [u8],
}

impl<'a> Reading<'a> {
    fn of(self, shape: Option<&'static Shape>) -> Self {
        Reading { shape, ..self }
    }

    fn blob<E: de::Error>(self, raw: &RawValue) -> Result<Value, E> {
        let text = raw.get();
        match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inner) if can_stay(inner) => {
                let start = inner.as_ptr() as usize - self.json.as_ptr() as usize;
                Ok(mark(start..start + inner.len()))
            }
            _ => serde_json::from_str(text).map_err(E::custom),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.shape.map(|shape| &shape.kind) {
            Some(Kind::Blob) => self.blob(<&RawValue>::deserialize(deserializer)?),
            Some(Kind::Structure { .. } | Kind::List { .. } | Kind::Map { .. }) => deserializer.deserialize_any(self),
            _ => Value::deserialize(deserializer),
        }
    }
}

/// What a structure, list or map may be, or be given instead.
impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let shape = match self.shape.map(|shape| &shape.kind) {
            Some(Kind::List { member, .. }) => Some(*member),
            _ => None,
        };
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(self.of(shape))? {
            found.push(item);
        }
        Ok(found.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let shape = match self.shape.map(|shape| &shape.kind) {
                Some(Kind::Structure { members }) => {
                    members.iter().find(|member| member.name == name).map(|member| member.shape)
                }
                Some(Kind::Map { value, .. }) => Some(*value),
                _ => None,
            };
            let value = entries.next_value_seed(self.of(shape))?;
            found.insert(name, value);
        }
        Ok(found.into())
    }
}

/// Whether what is escaped in a text is ASCII, as everything in base64 is. Other texts are no base64, and are never mistaken
/// for a mark: they have a character that no mark has.
fn can_stay(text: &str) -> bool {
    let text = text.as_bytes();
    memchr::memchr_iter(b'\\', text).all(|at| {
        text.get(at + 1) != Some(&b'u') || matches!(text.get(at + 2..at + 5), Some([b'0', b'0', b'0'..=b'7']))
    })
}

/// Escapes of a JSON text become what they stand for, where they lie: some encoders write `\/` for a slash, or `\u002b` for
/// a plus.
fn unescape(text: &mut Vec<u8>) {
    let (mut at, mut written) = (0, 0);
    while at < text.len() {
        let plain = memchr::memchr(b'\\', &text[at..]).unwrap_or(text.len() - at);
        text.copy_within(at..at + plain, written);
        (at, written) = (at + plain, written + plain);
        let (byte, length) = match text[at..] {
            [_, b'u', _, _, high, low, ..] => (nibble(high) << 4 | nibble(low), 6),
            [_, b'b', ..] => (8, 2),
            [_, b'f', ..] => (12, 2),
            [_, b'n', ..] => (b'\n', 2),
            [_, b'r', ..] => (b'\r', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, itself, ..] => (itself, 2),
            _ => break,
        };
        text[written] = byte;
        (at, written) = (at + length, written + 1);
    }
    text.truncate(written);
}

fn nibble(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::shape::{Location, Member};

    static BLOB: Shape = Shape { name: "Blob", kind: Kind::Blob };
    static BLOBS: Shape = Shape { name: "Blobs", kind: Kind::List { member: &BLOB, min: None, max: None } };
    static TEXT: Shape =
        Shape { name: "Text", kind: Kind::String { pattern: None, min: None, max: None, values: &[] } };
    static NAMED: Shape = Shape { name: "Named", kind: Kind::Map { key: &TEXT, value: &BLOB, min: None, max: None } };
    static CODE: Shape = Shape {
        name: "Code",
        kind: Kind::Structure {
            members: &[
                Member { name: "Zip", location: Location::Body, required: false, shape: &BLOB },
                Member { name: "Text", location: Location::Body, required: false, shape: &TEXT },
            ],
        },
    };
    static REQUEST: Shape = Shape {
        name: "Request",
        kind: Kind::Structure {
            members: &[
                Member { name: "Code", location: Location::Body, required: false, shape: &CODE },
                Member { name: "Zip", location: Location::Body, required: false, shape: &BLOB },
                Member { name: "List", location: Location::Body, required: false, shape: &BLOBS },
                Member { name: "Map", location: Location::Body, required: false, shape: &NAMED },
            ],
        },
    };

    /// As it is read here, and as it is read by who knows no blobs.
    fn both(json: &str) -> (Option<Value>, Option<Value>) {
        let read = Document::read(&REQUEST, json.as_bytes()).ok();
        let read = read.map(|document| document.with_blobs(Bytes::from(json.to_owned())));
        (read, serde_json::from_str(json).ok())
    }

    /// A character of a text, as encoders may write it.
    fn character() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "[A-Za-z0-9+/= ]",
            2 => Just("\\/".to_owned()),
            2 => "\\\\u00[0-9a-fA-F]{2}",
            1 => "\\\\[\"\\\\bfnrt]",
            1 => "\\\\u[0-9a-fA-F]{4}",
            1 => Just("\\ud83d\\ude00".to_owned()),
            1 => "[é\u{1f600}]",
            1 => "\\\\[uxé\"]|\"|\n|\u{7f}",
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(character(), 0..12).prop_map(|all| format!("\"{}\"", all.concat()))
    }

    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            6 => text(),
            1 => "-?[0-9]{1,3}(\\.[0-9]{1,2})?(e[0-9]{1,3})?",
            1 => "null|true|false|\"[0-9]{1,2} [0-9]{1,2}\"",
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let name = prop_oneof![4 => "\"(Code|Zip|List|Map|Text|Other)\"", 1 => text()];
            let member =
                (name, "[ \n]?", inner.clone()).prop_map(|(name, space, value)| format!("{name}:{space}{value}"));
            prop_oneof![
                3 => prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
                1 => prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_is_what_it_is_to_who_knows_no_blobs(json in any_json()) {
            let (read, expected) = both(&json);
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn texts_of_blobs_are_what_they_are_to_who_knows_no_blobs(one in text(), other in text(), last in text()) {
            let (read, expected) = both(&format!(r#"{{"Zip": {one}, "Map": {{"a": {other}}}, "Code": {{"Zip":{last}}}}}"#));
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn the_last_of_members_of_one_name_counts() {
        for json in [
            r#"{"Zip": "QUJD", "Zip": "REVG"}"#,
            r#"{"Code": {"Zip": "QUJDREVG"}, "Code": {"Zip": 1}}"#,
            r#"{"Zip": 7, "Zip": "3 5"}"#,
        ] {
            let (read, expected) = both(json);
            assert_eq!(read, expected, "{json}");
        }
    }

    /// A blob's text where the request was, at the very same bytes of memory.
    #[test]
    fn the_longest_text_takes_the_buffer_over() {
        let long = STANDARD.encode([0xfb; 30_000]);
        for escaped in [long.clone(), long.replace('/', "\\/"), long.replace('+', "\\u002b")] {
            let json = Bytes::from(format!(r#"{{"Zip": "QUJD", "Code": {{"Zip": "{escaped}", "Text": "x"}}}}"#));
            let buffer = json.as_ptr();
            let document = Document::read(&REQUEST, &json).unwrap();
            let value = document.with_blobs(json);
            assert_eq!(value, json!({"Zip": "QUJD", "Code": {"Zip": long, "Text": "x"}}));
            assert_eq!(value["Code"]["Zip"].as_str().unwrap().as_ptr(), buffer);
        }
    }
}
