//! Unpacked layers as the root of a sandbox: each laid over those beneath it, after what it takes away of them is gone.
//! Files are the same files as in the layers' own trees. Nothing is written through a link, but where a link leads inside
//! the root.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::layer::{FILES, NOTES};
use super::notes::Notes;
use crate::layers::lay;
use crate::skeleton::NETWORK;

/// Where something is mounted in every sandbox.
const MOUNT_POINTS: &[&str] = &["dev", "opt", "proc", "sys", "tmp", "var/task"];

/// Lays layers over one another in an empty folder, the lowest first, and makes a root of it. One layer's notes at a time
/// are in memory.
pub fn stack<'a>(layers: impl IntoIterator<Item = &'a Path>, root: &Path) -> io::Result<()> {
    for layer in layers {
        let (notes, _) = Notes::read(&layer.join(NOTES))?;
        put(layer, &notes, root)?;
    }
    furnish(root)
}

fn put(layer: &Path, notes: &Notes, root: &Path) -> io::Result<()> {
    for folder in &notes.opaque {
        if let Some(folder) = real(root, folder)? {
            for entry in fs::read_dir(folder)? {
                remove(&entry?.path())?;
            }
        }
    }
    for path in &notes.gone {
        let Some(parent) = real(root, path.parent().unwrap_or(Path::new("")))? else { continue };
        remove(&parent.join(path.file_name().unwrap_or_default()))?;
    }
    let files = layer.join(FILES);
    let implied: HashSet<PathBuf> = notes.implied.iter().map(|path| files.join(path)).collect();
    // A folder that nothing names stands for whatever leads there.
    lay(&files, root, &|place, folder| if implied.contains(folder) { behind(root, place) } else { Ok(None) })?;
    for (name, file) in &notes.links {
        link(root, name, file)?;
    }
    Ok(())
}

/// The folder inside the root that a path leads to, also by links; `None` where there is none.
fn real(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = || -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
    };
    match found() {
        Ok(found) => {
            let real = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
            let root = fs::canonicalize(root)?;
            Ok(Some(real).filter(|real| real.starts_with(&root)))
        }
        Err(_) => Ok(None),
    }
}

/// Where a link inside the root leads, if that is a folder.
fn behind(root: &Path, link: &Path) -> io::Result<Option<PathBuf>> {
    let root = fs::canonicalize(root)?;
    // The link may lie in what was itself reached by another.
    let link = link.parent().map_or(Ok(link.to_owned()), |parent| {
        Ok::<_, io::Error>(fs::canonicalize(parent)?.join(link.file_name().unwrap_or_default()))
    })?;
    match link.strip_prefix(&root) {
        Ok(below) => real(&root, below),
        Err(_) => Ok(None),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// A second name for a file of a layer beneath.
fn link(root: &Path, name: &Path, file: &Path) -> io::Result<()> {
    let place = |path: &Path| -> io::Result<PathBuf> {
        let parent = real(root, path.parent().unwrap_or(Path::new("")))?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a hard link leads to no file");
        Ok(parent.ok_or_else(damaged)?.join(path.file_name().ok_or_else(damaged)?))
    };
    let (target, source) = (place(name)?, place(file)?);
    if !fs::symlink_metadata(&source).is_ok_and(|found| !found.is_dir()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a hard link leads to no file"));
    }
    remove(&target)?;
    fs::hard_link(source, target)
}

/// What every sandbox needs of its root: places to mount on, and the names of hosts, which are the sandbox's.
fn furnish(root: &Path) -> io::Result<()> {
    for place in MOUNT_POINTS {
        let mut path = root.to_owned();
        for part in Path::new(place) {
            path.push(part);
            // What is mounted there is mounted on no link.
            if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                remove(&path)?;
                fs::create_dir(&path)?;
            }
        }
    }
    let etc = root.join("etc");
    if !fs::symlink_metadata(&etc).is_ok_and(|found| found.is_dir()) {
        remove(&etc)?;
        fs::create_dir(&etc)?;
    }
    for (path, text) in NETWORK {
        remove(&root.join(path))?;
        fs::write(root.join(path), text)?;
    }
    let mounts = etc.join("mtab");
    remove(&mounts)?;
    symlink("../proc/self/mounts", mounts)
}
