//! Any bytes as a command for an init.
#![no_main]

use std::fs::File;
use std::io::Write;

use hearth_sandbox::fuzzing::is_command;
use libfuzzer_sys::fuzz_target;
use rustix::fs::MemfdFlags;

fuzz_target!(|bytes: &[u8]| {
    let file = rustix::fs::memfd_create("command", MemfdFlags::CLOEXEC).expect("a memory file");
    let mut file = File::from(file);
    file.write_all(bytes).expect("room in it");
    is_command(file.into());
});
