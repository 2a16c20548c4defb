//! Messages on their way in: checked, given an id, on disk before they are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_store::queue::{Change, NewMessage, Once};
use hearth_wire::{Context, Error};
use hearth_wire_sqs::errors::{
    batch_entry_ids_not_distinct, batch_request_too_long, empty_batch_request, invalid_batch_entry_id,
    too_many_entries_in_batch_request,
};
use hearth_wire_sqs::query_code;
use hearth_wire_sqs::types::{
    BatchResultErrorEntry, MessageAttributeValue, MessageSystemAttributeValue, SendMessageBatchRequest,
    SendMessageBatchResult, SendMessageBatchResultEntry, SendMessageRequest, SendMessageResult,
};

use crate::attributes::SIZE_MAX;
use crate::live::Live;
use crate::message::{self, Message};
use crate::queues::{Outcome, Queues};
use crate::record::KIND;
use crate::refusals::{invalid, invalid_value, missing, unstored};

/// How long a deduplication id counts.
const ONCE_MS: u64 = 5 * 60 * 1000;
const ENTRIES_MAX: usize = 10;

/// A message as it is asked for.
pub struct Outgoing {
    pub body: Option<String>,
    pub delay: Option<i64>,
    pub attributes: Option<BTreeMap<String, MessageAttributeValue>>,
    pub system: Option<BTreeMap<String, MessageSystemAttributeValue>>,
    pub deduplication: Option<String>,
    pub group: Option<String>,
}

/// A message that can be sent.
pub struct Checked {
    message: Message,
    delay_ms: u64,
    once: Option<String>,
}

/// Longest trace header that is kept, bytes: room for each of its parts, with a lineage of 256.
const TRACE_MAX: usize = 1024;

impl Checked {
    /// What a sender says of a trace outside of its attributes.
    pub fn traced(&mut self, trace: Option<String>) {
        self.message.trace = trace.or(self.message.trace.take());
    }
}

/// A message that was sent.
pub struct Sent {
    message: Message,
    id: String,
    sequence: Option<String>,
}

impl Sent {
    pub fn into_id(self) -> String {
        self.id
    }
}

/// Of a message in a FIFO queue.
pub fn sequence(number: u64) -> String {
    format!("{number:020}")
}

pub fn sender(cx: &Context) -> String {
    match &cx.session {
        Some(session) => format!("{}:{}", cx.account, session.name),
        None => cx.account.clone(),
    }
}

/// `X-Amzn-Trace-Id`, as SDKs inside of functions pass it on. What is longer than any of theirs is no trace.
fn trace(cx: &Context) -> Option<String> {
    cx.trace.clone().filter(|trace| trace.len() <= TRACE_MAX)
}

impl Queues {
    pub(crate) async fn send_one(&self, cx: &Context, input: SendMessageRequest) -> Result<SendMessageResult, Error> {
        let live = self.asked(cx, input.queue_url, "SendMessage")?;
        let outgoing = Outgoing {
            body: input.message_body,
            delay: input.delay_seconds,
            attributes: input.message_attributes,
            system: input.message_system_attributes,
            deduplication: input.message_deduplication_id,
            group: input.message_group_id,
        };
        let mut checked = check(&live, outgoing, sender(cx))?;
        // Of what was given as an attribute.
        let md5_of_message_system_attributes = checked.message.system_digest();
        checked.traced(trace(cx));
        let mut sent = self.send(&live, vec![checked]).await?;
        let Sent { message, id, sequence } = sent.remove(0);
        Ok(SendMessageResult {
            md5_of_message_body: Some(message.body_digest()),
            md5_of_message_attributes: message.attributes_digest(),
            md5_of_message_system_attributes,
            message_id: Some(id),
            sequence_number: sequence,
        })
    }

