//! The data folder: one server at a time, a stable instance id, and the version of what is stored in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::keys::random;

/// Version of the stored format. A folder of an older version is migrated forward, one of a newer is refused.
const FORMAT: u32 = 1;

/// An opened data folder. No other process opens the same folder while the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    instance: String,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("the data folder {} is in use by another Hearth{}", path.display(), holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse { path: PathBuf, holder: Option<String> },
    #[error("the data folder {} was written by a newer Hearth (format {found}, this one knows {FORMAT})", path.display())]
    Newer { path: PathBuf, found: u32 },
    #[error("the data folder {} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error("cannot use the data folder {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Opens the folder, making it (mode 0700) if it is not there.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let path = path.canonicalize().map_err(io)?;
        let lock = lock(&path)?;
        check_format(&path)?;
        let instance = instance(&path)?;
        for sub in ["blobs", "logs", "objects"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path.join(sub)).map_err(io)?;
        }
        Ok(DataDir { path, instance, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// 16 hex digits that name this folder for ever: every cgroup and mount of the instance carries them.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn records(&self) -> PathBuf {
        self.path.join("records.sqlite")
    }

    pub fn queue(&self) -> PathBuf {
        self.path.join("queue.sqlite")
    }

    /// Packages of functions and layers.
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// Contents of objects.
    pub fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let io = |source| FolderError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let holder = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
            return Err(FolderError::InUse { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

fn check_format(path: &Path) -> Result<(), FolderError> {
    match read_small(path, "format")? {
        None => write_small(path, "format", &format!("{FORMAT}\n")),
        Some(text) => match text.trim().parse::<u32>() {
            Ok(found) if found > FORMAT => Err(FolderError::Newer { path: path.to_owned(), found }),
            Ok(FORMAT) => Ok(()),
            _ => Err(FolderError::Damaged { path: path.to_owned(), what: "the file `format` holds no known version" }),
        },
    }
}

fn instance(path: &Path) -> Result<String, FolderError> {
    if let Some(text) = read_small(path, "instance")? {
        let id = text.trim();
        return if id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(id.to_owned())
        } else {
            Err(FolderError::Damaged { path: path.to_owned(), what: "the file `instance` holds no id" })
        };
    }
    let bytes: [u8; 8] = random();
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_small(path, "instance", &format!("{id}\n"))?;
    Ok(id)
}

fn read_small(path: &Path, name: &str) -> Result<Option<String>, FolderError> {
    match fs::read_to_string(path.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FolderError::Io { path: path.to_owned(), source }),
    }
}

/// Whole or not at all: written beside and renamed.
fn write_small(path: &Path, name: &str, text: &str) -> Result<(), FolderError> {
    let write = || {
        let beside = path.join(format!("{name}.new"));
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path.join(name))?;
        File::open(path)?.sync_all()
    };
    write().map_err(|source| FolderError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opening_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("in use by another Hearth") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn the_instance_id_stays_and_differs_between_folders() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = DataDir::open(a.path()).unwrap().instance().to_owned();
        assert_eq!(DataDir::open(a.path()).unwrap().instance(), first);
        assert_ne!(DataDir::open(b.path()).unwrap().instance(), first);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("format"), "2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(FolderError::Newer { found: 2, .. })));
        fs::write(dir.path().join("format"), "x").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(FolderError::Damaged { .. })));
    }
}
