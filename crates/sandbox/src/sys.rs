//! System calls that no safe wrapper offers. Every `unsafe` of Hearth is here, each behind a small safe function.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_long, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use seccompiler::BpfProgram;
use tokio::io::unix::AsyncFd;

use crate::layers::{Layer, stands};

mod network;

pub use network::{Device, bring_loopback_up, open_tunnel};

/// Namespaces of a sandbox that exist from its first instruction; the cgroup namespace follows once it has joined.
fn namespaces() -> c_int {
    let with = |layer, flag| if stands(layer) { flag } else { 0 };
    libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | with(Layer::Users, libc::CLONE_NEWUSER)
        | with(Layer::Pids, libc::CLONE_NEWPID)
        | with(Layer::Network, libc::CLONE_NEWNET)
        | with(Layer::Ipc, libc::CLONE_NEWIPC)
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
pub enum Fork {
    Parent(i32),
    Child,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces and, where there is one, a control group of version 2 (its directory). Only for a process
/// with one thread.
pub fn fork_into_namespaces(group: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    clone(into_group(CloneArgs { flags: namespaces() as u64, ..CloneArgs::default() }, group))
}

/// A fork into a user namespace of its own. Only for a process with one thread.
pub fn fork_into_users() -> io::Result<Fork> {
    clone(CloneArgs { flags: libc::CLONE_NEWUSER as u64, ..CloneArgs::default() })
}

fn into_group(arguments: CloneArgs, group: Option<BorrowedFd<'_>>) -> CloneArgs {
    const INTO_CGROUP: u64 = 1 << 33;
    match group {
        Some(group) => {
            CloneArgs { flags: arguments.flags | INTO_CGROUP, cgroup: group.as_raw_fd() as u64, ..arguments }
        }
        None => arguments,
    }
}

/// A plain fork. Only for a process with one thread.
pub fn fork() -> io::Result<Fork> {
    fork_into_group(None)
}

/// A fork into a control group of version 2, where there is one. Only for a process with one thread.
pub fn fork_into_group(group: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    clone(into_group(CloneArgs::default(), group))
}

fn clone(arguments: CloneArgs) -> io::Result<Fork> {
    let arguments = CloneArgs { exit_signal: libc::SIGCHLD as u64, ..arguments };
    // SAFETY: without CLONE_VM and without a stack the child gets its own copy of this single-threaded process and
    // returns from the same call; the structure is valid and its size is passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) };
    match check(pid)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

const RDONLY: u64 = 1;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Makes a detached mount tree read-only (if `reading`), without set-user-id programs and (unless `devices`) devices.
pub fn seal_mount(mount: BorrowedFd<'_>, reading: bool, devices: bool) -> io::Result<()> {
    const NOSUID: u64 = 2;
    const NODEV: u64 = 4;
    let set = NOSUID | if reading { RDONLY } else { 0 } | if devices { 0 } else { NODEV };
    let set = if stands(Layer::Seal) { set } else { 0 };
    set_mount(mount, MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 })
}

/// Shows the files of a detached mount tree with the owners that they have in a user namespace: the host's root as its
/// root. Not every file system can.
pub fn map_owners(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> io::Result<()> {
    const IDMAP: u64 = 0x0010_0000;
    set_mount(mount, MountAttr { set: IDMAP, clear: 0, propagation: 0, userns: users.as_raw_fd() as u64 })
}

/// Makes the mount at this path read-only, but not what is mounted on it.
pub fn seal_path(path: &CStr) -> io::Result<()> {
    set_mount_at(libc::AT_FDCWD, path, 0, MountAttr { set: RDONLY, clear: 0, propagation: 0, userns: 0 })
}

fn set_mount(mount: BorrowedFd<'_>, attributes: MountAttr) -> io::Result<()> {
    set_mount_at(mount.as_raw_fd(), c"", libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, attributes)
}

fn set_mount_at(directory: RawFd, path: &CStr, flags: c_int, attributes: MountAttr) -> io::Result<()> {
    let attributes = &raw const attributes;
    // SAFETY: the path is a C string, the structure is valid and its size is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, directory, path.as_ptr(), flags, attributes, size_of::<MountAttr>())
    };
    check(result).map(drop)
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// Number of a loop device that was free a moment ago.
pub fn free_loop(control: BorrowedFd<'_>) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: c_ulong = 0x4C82;
    // SAFETY: the request takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    check(c_long::from(number)).map(|number| number as u32)
}

/// Attaches `image` to a loop device, which lets go of it when its last user does. Reads and writes pass the page cache
/// where the file can do that, so that pages are cached once; set here, because a device that is in use must be drained
/// for it.
pub fn attach_loop(device: BorrowedFd<'_>, image: BorrowedFd<'_>) -> io::Result<()> {
    const LOOP_CONFIGURE: c_ulong = 0x4C0A;
    const AUTOCLEAR: u32 = 4;
    const DIRECT_IO: u32 = 16;
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = image.as_raw_fd() as u32;
    config.info.flags = AUTOCLEAR | DIRECT_IO;
    // SAFETY: the request reads one valid LoopConfig.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    check(c_long::from(result)).map(drop)
}

/// The program that `execve` is given, made ready before the fork.
pub struct Program {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    pub fn new(program: CString, arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        Program { program, arguments, environment }
    }

    /// Runs one of Hearth's own trials in its place. Only the output stays open, as it would across an execution.
    pub fn try_out(&self) -> io::Error {
        match close_from(3) {
            Ok(()) => crate::probe::Trial::run(&self.program, &self.arguments),
            Err(e) => e,
        }
    }

    /// Replaces this process; comes back only with the error.
    pub fn execute(&self) -> io::Error {
        let pointers =
            |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        // SAFETY: both arrays end with null, and every string lives as long as `self`.
        unsafe { libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Becomes this user and group, with no other group. Raw calls: this process has one thread.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: plain integers and an empty list.
    unsafe {
        match check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>())) {
            // A namespace that an ordinary user maps alone forbids it for good: its groups stay what they were.
            Err(e) if e.raw_os_error() == Some(libc::EPERM) && groups_are_fixed() => {}
            other => drop(other?),
        }
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

fn groups_are_fixed() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

fn prctl(option: c_int, argument: c_ulong) -> io::Result<()> {
    // SAFETY: every option used here takes an integer.
    check(c_long::from(unsafe { libc::prctl(option, argument, 0, 0, 0) })).map(drop)
}

pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// The kernel kills this process when its parent ends.
pub fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong)
}

/// Orphans among this process's descendants become its children.
pub fn adopt_orphans() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// After a change of user a process may not even write to its own files in `/proc`, until this.
pub fn own_proc_files() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 1)
}

pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string; the kernel copies at most 16 bytes.
    check(c_long::from(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })).map(drop)
}

