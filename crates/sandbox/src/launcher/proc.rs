//! `/proc` of a sandbox: its own processes, read-only, without what tells of the host or its other tenants.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::serve::{Failure, at};
use crate::layers::{Layer, stands};
use crate::sys;

/// Folders of the host's hardware and file systems: covered by an empty one.
const FOLDERS: &[&str] = &["acpi", "asound", "bus", "driver", "fs", "irq", "scsi", "tty"];

/// Files that tell of the host's kernel, its devices and the timing of others, or act on the host when written.
const FILES: &[&str] = &[
    "cmdline",
    "config.gz",
    "diskstats",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "locks",
    "modules",
    "partitions",
    "sched_debug",
    "schedstat",
    "softirqs",
    "sysrq-trigger",
    "timer_list",
];

/// Where there is no mount namespace.
pub fn of_the_host() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty()).map_err(at("open /proc"))
}

/// Mounts `proc` in the current directory, which is the root to be. What comes back is the same, writable: only the init
/// has it.
pub fn mount() -> Result<OwnedFd, Failure> {
    use rustix::mount::MountFlags;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if !stands(Layer::Pids) {
        // Whose processes these are, no mount of its own may show.
        rustix::mount::mount_bind_recursive("/proc", "proc").map_err(at("show the host's /proc"))?;
        return rustix::mount::open_tree(CWD, "proc", clone | OpenTreeFlags::AT_RECURSIVE).map_err(at("copy /proc"));
    }
    let options = if stands(Layer::Proc) { c"hidepid=invisible" } else { c"hidepid=off" };
    rustix::mount::mount("proc", "proc", "proc", flags, Some(options)).map_err(at("mount /proc"))?;
    let writable = rustix::mount::open_tree(CWD, "proc", clone).map_err(at("copy /proc"))?;
    if stands(Layer::Proc) && stands(Layer::Root) {
        for (names, cover) in [(FOLDERS, "mnt"), (FILES, "dev/null")] {
            for name in names {
                // One call each: a detached mount in between costs thrice the time.
                match rustix::mount::mount_bind(cover, format!("proc/{name}")) {
                    // Not every kernel has every one.
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(e) => return Err(at("cover a part of /proc")(e)),
                }
            }
        }
    }
    if stands(Layer::Proc) {
        sys::seal_path(c"proc").map_err(at("make /proc read-only"))?;
    }
    Ok(writable)
}