    pub(crate) async fn send_batch(
        &self,
        cx: &Context,
        input: SendMessageBatchRequest,
    ) -> Result<SendMessageBatchResult, Error> {
        let live = self.asked(cx, input.queue_url, "SendMessage")?;
        let entries = input.entries.unwrap_or_default();
        check_batch("SendMessageBatchRequestEntry", entries.iter().map(|entry| entry.id.as_deref()))?;
        let (mut ids, mut ready, mut failed, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for entry in entries {
            let id = entry.id.unwrap_or_default();
            let outgoing = Outgoing {
                body: entry.message_body,
                delay: entry.delay_seconds,
                attributes: entry.message_attributes,
                system: entry.message_system_attributes,
                deduplication: entry.message_deduplication_id,
                group: entry.message_group_id,
            };
            size += outgoing.body.as_ref().map_or(0, String::len);
            match check(&live, outgoing, sender(cx)) {
                Ok(mut checked) => {
                    size += checked.message.size() - checked.message.body.len();
                    ids.push((id, checked.message.system_digest()));
                    checked.traced(trace(cx));
                    ready.push(checked);
                }
                Err(error) => failed.push(failure(id, &error)),
            }
        }
        if size > SIZE_MAX {
            return Err(batch_request_too_long(format!(
                "Batch requests cannot be longer than {SIZE_MAX} bytes. You have sent {size} bytes."
            )));
        }
        let sent = self.send(&live, ready).await?;
        let successful = ids.into_iter().zip(sent).map(|((entry, system), Sent { message, id, sequence })| {
            SendMessageBatchResultEntry {
                id: Some(entry),
                message_id: Some(id),
                md5_of_message_body: Some(message.body_digest()),
                md5_of_message_attributes: message.attributes_digest(),
                md5_of_message_system_attributes: system,
                sequence_number: sequence,
            }
        });
        Ok(SendMessageBatchResult { successful: Some(successful.collect()), failed: Some(failed) })
    }

    /// Sends all. One that repeats another is that other.
    pub(crate) async fn send(&self, live: &Arc<Live>, all: Vec<Checked>) -> Result<Vec<Sent>, Error> {
        let now = self.now();
        let count = all.len();
        let (mut sent, mut parts) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for Checked { message, delay_ms, once } in all {
            let id = uuid::Uuid::new_v4().to_string();
            let once = once.map(|key| Once { key, now, until: now + ONCE_MS });
            let change = change(live, &id, &message, now, now + delay_ms, once);
            parts.push((id.clone(), vec![change]));
            sent.push(Sent { message, id, sequence: None });
        }
        let outcomes = self.each(parts).await?;
        live.wake(count);
        if live.is_fifo {
            for (sent, outcome) in sent.iter_mut().zip(&outcomes) {
                let number = match outcome {
                    Outcome::Repeated { first, number } => {
                        sent.id.clone_from(first);
                        *number
                    }
                    _ => self.number(&sent.id).await?,
                };
                sent.sequence = Some(sequence(number));
            }
        }
        Ok(sent)
    }

    /// None where it was taken and ended since.
    async fn number(&self, id: &str) -> Result<u64, Error> {
        let found = self.inner.ports.messages.find(KIND, id.to_owned()).await.map_err(unstored)?;
        Ok(found.map_or(0, |(message, _)| message.number))
    }
}

/// How the store is told to send a message: new, or from another queue.
pub fn change(live: &Live, id: &str, message: &Message, sent: u64, due: u64, once: Option<Once>) -> Change {
    let (queue, id, note, body) = ((*live.queue).clone(), id.to_owned(), bytes::Bytes::new(), message.write());
    let new = NewMessage { queue, id, sent, due, note, body };
    match &message.group {
        Some(group) if live.is_fifo => Change::SendInLine { message: new, line: message::keyed(&[group]), once },
        _ => Change::Send(new),
    }
}

pub fn check(live: &Live, outgoing: Outgoing, sender: String) -> Result<Checked, Error> {
    let kept = live.kept();
    let settings = &kept.settings;
    let body = outgoing.body.filter(|body| !body.is_empty()).ok_or_else(|| missing("MessageBody"))?;
    message::check_text(&body)?;
    let attributes = outgoing.attributes.unwrap_or_default();
    message::check_attributes(&attributes)?;
    let trace = message::trace(outgoing.system)?;
    let (group, deduplication) = (outgoing.group, outgoing.deduplication);
    if let Some(group) = &group {
        message::check_id(group, "MessageGroupId")?;
    }
    if let Some(id) = &deduplication {
        message::check_id(id, "MessageDeduplicationId")?;
    }
    let mut message = Message { sender, attributes, trace, group, deduplication, source: None, body };
    if message.size() > settings.size_max {
        let text = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {} bytes.",
            settings.size_max
        );
        return Err(invalid(text));
    }
    let delay_s = match outgoing.delay {
        Some(delay) if live.is_fifo && delay != 0 => {
            let reason = "The request include parameter that is not valid for this queue type.";
            return Err(invalid_value(delay, "DelaySeconds", reason));
        }
        Some(delay) if !live.is_fifo => u64::try_from(delay)
            .ok()
            .filter(|delay| *delay <= 900)
            .ok_or_else(|| invalid_value(delay, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900."))?,
        _ => settings.delay_s,
    };
    let once = if live.is_fifo { Some(once(settings.by_content, settings.in_group, &mut message)?) } else { None };
    if let (false, Some(id)) = (live.is_fifo, &message.deduplication) {
        let reason = "The request includes a parameter that is not valid for this queue type.";
        return Err(invalid_value(id, "MessageDeduplicationId", reason));
    }
    Ok(Checked { message, delay_ms: delay_s * 1000, once })
}

/// By what a message of a FIFO queue is sent once.
fn once(by_content: bool, in_group: bool, message: &mut Message) -> Result<String, Error> {
    let group = message.group.clone().ok_or_else(|| missing("MessageGroupId"))?;
    let id = match message.deduplication.clone() {
        Some(id) => id,
        None if by_content => message::content_id(&message.body),
        None => {
            return Err(invalid(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided \
                 explicitly",
            ));
        }
    };
    message.deduplication = Some(id.clone());
    Ok(if in_group { message::keyed(&[&id, &group]) } else { message::keyed(&[&id]) })
}

/// What every batch must be.
pub fn check_batch<'a>(entry: &str, ids: impl Iterator<Item = Option<&'a str>>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let ids: Vec<Option<&str>> = ids.collect();
    if ids.is_empty() {
        return Err(empty_batch_request(format!("There should be at least one {entry} in the request.")));
    }
    if ids.len() > ENTRIES_MAX {
        return Err(too_many_entries_in_batch_request(format!(
            "Maximum number of entries per request are {ENTRIES_MAX}. You have sent {}.",
            ids.len()
        )));
    }
    for id in ids {
        let id = id.unwrap_or_default();
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if id.is_empty() || id.len() > 80 || !id.chars().all(is_good) {
            return Err(invalid_batch_entry_id(
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 \
                 letters long.",
            ));
        }
        if !seen.insert(id) {
            return Err(batch_entry_ids_not_distinct(format!("Id {id} repeated.")));
        }
    }
    Ok(())
}

/// An entry of a batch that could not be done.
pub fn failure(id: String, error: &Error) -> BatchResultErrorEntry {
    BatchResultErrorEntry {
        id: Some(id),
        sender_fault: Some(error.status < 500),
        code: Some(query_code(&error.code).to_owned()),
        message: error.message.clone(),
    }
}
