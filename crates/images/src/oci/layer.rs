//! Layers: tars, which are hostile. One is unpacked by itself into `files`; what it takes away from the layers beneath
//! it is written down in `notes`, for the process that lays layers over one another (`stack`). Outside of tests this runs
//! in a process of its own (`unpacker`), whose root the folder is. The files of Debian's packages are layers too.
//!
//! Owners, set-user-id, set-group-id and sticky bits, extended attributes and access lists are dropped (decision 10:
//! everything is readable for all). Devices are refused; those below `dev` are left out, where a sandbox has its own.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use hearth_model::Packing;
use lzma_rust2::XzReader;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tar::{Archive, EntryType};

use super::notes::Notes;
use super::path;
use crate::debian::deb::{self, Packed};

/// Most entries of a layer. What is remembered of them stays within the process's memory.
const ENTRIES_MAX: u64 = 1_000_000;
/// Sum of the lengths of all paths that are remembered, bytes.
const NAMES_MAX: usize = 32 << 20;
/// Most folders below one another. What walks over trees does it folder in folder.
const DEPTH_MAX: usize = 200;
/// Memory that unpacking xz may take, KiB: its largest preset needs 65 MiB.
const XZ_MEMORY_MAX: u32 = 256 << 10;
/// Where the files are, and what else is to be known.
pub const FILES: &str = "files";
pub const NOTES: &str = "notes";
/// What marks an entry that takes something away.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it has more than {ENTRIES_MAX} entries, or their names are too long")]
    TooManyEntries,
    #[error("the entry {0:?} lies below more than {DEPTH_MAX} folders")]
    TooDeep(String),
    #[error("the entry {0:?} leads out of it")]
    Outside(String),
    #[error("the entry {0:?} is there twice, as a folder and as something else")]
    Conflict(String),
    #[error("the entry {0:?} is a device, a pipe or of a kind that is not known")]
    Special(String),
    #[error("its files are larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("it is damaged: {0}")]
    Damaged(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Unpacks into an empty folder; answers the sum of the files' sizes. What fails leaves a part behind, for the caller to
/// remove.
pub fn unpack(packed: impl Read, packing: Packing, folder: BorrowedFd<'_>, limit: u64) -> Result<u64, Error> {
    let packed_as = match packing {
        Packing::Plain => Packed::Plain,
        Packing::Gzip => Packed::Gzip,
        Packing::Zstd => Packed::Zstd,
    };
    untar(plain(packed, packed_as)?, folder, limit, Paths::AsTheyAre)
}

/// The same with the files of one of Debian's packages.
pub fn unpack_package(package: impl Read, folder: BorrowedFd<'_>, limit: u64) -> Result<u64, Error> {
    let (packed_as, files) = deb::files(package)?;
    untar(plain(files, packed_as)?, folder, limit, Paths::BelowUsr)
}

/// What was packed, as it is read.
pub fn plain<'a>(packed: impl Read + 'a, packed_as: Packed) -> Result<Box<dyn Read + 'a>, Error> {
    Ok(match packed_as {
        Packed::Plain => Box::new(packed),
        Packed::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packed::Xz => Box::new(XzReader::new_mem_limit(packed, true, XZ_MEMORY_MAX)),
        Packed::Zstd => {
            let plain = ruzstd::decoding::StreamingDecoder::new(packed);
            Box::new(plain.map_err(|e| Error::Damaged(io::Error::other(e.to_string())))?)
        }
    })
}

/// Where entries lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paths {
    AsTheyAre,
    /// What packages put into `/bin`, `/lib` and their like lies below `/usr`, where links lead to, as Debian has it since
    /// its version 12 for every system.
    BelowUsr,
}

/// Folders of the root that are links into `/usr`.
pub const MERGED: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

fn untar(tar: impl Read, folder: BorrowedFd<'_>, limit: u64, paths: Paths) -> Result<u64, Error> {
    rustix::fs::mkdirat(folder, FILES, Mode::RWXU).map_err(io::Error::from)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let files = rustix::fs::openat2(folder, FILES, flags, Mode::empty(), ResolveFlags::BENEATH);
    let mut layer = Layer {
        files: files.map_err(io::Error::from)?,
        notes: Notes::default(),
        implied: BTreeSet::new(),
        folders: HashSet::new(),
        depths: HashMap::new(),
        remembered: 0,
        total: 0,
        limit,
        paths,
    };
    let mut archive = Archive::new(tar);
    let mut entries = 0;
    for entry in archive.entries().map_err(Error::Damaged)? {
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(Error::TooManyEntries);
        }
        layer.entry(&mut entry.map_err(Error::Damaged)?)?;
    }
    let total = layer.total;
    let notes = layer.into_notes();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(folder, NOTES, flags, Mode::RUSR | Mode::WUSR, ResolveFlags::BENEATH);
    File::from(file.map_err(io::Error::from)?).write_all(&notes.to_bytes(total))?;
    Ok(total)
}

