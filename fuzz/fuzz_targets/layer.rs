//! Any bytes as a layer of an image or as a package of Debian: what is made is plain, and nothing is made outside of the folder.
#![no_main]

#[path = "shared/folder.rs"]
mod folder;

use std::os::fd::AsFd;

use folder::Folder;
use hearth_images::fuzzing;
use hearth_model::Packing;
use libfuzzer_sys::fuzz_target;

/// Bytes that a layer may unpack to.
const LIMIT: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let folder = Folder::new();
    let layer = |packing| fuzzing::unpack_layer(bytes, packing, folder.as_fd(), LIMIT);
    let unpacked = match kind % 4 {
        0 => layer(Packing::Gzip),
        1 => layer(Packing::Zstd),
        2 => layer(Packing::Plain),
        _ => fuzzing::unpack_package(bytes, folder.as_fd(), LIMIT),
    };
    assert!(unpacked.is_err() || unpacked.is_ok_and(|total| total <= LIMIT));
    folder.look();
});
