//! What a queue can be told, and what it means. Limits and defaults are those of AWS's reference (`SetQueueAttributes`).

use std::collections::BTreeMap;

use hearth_policy::{Document, Kind};
use hearth_wire::Error;
use hearth_wire_sqs::errors::{invalid_attribute_name, invalid_attribute_value};
use serde_json::Value;

use crate::names::Place;
use crate::refusals::invalid_value;

/// Bytes of a message, attributes included: of one, and of a batch together.
pub const SIZE_MAX: usize = 1024 * 1024;
/// Queues that a redrive allow policy names.
const SOURCES_MAX: usize = 10;

/// Numbers: name, least, most, default.
const NUMBERS: &[(&str, u64, u64, u64)] = &[
    ("DelaySeconds", 0, 900, 0),
    ("KmsDataKeyReusePeriodSeconds", 60, 86_400, 300),
    ("MaximumMessageSize", 1024, SIZE_MAX as u64, SIZE_MAX as u64),
    ("MessageRetentionPeriod", 60, 1_209_600, 345_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 20, 0),
    ("VisibilityTimeout", 0, 43_200, 30),
];

/// Of FIFO queues alone: name, values, default first.
const OF_FIFO: &[(&str, &[&str])] = &[
    ("ContentBasedDeduplication", &["false", "true"]),
    ("DeduplicationScope", &["queue", "messageGroup"]),
    ("FifoThroughputLimit", &["perQueue", "perMessageGroupId"]),
];

/// Texts that are nothing when they are empty.
const TEXTS: &[&str] = &["Policy", "RedriveAllowPolicy", "RedrivePolicy"];

/// What can only be read.
pub const MEASURED: &[&str] = &[
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// Attributes in the meaning that they have.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub delay_s: u64,
    pub size_max: usize,
    pub retention_s: u64,
    pub wait_s: u64,
    pub visibility_s: u64,
    pub by_content: bool,
    /// Whether a deduplication id counts in its group alone.
    pub in_group: bool,
    pub policy: Option<Document>,
    pub redrive: Option<Redrive>,
    pub allow: Allow,
}

/// Where messages go that were received too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    pub target: Place,
    pub receives_max: u32,
}

/// Whose dead letters a queue takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allow {
    #[default]
    All,
    None,
    Of(Vec<String>),
}

impl Allow {
    pub fn lets(&self, arn: &str) -> bool {
        match self {
            Allow::All => true,
            Allow::None => false,
            Allow::Of(arns) => arns.iter().any(|one| one == arn),
        }
    }
}

impl Settings {
    /// Of what was checked before it was kept.
    pub fn of(attributes: &BTreeMap<String, String>) -> Self {
        let number = |name: &str| {
            let default = NUMBERS.iter().find(|(known, ..)| *known == name).map_or(0, |(.., default)| *default);
            attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let is = |name: &str, value: &str| attributes.get(name).is_some_and(|text| text == value);
        let text = |name: &str| attributes.get(name).map(String::as_str);
        Settings {
            delay_s: number("DelaySeconds"),
            size_max: usize::try_from(number("MaximumMessageSize")).unwrap_or(SIZE_MAX),
            retention_s: number("MessageRetentionPeriod"),
            wait_s: number("ReceiveMessageWaitTimeSeconds"),
            visibility_s: number("VisibilityTimeout"),
            by_content: is("ContentBasedDeduplication", "true"),
            in_group: is("DeduplicationScope", "messageGroup"),
            policy: text("Policy").and_then(|text| policy(text).ok()),
            redrive: text("RedrivePolicy").and_then(|text| redrive(text).ok()),
            allow: text("RedriveAllowPolicy").and_then(|text| allow(text).ok()).unwrap_or_default(),
        }
    }
}

/// Adds what was asked to what a queue has; empty texts take away.
pub fn apply(
    kept: &BTreeMap<String, String>,
    asked: &BTreeMap<String, String>,
    is_fifo: bool,
) -> Result<BTreeMap<String, String>, Error> {
    let mut attributes = kept.clone();
    for (name, value) in asked {
        check(name, value, is_fifo)?;
        match value.as_str() {
            "" => attributes.remove(name),
            value => attributes.insert(name.clone(), value.to_owned()),
        };
    }
    let is = |name: &str, value: &str| attributes.get(name).is_some_and(|text| text == value);
    if is("FifoThroughputLimit", "perMessageGroupId") && !is("DeduplicationScope", "messageGroup") {
        return Err(invalid_attribute_value(
            "The perMessageGroupId value for FifoThroughputLimit is allowed only when the value for DeduplicationScope is \
             messageGroup.",
        ));
    }
    Ok(attributes)
}

fn check(name: &str, value: &str, is_fifo: bool) -> Result<(), Error> {
    let wrong = || invalid_attribute_value(format!("Invalid value for the parameter {name}."));
    if let Some((_, min, max, _)) = NUMBERS.iter().find(|(known, ..)| *known == name) {
        let is_good = value.parse().is_ok_and(|number: u64| (*min..=*max).contains(&number));
        return if is_good { Ok(()) } else { Err(wrong()) };
    }
    if let Some((_, values)) = OF_FIFO.iter().find(|(known, _)| *known == name) {
        return match is_fifo {
            false => Err(unknown(name)),
            true if values.contains(&value) => Ok(()),
            true => Err(wrong()),
        };
    }
    match name {
        "Policy" | "RedriveAllowPolicy" | "RedrivePolicy" if value.is_empty() => Ok(()),
        "Policy" => policy(value).map(drop),
        "RedriveAllowPolicy" => allow(value).map(drop),
        "RedrivePolicy" => redrive(value).map(drop),
        "SqsManagedSseEnabled" if matches!(value, "true" | "false") => Ok(()),
        "FifoQueue" if is_fifo && value == "true" => Ok(()),
        "FifoQueue" => Err(unknown(name)),
        "SqsManagedSseEnabled" => Err(wrong()),
        "KmsMasterKeyId" if value.is_empty() => Ok(()),
        "KmsMasterKeyId" => Err(Error::not_supported("sqs: KmsMasterKeyId, for there is no KMS")),
        _ => Err(unknown(name)),
    }
}

pub fn unknown(name: &str) -> Error {
    invalid_attribute_name(format!("Unknown Attribute {name}."))
}

/// Everything that a queue was told, or has without being told.
pub fn shown(kept: &BTreeMap<String, String>, is_fifo: bool) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        NUMBERS.iter().map(|(name, .., default)| ((*name).to_owned(), default.to_string())).collect();
    all.remove("KmsDataKeyReusePeriodSeconds");
    all.insert("SqsManagedSseEnabled".to_owned(), "true".to_owned());
    if is_fifo {
        all.insert("FifoQueue".to_owned(), "true".to_owned());
        all.extend(OF_FIFO.iter().map(|(name, values)| ((*name).to_owned(), values[0].to_owned())));
    }
    all.extend(kept.clone());
    all
}

