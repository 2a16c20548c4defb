//! Placement over a real worker, whose sandboxes confine nothing and whose processes are tasks.

use std::any::Any;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hearth_egress::Egress;
use hearth_identity::Sessions;
use hearth_model::{
    AcceptError, AcceptEvents, AccountId, Architecture, BoxFuture, Clock, CodeHash, CodeTree, FunctionArn,
    FunctionName, FunctionVersion, Functions, Image, ImageError, ImageTree, LogGroup, LookupError, Materials,
    MaterialsError, Memory, NewEvent, Program, Provision, Region, Reservation, Root, Runtime, RuntimeEntry,
    RuntimeTree, Secret, SystemClock, Target, Version, VersionKey, ZipProgram,
};
use hearth_observe::Logs;
use hearth_sandbox::{
    Class, Command, Driver, Error, Exit, Identity, Prepared, Process, Promise, Sandbox, Signal, Tunnel, Usage,
};
use hearth_worker::{Endpoint, EndpointIdentity, Meminfo, Pools, Ports, Worker};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::Placement;
pub use crate::placement::Config;

/// Longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub placement: Placement,
    pub functions: Arc<Catalog>,
    pub events: Arc<Accepted>,
    pub clock: Arc<Hand>,
    pub host: Arc<Host>,
    _folder: tempfile::TempDir,
}

pub fn config() -> Config {
    Config {
        concurrent_executions: 1000,
        idle_timeout: Duration::from_secs(600),
        memory_budget: Memory::mib(1024).as_bytes(),
        wait: PATIENCE,
        scaling_rate: 1000,
    }
}

impl World {
    pub fn new(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log_config = hearth_observe::Config {
            retention: Duration::from_secs(86_400),
            bytes_max: u64::MAX,
            clock: Arc::new(SystemClock),
        };
        let host = Arc::new(Host {
            sandboxes: AtomicUsize::new(0),
            losses: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            gate: watch::channel(false).0,
        });
        let clock = Arc::new(Hand { start: Instant::now(), ahead: Mutex::default() });
        let ports = Ports {
            pools: Pools::new(0, Arc::new(Double(host.clone())), Arc::new(SystemClock), Arc::new(Meminfo)),
            materials: Arc::new(Double(host.clone())),
            logs: Logs::open(&folder.path().join("logs"), log_config).unwrap(),
            clock: Arc::new(SystemClock),
            endpoint: Arc::new(Double(host.clone())),
            sessions: Sessions::new([1; 32], clock.clone()),
            egress: Egress::new(hearth_egress::Config::default()),
        };
        let worker = Worker::new(hearth_worker::Config::default(), ports);
        let functions = Arc::new(Catalog::default());
        let events = Arc::new(Accepted::default());
        let ports = crate::Ports {
            worker,
            functions: functions.clone(),
            events: events.clone(),
            guard: Arc::default(),
            clock: clock.clone(),
        };
        let placement = Placement::new(config, ports);
        World { placement, functions, events, clock, host, _folder: folder }
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, seen: impl Fn(&Host) -> bool) {
        let waited = async {
            while !seen(&self.host) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never {what}"));
    }
}

/// Events that were accepted, and no more of them once it is full.
#[derive(Default)]
pub struct Accepted {
    pub events: Mutex<Vec<NewEvent>>,
    pub is_full: AtomicBool,
}

impl AcceptEvents for Accepted {
    fn accept(&self, event: NewEvent) -> BoxFuture<'_, Result<(), AcceptError>> {
        Box::pin(async move {
            if self.is_full.load(Ordering::Relaxed) {
                return Err(AcceptError::NotStored);
            }
            self.events.lock().unwrap().push(event);
            Ok(())
        })
    }
}

/// An account whose calls every function's policy allows.
pub const FRIEND: &str = "111111111111";

