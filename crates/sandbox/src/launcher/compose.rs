//! Roots: a skeleton directory with read-only binds and device nodes on it, composed once and cloned per sandbox.
//!
//! They are mounted in a mount namespace of their own. The launcher lives in the host's, because only there it may copy
//! the mounts that the server's descriptors name, and enters the other one for moments.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::thread::LinkNameSpaceType;

use super::create::{map_owners, show_owners};
use super::place;
use super::serve::{Failure, Reply, State, at};
use crate::sys;

/// Roots of one launcher: one for each runtime and the few that follow an upgrade of the host.
const ROOTS_MAX: u32 = 1024;

/// The composed roots, by number.
pub struct Roots {
    /// Made with the first root, so that a launcher without privileges fails by request.
    place: Option<Place>,
    count: u32,
    /// The launcher is in a user namespace of its own: devices are the host's, what lies below a folder is copied with
    /// it, and a descriptor's place is looked up in the launcher's own mount namespace.
    inside: bool,
}

/// A tmpfs over `/mnt` of a mount namespace of its own; a directory in it for each root.
struct Place {
    directory: OwnedFd,
    inside: OwnedFd,
    outside: OwnedFd,
}

/// What a copy of a mount may be used for, beyond reading and executing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Files,
    Devices,
    Writing,
}

impl Roots {
    pub fn new(inside: bool) -> Self {
        Roots { place: None, count: 0, inside }
    }

    /// A detached copy of a root with everything mounted on it.
    pub fn copy(&self, number: u32) -> Result<OwnedFd, Failure> {
        let place = self.place.as_ref().filter(|_| number < self.count);
        let place = place.ok_or_else(|| at("find the root")(io::Error::from(io::ErrorKind::NotFound)))?;
        place.within(|directory| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
            rustix::mount::open_tree(directory, number.to_string(), flags).map_err(at("copy the root"))
        })
    }

    /// A detached copy of a folder that becomes `/tmp`.
    pub fn writable(&self, folder: &OwnedFd) -> Result<OwnedFd, Failure> {
        self.mount(folder, Use::Writing, "copy the folder of /tmp")
    }

    /// A detached, sealed copy of the mount at a descriptor.
    fn mount(&self, source: &OwnedFd, purpose: Use, step: &'static str) -> Result<OwnedFd, Failure> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let found;
        let source = if self.inside {
            // Mounts of the host cannot be taken away from what they lie on here.
            flags |= OpenTreeFlags::AT_RECURSIVE;
            found = place::here(source).map_err(at(step))?;
            &found
        } else {
            source
        };
        let tree = rustix::mount::open_tree(source, "", flags).map_err(at(step))?;
        sys::seal_mount(tree.as_fd(), purpose != Use::Writing, purpose == Use::Devices).map_err(at("seal a mount"))?;
        Ok(tree)
    }
}

impl Place {
    fn make() -> Result<Self, Failure> {
        let own = || {
            rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(at("open the mount namespace"))
        };
        let outside = own()?;
        sys::unshare_mounts().map_err(at("unshare mounts"))?;
        let prepare = || {
            rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
                .map_err(at("make mounts private"))?;
            let tmpfs = tmpfs("size=1m,mode=0700", false)?;
            attach(&tmpfs, CWD, "/mnt").map_err(at("mount the place of roots"))?;
            rustix::fs::open("/mnt", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(at("open the place of roots"))
        };
        let (directory, inside) = (prepare(), own());
        enter(&outside)?;
        Ok(Place { directory: directory?, inside: inside?, outside })
    }

    /// Acts in the namespace of the roots, and comes back whatever happens.
    fn within<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        enter(&self.inside)?;
        let done = act(self.directory.as_fd());
        enter(&self.outside)?;
        done
    }
}

fn enter(namespace: &OwnedFd) -> Result<(), Failure> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(at("enter a mount namespace"))
}

fn tmpfs(options: &'static str, devices: bool) -> Result<OwnedFd, Failure> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("open tmpfs"))?;
    for option in options.split(',') {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).map_err(at("configure tmpfs"))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).map_err(at("create tmpfs"))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if !devices {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(at("mount tmpfs"))
}

