//! Folders that the server names by a descriptor.

use std::ffi::{CStr, CString};
use std::io;
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

/// Request CLEAR: in a child, because there may be much to remove.
pub fn clear(state: &mut State, folder: &OwnedFd) -> Result<Reply, Failure> {
    match sys::fork().map_err(at("fork"))? {
        Fork::Child => sys::exit_now(i32::from(empty(folder.as_fd()).is_err())),
        Fork::Parent(pid) => {
            state.children.insert(pid, None);
            Ok(Reply::value(pid))
        }
    }
}

/// Removes all that is in a folder. What it holds is a stranger's: no link is followed, and folders within folders are
/// moved to the top first, so that neither their depth nor their number costs descriptors, stack, or more than one look.
fn empty(folder: BorrowedFd<'_>) -> io::Result<()> {
    let top = open(folder, c".")?;
    let mut waiting = list(&top)?;
    let mut moved = 0u64;
    while let Some(name) = waiting.pop() {
        if !is_folder(&top, &name)? {
            rustix::fs::unlinkat(&top, &name, AtFlags::empty())?;
            continue;
        }
        let inner = open(top.as_fd(), &name)?;
        for name in list(&inner)? {
            if is_folder(&inner, &name)? {
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
fn is_folder(folder: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let facts = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
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
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = open(at.as_fd(), c"d").unwrap();
        }
        empty(folder.as_fd()).unwrap();
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
