//! Making one sandbox: the launcher forks into new namespaces; the child builds its view of the world and becomes the
//! sandbox's init.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
};
use rustix::net::{RecvFlags, SendFlags};
use rustix::thread::CapabilitySet;

use super::network;
use super::request::{self, Scratch};
use super::serve::{Failure, Reply, State, at};
use super::standing::Users;
use crate::init::{self, Confinement};
use crate::layers::{Layer, stands};
use crate::packet::{self, Packet, Writer, answer};
use crate::privilege;
use crate::sys::{self, Fork};

/// The function's user and group inside (spec 3.1).
const USER: u32 = 1051;

/// What a child finds, and makes its own.
struct World {
    /// A detached mount.
    root: OwnedFd,
    /// Of its control groups of version 1.
    tasks: Vec<OwnedFd>,
    /// Whether its root is another user than the function's.
    own_root: bool,
    /// Whether its network has a way out.
    tunnel: bool,
}

/// Request CREATE.
pub fn create(state: &mut State, request: request::Create) -> Result<Reply, Failure> {
    let request::Create { root, control, scratch, unified, groups } = request;
    let tasks: Vec<_> = groups.iter().map(open_tasks).collect::<Result<_, _>>()?;
    if !state.standing.namespaces {
        return create_bare(state, control, unified.as_ref(), &tasks);
    }
    let pair = match &state.users {
        Users::Pairs(uids) => Some(uids.take().map_err(at("take host uids"))?),
        Users::Single => None,
    };
    let world =
        World { root: state.roots.copy(root)?, tasks, own_root: pair.is_some(), tunnel: state.standing.tunnels };
    let map = match &pair {
        Some(pair) => format!("0 {} 1\n{USER} {} 1\n", pair.uids[0], pair.uids[1]),
        None => format!("{USER} 0 1\n"),
    };
    let (word, told) = packet::pair().map_err(at("make a pair of sockets"))?;
    match sys::fork_into_namespaces(unified.as_ref().map(AsFd::as_fd)).map_err(at("fork into namespaces"))? {
        Fork::Child => {
            drop(word);
            begin(&told, &world, control, state)
        }
        Fork::Parent(pid) => {
            drop(told);
            let root = pair.as_ref().map(|pair| pair.uids[0]).filter(|_| state.standing.privileged);
            state.children.insert(pid, pair);
            let guide = || -> Result<(), Failure> {
                map_users(pid, &map)?;
                if state.standing.privileged {
                    show_owners(&world.root, pid)?;
                }
                say(&word, &[]).map_err(at("start the init"))?;
                // While the child builds its world: `/tmp`, and what its code will be shown by.
                let scratch = match scratch {
                    Scratch::Image(image) => mount_image(&image)?,
                    Scratch::Folder(folder) => state.roots.writable(&folder)?,
                };
                // Where nobody hears it, the child has said what failed.
                let _ = say(&word, &[scratch.as_fd()]);
                if let Some(root) = root {
                    state.views.of(root, state.owners.server)?;
                }
                Ok(())
            };
            if let Err(failure) = guide() {
                let _ = sys::kill(pid);
                return Err(failure);
            }
            Ok(Reply::value(pid))
        }
    }
}

/// Without namespaces: a child that only supervises.
fn create_bare(
    state: &mut State,
    control: OwnedFd,
    unified: Option<&OwnedFd>,
    tasks: &[OwnedFd],
) -> Result<Reply, Failure> {
    match sys::fork_into_group(unified.map(AsFd::as_fd)).map_err(at("fork"))? {
        Fork::Child => {
            // Not tied to the launcher: it must outlive it for the moment in which it ends what it started.
            let built = join(tasks)
                .and_then(|()| sys::adopt_orphans().map_err(at("adopt orphans")))
                .and_then(|()| super::proc::of_the_host());
            match built {
                Ok(proc) => {
                    let confinement = Confinement { filters: &state.filters, user: None, namespaces: false };
                    init::run(&control, &proc, None, &confinement)
                }
                Err(failure) => give_up(&control, &failure),
            }
        }
        Fork::Parent(pid) => {
            state.children.insert(pid, None);
            Ok(Reply::value(pid))
        }
    }
}

/// The way into a group of version 1. Opened here because the kernel asks who opened it.
fn open_tasks(folder: &OwnedFd) -> Result<OwnedFd, Failure> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, "tasks", flags, Mode::empty()).map_err(at("open a cgroup"))
}

/// `/tmp`: the file system in an unnamed image file, by a loop device that goes when the sandbox does.
fn mount_image(image: &OwnedFd) -> Result<OwnedFd, Failure> {
    let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(at("open loop control"))?;
    // Held until it is mounted.
    let (_device, name) = loop {
        let number = sys::free_loop(control.as_fd()).map_err(at("find a loop device"))?;
        let name = format!("/dev/loop{number}");
        let device = rustix::fs::open(&*name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(at("open a loop device"))?;
        match sys::attach_loop(device.as_fd(), image.as_fd()) {
            Ok(()) => break (device, name),
            // Another process was faster.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) => return Err(at("attach a loop device")(e)),
        }
    };
    let context = rustix::mount::fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("open ext4"))?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", &*name).map_err(at("configure /tmp"))?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "discard").map_err(at("configure /tmp"))?;
    rustix::mount::fsconfig_create(context.as_fd()).map_err(at("open the image of /tmp"))?;
    let attributes = match stands(Layer::Seal) {
        true => MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
        false => MountAttrFlags::empty(),
    };
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(at("mount /tmp"))
}

