//! A worker over sandboxes that confine nothing: plain child processes of the host, and functions written in Python.

// Each test program uses its own part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hearth_egress::Egress;
use hearth_identity::Sessions;
use hearth_model::{
    AccountId, Architecture, BoxFuture, CodeHash, CodeTree, FunctionName, FunctionVersion, Head, Image, ImageError,
    ImageTree, Initialization, Invocation, InvokeError, LogGroup, Materials, MaterialsError, Memory, Outcome, Program,
    Region, RequestId, ResponseMode, Root, Runtime, RuntimeEntry, RuntimeTree, Secret, SystemClock, Version,
    VersionKey, ZipProgram,
};
use hearth_observe::{Logs, Position, Query};
use hearth_sandbox::{
    Class, Command, Driver, Error, Exit, Identity, Prepared, Process, Promise, Sandbox, Signal, Tunnel, Usage,
};
use hearth_worker::{
    Config, Endpoint, EndpointIdentity, Environment, EnvironmentEvents, Meminfo, Pools, Ports, Running, Start, Worker,
};
use tokio::sync::mpsc;

/// What a function in a test is made of: a client of the Runtime API with nothing else.
const CLIENT: &str = r#"#!/usr/bin/python3 -S
import http.client, os, sys, threading, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None, headers={}):
    api.request(method, "/2018-06-01/runtime/" + path, body, headers)
    reply = api.getresponse()
    return reply, reply.read()
def next_event():
    reply, event = call("GET", "invocation/next")
    return reply.headers["Lambda-Runtime-Aws-Request-Id"], event.decode()
def respond(id, body):
    return call("POST", f"invocation/{id}/response", body)[0].status
def fail(where, type, body):
    call("POST", where, body, {"Lambda-Runtime-Function-Error-Type": type, "Content-Type": "application/json"})
def say(text):
    os.write(1, text.encode())
"#;

/// What an external extension in a test is made of: a client of the Extensions API.
const EXTENSION: &str = r#"#!/usr/bin/python3 -S
import http.client, json, os, signal, sys, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
name = os.path.basename(sys.argv[0])
id = None
def call(method, path, body=None, headers={}):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    reply = api.getresponse()
    return reply, reply.read().decode()
def register(*events):
    global id
    reply, body = call("POST", "register", json.dumps({"events": events}), {"Lambda-Extension-Name": name})
    id = reply.headers["Lambda-Extension-Identifier"]
    return body
def next_event():
    return json.loads(call("GET", "event/next", None, {"Lambda-Extension-Identifier": id})[1])
def fail(where, type):
    headers = {"Lambda-Extension-Identifier": id, "Lambda-Extension-Function-Error-Type": type}
    return call("POST", where + "/error", None, headers)[0].status
def say(text):
    os.write(1, (text + "\n").encode())
"#;

/// Longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct World {
    pub worker: Worker,
    pub host: Arc<Host>,
    pub logs: Logs,
    pub events: Arc<Events>,
    /// Idle environments, as they are told of.
    pub idle: mpsc::UnboundedReceiver<Environment>,
    pub gone: mpsc::UnboundedReceiver<Environment>,
    pub function: FunctionVersion,
    ports: Ports,
    folder: tempfile::TempDir,
}

impl World {
    /// A function whose `bootstrap` is this Python code.
    pub fn new(code: &str) -> Self {
        let world = World::without_bootstrap();
        world.write_code(code);
        world
    }

    pub fn without_bootstrap() -> Self {
        World::over(
            |host| Arc::new(Double(host.clone())),
            Root { skeleton: "/".into(), binds: Vec::new(), whole: false },
        )
    }

    /// How long the init phase may take.
    pub fn shorten_init(&mut self, init_timeout: Duration) {
        let config = Config { init_timeout, ..Config::default() };
        self.worker = Worker::new(config, self.ports.clone());
    }

