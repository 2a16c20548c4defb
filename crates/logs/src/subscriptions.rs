//! Functions that are sent what others log: each group with subscription filters is followed, and what matches is passed on
//! in batches, as `{"awslogs": {"data": …}}`.
//!
//! ```text
//! follower ─▶ filter, gather by stream (bounded in time and bytes) ─▶ queue (bounded) ─▶ invoke, again when it fails
//! ```
//!
//! Delivery is an afterthought of logging: what comes faster than it can be sent is left out and counted, and what was not
//! sent yet is lost with the server. It can be read from the log.

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
    AccountId, FunctionArn, FunctionRef, Functions, Invocation, Invoke, LogGroup, Region, RequestId, ResponseMode,
};
use hearth_observe::{Followed, Follower, Logs, Stored, Subscription};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::events::text;
use crate::page;
use crate::pattern::Pattern;

/// How long events are gathered, and how much text, before they are sent.
const GATHER: Duration = Duration::from_millis(500);
const GATHERED_MAX: usize = 256 * 1024;
/// Batches of one filter that wait for its function.
const WAITING_MAX: usize = 64;
/// How often a batch is tried, and the first pause between; each further one is twice as long.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// What a function may answer, bytes; nobody reads it.
const ANSWER_MAX: usize = 6 * 1024 * 1024 + 1024;
/// How often groups are looked for that nobody told of: those that failed to be followed.
const LOOK: Duration = Duration::from_secs(60);

/// Who runs functions, and finds them.
#[derive(Clone)]
pub struct Destinations {
    pub functions: Arc<dyn Functions>,
    pub invoke: Arc<dyn Invoke>,
}

impl Destinations {
    /// The function of that ARN, when it can be invoked for a group.
    pub fn function(&self, group: &LogGroup, destination: &str) -> Option<FunctionArn> {
        let arn = function(&group.account, &group.region, destination)?;
        self.functions.find(&arn).is_ok().then_some(arn)
    }

    async fn send(&self, arn: &FunctionArn, payload: Bytes) -> Result<(), String> {
        let target = self.functions.find(arn).map_err(|error| error.to_string())?;
        // Weights of aliases are met over many batches.
        let draw = f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX).next_up();
        let invocation = Invocation {
            request_id: RequestId::new(uuid::Uuid::new_v4().to_string()),
            invoked_arn: arn.to_string(),
            function: target.choose(draw),
            payload,
            content_type: None,
            client_context: None,
            trace: None,
            wants_log_tail: false,
            mode: ResponseMode::Buffered,
        };
        let response = self.invoke.invoke(invocation).await.map_err(|error| error.to_string())?;
        let (head, _, _) = response.collect(ANSWER_MAX).await.map_err(|error| error.to_string())?;
        if head.function_error.is_some() { Err("the function failed".to_owned()) } else { Ok(()) }
    }
}

/// A function of the group's own account and region.
fn function(account: &AccountId, region: &Region, destination: &str) -> Option<FunctionArn> {
    let reference = FunctionRef::parse(destination).ok()?;
    let arn = reference.resolve(account, region, None).ok()?;
    (destination.starts_with("arn:") && arn.account == *account && arn.region == *region).then_some(arn)
}

