//! Zips: checked whole before they are kept, and unpacked into a folder of their own. They are hostile: sizes are counted
//! as they come out, names stay inside, and links are made last, so that nothing is written through one.
//!
//! What a function sees of them (docs/decisions/0010): permission bits as packed, but readable for all, and executable
//! for all where they are for the owner; times as packed, taken as UTC; links as they are written, so that they lead
//! where they lead inside the sandbox.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use zip::read::ZipFile;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, System, ZipArchive};

/// Most entries of a package. What reading the list of them takes in memory stays below 100 MB.
const ENTRIES_MAX: usize = 200_000;
/// Longest name of an entry, and target of a symbolic link, bytes (the kernel's limit on paths).
const PATH_MAX: usize = 4095;
/// File types in the upper bits of Unix modes.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
/// When the times of zips begin: 1980.
const ZIP_EPOCH: Duration = Duration::from_secs(315_532_800);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Zip(#[from] zip::result::ZipError),
    #[error("it has no files")]
    Empty,
    #[error("it has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
    #[error("two of its entries bear one name")]
    Duplicate,
    #[error("two of its entries share bytes")]
    Overlap,
    #[error("the entry {0:?} leads out of the package")]
    Outside(String),
    #[error("the entry {0:?} is there twice, or below a file")]
    Conflict(String),
    #[error("the entry {0:?} is neither file, folder nor link")]
    Special(String),
    #[error("the entry {name:?} is packed by {method}")]
    Method { name: String, method: CompressionMethod },
    #[error("its files are larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("an entry is damaged: {0}")]
    Damaged(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads every entry to its end; answers the sum of their sizes.
pub fn check(zip: impl Read + Seek, limit: u64) -> Result<u64, Error> {
    walk(zip, limit, &mut Nowhere::default())
}

/// Unpacks into an empty folder; answers the sum of the sizes. What fails leaves a part behind, for the caller to remove.
pub fn unpack(zip: impl Read + Seek, folder: &Path, limit: u64) -> Result<u64, Error> {
    let mut below = Below { folder, made: HashSet::new(), links: Vec::new() };
    let total = walk(zip, limit, &mut below)?;
    below.finish()?;
    Ok(total)
}

/// What happens to entries. Every path is inside and plain.
trait Sink {
    fn folder(&mut self, path: &Path) -> Result<(), Error>;
    /// The content, then `close` once it is whole.
    fn file(&mut self, path: &Path) -> Result<Box<dyn Content>, Error>;
    fn link(&mut self, path: &Path, target: PathBuf) -> Result<(), Error>;
}

trait Content: Write {
    fn close(self: Box<Self>, mode: u32, modified: SystemTime) -> io::Result<()>;
}

fn walk(mut zip: impl Read + Seek, limit: u64, sink: &mut dyn Sink) -> Result<u64, Error> {
    // Before the list is read into memory.
    if ZipIterable::try_new(&mut zip, zip::read::Config::default())?.len() > ENTRIES_MAX {
        return Err(Error::TooManyEntries);
    }
    let mut archive = ZipArchive::new(zip)?;
    if archive.is_empty() {
        return Err(Error::Empty);
    }
    if archive.has_duplicate_names() {
        return Err(Error::Duplicate);
    }
    if archive.has_overlapping_entries()? {
        return Err(Error::Overlap);
    }
    let mut total = 0;
    for index in 0..archive.len() {
        total += entry(&mut archive.by_index(index)?, limit - total, limit, sink)?;
    }
    Ok(total)
}

/// One entry; answers its size.
fn entry<R: Read>(entry: &mut ZipFile<'_, R>, rest: u64, limit: u64, sink: &mut dyn Sink) -> Result<u64, Error> {
    let name = entry.name()?.into_owned();
    let path = inside(&name)?;
    let method = entry.compression();
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(Error::Method { name: shown(&name), method });
    }
    if entry.is_dir() {
        sink.folder(&path)?;
        return Ok(0);
    }
    if path.as_os_str().is_empty() {
        return Err(Error::Outside(shown(&name)));
    }
    if entry.is_symlink() {
        let target = link_target(entry).ok_or_else(|| Error::Special(shown(&name)))??;
        sink.link(&path, target)?;
        return Ok(0);
    }
    let mode = mode(entry).ok_or_else(|| Error::Special(shown(&name)))?;
    let modified = modified(entry);
    let mut content = sink.file(&path)?;
    let size = copy(entry, &mut *content, rest, limit)?;
    content.close(mode, modified)?;
    Ok(size)
}

/// The target of a link as it is written; `None` when it cannot be one.
fn link_target(entry: &mut impl Read) -> Option<Result<PathBuf, Error>> {
    let mut target = Vec::new();
    if let Err(e) = entry.take(PATH_MAX as u64 + 1).read_to_end(&mut target) {
        return Some(Err(Error::Damaged(e)));
    }
    let plain = !target.is_empty() && target.len() <= PATH_MAX && !target.contains(&0);
    plain.then(|| Ok(std::os::unix::ffi::OsStringExt::from_vec(target)).map(|os: std::ffi::OsString| os.into()))
}

fn copy(from: &mut dyn Read, to: &mut dyn Write, rest: u64, limit: u64) -> Result<u64, Error> {
    let mut buffer = [0; 64 * 1024];
    let mut total = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => read,
            Err(e) => return Err(Error::Damaged(e)),
        };
        total += read as u64;
        if total > rest {
            return Err(Error::TooLarge { limit });
        }
        to.write_all(&buffer[..read])?;
    }
}

