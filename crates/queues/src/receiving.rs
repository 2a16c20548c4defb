//! Messages on their way out. What was received too often goes to the dead-letter queue instead, in the same transaction that
//! takes it off its own; what is too old goes nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_store::QueueError;
use hearth_store::queue::{Change, Message as Held, Ms, Take, Taken};
use hearth_wire::{Context, Error};
use hearth_wire_sqs::errors::over_limit;
use hearth_wire_sqs::types::{Message as Shown, MessageAttributeValue, ReceiveMessageRequest, ReceiveMessageResult};
use tokio::time::Instant;

use crate::handle;
use crate::live::Live;
use crate::message::Message;
use crate::queues::Queues;
use crate::refusals::{invalid, invalid_value, unstored};
use crate::sending::{change, sequence};

/// Messages that are out of a queue at a time.
const HELD_MAX: u64 = 120_000;
const MESSAGES_MAX: usize = 10;
/// Bodies of one answer, but for the first.
pub const BYTES_MAX: u64 = 10 << 20;
const SYSTEM: &[&str] = &[
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
    "MessageDeduplicationId",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
    "SequenceNumber",
];

/// What a receiver wants.
#[derive(Clone, Copy)]
pub struct Want {
    pub limit: usize,
    /// Bodies together, but for the first.
    pub bytes_max: u64,
    pub visibility: Duration,
    pub wait: Duration,
}

impl Queues {
    pub(crate) async fn receive(
        &self,
        cx: &Context,
        input: ReceiveMessageRequest,
    ) -> Result<ReceiveMessageResult, Error> {
        let live = self.asked(cx, input.queue_url, "ReceiveMessage")?;
        let settings = &live.kept().settings;
        let limit = match input.max_number_of_messages {
            None => 1,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=MESSAGES_MAX).contains(limit))
                .ok_or_else(|| invalid_value(limit, "MaxNumberOfMessages", "Must be between 1 and 10, if provided."))?,
        };
        let wait = seconds(input.wait_time_seconds, settings.wait_s, 20)
            .map_err(|given| invalid_value(given, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided."))?;
        let visibility = seconds(input.visibility_timeout, settings.visibility_s, 43_200)
            .map_err(|given| invalid_value(given, "VisibilityTimeout", "Must be between 0 and 43200, if provided."))?;
        let system: Vec<String> =
            [input.attribute_names, input.message_system_attribute_names].into_iter().flatten().flatten().collect();
        if let Some(name) = system.iter().find(|name| *name != "All" && !SYSTEM.contains(&name.as_str())) {
            return Err(crate::attributes::unknown(name));
        }
        if let (false, Some(id)) = (live.is_fifo, &input.receive_request_attempt_id) {
            let reason = "The request includes a parameter that is not valid for this queue type.";
            return Err(invalid_value(id, "ReceiveRequestAttemptId", reason));
        }
        let wanted = input.message_attribute_names.unwrap_or_default();
        let want = Want { limit, bytes_max: BYTES_MAX, visibility, wait };
        let taken = self.await_messages(&live, want, std::future::pending()).await?;
        let messages: Vec<Shown> =
            taken.into_iter().map(|(held, message)| shown(&live, &held, message, &system, &wanted)).collect();
        Ok(ReceiveMessageResult { messages: (!messages.is_empty()).then_some(messages) })
    }

    /// Messages, as soon as there are any: woken by what arrives, or at the moment when the next one is due. None when
    /// `quit` is ready before.
    pub(crate) async fn await_messages(
        &self,
        live: &Arc<Live>,
        want: Want,
        quit: impl Future<Output = ()>,
    ) -> Result<Vec<(Held, Message)>, Error> {
        let mut quit = std::pin::pin!(quit);
        let until = Instant::now() + want.wait;
        let mut ended = self.inner.ended.subscribe();
        loop {
            if self.is_full(live).await? {
                // AWS: an error of short polls on standard queues alone.
                return match live.is_fifo || !want.wait.is_zero() {
                    true => Ok(Vec::new()),
                    false => Err(over_limit(format!("Too many messages are in flight: {HELD_MAX} at most."))),
                };
            }
            let (messages, next) = self.take(live, want).await?;
            if !messages.is_empty() {
                let now = self.now();
                if next.is_some_and(|next| next <= now) {
                    live.wake(1);
                }
                return Ok(messages);
            }
            if Instant::now() >= until || *ended.borrow() || self.inner.all.find(&live.place).is_none() {
                return Ok(messages);
            }
            let due = next.map(|next| Instant::now() + Duration::from_millis(next.saturating_sub(self.now())));
            let wake = due.map_or(until, |due| due.min(until));
            tokio::select! {
                () = live.arrived.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
                _ = ended.changed() => {}
                () = &mut quit => return Ok(messages),
            }
        }
    }

    /// Takes what is there, and when the next is due.
    pub(crate) async fn take(&self, live: &Arc<Live>, want: Want) -> Result<(Vec<(Held, Message)>, Option<Ms>), Error> {
        loop {
            let now = self.now();
            let hold = Ms::try_from(want.visibility.as_millis()).unwrap_or(Ms::MAX);
            let take = Take {
                queue: live.queue.clone(),
                now,
                until: now + hold,
                limit: want.limit,
                bytes_max: want.bytes_max,
            };
            let store = &self.inner.ports.messages;
            let taken = if live.is_fifo { store.take_in_line(take).await } else { store.take(take).await };
            let Taken { messages, next } = taken.map_err(unstored)?;
            let count = messages.len();
            let (mut out, mut dead) = (Vec::with_capacity(count), Vec::new());
            let kept = live.kept();
            let old = now.saturating_sub(kept.settings.retention_s * 1000);
            let redrive = kept.settings.redrive.as_ref();
            let target =
                redrive.and_then(|redrive| Some((redrive.receives_max, self.inner.all.find(&redrive.target)?)));
            for (held, body) in messages {
                let Some(message) = Message::read(&body) else {
                    return Err(unstored(QueueError::Engine(format!("the message {} does not read", held.id).into())));
                };
                match &target {
                    _ if held.sent < old => dead.push((held.id.clone(), vec![Change::Delete(held.receipt())])),
                    Some((max, target)) if held.turns > *max => {
                        let source = Some(live.place.arn());
                        let message = Message { source, ..message };
                        // Its age counts on, but in a FIFO queue.
                        let sent = if target.is_fifo { now } else { held.sent };
                        let send = change(target, &held.id, &message, sent, now, None);
                        dead.push((held.id.clone(), vec![Change::Delete(held.receipt()), send]));
                    }
                    _ => out.push((held, message)),
                }
            }
            let gone = dead.len();
            self.each(dead).await?;
            if let (Some((_, target)), true) = (&target, gone > 0) {
                target.wake(gone);
            }
            live.held.fetch_add(out.len() as u64, Ordering::Relaxed);
            if !out.is_empty() || gone == 0 {
                return Ok((out, next));
            }
        }
    }

    /// The count is never too low; when it is at its limit, it is made true.
    async fn is_full(&self, live: &Live) -> Result<bool, Error> {
        if live.held.load(Ordering::Relaxed) < HELD_MAX {
            return Ok(false);
        }
        let counts = self.inner.ports.messages.counts((*live.queue).clone(), self.now()).await.map_err(unstored)?;
        live.held.store(counts.held, Ordering::Relaxed);
        Ok(counts.held >= HELD_MAX)
    }
}

