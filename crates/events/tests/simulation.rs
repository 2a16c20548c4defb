//! Histories under a virtual clock: functions that fail, throttle, hang, vanish, and a server that dies over them. Seeded;
//! a failing seed is printed, and `HEARTH_SEED=N` runs it alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hearth_events::{Config, Couriers, Delivery, Event, Events, Filter, Parcel, Ports, Service};
use hearth_model::*;
use hearth_store::simulation::{Chance, Virtual, histories};
use hearth_store::{MemoryQueue, MemoryRecords};
use hearth_wire::Context;
use hearth_wire_lambda::EventInvokeConfigsApi;
use hearth_wire_lambda::types::*;

const PARTITION: &str = "000000000000/us-east-1";
const FUNCTIONS: u64 = 3;
const EVENTS: u64 = 6;
/// Later than any event lives.
const END: Duration = Duration::from_secs(8 * 3600);

struct World {
    chance: Chance,
    reserved: Mutex<HashMap<String, u32>>,
    gone: Mutex<Vec<String>>,
    /// How often the handler saw each event.
    seen: Mutex<HashMap<String, u32>>,
    /// Ids of events whose handler has answered well.
    answered: Mutex<HashMap<String, u32>>,
    dead_letters: Mutex<Vec<String>>,
}

fn version(name: &str) -> Arc<FunctionVersion> {
    let (account, region) = (AccountId::default_account(), Region::default_region());
    Arc::new(FunctionVersion {
        log_group: LogGroup { account: account.clone(), region: region.clone(), name: "g".into() },
        key: VersionKey {
            account,
            region,
            name: FunctionName::parse(name).unwrap(),
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
        timeout: Duration::from_secs(3),
        ephemeral_storage: Memory::mib(512),
        environment: Vec::new(),
        custom_log_group: false,
        json_logs: None,
        role: String::new(),
        dead_letters: (name == "f2").then(|| "arn:aws:sqs:us-east-1:000000000000:q".to_owned()),
        last_used: None,
        per_tenant: false,
    })
}

impl Functions for World {
    fn find(&self, arn: &FunctionArn) -> Result<Target, LookupError> {
        if self.gone.lock().unwrap().contains(&arn.name.to_string()) {
            return Err(LookupError::NotFound(arn.to_string()));
        }
        Ok(Target { primary: Ok(version(arn.name.as_str())), additional: None })
    }

    fn reservation(&self, key: &VersionKey) -> Reservation {
        Reservation { function: self.reserved.lock().unwrap().get(key.name.as_str()).copied(), account: 0 }
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

impl Invoke for World {
    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Response, InvokeError>> {
        Box::pin(async move {
            let id = invocation.request_id.to_string();
            match self.chance.next(12) {
                0 | 1 => return Err(InvokeError::Throttled(ThrottleReason::ConcurrentInvocationLimitExceeded)),
                2 => return Err(InvokeError::Internal("a fault".into())),
                _ => {}
            }
            *self.seen.lock().unwrap().entry(id.clone()).or_default() += 1;
            let slow = if self.chance.once_in(10) { 600_000 } else { 2_000 };
            tokio::time::sleep(Duration::from_millis(self.chance.next(slow))).await;
            let failed = self.chance.once_in(2);
            if !failed {
                *self.answered.lock().unwrap().entry(id).or_default() += 1;
            }
            let body = Bytes::from_static(if failed { b"{\"errorMessage\":\"no\"}" } else { b"{}" });
            Ok(Response {
                head: Head {
                    executed_version: Version::Latest,
                    content_type: "application/json".to_owned(),
                    function_error: failed.then_some(FunctionError::Unhandled),
                },
                body: Box::pin(Once(Some(body))),
                outcome: Box::pin(std::future::pending()),
            })
        })
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

impl Couriers for World {
    fn unable(&self, _: Service) -> Option<String> {
        None
    }

    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if self.chance.once_in(3) {
                return Err("not reached".to_owned());
            }
            if let Parcel::DeadLetter { request_id, .. } = delivery.parcel {
                self.dead_letters.lock().unwrap().push(request_id);
            }
            Ok(())
        })
    }
}

struct Simulation {
    world: Arc<World>,
    clock: Arc<Virtual>,
    ports: Ports,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let world = Arc::new(World {
            chance: Chance::of(seed),
            reserved: Mutex::default(),
            gone: Mutex::default(),
            seen: Mutex::default(),
            answered: Mutex::default(),
            dead_letters: Mutex::default(),
        });
        let clock = Arc::new(Virtual::default());
        let ports = Ports {
            queue: Arc::new(MemoryQueue::default()),
            records: Arc::new(MemoryRecords::default()),
            functions: world.clone(),
            couriers: world.clone(),
            guard: Arc::default(),
            clock: clock.clone(),
        };
        Simulation { world, clock, ports }
    }

    async fn start(&self) -> Events {
        let config = Config {
            retry_base_delay: Duration::from_secs(60),
            retention: Duration::from_secs(7 * 86_400),
            under_way_max: 1000,
            memory_share: u64::MAX,
        };
        let events = Events::open(config, self.ports.clone()).await.unwrap();
        tokio::spawn(events.clone().run(self.world.clone()));
        events
    }

    /// A server from its start to its death, at which nothing of it goes on.
    fn live(&self, life: impl AsyncFnOnce(Events)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.clock.begin();
            life(self.start().await).await;
            self.clock.end();
        });
    }
}

