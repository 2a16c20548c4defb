//! A message as it is kept, its digests, and what it may be.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use hearth_wire::{Error, hex};
use hearth_wire_sqs::errors::invalid_message_contents;
use hearth_wire_sqs::types::{MessageAttributeValue, MessageSystemAttributeValue};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::refusals::{invalid, invalid_value, missing};

const ATTRIBUTES_MAX: usize = 10;
/// Characters of a group or of a deduplication id.
const ID_MAX: usize = 128;

/// What is kept of a message beside what the store keeps.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Message {
    /// Who sent it.
    pub sender: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, MessageAttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication: Option<String>,
    /// ARN of the queue that it was a dead letter of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip)]
    pub body: String,
}

impl Message {
    /// Length of the head, the head in JSON, the body.
    pub fn write(&self) -> Bytes {
        // Maps of texts do not fail.
        let head = serde_json::to_vec(self).unwrap_or_default();
        let mut kept = BytesMut::with_capacity(4 + head.len() + self.body.len());
        kept.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
        kept.extend_from_slice(&head);
        kept.extend_from_slice(self.body.as_bytes());
        kept.freeze()
    }

    pub fn read(kept: &[u8]) -> Option<Self> {
        let (length, rest) = kept.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let head = rest.get(..length)?;
        let body = String::from_utf8(rest.get(length..)?.to_vec()).ok()?;
        Some(Message { body, ..serde_json::from_slice(head).ok()? })
    }

    /// As AWS counts it: names, types and values of attributes are part of it.
    pub fn size(&self) -> usize {
        let of_attributes = self.attributes.iter().map(|(name, value)| {
            let data = value.data_type.as_deref().map_or(0, str::len);
            name.len() + data + value.string_value.as_deref().map_or(0, str::len) + binary(value).len()
        });
        self.body.len() + of_attributes.sum::<usize>()
    }

    pub fn body_digest(&self) -> String {
        hex(&Md5::digest(self.body.as_bytes()))
    }

    /// Of all its attributes; none where it has none.
    pub fn attributes_digest(&self) -> Option<String> {
        digest(self.attributes.iter())
    }

    /// Of the system attributes that a sender may give.
    pub fn system_digest(&self) -> Option<String> {
        let trace = self.trace.clone()?;
        let value = MessageAttributeValue {
            data_type: Some("String".to_owned()),
            string_value: Some(trace),
            ..MessageAttributeValue::default()
        };
        digest([(&"AWSTraceHeader".to_owned(), &value)].into_iter())
    }
}

/// Names in order, then for each: name, type and value with their lengths, and one byte for text or bytes (AWS's guide,
/// "Calculating the MD5 message digest for message attributes").
fn digest<'a>(attributes: impl Iterator<Item = (&'a String, &'a MessageAttributeValue)>) -> Option<String> {
    let mut sorted: Vec<_> = attributes.collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut md5 = Md5::new();
    let mut piece = |before: &[u8], bytes: &[u8]| {
        md5.update(before);
        md5.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        md5.update(bytes);
    };
    for (name, value) in &sorted {
        let data = value.data_type.as_deref().unwrap_or_default();
        piece(&[], name.as_bytes());
        piece(&[], data.as_bytes());
        if data.starts_with("Binary") {
            piece(&[2], binary(value));
        } else {
            piece(&[1], value.string_value.as_deref().unwrap_or_default().as_bytes());
        }
    }
    (!sorted.is_empty()).then(|| hex(&md5.finalize()))
}

fn binary(value: &MessageAttributeValue) -> &[u8] {
    value.binary_value.as_ref().map_or(&[], |value| &value.0)
}

/// What content-based deduplication compares.
pub fn content_id(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes()))
}

/// A name of the store's for a text of a client's, of whatever length and secrecy.
pub fn keyed(parts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    hex(&sha.finalize()[..16])
}

/// XML's characters (AWS: `SendMessage`, "MessageBody").
pub fn check_text(text: &str) -> Result<(), Error> {
    let is_good = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(is_good) {
        return Ok(());
    }
    Err(invalid_message_contents(
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | \
         #x10000 to #x10FFFF",
    ))
}

/// A group or a deduplication id.
pub fn check_id(id: &str, parameter: &str) -> Result<(), Error> {
    let is_good = |c: char| c.is_ascii_graphic();
    if (1..=ID_MAX).contains(&id.len()) && id.chars().all(is_good) {
        return Ok(());
    }
    let shown: String = id.chars().take(ID_MAX).collect();
    let reason =
        format!("{parameter} can only include alphanumeric and punctuation characters. 1 to {ID_MAX} in length.");
    Err(invalid_value(shown, parameter, &reason))
}

pub fn check_attributes(attributes: &BTreeMap<String, MessageAttributeValue>) -> Result<(), Error> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].",
            attributes.len()
        )));
    }
    attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))
}

fn check_attribute(name: &str, value: &MessageAttributeValue) -> Result<(), Error> {
    let lower = name.to_ascii_lowercase();
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty()
        || name.len() > 256
        || !name.chars().all(is_good)
        || name.starts_with('.')
        || name.ends_with('.')
        || name.contains("..")
    {
        return Err(invalid(format!(
            "Message (user) attribute name '{}' is invalid: names have letters, digits, '-', '_' and single periods inside.",
            name.chars().take(256).collect::<String>()
        )));
    }
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return Err(invalid(format!("Message (user) attribute name '{name}' uses a reserved prefix.")));
    }
    let bad = |what: &str| invalid(format!("The message attribute '{name}' {what}"));
    if value.string_list_values.is_some() || value.binary_list_values.is_some() {
        return Err(bad("has a list of values, which is not supported."));
    }
    let data = value.data_type.as_deref().unwrap_or_default();
    if data.is_empty() {
        return Err(bad("must contain a non-empty message attribute type."));
    }
    let text = value.string_value.as_deref();
    match data.split('.').next().unwrap_or_default() {
        _ if data.len() > 256 => Err(bad("has a type that is longer than 256 characters.")),
        "Binary" if !binary(value).is_empty() && text.is_none() => Ok(()),
        "Binary" => Err(bad("must contain a non-empty message attribute value for message attribute type 'Binary'.")),
        kind @ ("String" | "Number") => {
            let text = text.filter(|text| !text.is_empty() && value.binary_value.is_none()).ok_or_else(|| {
                bad(&format!("must contain a non-empty message attribute value for message attribute type '{kind}'."))
            })?;
            check_text(text)?;
            if kind == "Number" && text.parse::<f64>().is_err() {
                return Err(invalid(format!("Can't cast the value of message (user) attribute '{name}' to a number.")));
            }
            Ok(())
        }
        _ => Err(bad(
            "has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.",
        )),
    }
}

/// The only one that may be sent.
pub fn trace(attributes: Option<BTreeMap<String, MessageSystemAttributeValue>>) -> Result<Option<String>, Error> {
    let mut trace = None;
    for (name, value) in attributes.unwrap_or_default() {
        if name != "AWSTraceHeader" {
            return Err(invalid(format!("Message system attribute name '{name}' is invalid.")));
        }
        if value.data_type.as_deref() != Some("String") {
            return Err(invalid("The data type of the message system attribute 'AWSTraceHeader' must be String."));
        }
        trace = Some(value.string_value.ok_or_else(|| missing("MessageSystemAttribute.1.Value.StringValue"))?);
    }
    Ok(trace)
}