fn seconds(given: Option<i64>, otherwise: u64, max: u64) -> Result<Duration, i64> {
    let Some(given) = given else { return Ok(Duration::from_secs(otherwise)) };
    u64::try_from(given).ok().filter(|given| *given <= max).map(Duration::from_secs).ok_or(given)
}

fn shown(live: &Live, held: &Held, message: Message, system: &[String], wanted: &[String]) -> Shown {
    let is_asked = |name: &str| system.iter().any(|asked| asked == name || asked == "All");
    let attributes: BTreeMap<String, String> = system_attributes(live, held, &message)
        .into_iter()
        .filter(|(name, _)| is_asked(name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let is_wanted = |name: &String| {
        wanted.iter().any(|wanted| match wanted.strip_suffix('*').map(|prefix| prefix.trim_end_matches('.')) {
            Some(prefix) => name.starts_with(prefix),
            None => wanted == "All" || wanted == name,
        })
    };
    let chosen: BTreeMap<String, MessageAttributeValue> =
        message.attributes.iter().filter(|(name, _)| is_wanted(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let md5_of_body = Some(message.body_digest());
    let answered = Message { attributes: chosen, ..message };
    Shown {
        message_id: Some(held.id.clone()),
        receipt_handle: Some(handle::write(&held.receipt())),
        md5_of_body,
        md5_of_message_attributes: answered.attributes_digest(),
        body: Some(answered.body),
        attributes: (!attributes.is_empty()).then_some(attributes),
        message_attributes: (!answered.attributes.is_empty()).then_some(answered.attributes),
    }
}

/// Everything that is known of a message.
pub fn system_attributes(live: &Live, held: &Held, message: &Message) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("SenderId", message.sender.clone()),
        ("SentTimestamp", held.sent.to_string()),
        ("ApproximateReceiveCount", held.turns.to_string()),
        ("ApproximateFirstReceiveTimestamp", held.first.unwrap_or_default().to_string()),
    ];
    let mut add = |name, value: &Option<String>| all.extend(value.clone().map(|value| (name, value)));
    add("AWSTraceHeader", &message.trace);
    add("DeadLetterQueueSourceArn", &message.source);
    add("MessageGroupId", &message.group);
    add("MessageDeduplicationId", &message.deduplication);
    if live.is_fifo {
        all.push(("SequenceNumber", sequence(held.number)));
    }
    all
}

/// Of a FIFO queue: what is not held is not deleted.
pub fn too_late(handle: &str) -> Error {
    let shown: String = handle.chars().take(200).collect();
    invalid(format!("Value {shown} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."))
}
