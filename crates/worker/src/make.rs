//! What an environment is made of: trees, sandbox, endpoint, variables.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hearth_egress::Gateway;
use hearth_model::{
    Architecture, InitPhase, InitStart, InvokeError, LogStreamName, MaterialsError, Memory, PlatformRecord, RuntimeTree,
};
use hearth_runtime_api::Server;
use hearth_sandbox::{Class, Identity, Sandbox};

use crate::environment::Worker;
use crate::extension;
use crate::network;
use crate::ports::{Config, EndpointIdentity};
use crate::state::{Line, Shared};
use crate::variables;

/// Both addresses of the Runtime API answer, `127.0.0.1` and `169.254.100.1`, whichever a runtime is told (spec 3.2).
/// They are all that a sandbox has, so one socket serves both.
const RUNTIME_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9001);

/// A sandbox in which nothing runs yet.
pub(crate) struct Made {
    pub sandbox: Arc<dyn Sandbox>,
    pub tree: Arc<RuntimeTree>,
    /// The process environment of its runtime.
    pub variables: Vec<(String, String)>,
    /// Names of its external extensions.
    pub extensions: Vec<String>,
    /// The endpoints are served while these live.
    pub _endpoints: Vec<Box<dyn Any + Send + Sync>>,
    /// Where its network has a way out, it is served while this lives.
    pub _gateway: Option<Gateway>,
}

pub(crate) async fn make(worker: &Worker, shared: &Arc<Shared>, stream: &LogStreamName) -> Result<Made, InvokeError> {
    let function = &shared.function;
    if Architecture::of_host() != Some(function.architecture) {
        return Err(InvokeError::OtherArchitecture(function.architecture.as_str()));
    }
    let ports = &worker.ports;
    let tree = ports.materials.runtime(function.runtime).await.map_err(missing)?;
    let code = ports.materials.code(function.code).await.map_err(missing)?;
    let opt = ports.materials.layers(function.layers.clone()).await.map_err(missing)?;
    let extensions = match &opt {
        Some(opt) => extension::list(opt).await.map_err(internal)?,
        None => Vec::new(),
    };
    let class = class(&worker.config, &tree, function.ephemeral_storage);
    let prepared = ports.driver.prepare(class).await.map_err(unprepared)?;
    let sandbox = prepared.bind(Identity { memory: function.memory, code, opt }).await.map_err(internal)?;
    let sandbox: Arc<dyn Sandbox> = Arc::from(sandbox);
    let gateway = sandbox.tunnel().map(|tunnel| network::serve(ports.egress.clone(), tunnel, shared.clone()));
    let (mut endpoints, mut first) = (Vec::new(), None);
    for address in endpoints_at(&worker.config) {
        let listener = sandbox.listen(address).await.map_err(internal)?;
        // Where a sandbox has no ports of its own, it is another than the one that was asked for.
        let port = listener.local_addr().map_err(internal)?.port();
        first.get_or_insert(port);
        endpoints.push(ports.endpoint.serve(listener, caller(shared)).map_err(internal)?);
    }
    let variables = variables::of_process(shared, &tree, stream, first);
    Ok(Made { sandbox, tree, variables, extensions, _endpoints: endpoints, _gateway: gateway })
}

/// The same for every function of one runtime with as large a `/tmp`.
fn class(config: &Config, tree: &RuntimeTree, ephemeral_storage: Memory) -> Class {
    let listeners = [RUNTIME_API].into_iter().chain(endpoints_at(config)).collect();
    Class { root: tree.root.clone(), ephemeral_storage, listeners }
}

fn endpoints_at(config: &Config) -> impl Iterator<Item = SocketAddr> {
    config.endpoint_ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
}

/// Said when a runtime other than the one asked for runs the function.
pub(crate) fn substituted(shared: &Shared, made: &Made) -> Option<PlatformRecord> {
    let (asked, running) = (shared.function.runtime, made.tree.runtime);
    (asked != running).then_some(PlatformRecord::Substituted { asked, running })
}

pub(crate) fn init_start(shared: &Shared, made: &Made, stream: &LogStreamName) -> InitStart {
    let function = &shared.function;
    let (region, digest) = (&function.key.region, &made.tree.version_digest);
    InitStart {
        initialization: shared.initialization,
        phase: InitPhase::Init,
        runtime_version: made.tree.version.clone(),
        runtime_version_arn: format!("arn:{}:lambda:{region}::runtime:{digest}", region.partition()),
        function_name: function.key.name.as_str().to_owned(),
        function_version: function.key.version.to_string(),
        function_arn: function.arn().to_string(),
        instance: stream.as_str().to_owned(),
        memory: function.memory,
    }
}

/// Serves the Runtime API to the processes that are started next. Answers also where, when that is not where every
/// sandbox has it.
pub(crate) async fn serve_runtime_api(
    sandbox: &dyn Sandbox,
    line: Arc<Line>,
) -> Result<(Server, Option<SocketAddr>), InvokeError> {
    let listener = sandbox.listen(RUNTIME_API).await.map_err(internal)?;
    let address = listener.local_addr().map_err(internal)?;
    let server = hearth_runtime_api::serve(vec![listener], line).map_err(internal)?;
    Ok((server, (address.port() != RUNTIME_API.port()).then_some(address)))
}

fn caller(shared: &Shared) -> EndpointIdentity {
    let function = &shared.function;
    EndpointIdentity {
        account: function.key.account.clone(),
        region: function.key.region.clone(),
        role: function.role.clone(),
        function: function.arn(),
        environment: shared.id.clone(),
    }
}

fn missing(error: MaterialsError) -> InvokeError {
    match error {
        MaterialsError::RuntimeMissing(runtime) => InvokeError::RuntimeMissing(runtime),
        other => internal(other),
    }
}

fn unprepared(error: hearth_sandbox::Error) -> InvokeError {
    match error {
        hearth_sandbox::Error::Unconfined { reason } => InvokeError::Unconfined { reason },
        other => internal(other),
    }
}

pub(crate) fn internal(error: impl std::fmt::Display) -> InvokeError {
    InvokeError::Internal(error.to_string().into())
}