fn attach(mount: &OwnedFd, directory: BorrowedFd<'_>, path: &str) -> rustix::io::Result<()> {
    rustix::mount::move_mount(mount, "", directory, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Request MOUNT.
pub fn mount(state: &mut State, pid: i32, directory: OwnedFd) -> Result<Reply, Failure> {
    let tree = state.roots.mount(&directory, Use::Files, "copy a directory")?;
    if state.standing.privileged {
        // What the server made is shown as the sandbox's root's, as code is on AWS.
        match state.children.get(&pid).and_then(Option::as_ref).map(|pair| pair.uids[0]) {
            Some(init) if state.owners.require_servers(&directory).is_ok() => {
                map_owners(&tree, state.views.of(init, state.owners.server)?.as_fd())?;
            }
            _ => show_owners(&tree, pid)?,
        }
    }
    Ok(Reply { value: 0, descriptor: Some(tree) })
}

/// Request COMPOSE.
pub fn compose(roots: &mut Roots, skeleton: OwnedFd, binds: Vec<(OwnedFd, Vec<u8>)>) -> Result<Reply, Failure> {
    if roots.count == ROOTS_MAX {
        return Err(at("compose a root")(io::Error::from(io::ErrorKind::QuotaExceeded)));
    }
    let skeleton = roots.mount(&skeleton, Use::Files, "copy the skeleton")?;
    let mut trees = Vec::new();
    for (source, target) in binds {
        trees.push((roots.mount(&source, Use::Files, "copy a folder of the root")?, target));
    }
    let devices = devices(roots)?;
    if roots.place.is_none() {
        roots.place = Some(Place::make()?);
    }
    let Some(place) = &roots.place else { return Ok(Reply::default()) };
    let name = roots.count.to_string();
    place.within(|directory| {
        rustix::fs::mkdirat(directory, &*name, Mode::RWXU).map_err(at("make a place for the root"))?;
        let filled = fill(directory, &name, &skeleton, &trees, &devices);
        if filled.is_err() {
            let _ = rustix::mount::unmount(format!("/mnt/{name}"), UnmountFlags::DETACH);
            let _ = rustix::fs::unlinkat(directory, &*name, rustix::fs::AtFlags::REMOVEDIR);
        }
        filled
    })?;
    roots.count += 1;
    Ok(Reply { value: roots.count - 1, descriptor: None })
}

fn fill(
    place: BorrowedFd<'_>,
    name: &str,
    skeleton: &OwnedFd,
    binds: &[(OwnedFd, Vec<u8>)],
    devices: &Devices,
) -> Result<(), Failure> {
    attach(skeleton, place, name).map_err(at("mount the skeleton"))?;
    let root = rustix::fs::openat(place, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(at("open the root"))?;
    let onto = |tree: &OwnedFd, target: &[u8]| -> Result<(), Failure> {
        let name = String::from_utf8_lossy(target);
        let failed = |source| Failure { step: format!("mount /{name} of the root").into(), source };
        let target = inside(&root, target).map_err(failed)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(tree, "", &target, "", flags).map_err(|e| failed(e.into()))
    };
    for (tree, target) in binds {
        onto(tree, target)?;
    }
    onto(&devices.mount, b"dev")?;
    for (name, device) in &devices.bound {
        onto(device, format!("dev/{name}").as_bytes())?;
    }
    Ok(())
}

/// A place in the root, reached through no symbolic link and no `..`.
fn inside(root: &OwnedFd, target: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The devices that every program may use: name, minor number.
const DEVICES: [(&str, u32); 5] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// A read-only `/dev`, and what is mounted on it: nodes of its own or, where none can be made, the host's.
struct Devices {
    mount: OwnedFd,
    bound: Vec<(&'static str, OwnedFd)>,
}

fn devices(roots: &Roots) -> Result<Devices, Failure> {
    let mount = tmpfs("size=64k,mode=0755", !roots.inside)?;
    let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let mut bound = Vec::new();
    for (name, minor) in DEVICES {
        let kind = if roots.inside { FileType::RegularFile } else { FileType::CharacterDevice };
        rustix::fs::mknodat(&mount, name, kind, all, rustix::fs::makedev(1, minor)).map_err(at("make a device"))?;
        rustix::fs::chmodat(&mount, name, all, rustix::fs::AtFlags::empty()).map_err(at("open a device to all"))?;
        if roots.inside {
            let device = rustix::fs::open(format!("/dev/{name}"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(at("open a device"))?;
            bound.push((name, roots.mount(&device, Use::Devices, "copy a device")?));
        }
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        rustix::fs::symlinkat(target, &mount, name).map_err(at("make a link in /dev"))?;
    }
    sys::seal_mount(mount.as_fd(), true, !roots.inside).map_err(at("seal /dev"))?;
    Ok(Devices { mount, bound })
}