    /// A world without code, over another driver.
    pub fn over(driver: impl FnOnce(&Arc<Host>) -> Arc<dyn Driver>, root: Root) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("code")).unwrap();
        for open in [folder.path(), &folder.path().join("code")] {
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = hearth_observe::Config {
            retention: Duration::from_secs(86_400),
            bytes_max: u64::MAX,
            clock: Arc::new(SystemClock),
        };
        let logs = Logs::open(&folder.path().join("logs"), config).unwrap();
        let host = Arc::new(Host::new(folder.path(), root));
        let ports = Ports {
            pools: Pools::new(0, driver(&host), Arc::new(SystemClock), Arc::new(Meminfo)),
            materials: Arc::new(Double(host.clone())),
            logs: logs.clone(),
            clock: Arc::new(SystemClock),
            endpoint: Arc::new(Double(host.clone())),
            sessions: Sessions::new([1; 32], Arc::new(SystemClock)),
            egress: Egress::new(hearth_egress::Config::default()),
        };
        let (idle_to, idle) = mpsc::unbounded_channel();
        let (gone_to, gone) = mpsc::unbounded_channel();
        World {
            worker: Worker::new(Config::default(), ports.clone()),
            ports,
            host,
            logs,
            events: Arc::new(Events { idle: idle_to, gone: gone_to }),
            idle,
            gone,
            function: function(),
            folder,
        }
    }

    /// Its `bootstrap` is this Python code.
    pub fn write_code(&self, code: &str) {
        self.write_bootstrap(&format!("{CLIENT}{code}"), 0o755);
    }

    pub fn write_bootstrap(&self, text: &str, mode: u32) {
        self.write("code", "bootstrap", text, mode);
    }

    /// An external extension that is this Python code.
    pub fn write_extension(&self, name: &str, code: &str) {
        self.write("opt/extensions", name, &format!("{EXTENSION}{code}"), 0o755);
    }

    pub fn write(&self, folder: &str, name: &str, text: &str, mode: u32) {
        let folder = self.folder.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Waits until the log has a line that holds this.
    pub async fn wait_log(&self, part: &str) {
        let waited = async {
            while !self.log().await.iter().any(|line| line.contains(part)) {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waited).await.is_err() {
            panic!("{part:?} is not in {:#?}", self.log().await);
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut FunctionVersion)) -> Self {
        change(&mut self.function);
        self
    }

    pub fn start(&mut self) -> Environment {
        let function = std::mem::replace(&mut self.function, function());
        let (function, events) = (Arc::new(function), self.events.clone());
        self.worker.start(Start { function, initialization: Initialization::OnDemand, asked: None, events })
    }

    pub async fn wait_idle(&mut self) {
        tokio::time::timeout(PATIENCE, self.idle.recv()).await.expect("it became idle").unwrap();
    }

    pub async fn wait_gone(&mut self) {
        tokio::time::timeout(PATIENCE, self.gone.recv()).await.expect("it is gone").unwrap();
    }

    /// Waits until something that the host does is seen.
    pub async fn wait_until(&self, what: &str, seen: impl Fn(&Host) -> bool) {
        let waited = async {
            while !seen(&self.host) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    pub async fn log(&self) -> Vec<String> {
        let mut query = Query::latest(function().log_group, 100_000);
        let mut lines = Vec::new();
        query.after = Some(Position::FIRST);
        while query.after.is_some() {
            let page = self.logs.read(&query).await.unwrap();
            lines.extend(page.events.iter().map(|event| String::from_utf8_lossy(&event.message).into_owned()));
            query.after = page.next;
        }
        lines
    }
}

fn function() -> FunctionVersion {
    let (account, region) = (AccountId::default_account(), Region::default_region());
    let name = FunctionName::parse("f").unwrap();
    let log_group = LogGroup { account: account.clone(), region: region.clone(), name: "/aws/lambda/f".into() };
    FunctionVersion {
        key: VersionKey { account, region, name, version: Version::Latest, generation: 1 },
        program: Program::Zip(ZipProgram {
            runtime: Runtime::parse("provided.al2023").unwrap(),
            runtime_version: None,
            handler: "h".to_owned(),
            code: CodeHash([0; 32]),
            layers: Vec::new(),
        }),
        architecture: Architecture::of_host().unwrap(),
        memory: Memory::mib(128),
        timeout: Duration::from_secs(20),
        ephemeral_storage: Memory::mib(512),
        environment: Vec::new(),
        log_group,
        custom_log_group: false,
        json_logs: None,
        role: "arn:aws:iam::000000000000:role/r".to_owned(),
        dead_letters: None,
        last_used: None,
        per_tenant: false,
    }
}

pub fn variable(key: &str, value: &str) -> (String, Secret) {
    (key.to_owned(), Secret::new(value))
}

/// A call that nobody counts.
pub fn running() -> Running {
    Running::of(&Arc::default())
}

pub fn invocation(environment: &Environment, id: &str, payload: &str) -> Invocation {
    Invocation {
        request_id: RequestId::new(id),
        function: environment.function().clone(),
        invoked_arn: environment.function().arn().to_string(),
        payload: Bytes::from(payload.to_owned()),
        content_type: None,
        client_context: None,
        tenant: None,
        trace: None,
        wants_log_tail: true,
        mode: ResponseMode::Buffered,
    }
}

/// An answer and how it ended.
#[derive(Debug)]
pub struct Done {
    pub head: Head,
    pub body: String,
    pub outcome: Outcome,
}

impl Done {
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(self.outcome.log_tail.as_ref().unwrap()).into_owned()
    }
}

pub async fn invoke(environment: &Environment, id: &str, payload: &str) -> Result<Done, InvokeError> {
    let run = async {
        let response = environment
            .invoke(invocation(environment, id, payload), running())
            .await
            .map_err(|refused| refused.error)?;
        let (head, body, outcome) = response.collect(10_000_000).await.unwrap();
        Ok(Done { head, body: String::from_utf8(body.to_vec()).unwrap(), outcome: outcome.await })
    };
    tokio::time::timeout(PATIENCE, run).await.expect("an invocation ended")
}

pub struct Events {
    idle: mpsc::UnboundedSender<Environment>,
    gone: mpsc::UnboundedSender<Environment>,
}

impl EnvironmentEvents for Events {
    fn idle(&self, environment: &Environment) {
        let _ = self.idle.send(environment.clone());
    }

    fn gone(&self, environment: &Environment) {
        let _ = self.gone.send(environment.clone());
    }
}

/// The host in place of sandboxes, materials and the endpoint.
pub struct Host {
    code: PathBuf,
    opt: PathBuf,
    root: Arc<Root>,
    pub frozen: AtomicBool,
    pub cpu_limited: AtomicBool,
    pub memory: AtomicU64,
    pub oom_kills: AtomicU64,
    /// Sandboxes that exist.
    pub sandboxes: AtomicU64,
    pub runtime_missing: AtomicBool,
    /// Whose endpoints are served.
    pub served: Arc<Mutex<Vec<EndpointIdentity>>>,
}

impl Host {
    pub fn extension(&self, name: &str) -> PathBuf {
        self.opt.join("extensions").join(name)
    }

    fn new(folder: &Path, root: Root) -> Self {
        Host {
            code: folder.join("code"),
            opt: folder.join("opt"),
            root: Arc::new(root),
            frozen: AtomicBool::new(false),
            cpu_limited: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            oom_kills: AtomicU64::new(0),
            sandboxes: AtomicU64::new(0),
            runtime_missing: AtomicBool::new(false),
            served: Arc::default(),
        }
    }
}

/// The ports that the host stands in for.
struct Double(Arc<Host>);

impl Materials for Double {
    fn code(&self, _: CodeHash) -> BoxFuture<'_, Result<CodeTree, MaterialsError>> {
        let tree = CodeTree { path: self.0.code.clone(), lease: Arc::new(()) };
        Box::pin(async move { Ok(tree) })
    }

    fn layers(&self, _: Vec<CodeHash>) -> BoxFuture<'_, Result<Option<CodeTree>, MaterialsError>> {
        let tree = CodeTree { path: self.0.opt.clone(), lease: Arc::new(()) };
        Box::pin(async move { Ok(tree.path.exists().then_some(tree)) })
    }

    fn runtime(
        &self,
        runtime: Runtime,
        _: Option<CodeHash>,
    ) -> BoxFuture<'_, Result<Arc<RuntimeTree>, MaterialsError>> {
        let missing = self.0.runtime_missing.load(Ordering::Relaxed);
        let tree = RuntimeTree {
            runtime,
            root: self.0.root.clone(),
            entry: RuntimeEntry::OfPackage,
            variables: Vec::new(),
            version: "provided:al2023".to_owned(),
            version_digest: "0".to_owned(),
            replaced: Default::default(),
        };
        Box::pin(async move { if missing { Err(MaterialsError::RuntimeMissing(runtime)) } else { Ok(Arc::new(tree)) } })
    }

    fn image(&self, image: Arc<Image>) -> BoxFuture<'_, Result<ImageTree, MaterialsError>> {
        Box::pin(async move { Err(ImageError::Missing { uri: image.uri.clone() }.into()) })
    }
}