/// Who the child is: only the launcher can say that.
pub fn map_users(pid: i32, map: &str) -> Result<(), Failure> {
    if !stands(Layer::Users) {
        return Ok(());
    }
    fs::write(format!("/proc/{pid}/uid_map"), map).map_err(at("map users"))?;
    fs::write(format!("/proc/{pid}/gid_map"), map).map_err(at("map groups"))
}

/// Lets files of the host's root appear as those of the sandbox's, as on AWS. Where a file system cannot, they are
/// nobody's: readable all the same.
pub fn show_owners(mount: &OwnedFd, pid: i32) -> Result<(), Failure> {
    if !stands(Layer::Users) {
        return Ok(());
    }
    let users = rustix::fs::open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(at("open the user namespace"))?;
    map_owners(mount, users.as_fd())
}

pub fn map_owners(mount: &OwnedFd, users: BorrowedFd<'_>) -> Result<(), Failure> {
    if !stands(Layer::Users) {
        return Ok(());
    }
    match sys::map_owners(mount.as_fd(), users) {
        Err(e) if e.raw_os_error() != Some(libc::EINVAL) => Err(at("map owners")(e)),
        _ => Ok(()),
    }
}

/// From the launcher to the child, which waits for two words: that it has its users, and `/tmp`.
fn say(word: &OwnedFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    Writer::new(answer::DONE).send(word.as_fd(), descriptors, SendFlags::empty())
}

/// The child's side. Without the launcher it ends: it is told nothing where something failed there.
fn hear(told: &OwnedFd) -> Packet {
    match Packet::receive(told.as_fd(), RecvFlags::empty()) {
        Ok(Some(packet)) => packet,
        _ => sys::exit_now(1),
    }
}

/// The child's life until it is the sandbox's init. Says what failed over its control socket, then never comes back.
fn begin(told: &OwnedFd, world: &World, control: OwnedFd, state: &State) -> ! {
    hear(told);
    let (proc, tunnel) = build(world, told).unwrap_or_else(|failure| give_up(&control, &failure));
    init::run(&control, &proc, tunnel, &Confinement { filters: &state.filters, user: Some(USER), namespaces: true })
}

fn give_up(control: &OwnedFd, failure: &Failure) -> ! {
    let said = Writer::new(answer::FAILED)
        .u32(0)
        .u32(failure.source.raw_os_error().unwrap_or(0).cast_unsigned())
        .bytes(failure.step.as_bytes())
        .send(control.as_fd(), &[], SendFlags::empty());
    sys::exit_now(if said.is_ok() { 1 } else { 2 });
}

fn join(tasks: &[OwnedFd]) -> Result<(), Failure> {
    for tasks in tasks {
        // 0 is the thread that writes.
        rustix::io::write(tasks, b"0").map_err(at("join a cgroup"))?;
    }
    Ok(())
}

/// What comes back is the sandbox's `/proc` as its init needs it, and the server's end of its network.
fn build(world: &World, told: &OwnedFd) -> Result<(OwnedFd, Option<OwnedFd>), Failure> {
    join(&world.tasks)?;
    // In the sandbox's network already, and still as who may open it on the host.
    let wanted = world.tunnel && stands(Layer::Network);
    let tunnel = wanted.then(sys::open_tunnel).transpose().map_err(at("open a tunnel"))?;
    if world.own_root {
        sys::become_user(0, 0).map_err(at("become the sandbox's root"))?;
    }
    sys::own_proc_files().map_err(at("own the files in /proc"))?;
    sys::die_with_parent().map_err(at("tie the sandbox to the launcher"))?;
    sys::unshare_cgroups().map_err(at("unshare cgroups"))?;
    if stands(Layer::Root) {
        rustix::mount::move_mount(&world.root, "", rustix::fs::CWD, "/mnt", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(at("mount the root"))?;
        rustix::process::chdir("/mnt").map_err(at("enter the root"))?;
    } else {
        stay_in_the_hosts_root()?;
    }
    let proc = super::proc::mount()?;
    if stands(Layer::Root) {
        rustix::process::pivot_root(".", ".").map_err(at("change the root"))?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(at("leave the host's root"))?;
    }
    rustix::process::chdir("/").map_err(at("enter the root"))?;
    rustix::system::sethostname(b"localhost").map_err(at("set the host name"))?;
    if stands(Layer::Network) {
        match &tunnel {
            Some(tunnel) => network::open(tunnel)?,
            None => network::close()?,
        }
    }
    if stands(Layer::Gaining) {
        privilege::empty_bounding_set(CapabilitySet::empty()).map_err(at("empty the bounding set"))?;
        sys::no_new_privileges().map_err(at("forbid new privileges"))?;
    }
    let scratch = hear(told).descriptor().map_err(at("take /tmp"))?;
    rustix::mount::move_mount(&scratch, "", rustix::fs::CWD, "tmp", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(at("mount /tmp"))?;
    Ok((proc, tunnel))
}

/// Without a root of its own: everything of the host, but for a place to put the code.
fn stay_in_the_hosts_root() -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(at("make mounts private"))?;
    rustix::mount::mount("tmpfs", "/var", "tmpfs", MountFlags::empty(), None).map_err(at("mount /var"))?;
    rustix::fs::mkdir("/var/task", Mode::from_raw_mode(0o755)).map_err(at("make /var/task"))?;
    rustix::process::chdir("/").map_err(at("enter the root"))
}