struct Layer {
    files: OwnedFd,
    notes: Notes,
    /// Folders that only stand above something: a layer beneath may have a link there, which then counts.
    implied: BTreeSet<PathBuf>,
    /// Folders that are there for certain.
    folders: HashSet<PathBuf>,
    /// How deep each folder lies, by its inode: links make paths shorter than the way is.
    depths: HashMap<u64, usize>,
    /// Bytes of paths.
    remembered: usize,
    total: u64,
    limit: u64,
    paths: Paths,
}

impl Layer {
    /// Where a path of an entry lies.
    fn place(&self, path: PathBuf) -> PathBuf {
        let first = path.components().next().and_then(|first| first.as_os_str().to_str());
        let moves = self.paths == Paths::BelowUsr && first.is_some_and(|first| MERGED.contains(&first));
        if moves { Path::new("usr").join(path) } else { path }
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), Error> {
        let name = entry.path_bytes().into_owned();
        let outside = || Error::Outside(shown(&name));
        let named = path::inside(&name).ok_or_else(outside)?;
        let path = self.place(named.clone());
        let kind = entry.header().entry_type();
        if path != named && kind.is_symlink() && named.components().count() == 1 {
            // Such a link is there.
            return Ok(());
        }
        let Some(last) = path.file_name() else {
            // The root itself.
            return if kind.is_dir() { Ok(()) } else { Err(outside()) };
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let last = last.as_bytes();
        if last == OPAQUE {
            return self.note(|notes| notes.opaque.push(parent.to_owned()), parent);
        }
        if last.starts_with(RESERVED) {
            return Ok(());
        }
        if let Some(gone) = last.strip_prefix(WHITEOUT) {
            let gone = path::inside(gone).filter(|gone| gone.components().count() == 1).ok_or_else(outside)?;
            return self.note(|notes| notes.gone.push(parent.join(&gone)), &path);
        }
        match kind {
            EntryType::Directory => return self.folder(&path),
            EntryType::Char | EntryType::Block | EntryType::Fifo if path.starts_with("dev") => return Ok(()),
            EntryType::XGlobalHeader => return Ok(()),
            _ => {}
        }
        let above = self.above(parent)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &above, &path),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let plain = !target.is_empty() && target.len() <= path::LENGTH_MAX && !target.contains(&0);
                if !plain {
                    return Err(Error::Special(shown(&name)));
                }
                self.take(target.len() as u64)?;
                make_room(&above, &path)?;
                rustix::fs::symlinkat(&*target, &above, last).map_err(|e| at(&path, e))
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().and_then(|target| path::inside(&target));
                let target = self.place(target.ok_or_else(outside)?);
                self.hard_link(&above, &path, &target)
            }
            _ => Err(Error::Special(shown(&name))),
        }
    }

    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, above: &OwnedFd, path: &Path) -> Result<(), Error> {
        let (mode, modified) = (entry.header().mode().unwrap_or(0o644), entry.header().mtime().unwrap_or(0));
        make_room(above, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let name = path.file_name().unwrap_or_default();
        let made = rustix::fs::openat2(above, name, flags, Mode::RUSR | Mode::WUSR, resolve);
        let mut file = File::from(made.map_err(|e| at(path, e))?);
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = entry.read(&mut buffer).map_err(Error::Damaged)?;
            if read == 0 {
                break;
            }
            self.take(read as u64)?;
            file.write_all(&buffer[..read])?;
        }
        let executable = if mode & 0o100 == 0 { 0 } else { 0o111 };
        file.set_permissions(Permissions::from_mode(mode & 0o777 | 0o444 | executable))?;
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(modified));
        // A time that no file can have is none.
        let _ = file.set_modified(modified.unwrap_or(SystemTime::UNIX_EPOCH));
        Ok(())
    }

    /// To a file of this layer, or else to one of a layer beneath.
    fn hard_link(&mut self, above: &OwnedFd, path: &Path, target: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        let (Some(parent), Some(there)) = (target.parent(), target.file_name()) else {
            return Err(Error::Outside(shown(target.as_os_str().as_bytes())));
        };
        let found = self.open(parent).and_then(|parent| {
            let facts = rustix::fs::statx(&parent, there, AtFlags::SYMLINK_NOFOLLOW, rustix::fs::StatxFlags::TYPE)?;
            Ok((parent, FileType::from_raw_mode(facts.stx_mode.into())))
        });
        match found {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.note(|notes| notes.links.push((path.to_owned(), target.to_owned())), path)
            }
            Err(e) => Err(at(path, e)),
            Ok((_, FileType::Directory)) => Err(Error::Special(shown(path.as_os_str().as_bytes()))),
            Ok(_) if path == target => Ok(()),
            Ok((parent, _)) => {
                make_room(above, path)?;
                rustix::fs::linkat(&parent, there, above, name, AtFlags::empty()).map_err(|e| at(path, e))
            }
        }
    }

    /// A folder that the layer itself names.
    fn folder(&mut self, path: &Path) -> Result<(), Error> {
        self.implied.remove(path);
        if self.folders.contains(path) {
            return Ok(());
        }
        let above = self.above(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        match self.make_folder(&above, path)? {
            // The later entry counts, unless it is the same folder by another name.
            Err(Errno::EXIST) => match rustix::fs::unlinkat(&above, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                gone => {
                    gone.map_err(|e| at(path, e))?;
                    self.make_folder(&above, path)?.map_err(|e| at(path, e))?;
                }
            },
            made => made.map_err(|e| at(path, e))?,
        }
        self.remember(path)?;
        self.folders.insert(path.to_owned());
        Ok(())
    }

    /// Opens a folder inside; links of this layer lead where they lead in it.
    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.files, path, flags, Mode::empty(), resolve)
    }

    /// Opens a folder, and makes those of its parts that no entry has named.
    fn above(&mut self, path: &Path) -> Result<OwnedFd, Error> {
        match self.open(path) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(at(path, e)),
        }
        let mut folder = self.open(Path::new("")).map_err(|e| at(path, e))?;
        let mut so_far = PathBuf::new();
        for part in path.components() {
            so_far.push(part);
            folder = match self.open(&so_far) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    // Here a link to nowhere is in the way, and is no folder of this layer's.
                    self.make_folder(&folder, &so_far)?.map_err(|e| at(path, e))?;
                    self.remember(&so_far)?;
                    self.implied.insert(so_far.clone());
                    self.folders.insert(so_far.clone());
                    self.open(&so_far).map_err(|e| at(path, e))?
                }
                Err(e) => return Err(at(path, e)),
            };
        }
        Ok(folder)
    }

    /// Makes the last part of a path.
    fn make_folder(&mut self, above: &OwnedFd, path: &Path) -> Result<rustix::io::Result<()>, Error> {
        let inode = |folder: &OwnedFd, name: &std::ffi::OsStr| {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statx(folder, name, flags, rustix::fs::StatxFlags::INO).map(|facts| facts.stx_ino)
        };
        let own = inode(above, std::ffi::OsStr::new("")).map_err(|e| at(path, e))?;
        let depth = self.depths.get(&own).map_or(1, |above| above + 1);
        if depth > DEPTH_MAX {
            return Err(Error::TooDeep(shown(path.as_os_str().as_bytes())));
        }
        let name = path.file_name().unwrap_or_default();
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        let made = rustix::fs::mkdirat(above, name, mode);
        if made.is_ok() {
            self.depths.insert(inode(above, name).map_err(|e| at(path, e))?, depth);
        }
        Ok(made)
    }

    fn note(&mut self, add: impl FnOnce(&mut Notes), path: &Path) -> Result<(), Error> {
        self.remember(path)?;
        add(&mut self.notes);
        Ok(())
    }

    fn remember(&mut self, path: &Path) -> Result<(), Error> {
        self.remembered += path.as_os_str().len();
        if self.remembered > NAMES_MAX { Err(Error::TooManyEntries) } else { Ok(()) }
    }

    /// Counts bytes, before they are written.
    fn take(&mut self, bytes: u64) -> Result<(), Error> {
        self.total += bytes;
        if self.total > self.limit { Err(Error::TooLarge { limit: self.limit }) } else { Ok(()) }
    }

    fn into_notes(self) -> Notes {
        Notes { implied: self.implied.into_iter().collect(), ..self.notes }
    }
}

/// The later of two entries of one name counts.
fn make_room(above: &OwnedFd, path: &Path) -> Result<(), Error> {
    match rustix::fs::unlinkat(above, path.file_name().unwrap_or_default(), AtFlags::empty()) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(e) => Err(at(path, e)),
    }
}

/// What went wrong at a path, where the layer itself may be the reason.
fn at(path: &Path, error: Errno) -> Error {
    match error {
        Errno::ISDIR | Errno::NOTDIR | Errno::EXIST | Errno::PERM | Errno::LOOP => {
            Error::Conflict(shown(path.as_os_str().as_bytes()))
        }
        Errno::XDEV | Errno::NAMETOOLONG => Error::Outside(shown(path.as_os_str().as_bytes())),
        other => Error::Io(other.into()),
    }
}

/// A name as errors show it.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}
