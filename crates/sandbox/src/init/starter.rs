//! A child of the init that becomes one process of the function. It confines itself as far as that does not depend on
//! what it will execute, then waits to be told: so it can be made ahead of need, and all that takes time is behind it.
//!
//! Until it executes it runs Hearth's own code alone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags};
use rustix::thread::CapabilitySet;

use super::Confinement;
use super::command::Command;
use crate::cgroup::PROCESSES_MAX;
use crate::driver::{LOG_FD, TOLD_FD};
use crate::layers::{Layer, stands};
use crate::packet::{self, Packet, Writer};
use crate::privilege;
use crate::sys::{self, Fork, Resource};
use crate::walls::Walls;

/// Limits of a process (spec 3.1): open descriptors, locked memory and stack in bytes. Memory has none, for runtimes
/// reserve far more address space than they use.
const FILES_MAX: u64 = 1024;
/// Longest core file, bytes. Too short for one, and the only value at which the kernel does not start the host's crash
/// handler either: with 0 it would.
const CORE_MAX: u64 = 1;
const LOCKED_MAX: u64 = 64 << 10;
const STACK: u64 = 8 << 20;

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// It executes the command.
    Execute = 1,
    /// It runs one of Hearth's own trials in its place.
    Try = 2,
}

/// One that waits.
pub struct Starter {
    pub pid: i32,
    socket: OwnedFd,
    /// An error comes from here; nothing, once the command executes.
    failed: OwnedFd,
}

impl Starter {
    pub fn fork(proc: &OwnedFd, confinement: &Confinement<'_>) -> io::Result<Self> {
        let (socket, theirs) = packet::pair()?;
        let (failed, failing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match sys::fork()? {
            Fork::Parent(pid) => Ok(Starter { pid, socket, failed }),
            Fork::Child => {
                let Ok([told, failing, proc]) = sys::keep_only([theirs.as_fd(), failing.as_fd(), proc.as_fd()]) else {
                    sys::exit_now(1)
                };
                let error = run(&told, proc, confinement);
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                let _ = rustix::io::write(&failing, &number.to_le_bytes());
                sys::exit_now(127)
            }
        }
    }

    /// `given`: the descriptors of a SPAWN.
    pub fn tell(&self, purpose: Purpose, given: &[OwnedFd]) -> io::Result<()> {
        let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
        Writer::new(purpose as u8).send(self.socket.as_fd(), &given, SendFlags::empty())
    }

    /// Once it has been told: its pid when it executes, else what kept it from doing so.
    pub fn started(self) -> io::Result<i32> {
        let mut number = [0; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.failed, &mut number))? {
            0 => Ok(self.pid),
            _ => Err(io::Error::from_raw_os_error(i32::from_le_bytes(number))),
        }
    }
}

/// The child's life. Comes back only with an error.
fn run(told: &OwnedFd, proc: OwnedFd, confinement: &Confinement<'_>) -> io::Error {
    let ready = || -> io::Result<(Command, bool)> {
        confine(proc, confinement)?;
        // What is inside namespaces is the same for all; elsewhere the command says what may be touched.
        if confinement.namespaces {
            close_off(Some(&Walls::inside()), confinement)?;
        }
        let mut packet = match Packet::receive(told.as_fd(), RecvFlags::empty())? {
            Some(packet) => packet,
            // The init is gone, and the sandbox with it.
            None => sys::exit_now(1),
        };
        let command = Command::read(packet.descriptor()?)?;
        if !confinement.namespaces {
            close_off(command.walls.as_ref(), confinement)?;
        }
        let output = packet.descriptor()?;
        rustix::stdio::dup2_stdout(&output)?;
        rustix::stdio::dup2_stderr(&output)?;
        if let Ok(log) = packet.descriptor() {
            sys::inherit_as(&log, LOG_FD)?;
        }
        if let Ok(told) = packet.descriptor() {
            sys::inherit_as(&told, TOLD_FD)?;
        }
        rustix::process::chdir(&*command.directory)?;
        Ok((command, packet.kind == Purpose::Try as u8))
    };
    match ready() {
        Ok((command, true)) => command.program.try_out(),
        Ok((command, false)) => command.program.execute(),
        Err(e) => e,
    }
}

fn confine(proc: OwnedFd, confinement: &Confinement<'_>) -> io::Result<()> {
    // When memory runs out, these processes go and never the init.
    let score = OFlags::WRONLY | OFlags::CLOEXEC;
    let score = rustix::fs::openat(&proc, "self/oom_score_adj", score, Mode::empty())?;
    rustix::io::write(&score, b"1000")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::process::setsid()?;
    sys::limit(Resource::Files, FILES_MAX)?;
    sys::limit(Resource::Core, if stands(Layer::Core) { CORE_MAX } else { u64::MAX })?;
    sys::limit(Resource::Locked, LOCKED_MAX)?;
    sys::limit_softly(Resource::Stack, STACK)?;
    sys::reset_signals();
    if let Some(user) = confinement.user {
        // Counted in this namespace alone, by kernels since 5.14.
        sys::limit(Resource::Processes, PROCESSES_MAX.into())?;
        if stands(Layer::Privileges) {
            sys::become_user(user, user)?;
        }
    }
    if stands(Layer::Privileges) {
        privilege::retain(CapabilitySet::empty())?;
    }
    sys::inherit_nothing()
}

/// Landlock and the filters, which go last: they let nobody change them.
fn close_off(walls: Option<&Walls>, confinement: &Confinement<'_>) -> io::Result<()> {
    if let Some(walls) = walls.filter(|_| stands(Layer::Walls)) {
        walls.raise()?;
    }
    for filter in confinement.filters.iter().filter(|_| stands(Layer::Filter)) {
        sys::apply_filter(filter)?;
    }
    Ok(())
}
