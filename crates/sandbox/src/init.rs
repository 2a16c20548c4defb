//! The sandbox's trusted init: PID 1, a fork of the launcher, one thread.
//!
//! Makes sockets inside on request (decision 2), mounts the code, starts the function's processes as its user, reaps,
//! and says who ended. It lives as long as its control socket has another end. The first of those processes it makes
//! ready at once (`starter`), while the server does other things, or before it is known whose the sandbox will be.

pub(crate) mod command;
mod starter;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::mount::MoveMountFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use seccompiler::BpfProgram;

use crate::descendants;
use crate::layers::{Layer, stands};
use crate::packet::{Packet, Writer, answer};
use crate::sys;
use starter::{Purpose, Starter};

/// Requests, by the first byte of a packet; a tag follows.
pub mod request {
    /// How many addresses, and each with its port. Answer: a descriptor each.
    pub const LISTEN: u8 = 1;
    /// Address, port. Answer: a descriptor.
    pub const DIAL: u8 = 2;
    /// What comes along (a sum of [`super::part`]s), and the descriptors in that order.
    pub const ATTACH: u8 = 3;
    /// Descriptors: the command in a memory file, the output, perhaps the pipe for log records, perhaps beside it the
    /// socket by which the process is told whose it is. Answer: pid.
    pub const SPAWN: u8 = 4;
    /// As SPAWN, but runs a trial of `probe`, which the program names.
    pub const TRY: u8 = 8;
    /// Kill every other process of the sandbox.
    pub const KILL: u8 = 5;
    /// Stop every other process of the sandbox, where no control group can.
    pub const STOP: u8 = 6;
    /// Let them go on.
    pub const CONTINUE: u8 = 7;
    /// Pid of a started process: SIGTERM to its process group.
    pub const TERMINATE: u8 = 9;
    /// Likewise, SIGKILL.
    pub const KILL_ONE: u8 = 10;
}

/// What an ATTACH may bring, in this order.
pub mod part {
    /// A detached mount for `/var/task`.
    pub const TASK: u32 = 1;
    /// A detached mount for `/opt`.
    pub const OPT: u32 = 2;
    /// `counts` of a `MemoryWatch`.
    pub const COUNTS: u32 = 4;
    /// `event` of a `MemoryWatch`.
    pub const EVENT: u32 = 8;
}

/// Connections that may wait on a listening socket.
const BACKLOG: i32 = 128;
/// The kernel's buffers of the server's end of a connection, each way, bytes. Without a limit they would grow to megabytes
/// for who sends and does not read.
const BUFFER: usize = 256 * 1024;
/// How long the kernel may take from saying that memory is short to killing somebody: so many looks, so far apart.
const KILL_TRIES: u32 = 20;
const KILL_PAUSE: Duration = Duration::from_millis(1);
/// Listening sockets of one request.
const LISTENERS_MAX: u32 = 16;

/// What the function's processes are confined by.
pub struct Confinement<'a> {
    pub filters: &'a [BpfProgram],
    /// Whom they run as; `None`: as who this is.
    pub user: Option<u32>,
    /// This is PID 1 of namespaces of its own; else it only adopts orphans.
    pub namespaces: bool,
}

struct Init<'a> {
    control: OwnedFd,
    /// The sandbox's `/proc`, writable.
    proc: OwnedFd,
    confinement: &'a Confinement<'a>,
    memory: Option<Memory>,
    /// Becomes the next process that is started.
    starter: Option<Starter>,
}

/// What a request is answered with.
#[derive(Default)]
struct Done {
    value: u32,
    descriptors: Vec<OwnedFd>,
}

impl Done {
    fn value(value: i32) -> Self {
        Done { value: value.cast_unsigned(), ..Done::default() }
    }

    fn descriptors(descriptors: Vec<OwnedFd>) -> Self {
        Done { descriptors, ..Done::default() }
    }
}

/// Serves until the server lets go of the control socket. Its end ends every process of the sandbox.
pub fn run(control: &OwnedFd, proc: &OwnedFd, tunnel: Option<OwnedFd>, confinement: &Confinement<'_>) -> ! {
    if greet(control, tunnel).is_err() {
        sys::exit_now(1);
    }
    let Ok([control, proc]) = sys::keep_only([control.as_fd(), proc.as_fd()]) else { sys::exit_now(1) };
    let mut init = Init { control, proc, confinement, memory: None, starter: None };
    let served = init.serve();
    if !confinement.namespaces {
        // No namespace ends with this process, and takes its processes along.
        while init.signal_all(libc::SIGKILL).is_ok() && matches!(sys::wait_any(), Ok(Some(_))) {}
    }
    sys::exit_now(i32::from(served.is_err()))
}

