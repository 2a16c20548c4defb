//! Zips: checked whole before they are kept, and unpacked into a folder of their own. They are hostile: sizes are counted
//! as they come out, names stay inside, and links are made last, so that nothing is written through one. Outside of
//! tests this runs in a process of its own (`unpacker`).
//!
//! What a function sees of them (docs/decisions/0010): permission bits as packed, but readable for all, and executable
//! for all where they are for the owner; times as packed, taken as UTC; links as they are written, so that they lead
//! where they lead inside the sandbox.

mod below;
mod names;

use std::io::{self, Read, Seek, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zip::read::ZipFile;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, System, ZipArchive};

use below::Below;
use names::Names;

/// Most entries of a package, the folders above them counted too. What reading the list of them takes in memory stays
/// below 100 MB.
const ENTRIES_MAX: usize = 200_000;
/// Sum of the lengths of all paths, those of the folders above them counted too, bytes.
const NAMES_MAX: usize = 64 << 20;
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
    #[error("it has more than {ENTRIES_MAX} entries, or their names are too long")]
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
    walk(zip, limit, &mut Nowhere)
}

/// Unpacks into an empty folder; answers the sum of the sizes. What fails leaves a part behind, for the caller to remove.
pub fn unpack(zip: impl Read + Seek, folder: BorrowedFd<'_>, limit: u64) -> Result<u64, Error> {
    let mut below = Below::new(folder);
    let total = walk(zip, limit, &mut below)?;
    below.finish()?;
    Ok(total)
}

/// What happens to entries. Every path is inside, plain, and named once; a folder comes before what is in it.
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
    let mut walk = Walk { names: Names::default(), total: 0, limit, sink };
    for index in 0..archive.len() {
        walk.entry(&mut archive.by_index(index)?)?;
    }
    Ok(walk.total)
}

struct Walk<'a> {
    names: Names,
    /// Bytes so far.
    total: u64,
    limit: u64,
    sink: &'a mut dyn Sink,
}

impl Walk<'_> {
    fn entry<R: Read>(&mut self, entry: &mut ZipFile<'_, R>) -> Result<(), Error> {
        let name = name(entry)?;
        let path = names::inside(&name)?;
        let method = entry.compression();
        if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
            return Err(Error::Method { name: shown(&name), method });
        }
        if is_folder(&name) {
            return self.folders(&path);
        }
        if path.as_os_str().is_empty() {
            return Err(Error::Outside(shown(&name)));
        }
        self.folders(path.parent().unwrap_or(Path::new("")))?;
        self.names.leaf(&path)?;
        if entry.is_symlink() {
            let target = link_target(entry).ok_or_else(|| Error::Special(shown(&name)))??;
            self.take(target.as_os_str().len() as u64)?;
            return self.sink.link(&path, target);
        }
        let mode = mode(entry).ok_or_else(|| Error::Special(shown(&name)))?;
        let modified = modified(entry);
        let mut content = self.sink.file(&path)?;
        self.copy(entry, &mut *content)?;
        Ok(content.close(mode, modified)?)
    }

    /// This folder and those above it.
    fn folders(&mut self, path: &Path) -> Result<(), Error> {
        for new in self.names.enter(path)? {
            self.sink.folder(new)?;
        }
        Ok(())
    }

    fn copy(&mut self, from: &mut dyn Read, to: &mut dyn Write) -> Result<(), Error> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).map_err(Error::Damaged)?;
            if read == 0 {
                return Ok(());
            }
            self.take(read as u64)?;
            to.write_all(&buffer[..read])?;
        }
    }

    /// Counts bytes, before they are written.
    fn take(&mut self, bytes: u64) -> Result<(), Error> {
        self.total += bytes;
        if self.total > self.limit { Err(Error::TooLarge { limit: self.limit }) } else { Ok(()) }
    }
}

/// An entry's name. Packers that write UTF-8 do not always say so; what is neither that nor said to be is of DOS.
fn name<R: Read>(entry: &ZipFile<'_, R>) -> Result<String, Error> {
    match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Ok(entry.name()?.into_owned()),
    }
}

fn is_folder(name: &str) -> bool {
    name.ends_with(['/', '\\'])
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

/// A name as errors show it.
fn shown(name: &str) -> String {
    name.chars().take(200).collect()
}

/// Takes everything and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn folder(&mut self, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn file(&mut self, _: &Path) -> Result<Box<dyn Content>, Error> {
        Ok(Box::new(io::sink()))
    }

    fn link(&mut self, _: &Path, _: PathBuf) -> Result<(), Error> {
        Ok(())
    }
}

impl Content for io::Sink {
    fn close(self: Box<Self>, _: u32, _: SystemTime) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
