//! What an environment is made of: trees, sandbox, endpoint, variables.

use std::any::Any;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hearth_egress::Gateway;
use hearth_model::{
    Architecture, CodeTree, ImageTree, InitPhase, InitStart, InvokeError, LogStreamName, Materials, MaterialsError,
    Memory, Program, Root, RuntimeVersion, ZipProgram,
};
use hearth_runtime_api::Server;
use hearth_sandbox::{Class, Identity, Sandbox};

use crate::ahead::{self, Outside};
use crate::entry::Entry;
use crate::environment::Worker;
use crate::extension;
use crate::network;
use crate::parked::Parked;
use crate::pools::{Bound, Origin};
use crate::ports::{Config, EndpointIdentity};
use crate::state::{Line, Shared};
use crate::variables;

/// Both addresses of the Runtime API answer, `127.0.0.1` and `169.254.100.1`, whichever a runtime is told (spec 3.2).
/// They are all that a sandbox has, so one socket serves both.
const RUNTIME_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9001);

/// A sandbox in which nothing of the function runs yet.
pub(crate) struct Made {
    pub sandbox: Arc<dyn Sandbox>,
    /// A runtime that waits in it.
    pub parked: Option<Parked>,
    pub entry: Entry,
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
    let Trees { entry, code, opt, extensions } = trees(&*ports.materials, &function.program).await.map_err(missing)?;
    shared.note(|steps, now| steps.code = Some(now));
    if let (Program::Zip(ZipProgram { runtime_version: None, .. }), Entry::Runtime { tree, .. }) =
        (&function.program, &entry)
    {
        shared.follows(tree.replaced.clone());
    }
    let extensions = match extensions {
        Some(folder) => extension::list(&folder).await.map_err(internal)?,
        None => Vec::new(),
    };
    let mut endpoint = endpoints_at(&worker.config).next().map(|address| address.port());
    let mut variables = variables::of_process(shared, &entry, stream, endpoint);
    let starts_ahead = ports.pools.starts_ahead();
    let recipe = if starts_ahead {
        let has_extensions = !extensions.is_empty();
        let trees = [code.as_ref(), opt.as_ref()];
        ahead::recipe(&worker.names, function, &entry, trees, has_extensions, &variables).await
    } else {
        Err("this host has no namespaces for it".into())
    };
    // Without layers nothing may show of what lies there for the loader.
    let opt = opt.or_else(|| (starts_ahead && !entry.root().whole).then(|| empty(entry.root())));
    let class = class(&worker.config, entry.root(), function.ephemeral_storage);
    let taken = ports.pools.take(class, recipe.as_ref().ok().cloned()).await.map_err(unprepared)?;
    let Bound { sandbox, parked, origin } =
        taken.bind(Identity { memory: function.memory, code, opt }).await.map_err(internal)?;
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
    shared.note(|steps, now| {
        (steps.sandbox, steps.origin) = (Some(now), Some(origin));
        steps.reason = reason(origin, recipe.err());
    });
    if first != endpoint {
        endpoint = first;
        variables = variables::of_process(shared, &entry, stream, endpoint);
    }
    Ok(Made { sandbox, parked, entry, variables, extensions, _endpoints: endpoints, _gateway: gateway })
}

/// Why a call was cold, and why it was no quicker.
fn reason(origin: Origin, outside: Option<Outside>) -> Cow<'static, str> {
    let taken = match origin {
        Origin::Runtime => return "no environment was free; a runtime that was started ahead of need was taken".into(),
        Origin::Stock => "a sandbox that was prepared ahead of need was taken",
        Origin::Nothing => "a sandbox was made for it",
    };
    let why = match outside {
        Some(outside) => format!("a runtime could not be started ahead of need: {outside}"),
        None => "no runtime of its kind was waiting".to_owned(),
    };
    format!("no environment was free; {taken}; {why}").into()
}

/// A folder with nothing in it, of the root itself.
fn empty(root: &Arc<Root>) -> CodeTree {
    CodeTree { path: root.skeleton.join("var/task/lib"), lease: root.clone() }
}

/// The same for every function of one root with as large a `/tmp`.
fn class(config: &Config, root: &Arc<Root>, ephemeral_storage: Memory) -> Class {
    let listeners = [RUNTIME_API].into_iter().chain(endpoints_at(config)).collect();
    Class { root: root.clone(), ephemeral_storage, listeners }
}

fn endpoints_at(config: &Config) -> impl Iterator<Item = SocketAddr> {
    config.endpoint_ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
}

/// What is mounted, and what is started in it.
struct Trees {
    entry: Entry,
    code: Option<CodeTree>,
    opt: Option<CodeTree>,
    /// What lies at `/opt`, whether it is mounted or of the root.
    extensions: Option<CodeTree>,
}

async fn trees(materials: &dyn Materials, program: &Program) -> Result<Trees, MaterialsError> {
    match program {
        Program::Zip(zip) => {
            let tree = materials.runtime(zip.runtime, zip.runtime_version).await?;
            let code = materials.code(zip.code).await?;
            let opt = materials.layers(zip.layers.clone()).await?;
            let entry = Entry::Runtime { asked: zip.runtime, tree };
            Ok(Trees { entry, code: Some(code), extensions: opt.clone(), opt })
        }
        Program::Image(program) => {
            let ImageTree { root, lease } = materials.image(program.image.clone()).await?;
            let extensions = Some(CodeTree { path: root.skeleton.join("opt"), lease: lease.clone() });
            let entry = Entry::Image { program: program.clone(), root, _lease: lease };
            Ok(Trees { entry, code: None, opt: None, extensions })
        }
    }
}

pub(crate) fn init_start(shared: &Shared, made: &Made, stream: &LogStreamName) -> InitStart {
    let function = &shared.function;
    let region = &function.key.region;
    let runtime_version = match &made.entry {
        Entry::Runtime { tree, .. } => Some(RuntimeVersion {
            name: tree.version.clone(),
            arn: format!("arn:{}:lambda:{region}::runtime:{}", region.partition(), tree.version_digest),
        }),
        Entry::Image { .. } => None,
    };
    InitStart {
        initialization: shared.initialization,
        phase: InitPhase::Init,
        runtime_version,
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
        MaterialsError::RuntimeVersionMissing { runtime, version } => {
            InvokeError::RuntimeVersionMissing { runtime, version }
        }
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