/// The functions that there are, and aliases of them.
#[derive(Default)]
pub struct Catalog {
    functions: Mutex<HashMap<FunctionName, Arc<FunctionVersion>>>,
    aliases: Mutex<HashMap<(String, String), Target>>,
    reservations: Mutex<HashMap<String, u32>>,
    provisions: Mutex<Vec<Provision>>,
}

impl Catalog {
    /// Puts a function in place of what had its name.
    pub fn put(&self, name: &str, memory: u32, generation: u64) -> Arc<FunctionVersion> {
        self.put_changed(name, memory, generation, |_| {})
    }

    pub fn put_changed(
        &self,
        name: &str,
        memory: u32,
        generation: u64,
        change: impl FnOnce(&mut FunctionVersion),
    ) -> Arc<FunctionVersion> {
        let mut function = function(name, memory, generation);
        change(&mut function);
        let function = Arc::new(function);
        self.functions.lock().unwrap().insert(function.key.name.clone(), function.clone());
        function
    }

    /// A published version, which is found by aliases alone.
    pub fn published(&self, name: &str, number: u64) -> Arc<FunctionVersion> {
        let mut function = function(name, 128, number);
        function.key.version = Version::Number(number);
        Arc::new(function)
    }

    pub fn alias(&self, name: &str, alias: &str, target: Target) {
        self.aliases.lock().unwrap().insert((name.to_owned(), alias.to_owned()), target);
    }

    /// Keeps so many environments of a version, and of no other.
    pub fn provision(&self, function: &Arc<FunctionVersion>, count: u32, decision: &str) {
        self.provision_of(function, count, decision, true);
    }

    pub fn provision_of(&self, function: &Arc<FunctionVersion>, count: u32, decision: &str, is_awake: bool) {
        let (function, decision) = (function.clone(), decision.to_owned());
        *self.provisions.lock().unwrap() = vec![Provision { function, count, is_awake, decision }];
    }

    pub fn reserve(&self, name: &str, count: u32) {
        self.reservations.lock().unwrap().insert(name.to_owned(), count);
    }
}

impl Functions for Catalog {
    fn find(&self, arn: &FunctionArn) -> Result<Target, LookupError> {
        let not_found = || LookupError::NotFound(arn.to_string());
        if let Some(alias) = arn.qualifier.as_ref().filter(|qualifier| !qualifier.is_latest()) {
            let key = (arn.name.to_string(), alias.to_string());
            return self.aliases.lock().unwrap().get(&key).cloned().ok_or_else(not_found);
        }
        let found = self.functions.lock().unwrap().get(&arn.name).cloned();
        found.map(|found| Target { primary: Ok(found), additional: None }).ok_or_else(not_found)
    }

    fn reservation(&self, key: &VersionKey) -> Reservation {
        let reservations = self.reservations.lock().unwrap();
        let account = reservations.values().sum();
        Reservation { function: reservations.get(key.name.as_str()).copied(), account }
    }

    fn set_aside(&self, _: &AccountId, _: &Region) -> u32 {
        self.reservations.lock().unwrap().values().sum()
    }

    fn provisions(&self) -> Vec<Provision> {
        self.provisions.lock().unwrap().clone()
    }

    fn lets_invoke(&self, _: &FunctionArn, caller: &AccountId) -> bool {
        caller.as_str() == FRIEND
    }

    fn is_current(&self, key: &VersionKey) -> bool {
        let latest = self.functions.lock().unwrap().get(&key.name).is_some_and(|function| function.key == *key);
        latest || key.version != Version::Latest
    }
}

