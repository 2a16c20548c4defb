//! SQS as its clients see it, on engines without a disk and under a clock that only tests move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hearth_model::Clock;
use hearth_queues::{Delivery, Poll, Ports, Queues, Sender};
use hearth_store::{MemoryQueue, MemoryRecords};
use hearth_wire::Context;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Default)]
struct Moved(AtomicU64);

impl Clock for Moved {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + self.0.load(Ordering::Relaxed))
    }
}

/// A server that can be started again on what it kept.
struct Host {
    queues: Queues,
    records: Arc<MemoryRecords>,
    messages: MemoryQueue,
    clock: Arc<Moved>,
}

impl Host {
    async fn new() -> Self {
        let (records, messages, clock) = (Arc::new(MemoryRecords::default()), MemoryQueue::default(), Arc::default());
        let queues = open(&records, &messages, &clock).await;
        Host { queues, records, messages, clock }
    }

    async fn restart(&mut self) {
        self.queues = open(&self.records, &self.messages, &self.clock).await;
    }

    fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    async fn ask(&self, operation: &str, input: Value) -> Value {
        let cx = Context::new("123456789012", "eu-west-1", "r", "http://host", None);
        let reply = self.queues.service().answer(&cx, operation, input.to_string().as_bytes()).await;
        serde_json::from_slice(reply.whole().unwrap()).unwrap_or_default()
    }

    async fn make(&self, name: &str, attributes: Value) -> String {
        let made = self.ask("CreateQueue", json!({"QueueName": name, "Attributes": attributes})).await;
        made["QueueUrl"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    async fn receive(&self, url: &str, limit: u64) -> Vec<Value> {
        let input = json!({"QueueUrl": url, "MaxNumberOfMessages": limit, "AttributeNames": ["All"]});
        self.ask("ReceiveMessage", input).await["Messages"].as_array().cloned().unwrap_or_default()
    }
}

async fn open(records: &Arc<MemoryRecords>, messages: &MemoryQueue, clock: &Arc<Moved>) -> Queues {
    let (messages, clock) = (Arc::new(messages.clone()), clock.clone());
    Queues::open(Ports { records: records.clone(), messages, clock }).await.unwrap()
}

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["Body"].as_str().unwrap()).collect()
}

fn ten() -> Poll {
    let (visibility, wait) = (Duration::from_secs(30), Duration::ZERO);
    Poll { limit: 10, bytes_max: u64::MAX, visibility, wait, quit: Default::default() }
}

#[tokio::test]
async fn what_is_not_deleted_comes_again_when_its_time_is_over() {
    let host = Host::new().await;
    let url = host.make("q", json!({"VisibilityTimeout": "10"})).await;
    host.ask("SendMessage", json!({"QueueUrl": url, "MessageBody": "m"})).await;
    let first = host.receive(&url, 1).await;
    host.pass(9);
    assert!(host.receive(&url, 1).await.is_empty());
    let handle = &first[0]["ReceiptHandle"];
    let longer = json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 20});
    assert_eq!(host.ask("ChangeMessageVisibility", longer.clone()).await, Value::Null);
    host.pass(19);
    assert!(host.receive(&url, 1).await.is_empty());
    host.pass(1);
    let again = host.ask("ChangeMessageVisibility", longer).await;
    assert_eq!(again["__type"], "com.amazonaws.sqs#MessageNotInflight");
    let second = host.receive(&url, 1).await;
    assert_eq!(second[0]["Attributes"]["ApproximateReceiveCount"], "2");
    // An earlier receipt deletes nothing, and a standard queue does not say so.
    host.ask("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle})).await;
    host.pass(10);
    assert_eq!(host.receive(&url, 1).await.len(), 1);
}

