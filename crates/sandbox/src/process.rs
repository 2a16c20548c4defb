//! The engine of the driver port on namespaces, control groups and seccomp.

mod trial;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hearth_model::{BoxFuture, CodeTree, Memory, Root};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use crate::bare::Places;
use crate::cgroup::{Cgroups, Group, Hierarchies, MemoryWatch, Reach};
use crate::conversation::Conversation;
use crate::driver::{
    Class, Command, Driver, Error, Exit, Identity, Prepared, Process, Promise, Sandbox, Signal, Usage,
};
use crate::init::{part, request};
use crate::isolation::Isolation;
use crate::launcher::{Launcher, New, Standing};
use crate::promises::Ground;
use crate::scratch::{Place, Scratch};
use crate::walls::Walls;
use crate::{descendants, packet, privilege};

pub struct Config {
    /// Id of the data folder: every control group carries it (decision 14).
    pub instance: String,
    /// Where images and folders of `/tmp` lie while they are used; a disk with room for them.
    pub scratch: PathBuf,
    /// As the launcher was told.
    pub isolation: Isolation,
}

/// Makes sandboxes through the launcher.
pub struct ProcessDriver {
    shared: Arc<Shared>,
}

struct Shared {
    launcher: Launcher,
    isolation: Isolation,
    standing: Standing,
    cgroups: Cgroups,
    scratch: Scratch,
    next: AtomicU64,
    /// Numbers of the roots that the launcher has composed.
    roots: Mutex<HashMap<Arc<Root>, Arc<OnceCell<u32>>>>,
    runtime: tokio::runtime::Handle,
    /// Sandboxes, and what is left of some.
    alive: watch::Sender<usize>,
}

/// Counts as a sandbox until it is dropped.
struct Alive(Arc<Shared>);

impl Alive {
    fn new(shared: Arc<Shared>) -> Self {
        shared.alive.send_modify(|alive| *alive += 1);
        Alive(shared)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.send_modify(|alive| *alive -= 1);
    }
}

/// What a blocking task made.
async fn finish<T>(task: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or_else(|e| Err(step("prepare a sandbox")(io::Error::other(e))))
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Step { step: step.into(), source }
}

/// How Hearth runs here, asked before privileges are given up: as root, or as an ordinary user with or without a control group of its own.
pub fn way() -> &'static str {
    let delegated = || Hierarchies::detect(Reach::Own).is_ok_and(|own| own.holder("memory").is_some());
    match (privilege::holds(privilege::MAKING), delegated()) {
        (true, _) => "root",
        (false, true) => "user-delegated",
        (false, false) => "user",
    }
}

/// The host's control groups: `v1`, `v2` or `hybrid`.
pub fn cgroup_kind() -> io::Result<&'static str> {
    Ok(Hierarchies::detect(Reach::Top)?.kind())
}

impl ProcessDriver {
    /// Lets the launcher make ready for this instance. Needs a running async runtime.
    pub async fn open(launcher: Launcher, config: Config) -> Result<Self, Error> {
        let standing = launcher.settle(&config.instance).await?;
        let hierarchies = Hierarchies::detect(standing.reach()).map_err(step("look for control groups"))?;
        let shared = Shared {
            isolation: config.isolation,
            standing,
            cgroups: Cgroups::new(hierarchies, &config.instance),
            scratch: Scratch::open(&config.scratch).map_err(step("make the folder of /tmp images"))?,
            next: AtomicU64::new(1),
            roots: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            alive: watch::Sender::new(0),
            launcher,
        };
        let shared = Arc::new(shared);
        for folder in shared.scratch.leftovers().map_err(step("look for old folders of /tmp"))? {
            shared.clear(&folder).await.map_err(step("remove an old folder of /tmp"))?;
        }
        Ok(ProcessDriver { shared })
    }
}

impl Driver for ProcessDriver {
    fn prepare(&self, class: Class) -> BoxFuture<'_, Result<Box<dyn Prepared>, Error>> {
        // In a task of its own: when the caller goes away, what was begun is still ended in order.
        let confining = self.shared.runtime.spawn(self.shared.clone().confine(class));
        Box::pin(async move {
            let confined = confining.await.map_err(|e| step("prepare a sandbox")(io::Error::other(e)))??;
            Ok(Box::new(PreparedProcess { confined }) as Box<dyn Prepared>)
        })
    }

    fn promises(&self) -> Vec<Promise> {
        self.shared.ground().promises()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<Promise>, Error>> {
        Box::pin(trial::probe(self))
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        let mut alive = self.shared.alive.subscribe();
        Box::pin(async move {
            // The sender lives as long as the driver.
            let _ = alive.wait_for(|alive| *alive == 0).await;
        })
    }
}

