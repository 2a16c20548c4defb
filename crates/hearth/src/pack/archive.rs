//! Zips: reading what lies in one, and making one of a folder so that equal folders give equal bytes.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::infer::is_candidate;
use super::{Entry, PackError};

/// Left out of packages: what tools keep beside the code.
const LEFT_OUT: [&str; 8] =
    [".git", ".hg", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__", ".DS_Store"];
/// AWS's limit of what a package may hold unpacked.
const UNPACKED_MAX: u64 = 262_144_000;
const ENTRIES_MAX: usize = 100_000;
/// Enough of a source file to find its handler.
const TEXT_MAX: u64 = 1 << 20;

pub fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name)
}

/// Every file of a folder that belongs into a package: paths below it, sorted.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>, PackError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let directory = folder.join(&below);
        for entry in fs::read_dir(&directory).map_err(PackError::io(&directory))? {
            let entry = entry.map_err(PackError::io(&directory))?;
            let name = entry.file_name();
            if name.to_str().is_some_and(is_left_out) {
                continue;
            }
            let kind = entry.file_type().map_err(PackError::io(&entry.path()))?;
            if kind.is_dir() {
                open.push(below.join(name));
            } else if kind.is_file() || kind.is_symlink() {
                found.push(below.join(name));
            }
            if found.len() + open.len() > ENTRIES_MAX {
                let unit = "files";
                return Err(PackError::TooLarge { path: folder.to_owned(), limit: ENTRIES_MAX as u64, unit });
            }
        }
    }
    found.sort();
    Ok(found)
}

pub fn entries_of_folder(folder: &Path) -> Result<Vec<Entry>, PackError> {
    let mut entries = Vec::new();
    for below in files_of(folder)? {
        let Some(name) = below.to_str() else { continue };
        let path = folder.join(&below);
        // A link that leads nowhere is still part of the package, but no handler.
        let Ok(metadata) = path.metadata() else { continue };
        let text = match is_candidate(name) {
            true => Some(head(File::open(&path).map_err(PackError::io(&path))?).map_err(PackError::io(&path))?),
            false => None,
        };
        let executable = metadata.permissions().mode() & 0o111 != 0;
        entries.push(Entry { name: name.to_owned(), executable, text });
    }
    Ok(entries)
}

pub fn entries_of_zip(path: &Path, file: File) -> Result<Vec<Entry>, PackError> {
    let unreadable = |e: zip::result::ZipError| PackError::Zip { path: path.to_owned(), reason: e.to_string() };
    let mut archive = ZipArchive::new(file).map_err(unreadable)?;
    let mut entries = Vec::new();
    for index in 0..archive.len().min(ENTRIES_MAX) {
        let entry = archive.by_index(index).map_err(unreadable)?;
        let name = entry.name().map_err(unreadable)?.into_owned();
        let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let text = match is_candidate(&name) {
            true => Some(head(entry).map_err(PackError::io(path))?),
            false => None,
        };
        entries.push(Entry { name, executable, text });
    }
    Ok(entries)
}

fn head(from: impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A package of a folder. Times are fixed and modes are one of two, so that an unchanged folder is an unchanged package.
pub fn zip_folder(folder: &Path) -> Result<Vec<u8>, PackError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |e: zip::result::ZipError| PackError::Zip { path, reason: e.to_string() }
    };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut total = 0;
    for below in files_of(folder)? {
        let path = folder.join(&below);
        let Some(name) = below.to_str() else {
            return Err(PackError::Zip { path, reason: "the name is not UTF-8".to_owned() });
        };
        let metadata = path.symlink_metadata().map_err(PackError::io(&path))?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default());
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(PackError::io(&path))?;
            zip.add_symlink(name, target.to_string_lossy(), options).map_err(unwritable(&path))?;
            continue;
        }
        total += metadata.len();
        if total > UNPACKED_MAX {
            return Err(PackError::TooLarge { path: folder.to_owned(), limit: UNPACKED_MAX, unit: "bytes" });
        }
        let mode = if metadata.permissions().mode() & 0o111 != 0 { 0o755 } else { 0o644 };
        zip.start_file(name, options.unix_permissions(mode)).map_err(unwritable(&path))?;
        let mut file = File::open(&path).map_err(PackError::io(&path))?.take(UNPACKED_MAX);
        std::io::copy(&mut file, &mut zip).map_err(PackError::io(&path))?;
        zip.flush().map_err(PackError::io(&path))?;
    }
    Ok(zip.finish().map_err(unwritable(folder))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, u32)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("# {name}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        folder
    }

    #[test]
    fn equal_folders_give_equal_bytes() {
        let files = [("b/app.py", 0o600), ("a.txt", 0o640), ("bootstrap", 0o700)];
        let (one, other) = (folder(&files), folder(&files));
        assert_eq!(zip_folder(one.path()).unwrap(), zip_folder(other.path()).unwrap());
    }

    #[test]
    fn a_zip_holds_what_belongs_with_modes_and_links() {
        let folder =
            folder(&[("bootstrap", 0o700), ("x.py", 0o600), (".git/config", 0o644), ("p/__pycache__/x", 0o644)]);
        std::os::unix::fs::symlink("/opt/x", folder.path().join("link")).unwrap();
        let mut zip = ZipArchive::new(Cursor::new(zip_folder(folder.path()).unwrap())).unwrap();
        let seen: Vec<(String, u32)> = (0..zip.len())
            .map(|i| {
                let entry = zip.by_index(i).unwrap();
                (entry.name().unwrap().into_owned(), entry.unix_mode().unwrap())
            })
            .collect();
        let expect = [("bootstrap", 0o100_755), ("link", 0o120_777), ("x.py", 0o100_644)];
        assert_eq!(seen, expect.map(|(name, mode)| (name.to_owned(), mode)));
        let mut target = String::new();
        zip.by_name("link").unwrap().read_to_string(&mut target).unwrap();
        assert_eq!(target, "/opt/x");
    }
}