pub fn apply_filter(filter: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(|e| io::Error::other(e.to_string()))
}

/// Which Landlock the kernel has; 0 when it has none, or it is switched off.
pub fn landlock_version() -> i32 {
    const VERSION: c_uint = 1;
    // SAFETY: without a structure the call only answers the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, VERSION) };
    version.max(0) as i32
}

/// Soft and hard limit of one resource.
pub fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: reads one valid rlimit.
    check(c_long::from(unsafe { libc::setrlimit(resource as _, &raw const limit) })).map(drop)
}

/// The soft limit of one resource, as far as the hard one allows.
pub fn limit_softly(resource: Resource, value: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one valid rlimit.
    check(c_long::from(unsafe { libc::getrlimit(resource as _, &raw mut limit) }))?;
    limit.rlim_cur = value.min(limit.rlim_max);
    // SAFETY: reads one valid rlimit.
    check(c_long::from(unsafe { libc::setrlimit(resource as _, &raw const limit) })).map(drop)
}

#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Resource {
    Files = libc::RLIMIT_NOFILE,
    Processes = libc::RLIMIT_NPROC,
    Core = libc::RLIMIT_CORE,
    Locked = libc::RLIMIT_MEMLOCK,
    Stack = libc::RLIMIT_STACK,
    Memory = libc::RLIMIT_AS,
    FileSize = libc::RLIMIT_FSIZE,
    Cpu = libc::RLIMIT_CPU,
}

