//! Any bytes as a package: the two ways to read one agree; what is made is plain, and nothing is made outside of the
//! folder.
#![no_main]

#[path = "shared/folder.rs"]
mod folder;

use std::io::Cursor;
use std::os::fd::AsFd;

use folder::Folder;
use hearth_images::fuzzing;
use libfuzzer_sys::fuzz_target;

/// Bytes that a package may unpack to.
const LIMIT: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let folder = Folder::new();
    let checked = fuzzing::check(Cursor::new(bytes), LIMIT);
    let unpacked = fuzzing::unpack(Cursor::new(bytes), folder.as_fd(), LIMIT);
    match (&checked, &unpacked) {
        (Ok(checked), Ok(unpacked)) => {
            assert_eq!(checked, unpacked);
            assert!(*unpacked <= LIMIT);
            assert_eq!(folder.look().bytes, *unpacked);
        }
        (Err(_), Err(_)) => drop(folder.look()),
        _ => panic!("{checked:?} when checked, {unpacked:?} when unpacked"),
    }
});
