//! An environment's driver task: makes it, initialises it, serves one invocation after the other, ends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use hearth_model::{InitPhase, InvokeError, LogStreamName, MaterialsError, PlatformRecord};
use hearth_observe::platform;
use hearth_runtime_api::Session;
use hearth_sandbox::{Class, Identity, Sandbox};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::environment::{Command, EndpointIdentity, Environment, EnvironmentEvents, Worker};
use crate::init::InitFailure;
use crate::invocation::Lost;
use crate::live::{Live, Readiness};
use crate::output::Log;
use crate::variables;

/// Both addresses of the Runtime API answer, whichever a runtime is told (spec 3.2).
const RUNTIME_API: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 100, 1)];
const RUNTIME_API_PORT: u16 = 9001;

pub(crate) async fn drive(
    worker: Worker,
    environment: Environment,
    mut orders: mpsc::Receiver<Command>,
    events: Arc<dyn EnvironmentEvents>,
) {
    match make(&worker, &environment).await {
        Ok(mut live) => {
            if live_through(&worker, &environment, &mut live, &mut orders, &*events).await.is_err() {
                environment.fail(InvokeError::Internal("the sandbox is lost".into()));
            }
        }
        Err(failure) => {
            tracing::warn!(function = %environment.function().key.name, %failure, "an environment could not be made");
            environment.fail(failure);
        }
    }
    // Who waits with an order is told by the order being dropped, and finds the failure in the handle.
    drop(orders);
    events.gone(&environment);
}

async fn live_through(
    worker: &Worker,
    environment: &Environment,
    live: &mut Live,
    orders: &mut mpsc::Receiver<Command>,
    events: &dyn EnvironmentEvents,
) -> Result<(), Lost> {
    match live.init(Instant::now() + worker.config.init_timeout, InitPhase::Init).await {
        Ok(duration) => live.readiness = Readiness::Ready { init: Some(duration) },
        Err(InitFailure::Lost) => return Err(Lost),
        // The next invocation tries again.
        Err(InitFailure::Failed(_) | InitFailure::TimedOut) => {}
    }
    loop {
        events.idle(environment);
        match next_order(live, orders).await {
            Some(Command::Invoke(order)) => live.serve(*order).await?,
            Some(Command::Shutdown) | None => return Ok(()),
        }
    }
}

/// Frozen while nothing waits.
async fn next_order(live: &mut Live, orders: &mut mpsc::Receiver<Command>) -> Option<Command> {
    if let Ok(order) = orders.try_recv() {
        return Some(order);
    }
    if let Err(error) = live.sandbox.freeze() {
        tracing::error!(%error, "an idle environment could not be frozen");
    }
    let order = orders.recv().await;
    if let Err(error) = live.sandbox.thaw() {
        tracing::error!(%error, "an environment could not be thawed");
    }
    order
}

async fn make(worker: &Worker, environment: &Environment) -> Result<Live, InvokeError> {
    let function = environment.function().clone();
    let ports = &worker.ports;
    let runtime = ports.materials.runtime(function.runtime).await.map_err(missing)?;
    let code = ports.materials.code(function.code).await.map_err(missing)?;
    let stream = stream_name(environment, ports.clock.wall());
    let mut log = Log::new(ports.logs.clone(), function.log_group.clone(), stream, ports.clock.clone());
    if runtime.runtime != function.runtime {
        log.platform(&PlatformRecord::Substituted { asked: function.runtime, running: runtime.runtime });
    }
    log.platform(&PlatformRecord::InitStart {
        runtime_version: runtime.version.clone(),
        runtime_version_arn: runtime.version_arn.clone(),
    });
    let class = Class { root: runtime.root.clone(), ephemeral_storage: function.ephemeral_storage };
    let prepared = ports.driver.prepare(class).await.map_err(internal)?;
    let sandbox = prepared.bind(Identity { memory: function.memory, code }).await.map_err(internal)?;
    let (session, said) = Session::new();
    let serving = serve_runtime_api(&*sandbox, &session).await?;
    let endpoints = serve_endpoint(worker, environment, &*sandbox).await?;
    let port = worker.config.endpoint_ports.first().copied().unwrap_or_default();
    let variables = variables::of_process(&function, &runtime, log.stream(), port);
    Ok(Live {
        function,
        runtime,
        sandbox,
        session,
        said,
        process: None,
        log,
        variables,
        readiness: Readiness::Down,
        cpu_limited: false,
        memory_peak: 0,
        _serving: serving,
        _endpoints: endpoints,
    })
}

async fn serve_runtime_api(sandbox: &dyn Sandbox, session: &Session) -> Result<JoinSet<()>, InvokeError> {
    let mut listeners = Vec::new();
    for address in RUNTIME_API {
        listeners.push(sandbox.listen(SocketAddr::from((address, RUNTIME_API_PORT))).await.map_err(internal)?);
    }
    let mut serving = JoinSet::new();
    let session = session.clone();
    serving.spawn(async move {
        let Err(error) = hearth_runtime_api::serve(listeners, session).await;
        tracing::error!(%error, "a Runtime API server ended");
    });
    Ok(serving)
}

async fn serve_endpoint(
    worker: &Worker,
    environment: &Environment,
    sandbox: &dyn Sandbox,
) -> Result<Vec<Box<dyn std::any::Any + Send + Sync>>, InvokeError> {
    let function = environment.function();
    let mut guards = Vec::new();
    for port in &worker.config.endpoint_ports {
        let listener = sandbox.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).await.map_err(internal)?;
        let identity = EndpointIdentity {
            account: function.key.account.clone(),
            region: function.key.region.clone(),
            role: function.role.clone(),
        };
        guards.push(worker.ports.endpoint.serve(listener, identity).map_err(internal)?);
    }
    Ok(guards)
}

fn stream_name(environment: &Environment, now: SystemTime) -> LogStreamName {
    let text = platform::timestamp(now);
    let mut parts = text.get(..10).unwrap_or_default().split('-').map(|part| part.parse::<i16>().unwrap_or(0));
    let (year, month, day) = (parts.next(), parts.next(), parts.next());
    let date = (year.unwrap_or(0), month.unwrap_or(0) as i8, day.unwrap_or(0) as i8);
    let function = environment.function();
    let name = function.custom_log_group.then_some(&function.key.name);
    LogStreamName::new(date, name, function.key.version, environment.id())
}

fn missing(error: MaterialsError) -> InvokeError {
    match error {
        MaterialsError::RuntimeMissing(runtime) => InvokeError::RuntimeMissing(runtime),
        other => internal(other),
    }
}

fn internal(error: impl std::fmt::Display) -> InvokeError {
    InvokeError::Internal(error.to_string().into())
}