/// Permission bits of a file; `None` for devices, pipes and sockets. Packers on other systems than Unix have none to
/// tell, whatever they write: their files are not executable.
fn mode<R: Read>(entry: &ZipFile<'_, R>) -> Option<u32> {
    let packed = match entry.system() {
        System::Unix | System::OsDarwin => entry.external_attributes() >> 16,
        _ => 0,
    };
    let executable = if packed & 0o100 == 0 { 0 } else { 0o111 };
    match packed & TYPE {
        0 | REGULAR if packed & 0o777 == 0 => Some(0o644),
        0 | REGULAR => Some(packed & 0o777 | 0o444 | executable),
        _ => None,
    }
}

fn modified<R: Read>(entry: &ZipFile<'_, R>) -> SystemTime {
    let packed = entry.last_modified().and_then(|time| {
        let date = jiff::civil::date(i16::try_from(time.year()).ok()?, 1, 1)
            .with()
            .month(i8::try_from(time.month()).ok()?)
            .day(i8::try_from(time.day()).ok()?)
            .build()
            .ok()?;
        let seconds = u64::from(time.hour()) * 3600 + u64::from(time.minute()) * 60 + u64::from(time.second());
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(midnight).ok()? + seconds))
    });
    packed.unwrap_or(SystemTime::UNIX_EPOCH + ZIP_EPOCH)
}

/// A relative path of plain names. Windows packers write `\`.
fn inside(name: &str) -> Result<PathBuf, Error> {
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

/// A name as errors show it.
fn shown(name: &str) -> String {
    name.chars().take(200).collect()
}

/// Takes everything, keeps what is needed to find conflicts.
#[derive(Default)]
struct Nowhere {
    folders: HashSet<PathBuf>,
    others: HashSet<PathBuf>,
}

impl Nowhere {
    fn enter(&mut self, path: &Path) -> Result<(), Error> {
        for folder in path.ancestors() {
            if self.others.contains(folder) {
                return Err(Error::Conflict(shown(&path.to_string_lossy())));
            }
            if !self.folders.insert(folder.to_owned()) {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        self.enter(path.parent().unwrap_or(Path::new("")))?;
        if self.folders.contains(path) || !self.others.insert(path.to_owned()) {
            return Err(Error::Conflict(shown(&path.to_string_lossy())));
        }
        Ok(())
    }
}

impl Sink for Nowhere {
    fn folder(&mut self, path: &Path) -> Result<(), Error> {
        self.enter(path)
    }

    fn file(&mut self, path: &Path) -> Result<Box<dyn Content>, Error> {
        self.add(path)?;
        Ok(Box::new(io::sink()))
    }

    fn link(&mut self, path: &Path, _: PathBuf) -> Result<(), Error> {
        self.add(path)
    }
}

impl Content for io::Sink {
    fn close(self: Box<Self>, _: u32, _: SystemTime) -> io::Result<()> {
        Ok(())
    }
}

struct Below<'a> {
    folder: &'a Path,
    made: HashSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// What went wrong at a path, where the package itself may be the reason.
fn conflict(path: &Path) -> impl Fn(io::Error) -> Error {
    move |e| match e.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Error::Conflict(shown(&path.to_string_lossy())),
        _ => Error::Io(e),
    }
}

impl Below<'_> {
    /// Makes a folder and those above it; every one is ours, none a link.
    fn make(&mut self, path: &Path) -> Result<(), Error> {
        if path.as_os_str().is_empty() || self.made.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make(parent)?;
        }
        fs::create_dir(self.folder.join(path)).map_err(conflict(path))?;
        self.made.insert(path.to_owned());
        Ok(())
    }

    /// Links, now that nothing is written any more; then the folders, whose times the writing moved.
    fn finish(self) -> Result<(), Error> {
        for (path, target) in &self.links {
            symlink(target, self.folder.join(path)).map_err(conflict(path))?;
        }
        for path in self.made.iter().map(|path| self.folder.join(path)).chain([self.folder.to_owned()]) {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            File::open(&path)?.set_modified(SystemTime::UNIX_EPOCH + ZIP_EPOCH)?;
        }
        Ok(())
    }
}

impl Sink for Below<'_> {
    fn folder(&mut self, path: &Path) -> Result<(), Error> {
        self.make(path)
    }

    fn file(&mut self, path: &Path) -> Result<Box<dyn Content>, Error> {
        self.make(path.parent().unwrap_or(Path::new("")))?;
        Ok(Box::new(File::create_new(self.folder.join(path)).map_err(conflict(path))?))
    }

    fn link(&mut self, path: &Path, target: PathBuf) -> Result<(), Error> {
        self.make(path.parent().unwrap_or(Path::new("")))?;
        self.links.push((path.to_owned(), target));
        Ok(())
    }
}

impl Content for File {
    fn close(self: Box<Self>, mode: u32, modified: SystemTime) -> io::Result<()> {
        self.set_permissions(fs::Permissions::from_mode(mode))?;
        self.set_modified(modified)
    }
}

#[cfg(test)]
mod tests;