#[tokio::test]
async fn what_is_older_than_its_queue_keeps_it_is_not_received() {
    let host = Host::new().await;
    let url = host.make("q", json!({"MessageRetentionPeriod": "60"})).await;
    host.ask("SendMessage", json!({"QueueUrl": url, "MessageBody": "old"})).await;
    host.pass(61);
    host.ask("SendMessage", json!({"QueueUrl": url, "MessageBody": "new"})).await;
    assert_eq!(bodies(&host.receive(&url, 10).await), ["new"]);
}

#[tokio::test]
async fn a_deduplication_id_counts_for_five_minutes_whatever_becomes_of_its_message() {
    let mut host = Host::new().await;
    let url = host.make("q.fifo", json!({"FifoQueue": "true"})).await;
    let send = json!({"QueueUrl": url, "MessageBody": "m", "MessageGroupId": "g", "MessageDeduplicationId": "d"});
    let sent = host.ask("SendMessage", send.clone()).await;
    let received = host.receive(&url, 1).await;
    host.ask("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": received[0]["ReceiptHandle"]})).await;
    host.restart().await;
    host.pass(299);
    assert_eq!(host.ask("SendMessage", send.clone()).await["MessageId"], sent["MessageId"]);
    assert!(host.receive(&url, 1).await.is_empty());
    host.pass(1);
    assert_ne!(host.ask("SendMessage", send).await["MessageId"], sent["MessageId"]);
    assert_eq!(host.receive(&url, 1).await.len(), 1);
}

#[tokio::test]
async fn a_receipt_of_a_fifo_queue_that_is_over_deletes_nothing_and_says_so() {
    let host = Host::new().await;
    let url = host.make("q.fifo", json!({"FifoQueue": "true", "ContentBasedDeduplication": "true"})).await;
    host.ask("SendMessage", json!({"QueueUrl": url, "MessageBody": "m", "MessageGroupId": "g"})).await;
    let received = host.receive(&url, 1).await;
    host.pass(30);
    let refused =
        host.ask("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": received[0]["ReceiptHandle"]})).await;
    assert!(refused["message"].as_str().unwrap().ends_with("The receipt handle has expired."), "{refused}");
}

#[tokio::test]
async fn a_queue_that_is_made_again_has_nothing_of_the_one_before() {
    let mut host = Host::new().await;
    let url = host.make("q", json!({})).await;
    host.ask("SendMessage", json!({"QueueUrl": url, "MessageBody": "m"})).await;
    host.ask("DeleteQueue", json!({"QueueUrl": url})).await;
    host.restart().await;
    let early = host.ask("CreateQueue", json!({"QueueName": "q"})).await;
    assert_eq!(early["__type"], "com.amazonaws.sqs#QueueDeletedRecently");
    host.pass(60);
    let url = host.make("q", json!({})).await;
    assert!(host.receive(&url, 1).await.is_empty());
}

