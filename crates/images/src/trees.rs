//! Named directory trees in a folder of the cache. Each is whole or not there, and none goes while it is in use.
//!
//! A tree `NAME` has two files beside it: `NAME.lock`, held shared by who uses the tree and alone by who makes or removes
//! it, so that data folders and processes can share the cache; and `NAME.stamp`, which says how much is in it. A tree
//! appears by a rename. What the file system lost in a crash of the host shows by the stamp: in a new boot it is compared
//! once, and a tree that differs is made again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

mod stamp;

use stamp::Stamp;

/// Trees below one folder. A cheap handle; every verb but [`Trees::held`] may block.
#[derive(Clone)]
pub struct Trees {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    /// Sum of the trees' weights above which those unused for longest go.
    bytes_max: u64,
    leases: Mutex<HashMap<String, Weak<Lease>>>,
}

/// A tree in use; it stays while the lease lives.
#[derive(Clone, Debug)]
pub struct Tree {
    pub path: PathBuf,
    pub lease: Arc<Lease>,
}

/// The shared lock of a tree.
#[derive(Debug)]
pub struct Lease {
    _lock: File,
}

impl Trees {
    /// Opens or makes the folder, and removes what was left unfinished in it.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let trees = Trees { inner: Arc::new(Inner { folder: folder.to_owned(), bytes_max, leases: Mutex::default() }) };
        trees.sweep()?;
        Ok(trees)
    }

    /// The tree, if this process uses it already. Does not block.
    pub fn held(&self, name: &str) -> Option<Tree> {
        let lease = self.leases().get(name).and_then(Weak::upgrade)?;
        Some(Tree { path: self.tree(name), lease })
    }

    /// The tree: found, or made by `fill` in an empty folder. When `fill` fails nothing is left.
    pub fn make<E: From<io::Error>>(&self, name: &str, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<Tree, E> {
        let lock = loop {
            if let Some(tree) = self.find(name)? {
                return Ok(tree);
            }
            if let Some(lock) = self.lock_alone(name)? {
                break lock;
            }
        };
        self.build(name, fill)?;
        lock.lock_shared()?;
        let tree = match self.find(name)? {
            Some(tree) => tree,
            // Removed by another process in the moment between the two locks.
            None => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
        };
        drop(lock);
        self.shrink()?;
        Ok(tree)
    }

    /// Removes the tree, unless it is in use. Says whether it is gone.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let Some(lock) = self.lock_alone(name)? else { return Ok(false) };
        // Out of sight first: half a tree is never found.
        let doomed = self.beside("old", name);
        remove_tree(&doomed)?;
        match fs::rename(self.tree(name), &doomed) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => remove_tree(&doomed)?,
        }
        remove_tree(&self.beside("new", name))?;
        remove_file(&self.file(name, "stamp"))?;
        remove_file(&self.file(name, "lock"))?;
        drop(lock);
        Ok(true)
    }

    /// The tree if it is there and whole; waits while somebody makes it.
    pub fn find(&self, name: &str) -> io::Result<Option<Tree>> {
        if let Some(tree) = self.held(name) {
            return Ok(Some(tree));
        }
        let path = self.tree(name);
        let lock = loop {
            let lock = self.open_lock(name)?;
            lock.lock_shared()?;
            if self.is_current(name, &lock)? {
                break lock;
            }
        };
        if !self.is_whole(name)? {
            return Ok(None);
        }
        // When it was used last, for `shrink`.
        lock.set_modified(SystemTime::now())?;
        let mut leases = self.leases();
        leases.retain(|_, lease| lease.strong_count() > 0);
        let lease = leases.get(name).and_then(Weak::upgrade).unwrap_or_else(|| Arc::new(Lease { _lock: lock }));
        leases.insert(name.to_owned(), Arc::downgrade(&lease));
        Ok(Some(Tree { path, lease }))
    }

    fn is_whole(&self, name: &str) -> io::Result<bool> {
        let path = self.tree(name);
        let Some(stamp) = Stamp::read(&self.file(name, "stamp"))? else { return Ok(false) };
        if stamp.is_of_this_boot() {
            return Ok(path.is_dir());
        }
        let found = Stamp::of(&path)?;
        let whole = found.as_ref().is_some_and(|found| found.same_content(&stamp));
        if let Some(found) = found.filter(|_| whole) {
            found.write(&self.file(name, "stamp"))?;
        }
        Ok(whole)
    }

    /// Under the lock.
    fn build<E: From<io::Error>>(&self, name: &str, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
        let (path, new) = (self.tree(name), self.beside("new", name));
        remove_tree(&path)?;
        remove_tree(&new)?;
        fs::create_dir(&new)?;
        let filled = fill(&new).and_then(|()| {
            open_to_all(&new)?;
            let stamp = Stamp::of(&new)?.ok_or(io::ErrorKind::NotFound).map_err(io::Error::from)?;
            stamp.write(&self.file(name, "stamp"))?;
            Ok(fs::rename(&new, &path)?)
        });
        if filled.is_err() {
            remove_tree(&new)?;
        }
        filled
    }

    /// The lock of nobody else, or `None` when the tree is in use.
    fn lock_alone(&self, name: &str) -> io::Result<Option<File>> {
        loop {
            let lock = self.open_lock(name)?;
            match lock.try_lock() {
                Ok(()) if self.is_current(name, &lock)? => return Ok(Some(lock)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }

    fn open_lock(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(false).open(self.file(name, "lock"))
    }

    /// Whether the locked file is still the one of that name: a removal ends with the lock itself.
    fn is_current(&self, name: &str, lock: &File) -> io::Result<bool> {
        let held = lock.metadata()?;
        match fs::metadata(self.file(name, "lock")) {
            Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes the trees that were unused for longest, until the rest is within bounds or in use.
    fn shrink(&self) -> io::Result<()> {
        let mut trees = Vec::new();
        for name in self.names()? {
            let Some(stamp) = Stamp::read(&self.file(&name, "stamp"))? else { continue };
            let used = fs::metadata(self.file(&name, "lock")).and_then(|lock| lock.modified());
            trees.push((used.unwrap_or(SystemTime::UNIX_EPOCH), stamp.weight(), name));
        }
        let mut total: u64 = trees.iter().map(|(_, bytes, _)| bytes).sum();
        trees.sort();
        for (_, bytes, name) in trees {
            if total <= self.inner.bytes_max {
                break;
            }
            if self.remove(&name)? {
                total -= bytes;
            }
        }
        Ok(())
    }

    /// Removes what a crash left behind: unfinished trees, and locks and stamps of none.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.inner.folder)? {
            let file = entry?.file_name();
            let Some(file) = file.to_str() else { continue };
            let leftover = [".new-", ".old-"].iter().find_map(|prefix| file.strip_prefix(prefix));
            if let Some(name) = leftover {
                let Some(_lock) = self.lock_alone(name)? else { continue };
                remove_tree(&self.beside("new", name))?;
                remove_tree(&self.beside("old", name))?;
            }
        }
        for name in self.names()? {
            if !self.tree(&name).exists() {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Names that have a lock.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.folder)? {
            let file = entry?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".lock")).map(str::to_owned));
        }
        Ok(names)
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<Lease>>> {
        self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.inner.folder.join(name)
    }

    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.inner.folder.join(format!("{name}.{kind}"))
    }

    fn beside(&self, kind: &str, name: &str) -> PathBuf {
        self.inner.folder.join(format!(".{kind}-{name}"))
    }
}

