//! Limits and freezing by control groups: version 1, version 2, and both side by side (decision 16).
//!
//! Every group of an instance lies below `hearth-INSTANCE`, one folder per sandbox and hierarchy: at the top of each
//! hierarchy where the launcher is root, else below the group that the user was given. The launcher makes that folder
//! ([`settle`]), the server all that is in it. Files are opened when used: an idle environment holds no descriptor here.
//! Where the hierarchies are, `hierarchies` knows.

mod hierarchies;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_model::Memory;
use rustix::event::EventfdFlags;

use crate::driver::Usage;
use crate::privilege::Owner;

use hierarchies::Place;
pub use hierarchies::{Hierarchies, Reach};

/// Processes and threads of a function (spec 3.1).
pub const PROCESSES_MAX: u32 = 1024;
/// Of these the sandbox's init is one more.
const TASKS_MAX: u32 = PROCESSES_MAX + 1;
/// Kernel memory of a function's sockets on version 1, which counts it apart from all other memory and by itself limits
/// it only for the whole host: some sockets that nobody reads would take gigabytes. Bytes.
const SOCKETS_MAX: u64 = 16 << 20;
/// Weights of all functions of an instance together for each CPU of the host: those of one ordinary process there, so
/// that spinning functions starve neither the server nor the host.
const SHARES_PER_CPU: u64 = 1024;
const WEIGHT_PER_CPU: u64 = 100;
/// Room for a file of statistics, bytes: they have one or two kilobytes.
const STAT_MAX: usize = 8192;
/// The bandwidth controller's period, microseconds.
const PERIOD_US: u64 = 100_000;
/// All groups of all instances begin so.
const PREFIX: &str = "hearth-";
/// The group of server and launcher themselves, where theirs had to become empty.
const SERVER: &str = "server";

