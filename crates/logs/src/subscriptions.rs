//! Functions that are sent what others log: what a subscription filter matches is passed on in batches, as
//! `{"awslogs": {"data": …}}`.
//!
//! A batch is an asynchronous event of its function (decision 32): on disk once it is accepted, tried again and given up as
//! the function's owner has said. What is still gathered, or waits for a full disk, is lost with a killed server; it can be
//! read from the log.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hearth_model::{
    ASYNC_PAYLOAD_MAX, AcceptError, AcceptEvents, AccountId, FunctionArn, FunctionRef, Functions, LogGroup, NewEvent,
    Region, RequestId,
};
use hearth_observe::{Stored, Subscription};
use serde_json::json;
use tokio::sync::mpsc;

use crate::events::text;
use crate::page;
use crate::pattern::Pattern;
use crate::watch::Watch;

/// Text that is gathered before it is sent, bytes.
const GATHERED_MAX: usize = 256 * 1024;
/// Batches of one filter that wait to be accepted.
const WAITING_MAX: usize = 64;
/// Pause before a batch is offered again that could not be stored: the disk is full.
const PAUSE: Duration = Duration::from_secs(1);

/// Which functions there are, and who takes events for them.
#[derive(Clone)]
pub struct Destinations {
    pub functions: Arc<dyn Functions>,
    pub events: Arc<dyn AcceptEvents>,
}

impl Destinations {
    /// The function of that ARN, when it can be invoked for a group.
    pub fn function(&self, group: &LogGroup, destination: &str) -> Option<FunctionArn> {
        let arn = function(&group.account, &group.region, destination)?;
        self.functions.known(&arn).is_ok().then_some(arn)
    }

    async fn send(&self, arn: &FunctionArn, payload: Bytes) -> Result<(), AcceptError> {
        let event = NewEvent {
            request_id: RequestId::new(uuid::Uuid::new_v4().to_string()),
            arn: arn.clone(),
            payload,
            content_type: None,
            client_context: None,
            tenant: None,
            trace: None,
            origin: None,
        };
        self.events.accept(event).await
    }
}

/// A function of the group's own account and region.
fn function(account: &AccountId, region: &Region, destination: &str) -> Option<FunctionArn> {
    let reference = FunctionRef::parse(destination).ok()?;
    let arn = reference.resolve(account, region, None).ok()?;
    (destination.starts_with("arn:") && arn.account == *account && arn.region == *region).then_some(arn)
}

/// One filter at work.
pub(crate) struct Subscriber {
    pub subscription: Subscription,
    group: LogGroup,
    pattern: Pattern,
    /// By stream.
    gathered: HashMap<Arc<str>, Vec<Stored>>,
    bytes: usize,
    batches: mpsc::Sender<Batch>,
    watch: Watch,
}

struct Batch {
    stream: Arc<str>,
    events: Vec<Stored>,
}

impl Subscriber {
    pub fn new(watch: &Watch, group: &LogGroup, subscription: &Subscription) -> Option<Self> {
        let (Ok(pattern), Some(arn)) =
            (Pattern::parse(&subscription.pattern), function(&group.account, &group.region, &subscription.destination))
        else {
            tracing::warn!(group = &*group.name, filter = subscription.name, "a subscription filter cannot be used");
            return None;
        };
        let (batches, waiting) = mpsc::channel(WAITING_MAX);
        watch.tasks.spawn(send(watch.clone(), group.clone(), subscription.name.clone(), arn, waiting));
        Some(Subscriber {
            subscription: subscription.clone(),
            group: group.clone(),
            pattern,
            gathered: HashMap::new(),
            bytes: 0,
            batches,
            watch: watch.clone(),
        })
    }

