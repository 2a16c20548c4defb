//! Names of a package: each stays inside, and means one thing.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::{ENTRIES_MAX, Error, NAMES_MAX, PATH_MAX, shown};

/// A relative path of plain names. Windows packers write `\\`.
pub fn inside(name: &str) -> Result<PathBuf, Error> {
    let outside = || Error::Outside(shown(name));
    if name.len() > PATH_MAX {
        return Err(outside());
    }
    let plain = name.replace('\\', "/");
    let mut path = PathBuf::new();
    for component in Path::new(&plain).components() {
        match component {
            Component::Normal(part) if part.len() <= 255 && !part.as_encoded_bytes().contains(&0) => path.push(part),
            Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    Ok(path)
}

/// What a package has named so far. Bounded in number and in bytes.
#[derive(Default)]
pub struct Names {
    folders: HashSet<PathBuf>,
    /// Files and links.
    leaves: HashSet<PathBuf>,
    bytes: usize,
}

impl Names {
    /// Enters a folder; answers which of it and those above are new, the topmost first.
    pub fn enter<'a>(&mut self, path: &'a Path) -> Result<Vec<&'a Path>, Error> {
        let mut new = Vec::new();
        for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            if self.leaves.contains(folder) {
                return Err(Error::Conflict(shown(&path.to_string_lossy())));
            }
            if self.folders.contains(folder) {
                break;
            }
            self.count(folder)?;
            self.folders.insert(folder.to_owned());
            new.push(folder);
        }
        new.reverse();
        Ok(new)
    }

    /// Names a file or link, in a folder that was entered.
    pub fn leaf(&mut self, path: &Path) -> Result<(), Error> {
        self.count(path)?;
        if self.folders.contains(path) || !self.leaves.insert(path.to_owned()) {
            return Err(Error::Conflict(shown(&path.to_string_lossy())));
        }
        Ok(())
    }

    fn count(&mut self, path: &Path) -> Result<(), Error> {
        self.bytes += path.as_os_str().len();
        let entries = self.folders.len() + self.leaves.len();
        if entries >= ENTRIES_MAX || self.bytes > NAMES_MAX { Err(Error::TooManyEntries) } else { Ok(()) }
    }
}
