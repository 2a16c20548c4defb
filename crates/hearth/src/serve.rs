//! The composition root: makes every room, gives each what it needs, and ends them in order.
//!
//! ```text
//!   store ──► images ──► worker ──► placement ──┐
//!     ├─────► control ──────────────────────────┼──► frontend (which is also the door inside environments)
//!     └─────► events ◄──────────────────────────┘
//! ```
//!
//! The order of the end is written once, in [`Running::end`]: stop accepting, end prepared sandboxes, drain, shut
//! environments down, flush logs, close.

mod banner;
mod courier;
mod dependents;
mod kinesis;
mod operator;
pub mod owner;
mod probe;
mod rooms;
mod s3;
mod signals;
mod signer;
mod store;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hearth_images::Closed;
use hearth_mappings::Mappings;
use hearth_queues::Queues;
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::{launcher, process};
use hearth_schedules::Schedules;
use hearth_store::DataDir;
use hearth_tls::Certificate;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

use crate::cli::{Failure, ServeArguments};
use crate::settings::{self, Host, Loaded, LogFormat, ProcessVariables, Settings, Sources};
use rooms::{Made, Rooms};
use signals::Signals;

/// For connections and sandboxes that do not end by themselves, once nothing is left for them to do.
const LINGER: Duration = Duration::from_secs(2);
/// For environments to end. Extensions have two seconds to end in order, and what they leave must be killed.
const ENVIRONMENTS_END: Duration = Duration::from_secs(5);

/// Serves until it is told to end.
pub fn run(arguments: ServeArguments) -> Result<(), Failure> {
    let sources = Sources {
        flags: arguments.flags,
        config: arguments.config,
        variables: &ProcessVariables,
        host: Host::of(&ProcessVariables),
    };
    let Loaded { settings, file, warnings } = settings::load(sources).map_err(|e| Failure::Usage(e.to_string()))?;
    begin_log(&settings);
    if let Some(file) = file {
        tracing::info!(file = %file.display(), "settings were read");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    refuse_others(settings.listen)?;
    // What needs root, where this is root: a low port, folders, the launcher. Then it is root no more, before anything is
    // read that others wrote. The launcher must be made, and the user changed, while there is one thread.
    let listener = std::net::TcpListener::bind(settings.listen)
        .map_err(|e| Failure::No(format!("cannot listen on {}: {e}", settings.listen)))?;
    let certificate = certificate(&settings)?;
    let owner = owner::choose(&settings)?;
    let closed = owner.map(|_| Closed::hold()).unwrap_or_default();
    let host = Made { way: process::way(), launcher: start_launcher(&settings, owner)?, closed };
    owner::become_it(owner, &settings)?;
    let folder = DataDir::open(&settings.data_dir).map_err(|e| Failure::No(e.to_string()))?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("hearth").build()?;
    let served = runtime.block_on(serve(&settings, &folder, host, Door { listener, certificate }));
    // What still runs is cut off; the launcher ends with its last handle and is waited for.
    runtime.shutdown_timeout(LINGER);
    served
}

/// Where the server is reached.
struct Door {
    listener: std::net::TcpListener,
    certificate: Option<Certificate>,
}

fn certificate(settings: &Settings) -> Result<Option<Certificate>, Failure> {
    match (&settings.tls_certificate, &settings.tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Certificate::load(certificate, key).map(Some).map_err(|e| Failure::No(format!("cannot speak TLS: {e}")))
        }
        _ => Err(Failure::Usage("tls.certificate and tls.key go together: set both".to_owned())),
    }
}

fn start_launcher(settings: &Settings, owner: Option<Owner>) -> Result<launcher::Started, Failure> {
    let own = || Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    let orders = launcher::Orders {
        isolation: settings.isolation,
        uids: settings.sandbox_uids.0.clone(),
        run: owner::meeting_place(owner, settings.isolation)?,
        server: owner.unwrap_or_else(own),
    };
    launcher::start(&orders).map_err(|e| Failure::No(format!("cannot start the launcher: {e}")))
}

async fn serve(
    settings: &Settings,
    folder: &DataDir,
    host: Made,
    Door { listener, certificate }: Door,
) -> Result<(), Failure> {
    let mut signals = Signals::install()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let (ending, ended) = watch::channel(false);
    let making = Rooms::make(settings, folder, host, address, ended.clone());
    let rooms = tokio::select! {
        rooms = making => rooms?,
        () = signals.next() => return Ok(()),
    };
    let mut running = Running::begin(rooms, (listener, certificate), ending, ended);
    banner::print(settings, folder, address, &running.rooms);
    let launcher_ended = tokio::select! {
        () = signals.next() => None,
        status = &mut running.rooms.launcher_ended => Some(status),
    };
    let Some(status) = launcher_ended else {
        running.end(settings.shutdown_drain, signals).await;
        return Ok(());
    };
    tracing::error!(%status, "the launcher has ended, and every sandbox with it");
    // Nothing is left that could finish.
    running.end(Duration::ZERO, signals).await;
    Err(Failure::No(format!("the launcher has ended ({status}), and every sandbox with it; start the server again")))
}