fn function(name: &str, memory: u32, generation: u64) -> FunctionVersion {
    let (account, region) = (AccountId::default_account(), Region::default_region());
    let log_group = LogGroup { account: account.clone(), region: region.clone(), name: "/aws/lambda/f".into() };
    let name = FunctionName::parse(name).unwrap();
    FunctionVersion {
        key: VersionKey { account, region, name, version: Version::Latest, generation },
        program: Program::Zip(ZipProgram {
            runtime: Runtime::parse("provided.al2023").unwrap(),
            runtime_version: None,
            handler: "h".to_owned(),
            code: CodeHash([0; 32]),
            layers: Vec::new(),
        }),
        architecture: Architecture::of_host().unwrap(),
        memory: Memory::mib(memory),
        timeout: PATIENCE,
        ephemeral_storage: Memory::mib(512),
        environment: vec![("GENERATION".to_owned(), Secret::new(generation.to_string()))],
        log_group,
        custom_log_group: false,
        json_logs: None,
        role: "arn:aws:iam::000000000000:role/r".to_owned(),
        dead_letters: None,
        last_used: None,
        per_tenant: false,
    }
}

/// A clock that a test moves.
pub struct Hand {
    start: Instant,
    ahead: Mutex<Duration>,
}

impl Hand {
    pub fn advance(&self, by: Duration) {
        *self.ahead.lock().unwrap() += by;
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        self.start + *self.ahead.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(0x6789_1233) + *self.ahead.lock().unwrap()
    }
}

pub struct Host {
    /// Sandboxes that exist.
    pub sandboxes: AtomicUsize,
    /// Sandboxes of those to come that are lost at once.
    pub losses: AtomicUsize,
    /// Invocations that reached a function.
    pub begun: AtomicUsize,
    /// While it is false, the payload `"hold"` is not answered.
    pub gate: watch::Sender<bool>,
}

impl Host {
    pub fn sandboxes(&self) -> usize {
        self.sandboxes.load(Ordering::SeqCst)
    }

    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

/// The ports that the host stands in for.
struct Double(Arc<Host>);

impl Materials for Double {
    fn code(&self, _: CodeHash) -> BoxFuture<'_, Result<CodeTree, MaterialsError>> {
        Box::pin(async move { Ok(CodeTree { path: "/".into(), lease: Arc::new(()) }) })
    }

    fn layers(&self, _: Vec<CodeHash>) -> BoxFuture<'_, Result<Option<CodeTree>, MaterialsError>> {
        Box::pin(async { Ok(None) })
    }

    fn runtime(
        &self,
        runtime: Runtime,
        _: Option<CodeHash>,
    ) -> BoxFuture<'_, Result<Arc<RuntimeTree>, MaterialsError>> {
        let tree = RuntimeTree {
            runtime,
            root: Arc::new(Root { skeleton: "/".into(), binds: Vec::new(), whole: false }),
            entry: RuntimeEntry::OfPackage,
            variables: Vec::new(),
            version: "provided:al2023".to_owned(),
            version_digest: "0".to_owned(),
            replaced: Default::default(),
        };
        let missing = runtime.as_str() == "dotnet8";
        Box::pin(async move { if missing { Err(MaterialsError::RuntimeMissing(runtime)) } else { Ok(Arc::new(tree)) } })
    }

    fn image(&self, image: Arc<Image>) -> BoxFuture<'_, Result<ImageTree, MaterialsError>> {
        Box::pin(async move { Err(ImageError::Missing { uri: image.uri.clone() }.into()) })
    }
}

impl Endpoint for Double {
    fn serve(&self, listener: TcpListener, _: EndpointIdentity) -> std::io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(listener))
    }
}

