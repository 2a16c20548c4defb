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

use super::create::show_owners;
use super::serve::{Failure, Reply, at};
use crate::packet::Packet;
use crate::sys;

/// The composed roots, by number.
#[derive(Default)]
pub struct Roots {
    /// Made with the first root, so that a launcher without privileges fails by request.
    place: Option<Place>,
    count: u32,
}

/// A tmpfs over `/mnt` of a mount namespace of its own; a directory in it for each root.
struct Place {
    directory: OwnedFd,
    inside: OwnedFd,
    outside: OwnedFd,
}

impl Roots {
    /// A detached copy of a root with everything mounted on it.
    pub fn copy(&self, number: u32) -> Result<OwnedFd, Failure> {
        let place = self.place.as_ref().filter(|_| number < self.count);
        let place = place.ok_or_else(|| at("find the root")(io::Error::from(io::ErrorKind::NotFound)))?;
        place.within(|directory| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
            rustix::mount::open_tree(directory, number.to_string(), flags).map_err(at("copy the root"))
        })
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

/// A detached, sealed copy of the mount at a descriptor.
fn copy(source: BorrowedFd<'_>, step: &'static str) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(source, "", flags).map_err(at(step))?;
    sys::seal_mount(tree.as_fd(), false).map_err(at("seal a mount"))?;
    Ok(tree)
}

/// Request MOUNT.
pub fn mount(mut packet: Packet) -> Result<Reply, Failure> {
    let pid = packet.u32().map_err(at("read the request"))?;
    let directory = packet.descriptor().map_err(at("read the request"))?;
    let tree = copy(directory.as_fd(), "copy a directory")?;
    show_owners(&tree, pid.cast_signed())?;
    Ok(Reply { value: 0, descriptor: Some(tree) })
}

/// Request COMPOSE.
pub fn compose(roots: &mut Roots, mut packet: Packet) -> Result<Reply, Failure> {
    let skeleton = packet.descriptor().map_err(at("read the request"))?;
    let skeleton = copy(skeleton.as_fd(), "copy the skeleton")?;
    let mut binds = Vec::new();
    while let Ok(source) = packet.descriptor() {
        let target = packet.bytes().map_err(at("read the request"))?;
        binds.push((copy(source.as_fd(), "copy a folder of the root")?, target));
    }
    if roots.place.is_none() {
        roots.place = Some(Place::make()?);
    }
    let Some(place) = &roots.place else { return Ok(Reply::default()) };
    let name = roots.count.to_string();
    place.within(|directory| {
        rustix::fs::mkdirat(directory, &*name, Mode::RWXU).map_err(at("make a place for the root"))?;
        let filled = fill(directory, &name, &skeleton, &binds);
        if filled.is_err() {
            let _ = rustix::mount::unmount(format!("/mnt/{name}"), UnmountFlags::DETACH);
            let _ = rustix::fs::unlinkat(directory, &*name, rustix::fs::AtFlags::REMOVEDIR);
        }
        filled
    })?;
    roots.count += 1;
    Ok(Reply { value: roots.count - 1, descriptor: None })
}

fn fill(place: BorrowedFd<'_>, name: &str, skeleton: &OwnedFd, binds: &[(OwnedFd, Vec<u8>)]) -> Result<(), Failure> {
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
    onto(&devices()?, b"dev")
}

/// A place in the root, reached through no symbolic link and no `..`.
fn inside(root: &OwnedFd, target: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// A read-only `/dev` with the devices that every program may use, and nothing else.
fn devices() -> Result<OwnedFd, Failure> {
    let mount = tmpfs("size=64k,mode=0755", true)?;
    let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        rustix::fs::mknodat(&mount, name, FileType::CharacterDevice, all, rustix::fs::makedev(1, minor))
            .map_err(at("make a device"))?;
        rustix::fs::chmodat(&mount, name, all, rustix::fs::AtFlags::empty()).map_err(at("open a device to all"))?;
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
    sys::seal_mount(mount.as_fd(), true).map_err(at("seal /dev"))?;
    Ok(mount)
}