impl Endpoint for Double {
    fn serve(
        &self,
        listener: TcpListener,
        identity: EndpointIdentity,
    ) -> std::io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.0.served.lock().unwrap().push(identity);
        Ok(Box::new(Served { host: self.0.clone(), _listener: listener }))
    }
}

struct Served {
    host: Arc<Host>,
    _listener: TcpListener,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.host.served.lock().unwrap().pop();
    }
}

impl Driver for Double {
    fn prepare(&self, _: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>> {
        let host = self.0.clone();
        Box::pin(async move { Ok(Box::new(Place { host }) as Box<dyn Prepared>) })
    }

    fn starts_ahead(&self) -> bool {
        false
    }

    fn leads_out(&self) -> bool {
        false
    }

    fn promises(&self) -> Vec<Promise> {
        Vec::new()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<Promise>, Error>> {
        Box::pin(async { Ok(self.promises()) })
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Place {
    host: Arc<Host>,
}

impl Prepared for Place {
    fn spawn(&self, _: Command) -> BoxFuture<'_, Result<Process, Error>> {
        Box::pin(std::future::ready(Err(Error::Gone)))
    }

    fn bind(self: Box<Self>, identity: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>> {
        self.host.sandboxes.fetch_add(1, Ordering::Relaxed);
        let sandbox = Unconfined {
            host: self.host.clone(),
            code: identity.code.unwrap().path,
            listening: Mutex::default(),
            groups: Mutex::default(),
        };
        Box::pin(async move { Ok(Box::new(sandbox) as Box<dyn Sandbox>) })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Unconfined {
    host: Arc<Host>,
    code: PathBuf,
    /// The ports that were asked for, and addresses that were free.
    listening: Mutex<HashMap<u16, SocketAddr>>,
    groups: Mutex<Vec<rustix::process::Pid>>,
}

impl Unconfined {
    fn signal(&self, signal: rustix::process::Signal) {
        for group in self.groups.lock().unwrap().iter() {
            let _ = rustix::process::kill_process_group(*group, signal);
        }
    }
}

impl Drop for Unconfined {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.host.sandboxes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sandbox for Unconfined {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpListener, Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        self.listening.lock().unwrap().insert(address.port(), listener.local_addr().unwrap());
        Box::pin(async move { Ok(listener) })
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpStream, Error>> {
        let refused = |source| Error::Step { step: "dial".into(), source };
        Box::pin(async move {
            let stream = TcpStream::connect(address).map_err(refused)?;
            stream.set_nonblocking(true).map_err(refused)?;
            Ok(stream)
        })
    }

    fn dials(&self) -> bool {
        true
    }

    fn tunnel(&self) -> Option<Tunnel> {
        None
    }

    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>> {
        let program = command.program.replace("/var/task", &self.code.display().to_string());
        let program = program.replace("/opt/", &format!("{}/", self.host.opt.display()));
        let environment = command.environment.into_iter().map(|(key, value)| {
            let port = value.parse().ok().map(|address: SocketAddr| address.port());
            let listening = port.and_then(|port| self.listening.lock().unwrap().get(&port).copied());
            (key, listening.map_or(value, |address| address.to_string()))
        });
        let mut process = std::process::Command::new(&program);
        process.args(command.arguments).env_clear().envs(environment).process_group(0);
        process.stdin(std::process::Stdio::null());
        process.stdout(command.output.try_clone().unwrap()).stderr(command.output);
        let started = tokio::process::Command::from(process).spawn();
        Box::pin(async move {
            let mut child = started.map_err(|source| Error::Exec { program: command.program, source })?;
            let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
            self.groups.lock().unwrap().push(pid);
            let exit = async move {
                let status = child.wait().await.map_err(|_| Error::Gone)?;
                Ok(status.code().map_or_else(|| Exit::Signal(status.signal().unwrap()), Exit::Code))
            };
            Ok(Process { id: pid.as_raw_nonzero().get().cast_unsigned(), exit: Box::pin(exit) })
        })
    }

    fn signal(&self, process: u32, signal: Signal) -> BoxFuture<'_, Result<(), Error>> {
        let group = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        if self.groups.lock().unwrap().contains(&group) {
            let _ = rustix::process::kill_process_group(group, signal);
        }
        Box::pin(async move { Ok(()) })
    }

    fn kill_processes(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.signal(rustix::process::Signal::KILL);
        self.groups.lock().unwrap().clear();
        Box::pin(async move { Ok(()) })
    }

    fn limit_cpu(&self) -> Result<(), Error> {
        self.host.cpu_limited.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        self.signal(rustix::process::Signal::STOP);
        self.host.frozen.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn thaw(&self) -> Result<(), Error> {
        self.host.frozen.store(false, Ordering::Relaxed);
        self.signal(rustix::process::Signal::CONT);
        Ok(())
    }

    fn usage(&self) -> Result<Usage, Error> {
        let (memory, oom_kills) =
            (self.host.memory.load(Ordering::Relaxed), self.host.oom_kills.load(Ordering::Relaxed));
        Ok(Usage { memory, oom_kills })
    }
}
