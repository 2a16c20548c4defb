//! Tries each promise in a real sandbox: for `hearth doctor`. What runs inside is this program's own code in the place of
//! a function's, behind all that confines a function.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::cgroup::PROCESSES_MAX;
use crate::driver::{Exit, Promise};
use crate::launcher;
use crate::promises::broken;
use crate::sys::{self, Fork};

/// Of the sandbox that is tried, MiB.
pub const MEMORY_MIB: u32 = 64;
pub const TMP_MIB: u32 = 16;
/// How long CPU is burnt: several periods of the bandwidth controller.
const BURN: Duration = Duration::from_millis(400);
/// The quota is 36 ms of each second, and one period's worth at once.
const BURNT_MAX: Duration = Duration::from_millis(120);
/// An address that nobody has (RFC 5737).
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);
/// Longest that one thing is tried.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Before the path of a file that nobody may find: it is the host's, whatever it looks like inside.
pub const MARKER: &str = "file=";

/// What is tried inside; the name of one is the program of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// All that shows at a glance.
    Facts,
    Processes,
    Memory,
    Cpu,
    /// Says something for ever.
    Chatter,
}

impl Trial {
    const ALL: [Trial; 5] = [Trial::Facts, Trial::Processes, Trial::Memory, Trial::Cpu, Trial::Chatter];

    pub fn name(self) -> &'static str {
        match self {
            Trial::Facts => "facts",
            Trial::Processes => "processes",
            Trial::Memory => "memory",
            Trial::Cpu => "cpu",
            Trial::Chatter => "chatter",
        }
    }

    /// Inside: does it in this process, whose output goes to descriptor 1, and ends.
    pub fn run(name: &CString, arguments: &[CString]) -> ! {
        let trial = Trial::ALL.into_iter().find(|trial| trial.name().as_bytes() == name.as_bytes());
        let argument = |n: usize| arguments.get(n).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
        let (marker, scratch) = (argument(1), argument(2));
        let done = match trial {
            Some(Trial::Facts) => facts(marker.strip_prefix(MARKER).unwrap_or_default(), Path::new(&scratch)),
            Some(Trial::Processes) => processes(),
            Some(Trial::Memory) => memory(),
            Some(Trial::Cpu) => cpu(),
            Some(Trial::Chatter) => chatter(),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        sys::exit_now(i32::from(done.is_err()))
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(rustix::stdio::stdout(), rest)?..];
    }
    Ok(())
}

/// One line for each promise that does not hold.
fn facts(marker: &str, scratch: &Path) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let powers = ["CapInh", "CapPrm", "CapEff", "CapAmb"].iter().any(|set| !field(set).trim_matches('0').is_empty());
    if powers || field("NoNewPrivs") != "1" {
        say("uid it has privileges\n")?;
    }
    // unshare(CLONE_NEWUSER) is never allowed.
    if field("Seccomp") != "2" || sys::unshare_users().is_ok() {
        say("seccomp calls are not filtered\n")?;
    }
    if TcpStream::connect_timeout(&NOWHERE, Duration::from_millis(200)).is_ok() || !leaves_by_the_tunnel_alone()? {
        say("network there is another way out\n")?;
    }
    if fs::read(marker).is_ok() {
        say("filesystem files of the host can be read\n")?;
    }
    let chunk = vec![1; 1 << 20];
    let scratch = scratch.join("fill");
    let mut file = fs::File::create(&scratch)?;
    let written = (0..TMP_MIB * 2).take_while(|_| file.write_all(&chunk).is_ok()).count();
    drop(file);
    fs::remove_file(&scratch)?;
    if written >= TMP_MIB as usize * 2 {
        say("tmp twice its size can be written\n")?;
    } else if written < TMP_MIB as usize - 1 {
        say("tmp it is smaller than it should be\n")?;
    }
    say("end\n")
}

/// Whether there is no interface but loopback and the tunnel, whose other end the server has.
fn leaves_by_the_tunnel_alone() -> io::Result<bool> {
    let tunnel = String::from_utf8_lossy(launcher::TUNNEL);
    let devices = fs::read_to_string("/proc/net/dev")?;
    let mut names = devices.lines().skip(2).filter_map(|line| line.split(':').next());
    Ok(names.all(|name| [&*tunnel, "lo"].contains(&name.trim())))
}

