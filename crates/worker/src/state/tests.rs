use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use hearth_identity::Sessions;
use hearth_model::{
    AccountId, Architecture, CodeHash, FunctionName, LogGroup, LogStreamName, Memory, Program, Region,
    Runtime as Identifier, Version, VersionKey, ZipProgram,
};
use hearth_observe::Logs;
use hearth_runtime_api::{Next, Refusal, Runtime, Streamed};
use proptest::prelude::*;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;

/// A clock that is moved by hand.
struct Hands {
    start: Instant,
    ms: AtomicU64,
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }
}

/// How often an owner was told.
#[derive(Default)]
struct Told {
    idle: AtomicU64,
    gone: AtomicU64,
}

impl EnvironmentEvents for Told {
    fn idle(&self, _: &Environment) {
        self.idle.fetch_add(1, Ordering::Relaxed);
    }

    fn gone(&self, _: &Environment) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

fn function() -> FunctionVersion {
    let (account, region) = (AccountId::default_account(), Region::default_region());
    let name = FunctionName::parse("f").unwrap();
    let log_group = LogGroup { account: account.clone(), region: region.clone(), name: "g".into() };
    FunctionVersion {
        key: VersionKey { account, region, name, version: Version::Latest, generation: 1 },
        program: Program::Zip(ZipProgram {
            runtime: Identifier::parse("provided.al2023").unwrap(),
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
        log_group,
        custom_log_group: false,
        json_logs: None,
        role: String::new(),
        dead_letters: None,
        last_used: None,
        per_tenant: false,
    }
}

/// What waits for a call: its answer and its outcome.
type Waiting = (oneshot::Receiver<Result<Answered, Refused>>, oneshot::Receiver<Outcome>);

struct Bench {
    shared: Arc<Shared>,
    clock: Arc<Hands>,
    told: Arc<Told>,
    line: Arc<Line>,
    calls: Vec<Waiting>,
    parked: Vec<oneshot::Receiver<Arc<Event>>>,
}

impl Bench {
    fn new(logs: &Logs) -> Self {
        let clock = Arc::new(Hands { start: Instant::now(), ms: AtomicU64::new(0) });
        let (told, function) = (Arc::new(Told::default()), Arc::new(function()));
        let id = LogStreamId::new("00");
        let stream = LogStreamName::new((2026, 1, 1), None, Version::Latest, &id);
        let log = Log::new(logs.clone(), function.log_group.clone(), stream, None, clock.clone());
        let config = Config::default();
        let sessions = Sessions::new([1; 32], clock.clone());
        let credentials = sessions.of_function(&function.key.account, &function.role, &function.key.name);
        let start = Start { function, initialization: Initialization::OnDemand, asked: None, events: told.clone() };
        let shared = Arc::new(Shared::new(id, start, clock.clone(), credentials, log, &config, ColdStarts::default()));
        let line = shared.line(&[]);
        Bench { shared, clock, told, line, calls: Vec::new(), parked: Vec::new() }
    }

    fn id(&self) -> String {
        format!("r{}", self.calls.len())
    }

    fn invoke(&mut self) {
        let (answer, answered) = oneshot::channel();
        let (outcome, ended) = oneshot::channel();
        self.calls.push((answered, ended));
        let invocation = Invocation {
            request_id: RequestId::new(self.id()),
            function: self.shared.function.clone(),
            invoked_arn: String::new(),
            payload: Bytes::new(),
            content_type: None,
            client_context: None,
            tenant: None,
            trace: None,
            wants_log_tail: true,
            mode: if self.calls.len().is_multiple_of(2) { ResponseMode::Streamed } else { ResponseMode::Buffered },
        };
        self.shared.invoke(Call::new(invocation, Running::of(&Arc::default()), answer, outcome));
    }

    fn next(&mut self) -> Option<Arc<Event>> {
        match self.line.next() {
            Ok(Next::Again(event)) => Some(event),
            Ok(Next::Later(later)) => {
                self.parked.push(later);
                None
            }
            Err(_) => None,
        }
    }

    fn answer(&self, id: &str) -> Result<(), Refusal> {
        let body = Bytes::from(id.to_owned());
        self.line.answer(id, "InvocationResponse", Answer { error: None, content_type: String::new(), body })
    }

    fn end_stream(&self, id: &str) {
        let _ = self.line.streamed(id, Streamed { bytes: 0, error: None, unread: false });
    }

    fn init_error(&self) {
        let answer = Answer { error: None, content_type: String::new(), body: Bytes::new() };
        let _ = self.line.init_error(answer);
    }

    /// As the driver task does what it is told, when everything it does succeeds.
    fn work(&mut self) {
        match self.shared.plan() {
            Ok(Work::Start) => self.line = self.shared.line(&[]),
            Ok(Work::Reset(_)) => self.shared.tell(Input::ResetDone),
            Ok(Work::StartRuntime | Work::End(_)) | Err(_) => {}
        }
    }
}

fn logs() -> (Logs, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(hearth_model::SystemClock);
    let config = hearth_observe::Config { retention: Duration::from_secs(86_400), bytes_max: u64::MAX, clock };
    (Logs::open(folder.path(), config).unwrap(), folder)
}

#[test]
fn what_an_ended_process_says_counts_no_more() {
    let (logs, _folder) = logs();
    let mut bench = Bench::new(&logs);
    bench.shared.tell(Input::Made);
    bench.work();
    bench.next();
    bench.invoke();
    let old = bench.line.clone();
    bench.clock.ms.store(3_000, Ordering::Relaxed);
    bench.shared.tell(Input::Tick);
    assert_eq!(bench.answer("r1"), Err(Refusal::Ended));
    bench.work();
    bench.invoke();
    bench.work();
    assert!(matches!(old.next(), Err(Refusal::Ended)), "it cannot make the new process look ready");
    bench.next();
    assert_eq!(bench.answer("r2"), Ok(()));
}

proptest! {
    /// Whatever the runtime, the driver task, time and the owner do in whatever order: every caller gets one answer or
    /// one refusal, its own, every answer is followed by exactly one outcome, and every stream ends.
    #[test]
    fn every_caller_gets_its_own_answer_and_one_outcome(steps in prop::collection::vec((0u8..11, 0u64..1_500), 1..60)) {
        let (logs, _folder) = logs();
        let mut bench = Bench::new(&logs);
        for (step, ms) in steps {
            bench.clock.ms.fetch_add(ms / 10, Ordering::Relaxed);
            match step {
                0 => bench.shared.tell(Input::Made),
                1 => bench.invoke(),
                2 => drop(bench.next()),
                3 => drop(bench.answer(&bench.id())),
                4 => drop(bench.answer("somebody else's")),
                5 if ms < 200 => bench.init_error(),
                6 if ms < 200 => bench.shared.exited(Exit::Code(1)),
                7 => {
                    bench.clock.ms.fetch_add(ms, Ordering::Relaxed);
                    bench.shared.tell(Input::Tick);
                }
                8 => drop(bench.line.respond(&bench.id(), "")),
                9 => bench.end_stream(&bench.id()),
                _ => bench.work(),
            }
        }
        bench.shared.shutdown();
        bench.work();
        bench.shared.release();
        for (number, (answered, ended)) in bench.calls.iter_mut().enumerate() {
            let id = format!("r{}", number + 1);
            match answered.try_recv() {
                Ok(Ok(Answered::Streams { mut body, .. })) => {
                    prop_assert!(number % 2 == 1, "nobody asked for a stream");
                    let piece = body.as_mut().poll_next(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                    prop_assert!(matches!(piece, std::task::Poll::Ready(None | Some(Err(_)))));
                    let report = ended.try_recv().unwrap().report;
                    prop_assert_eq!(report.request_id.as_str(), id);
                }
                Ok(Ok(Answered::Whole(answer))) => {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    prop_assert!(text.is_empty() || text == id || text.contains(&format!("RequestId: {id} ")), "{}", text);
                    let report = ended.try_recv().unwrap().report;
                    prop_assert_eq!(report.request_id.as_str(), id);
                }
                Ok(Err(_)) => prop_assert_eq!(ended.try_recv().unwrap_err(), TryRecvError::Closed),
                Err(_) => prop_assert!(false, "a caller was forgotten"),
            }
        }
        prop_assert_eq!(bench.told.gone.load(Ordering::Relaxed), 1);
        prop_assert!(bench.told.idle.load(Ordering::Relaxed) <= bench.calls.len() as u64 + 1);
    }
}
