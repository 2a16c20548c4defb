//! The port to confinement (decision 5). Nothing above it knows a namespace or a cgroup.

use std::borrow::Cow;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hearth_model::{BoxFuture, CodeTree, Memory, Root};

use crate::tunnel::Tunnel;

/// What a sandbox must be before it is known whose it will be. Prepared sandboxes of one class are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    pub root: Arc<Root>,
    /// Size of `/tmp`.
    pub ephemeral_storage: Memory,
    /// Where it listens from the start: what [`Sandbox::listen`] is asked for there is at hand.
    pub listeners: Vec<SocketAddr>,
}

/// Whose a sandbox becomes.
#[derive(Clone)]
pub struct Identity {
    pub memory: Memory,
    /// Appears at `/var/task`, read-only; what the root has there, when there is none.
    pub code: Option<CodeTree>,
    /// Appears at `/opt`, read-only.
    pub opt: Option<CodeTree>,
}

/// A process to start in a sandbox, as its unprivileged user.
pub struct Command {
    /// Absolute path inside the sandbox.
    pub program: String,
    /// Without the program's own name.
    pub arguments: Vec<String>,
    /// The whole environment, `KEY`, `value`; nothing is inherited.
    pub environment: Vec<(String, String)>,
    pub working_directory: String,
    /// Becomes descriptors 1 and 2; descriptor 0 is `/dev/null`.
    pub output: OwnedFd,
    /// Becomes descriptor [`LOG_FD`].
    pub log: Option<OwnedFd>,
    /// Becomes descriptor [`TOLD_FD`]. Only beside a `log`.
    pub told: Option<OwnedFd>,
}

/// Where a process finds the pipe for its log records: the number that AWS's environments have (spec 3.2).
pub const LOG_FD: i32 = 62;
/// Where a process that is started ahead of need is told whose it is.
pub const TOLD_FD: i32 = 61;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// A started process.
pub struct Process {
    /// Names it to its own sandbox.
    pub id: u32,
    /// Ready when the process has ended; `Err` when the sandbox itself went away.
    pub exit: BoxFuture<'static, Result<Exit, Error>>,
}

/// What can be said to a started process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: it may end in order.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Memory of a sandbox as its function is charged for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Anonymous, shared and kernel memory; not page cache. Bytes.
    pub memory: u64,
    /// Processes killed for want of memory since the sandbox was made.
    pub oom_kills: u64,
}

/// One thing a sandbox is meant to hold, and whether it does on this host (`hearth doctor`).
#[derive(Clone, Debug)]
pub struct Promise {
    /// `memory`, `cpu`, `processes`, `tmp`, `network`, `filesystem`, `uid`, `seccomp`, `landlock`, `freeze`.
    pub name: &'static str,
    pub held: bool,
    /// What holds it, such as `cgroup v1 memory`.
    pub by: String,
    /// Why it is not held; empty when it is.
    pub why: String,
    /// What an operator can do about it; empty when it is held.
    pub fix: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step}: {source}")]
    Step {
        /// The step of making or using a sandbox that failed, such as `mount /tmp`.
        step: Cow<'static, str>,
        #[source]
        source: std::io::Error,
    },
    /// The program of a [`Command`] could not be executed; the text is as the kernel's error reads.
    #[error("fork/exec {program}: {source}")]
    Exec {
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// This host lets nothing be confined.
    #[error("functions cannot run confined on this host ({reason}); see hearth doctor")]
    Unconfined { reason: Arc<str> },
    #[error("the sandbox is gone")]
    Gone,
    #[error("the launcher is gone")]
    LauncherGone,
}

/// Confines processes. Two steps, so that the first can be done ahead of need: a pool of size zero is the same code.
pub trait Driver: Send + Sync + 'static {
    /// An empty, confined, networked sandbox of `class`.
    fn prepare(&self, class: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>>;

    /// Whether networks of sandboxes have a way out, to whoever serves it ([`Sandbox::tunnel`]).
    fn leads_out(&self) -> bool;

    /// Whether a process can be started in a sandbox that is nobody's yet ([`Prepared::spawn`]).
    fn starts_ahead(&self) -> bool;

    /// What should hold on this host.
    fn promises(&self) -> Vec<Promise>;

    /// What does: each promise was tried in a sandbox. Takes a second.
    fn probe(&self) -> BoxFuture<'_, Result<Vec<Promise>, Error>>;

    /// Ready when no sandbox is left, nor anything of one on the host. For the end, when no more are made.
    fn closed(&self) -> BoxFuture<'_, ()>;
}

/// A sandbox that is nobody's yet. Dropping it ends it, in the background.
pub trait Prepared: Send + Sync + 'static {
    /// Starts a process ahead of need. It has nothing of a function: neither its code nor a limit of memory.
    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>>;

    /// Gives it its identity; from now on it serves one function version until it ends.
    fn bind(self: Box<Self>, identity: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>>;

    /// Ends it. Ready when it holds nothing any more.
    fn end(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A bound sandbox. Dropping it kills every process in it and returns all it took, in the background.
pub trait Sandbox: Send + Sync + 'static {
    /// A listening socket made inside (decision 2), non-blocking. Those of its class it gives away once; later ones are new.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpListener, Error>>;

    /// A connected socket made inside, non-blocking.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpStream, Error>>;

    /// Whether sockets that are dialled stay inside. Where they would reach the host, nothing is dialled.
    fn dials(&self) -> bool;

    /// The other end of the way out of its network. Taken once; `None` where there is none. Until it is served, what the
    /// sandbox sends waits or is lost.
    fn tunnel(&self) -> Option<Tunnel>;

    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>>;

    /// Signals a started process and its children that are still in its process group. One that has ended gets nothing.
    fn signal(&self, process: u32, signal: Signal) -> BoxFuture<'_, Result<(), Error>>;

    /// Kills every process but the sandbox's own init; `/tmp` stays. For RESET (spec 3.3).
    fn kill_processes(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// CPU in proportion to memory from now on; until the first call there is no quota (init is not held back).
    fn limit_cpu(&self) -> Result<(), Error>;

    /// Stops scheduling. Cheap (about 10 us); returns when asked for, not when the last thread has stopped.
    fn freeze(&self) -> Result<(), Error>;

    fn thaw(&self) -> Result<(), Error>;

    fn usage(&self) -> Result<Usage, Error>;
}