fn arn(name: &str) -> FunctionArn {
    let (account, region) = (AccountId::default_account(), Region::default_region());
    FunctionArn { account, region, name: FunctionName::parse(name).unwrap(), qualifier: None }
}

async fn configure(events: &Events, chance: &Chance) {
    let cx = Context::new("000000000000", "us-east-1", "r", "localhost", None);
    let failures = OnFailure { destination: Some(arn("f2").to_string()) };
    let successes = OnSuccess { destination: Some("arn:aws:sqs:us-east-1:000000000000:ok".to_owned()) };
    let input = PutFunctionEventInvokeConfigRequest {
        function_name: Some("f0".to_owned()),
        maximum_retry_attempts: Some(chance.next(3) as i64),
        maximum_event_age_in_seconds: Some(60 + chance.next(1000) as i64),
        destination_config: Some(DestinationConfig { on_success: Some(successes), on_failure: Some(failures) }),
        ..PutFunctionEventInvokeConfigRequest::default()
    };
    events.put_function_event_invoke_config(&cx, input).await.ok().unwrap();
}

/// What holds of one history; answers its events.
async fn holds(simulation: &Simulation, events: &Events, accepted: &[String]) -> Vec<Event> {
    let audit = events.audit().await.unwrap();
    assert!(audit.balanced, "{audit:?}");
    assert_eq!((audit.queued, audit.running), (0, 0), "something is left: {audit:?}");
    let all: HashMap<String, Event> = events
        .list(Filter::everything(PARTITION.to_owned()))
        .await
        .unwrap()
        .into_iter()
        .map(|e| (e.id.clone(), e))
        .collect();
    assert_eq!(all.len() as u64, audit.accepted);
    let (seen, answered) = (simulation.world.seen.lock().unwrap(), simulation.world.answered.lock().unwrap());
    for id in accepted {
        assert!(all.contains_key(id), "{id} is lost");
    }
    for (id, event) in &all {
        let ran = seen.get(id).map_or(0, |times| *times as usize);
        let cut_off = event.attempts.iter().filter(|attempt| attempt.outcome == "interrupted").count();
        let counted = event.attempts.iter().filter(|a| matches!(&*a.outcome, "failed" | "succeeded")).count();
        assert!((counted..=counted + cut_off).contains(&ran), "{event:?} ran {ran} times");
        match &*event.state {
            "succeeded" => assert!(answered.contains_key(id), "{event:?}"),
            "delivered" | "dropped" => assert!(event.reason.is_some(), "{event:?}"),
            other => panic!("{other}: {event:?}"),
        }
        let failures = event.attempts.iter().filter(|attempt| attempt.outcome == "failed").count();
        assert!(failures <= 3, "{event:?}");
        if event.reason.as_deref() == Some("RetriesExhausted") {
            assert!(failures > 0 && event.attempts.last().unwrap().outcome == "failed");
        }
    }
    let dead: Vec<&Event> = all.values().filter(|event| event.function_arn == arn("f2").to_string()).collect();
    for event in dead {
        if event.state == "delivered" {
            assert!(simulation.world.dead_letters.lock().unwrap().contains(&event.id), "{event:?}");
        }
    }
    all.into_values().collect()
}

/// Accepts some events, and changes the world meanwhile.
async fn busy(simulation: &Simulation, events: &Events, seed: u64, count: u64, accepted: &mut Vec<String>) {
    let world = &simulation.world;
    for _ in 0..count {
        let id = format!("{seed:08x}-0000-4000-8000-{:012x}", accepted.len());
        let event = NewEvent {
            request_id: RequestId::new(id.as_str()),
            arn: arn(&format!("f{}", world.chance.next(FUNCTIONS))),
            payload: Bytes::from_static(b"{}"),
            content_type: None,
            client_context: None,
            tenant: None,
            trace: None,
            origin: None,
        };
        events.accept(event).await.unwrap();
        accepted.push(id);
        tokio::time::sleep(Duration::from_millis(world.chance.next(30_000))).await;
        if world.chance.once_in(20) {
            world.reserved.lock().unwrap().insert("f1".to_owned(), world.chance.next(2) as u32);
        }
        if world.chance.once_in(40) {
            world.gone.lock().unwrap().push("f1".to_owned());
        }
    }
}

fn history(seed: u64) -> Vec<Event> {
    let simulation = Simulation::new(seed);
    let mut accepted = Vec::new();
    simulation.live(async |events| configure(&events, &simulation.world.chance).await);
    for _ in 0..1 + simulation.world.chance.next(4) {
        simulation.live(async |events| busy(&simulation, &events, seed, EVENTS, &mut accepted).await);
    }
    let mut ended = Vec::new();
    simulation.live(async |events| {
        tokio::time::sleep(END).await;
        ended = holds(&simulation, &events, &accepted).await;
    });
    ended
}

#[test]
fn every_event_has_one_outcome_whatever_happens() {
    let mut became = BTreeSet::new();
    let many = histories(500, history, |events| {
        for event in events {
            became.extend(event.attempts.into_iter().map(|attempt| attempt.outcome));
            became.extend([Some(event.state), event.reason].into_iter().flatten());
        }
    });
    let whatever = [
        "EventAgeExceeded",
        "FunctionNotFound",
        "RetriesExhausted",
        "ZeroReservedConcurrency",
        "delivered",
        "dropped",
        "failed",
        "interrupted",
        "refused",
        "succeeded",
        "throttled",
    ];
    assert!(!many || whatever.iter().all(|what| became.contains(*what)), "not everything happens: {became:?}");
}
