//! Histories under a virtual clock: queues that are filled, functions that fail, report, throttle and take long, mappings
//! that are told other things, and a server that dies over them. Seeded; a failing seed is printed, and `HEARTH_SEED=N`
//! runs it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hearth_events::{Couriers, Delivery as Destined, Service};
use hearth_mappings::{Mappings, Ports};
use hearth_model::*;
use hearth_queues::{Delivery, Poll, Queues, Sender};
use hearth_store::simulation::{Chance, Virtual, histories};
use hearth_store::{MemoryQueue, MemoryRecords};
use hearth_wire::Context;
use hearth_wire_lambda::EventSourceMappingsApi;
use hearth_wire_lambda::types::*;
use hearth_wire_sqs::QueuesApi;
use hearth_wire_sqs::types::{CreateQueueRequest, GetQueueAttributesRequest};
use serde_json::Value;

const ACCOUNT: &str = "000000000000";
const ROLE: Sender<'_> = Sender::Role { account: ACCOUNT, arn: "arn:aws:iam::000000000000:role/r" };
const TIMEOUT: Duration = Duration::from_secs(20);
const VISIBILITY: u64 = 30;
const RECEIVES_MAX: u32 = 5;
const MESSAGES: u64 = 12;
/// Later than anything is tried.
const END: Duration = Duration::from_secs(3 * 3600);

/// What a seed decides of a mapping.
#[derive(Clone, Copy, Debug)]
struct Shape {
    is_fifo: bool,
    reports: bool,
    filters: bool,
    batch_size: u64,
    window_s: u64,
    concurrency_max: Option<u64>,
}

impl Shape {
    fn of(chance: &Chance) -> Self {
        let is_fifo = chance.once_in(2);
        let window_s = if is_fifo { 0 } else { chance.next(3) * 2 };
        Shape {
            is_fifo,
            reports: chance.once_in(2),
            filters: chance.once_in(2),
            batch_size: if window_s > 0 { 1 + chance.next(30) } else { 1 + chance.next(10) },
            window_s,
            concurrency_max: chance.once_in(2).then(|| 2 + chance.next(3)),
        }
    }

    fn arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{}", self.name(name))
    }

    fn name(&self, name: &str) -> String {
        format!("{name}{}", if self.is_fifo { ".fifo" } else { "" })
    }
}

struct World {
    chance: Chance,
    shape: Shape,
    running: AtomicUsize,
    /// Numbers of messages in the order in which a run with them first went well.
    done: Mutex<Vec<u64>>,
    seen: Mutex<BTreeSet<u64>>,
    became: Mutex<BTreeSet<&'static str>>,
    missing: Mutex<bool>,
}

impl World {
    fn became(&self, what: &'static str) {
        self.became.lock().unwrap().insert(what);
    }
}

fn version() -> Arc<FunctionVersion> {
    let (account, region) = (AccountId::default_account(), Region::default_region());
    Arc::new(FunctionVersion {
        log_group: LogGroup { account: account.clone(), region: region.clone(), name: "g".into() },
        key: VersionKey {
            account,
            region,
            name: FunctionName::parse("f").unwrap(),
            version: Version::Latest,
            generation: 1,
        },
        program: Program::Zip(ZipProgram {
            runtime: Runtime::parse("provided.al2023").unwrap(),
            runtime_version: None,
            handler: String::new(),
            code: CodeHash([0; 32]),
            layers: Vec::new(),
        }),
        architecture: Architecture::X86_64,
        memory: Memory::mib(128),
        timeout: TIMEOUT,
        ephemeral_storage: Memory::mib(512),
        environment: Vec::new(),
        custom_log_group: false,
        json_logs: None,
        role: "arn:aws:iam::000000000000:role/r".to_owned(),
        dead_letters: None,
        last_used: None,
        per_tenant: false,
    })
}

impl Functions for World {
    fn find(&self, arn: &FunctionArn) -> Result<Target, LookupError> {
        match *self.missing.lock().unwrap() {
            true => Err(LookupError::NotFound(arn.to_string())),
            false => Ok(Target { primary: Ok(version()), additional: None }),
        }
    }

    fn reservation(&self, _: &VersionKey) -> Reservation {
        Reservation::default()
    }

    fn set_aside(&self, _: &AccountId, _: &Region) -> u32 {
        0
    }