/// Makes the folders of an instance and gives them to `owner`. The launcher's.
pub fn settle(hierarchies: &Hierarchies, instance: &str, owner: Option<Owner>) -> io::Result<()> {
    let folder = format!("{PREFIX}{instance}");
    for root in hierarchies.roots() {
        make(&root.join(&folder))?;
    }
    delegate(hierarchies, &folder, owner.is_none())?;
    weigh(hierarchies, &folder)?;
    if let Some(place) = hierarchies.freezer.as_ref().filter(|_| hierarchies.unified.is_none()) {
        // The first freeze in a system is slow, later ones are not: one empty group stays frozen.
        let dummy = place.root.join(&folder).join("frozen");
        make(&dummy)?;
        fs::write(dummy.join("freezer.state"), "FROZEN")?;
    }
    let Some(owner) = owner else { return Ok(()) };
    for root in hierarchies.roots() {
        std::os::unix::fs::chown(root.join(&folder), Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

/// Lets the controllers of version 2 reach the sandboxes' groups. A group of one's own must be empty for that: the
/// server and this process move below it.
fn delegate(hierarchies: &Hierarchies, folder: &str, own: bool) -> io::Result<()> {
    let Some(root) = &hierarchies.unified else { return Ok(()) };
    let places = [("memory", &hierarchies.memory), ("cpu", &hierarchies.cpu), ("pids", &hierarchies.pids)];
    let wanted: Vec<&str> = places
        .into_iter()
        .filter(|(_, place)| place.as_ref().is_some_and(|place| place.unified))
        .map(|(name, _)| name)
        .collect();
    if own && !wanted.is_empty() {
        let server = root.join(folder).join(SERVER);
        make(&server)?;
        let parent = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
        for pid in [parent, 0] {
            fs::write(server.join("cgroup.procs"), pid.to_string())?;
        }
    }
    for controller in wanted {
        for folder in [root.clone(), root.join(folder)] {
            fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
    }
    Ok(())
}

/// What the functions together weigh against the rest of the host, when CPU is short.
fn weigh(hierarchies: &Hierarchies, folder: &str) -> io::Result<()> {
    let Some(place) = &hierarchies.cpu else { return Ok(()) };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let folder = place.root.join(folder);
    if place.unified {
        fs::write(folder.join("cpu.weight"), (WEIGHT_PER_CPU * cpus).min(10_000).to_string())
    } else {
        fs::write(folder.join("cpu.shares"), (SHARES_PER_CPU * cpus).to_string())
    }
}

/// Removes the folders of an instance whose sandboxes are gone. The launcher's, at its end.
pub fn unsettle(hierarchies: &Hierarchies, instance: &str) {
    for root in hierarchies.roots() {
        let folder = root.join(format!("{PREFIX}{instance}"));
        let server = folder.join(SERVER);
        if server.exists() {
            // Back to where it came from, which must have no controllers then.
            for controller in ["memory", "cpu", "pids"] {
                for folder in [&folder, root] {
                    let _ = fs::write(folder.join("cgroup.subtree_control"), format!("-{controller}"));
                }
            }
            let _ = fs::write(root.join("cgroup.procs"), "0");
            end_group(&server);
        }
        let _ = fs::remove_dir(folder.join("frozen"));
        for group in fs::read_dir(&folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
            end_group(&group.path());
        }
        let _ = fs::remove_dir(&folder);
    }
}

/// The groups of one instance, whose folders the launcher has made.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Hierarchies,
    folder: String,
}

impl Cgroups {
    pub fn new(hierarchies: Hierarchies, instance: &str) -> Self {
        Cgroups { hierarchies, folder: format!("{PREFIX}{instance}") }
    }

    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// Groups for one sandbox, and the ways into them for the launcher.
    pub fn create(&self, id: u64) -> io::Result<(Group, Entrances)> {
        let at = |place: &Option<Place>| {
            place.as_ref().map(|place| (place.root.join(&self.folder).join(id.to_string()), place.unified))
        };
        let group = Group {
            memory: at(&self.hierarchies.memory),
            cpu: at(&self.hierarchies.cpu),
            pids: at(&self.hierarchies.pids),
            unified: self.hierarchies.unified.as_ref().map(|root| root.join(&self.folder).join(id.to_string())),
            freezer: at(&self.hierarchies.freezer).map(|(path, _)| path),
        };
        let mut entrances = Entrances::default();
        for folder in group.folders() {
            make(folder)?;
            if group.unified.as_deref() == Some(folder) {
                entrances.unified = Some(fs::File::open(folder)?.into());
            } else {
                entrances.folders.push(fs::File::open(folder)?.into());
            }
        }
        group.limit_as_all()?;
        Ok((group, entrances))
    }

    /// Removes what an instance left behind that is no longer there. The caller knows that it is not running.
    pub fn sweep(hierarchies: &Hierarchies, instance: &str) {
        for root in hierarchies.roots() {
            let folder = root.join(format!("{PREFIX}{instance}"));
            for group in fs::read_dir(&folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
                if group.file_name() == SERVER {
                    let _ = fs::remove_dir(group.path());
                } else {
                    end_group(&group.path());
                }
            }
            let _ = fs::remove_dir(&folder);
        }
    }

    /// Ids of the instances that have groups on this host.
    pub fn instances(hierarchies: &Hierarchies) -> BTreeSet<String> {
        let folders =
            hierarchies.roots().into_iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
        folders.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX).map(str::to_owned)).collect()
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Thaws and kills what is in a group, and removes it. Dying takes CPU, and with many processes its time.
fn end_group(folder: &Path) {
    let _ = write_existing(&folder.join("cpu.max"), "max");
    let _ = write_existing(&folder.join("cpu.cfs_quota_us"), "-1");
    for _ in 0..500 {
        let _ = fs::write(folder.join("cgroup.freeze"), "0");
        let _ = fs::write(folder.join("freezer.state"), "THAWED");
        for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid) = pid.parse::<i32>() {
                let _ = crate::sys::kill(pid);
            }
        }
        match fs::remove_dir(folder) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
    tracing::warn!(folder = %folder.display(), "a control group of an ended instance cannot be removed");
}

/// Ways into a sandbox's groups that take no lock of the whole host: to be born in the one of version 2, and for a
/// thread to move itself into those of version 1. Moving a process by its pid waits for every fork and exit on the host.
#[derive(Debug, Default)]
pub struct Entrances {
    /// Folder of version 2.
    pub unified: Option<OwnedFd>,
    /// Folders of version 1, one a hierarchy.
    pub folders: Vec<OwnedFd>,
}

/// How a group says that memory ran out.
pub struct MemoryWatch {
    /// A file with a line `oom_kill N`. On version 2 it is ready as an exception when something in it has changed.
    pub counts: OwnedFd,
    /// On version 1: readable then.
    pub event: Option<OwnedFd>,
}

/// The groups of one sandbox.
#[derive(Debug)]
pub struct Group {
    memory: Option<(PathBuf, bool)>,
    cpu: Option<(PathBuf, bool)>,
    pids: Option<(PathBuf, bool)>,
    unified: Option<PathBuf>,
    freezer: Option<PathBuf>,
}

impl Group {
    fn folders(&self) -> BTreeSet<&Path> {
        let controllers = [&self.memory, &self.cpu, &self.pids].into_iter().flatten().map(|(path, _)| path.as_path());
        let freezer = self.freezer.as_deref().filter(|_| self.unified.is_none());
        controllers.chain(self.unified.as_deref()).chain(freezer).collect()
    }

    /// What is the same for every sandbox: processes, no swap, sockets.
    fn limit_as_all(&self) -> io::Result<()> {
        if let Some((pids, _)) = &self.pids {
            fs::write(pids.join("pids.max"), TASKS_MAX.to_string())?;
        }
        match &self.memory {
            // Not there where the kernel has no swap accounting.
            Some((folder, true)) => optional(fs::write(folder.join("memory.swap.max"), "0")),
            Some((folder, false)) => {
                optional(fs::write(folder.join("memory.swappiness"), "0"))?;
                optional(fs::write(folder.join("memory.kmem.tcp.limit_in_bytes"), SOCKETS_MAX.to_string()))
            }
            None => Ok(()),
        }
    }

    /// Memory, and CPU shares (no quota: init is not held back).
    pub fn limit(&self, memory: Memory) -> io::Result<()> {
        match &self.memory {
            Some((folder, true)) => fs::write(folder.join("memory.max"), memory.as_bytes().to_string())?,
            Some((folder, false)) => {
                fs::write(folder.join("memory.limit_in_bytes"), memory.as_bytes().to_string())?;
                optional(fs::write(folder.join("memory.memsw.limit_in_bytes"), memory.as_bytes().to_string()))?;
            }
            None => {}
        }
        match &self.cpu {
            Some((folder, true)) => {
                fs::write(folder.join("cpu.weight"), (memory.millicpus() / 10).clamp(1, 10_000).to_string())
            }
            Some((folder, false)) => {
                fs::write(folder.join("cpu.shares"), (memory.millicpus() * 1024 / 1000).max(2).to_string())
            }
            None => Ok(()),
        }
    }

    /// Where a process of this group that is killed for want of memory shows.
    pub fn watch_memory(&self) -> io::Result<Option<MemoryWatch>> {
        match &self.memory {
            Some((folder, true)) => {
                Ok(Some(MemoryWatch { counts: fs::File::open(folder.join("memory.events"))?.into(), event: None }))
            }
            Some((folder, false)) => {
                let counts = fs::File::open(folder.join("memory.oom_control"))?;
                let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                let registration = format!("{} {}", event.as_raw_fd(), counts.as_raw_fd());
                fs::write(folder.join("cgroup.event_control"), registration)?;
                Ok(Some(MemoryWatch { counts: counts.into(), event: Some(event) }))
            }
            None => Ok(None),
        }
    }

    /// CPU in proportion to memory. An idle function may use up to one period's quota at once.
    pub fn limit_cpu(&self, memory: Memory) -> io::Result<()> {
        let quota = (PERIOD_US * memory.millicpus() / 1000).max(1000);
        // The burst may not pass the quota; kernels before 5.14 have none.
        match &self.cpu {
            Some((folder, true)) => {
                fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
                optional(fs::write(folder.join("cpu.max.burst"), quota.to_string()))
            }
            Some((folder, false)) => {
                fs::write(folder.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())?;
                optional(fs::write(folder.join("cpu.cfs_burst_us"), quota.to_string()))
            }
            None => Ok(()),
        }
    }

    /// No quota from now on: for processes that are to end, which takes CPU too.
    pub fn unlimit_cpu(&self) -> io::Result<()> {
        match &self.cpu {
            Some((folder, true)) => write_existing(&folder.join("cpu.max"), "max"),
            Some((folder, false)) => write_existing(&folder.join("cpu.cfs_quota_us"), "-1"),
            None => Ok(()),
        }
    }

    pub fn freeze(&self) -> io::Result<()> {
        self.set_frozen("1", "FROZEN")
    }

    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen("0", "THAWED")
    }

    fn set_frozen(&self, v2: &str, v1: &str) -> io::Result<()> {
        match (&self.unified, &self.freezer) {
            (Some(folder), _) => write_existing(&folder.join("cgroup.freeze"), v2),
            (None, Some(folder)) => write_existing(&folder.join("freezer.state"), v1),
            (None, None) => Ok(()),
        }
    }

    /// Whether it can freeze.
    pub fn freezes(&self) -> bool {
        self.unified.is_some() || self.freezer.is_some()
    }

    /// Whether it knows how much memory is used.
    pub fn weighs(&self) -> bool {
        self.memory.is_some()
    }

    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        let mut room = [0; STAT_MAX];
        match &self.memory {
            Some((folder, true)) => {
                let stat = read_at_once(&folder.join("memory.stat"), &mut room)?;
                usage.memory = field(stat, "anon") + field(stat, "shmem") + field(stat, "kernel");
                usage.oom_kills = field(read_at_once(&folder.join("memory.events"), &mut room)?, "oom_kill");
            }
            Some((folder, false)) => {
                let stat = read_at_once(&folder.join("memory.stat"), &mut room)?;
                usage.memory = field(stat, "total_rss") + field(stat, "total_shmem");
                let kernel = read_at_once(&folder.join("memory.kmem.usage_in_bytes"), &mut room).unwrap_or_default();
                usage.memory += kernel.trim().parse::<u64>().unwrap_or(0);
                usage.oom_kills = field(read_at_once(&folder.join("memory.oom_control"), &mut room)?, "oom_kill");
            }
            None => {}
        }
        Ok(usage)
    }

    /// After the sandbox's last process is gone.
    pub fn remove(&self) {
        for folder in self.folders() {
            end_group(folder);
        }
    }
}

/// A small file of the kernel, which gives all of it to the first that reads: the warm path's.
fn read_at_once<'a>(path: &Path, room: &'a mut [u8]) -> io::Result<&'a str> {
    use std::io::Read;
    let read = fs::File::open(path)?.read(room)?;
    std::str::from_utf8(&room[..read]).map_err(io::Error::other)
}

/// One open and one write, without creating or truncating: the warm path's.
fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(()),
        other => other,
    }
}

/// The number on the line of this name; 0 when there is none.
pub fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let stat = "total_rss_huge 5\ntotal_rss 7\n";
        assert_eq!((field(stat, "total_rss"), field(stat, "rss")), (7, 0));
    }
}
