//! The engine of the driver port on namespaces, control groups and seccomp.

mod sandbox;
mod trial;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hearth_model::{BoxFuture, Memory, Root};
use rustix::fs::{Mode, OFlags};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use crate::cgroup::{Cgroups, Group, Hierarchies, MemoryWatch, Reach};
use crate::conversation::Conversation;
use crate::driver::{Class, Command, Driver, Error, Exit, Prepared, Process, Promise};
use crate::init::{part, request};
use crate::isolation::Isolation;
use crate::launcher::{Launcher, New, Standing};
use crate::promises::Ground;
use crate::scratch::{Place, Scratch};
use crate::tunnel::Tunnel;
use crate::walls::Walls;
use crate::{packet, privilege};
use sandbox::PreparedProcess;

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

/// A root, and the inode of its folder: a tree that the cache lost and has again is another one.
type Composed = (Arc<Root>, u64);

struct Shared {
    launcher: Launcher,
    isolation: Isolation,
    standing: Standing,
    cgroups: Cgroups,
    scratch: Scratch,
    next: AtomicU64,
    /// Numbers of the roots that the launcher has composed.
    roots: Mutex<HashMap<Composed, Arc<OnceCell<u32>>>>,
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

    fn leads_out(&self) -> bool {
        self.shared.standing.tunnels
    }

    fn starts_ahead(&self) -> bool {
        // Elsewhere walls are raised around the function's own folders, which nobody knows yet.
        self.shared.standing.namespaces
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
                self.give_back(place.into_folder()).await;
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
                self.give_back(place.into_folder()).await;
                return Err(error);
            }
        };
        let remains = Remains { pid, group, scratch: place.into_folder(), alive };
        let mut confined = Confined {
            control,
            root: class.root,
            remains: Some(remains),
            memory: None,
            listeners: Vec::new(),
            tunnel: None,
            shared: self,
        };
        let greeting = greeting.await.map_err(|_| Error::Gone)??;
        let tunnel = greeting.descriptors.into_iter().next();
        confined.tunnel = tunnel.map(Tunnel::new).transpose().map_err(step("open the tunnel"))?;
        confined.watch_memory().await?;
        if !class.listeners.is_empty() {
            let listeners = confined.listen(&class.listeners).await?;
            confined.listeners = class.listeners.into_iter().zip(listeners).collect();
        }
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

    /// The folder that was `/tmp` of a sandbox that is gone.
    async fn give_back(&self, scratch: Option<PathBuf>) {
        let Some(path) = scratch else { return };
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
        let skeleton = open_path(&root.skeleton)?;
        // What was composed of a tree that is gone is empty now.
        let inode = rustix::fs::fstat(&skeleton).map_err(|e| step("look at a root")(e.into()))?.st_ino;
        let key = (root.clone(), inode);
        let cell = self.roots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        let number = cell.get_or_try_init(|| async {
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
    /// Those of its class, by the address that was asked for.
    listeners: Vec<(SocketAddr, TcpListener)>,
    /// Until somebody serves it.
    tunnel: Option<Tunnel>,
    shared: Arc<Shared>,
}

/// What a sandbox leaves on the host until it is taken down.
struct Remains {
    pid: u32,
    group: Group,
    /// The folder that is `/tmp`, where no image is.
    scratch: Option<PathBuf>,
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

impl Confined {
    /// Lets the init hear when memory runs out.
    async fn watch_memory(&self) -> Result<(), Error> {
        let watch = self.group()?.watch_memory().map_err(step("watch memory"))?;
        let Some(MemoryWatch { counts, event }) = watch else { return Ok(()) };
        let parts = part::COUNTS | if event.is_some() { part::EVENT } else { 0 };
        let descriptors: Vec<OwnedFd> = [counts].into_iter().chain(event).collect();
        self.attach(parts, &descriptors).await
    }

    /// Starts a process, or a trial in its place.
    async fn start(&self, kind: u8, command: Command, walls: Option<&Walls>) -> Result<Process, Error> {
        let written = sandbox::write_command(&command, walls).map_err(step("write the command"))?;
        let descriptors: Vec<_> = [written.as_fd(), command.output.as_fd()]
            .into_iter()
            .chain(command.log.as_ref().map(AsFd::as_fd))
            .chain(command.told.as_ref().map(AsFd::as_fd))
            .collect();
        let started = self.control.ask(kind, &descriptors, |packet| packet).await;
        let pid = match started {
            Ok(answer) => answer.value,
            Err(Error::Step { step, source }) if step == "execute" => {
                return Err(Error::Exec { program: command.program, source });
            }
            Err(error) => return Err(error),
        };
        let event = self.control.event(pid);
        let exit = async move {
            let [code, signal] = event.await.map_err(|_| Error::Gone)?;
            Ok(if signal == 0 { Exit::Code(code.cast_signed()) } else { Exit::Signal(signal.cast_signed()) })
        };
        Ok(Process { id: pid, exit: Box::pin(exit) })
    }

    async fn attach(&self, parts: u32, descriptors: &[OwnedFd]) -> Result<(), Error> {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.control.ask(request::ATTACH, &descriptors, |packet| packet.u32(parts)).await.map(drop)
    }

    async fn listen(&self, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
        let addresses: Vec<SocketAddrV4> = addresses.iter().copied().map(version_4).collect::<Result<_, _>>()?;
        let fill = |packet: packet::Writer| {
            let packet = packet.u32(addresses.len() as u32);
            addresses.iter().fold(packet, |packet, address| write_address(packet, *address))
        };
        let answer = self.control.ask(request::LISTEN, &[], fill).await?;
        if answer.descriptors.len() != addresses.len() {
            return Err(Error::Gone);
        }
        Ok(answer.descriptors.into_iter().map(TcpListener::from).collect())
    }

    /// Begins to end it; once.
    fn take_down(&mut self) -> Option<JoinHandle<()>> {
        let Remains { pid, group, scratch, alive } = self.remains.take()?;
        let shared = self.shared.clone();
        Some(self.shared.runtime.spawn(async move {
            let ending = shared.launcher.ending(pid);
            // A frozen process of version 1 does not die before it is thawed, and many take long without CPU.
            let _ = group.thaw();
            let _ = group.unlimit_cpu();
            let _ = shared.launcher.kill(pid).await;
            let _ = ending.await;
            let _ = tokio::task::spawn_blocking(move || group.remove()).await;
            shared.give_back(scratch).await;
            drop(alive);
        }))
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        self.take_down();
    }
}

fn version_4(address: SocketAddr) -> Result<SocketAddrV4, Error> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(step("make a socket")(io::ErrorKind::Unsupported.into())),
    }
}

fn write_address(packet: packet::Writer, address: SocketAddrV4) -> packet::Writer {
    packet.u32(u32::from(*address.ip())).u32(u32::from(address.port()))
}