/// Whether a client may name an attribute at all, as `All` aside.
pub fn is_known(name: &str) -> bool {
    NUMBERS.iter().any(|(known, ..)| *known == name)
        || OF_FIFO.iter().any(|(known, _)| *known == name)
        || TEXTS.contains(&name)
        || MEASURED.contains(&name)
        || matches!(name, "FifoQueue" | "KmsMasterKeyId" | "SqsManagedSseEnabled")
}

fn policy(text: &str) -> Result<Document, Error> {
    let wrong = || invalid_attribute_value("Invalid value for the parameter Policy.");
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    let document = Document::parse(&value, Kind::Resource).map_err(|_| wrong())?;
    if document.statements.iter().any(|statement| !statement.has_principal()) {
        return Err(wrong());
    }
    Ok(document)
}

fn redrive(text: &str) -> Result<Redrive, Error> {
    let wrong = |reason: &str| invalid_value(text, "RedrivePolicy", reason);
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        return Err(wrong("Redrive policy is not a valid JSON map."));
    };
    let lacks = |name: &str| wrong(&format!("Redrive policy does not contain mandatory attribute: {name}."));
    let target = members.get("deadLetterTargetArn").ok_or_else(|| lacks("deadLetterTargetArn"))?;
    let target =
        target.as_str().and_then(Place::of_arn).ok_or_else(|| wrong("Invalid value for deadLetterTargetArn."))?;
    let max = members.get("maxReceiveCount").ok_or_else(|| lacks("maxReceiveCount"))?;
    let number = max.as_u64().or_else(|| max.as_str()?.parse().ok()).filter(|max| (1..=1000).contains(max));
    let receives_max = number.and_then(|max| u32::try_from(max).ok()).ok_or_else(|| {
        wrong(&format!("Invalid value for maxReceiveCount: {max}, valid values are from 1 to 1000 both inclusive."))
    })?;
    if let Some(name) = members.keys().find(|name| !matches!(name.as_str(), "deadLetterTargetArn" | "maxReceiveCount"))
    {
        return Err(wrong(&format!("Unknown attribute: {name}.")));
    }
    Ok(Redrive { target, receives_max })
}

fn allow(text: &str) -> Result<Allow, Error> {
    let wrong = |reason: &str| invalid_value(text, "RedriveAllowPolicy", reason);
    let Ok(Value::Object(members)) = serde_json::from_str(text) else {
        return Err(wrong("Redrive allow policy is not a valid JSON map."));
    };
    let arns = match members.get("sourceQueueArns") {
        None => Vec::new(),
        Some(Value::Array(arns)) => {
            let arns: Option<Vec<String>> = arns.iter().map(|arn| Some(arn.as_str()?.to_owned())).collect();
            arns.ok_or_else(|| wrong("sourceQueueArns is a list of ARNs."))?
        }
        Some(_) => return Err(wrong("sourceQueueArns is a list of ARNs.")),
    };
    match members.get("redrivePermission").and_then(Value::as_str) {
        Some("allowAll") if arns.is_empty() => Ok(Allow::All),
        Some("denyAll") if arns.is_empty() => Ok(Allow::None),
        Some("byQueue")
            if (1..=SOURCES_MAX).contains(&arns.len()) && arns.iter().all(|a| Place::of_arn(a).is_some()) =>
        {
            Ok(Allow::Of(arns))
        }
        Some("byQueue") => Err(wrong("byQueue takes from 1 to 10 ARNs of queues.")),
        Some("allowAll" | "denyAll") => Err(wrong("sourceQueueArns is for byQueue alone.")),
        _ => Err(wrong("redrivePermission is allowAll, denyAll or byQueue.")),
    }
}
