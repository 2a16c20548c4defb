//! The launcher: the binary re-executed, before any thread exists, as a small process with one thread that makes
//! sandboxes on request (decision 4). Only it needs the privileges that making them takes.
//!
//! This file is the server's side: starting it, and a handle to ask it. `serve` is the launcher's own side.

mod compose;
mod create;
mod network;
mod place;
mod proc;
pub(crate) mod request;
mod serve;
mod standing;
mod views;

use std::ffi::OsString;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use tokio::sync::{oneshot, watch};

use crate::cgroup::Entrances;
use crate::conversation::Conversation;
use crate::driver::Error;
use crate::isolation::Isolation;
use crate::packet;
use crate::privilege::Owner;

pub(crate) use network::TUNNEL;
pub(crate) use standing::Standing;

/// Name under which the re-executed binary knows its role.
const ROLE: &str = "hearth-launcher";
/// Where the launcher finds its socket.
const SOCKET: i32 = 3;
/// `oom_score_adj` of the server.
const SPARED: &str = "-900";

/// Called first thing in `main`: when this process was started as the launcher, it is that until it ends.
pub fn main_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == ROLE) {
        let orders = Orders::read(std::env::args_os().skip(1));
        let served = orders.and_then(|orders| serve::run(crate::sys::take_inherited(SOCKET), orders));
        std::process::exit(i32::from(served.is_err()));
    }
}

/// What the launcher is told when it is started, and never again.
#[derive(Clone, Debug)]
pub struct Orders {
    pub isolation: Isolation,
    /// Host uids for sandboxes, two for each. The first pair is left out: the first uid may be the server's.
    pub uids: RangeInclusive<u32>,
    /// Where instances of this host, or of this user, meet: `/run/hearth`.
    pub run: PathBuf,
    /// Whom control groups are given to; whose the server is from now on.
    pub server: Owner,
}

impl Orders {
    fn write(&self) -> [OsString; 6] {
        let Orders { isolation, uids, run, server } = self;
        let number = |number: &u32| OsString::from(number.to_string());
        let (first, last) = (number(uids.start()), number(uids.end()));
        [isolation.as_str().into(), first, last, run.into(), number(&server.uid), number(&server.gid)]
    }

    fn read(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let mut next = || arguments.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
        let number = |text: OsString| {
            text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let isolation = next()?.to_str().and_then(Isolation::parse).ok_or(io::ErrorKind::InvalidInput)?;
        let uids = number(next()?)?..=number(next()?)?;
        let run = next()?.into();
        Ok(Orders { isolation, uids, run, server: Owner { uid: number(next()?)?, gid: number(next()?)? } })
    }
}

/// What a sandbox is made of.
pub(crate) struct New<'a> {
    /// Number of a composed root.
    pub root: u32,
    pub control: BorrowedFd<'a>,
    /// Of `/tmp`: an image or a folder, as the launcher's standing says.
    pub scratch: BorrowedFd<'a>,
    pub entrances: &'a Entrances,
}

/// A started launcher whose server is not yet asynchronous.
pub struct Started {
    socket: OwnedFd,
    child: Child,
}

/// Starts the launcher. Call it before any thread exists, and before privileges are given up.
pub fn start(orders: &Orders) -> io::Result<Started> {
    let (ours, theirs) = packet::pair()?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .arg0(ROLE)
        .args(orders.write())
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    #[cfg(feature = "weaken")]
    crate::layers::weaken::tell(&mut command);
    // A signal to the server's group (Ctrl-C in a terminal) is the server's to answer: sandboxes live until it has
    // drained. The launcher ends when the socket does.
    command.process_group(0);
    let child = crate::sys::hand_over(command, theirs.as_raw_fd(), SOCKET).spawn()?;
    // When the host runs out of memory, the server goes last and functions go first (`init`). Only who has the privilege
    // may say so. Not before the launcher exists: what its children begin with is the least that they may ask for.
    let _ = std::fs::write("/proc/self/oom_score_adj", SPARED);
    Ok(Started { socket: ours, child })
}

