//! The launcher: the binary re-executed, before any thread exists, as a small process with one thread that makes
//! sandboxes on request (decision 4). Only it needs the privileges that making them takes.
//!
//! This file is the server's side: starting it, and a handle to ask it. `serve` is the launcher's own side.

mod compose;
mod create;
mod serve;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};

use tokio::sync::{oneshot, watch};

use crate::cgroup::Entrances;
use crate::conversation::Conversation;
use crate::driver::Error;
use crate::packet;

/// Name under which the re-executed binary knows its role.
const ROLE: &str = "hearth-launcher";
/// Where the launcher finds its socket.
const SOCKET: i32 = 3;
/// `oom_score_adj` of server and launcher.
const SPARED: &str = "-900";

/// Requests, by the first byte of a packet; a tag follows.
mod request {
    /// Compose a root: descriptors skeleton, sources; targets as texts. Answer: its number.
    pub const COMPOSE: u8 = 1;
    /// Create a sandbox: root number, two host uids, whether there is a control group of version 2; descriptors control,
    /// scratch image, that group, `tasks` of groups of version 1. Answer: pid.
    pub const CREATE: u8 = 2;
    /// A read-only, detached mount of a directory for the sandbox with this pid. Answer: its descriptor.
    pub const MOUNT: u8 = 3;
    /// Kill a sandbox by the pid of its init.
    pub const KILL: u8 = 4;
}

/// Called first thing in `main`: when this process was started as the launcher, it is that until it ends.
pub fn main_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == ROLE) {
        let served = serve::run(crate::sys::take_inherited(SOCKET));
        std::process::exit(i32::from(served.is_err()));
    }
}

/// What a sandbox is made of.
pub(crate) struct New<'a> {
    /// Number of a composed root.
    pub root: u32,
    /// Of the init and of the function, on the host.
    pub uids: [u32; 2],
    pub control: BorrowedFd<'a>,
    /// Of `/tmp`.
    pub image: BorrowedFd<'a>,
    pub entrances: &'a Entrances,
}

/// A started launcher whose server is not yet asynchronous.
pub struct Started {
    socket: OwnedFd,
    child: Child,
}

/// Starts the launcher. Call it before any thread exists.
pub fn start() -> io::Result<Started> {
    // When the host runs out of memory, server and launcher go last; functions go first (`init`). Only who has the
    // privilege may say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", SPARED);
    let (ours, theirs) = packet::pair()?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0(ROLE).env_clear().stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    // A signal to the server's group (Ctrl-C in a terminal) is the server's to answer: sandboxes live until it has
    // drained. The launcher ends when the socket does.
    command.process_group(0);
    let child = crate::sys::hand_over(command, theirs.as_raw_fd(), SOCKET).spawn()?;
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
        let mut descriptors = vec![new.control, new.image];
        descriptors.extend(unified);
        descriptors.extend(new.entrances.tasks.iter().map(AsFd::as_fd));
        let fill = |packet: packet::Writer| {
            packet.u32(new.root).u32(new.uids[0]).u32(new.uids[1]).u32(u32::from(unified.is_some()))
        };
        let answer = self.conversation.ask(request::CREATE, &descriptors, fill).await;
        Ok(answer.map_err(launcher_gone)?.value)
    }

    /// A read-only, detached mount of a directory for the sandbox whose init has this pid.
    pub(crate) async fn mount(&self, pid: u32, directory: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
        let answer = self.conversation.ask(request::MOUNT, &[directory], |packet| packet.u32(pid)).await;
        answer.map_err(launcher_gone)?.descriptors.pop().ok_or(Error::LauncherGone)
    }

    pub(crate) async fn kill(&self, pid: u32) -> Result<(), Error> {
        let answer = self.conversation.ask(request::KILL, &[], |packet| packet.u32(pid)).await;
        answer.map(drop).map_err(launcher_gone)
    }

    /// Ready when the init with this pid has been reaped.
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
