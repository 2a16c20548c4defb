//! What a layer does to the layers beneath it. Written by the process that unpacks, read by the server as anything that
//! came from a stranger.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::path;

/// Longest file of notes that is read, bytes: paths, and a few bytes for each.
const BYTES_MAX: u64 = 40 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Paths that are no more.
    pub gone: Vec<PathBuf>,
    /// Folders of which nothing beneath is left.
    pub opaque: Vec<PathBuf>,
    /// Folders that no entry names, which only stand above one.
    pub implied: Vec<PathBuf>,
    /// Names for files of a layer beneath: name, file.
    pub links: Vec<(PathBuf, PathBuf)>,
}

impl Notes {
    /// A letter and a path at a time, each with a zero byte at its end; the sum of the files' sizes first.
    pub fn to_bytes(&self, total: u64) -> Vec<u8> {
        let mut bytes = format!("{total}\0").into_bytes();
        let mut write = |kind: u8, path: &Path| {
            bytes.push(kind);
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(0);
        };
        self.gone.iter().for_each(|path| write(b'g', path));
        self.opaque.iter().for_each(|path| write(b'o', path));
        self.implied.iter().for_each(|path| write(b'i', path));
        for (name, file) in &self.links {
            write(b'n', name);
            write(b'f', file);
        }
        bytes
    }

    /// Of a layer's tree; with the sum of its files' sizes.
    pub fn read(file: &Path) -> io::Result<(Self, u64)> {
        let mut bytes = Vec::new();
        File::open(file)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Self::parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a layer's notes are damaged"))
    }

    fn parse(bytes: &[u8]) -> Option<(Self, u64)> {
        let mut records = bytes.strip_suffix(&[0])?.split(|byte| *byte == 0);
        let total = std::str::from_utf8(records.next()?).ok()?.parse().ok()?;
        let mut notes = Notes::default();
        while let Some(record) = records.next() {
            let (kind, path) = split(record)?;
            match kind {
                b'g' => notes.gone.push(path),
                b'o' => notes.opaque.push(path),
                b'i' => notes.implied.push(path),
                b'n' => {
                    let (b'f', file) = split(records.next()?)? else { return None };
                    notes.links.push((path, file));
                }
                _ => return None,
            }
        }
        Some((notes, total))
    }
}

fn split(record: &[u8]) -> Option<(u8, PathBuf)> {
    let (kind, name) = record.split_first()?;
    let path = path::inside(name)?;
    (path.as_os_str() == OsStr::from_bytes(name)).then_some((*kind, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        let notes = Notes {
            gone: paths(&["a/b", "c\nd"]),
            opaque: paths(&["", "e"]),
            implied: paths(&["f/g"]),
            links: vec![("h".into(), "i/j".into())],
        };
        assert_eq!(Notes::parse(&notes.to_bytes(7)), Some((notes, 7)));
        assert_eq!(Notes::parse(&Notes::default().to_bytes(0)), Some((Notes::default(), 0)));
    }

    #[test]
    fn what_leads_out_is_no_note() {
        for bytes in
            [&b""[..], b"7", b"x\0", b"7\0g../x\0", b"7\0g/x\0", b"7\0q\0", b"7\0nx\0", b"7\0nx\0gx\0", b"7\0\0"]
        {
            assert_eq!(Notes::parse(bytes), None, "{bytes:?}");
        }
    }
}
