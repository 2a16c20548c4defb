//! The handle to an environment, and who starts them.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_core::Stream;
use hearth_model::{
    Body, BodyError, BoxFuture, ErrorType, FunctionError, FunctionVersion, Head, Initialization, Invocation,
    InvokeError, Labels, LogStreamId, LogStreamName, Memory, Outcome, Report, RequestId, Response, Status,
};
use hearth_observe::platform;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::ahead::Names;
use crate::drive;
use crate::explain::{ColdCounts, ColdStarts, Explanation};
use crate::meter::Running;
use crate::output::Log;
use crate::ports::{Config, EnvironmentEvents, Ports};
use crate::state::{Answered, Call, Shared};

/// How much longer than an invocation may last a function's credentials are good, so that what it has begun with them
/// elsewhere can end.
const CREDENTIALS_SPARE: Duration = Duration::from_secs(300);

/// What an environment is started for, and who is told of it.
pub struct Start {
    pub function: Arc<FunctionVersion>,
    pub initialization: Initialization,
    /// When the call came that it is started for.
    pub asked: Option<Instant>,
    pub events: Arc<dyn EnvironmentEvents>,
}

/// Starts environments. A cheap handle.
#[derive(Clone)]
pub struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) ports: Ports,
    /// Which variables do nothing when interpreters start.
    pub(crate) names: Names,
    cold_starts: ColdStarts,
    tasks: TaskTracker,
    /// Those that may still live.
    started: Arc<Mutex<Vec<Weak<Shared>>>>,
}

impl Worker {
    pub fn new(config: Config, ports: Ports) -> Self {
        Worker {
            config: Arc::new(config),
            ports,
            names: Names::default(),
            cold_starts: ColdStarts::default(),
            tasks: TaskTracker::new(),
            started: Arc::default(),
        }
    }

    /// Begins an environment and comes back at once: it is made and initialised in its own task, and may be given its
    /// first invocation right away. Needs a running async runtime.
    pub fn start(&self, start: Start) -> Environment {
        let function = &start.function;
        let id = LogStreamId::new(uuid::Uuid::new_v4().simple().to_string());
        let Ports { logs, clock, sessions, .. } = &self.ports;
        let stream = stream_name(function, &id, clock.wall());
        let log = Log::new(logs.clone(), function.log_group.clone(), stream.clone(), function.json_logs, clock.clone());
        let key = &function.key;
        let credentials = sessions.of_function(&key.account, &function.role, &key.name);
        let shared = Shared::new(id, start, clock.clone(), credentials, log, &self.config, self.cold_starts.clone());
        let shared = Arc::new(shared);
        self.remember(&shared);
        self.tasks.spawn(drive::drive(self.clone(), shared.clone(), stream));
        Environment { shared }
    }

    fn remember(&self, shared: &Arc<Shared>) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if started.len() == started.capacity() {
            started.retain(|shared| shared.strong_count() > 0);
        }
        started.push(Arc::downgrade(shared));
    }

    /// How an invocation began, if it was lately.
    pub fn explain(&self, request_id: &str) -> Option<Explanation> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let running = started.iter().filter_map(Weak::upgrade).find_map(|shared| shared.explain(request_id));
        // In this order: one that ends meanwhile is told to all before its environment forgets it.
        running.or_else(|| self.cold_starts.find(request_id))
    }

    /// Of all cold starts.
    pub fn cold_starts(&self) -> ColdCounts {
        self.cold_starts.counts()
    }

    /// Ends every environment now: invocations that are running fail.
    pub fn shut_down_all(&self) {
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        for shared in started.iter().filter_map(Weak::upgrade) {
            shared.shutdown();
        }
    }

    /// Waits until every environment is gone. The caller has shut them down, and starts no more.
    pub async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn stream_name(function: &FunctionVersion, id: &LogStreamId, now: SystemTime) -> LogStreamName {
    let text = platform::timestamp(now);
    let mut parts = text.get(..10).unwrap_or_default().split('-');
    let mut part = || parts.next().unwrap_or_default();
    let date = (part().parse().unwrap_or(0), part().parse().unwrap_or(0), part().parse().unwrap_or(0));
    let name = function.custom_log_group.then_some(&function.key.name);
    LogStreamName::new(date, name, function.key.version, id)
}

