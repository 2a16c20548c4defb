//! A package's file: an `ar` archive of three members, of which the last is a tar of what the package is made of. What
//! its scripts are, in the second one, is not looked at. Foreign bytes: read in the process of `unpacker`.

use std::io::{self, Read};

use super::super::oci::layer::Error;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;
/// Most members that stand before the one of files.
const MEMBERS_MAX: usize = 8;

/// How the files are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

impl Packed {
    /// By the end of a name.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once(".tar").or_else(|| name.rsplit_once("Packages"))?.1 {
            "" => Some(Packed::Plain),
            ".gz" => Some(Packed::Gzip),
            ".xz" => Some(Packed::Xz),
            ".zst" => Some(Packed::Zstd),
            _ => None,
        }
    }
}

/// Goes to the files of a package; answers how they are packed, and their bytes.
pub fn files<R: Read>(mut deb: R) -> Result<(Packed, io::Take<R>), Error> {
    let mut magic = [0; MAGIC.len()];
    deb.read_exact(&mut magic).map_err(Error::Damaged)?;
    if magic != *MAGIC {
        return Err(damaged("it does not begin as one does"));
    }
    for _ in 0..MEMBERS_MAX {
        let mut header = [0; HEADER];
        deb.read_exact(&mut header).map_err(Error::Damaged)?;
        let text = std::str::from_utf8(&header).map_err(|_| damaged("a member has no name"))?;
        let size = text.get(48..58).and_then(|size| size.trim().parse::<u64>().ok());
        let (Some(size), Some("`\n")) = (size, text.get(58..60)) else { return Err(damaged("a member has no size")) };
        let name = text.get(..16).unwrap_or_default().trim().trim_end_matches('/');
        if name.starts_with("data.tar") {
            let packed = Packed::of(name).ok_or_else(|| damaged("its files are packed in a way that is not known"))?;
            return Ok((packed, deb.take(size)));
        }
        // Members begin at even places.
        let skipped = size + size % 2;
        if io::copy(&mut deb.by_ref().take(skipped), &mut io::sink()).map_err(Error::Damaged)? < skipped {
            return Err(damaged("it ends in the middle"));
        }
    }
    Err(damaged("it has no files"))
}

fn damaged(reason: &str) -> Error {
    Error::Damaged(io::Error::new(io::ErrorKind::InvalidData, format!("this is no package of Debian: {reason}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deb(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in members {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
            bytes.extend(*content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn the_files_are_found_however_they_are_packed() {
        for (name, expected) in [
            ("data.tar", Packed::Plain),
            ("data.tar.gz", Packed::Gzip),
            ("data.tar.xz/", Packed::Xz),
            ("data.tar.zst", Packed::Zstd),
        ] {
            let bytes =
                deb(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, b"content"), ("_x", b"more")]);
            let (packed, mut content) = files(&*bytes).unwrap();
            let mut read = String::new();
            content.read_to_string(&mut read).unwrap();
            assert_eq!((packed, &*read), (expected, "content"), "{name}");
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let no_files = deb(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"x")]);
        let bzip2 = deb(&[("data.tar.bz2", b"x")]);
        let mut no_size = deb(&[("data.tar.xz", b"x")]);
        no_size[MAGIC.len() + 48..MAGIC.len() + 58].copy_from_slice(b"-1        ");
        for bytes in [&b""[..], b"nonsense", MAGIC, &no_files, &bzip2, &no_size, &no_files[..100]] {
            assert!(matches!(files(bytes), Err(Error::Damaged(_))));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = files(&*bytes);
            let _ = files(&*[MAGIC.to_vec(), bytes].concat());
        }
    }
}
