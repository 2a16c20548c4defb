//! The sandbox's trusted init: PID 1, a fork of the launcher, one thread.
//!
//! Makes sockets inside on request (decision 2), mounts the code, starts the function's processes as its user, reaps,
//! and says who ended. It lives as long as its control socket has another end.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Seek};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MoveMountFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;

use crate::cgroup::PROCESSES_MAX;
use crate::layers::{Layer, stands};
use crate::packet::{Packet, Writer, answer};
use crate::sys::{self, Fork, Program, Resource};
use crate::walls::Walls;
use crate::{descendants, privilege};

/// Requests, by the first byte of a packet; a tag follows.
pub mod request {
    /// Address, port. Answer: a descriptor.
    pub const LISTEN: u8 = 1;
    /// Address, port. Answer: a descriptor.
    pub const DIAL: u8 = 2;
    /// What comes along (a sum of [`super::part`]s), and the descriptors in that order.
    pub const ATTACH: u8 = 3;
    /// Descriptors: the command in a memory file, the output. Answer: pid.
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
/// Limits of a process (spec 3.1): open descriptors, locked memory and stack in bytes. Memory has none, for runtimes
/// reserve far more address space than they use.
const FILES_MAX: u64 = 1024;
/// Longest core file, bytes. Too short for one, and the only value at which the kernel does not start the host's crash
/// handler either: with 0 it would.
const CORE_MAX: u64 = 1;
const LOCKED_MAX: u64 = 64 << 10;
const STACK: u64 = 8 << 20;
/// How long the kernel may take from saying that memory is short to killing somebody: so many looks, so far apart.
const KILL_TRIES: u32 = 20;
const KILL_PAUSE: Duration = Duration::from_millis(1);
/// Longest command with its environment, bytes.
const COMMAND_MAX: u64 = 1 << 20;

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
}

type Done = (u32, Option<OwnedFd>);

