//! Zips: checked whole before they are kept, and unpacked into a folder of their own. They are hostile: sizes are counted
//! as they come out, names stay inside, and links are made last, so that nothing is written through one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipFile;

/// Most entries of a package.
const ENTRIES_MAX: usize = 200_000;
/// Longest target of a symbolic link, bytes.
const LINK_MAX: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Zip(#[from] zip::result::ZipError),
    #[error("it has no files")]
    Empty,
    #[error("it has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
    #[error("the entry {0:?} leads out of the package")]
    Outside(String),
    #[error("the entry {0:?} is there twice, or below a file")]
    Conflict(String),
    #[error("its files are larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("an entry is damaged: {0}")]
    Damaged(io::Error),
    #[error(transparent)]
    Io(io::Error),
}

/// Reads every entry to its end; answers the sum of their sizes.
pub fn check(zip: impl Read + Seek, limit: u64) -> Result<u64, Error> {
    walk(zip, limit, &mut Nowhere)
}

/// Unpacks into an empty folder; answers the sum of the sizes. What fails leaves a part behind, for the caller to remove.
pub fn unpack(zip: impl Read + Seek, folder: &Path, limit: u64) -> Result<u64, Error> {
    let mut into = Into { folder, made: HashSet::new(), links: Vec::new() };
    let total = walk(zip, limit, &mut into)?;
    for (place, target) in into.links {
        symlink(target, place).map_err(Error::Io)?;
    }
    Ok(total)
}

/// What happens to entries.
trait Sink {
    fn folder(&mut self, path: &Path) -> Result<(), Error>;
    fn file(&mut self, path: &Path, mode: u32) -> Result<Box<dyn Write>, Error>;
    fn link(&mut self, path: &Path, target: PathBuf) -> Result<(), Error>;
}

fn walk(zip: impl Read + Seek, limit: u64, sink: &mut dyn Sink) -> Result<u64, Error> {
    let mut archive = ZipArchive::new(zip)?;
    if archive.is_empty() {
        return Err(Error::Empty);
    }
    if archive.len() > ENTRIES_MAX {
        return Err(Error::TooManyEntries);
    }
    let mut total = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let path = inside(&entry.name()?)?;
        if entry.is_dir() {
            sink.folder(&path)?;
        } else if entry.is_symlink() {
            let mut target = String::new();
            entry.by_ref().take(LINK_MAX).read_to_string(&mut target).map_err(Error::Damaged)?;
            sink.link(&path, target.into())?;
        } else {
            let mut file = sink.file(&path, mode(&entry))?;
            total += copy(&mut entry, &mut *file, limit - total, limit)?;
        }
    }
    Ok(total)
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
        to.write_all(&buffer[..read]).map_err(Error::Io)?;
    }
}

/// The permission bits as they were packed; packers without them mean readable.
fn mode<R: Read>(entry: &ZipFile<'_, R>) -> u32 {
    entry.unix_mode().map(|mode| mode & 0o777).filter(|mode| *mode != 0).unwrap_or(0o644)
}

/// A relative path of plain names. Windows packers write `\`.
fn inside(name: &str) -> Result<PathBuf, Error> {
    let outside = || Error::Outside(name.chars().take(200).collect());
    let plain = name.replace('\\', "/");
    let mut path = PathBuf::new();
    for component in Path::new(&plain).components() {
        match component {
            Component::Normal(part) if !part.as_encoded_bytes().contains(&0) => path.push(part),
            Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    Ok(path)
}

struct Nowhere;

impl Sink for Nowhere {
    fn folder(&mut self, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn file(&mut self, _: &Path, _: u32) -> Result<Box<dyn Write>, Error> {
        Ok(Box::new(io::sink()))
    }

    fn link(&mut self, _: &Path, _: PathBuf) -> Result<(), Error> {
        Ok(())
    }
}

struct Into<'a> {
    folder: &'a Path,
    made: HashSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Into<'_> {
    fn conflict(path: &Path) -> impl Fn(io::Error) -> Error {
        move |e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                Error::Conflict(path.to_string_lossy().into_owned())
            }
            _ => Error::Io(e),
        }
    }

    /// Makes a folder and those above it; every one is ours, none a link.
    fn make(&mut self, path: &Path) -> Result<(), Error> {
        if path.as_os_str().is_empty() || self.made.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make(parent)?;
        }
        fs::create_dir(self.folder.join(path)).map_err(Self::conflict(path))?;
        self.made.insert(path.to_owned());
        Ok(())
    }
}

impl Sink for Into<'_> {
    fn folder(&mut self, path: &Path) -> Result<(), Error> {
        self.make(path)
    }

    fn file(&mut self, path: &Path, mode: u32) -> Result<Box<dyn Write>, Error> {
        self.make(path.parent().unwrap_or(Path::new("")))?;
        let file = File::create_new(self.folder.join(path)).map_err(Self::conflict(path))?;
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(Error::Io)?;
        Ok(Box::new(file))
    }

    fn link(&mut self, path: &Path, target: PathBuf) -> Result<(), Error> {
        self.make(path.parent().unwrap_or(Path::new("")))?;
        self.links.push((self.folder.join(path), target));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip(build: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Cursor<Vec<u8>> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        build(&mut writer);
        writer.finish().unwrap()
    }

    fn file(writer: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, content: &[u8]) {
        writer.start_file(name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        writer.write_all(content).unwrap();
    }

    #[test]
    fn files_keep_their_permissions_and_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let package = zip(|w| file(w, "a/b/bootstrap", b"#!/bin/sh"));
        assert_eq!(unpack(package, folder.path(), 100).unwrap(), 9);
        let metadata = fs::metadata(folder.path().join("a/b/bootstrap")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "..\\x"] {
            let package = zip(|w| file(w, name, b"x"));
            assert!(matches!(check(package, 100), Err(Error::Outside(_))), "{name}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let package = zip(|w| {
            w.add_symlink("link", outside.path().to_str().unwrap(), SimpleFileOptions::default()).unwrap();
            file(w, "link/x", b"x");
        });
        assert!(unpack(package, folder.path(), 100).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_small_zip_of_much_is_refused_by_what_comes_out() {
        let package = zip(|w| file(w, "bomb", &vec![0; 1 << 20]));
        assert!(package.get_ref().len() < 4096);
        assert!(matches!(check(package, 1 << 19), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn empty_and_foreign_bytes_are_refused() {
        assert!(matches!(check(zip(|_| ()), 100), Err(Error::Empty)));
        assert!(matches!(check(Cursor::new(b"not a zip".to_vec()), 100), Err(Error::Zip(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_zips_never_write_outside(at in 0..400usize, value in any::<u8>()) {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("in");
            fs::create_dir(&folder).unwrap();
            let mut bytes = zip(|w| { file(w, "a/b.txt", b"content"); file(w, "c", b"more") }).into_inner();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = unpack(Cursor::new(bytes), &folder, 1000);
            prop_assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        }
    }
}
