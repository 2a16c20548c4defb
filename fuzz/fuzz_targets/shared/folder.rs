//! A folder for what is hostile, and a look at what it made there.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

pub struct Folder {
    /// Holds the folder and nothing else.
    parent: tempfile::TempDir,
    opened: File,
}

#[derive(Default)]
pub struct Found {
    /// In files, and in the targets of links.
    pub bytes: u64,
}

impl Folder {
    pub fn new() -> Self {
        // In memory where there is such a place: no disk is to be worn out.
        let place = ["/dev/shm", "/tmp"].into_iter().find(|place| Path::new(place).is_dir()).unwrap_or(".");
        let parent = tempfile::tempdir_in(place).expect("a folder");
        fs::create_dir(parent.path().join("in")).expect("a folder in it");
        let opened = File::open(parent.path().join("in")).expect("its descriptor");
        Folder { parent, opened }
    }

    /// Panics when there is anything but plain files, folders and links, or anything beside the folder.
    pub fn look(&self) -> Found {
        let beside: Vec<_> = fs::read_dir(self.parent.path())
            .expect("the parent")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(beside, ["in"], "something was made outside");
        let mut found = Found::default();
        let mut folders = vec![self.parent.path().join("in")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let facts = fs::symlink_metadata(&path).expect("its facts");
                let kind = facts.file_type();
                assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{path:?} is {kind:?}");
                assert!(kind.is_symlink() || facts.permissions().mode() & 0o7000 == 0, "{path:?} has special bits");
                if kind.is_dir() {
                    folders.push(path);
                } else {
                    // A file of many names is there once.
                    found.bytes += facts.len() / facts.nlink();
                }
            }
        }
        found
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}