/// Functions run as users of their own, whatever this process's umask is.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            open_to_all(&entry.path())?;
        } else if metadata.is_file() && mode & 0o444 != 0o444 {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode | 0o444))?;
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees(bytes_max: u64) -> (tempfile::TempDir, Trees) {
        let folder = tempfile::tempdir().unwrap();
        let trees = Trees::open(folder.path(), bytes_max).unwrap();
        (folder, trees)
    }

    fn with_file(content: &'static str) -> impl FnOnce(&Path) -> io::Result<()> {
        move |folder| fs::write(folder.join("f"), content)
    }

    fn no_making(_: &Path) -> io::Result<()> {
        panic!("it is there already")
    }

    #[test]
    fn a_tree_is_made_once() {
        let (_folder, trees) = trees(100);
        let first = trees.make("a", with_file("x")).unwrap();
        let second = trees.make("a", no_making).unwrap();
        assert_eq!(fs::read(second.path.join("f")).unwrap(), b"x");
        assert_eq!(first.path, second.path);
    }

    #[test]
    fn a_tree_in_use_stays() {
        let (_folder, trees) = trees(100);
        let tree = trees.make("a", with_file("x")).unwrap();
        assert!(!trees.remove("a").unwrap());
        assert!(tree.path.join("f").exists());
        drop(tree);
        assert!(trees.remove("a").unwrap());
        assert!(trees.held("a").is_none());
    }

    #[test]
    fn another_process_keeps_a_tree_too() {
        let (folder, ours) = trees(100);
        let other = Trees::open(folder.path(), 100).unwrap();
        let tree = other.make("a", with_file("x")).unwrap();
        assert!(!ours.remove("a").unwrap());
        assert!(tree.path.exists());
    }

    #[test]
    fn what_fails_to_fill_leaves_nothing() {
        let (folder, trees) = trees(100);
        let failed = trees.make("a", |new| {
            fs::write(new.join("f"), "x")?;
            Err(io::Error::from(io::ErrorKind::InvalidData))
        });
        assert!(failed.is_err());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["a.lock"]);
    }

    #[test]
    fn what_a_crash_left_unfinished_is_swept() {
        let (folder, first) = trees(100);
        drop(first);
        fs::create_dir(folder.path().join(".new-a")).unwrap();
        fs::write(folder.path().join(".new-a/f"), "half").unwrap();
        fs::write(folder.path().join("b.lock"), "").unwrap();
        Trees::open(folder.path(), 100).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn a_tree_that_lost_content_with_the_host_is_made_again() {
        let (folder, trees) = trees(100);
        let path = trees.make("a", with_file("whole")).unwrap().path;
        fs::write(path.join("f"), "").unwrap();
        fs::write(folder.path().join("a.stamp"), "another-boot 1 5\n").unwrap();
        let tree = trees.make("a", with_file("whole")).unwrap();
        assert_eq!(fs::read(tree.path.join("f")).unwrap(), b"whole");
    }

    #[test]
    fn a_whole_tree_outlives_the_host() {
        let (folder, trees) = trees(100);
        trees.make("a", with_file("whole")).unwrap();
        fs::write(folder.path().join("a.stamp"), "another-boot 1 5\n").unwrap();
        trees.make("a", no_making).unwrap();
    }

    #[test]
    fn the_tree_unused_for_longest_goes_when_there_is_too_much() {
        let (_folder, trees) = trees(1100);
        let held = trees.make("held", with_file("12345")).unwrap();
        let old = trees.make("old", with_file("12345")).unwrap().path;
        let new = trees.make("new", with_file("12345")).unwrap().path;
        assert!(held.path.exists() && new.exists());
        assert!(!old.exists());
    }

    #[test]
    fn many_threads_make_a_tree_once() {
        let (_folder, trees) = trees(100);
        let made = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let tree = trees.make("a", |new| {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        fs::write(new.join("f"), "x")
                    });
                    assert!(tree.unwrap().path.join("f").exists());
                });
            }
        });
        // Leases may have ended between two of them; the tree stays.
        assert_eq!(made.into_inner(), 1);
    }
}
