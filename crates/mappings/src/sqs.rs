//! Queues as sources: standard and FIFO (spec 6.3). What order FIFO asks for the queue keeps: of a group of which a message
//! is out it gives no other, so one batch of a group is under way, and as many batches as there are groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_model::BoxFuture;
use hearth_patterns::{Node, Pattern};
use hearth_queues::{Poll, PortError, Queues, Received, Sender};
use hearth_wire_sqs::types::MessageAttributeValue;
use serde::Serialize;

use crate::source::{Polled, Reader, Source, SourceError, Taken, Want};

/// What messages are held for beyond what a batch may take, where the queue's own timeout is shorter than that.
const HOLD_MORE: Duration = Duration::from_secs(30);

pub struct Sqs {
    queues: Queues,
    /// ARN of the queue.
    arn: String,
    region: String,
}

impl Sqs {
    pub fn new(queues: Queues, arn: String) -> Self {
        let region = arn.split(':').nth(3).unwrap_or_default().to_owned();
        Sqs { queues, arn, region }
    }
}

fn sender(reader: &Reader) -> Sender<'_> {
    Sender::Role { account: &reader.account, arn: &reader.role }
}

/// As AWS words what another service of its own answered (recorded).
pub fn refused(action: &str, error: &PortError) -> String {
    format!("Error occurred while {action}. SQS Error Code: {}. SQS Error Message: {}", error.code, error.message)
}

fn failed(action: &'static str) -> impl Fn(PortError) -> SourceError {
    move |error| SourceError(refused(action, &error))
}

impl Source for Sqs {
    fn poll(&self, reader: Reader, want: Want, filters: Arc<[Pattern]>) -> BoxFuture<'_, Result<Polled, SourceError>> {
        Box::pin(async move {
            let Want { limit, bytes_max, hold, wait, quit } = want;
            let facts =
                self.queues.facts(sender(&reader), &self.arn).map_err(|(action, error)| failed(action)(error))?;
            let visibility = if hold > facts.visibility { hold + HOLD_MORE } else { facts.visibility };
            let poll = Poll { limit, bytes_max, visibility, wait, quit };
            let received =
                self.queues.poll(sender(&reader), &self.arn, poll).await.map_err(failed("ReceiveMessage"))?;
            let mut polled = Polled::default();
            for message in received {
                if filters.is_empty() || is_wanted(&message, &self.arn, &self.region, &filters) {
                    polled.wanted.push(self.taken(message));
                } else {
                    polled.unwanted.push(message.handle);
                }
            }
            Ok(polled)
        })
    }

    fn settle(&self, reader: Reader, handles: Vec<String>) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            self.queues.finish(sender(&reader), &self.arn, &handles).await.map_err(failed("DeleteMessage"))
        })
    }

    fn give_back(&self, reader: Reader, handles: Vec<String>) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            self.queues.give_back(sender(&reader), &self.arn, &handles).await.map_err(failed("ChangeMessageVisibility"))
        })
    }
}

impl Sqs {
    fn taken(&self, message: Received) -> Taken {
        let trace = message.attributes.iter().find(|(name, _)| *name == "AWSTraceHeader");
        let trace = trace.map(|(_, value)| value.clone());
        let record = Record {
            message_id: &message.id,
            receipt_handle: &message.handle,
            body: &message.body,
            attributes: message.attributes.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            message_attributes: message.message_attributes.iter().map(|(n, v)| (n.as_str(), Shown::of(v))).collect(),
            md5_of_message_attributes: message.attributes_digest.as_deref(),
            md5_of_body: &message.body_digest,
            event_source: "aws:sqs",
            event_source_arn: &self.arn,
            aws_region: &self.region,
        };
        // Texts alone: it cannot fail.
        let json = serde_json::to_string(&record).unwrap_or_default();
        Taken { id: message.id, handle: message.handle, json, expires: message.expires, trace }
    }
}

/// As functions see a message (recorded).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
    message_attributes: BTreeMap<&'a str, Shown<'a>>,
    md5_of_message_attributes: Option<&'a str>,
    md5_of_body: &'a str,
    event_source: &'a str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    string_list_values: [(); 0],
    binary_list_values: [(); 0],
    data_type: &'a str,
}