/// Everything that goes on by itself.
struct Running {
    rooms: Rooms,
    ending: watch::Sender<bool>,
    door: JoinSet<()>,
    background: JoinSet<()>,
}

impl Running {
    fn begin(
        rooms: Rooms,
        (listener, certificate): (TcpListener, Option<Certificate>),
        ending: watch::Sender<bool>,
        ended: watch::Receiver<bool>,
    ) -> Self {
        let mut background = JoinSet::new();
        background.spawn(rooms.control.clone().run());
        if let Some(objects) = rooms.objects.clone() {
            background.spawn(objects.run());
        }
        if let Some(queues) = rooms.queues.clone() {
            background.spawn(queues.run());
        }
        background.spawn(rooms.placement.clone().run());
        background.spawn(rooms.pools.clone().run());
        background.spawn(rooms.cloudwatch.clone().run());
        background.spawn(rooms.events.clone().run(Arc::new(rooms.placement.clone())));
        rooms.mappings.iter().for_each(|mappings| mappings.run(Arc::new(rooms.placement.clone())));
        rooms.schedules.iter().for_each(Schedules::run);
        let images = rooms.images.clone();
        background.spawn(async move { images.prepare().await });
        let mut door = JoinSet::new();
        let frontend = rooms.frontend.clone();
        door.spawn(async move { frontend.serve(listener, certificate, told(ended)).await });
        Running { rooms, ending, door, background }
    }

    /// The order of the end. A second signal skips what is left of the drain.
    async fn end(mut self, drain: Duration, mut signals: Signals) {
        tracing::info!(?drain, "ending: running invocations may finish");
        let _ = self.ending.send(true);
        self.rooms.pools.close();
        self.rooms.schedules.iter().for_each(Schedules::stop);
        self.rooms.mappings.iter().for_each(Mappings::stop);
        self.rooms.queues.iter().for_each(Queues::end);
        let deadline = Instant::now() + drain;
        self.rooms.events.stop();
        tokio::select! {
            () = self.rooms.placement.drain(deadline) => {}
            () = signals.next() => tracing::warn!("ending at once"),
        }
        if self.rooms.placement.environments() > 0 {
            tracing::warn!("invocations that still run are ended");
        }
        self.rooms.worker.shut_down_all();
        let _ = tokio::time::timeout(ENVIRONMENTS_END, self.rooms.worker.closed()).await;
        let _ = tokio::time::timeout(LINGER, self.rooms.driver.closed()).await;
        let _ = tokio::time::timeout(LINGER, async { while self.door.join_next().await.is_some() {} }).await;
        let _ = tokio::time::timeout(LINGER, self.rooms.cloudwatch.end()).await;
        if let Some(schedules) = &self.rooms.schedules {
            let _ = tokio::time::timeout(LINGER, schedules.stopped()).await;
        }
        // What is not written by then is found taken at the next start, and run again.
        let _ = tokio::time::timeout(LINGER, self.rooms.events.stopped()).await;
        if let Some(mappings) = &self.rooms.mappings {
            let _ = tokio::time::timeout(LINGER, mappings.stopped()).await;
        }
        self.background.shutdown().await;
        self.rooms.inside.close();
        self.rooms.logs.close().await;
        tracing::info!("ended");
    }
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Failure {
    move |error| Failure::No(format!("cannot {what}: {error}"))
}

async fn told(mut ended: watch::Receiver<bool>) {
    // The sender lives until the end.
    let _ = ended.wait_for(|ended| *ended).await;
}

/// Every signature is accepted in this mode, so nobody else may reach the door.
fn refuse_others(listen: SocketAddr) -> Result<(), Failure> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "will not listen on {listen}: any signature is accepted so far, so whoever reaches the address could run code \
         here. Use a loopback address such as 127.0.0.1"
    )))
}

fn begin_log(settings: &Settings) {
    use std::io::IsTerminal;
    // The level is one of the words that a filter knows. What the protocol of S3 logs by itself are whole requests.
    let filter = EnvFilter::new(format!("{},s3s=off", settings.log_level));
    // A reader of stderr that goes away ends nothing: what cannot be written is not complained about there.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Each environment takes a few descriptors; the usual soft limit of 1,024 is made for less.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