impl Shared {
    async fn confine(self: Arc<Self>, class: Class) -> Result<Confined, Error> {
        let alive = Alive::new(self.clone());
        let root = self.root(&class.root).await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // Side by side: each is a good part of a millisecond.
        let (placing, grouping) = (self.clone(), self.clone());
        let place = tokio::task::spawn_blocking(move || placing.place(id, class.ephemeral_storage));
        let group =
            tokio::task::spawn_blocking(move || grouping.cgroups.create(id).map_err(step("make control groups")));
        let (place, (group, entrances)) = match (finish(place).await, finish(group).await) {
            (Ok(place), Ok(group)) => (place, group),
            (Ok(place), Err(error)) => {
                self.give_back(place).await;
                return Err(error);
            }
            (Err(error), group) => {
                if let Ok((group, _)) = group {
                    group.remove();
                }
                return Err(error);
            }
        };
        let (ours, theirs) = packet::pair().map_err(step("make a control socket"))?;
        let control = Conversation::begin(ours).map_err(step("open the control socket"))?;
        let greeting = control.greeting();
        let new = New { root, control: theirs.as_fd(), scratch: place.descriptor(), entrances: &entrances };
        let created = self.launcher.create(new).await;
        drop(theirs);
        let pid = match created {
            Ok(pid) => pid,
            Err(error) => {
                group.remove();
                self.give_back(place).await;
                return Err(error);
            }
        };
        let remains = Remains { pid, group, place, alive };
        let confined = Confined { control, root: class.root, remains: Some(remains), memory: None, shared: self };
        greeting.await.map_err(|_| Error::Gone)??;
        Ok(confined)
    }

    /// Makes `/tmp`. Blocking.
    fn place(&self, id: u64, ephemeral_storage: Memory) -> Result<Place, Error> {
        if self.standing.images {
            self.scratch.image(ephemeral_storage).map(Place::Image).map_err(step("make the image of /tmp"))
        } else {
            self.scratch.folder(id).map_err(step("make the folder of /tmp"))
        }
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            isolation: self.isolation,
            standing: self.standing,
            hierarchies: self.cgroups.hierarchies(),
            landlock: crate::sys::landlock_version(),
        }
    }

    /// What was `/tmp` of a sandbox that is gone. An image is gone with its last descriptor.
    async fn give_back(&self, place: Place) {
        let Place::Folder(path, _) = place else { return };
        if let Err(error) = self.clear(&path).await {
            tracing::warn!(folder = %path.display(), %error, "a folder of /tmp cannot be removed");
        }
    }

    async fn clear(&self, folder: &Path) -> io::Result<()> {
        let opened = open_path(folder).map_err(io::Error::other)?;
        self.launcher.clear(opened.as_fd()).await.map_err(io::Error::other)?;
        std::fs::remove_dir(folder)
    }

    async fn root(&self, root: &Arc<Root>) -> Result<u32, Error> {
        if !self.standing.namespaces {
            return Ok(0);
        }
        let cell = self.roots.lock().unwrap_or_else(PoisonError::into_inner).entry(root.clone()).or_default().clone();
        let number = cell.get_or_try_init(|| async {
            let skeleton = open_path(&root.skeleton)?;
            let mut binds = Vec::new();
            for bind in &root.binds {
                binds.push((open_path(&bind.source)?, bind.target.as_os_str().as_bytes().to_vec()));
            }
            self.launcher.compose(&skeleton, &binds).await
        });
        number.await.copied()
    }
}

/// A descriptor that names a place and reads nothing.
fn open_path(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::Step { step: format!("open {}", path.display()).into(), source: e.into() })
}

/// A sandbox, nobody's or somebody's. Dropping it ends it, in the background.
struct Confined {
    control: Conversation,
    root: Arc<Root>,
    /// Taken when it is dropped.
    remains: Option<Remains>,
    /// Set when it is bound.
    memory: Option<Memory>,
    shared: Arc<Shared>,
}

/// What a sandbox leaves on the host until it is taken down.
struct Remains {
    pid: u32,
    group: Group,
    /// Of `/tmp`.
    place: Place,
    alive: Alive,
}

impl Confined {
    fn remains(&self) -> Result<&Remains, Error> {
        self.remains.as_ref().ok_or(Error::Gone)
    }

    fn group(&self) -> Result<&Group, Error> {
        Ok(&self.remains()?.group)
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let Some(Remains { pid, group, place, alive }) = self.remains.take() else { return };
        let shared = self.shared.clone();
        self.shared.runtime.spawn(async move {
            let ending = shared.launcher.ending(pid);
            // A frozen process of version 1 does not die before it is thawed, and many take long without CPU.
            let _ = group.thaw();
            let _ = group.unlimit_cpu();
            let _ = shared.launcher.kill(pid).await;
            let _ = ending.await;
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
            shared.give_back(place).await;
            drop(alive);
        });
    }
}