impl<'a> Shown<'a> {
    fn of(value: &'a MessageAttributeValue) -> Self {
        Shown {
            string_value: value.string_value.as_deref(),
            binary_value: value.binary_value.as_ref().map(|bytes| STANDARD.encode(&bytes.0)),
            string_list_values: [],
            binary_list_values: [],
            data_type: value.data_type.as_deref().unwrap_or_default(),
        }
    }
}

/// Whether one of the filters wants a message. A body is an object to those that ask inside of it, and text to others;
/// what it is not, they do not want (spec 6.9).
fn is_wanted(message: &Received, arn: &str, region: &str, filters: &[Pattern]) -> bool {
    let body = Node::parse(&message.body).ok().filter(|body| matches!(body, Node::Object(_)));
    let is_object = body.is_some();
    let text = |text: &'static str, value| (text.into(), value);
    let attributes = message.attributes.iter().map(|(name, value)| ((*name).into(), Node::text(value.as_str())));
    let members = vec![
        text("messageId", Node::text(message.id.as_str())),
        text("receiptHandle", Node::text(message.handle.as_str())),
        text("body", body.unwrap_or_else(|| Node::text(message.body.as_str()))),
        text("attributes", Node::Object(attributes.collect())),
        text("messageAttributes", Node::Object(message.message_attributes.iter().map(attribute).collect())),
        text("md5OfMessageAttributes", message.attributes_digest.as_deref().map_or(Node::Null, Node::text)),
        text("md5OfBody", Node::text(message.body_digest.as_str())),
        text("eventSource", Node::text("aws:sqs")),
        text("eventSourceARN", Node::text(arn)),
        text("awsRegion", Node::text(region)),
    ];
    let record = Node::Object(members);
    filters
        .iter()
        .any(|filter| filter.asks_inside("body").is_none_or(|inside| inside == is_object) && filter.matches(&record))
}

fn attribute<'a>((name, value): (&'a String, &'a MessageAttributeValue)) -> (std::borrow::Cow<'a, str>, Node<'a>) {
    let mut members = vec![("dataType".into(), Node::text(value.data_type.as_deref().unwrap_or_default()))];
    members.extend(value.string_value.as_deref().map(|text| ("stringValue".into(), Node::text(text))));
    let binary = value.binary_value.as_ref().map(|bytes| STANDARD.encode(&bytes.0));
    members.extend(binary.map(|text| ("binaryValue".into(), Node::text(text))));
    (name.as_str().into(), Node::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pattern: &str, body: &str) -> bool {
        let message = Received {
            id: "i".to_owned(),
            handle: "h".to_owned(),
            body: body.to_owned(),
            body_digest: String::new(),
            attributes: vec![("SenderId", "me".to_owned())],
            message_attributes: BTreeMap::from([(
                "k".to_owned(),
                MessageAttributeValue {
                    data_type: Some("String".to_owned()),
                    string_value: Some("v".to_owned()),
                    ..MessageAttributeValue::default()
                },
            )]),
            attributes_digest: None,
            expires: 0,
        };
        is_wanted(&message, "arn", "us-east-1", &[Pattern::compile(pattern).unwrap()])
    }

    #[test]
    fn bodies_are_what_filters_ask_for_or_not_wanted() {
        for (pattern, body, expected) in [
            (r#"{"body":{"a":[1]}}"#, r#"{"a":1}"#, true),
            (r#"{"body":{"a":[1]}}"#, r#"{"a":2}"#, false),
            (r#"{"body":{"a":[1]}}"#, "plain", false),
            (r#"{"body":{"a":[{"exists":false}]}}"#, "plain", false),
            (r#"{"body":{"a":[{"exists":false}]}}"#, r#"{"b":1}"#, true),
            (r#"{"body":["plain"]}"#, "plain", true),
            (r#"{"body":["plain"]}"#, "other", false),
            (r#"{"body":[{"exists":false}]}"#, r#"{"a":1}"#, false),
            (r#"{"body":["5"]}"#, "5", true),
            (r#"{"attributes":{"SenderId":["me"]}}"#, "anything", true),
            (r#"{"messageAttributes":{"k":{"stringValue":[{"prefix":"v"}]}}}"#, "{}", true),
            (r#"{"messageAttributes":{"k":{"stringValue":["w"]}}}"#, "{}", false),
            ("{}", "anything", true),
        ] {
            assert_eq!(wanted(pattern, body), expected, "{pattern} of {body}");
        }
    }
}