#[tokio::test]
async fn a_service_sends_and_polls_where_the_policy_lets_it() {
    let host = Host::new().await;
    let arn = "arn:aws:sqs:eu-west-1:123456789012:q";
    let statement = json!({"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:events:::rule/a"}}});
    let policy = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    host.make("q", json!({"Policy": policy})).await;
    let by = |source_arn| Sender::Service { name: "events.amazonaws.com", source_arn, source_account: "1" };
    let message = || Delivery { body: "m".to_owned(), trace: Some("Root=1".to_owned()), ..Delivery::default() };
    let refused = host.queues.deliver(by("arn:aws:events:::rule/b"), arn, message()).await.unwrap_err();
    assert_eq!(refused.code, "AccessDenied");
    let id = host.queues.deliver(by("arn:aws:events:::rule/a"), arn, message()).await.unwrap();
    let role = Sender::Role { account: "123456789012", arn: "arn:aws:iam::123456789012:role/r" };
    let received = host.queues.poll(role, arn, ten()).await.unwrap();
    assert_eq!((&received[0].id, &*received[0].body), (&id, "m"));
    assert!(received[0].attributes.contains(&("AWSTraceHeader", "Root=1".to_owned())));
    host.queues.finish(role, arn, &[received[0].handle.clone()]).await.unwrap();
    host.pass(60);
    assert!(host.queues.poll(role, arn, ten()).await.unwrap().is_empty());
    let gone = host.queues.deliver(role, "arn:aws:sqs:eu-west-1:123456789012:none", message()).await.unwrap_err();
    assert_eq!(gone.code, "AWS.SimpleQueueService.NonExistentQueue");
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        group: u8,
        text: u8,
    },
    Receive {
        limit: u64,
    },
    /// Of what was received so far, held or not.
    Delete {
        at: usize,
    },
    Release {
        at: usize,
    },
    Pass {
        seconds: u64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3u8, 0..12u8).prop_map(|(group, text)| Step::Send { group, text }),
        4 => (1..5u64).prop_map(|limit| Step::Receive { limit }),
        3 => any::<usize>().prop_map(|at| Step::Delete { at }),
        1 => any::<usize>().prop_map(|at| Step::Release { at }),
        1 => (1..40u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// Groups of messages as they were sent, without those that were deleted.
type Lines = BTreeMap<String, Vec<String>>;

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut host = Host::new().await;
    let dead = host.make("dead.fifo", json!({"FifoQueue": "true"})).await;
    let redrive = json!({"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:dead.fifo", "maxReceiveCount": 3});
    let attributes = json!({"FifoQueue": "true", "ContentBasedDeduplication": "true",
        "DeduplicationScope": "messageGroup", "RedrivePolicy": redrive.to_string()});
    let url = host.make("q.fifo", attributes).await;
    let (mut lines, mut received, mut letters) = (Lines::new(), Vec::<Value>::new(), Vec::new());
    for step in steps {
        match step {
            Step::Send { group, text } => {
                let input =
                    json!({"QueueUrl": url, "MessageBody": text.to_string(), "MessageGroupId": group.to_string()});
                let sent = host.ask("SendMessage", input).await;
                let id = sent["MessageId"].as_str().unwrap().to_owned();
                let line = lines.entry(group.to_string()).or_default();
                if !line.contains(&id) && !letters.contains(&id) && !received.iter().any(|m| m["MessageId"] == *id) {
                    line.push(id);
                }
            }
            Step::Receive { limit } => {
                let messages = host.receive(&url, limit).await;
                for letter in host.receive(&dead, 10).await {
                    letters.push(letter["MessageId"].as_str().unwrap().to_owned());
                }
                let mut before: BTreeMap<String, usize> = BTreeMap::new();
                for message in &messages {
                    let group = message["Attributes"]["MessageGroupId"].as_str().unwrap().to_owned();
                    let line = lines.get_mut(&group).unwrap();
                    line.retain(|id| !letters.contains(id));
                    let at = before.entry(group).or_default();
                    prop_assert_eq!(Some(message["MessageId"].as_str().unwrap()), line.get(*at).map(String::as_str));
                    *at += 1;
                    let count: u32 =
                        message["Attributes"]["ApproximateReceiveCount"].as_str().unwrap().parse().unwrap();
                    prop_assert!(count <= 3);
                }
                received.extend(messages);
            }
            Step::Delete { .. } | Step::Release { .. } if received.is_empty() => {}
            Step::Delete { at } => {
                let message = received[at % received.len()].clone();
                let input = json!({"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]});
                if host.ask("DeleteMessage", input).await.is_null() {
                    lines.values_mut().for_each(|line| line.retain(|id| message["MessageId"] != **id));
                }
            }
            Step::Release { at } => {
                let handle = &received[at % received.len()]["ReceiptHandle"];
                let input = json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 0});
                host.ask("ChangeMessageVisibility", input).await;
            }
            Step::Pass { seconds } => host.pass(seconds),
            Step::Restart => host.restart().await,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_group_is_received_in_its_order_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}
