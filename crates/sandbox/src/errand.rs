//! Reading hostile bytes in a process of its own that can do nothing else: this binary re-executed with one input and
//! one folder, which it sees as its root. It has no capability, no network, no other file, a few system calls, and
//! limits of memory, time and file size. A fault of the parser that it runs gains its finder nothing.
//!
//! Where the host allows no user namespaces to who runs Hearth, the folder is not its root: what is left are Landlock,
//! where the kernel has it, and the system calls.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libc::*;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::privilege;
use crate::sys::{self, Resource};
use crate::walls::Walls;

/// Where the process finds its input, and its folder.
const INPUT: i32 = 3;
const FOLDER: i32 = 4;
/// Address space, bytes. Unlike a runtime, what runs here reserves no more than it uses.
const MEMORY_MAX: u64 = 1 << 30;
/// Descriptors.
const FILES_MAX: u64 = 64;
/// Calls come first: beside one that has a CPU to itself, what runs here has a tenth of it.
const NICE: i32 = 10;
/// Longest reply, bytes.
const REPLY_MAX: u64 = 64 * 1024;

/// Files, memory, and the end. The arguments of `openat2` cannot be seen by a filter; the root and
/// Landlock are what keeps it inside.
#[rustfmt::skip]
pub(crate) const ALLOWED: &[c_long] = &[
    SYS_read, SYS_pread64, SYS_readv, SYS_write, SYS_writev, SYS_lseek, SYS_close, SYS_fstat, SYS_statx, SYS_fcntl,
    SYS_openat2, SYS_mkdirat, SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_fchmod, SYS_utimensat,
    SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex, SYS_getrandom, SYS_clock_gettime,
    SYS_sigaltstack, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield, SYS_exit, SYS_exit_group,
];

/// What the process is given.
pub struct Given {
    pub argument: String,
    pub input: File,
    /// The folder, which is also its root.
    pub folder: OwnedFd,
}

/// One run.
pub struct Errand<'a> {
    /// The name under which the re-executed binary knows its role.
    pub role: &'a str,
    pub argument: &'a str,
    /// From where it stands.
    pub input: BorrowedFd<'a>,
    /// A directory.
    pub folder: BorrowedFd<'a>,
    /// Largest file that it may write, bytes.
    pub file_max: u64,
    /// CPU time; on a busy host ten times as much may pass on the wall.
    pub time_max: Duration,
}

/// How an errand ended that was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// By a signal of its limits or of its filter, most likely.
    #[error("it ended with {0}")]
    Ended(ExitStatus),
    #[error("it took too long")]
    Late,
}

impl Errand<'_> {
    /// Runs it to its end; answers what it replied. Blocking.
    pub fn run(&self) -> Result<Vec<u8>, Error> {
        // Beyond the numbers that they get in the child.
        let [input, folder] = [self.input, self.folder].map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, FOLDER + 1));
        let (input, folder) = (input.map_err(io::Error::from)?, folder.map_err(io::Error::from)?);
        let mut command = Command::new("/proc/self/exe");
        command.arg0(self.role).arg(self.argument).env_clear();
        command.arg(self.file_max.to_string()).arg(self.time_max.as_secs().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let command = sys::hand_over(command, input.as_raw_fd(), INPUT);
        let mut child = sys::hand_over(command, folder.as_raw_fd(), FOLDER).spawn()?;
        let Some(mut reply) = child.stdout.take() else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        };
        let said = read_within(&mut reply, Instant::now() + self.time_max * 10);
        if said.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        let said = said?;
        if status.success() { Ok(said) } else { Err(Error::Ended(status)) }
    }
}

impl Error {
    /// Whether the bytes that were read are the likely reason, rather than the host.
    pub fn is_of_the_input(&self) -> bool {
        match self {
            Error::Io(_) => false,
            Error::Ended(status) => status.signal() != Some(SIGKILL),
            Error::Late => true,
        }
    }
}

fn read_within(reply: &mut std::process::ChildStdout, deadline: Instant) -> Result<Vec<u8>, Error> {
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(|_| Error::Late)?;
        let ready = {
            let mut polled = [PollFd::from_borrowed_fd(reply.as_fd(), PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&timeout))).map_err(io::Error::from)?
        };
        if ready == 0 {
            return Err(Error::Late);
        }
        let mut buffer = [0; 4096];
        match reply.read(&mut buffer)? {
            0 => return Ok(said),
            read if said.len() as u64 + read as u64 > REPLY_MAX => {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
            }
            read => said.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Called early in `main`, while the process has one thread: when it was started for this role, it does the work,
/// replies, and ends.
pub fn main_if_asked(role: &str, work: fn(Given) -> Vec<u8>) {
    let mut arguments = std::env::args_os();
    if arguments.next().is_none_or(|name| name != role) {
        return;
    }
    let mut text = || arguments.next().and_then(|text| text.into_string().ok()).unwrap_or_default();
    let (argument, file_max, seconds) = (text(), text(), text());
    let (input, folder) = (sys::take_inherited(INPUT), sys::take_inherited(FOLDER));
    let confined = confine(folder, file_max.parse().unwrap_or(0), seconds.parse().unwrap_or(0));
    let done = confined.and_then(|folder| {
        let reply = work(Given { argument, input: input.into(), folder });
        io::stdout().write_all(&reply)?;
        io::stdout().flush()
    });
    sys::exit_now(i32::from(done.is_err()))
}

/// Answers the folder as it must be used from now on.
fn confine(folder: OwnedFd, file_max: u64, seconds: u64) -> io::Result<OwnedFd> {
    sys::die_with_parent()?;
    sys::close_from(FOLDER + 1)?;
    come_last()?;
    std::fs::write("/proc/self/oom_score_adj", "1000")?;
    let filter = filter().map_err(|e| io::Error::other(e.to_string()))?;
    for (resource, most) in [
        (Resource::Memory, MEMORY_MAX),
        (Resource::FileSize, file_max),
        (Resource::Cpu, seconds + 1),
        (Resource::Files, FILES_MAX),
        (Resource::Core, 0),
    ] {
        sys::limit(resource, most)?;
    }
    // A signal that says why, before the last one.
    sys::limit_softly(Resource::Cpu, seconds)?;
    rustix::process::umask(Mode::empty());
    rustix::process::fchdir(&folder)?;
    // Not every host lets everybody (see the module).
    let alone = sys::unshare_all().is_ok();
    match rustix::process::chroot(".") {
        Err(e) if alone => return Err(e.into()),
        _ => {}
    }
    // The descriptor that came along leads through a mount of the host's, and from there out.
    drop(folder);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(".", flags, Mode::empty())?;
    Walls { readable: Vec::new(), writable: vec![".".to_owned()], ports: Some(Vec::new()) }.raise()?;
    privilege::empty_bounding_set(CapabilitySet::empty())?;
    privilege::retain(CapabilitySet::empty())?;
    sys::no_new_privileges()?;
    sys::apply_filter(&filter)?;
    Ok(folder)
}

/// Many kernels weigh sessions rather than processes against each other: only within its own does a process step back.
/// So this one gets a session of its own, which steps back whole.
fn come_last() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::nice(NICE)?;
    // Not there in every kernel, and not always done where many sessions do it at one time.
    let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
    Ok(())
}

fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let rules = ALLOWED.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?.try_into()?)
}