    pub fn gather(&mut self, events: &[Stored]) {
        for event in events.iter().filter(|event| self.pattern.is_match(&event.message)) {
            self.bytes += event.message.len();
            self.gathered.entry(event.stream.clone()).or_default().push(event.clone());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// Whether what is gathered should wait for no more.
    pub fn is_full(&self) -> bool {
        self.bytes >= GATHERED_MAX
    }

    pub fn pass_on(&mut self) {
        self.bytes = 0;
        for (stream, events) in self.gathered.drain() {
            if let Err(error) = self.batches.try_send(Batch { stream, events }) {
                let (mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch)) = error;
                let events = batch.events.len();
                self.watch.metrics.unsent(events);
                tracing::warn!(events, group = &*self.group.name, "a subscriber misses events: they came too fast");
            }
        }
    }
}

/// Until the filter is gone and everything it passed on is accepted.
async fn send(watch: Watch, group: LogGroup, filter: String, arn: FunctionArn, mut waiting: mpsc::Receiver<Batch>) {
    while let Some(batch) = waiting.recv().await {
        let missed = |events: usize, why: &str| {
            watch.metrics.unsent(events);
            tracing::warn!(why, events, group = &*group.name, %arn, "a subscriber was not sent its events");
        };
        if watch.destinations.functions.known(&arn).is_err() {
            missed(batch.events.len(), "there is no such function");
            continue;
        }
        let mut rest = vec![&batch.events[..]];
        while let Some(events) = rest.pop() {
            let payload = payload(&group, &filter, &batch.stream, events);
            if payload.len() > ASYNC_PAYLOAD_MAX {
                match events {
                    [_] => missed(1, "an event is too large"),
                    _ => {
                        let (first, last) = events.split_at(events.len() / 2);
                        rest.extend([last, first]);
                    }
                }
                continue;
            }
            while let Err(error) = watch.destinations.send(&arn, payload.clone()).await {
                if watch.ending.is_cancelled() {
                    missed(events.len(), &error.to_string());
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// As subscribers are sent it.
fn payload(group: &LogGroup, filter: &str, stream: &str, events: &[Stored]) -> Bytes {
    let event = |event: &Stored| {
        json!({
            "id": page::digits(event.position()),
            "timestamp": event.position().at,
            "message": text(&event.message),
        })
    };
    let data = json!({
        "messageType": "DATA_MESSAGE",
        "owner": group.account.as_str(),
        "logGroup": &*group.name,
        "logStream": stream,
        "subscriptionFilters": [filter],
        "logEvents": events.iter().map(event).collect::<Vec<_>>(),
    });
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = packed.write_all(data.to_string().as_bytes());
    let packed = packed.finish().unwrap_or_default();
    json!({ "awslogs": { "data": STANDARD.encode(packed) } }).to_string().into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn only_functions_of_the_own_account_and_region_are_destinations() {
        let (account, region) = (AccountId::default_account(), Region::default_region());
        let own = format!("arn:aws:lambda:{region}:{account}:function:f");
        assert_eq!(function(&account, &region, &own).unwrap().to_string(), own);
        assert!(function(&account, &region, &format!("{own}:live")).is_some());
        for other in [
            "f".to_owned(),
            format!("arn:aws:lambda:eu-west-1:{account}:function:f"),
            format!("arn:aws:lambda:{region}:111111111111:function:f"),
            format!("arn:aws:kinesis:{region}:{account}:stream/s"),
        ] {
            assert!(function(&account, &region, &other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_batch_is_packed_as_subscribers_unpack_it() {
        let (account, region) = (AccountId::default_account(), Region::default_region());
        let group = LogGroup { account, region, name: "/g".into() };
        let at = UNIX_EPOCH + Duration::from_millis(5);
        let event = Stored { number: 7, at, ingested: at, stream: "s".into(), message: "hello".into() };
        let payload = payload(&group, "mine", "s", &[event]);
        let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let packed = STANDARD.decode(payload["awslogs"]["data"].as_str().unwrap()).unwrap();
        let mut data = String::new();
        flate2::read::GzDecoder::new(&*packed).read_to_string(&mut data).unwrap();
        let data: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!(data["subscriptionFilters"], json!(["mine"]));
        assert_eq!(data["logEvents"][0]["message"], "hello");
        assert_eq!(data["logEvents"][0]["id"].as_str().unwrap().len(), 56);
    }
}