struct PreparedProcess {
    confined: Confined,
}

impl Prepared for PreparedProcess {
    fn bind(self: Box<Self>, identity: Identity) -> BoxFuture<'static, Result<Box<dyn Sandbox>, Error>> {
        Box::pin(async move { Ok(Box::new(self.attach(identity).await?) as Box<dyn Sandbox>) })
    }
}

impl PreparedProcess {
    async fn attach(self, identity: Identity) -> Result<ProcessSandbox, Error> {
        let mut confined = self.confined;
        confined.memory = Some(identity.memory);
        confined.group()?.limit(identity.memory).map_err(step("limit memory"))?;
        let Identity { code, opt, .. } = identity;
        let code_path = code.path.clone();
        let (mut parts, mut descriptors, mut leases) = (0, Vec::new(), Vec::new());
        for (tree, part) in [(Some(code), part::TASK), (opt, part::OPT)] {
            let Some(CodeTree { path, lease }) = tree else { continue };
            if confined.shared.standing.namespaces {
                let opened = open_path(&path)?;
                descriptors.push(confined.shared.launcher.mount(confined.remains()?.pid, opened.as_fd()).await?);
                parts |= part;
            } else if part == part::OPT {
                // It would be a folder of the host.
                return Err(step("show layers at /opt without namespaces")(io::ErrorKind::Unsupported.into()));
            }
            leases.push(lease);
        }
        if let Some(MemoryWatch { counts, event }) = confined.group()?.watch_memory().map_err(step("watch memory"))? {
            parts |= part::COUNTS | if event.is_some() { part::EVENT } else { 0 };
            descriptors.push(counts);
            descriptors.extend(event);
        }
        if parts != 0 {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            confined.control.ask(request::ATTACH, &descriptors, |packet| packet.u32(parts)).await?;
        }
        let (cpu_limited, oom_kills, ports) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
        Ok(ProcessSandbox { confined, cpu_limited, oom_kills, ports, code: code_path, _trees: leases })
    }
}

struct ProcessSandbox {
    confined: Confined,
    cpu_limited: AtomicBool,
    /// As last seen.
    oom_kills: AtomicU64,
    /// Of its listening sockets: without a network namespace, the only ones that it may connect to.
    ports: Mutex<Vec<u16>>,
    code: PathBuf,
    /// What is mounted stays on disk.
    _trees: Vec<Arc<dyn std::any::Any + Send + Sync>>,
}

impl ProcessSandbox {
    async fn socket(&self, kind: u8, address: SocketAddr) -> Result<OwnedFd, Error> {
        let SocketAddr::V4(address) = address else {
            return Err(step("make a socket")(io::ErrorKind::Unsupported.into()));
        };
        let fill = |packet: packet::Writer| packet.u32(u32::from(*address.ip())).u32(u32::from(address.port()));
        let mut answer = self.confined.control.ask(kind, &[], fill).await?;
        answer.descriptors.pop().ok_or(Error::Gone)
    }
}

impl ProcessSandbox {
    async fn start(&self, kind: u8, command: Command) -> Result<Process, Error> {
        let (command, walls) = self.place(command)?;
        let written = write_command(&command, walls.as_ref()).map_err(step("write the command"))?;
        let descriptors = [written.as_fd(), command.output.as_fd()];
        let started = self.confined.control.ask(kind, &descriptors, |packet| packet).await;
        let pid = match started {
            Ok(answer) => answer.value,
            Err(Error::Step { step, source }) if step == "execute" => {
                return Err(Error::Exec { program: command.program, source });
            }
            Err(error) => return Err(error),
        };
        let event = self.confined.control.event(pid);
        let exit = async move {
            let [code, signal] = event.await.map_err(|_| Error::Gone)?;
            Ok(if signal == 0 { Exit::Code(code.cast_signed()) } else { Exit::Signal(signal.cast_signed()) })
        };
        Ok(Process { id: pid, exit: Box::pin(exit) })
    }

    /// The command as it is run, and the walls around it.
    fn place(&self, command: Command) -> Result<(Command, Option<Walls>), Error> {
        if self.confined.shared.standing.namespaces {
            return Ok((command, Some(Walls::inside())));
        }
        let Place::Folder(scratch, _) = &self.confined.remains()?.place else { return Err(Error::Gone) };
        let places = Places { root: self.confined.root.clone(), code: self.code.clone(), scratch: scratch.clone() };
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let walls = (self.confined.shared.isolation == Isolation::Landlock).then(|| places.walls(ports));
        Ok((places.command(command), walls))
    }
}