impl Driver for Double {
    fn prepare(&self, _: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>> {
        let host = self.0.clone();
        Box::pin(async move { Ok(Box::new(Place(host)) as Box<dyn Prepared>) })
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

struct Place(Arc<Host>);

impl Prepared for Place {
    fn spawn(&self, _: Command) -> BoxFuture<'_, Result<Process, Error>> {
        Box::pin(std::future::ready(Err(Error::Gone)))
    }

    fn bind(self: Box<Self>, _: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>> {
        self.0.sandboxes.fetch_add(1, Ordering::SeqCst);
        let lost = self.0.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let sandbox = Open { host: self.0, process: Mutex::default(), lost };
        Box::pin(async move { Ok(Box::new(sandbox) as Box<dyn Sandbox>) })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Open {
    host: Arc<Host>,
    process: Mutex<Option<AbortHandle>>,
    lost: bool,
}

impl Open {
    fn end_process(&self) {
        if let Some(process) = self.process.lock().unwrap().take() {
            process.abort();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end_process();
        self.host.sandboxes.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Sandbox for Open {
    /// Where a port is free.
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, Result<TcpListener, Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Box::pin(async move { Ok(listener) })
    }

    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, Result<TcpStream, Error>> {
        Box::pin(async move { Err(Error::Gone) })
    }

    fn dials(&self) -> bool {
        false
    }

    fn tunnel(&self) -> Option<Tunnel> {
        None
    }

    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>> {
        if self.lost {
            return Box::pin(async { Err(Error::Gone) });
        }
        let variable = |wanted: &str| {
            let mut variables = command.environment.iter();
            variables.find(|(key, _)| key == wanted).map(|(_, value)| value.clone()).unwrap()
        };
        let api: SocketAddr = variable("AWS_LAMBDA_RUNTIME_API").parse().unwrap();
        let name = format!("{}|{}", variable("AWS_LAMBDA_LOG_STREAM_NAME"), variable("GENERATION"));
        let (host, (alive, ended)) = (self.host.clone(), oneshot::channel::<()>());
        let process = tokio::spawn(async move {
            let _alive = alive;
            let _ = run(api, &name, &host).await;
        });
        *self.process.lock().unwrap() = Some(process.abort_handle());
        let exit = async move {
            let _ = ended.await;
            Ok(Exit::Signal(9))
        };
        Box::pin(async move { Ok(Process { id: 1, exit: Box::pin(exit) }) })
    }

    fn signal(&self, _: u32, _: Signal) -> BoxFuture<'_, Result<(), Error>> {
        self.end_process();
        Box::pin(async move { Ok(()) })
    }

    fn kill_processes(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.end_process();
        Box::pin(async move { Ok(()) })
    }

    fn limit_cpu(&self) -> Result<(), Error> {
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        Ok(())
    }

    fn thaw(&self) -> Result<(), Error> {
        Ok(())
    }

    fn usage(&self) -> Result<Usage, Error> {
        Ok(Usage::default())
    }
}

/// A function: answers `"who"` with the environment's name and its trace header, `"hold"` when the gate is open with the
/// same, everything else with itself.
async fn run(api: SocketAddr, name: &str, host: &Host) -> std::io::Result<()> {
    let mut stream = BufReader::new(tokio::net::TcpStream::connect(api).await?);
    let mut gate = host.gate.subscribe();
    loop {
        let (headers, payload) = exchange(&mut stream, "GET /2018-06-01/runtime/invocation/next", b"").await?;
        host.begun.fetch_add(1, Ordering::SeqCst);
        if payload == b"\"hold\"" {
            let _ = gate.wait_for(|open| *open).await;
        }
        let answer = match payload.as_slice() {
            b"\"who\"" | b"\"hold\"" => format!("\"{name}\"").into_bytes(),
            b"\"headers\"" => {
                let of = |key: &str| headers.get(key).cloned().unwrap_or_default();
                let (trace, context) = (of("lambda-runtime-trace-id"), of("lambda-runtime-client-context"));
                format!("{trace}|{context}|{}", of("content-type")).into_bytes()
            }
            _ => payload,
        };
        let id = &headers["lambda-runtime-aws-request-id"];
        let line = format!("POST /2018-06-01/runtime/invocation/{id}/response");
        exchange(&mut stream, &line, &answer).await?;
    }
}

async fn exchange(
    stream: &mut BufReader<tokio::net::TcpStream>,
    line: &str,
    body: &[u8],
) -> std::io::Result<(HashMap<String, String>, Vec<u8>)> {
    let head = format!("{line} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        if let Some((key, value)) = line.trim_end().split_once(": ") {
            headers.insert(key.to_ascii_lowercase(), value.to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((headers, body))
}