/// An invocation that an environment did not take, and why.
pub struct Refused {
    pub error: InvokeError,
    /// For another environment. Only a defect loses it.
    pub invocation: Option<Invocation>,
}

/// Without the payload.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refused").field(&self.error).finish()
    }
}

/// A cheap handle. The environment lives until it is shut down or its sandbox is lost, whoever holds handles.
#[derive(Clone)]
pub struct Environment {
    shared: Arc<Shared>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Environment").field(&self.shared.id).finish()
    }
}

impl Environment {
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Environment { shared }
    }

    /// Unique; it also ends the name of the environment's log stream.
    pub fn id(&self) -> &LogStreamId {
        &self.shared.id
    }

    pub fn function(&self) -> &Arc<FunctionVersion> {
        &self.shared.function
    }

    /// Whether the next invocation finds init done.
    pub fn is_initialised(&self) -> bool {
        self.shared.is_initialised()
    }

    /// What it was lost for, when that was not its function's fault.
    pub fn loss(&self) -> Option<InvokeError> {
        self.shared.loss()
    }

    /// No invocation may start later: the function's credentials, which it has from its start, would end during it. Nor
    /// any when its function is to run on another version of its runtime by now.
    pub fn usable_until(&self) -> SystemTime {
        if self.shared.is_outdated() {
            return SystemTime::UNIX_EPOCH;
        }
        self.shared.credentials.expires - self.shared.function.timeout - CREDENTIALS_SPARE
    }

    /// Runs one invocation; it is on its way when this comes back, whether or not the answer is waited for. One at a
    /// time: a second one is refused. An error means that the function has seen nothing of it. `running` hears how it ends.
    pub fn invoke(&self, invocation: Invocation, running: Running) -> BoxFuture<'static, Result<Response, Refused>> {
        let (answer, answered) = oneshot::channel();
        let (outcome, ended) = oneshot::channel();
        let lost = lost_report(invocation.request_id.clone(), &self.shared);
        self.shared.invoke(Call::new(invocation, running, answer, outcome));
        Box::pin(async move {
            let lost_call = || InvokeError::Internal("the environment ended without a word".into());
            let answered = answered.await.map_err(|_| Refused { error: lost_call(), invocation: None })??;
            let (content_type, error, body): (_, _, Body) = match answered {
                Answered::Whole(answer) => (answer.content_type, answer.error, Box::pin(Whole(Some(answer.body)))),
                Answered::Streams { content_type, body } => (content_type, None, body),
            };
            let function_error = error.map(|_| FunctionError::Unhandled);
            let head = Head { executed_version: lost.version, content_type, function_error };
            let outcome = async move { ended.await.unwrap_or(Outcome { report: lost, log_tail: None }) };
            Ok(Response { head, body, outcome: Box::pin(outcome) })
        })
    }

    /// Ends it now: an invocation that is running fails. Extensions have a little time to end in order; without them
    /// processes get SIGKILL at once, as AWS does (spec 3.3). What is returned is ready when it holds nothing more; it
    /// need not be waited for.
    pub fn shutdown(&self) -> BoxFuture<'static, ()> {
        self.shared.shutdown();
        let shared = self.shared.clone();
        Box::pin(async move { shared.gone().await })
    }
}

/// For an invocation whose report is lost with the environment's own task: which only a defect can do.
fn lost_report(request_id: RequestId, shared: &Shared) -> Report {
    Report {
        request_id,
        version: shared.function.key.version,
        status: Status::Failure,
        error_type: Some(ErrorType::SANDBOX_FAILURE),
        duration: Duration::ZERO,
        init_duration: None,
        initialization: shared.initialization,
        memory_size: shared.function.memory,
        max_memory_used: Memory::mib(0),
        isolation: shared.isolation,
        labels: Labels::default(),
        overhead: None,
    }
}

/// A body of one piece.
struct Whole(Option<Bytes>);

impl Stream for Whole {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}