/// Says that the sandbox is there, and hands over the other end of its network.
fn greet(control: &OwnedFd, tunnel: Option<OwnedFd>) -> io::Result<()> {
    let descriptors: Vec<_> = tunnel.iter().map(AsFd::as_fd).collect();
    Writer::new(answer::DONE).u32(0).u32(0).send(control.as_fd(), &descriptors, SendFlags::empty())
}

impl Init<'_> {
    fn serve(&mut self) -> io::Result<()> {
        sys::set_name(c"hearth-init")?;
        let children = sys::child_signals()?;
        // When this fails, so does the start of a process, which says why.
        self.starter = Starter::fork(&self.proc, self.confinement).ok();
        loop {
            let mut ready = vec![PollFd::new(&self.control, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
            ready.extend(self.memory.as_ref().map(Memory::poll));
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
            let is_ready = |at: usize| ready.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (asked, ended, short) = (is_ready(0), is_ready(1), is_ready(2));
            drop(ready);
            if short && self.memory.as_mut().is_some_and(Memory::has_killed) {
                // A function dies as one: none of its processes goes on without another that it counts on.
                let _ = self.signal_all(libc::SIGKILL);
            }
            if ended {
                let mut information = [0; 1024];
                let _ = rustix::io::read(&children, &mut information);
                while let Some((pid, status)) = sys::reap()? {
                    self.ended(pid, status)?;
                }
            }
            if asked {
                match Packet::receive(self.control.as_fd(), RecvFlags::DONTWAIT) {
                    Ok(Some(packet)) => self.answer(packet)?,
                    Ok(None) => return Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }

    fn answer(&mut self, mut packet: Packet) -> io::Result<()> {
        let tag = packet.u32()?;
        let nothing = |()| Done::default();
        let (step, done) = match packet.kind {
            request::LISTEN => ("listen", self.listen(&mut packet).map(Done::descriptors)),
            request::DIAL => ("dial", dial(&mut packet).map(|socket| Done::descriptors(vec![socket]))),
            request::ATTACH => ("attach what is bound", self.attach(&mut packet).map(nothing)),
            request::SPAWN => ("execute", self.spawn(&mut packet, Purpose::Execute)),
            request::TRY => ("try", self.spawn(&mut packet, Purpose::Try)),
            request::KILL => ("kill processes", self.kill_processes().map(nothing)),
            request::TERMINATE => ("terminate a process", signal_one(&mut packet, libc::SIGTERM).map(nothing)),
            request::KILL_ONE => ("kill a process", signal_one(&mut packet, libc::SIGKILL).map(nothing)),
            request::STOP => ("stop processes", self.signal_all(libc::SIGSTOP).map(nothing)),
            request::CONTINUE => ("continue processes", self.signal_all(libc::SIGCONT).map(nothing)),
            _ => ("read the request", Err(io::ErrorKind::InvalidData.into())),
        };
        match done {
            Ok(Done { value, descriptors }) => {
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                let answer = Writer::new(answer::DONE).u32(tag).u32(value);
                answer.send(self.control.as_fd(), &descriptors, SendFlags::empty())
            }
            Err(e) => Writer::new(answer::FAILED)
                .u32(tag)
                .u32(e.raw_os_error().unwrap_or(libc::EINVAL).cast_unsigned())
                .bytes(step.as_bytes())
                .send(self.control.as_fd(), &[], SendFlags::empty()),
        }
    }

    fn attach(&mut self, packet: &mut Packet) -> io::Result<()> {
        let parts = packet.u32()?;
        for (part, target) in [(part::TASK, "/var/task"), (part::OPT, "/opt")] {
            if parts & part != 0 {
                let mount = packet.descriptor()?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(&mount, "", rustix::fs::CWD, target, flags)?;
            }
        }
        if parts & part::COUNTS != 0 {
            let counts = packet.descriptor()?;
            let event = if parts & part::EVENT != 0 { Some(packet.descriptor()?) } else { None };
            self.memory = Some(Memory::new(counts, event));
        }
        Ok(())
    }

    /// Starts the command; answers once it executes, or with the error that kept it from doing so.
    fn spawn(&mut self, packet: &mut Packet, purpose: Purpose) -> io::Result<Done> {
        let mut given = vec![packet.descriptor()?, packet.descriptor()?];
        given.extend(packet.descriptor());
        given.extend(packet.descriptor());
        // One that has just ended cannot be told anything, and is forgotten when it is reaped.
        let starter = match self.starter.take_if(|starter| starter.tell(purpose, &given).is_ok()) {
            Some(starter) => starter,
            None => {
                let starter = Starter::fork(&self.proc, self.confinement)?;
                starter.tell(purpose, &given)?;
                starter
            }
        };
        Ok(Done::value(starter.started()?))
    }

    fn listen(&self, packet: &mut Packet) -> io::Result<Vec<OwnedFd>> {
        let count = packet.u32()?;
        if count > LISTENERS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        (0..count).map(|_| self.listener(address(packet)?)).collect()
    }

    /// Without a network namespace the port is whichever is free.
    fn listener(&self, asked: SocketAddrV4) -> io::Result<OwnedFd> {
        let address = if self.confinement.namespaces { asked } else { SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0) };
        let socket = socket()?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // What is accepted inherits them.
        sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
        sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    }

    /// Every process but this one; done when all are reaped.
    fn kill_processes(&mut self) -> io::Result<()> {
        self.signal_all(libc::SIGKILL)?;
        while let Some((pid, status)) = sys::wait_any()? {
            self.ended(pid, status)?;
        }
        Ok(())
    }

    /// A child was reaped. Of one that has not been told to start anything, nobody knows.
    fn ended(&mut self, pid: i32, status: i32) -> io::Result<()> {
        if self.starter.take_if(|starter| starter.pid == pid).is_some() {
            return Ok(());
        }
        let (code, signal) = match sys::exit_of(status) {
            crate::Exit::Code(code) => (code, 0),
            crate::Exit::Signal(signal) => (0, signal),
        };
        let packet = Writer::new(answer::EVENT).u32(pid.cast_unsigned());
        let packet = packet.u32(code.cast_unsigned()).u32(signal.cast_unsigned());
        packet.send(self.control.as_fd(), &[], SendFlags::empty())
    }

    /// In a namespace the kernel reaches all at once: a process that is just being forked gets the signal too.
    fn signal_all(&self, signal: i32) -> io::Result<()> {
        if !self.confinement.namespaces {
            return descendants::signal(signal);
        }
        if !stands(Layer::Pids) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match sys::signal(-1, signal) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
            _ => Ok(()),
        }
    }
}

/// To the process group of a child that has not been reaped: nobody else can have its id.
fn signal_one(packet: &mut Packet, signal: i32) -> io::Result<()> {
    let pid = packet.u32()?.cast_signed();
    if pid > 1 && sys::is_child(pid) {
        match sys::signal(-pid, signal) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Says when a process of this sandbox was killed for want of memory (see `cgroup::MemoryWatch`).
struct Memory {
    counts: OwnedFd,
    event: Option<OwnedFd>,
    /// Those that are known.
    kills: u64,
}

impl Memory {
    fn new(counts: OwnedFd, event: Option<OwnedFd>) -> Self {
        let mut memory = Memory { counts, event, kills: 0 };
        // With the first reading the kernel takes room for all of them, from the sandbox's memory. Taken when that has run
        // out, and the function is dying already, it would be the init that is killed for it.
        memory.kills = memory.counted();
        memory
    }

    fn poll(&self) -> PollFd<'_> {
        match &self.event {
            Some(event) => PollFd::new(event, PollFlags::IN),
            None => PollFd::new(&self.counts, PollFlags::PRI),
        }
    }

    fn has_killed(&mut self) -> bool {
        // Version 1 says that memory is short just before it chooses whom to kill.
        let tries = if self.event.is_some() { KILL_TRIES } else { 1 };
        if let Some(event) = &self.event {
            let _ = rustix::io::read(event, &mut [0; 8]);
        }
        for attempt in 0..tries {
            if attempt > 0 {
                std::thread::sleep(KILL_PAUSE);
            }
            let kills = self.counted();
            if kills > self.kills {
                self.kills = kills;
                return true;
            }
        }
        false
    }

    fn counted(&self) -> u64 {
        let mut text = [0; 512];
        let read = rustix::io::pread(&self.counts, &mut text, 0).unwrap_or(0);
        crate::cgroup::field(&String::from_utf8_lossy(&text[..read]), "oom_kill")
    }
}

fn address(packet: &mut Packet) -> io::Result<SocketAddrV4> {
    let address = Ipv4Addr::from(packet.u32()?);
    let port = u16::try_from(packet.u32()?).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(SocketAddrV4::new(address, port))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}

fn dial(packet: &mut Packet) -> io::Result<OwnedFd> {
    let address = address(packet)?;
    let socket = socket()?;
    match rustix::net::connect(&socket, &address) {
        Err(e) if e != rustix::io::Errno::INPROGRESS => Err(e.into()),
        _ => Ok(socket),
    }
}
