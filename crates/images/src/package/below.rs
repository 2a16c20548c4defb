//! Entries as files below one folder. Everything goes through that folder's descriptor: no path leads out of it, and
//! none through a link.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Content, Error, Sink, ZIP_EPOCH, shown};

pub struct Below<'a> {
    folder: BorrowedFd<'a>,
    /// Those that were made; the topmost first.
    folders: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Below<'a> {
    pub fn new(folder: BorrowedFd<'a>) -> Self {
        Below { folder, folders: Vec::new(), links: Vec::new() }
    }

    fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(self.folder, path, flags | OFlags::CLOEXEC, mode, resolve)?)
    }

    /// Opens the folder above a path; answers it with the last name.
    fn above<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p Path)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((self.open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, Path::new(name)))
    }

    /// Links, now that nothing is written any more; then the folders, whose times the writing moved.
    pub fn finish(self) -> Result<(), Error> {
        for (path, target) in &self.links {
            let link = || {
                let (parent, name) = self.above(path)?;
                Ok(rustix::fs::symlinkat(target, parent, name)?)
            };
            link().map_err(conflict(path))?;
        }
        for path in self.folders.iter().map(PathBuf::as_path).chain([Path::new(".")]) {
            let folder = File::from(self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?);
            folder.set_permissions(Permissions::from_mode(0o755))?;
            folder.set_modified(SystemTime::UNIX_EPOCH + ZIP_EPOCH)?;
        }
        Ok(())
    }
}

/// What went wrong at a path, where the package itself may be the reason.
fn conflict(path: &Path) -> impl Fn(io::Error) -> Error {
    move |e| match e.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Error::Conflict(shown(&path.to_string_lossy())),
        _ => Error::Io(e),
    }
}

impl Sink for Below<'_> {
    fn folder(&mut self, path: &Path) -> Result<(), Error> {
        let make = || {
            let (parent, name) = self.above(path)?;
            Ok(rustix::fs::mkdirat(parent, name, Mode::RWXU)?)
        };
        make().map_err(conflict(path))?;
        self.folders.push(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<Box<dyn Content>, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Ok(Box::new(File::from(self.open(path, flags, Mode::RUSR | Mode::WUSR).map_err(conflict(path))?)))
    }

    fn link(&mut self, path: &Path, target: PathBuf) -> Result<(), Error> {
        self.links.push((path.to_owned(), target));
        Ok(())
    }
}

impl Content for File {
    fn close(self: Box<Self>, mode: u32, modified: SystemTime) -> io::Result<()> {
        self.set_permissions(Permissions::from_mode(mode))?;
        self.set_modified(modified)
    }
}
