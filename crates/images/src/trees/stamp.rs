//! How much is in a tree, and in which boot of the host that was true.

use std::fs;
use std::io;
use std::path::Path;

/// Of an entry beside its content, bytes: an inode, and its part of a folder.
const ENTRY_WEIGHT: u64 = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    boot: String,
    entries: u64,
    /// Sum of the files' sizes.
    bytes: u64,
}

impl Stamp {
    /// `None` when there is none, or not a whole one.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let (boot, entries, bytes) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Stamp { boot: boot.to_owned(), entries, bytes })
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, format!("{} {} {}\n", self.boot, self.entries, self.bytes))
    }

    /// Counts a tree; `None` when there is none.
    pub fn of(tree: &Path) -> io::Result<Option<Self>> {
        if !tree.is_dir() {
            return Ok(None);
        }
        let mut stamp = Stamp { boot: boot(), entries: 0, bytes: 0 };
        let mut folders = vec![tree.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                stamp.entries += 1;
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if metadata.is_file() {
                    stamp.bytes += metadata.len();
                }
            }
        }
        Ok(Some(stamp))
    }

    /// What it takes on disk, roughly: there may be many entries with nothing in them.
    pub fn weight(&self) -> u64 {
        self.bytes + self.entries * ENTRY_WEIGHT
    }

    pub fn is_of_this_boot(&self) -> bool {
        !self.boot.is_empty() && self.boot == boot()
    }

    pub fn same_content(&self, other: &Self) -> bool {
        (self.entries, self.bytes) == (other.entries, other.bytes)
    }
}

/// Empty on hosts that do not say: then every first use compares.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