/// Serves until the server lets go of the control socket. Its end ends every process of the sandbox.
pub fn run(control: &OwnedFd, proc: &OwnedFd, tunnel: Option<OwnedFd>, confinement: &Confinement<'_>) -> ! {
    if greet(control, tunnel).is_err() {
        sys::exit_now(1);
    }
    let Ok([control, proc]) = sys::keep_only([control.as_fd(), proc.as_fd()]) else { sys::exit_now(1) };
    let init = Init { control, proc, confinement };
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
    fn serve(&self) -> io::Result<()> {
        sys::set_name(c"hearth-init")?;
        let control = &self.control;
        let mut memory: Option<Memory> = None;
        let children = sys::child_signals()?;
        loop {
            let mut ready = vec![PollFd::new(control, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
            ready.extend(memory.as_ref().map(Memory::poll));
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
            let is_ready = |at: usize| ready.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (asked, ended, short) = (is_ready(0), is_ready(1), is_ready(2));
            drop(ready);
            if short && memory.as_mut().is_some_and(Memory::has_killed) {
                // A function dies as one: none of its processes goes on without another that it counts on.
                let _ = self.signal_all(libc::SIGKILL);
            }
            if ended {
                let mut information = [0; 1024];
                let _ = rustix::io::read(&children, &mut information);
                while let Some((pid, status)) = sys::reap()? {
                    announce(control, pid, status)?;
                }
            }
            if asked {
                match Packet::receive(control.as_fd(), RecvFlags::DONTWAIT) {
                    Ok(Some(packet)) => self.answer(packet, &mut memory)?,
                    Ok(None) => return Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }

    fn answer(&self, mut packet: Packet, memory: &mut Option<Memory>) -> io::Result<()> {
        let control = &self.control;
        let tag = packet.u32()?;
        let (step, done) = match packet.kind {
            request::LISTEN => ("listen", self.listen(&mut packet).map(|socket| (0, Some(socket)))),
            request::DIAL => ("dial", dial(&mut packet).map(|socket| (0, Some(socket)))),
            request::ATTACH => ("attach what is bound", self.attach(&mut packet, memory)),
            request::SPAWN => ("execute", self.spawn(&mut packet, Program::execute)),
            request::TRY => ("try", self.spawn(&mut packet, Program::try_out)),
            request::KILL => ("kill processes", self.kill_processes(control)),
            request::TERMINATE => ("terminate a process", signal_one(&mut packet, libc::SIGTERM)),
            request::KILL_ONE => ("kill a process", signal_one(&mut packet, libc::SIGKILL)),
            request::STOP => ("stop processes", self.signal_all(libc::SIGSTOP).map(|()| (0, None))),
            request::CONTINUE => ("continue processes", self.signal_all(libc::SIGCONT).map(|()| (0, None))),
            _ => ("read the request", Err(io::ErrorKind::InvalidData.into())),
        };
        match done {
            Ok((value, descriptor)) => {
                let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
                Writer::new(answer::DONE).u32(tag).u32(value).send(control.as_fd(), &descriptors, SendFlags::empty())
            }
            Err(e) => Writer::new(answer::FAILED)
                .u32(tag)
                .u32(e.raw_os_error().unwrap_or(libc::EINVAL).cast_unsigned())
                .bytes(step.as_bytes())
                .send(control.as_fd(), &[], SendFlags::empty()),
        }
    }

    fn attach(&self, packet: &mut Packet, memory: &mut Option<Memory>) -> io::Result<Done> {
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
            *memory = Some(Memory { counts, event, kills: 0 });
        }
        Ok((0, None))
    }

    /// Starts the command; answers once it executes, or with the error that kept it from doing so.
    fn spawn(&self, packet: &mut Packet, run: fn(&Program) -> io::Error) -> io::Result<Done> {
        let (command, output) = (packet.descriptor()?, packet.descriptor()?);
        let (directory, program, walls) = read_command(command)?;
        let (failed, failing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match sys::fork()? {
            Fork::Child => {
                let error = self.execute(&directory, &program, &walls, &output, run);
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                let _ = rustix::io::write(&failing, &number.to_le_bytes());
                sys::exit_now(127)
            }
            Fork::Parent(pid) => {
                drop(failing);
                let mut number = [0; 4];
                match rustix::io::retry_on_intr(|| rustix::io::read(&failed, &mut number))? {
                    0 => Ok((pid.cast_unsigned(), None)),
                    _ => Err(io::Error::from_raw_os_error(i32::from_le_bytes(number))),
                }
            }
        }
    }

    /// The child: confines itself and becomes the program. Comes back only with an error.
    fn execute(
        &self,
        directory: &str,
        program: &Program,
        walls: &Option<Walls>,
        output: &OwnedFd,
        run: fn(&Program) -> io::Error,
    ) -> io::Error {
        let confine = || -> io::Result<()> {
            // When memory runs out, these processes go and never the init.
            let score = OFlags::WRONLY | OFlags::CLOEXEC;
            let score = rustix::fs::openat(&self.proc, "self/oom_score_adj", score, Mode::empty())?;
            rustix::io::write(&score, b"1000")?;
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            rustix::stdio::dup2_stdin(&null)?;
            rustix::stdio::dup2_stdout(output)?;
            rustix::stdio::dup2_stderr(output)?;
            rustix::process::setsid()?;
            rustix::process::chdir(directory)?;
            sys::limit(Resource::Files, FILES_MAX)?;
            sys::limit(Resource::Core, if stands(Layer::Core) { CORE_MAX } else { u64::MAX })?;
            sys::limit(Resource::Locked, LOCKED_MAX)?;
            sys::limit_softly(Resource::Stack, STACK)?;
            sys::reset_signals();
            if let Some(user) = self.confinement.user {
                // Counted in this namespace alone, by kernels since 5.14.
                sys::limit(Resource::Processes, PROCESSES_MAX.into())?;
                if stands(Layer::Privileges) {
                    sys::become_user(user, user)?;
                }
            }
            if stands(Layer::Privileges) {
                privilege::retain(CapabilitySet::empty())?;
            }
            if let Some(walls) = walls.as_ref().filter(|_| stands(Layer::Walls)) {
                walls.raise()?;
            }
            sys::inherit_nothing()?;
            for filter in self.confinement.filters.iter().filter(|_| stands(Layer::Filter)) {
                sys::apply_filter(filter)?;
            }
            Ok(())
        };
        match confine() {
            Ok(()) => run(program),
            Err(e) => e,
        }
    }

    /// Without a network namespace the port is whichever is free.
    fn listen(&self, packet: &mut Packet) -> io::Result<OwnedFd> {
        let asked = address(packet)?;
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
    fn kill_processes(&self, control: &OwnedFd) -> io::Result<Done> {
        self.signal_all(libc::SIGKILL)?;
        while let Some((pid, status)) = sys::wait_any()? {
            announce(control, pid, status)?;
        }
        Ok((0, None))
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
fn signal_one(packet: &mut Packet, signal: i32) -> io::Result<Done> {
    let pid = packet.u32()?.cast_signed();
    if pid > 1 && sys::is_child(pid) {
        match sys::signal(-pid, signal) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(e),
            _ => {}
        }
    }
    Ok((0, None))
}

/// Says when a process of this sandbox was killed for want of memory (see `cgroup::MemoryWatch`).
struct Memory {
    counts: OwnedFd,
    event: Option<OwnedFd>,
    /// Those that are known.
    kills: u64,
}

impl Memory {
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
            let mut text = [0; 512];
            let read = rustix::io::pread(&self.counts, &mut text, 0).unwrap_or(0);
            let kills = crate::cgroup::field(&String::from_utf8_lossy(&text[..read]), "oom_kill");
            if kills > self.kills {
                self.kills = kills;
                return true;
            }
        }
        false
    }
}

fn announce(control: &OwnedFd, pid: i32, status: i32) -> io::Result<()> {
    let (code, signal) = match sys::exit_of(status) {
        crate::Exit::Code(code) => (code, 0),
        crate::Exit::Signal(signal) => (0, signal),
    };
    let packet = Writer::new(answer::EVENT).u32(pid.cast_unsigned());
    packet.u32(code.cast_unsigned()).u32(signal.cast_unsigned()).send(control.as_fd(), &[], SendFlags::empty())
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

/// Directory, program, arguments, environment and walls, as `process` wrote them.
fn read_command(command: OwnedFd) -> io::Result<(String, Program, Option<Walls>)> {
    let mut file = fs::File::from(command);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(COMMAND_MAX).read_to_end(&mut bytes)?;
    let mut texts = Texts { bytes: &bytes };
    let directory = texts.next()?.into_string().map_err(|_| io::ErrorKind::InvalidData)?;
    let program = texts.next()?;
    let (arguments, environment) = (texts.list()?, texts.list()?);
    let walls = texts.walls()?;
    Ok((directory, Program::new(program, arguments, environment), walls))
}

struct Texts<'a> {
    bytes: &'a [u8],
}

impl Texts<'_> {
    fn count(&mut self) -> io::Result<usize> {
        let (count, rest) = self.bytes.split_first_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
        self.bytes = rest;
        Ok(u32::from_le_bytes(*count) as usize)
    }

    fn next(&mut self) -> io::Result<CString> {
        let length = self.count()?;
        let (text, rest) = self.bytes.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
        self.bytes = rest;
        CString::new(text).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn walls(&mut self) -> io::Result<Option<Walls>> {
        let kind = self.count()?;
        if kind == 0 {
            return Ok(None);
        }
        let (readable, writable) = (self.paths()?, self.paths()?);
        let ports = match kind {
            1 => None,
            _ => Some((0..self.count()?).map(|_| Ok(self.count()? as u16)).collect::<io::Result<_>>()?),
        };
        Ok(Some(Walls { readable, writable, ports }))
    }

    fn paths(&mut self) -> io::Result<Vec<String>> {
        self.list()?.into_iter().map(|text| text.into_string().map_err(io::Error::other)).collect()
    }

    fn list(&mut self) -> io::Result<Vec<CString>> {
        (0..self.count()?).map(|_| self.next()).collect()
    }
}
