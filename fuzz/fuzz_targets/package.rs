//! Any bytes as a package: the two ways to read one agree, and nothing is written outside of the folder.
#![no_main]

use std::fs::{self, File};
use std::io::Cursor;
use std::os::fd::AsFd;

use hearth_images::package;
use libfuzzer_sys::fuzz_target;

/// Bytes that a package may unpack to.
const LIMIT: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("in");
    fs::create_dir(&folder).expect("a folder in it");
    let opened = File::open(&folder).expect("its descriptor");
    let checked = package::check(Cursor::new(bytes), LIMIT);
    let unpacked = package::unpack(Cursor::new(bytes), opened.as_fd(), LIMIT);
    assert_eq!(checked.ok(), unpacked.ok());
    assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 1);
});
