//! The handle to an environment, and what an environment needs from others.

use std::any::Any;
use std::fmt;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use hearth_model::{
    AccountId, BodyError, BoxFuture, Clock, FunctionError, FunctionVersion, Head, Invocation, InvokeError, LogStreamId,
    Materials, Outcome, Region, Response,
};
use hearth_observe::Logs;
use hearth_runtime_api::Answer;
use hearth_sandbox::Driver;
use tokio::sync::{mpsc, oneshot};

#[derive(Clone, Debug)]
pub struct Config {
    /// Ports of the Hearth endpoint inside an environment; the first is what `AWS_ENDPOINT_URL` names.
    pub endpoint_ports: Vec<u16>,
    /// How long the init phase may take (spec 3.3: 10 s).
    pub init_timeout: Duration,
}

/// What environments need from other rooms.
#[derive(Clone)]
pub struct Ports {
    pub driver: Arc<dyn Driver>,
    pub materials: Arc<dyn Materials>,
    pub logs: Logs,
    pub clock: Arc<dyn Clock>,
    pub endpoint: Arc<dyn Endpoint>,
}

/// The AWS-shaped door inside an environment (decision 3).
pub trait Endpoint: Send + Sync + 'static {
    /// Serves a listener that was made inside, until what it answers is dropped.
    fn serve(&self, listener: TcpListener, identity: EndpointIdentity) -> std::io::Result<Box<dyn Any + Send + Sync>>;
}

/// Who calls through an environment's endpoint.
#[derive(Clone, Debug)]
pub struct EndpointIdentity {
    pub account: AccountId,
    pub region: Region,
    /// ARN of the execution role.
    pub role: String,
}

/// What an environment tells its owner. Both are called on the environment's own task and must not wait.
pub trait EnvironmentEvents: Send + Sync + 'static {
    /// It can take an invocation now.
    fn idle(&self, environment: &Environment);

    /// It takes no more. Called once.
    fn gone(&self, environment: &Environment);
}

/// Starts environments.
#[derive(Clone)]
pub struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) ports: Ports,
}

impl Worker {
    pub fn new(config: Config, ports: Ports) -> Self {
        Worker { config: Arc::new(config), ports }
    }

    /// Begins an environment and comes back at once: init runs in its own task. It may be given its first invocation
    /// right away.
    pub fn start(&self, function: Arc<FunctionVersion>, events: Arc<dyn EnvironmentEvents>) -> Environment {
        let (commands, orders) = mpsc::channel(1);
        let id = LogStreamId::new(uuid::Uuid::new_v4().simple().to_string());
        let inner = Inner { id, function, commands, failure: OnceLock::new() };
        let environment = Environment { inner: Arc::new(inner) };
        tokio::spawn(crate::drive::drive(self.clone(), environment.clone(), orders, events));
        environment
    }
}

/// A cheap handle. The environment lives until it is told to shut down or fails, whoever holds handles.
#[derive(Clone)]
pub struct Environment {
    inner: Arc<Inner>,
}

struct Inner {
    id: LogStreamId,
    function: Arc<FunctionVersion>,
    commands: mpsc::Sender<Command>,
    /// Why it is gone, when it failed.
    failure: OnceLock<InvokeError>,
}

pub(crate) enum Command {
    Invoke(Box<Order>),
    Shutdown,
}

/// An invocation on its way to the driver task.
pub(crate) struct Order {
    pub invocation: Invocation,
    pub answer: oneshot::Sender<Answer>,
    pub outcome: oneshot::Sender<Outcome>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Environment").field(&self.inner.id).finish()
    }
}

impl Environment {
    pub fn id(&self) -> &LogStreamId {
        &self.inner.id
    }

    pub fn function(&self) -> &Arc<FunctionVersion> {
        &self.inner.function
    }

    /// Runs one invocation. The caller gives it one at a time: a second one waits for the first.
    pub fn invoke(&self, invocation: Invocation) -> BoxFuture<'static, Result<Response, InvokeError>> {
        let environment = self.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let (outcome, ended) = oneshot::channel();
            let executed_version = invocation.function.key.version;
            let order = Box::new(Order { invocation, answer, outcome });
            if environment.inner.commands.send(Command::Invoke(order)).await.is_err() {
                return Err(environment.failure());
            }
            let answer = answered.await.map_err(|_| environment.failure())?;
            let head = Head {
                executed_version,
                content_type: answer.content_type,
                function_error: answer.error.map(|_| FunctionError::Unhandled),
            };
            let outcome = async move {
                match ended.await {
                    Ok(outcome) => outcome,
                    // The driver task reports every invocation that it has answered; only its own end can keep it
                    // from that, and then there is nothing left to wait for.
                    Err(_) => std::future::pending().await,
                }
            };
            Ok(Response { head, body: Box::pin(Whole(Some(answer.body))), outcome: Box::pin(outcome) })
        })
    }

    /// Ends it after the invocation that it is running, if any.
    pub fn shutdown(&self) -> BoxFuture<'static, ()> {
        let commands = self.inner.commands.clone();
        Box::pin(async move {
            let _ = commands.send(Command::Shutdown).await;
            commands.closed().await;
        })
    }

    pub(crate) fn fail(&self, failure: InvokeError) {
        let _ = self.inner.failure.set(failure);
    }

    fn failure(&self) -> InvokeError {
        let gone = || InvokeError::Internal("the environment ended before the invocation reached it".into());
        self.inner.failure.get().cloned().unwrap_or_else(gone)
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