    fn lets_invoke(&self, _: &FunctionArn, _: &AccountId) -> bool {
        false
    }

    fn is_current(&self, _: &VersionKey) -> bool {
        true
    }

    fn provisions(&self) -> Vec<Provision> {
        Vec::new()
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Invoke for World {
    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Response, InvokeError>> {
        Box::pin(async move {
            match self.chance.next(12) {
                0 | 1 => {
                    self.became("throttled");
                    return Err(InvokeError::Throttled(ThrottleReason::ConcurrentInvocationLimitExceeded));
                }
                2 => {
                    self.became("refused");
                    return Err(InvokeError::Internal("a fault".into()));
                }
                _ => {}
            }
            let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
            let _running = Running(&self.running);
            let most = self.shape.concurrency_max.unwrap_or(1250) as usize;
            assert!(running <= most, "{running} runs at once, of {most}");
            let slow = if self.chance.once_in(10) { 19_000 } else { 2_000 };
            tokio::time::sleep(Duration::from_millis(self.chance.next(slow))).await;
            let payload: Value = serde_json::from_slice(&invocation.payload).unwrap();
            let records = payload["Records"].as_array().unwrap();
            assert!((1..=self.shape.batch_size as usize).contains(&records.len()), "{} records", records.len());
            let (failed, answer) = self.handle(records);
            Ok(Response {
                head: Head {
                    executed_version: Version::Latest,
                    content_type: "application/json".to_owned(),
                    function_error: failed.then_some(FunctionError::Unhandled),
                },
                body: Box::pin(Once(Some(answer.into()))),
                outcome: Box::pin(std::future::pending()),
            })
        })
    }
}

impl World {
    /// A handler: fails with what is poison, and sometimes with what is not. In a FIFO queue it stops there.
    fn handle(&self, records: &[Value]) -> (bool, String) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for record in records {
            let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
            let number = body["n"].as_u64().unwrap();
            self.seen.lock().unwrap().insert(number);
            let stops = self.shape.is_fifo && !bad.is_empty();
            if stops || body["kind"] == "poison" || self.chance.once_in(20) {
                bad.push(record["messageId"].as_str().unwrap());
            } else {
                good.push(number);
            }
        }
        if !bad.is_empty() && !self.shape.reports {
            self.became("failed");
            return (true, "{\"errorMessage\":\"no\"}".to_owned());
        }
        self.became(if bad.is_empty() { "succeeded" } else { "partly" });
        let mut done = self.done.lock().unwrap();
        for number in good {
            if !done.contains(&number) {
                done.push(number);
            }
        }
        let items: Vec<String> = bad.iter().map(|id| format!("{{\"itemIdentifier\":\"{id}\"}}")).collect();
        (false, format!("{{\"batchItemFailures\":[{}]}}", items.join(",")))
    }
}

struct Once(Option<Bytes>);

impl futures_core::Stream for Once {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

struct Simulation {
    world: Arc<World>,
    clock: Arc<Virtual>,
    records: Arc<MemoryRecords>,
    messages: Arc<MemoryQueue>,
    /// Of every message that was accepted: its number, group and kind.
    sent: Mutex<BTreeMap<u64, (u64, &'static str)>>,
}

/// Queues need no destinations.
struct Nobody;

impl Couriers for Nobody {
    fn unable(&self, _: Service) -> Option<String> {
        Some("destinations".to_owned())
    }

    fn deliver(&self, _: Destined) -> BoxFuture<'_, Result<(), String>> {
        panic!("nothing is given up")
    }
}

struct Life {
    queues: Queues,
    mappings: Mappings,
}

fn cx() -> Context {
    Context::new(ACCOUNT, "us-east-1", "r", "http://localhost", None)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let chance = Chance::of(seed);
        let world = World {
            shape: Shape::of(&chance),
            chance,
            running: AtomicUsize::new(0),
            done: Mutex::default(),
            seen: Mutex::default(),
            became: Mutex::default(),
            missing: Mutex::new(false),
        };
        Simulation {
            world: Arc::new(world),
            clock: Arc::default(),
            records: Arc::default(),
            messages: Arc::default(),
            sent: Mutex::default(),
        }
    }