/// The handle: clones share one launcher, which ends (and every sandbox with it) when the last is dropped.
#[derive(Clone)]
pub struct Launcher {
    conversation: Conversation,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Started {
    /// Begins to listen to the launcher. Needs a running async runtime.
    pub fn attach(self) -> io::Result<Launcher> {
        let Started { socket, mut child } = self;
        let (told, ended) = watch::channel(None);
        tokio::task::spawn_blocking(move || {
            if let Ok(status) = child.wait() {
                tracing::info!(%status, "the launcher has ended");
                let _ = told.send(Some(status));
            }
        });
        Ok(Launcher { conversation: Conversation::begin(socket)?, ended })
    }
}

impl Launcher {
    /// Ready when the launcher has ended, with how. Every sandbox has ended with it, and no other can be made: only a
    /// new server, with the privileges that it starts with, can start another.
    pub fn ended(&self) -> impl Future<Output = ExitStatus> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await.map(|status| *status) {
                Ok(Some(status)) => status,
                // It could not be waited for, and so not be told from one that lives.
                _ => std::future::pending().await,
            }
        }
    }

    /// The first request: makes ready for this instance. Answers what the launcher can do here.
    pub(crate) async fn settle(&self, instance: &str) -> Result<Standing, Error> {
        let answer = self.conversation.ask(request::SETTLE, &[], |packet| packet.bytes(instance.as_bytes())).await;
        Ok(Standing::from_bits(answer.map_err(launcher_gone)?.value))
    }

    /// Composes a root of a skeleton and folders on it; answers its number.
    pub(crate) async fn compose(&self, skeleton: &OwnedFd, binds: &[(OwnedFd, Vec<u8>)]) -> Result<u32, Error> {
        let mut descriptors = vec![skeleton.as_fd()];
        descriptors.extend(binds.iter().map(|(source, _)| source.as_fd()));
        let targets = |packet| binds.iter().fold(packet, |packet: packet::Writer, (_, target)| packet.bytes(target));
        let answer = self.conversation.ask(request::COMPOSE, &descriptors, targets).await;
        Ok(answer.map_err(launcher_gone)?.value)
    }

    /// Answers the pid of the sandbox's init.
    pub(crate) async fn create(&self, new: New<'_>) -> Result<u32, Error> {
        let unified = new.entrances.unified.as_ref().map(AsFd::as_fd);
        let mut descriptors = vec![new.control, new.scratch];
        descriptors.extend(unified);
        descriptors.extend(new.entrances.folders.iter().map(AsFd::as_fd));
        let fill = |packet: packet::Writer| packet.u32(new.root).u32(u32::from(unified.is_some()));
        let answer = self.conversation.ask(request::CREATE, &descriptors, fill).await;
        Ok(answer.map_err(launcher_gone)?.value)
    }

    /// A read-only, detached mount of a directory for the sandbox whose init has this pid.
    pub(crate) async fn mount(&self, pid: u32, directory: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
        let answer = self.conversation.ask(request::MOUNT, &[directory], |packet| packet.u32(pid)).await;
        answer.map_err(launcher_gone)?.descriptors.pop().ok_or(Error::LauncherGone)
    }

    /// Empties a folder of `/tmp` whose sandbox has ended, whoever owns what is in it.
    pub(crate) async fn clear(&self, folder: BorrowedFd<'_>) -> Result<(), Error> {
        let answer = self.conversation.ask(request::CLEAR, &[folder], |packet| packet).await;
        let pid = answer.map_err(launcher_gone)?.value;
        self.ending(pid).await.map(drop).map_err(|_| Error::LauncherGone)
    }

    pub(crate) async fn kill(&self, pid: u32) -> Result<(), Error> {
        let answer = self.conversation.ask(request::KILL, &[], |packet| packet.u32(pid)).await;
        answer.map(drop).map_err(launcher_gone)
    }

    /// Ready when the launcher's child with this pid has been reaped.
    pub(crate) fn ending(&self, pid: u32) -> oneshot::Receiver<[u32; 2]> {
        self.conversation.event(pid)
    }
}

fn launcher_gone(error: Error) -> Error {
    match error {
        Error::Gone => Error::LauncherGone,
        other => other,
    }
}
