//! Folders that the server names by a descriptor.

use std::ffi::{CStr, CString};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::serve::{Failure, Reply, State, at};
use crate::sys::{self, Fork};

/// The same place in this process's own mount namespace: the kernel copies a mount only for who is in its namespace, and
/// an ordinary user's launcher is in one of its own. The name is the kernel's, not the server's, and what is found there
/// must be the same file.
pub fn here(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    let name = rustix::fs::readlink(format!("/proc/self/fd/{}", descriptor.as_raw_fd()), Vec::new())?;
    let found = rustix::fs::open(name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (wanted, facts) = (rustix::fs::fstat(descriptor)?, rustix::fs::fstat(&found)?);
    if (wanted.st_dev, wanted.st_ino) == (facts.st_dev, facts.st_ino) {
        Ok(found)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Who may own what the launcher touches for the server: as the launcher's user namespace counts.
pub struct Owners {
    /// The server itself.
    pub server: u32,
    /// The users of sandboxes.
    pub sandboxes: Option<RangeInclusive<u32>>,
}

impl Owners {
    /// An error unless the server made it: with the launcher's privileges it must reach nothing that is not its own.
    pub fn require_servers(&self, descriptor: &OwnedFd) -> Result<(), Failure> {
        let facts = rustix::fs::fstat(descriptor).map_err(at("look at a folder"))?;
        if facts.st_uid == self.server {
            Ok(())
        } else {
            Err(at("look whose a folder is")(io::Error::from(io::ErrorKind::PermissionDenied)))
        }
    }

    fn may_go(&self, uid: u32) -> bool {
        uid == self.server || self.sandboxes.as_ref().is_some_and(|range| range.contains(&uid))
    }
}

/// Request CLEAR: in a child, because there may be much to remove.
pub fn clear(state: &mut State, folder: &OwnedFd) -> Result<Reply, Failure> {
    state.owners.require_servers(folder)?;
    match sys::fork().map_err(at("fork"))? {
        Fork::Child => sys::exit_now(i32::from(empty(folder.as_fd(), &state.owners).is_err())),
        Fork::Parent(pid) => {
            state.children.insert(pid, None);
            Ok(Reply::value(pid))
        }
    }
}

/// Removes all that is in a folder. What it holds is a stranger's: no link is followed, and folders within folders are
/// moved to the top first, so that neither their depth nor their number costs descriptors, stack, or more than one look.
/// Ends at the first thing that is neither the server's nor a sandbox's.
fn empty(folder: BorrowedFd<'_>, owners: &Owners) -> io::Result<()> {
    let top = open(folder, c".")?;
    let mut waiting = list(&top)?;
    let mut moved = 0u64;
    while let Some(name) = waiting.pop() {
        if !is_folder(&top, &name, owners)? {
            rustix::fs::unlinkat(&top, &name, AtFlags::empty())?;
            continue;
        }
        let inner = open(top.as_fd(), &name)?;
        for name in list(&inner)? {
            if is_folder(&inner, &name, owners)? {
                waiting.push(move_up(&inner, &name, &top, &mut moved)?);
            } else {
                rustix::fs::unlinkat(&inner, &name, AtFlags::empty())?;
            }
        }
        rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

fn move_up(inner: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> io::Result<CString> {
    loop {
        *moved += 1;
        let place = CString::new(format!(".{moved}"))?;
        match rustix::fs::renameat_with(inner, name, top, &place, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(place),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn open(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

fn list(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// A folder is opened to its owner, who is about to remove it.
fn is_folder(folder: &OwnedFd, name: &CStr, owners: &Owners) -> io::Result<bool> {
    let facts = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !owners.may_go(facts.st_uid) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let is_folder = FileType::from_raw_mode(facts.st_mode) == FileType::Directory;
    if is_folder {
        rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
    }
    Ok(is_folder)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn deep_and_closed_folders_go_and_links_are_not_followed() {
        let (top, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("kept"), "x").unwrap();
        symlink(outside.path(), top.path().join("link")).unwrap();
        fs::write(top.path().join(".1"), "in the way").unwrap();
        let closed = top.path().join("closed");
        fs::create_dir_all(closed.join("a/b")).unwrap();
        fs::write(closed.join("a/b/f"), "x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let folder = OwnedFd::from(fs::File::open(top.path()).unwrap());
        let mut at = rustix::fs::openat(&folder, c".", OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..1000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = open(at.as_fd(), c"d").unwrap();
        }
        let own = rustix::process::geteuid().as_raw();
        let stranger = Owners { server: own.wrapping_add(1), sandboxes: Some(7..=9) };
        assert!(stranger.require_servers(&folder).is_err());
        assert_eq!(empty(folder.as_fd(), &stranger).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        empty(folder.as_fd(), &Owners { server: own, sandboxes: None }).unwrap();
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