impl Sandbox for ProcessSandbox {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpListener, Error>> {
        Box::pin(async move {
            let listener = TcpListener::from(self.socket(request::LISTEN, address).await?);
            let port = listener.local_addr().map_err(step("ask a socket for its port"))?.port();
            self.ports.lock().unwrap_or_else(PoisonError::into_inner).push(port);
            Ok(listener)
        })
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, Result<TcpStream, Error>> {
        Box::pin(async move {
            if !self.dials() {
                return Err(step("dial")(io::ErrorKind::Unsupported.into()));
            }
            Ok(self.socket(request::DIAL, address).await?.into())
        })
    }

    fn dials(&self) -> bool {
        self.confined.shared.standing.namespaces
    }

    fn spawn(&self, command: Command) -> BoxFuture<'_, Result<Process, Error>> {
        Box::pin(self.start(request::SPAWN, command))
    }

    fn signal(&self, process: u32, signal: Signal) -> BoxFuture<'_, Result<(), Error>> {
        let kind = match signal {
            Signal::Terminate => request::TERMINATE,
            Signal::Kill => request::KILL_ONE,
        };
        Box::pin(async move { self.confined.control.ask(kind, &[], |packet| packet.u32(process)).await.map(drop) })
    }

    fn kill_processes(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let group = self.confined.group()?;
            group.unlimit_cpu().map_err(step("lift the limit of CPU"))?;
            self.confined.control.ask(request::KILL, &[], |packet| packet).await?;
            if self.cpu_limited.load(Ordering::Relaxed) { self.limit_cpu() } else { Ok(()) }
        })
    }

    fn limit_cpu(&self) -> Result<(), Error> {
        let memory = self.confined.memory.ok_or(Error::Gone)?;
        self.confined.group()?.limit_cpu(memory).map_err(step("limit CPU"))?;
        self.cpu_limited.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        if self.confined.group()?.freezes() {
            self.confined.group()?.freeze().map_err(step("freeze"))
        } else {
            self.confined.control.tell(request::STOP).map_err(step("freeze"))
        }
    }

    fn thaw(&self) -> Result<(), Error> {
        if self.confined.group()?.freezes() {
            self.confined.group()?.thaw().map_err(step("thaw"))
        } else {
            self.confined.control.tell(request::CONTINUE).map_err(step("thaw"))
        }
    }

    fn usage(&self) -> Result<Usage, Error> {
        let remains = self.confined.remains()?;
        if remains.group.weighs() {
            let usage = remains.group.usage().map_err(step("read usage"))?;
            if usage.oom_kills > self.oom_kills.swap(usage.oom_kills, Ordering::Relaxed) {
                // All of them are dying, which takes CPU too. The limit is back when they are gone.
                remains.group.unlimit_cpu().map_err(step("lift the limit of CPU"))?;
            }
            Ok(usage)
        } else {
            Ok(Usage { memory: descendants::memory(remains.pid), ..Usage::default() })
        }
    }
}

/// As `init` reads it: directory, program, arguments, environment, walls; each text and list with its length before it.
fn write_command(command: &Command, walls: Option<&Walls>) -> io::Result<OwnedFd> {
    let mut bytes = Vec::with_capacity(4096);
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    text(&mut bytes, &command.working_directory);
    text(&mut bytes, &command.program);
    bytes.extend_from_slice(&(command.arguments.len() as u32 + 1).to_le_bytes());
    text(&mut bytes, &command.program);
    for argument in &command.arguments {
        text(&mut bytes, argument);
    }
    bytes.extend_from_slice(&(command.environment.len() as u32).to_le_bytes());
    for (key, value) in &command.environment {
        text(&mut bytes, &format!("{key}={value}"));
    }
    let number = |bytes: &mut Vec<u8>, number: usize| bytes.extend_from_slice(&(number as u32).to_le_bytes());
    match walls {
        None => number(&mut bytes, 0),
        Some(walls) => {
            number(&mut bytes, if walls.ports.is_some() { 2 } else { 1 });
            for paths in [&walls.readable, &walls.writable] {
                number(&mut bytes, paths.len());
                paths.iter().for_each(|path| text(&mut bytes, path));
            }
            if let Some(ports) = &walls.ports {
                number(&mut bytes, ports.len());
                ports.iter().for_each(|port| number(&mut bytes, usize::from(*port)));
            }
        }
    }
    let file = rustix::fs::memfd_create("command", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes)?;
    Ok(file.into())
}