/// Keeps every subscribed group followed. Ends never; dropping it ends what it does.
pub async fn run(logs: Logs, destinations: Destinations, changed: Arc<Notify>) {
    let mut followed: HashMap<LogGroup, (Vec<Subscription>, AbortHandle)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        match logs.subscribed().await {
            Err(error) => tracing::warn!(%error, "subscriptions could not be read"),
            Ok(groups) => {
                let wanted: HashMap<LogGroup, Vec<Subscription>> =
                    groups.into_iter().map(|group| (group.name, group.settings.subscriptions)).collect();
                followed.retain(|group, (subscriptions, task)| {
                    let stays = wanted.get(group) == Some(subscriptions) && !task.is_finished();
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                for (group, subscriptions) in wanted {
                    if followed.contains_key(&group) {
                        continue;
                    }
                    match logs.follow(&group) {
                        Err(error) => tracing::warn!(%error, group = &*group.name, "a subscribed log is not followed"),
                        Ok(follower) => {
                            let work = follow(group.clone(), subscriptions.clone(), follower, destinations.clone());
                            followed.insert(group, (subscriptions, tasks.spawn(work)));
                        }
                    }
                }
            }
        }
        while tasks.try_join_next().is_some() {}
        let _ = tokio::time::timeout(LOOK, changed.notified()).await;
    }
}

/// One filter of a group at work.
struct Filter {
    pattern: Pattern,
    /// By stream.
    gathered: HashMap<Arc<str>, Vec<Stored>>,
    bytes: usize,
    batches: mpsc::Sender<Batch>,
}

struct Batch {
    stream: Arc<str>,
    events: Vec<Stored>,
}

async fn follow(group: LogGroup, subscriptions: Vec<Subscription>, mut follower: Follower, destinations: Destinations) {
    // Dropped with this task, and with them what they do.
    let mut senders = JoinSet::new();
    let mut filters = Vec::new();
    for subscription in subscriptions {
        let (Ok(pattern), Some(arn)) =
            (Pattern::parse(&subscription.pattern), function(&group.account, &group.region, &subscription.destination))
        else {
            tracing::warn!(group = &*group.name, filter = subscription.name, "a subscription filter cannot be used");
            continue;
        };
        let (batches, waiting) = mpsc::channel(WAITING_MAX);
        filters.push(Filter { pattern, gathered: HashMap::new(), bytes: 0, batches });
        senders.spawn(send(group.clone(), subscription.name, arn, waiting, destinations.clone()));
    }
    let mut due: Option<Instant> = None;
    loop {
        let next = match due {
            None => Ok(follower.next().await),
            Some(due) => tokio::time::timeout_at(due, follower.next()).await,
        };
        match next {
            Ok(None) => return,
            Ok(Some(Followed::Missed { batches })) => {
                tracing::warn!(batches, group = &*group.name, "subscribers miss events: they came too fast");
            }
            Ok(Some(Followed::Events(events))) => filters.iter_mut().for_each(|filter| filter.gather(&events)),
            Err(_) => {}
        }
        let is_due = due.is_some_and(|due| due <= Instant::now());
        for filter in filters.iter_mut().filter(|filter| is_due || filter.bytes >= GATHERED_MAX) {
            filter.pass_on(&group);
        }
        let any = filters.iter().any(|filter| !filter.gathered.is_empty());
        let later = due.filter(|_| !is_due).unwrap_or_else(|| Instant::now() + GATHER);
        due = any.then_some(later);
    }
}

impl Filter {
    fn gather(&mut self, events: &[Stored]) {
        for event in events.iter().filter(|event| self.pattern.is_match(&event.message)) {
            self.bytes += event.message.len();
            self.gathered.entry(event.stream.clone()).or_default().push(event.clone());
        }
    }

    fn pass_on(&mut self, group: &LogGroup) {
        self.bytes = 0;
        for (stream, events) in self.gathered.drain() {
            if let Err(error) = self.batches.try_send(Batch { stream, events }) {
                let (mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch)) = error;
                let events = batch.events.len();
                tracing::warn!(events, group = &*group.name, "a subscriber misses events: its function is too slow");
            }
        }
    }
}

async fn send(
    group: LogGroup,
    filter: String,
    arn: FunctionArn,
    mut waiting: mpsc::Receiver<Batch>,
    destinations: Destinations,
) {
    while let Some(batch) = waiting.recv().await {
        let payload = payload(&group, &filter, &batch);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            match destinations.send(&arn, payload.clone()).await {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS => {
                    let events = batch.events.len();
                    tracing::warn!(error, events, group = &*group.name, %arn, "a subscriber was not sent its events");
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

/// As subscribers are sent it.
fn payload(group: &LogGroup, filter: &str, batch: &Batch) -> Bytes {
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
        "logStream": &*batch.stream,
        "subscriptionFilters": [filter],
        "logEvents": batch.events.iter().map(event).collect::<Vec<_>>(),
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
        let payload = payload(&group, "mine", &Batch { stream: "s".into(), events: vec![event] });
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
