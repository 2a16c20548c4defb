//! Unpacked packages in the cache folder: `HEX` is whole or not there. Who uses one holds a shared lock on `HEX.lock`;
//! who removes one must get it alone. So data folders can share the cache.

use std::any::Any;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hearth_model::{CodeHash, CodeTree};

#[derive(Clone)]
pub struct CodeTrees {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    /// Locks that are held by trees in use.
    leases: Mutex<HashMap<CodeHash, Weak<dyn Any + Send + Sync>>>,
}

impl CodeTrees {
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(CodeTrees { inner: Arc::new(Inner { folder: folder.to_owned(), leases: Mutex::default() }) })
    }

    fn path(&self, code: CodeHash) -> PathBuf {
        self.inner.folder.join(code.to_hex())
    }

    fn lock_file(&self, code: CodeHash) -> io::Result<File> {
        let path = self.path(code).with_extension("lock");
        OpenOptions::new().write(true).create(true).truncate(false).open(path)
    }

    /// The tree, if it is there.
    pub fn lease(&self, code: CodeHash) -> io::Result<Option<CodeTree>> {
        let path = self.path(code);
        let mut leases = self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = leases.get(&code).and_then(Weak::upgrade) {
            return Ok(Some(CodeTree { path, lease }));
        }
        let lock = self.lock_file(code)?;
        lock.lock_shared()?;
        if !path.exists() {
            return Ok(None);
        }
        let lease: Arc<dyn Any + Send + Sync> = Arc::new(lock);
        leases.insert(code, Arc::downgrade(&lease));
        Ok(Some(CodeTree { path, lease }))
    }

    /// Makes the tree, unless somebody was faster, and leases it. Blocking.
    pub fn make(&self, code: CodeHash, unpack: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<CodeTree> {
        let lock = self.lock_file(code)?;
        lock.lock()?;
        let path = self.path(code);
        if !path.exists() {
            let beside = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.inner.folder)?;
            unpack(beside.path())?;
            fs::set_permissions(beside.path(), fs::Permissions::from_mode(0o755))?;
            fs::rename(beside.keep(), &path)?;
        }
        drop(lock);
        self.lease(code)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Removes the tree, unless somebody uses it: the next removal of the same code, or an emptied cache, ends it then.
    pub fn remove(&self, code: CodeHash) -> io::Result<()> {
        let lock = self.lock_file(code)?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        match fs::remove_dir_all(self.path(code)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::remove_file(self.path(code).with_extension("lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: CodeHash = CodeHash([7; 32]);

    #[test]
    fn a_tree_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let trees = CodeTrees::open(folder.path()).unwrap();
        let tree = trees.make(CODE, |folder| fs::write(folder.join("f"), "x")).unwrap();
        trees.remove(CODE).unwrap();
        assert!(tree.path.join("f").exists());
        drop(tree);
        trees.remove(CODE).unwrap();
        assert!(trees.lease(CODE).unwrap().is_none());
    }

    #[test]
    fn what_fails_to_unpack_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let trees = CodeTrees::open(folder.path()).unwrap();
        assert!(trees.make(CODE, |_| Err(io::ErrorKind::InvalidData.into())).is_err());
        assert!(trees.lease(CODE).unwrap().is_none());
    }
}