    async fn start(&self) -> Life {
        let ports = hearth_queues::Ports {
            records: self.records.clone(),
            messages: self.messages.clone(),
            clock: self.clock.clone(),
        };
        let queues = Queues::open(ports).await.unwrap();
        tokio::spawn(queues.clone().run());
        let ports = Ports {
            records: self.records.clone(),
            functions: self.world.clone(),
            queues: queues.clone(),
            streams: None,
            couriers: Arc::new(Nobody),
            guard: Arc::default(),
            clock: self.clock.clone(),
        };
        let mappings = Mappings::open(ports).await.unwrap();
        mappings.run(self.world.clone());
        Life { queues, mappings }
    }

    /// A server from its start to its death, at which nothing of it goes on.
    fn live(&self, life: impl AsyncFnOnce(Life)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.clock.begin();
            life(self.start().await).await;
            self.clock.end();
        });
    }

    async fn make(&self, life: &Life) {
        let shape = self.world.shape;
        let policy =
            format!("{{\"deadLetterTargetArn\":\"{}\",\"maxReceiveCount\":\"{RECEIVES_MAX}\"}}", shape.arn("dead"));
        for (name, redrive) in [("dead", None), ("q", Some(policy))] {
            let mut attributes = BTreeMap::from([("VisibilityTimeout".to_owned(), VISIBILITY.to_string())]);
            attributes.extend(redrive.map(|policy| ("RedrivePolicy".to_owned(), policy)));
            if shape.is_fifo {
                attributes.insert("FifoQueue".to_owned(), "true".to_owned());
            }
            let queue_name = Some(shape.name(name));
            let request = CreateQueueRequest { queue_name, attributes: Some(attributes), ..Default::default() };
            life.queues.create_queue(&cx(), request).await.ok().unwrap();
        }
        let pattern = Some(r#"{"body":{"kind":[{"anything-but":"unwanted"}]}}"#.to_owned());
        let request = CreateEventSourceMappingRequest {
            event_source_arn: Some(shape.arn("q")),
            function_name: Some("f".to_owned()),
            batch_size: Some(shape.batch_size as i64),
            maximum_batching_window_in_seconds: Some(shape.window_s as i64),
            filter_criteria: shape.filters.then(|| FilterCriteria { filters: Some(vec![Filter { pattern }]) }),
            function_response_types: shape.reports.then(|| vec!["ReportBatchItemFailures".to_owned()]),
            scaling_config: shape.concurrency_max.map(|max| ScalingConfig { maximum_concurrency: Some(max as i64) }),
            ..Default::default()
        };
        let made = life.mappings.create_event_source_mapping(&cx(), request).await;
        assert_eq!(made.map_err(|error| error.message).unwrap().state.as_deref(), Some("Creating"));
    }

    /// Sends some messages, and changes the world meanwhile.
    async fn busy(&self, life: &Life) {
        let (world, shape) = (&self.world, self.world.shape);
        for _ in 0..MESSAGES {
            let number = self.sent.lock().unwrap().len() as u64;
            let group = world.chance.next(3);
            let kind = match world.chance.next(10) {
                0 => "poison",
                1 if shape.filters => "unwanted",
                _ => "good",
            };
            let message = Delivery {
                body: format!("{{\"n\":{number},\"kind\":\"{kind}\"}}"),
                group: shape.is_fifo.then(|| group.to_string()),
                deduplication: shape.is_fifo.then(|| number.to_string()),
                ..Delivery::default()
            };
            life.queues.deliver(ROLE, &shape.arn("q"), message).await.unwrap();
            self.sent.lock().unwrap().insert(number, (group, kind));
            tokio::time::sleep(Duration::from_millis(world.chance.next(3_000))).await;
            if world.chance.once_in(15) {
                self.tell(life).await;
            }
            if world.chance.once_in(30) {
                *world.missing.lock().unwrap() = true;
                tokio::time::sleep(Duration::from_secs(world.chance.next(60))).await;
                *world.missing.lock().unwrap() = false;
                world.became("missing");
            }
        }
    }

    /// Off and on again, or something else.
    async fn tell(&self, life: &Life) {
        let listed = life.mappings.list_event_source_mappings(&cx(), Default::default()).await.ok().unwrap();
        let uuid = listed.event_source_mappings.unwrap()[0].uuid.clone();
        let told = |enabled, window| UpdateEventSourceMappingRequest {
            uuid: uuid.clone(),
            enabled,
            maximum_batching_window_in_seconds: window,
            ..Default::default()
        };
        if self.world.chance.once_in(2) {
            self.world.became("updated");
            let _ = life
                .mappings
                .update_event_source_mapping(&cx(), told(None, Some(self.world.shape.window_s as i64)))
                .await;
            return;
        }
        if life.mappings.update_event_source_mapping(&cx(), told(Some(false), None)).await.is_ok() {
            self.world.became("disabled");
            tokio::time::sleep(Duration::from_secs(self.world.chance.next(60))).await;
            // One that is busy takes no orders yet.
            while life.mappings.update_event_source_mapping(&cx(), told(Some(true), None)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn dead(&self, life: &Life) -> BTreeSet<u64> {
        let mut dead = BTreeSet::new();
        loop {
            let (visibility, wait) = (Duration::from_secs(43_200), Duration::ZERO);
            let poll = Poll { limit: 10, bytes_max: u64::MAX, visibility, wait, quit: Default::default() };
            let received = life.queues.poll(ROLE, &self.world.shape.arn("dead"), poll).await.unwrap();
            if received.is_empty() {
                return dead;
            }
            for message in &received {
                let body: Value = serde_json::from_str(&message.body).unwrap();
                dead.insert(body["n"].as_u64().unwrap());
            }
            let handles: Vec<String> = received.into_iter().map(|message| message.handle).collect();
            life.queues.finish(ROLE, &self.world.shape.arn("dead"), &handles).await.unwrap();
        }
    }

    /// What holds of one history.
    async fn holds(&self, life: &Life) {
        let shape = self.world.shape;
        let names = Some(vec!["All".to_owned()]);
        let queue_url = Some(format!("http://localhost/{ACCOUNT}/{}", shape.name("q")));
        let request = GetQueueAttributesRequest { queue_url, attribute_names: names };
        let found = life.queues.get_queue_attributes(&cx(), request).await.ok().unwrap().attributes.unwrap();
        for count in ["", "NotVisible", "Delayed"] {
            assert_eq!(found[&format!("ApproximateNumberOfMessages{count}")], "0", "something is left: {shape:?}");
        }
        let dead = self.dead(life).await;
        let (done, seen, sent) =
            (self.world.done.lock().unwrap(), self.world.seen.lock().unwrap(), self.sent.lock().unwrap());
        for (number, (_, kind)) in &*sent {
            let is_done = done.contains(number);
            match *kind {
                "unwanted" => assert!(!seen.contains(number) && !dead.contains(number), "{number} was run"),
                "poison" => assert!(!is_done && dead.contains(number), "the poison {number} is not dead"),
                _ => assert!(is_done || dead.contains(number), "{number} is lost"),
            }
        }
        if shape.is_fifo {
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for number in &*done {
                let before = last.insert(sent[number].0, *number);
                assert!(before.is_none_or(|before| before < *number), "{number} came after {before:?}: {done:?}");
            }
        }
    }
}

fn history(seed: u64) -> BTreeSet<&'static str> {
    let simulation = Simulation::new(seed);
    simulation.live(async |life| simulation.make(&life).await);
    for _ in 0..1 + simulation.world.chance.next(4) {
        simulation.live(async |life| simulation.busy(&life).await);
        *simulation.world.missing.lock().unwrap() = false;
    }
    simulation.live(async |life| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A mapping that was off when the server died is on again.
        let listed = life.mappings.list_event_source_mappings(&cx(), Default::default()).await.ok().unwrap();
        let uuid = listed.event_source_mappings.unwrap()[0].uuid.clone();
        let on = UpdateEventSourceMappingRequest { uuid, enabled: Some(true), ..Default::default() };
        while life.mappings.update_event_source_mapping(&cx(), on.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(END).await;
        simulation.holds(&life).await;
    });
    simulation.world.became.lock().unwrap().clone()
}

#[test]
fn no_message_is_lost_whatever_happens() {
    let mut became = BTreeSet::new();
    let many = histories(120, history, |lived| became.extend(lived));
    let whatever = ["disabled", "failed", "missing", "partly", "refused", "succeeded", "throttled", "updated"];
    assert!(!many || whatever.iter().all(|what| became.contains(what)), "not everything happens: {became:?}");
}