/// Says how many processes there can be.
fn processes() -> io::Result<()> {
    let mut count = 1;
    let mut children = Vec::new();
    while count <= PROCESSES_MAX + 1 {
        match sys::fork() {
            Ok(Fork::Child) => loop {
                std::thread::park();
            },
            Ok(Fork::Parent(pid)) => children.push(pid),
            Err(_) => break,
        }
        count += 1;
    }
    children.iter().for_each(|pid| drop(sys::kill(*pid)));
    while let Ok(Some(_)) = sys::wait_any() {}
    say(&format!("{count}\n"))
}

/// Takes half as much again as there is.
fn memory() -> io::Result<()> {
    let mut taken = vec![0u8; (MEMORY_MIB as usize * 3 / 2) << 20];
    taken.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    say(&format!("{}\n", std::hint::black_box(taken).len()))
}

/// Says how much CPU time there was, in milliseconds.
fn cpu() -> io::Result<()> {
    let used = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
    };
    let (began, before) = (Instant::now(), used());
    while began.elapsed() < BURN {
        std::hint::spin_loop();
    }
    say(&format!("{}\n", (used() - before).as_millis()))
}

fn chatter() -> io::Result<()> {
    loop {
        say("x")?;
    }
}

/// Outside: takes what the facts say from the promises.
pub fn judge_facts(promises: &mut [Promise], output: &str) {
    for line in output.lines() {
        let Some((name, why)) = line.split_once(' ') else { continue };
        fail(promises, name, why);
    }
    if !output.ends_with("end\n") {
        promises.iter_mut().for_each(|promise| *promise = broken(promise.name, "it could not be tried", "see the log"));
    }
}

pub fn judge_processes(promises: &mut [Promise], output: &str) {
    if !output.trim().parse().is_ok_and(|count: u32| count <= PROCESSES_MAX) {
        fail(promises, "processes", "more than 1,024 can be made");
    }
}

pub fn judge_memory(promises: &mut [Promise], exit: Option<Exit>) {
    if exit != Some(Exit::Signal(libc::SIGKILL)) {
        fail(promises, "memory", "more can be taken than there should be");
    }
}

pub fn judge_cpu(promises: &mut [Promise], output: &str) {
    let used = output.trim().parse().map(Duration::from_millis);
    if !used.is_ok_and(|used| used <= BURNT_MAX) {
        fail(promises, "cpu", "more can be used than there should be");
    }
}

/// Only what was thought to be held can turn out not to be.
pub fn fail(promises: &mut [Promise], name: &str, why: &str) {
    for promise in promises.iter_mut().filter(|promise| promise.name == name && promise.held) {
        *promise =
            broken(promise.name, format!("{} was tried: {why}", promise.by), "report it: this is a fault of Hearth");
    }
}

pub fn is_held(promises: &[Promise], name: &str) -> bool {
    promises.iter().any(|promise| promise.name == name && promise.held)
}

/// Reads what is there within `quiet`; how much that was.
pub fn drain(output: &OwnedFd, quiet: Duration) -> io::Result<usize> {
    let mut read = 0;
    let mut buffer = vec![0; 1 << 16];
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let mut ready = [rustix::event::PollFd::new(output, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(quiet).map_err(io::Error::other)?;
        if rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, Some(&timeout)))? == 0 {
            return Ok(read);
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(output.as_fd(), &mut buffer[..]))? {
            0 => return Ok(read),
            some => read += some,
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Reads to the end.
pub fn read_all(output: OwnedFd) -> String {
    let mut text = Vec::new();
    let _ = fs::File::from(output).take(1 << 16).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A root with nothing in it, and a file beside it that nobody may find from inside.
pub fn lay_out(folder: &Path) -> io::Result<(std::path::PathBuf, std::path::PathBuf)> {
    let skeleton = folder.join("root");
    for name in ["dev", "proc", "tmp", "var/task", "mnt"] {
        fs::create_dir_all(skeleton.join(name))?;
    }
    fs::create_dir_all(folder.join("code"))?;
    let marker = folder.join("marker");
    fs::write(&marker, "x")?;
    Ok((skeleton, marker))
}
