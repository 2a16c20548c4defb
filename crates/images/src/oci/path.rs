//! Paths inside a layer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Longest path, bytes (the kernel's limit).
pub const LENGTH_MAX: usize = 4095;
/// Longest name in it.
const NAME_MAX: usize = 255;

/// A relative path of plain names: tars begin theirs with `./` or `/`. Empty is the root itself; `None` leads out.
pub fn inside(name: &[u8]) -> Option<PathBuf> {
    if name.len() > LENGTH_MAX || name.contains(&0) {
        return None;
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part if part.len() > NAME_MAX => return None,
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (name, path) in [("./a/b", "a/b"), ("/etc/x/", "etc/x"), ("a//b/.", "a/b"), ("./", ""), ("", "")] {
            assert_eq!(inside(name.as_bytes()), Some(PathBuf::from(path)), "{name}");
        }
        let long = "x".repeat(256);
        for name in ["..", "a/../b", "../x", "a\0b", &long, &"x/".repeat(2048)] {
            assert_eq!(inside(name.as_bytes()), None, "{name}");
        }
    }
}