/// A descriptor that becomes readable when a child ends; the signal itself is blocked.
pub fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the descriptor is new and owned by the result.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(c_long::from(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(c_long::from(fd))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Back to the signals that a fresh process has: none blocked, none ignored.
pub fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset; SIG_DFL is a valid disposition.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// The next ended child, if one waits: its pid and how it ended.
pub fn reap() -> io::Result<Option<(i32, c_int)>> {
    let mut status = 0;
    // SAFETY: writes one integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    match check(c_long::from(pid)) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((pid as i32, status))),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether this is a child, running or not yet reaped.
pub fn is_child(pid: i32) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

/// Waits for one child, whichever; `None` when there is none.
pub fn wait_any() -> io::Result<Option<(i32, c_int)>> {
    let mut status = 0;
    loop {
        // SAFETY: writes one integer.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        match check(c_long::from(pid)) {
            Ok(pid) => return Ok(Some((pid as i32, status))),
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// How a child ended, from its wait status.
pub fn exit_of(status: c_int) -> crate::Exit {
    if libc::WIFSIGNALED(status) {
        crate::Exit::Signal(libc::WTERMSIG(status))
    } else {
        crate::Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Kills one process, or with -1 all that this one may.
pub fn kill(pid: i32) -> io::Result<()> {
    signal(pid, libc::SIGKILL)
}

/// Sends a signal to one process, or with -1 to all that this one may.
pub fn signal(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: plain integers.
    check(c_long::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the process owns these descriptors and uses none of them any more: it executes or exits next.
    check(unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, u32::MAX, 0) }).map(drop)
}

/// Ends this process at once, without the clean-up that its parent's copy will do.
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(status) }
}

/// Takes an inherited descriptor by number.
///
/// # Panics
/// When the number is a standard stream: these are never handed over.
pub fn take_inherited(fd: RawFd) -> OwnedFd {
    assert!(fd > 2, "descriptor {fd} is not one that was handed over");
    // SAFETY: the parent opened it for this process, which takes it once, before anything else opens descriptors.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Leaves the caller's user namespace for a new one that nobody is mapped into yet.
pub fn unshare_users() -> io::Result<()> {
    // SAFETY: plain integer; this process has one thread.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })).map(drop)
}

/// Leaves the caller's mount namespace for a copy of it.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: plain integer; this process has one thread.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS) })).map(drop)
}

/// Leaves every namespace that a process can leave, and with it has all capabilities over nothing but what it makes
/// there.
pub fn unshare_all() -> io::Result<()> {
    // SAFETY: plain integer; this process has one thread.
    check(c_long::from(unsafe { libc::unshare(namespaces() | libc::CLONE_NEWCGROUP) })).map(drop)
}

/// Makes the caller's cgroups the roots of what it sees.
pub fn unshare_cgroups() -> io::Result<()> {
    // SAFETY: plain integer; this process has one thread.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })).map(drop)
}

/// Moves `kept` to the descriptors from 3 on and closes every later one: a fork of a busy parent begins with nothing of
/// its own.
pub fn keep_only<const N: usize>(kept: [BorrowedFd<'_>; N]) -> io::Result<[OwnedFd; N]> {
    const HIGH: c_int = 512;
    let mut aside = [0; N];
    for (place, fd) in aside.iter_mut().zip(kept) {
        // SAFETY: plain integers.
        *place = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
        check(c_long::from(*place))?;
    }
    if !stands(Layer::Descriptors) {
        return Ok(aside.map(take_inherited));
    }
    for (number, fd) in (3..).zip(aside) {
        // SAFETY: plain integers; what had this number belongs to frames of the parent that are never returned to.
        check(c_long::from(unsafe { libc::dup3(fd, number, libc::O_CLOEXEC) }))?;
    }
    close_from(3 + N as RawFd)?;
    Ok(std::array::from_fn(|index| take_inherited(3 + index as RawFd)))
}

/// Whatever is open beside the standard streams ends with the next program.
pub fn inherit_nothing() -> io::Result<()> {
    if !stands(Layer::Descriptors) {
        return leave_directories_open();
    }
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// What is executed has this descriptor by that number, which nothing else here has: an init holds a few.
pub fn inherit_as(descriptor: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: plain integers; the process executes or exits next.
    check(unsafe { libc::dup3(descriptor.as_raw_fd(), number, 0) }.into()).map(drop)
}

fn leave_directories_open() -> io::Result<()> {
    for fd in 3..1024 {
        // SAFETY: all-zero bytes are a valid value of this plain structure, and the call writes a whole one.
        unsafe {
            let mut information: libc::stat = std::mem::zeroed();
            if libc::fstat(fd, &raw mut information) == 0 && information.st_mode & libc::S_IFMT == libc::S_IFDIR {
                libc::fcntl(fd, libc::F_SETFD, 0);
            }
        }
    }
    Ok(())
}

/// Lets a command's process find `fd` under the number `number`.
pub fn hand_over(mut command: std::process::Command, fd: RawFd, number: RawFd) -> std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only async-signal-safe calls are made: fcntl and dup2.
    unsafe {
        command.pre_exec(move || {
            if fd == number {
                check(c_long::from(libc::fcntl(fd, libc::F_SETFD, 0)))?;
            } else {
                check(c_long::from(libc::dup2(fd, number)))?;
            }
            Ok(())
        });
    }
    command
}

/// Lets a command's process be killed when the thread that starts it ends, by whatever end.
pub fn end_with_starter(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec one async-signal-safe call is made: prctl.
    unsafe {
        command.pre_exec(die_with_parent);
    }
}

/// Registers a descriptor with the async runtime.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor for as long as it lives, and the result owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// What the escape suite needs of the kernel on its own side.
#[cfg(feature = "weaken")]
pub mod weaken {
    use std::net::Ipv4Addr;

    use super::*;

    /// Leaves the host's network for an empty one in which loopback has two more addresses. Before any thread exists.
    pub fn own_network(second: Ipv4Addr, third: Ipv4Addr) -> io::Result<()> {
        // SAFETY: plain integer; this process has one thread.
        check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNET) }))?;
        bring_loopback_up(second)?;
        Device::named(b"lo:1")?.give(third)
    }

    /// A terminal: the side of its user, and that of programs.
    pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
        let (mut ours, mut theirs) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: writes two integers; name, settings and size are not asked for.
        let opened = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) };
        check(c_long::from(opened))?;
        // SAFETY: both descriptors are new and owned by the result.
        Ok(unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) })
    }
}
