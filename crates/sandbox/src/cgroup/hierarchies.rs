//! Where this host's hierarchies of control groups are mounted, and which of them hold which controller.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::PREFIX;

/// Which groups may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At the top of every hierarchy.
    Top,
    /// Below the group of this process, in hierarchies where it may write: delegation.
    Own,
}

/// Where a controller lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// Folder in which the instance's own is made.
    pub root: PathBuf,
    pub unified: bool,
}

/// What this host offers.
#[derive(Clone, Debug, Default)]
pub struct Hierarchies {
    pub(super) memory: Option<Place>,
    pub(super) cpu: Option<Place>,
    pub(super) pids: Option<Place>,
    pub(super) freezer: Option<Place>,
    pub(super) unified: Option<PathBuf>,
}

impl Hierarchies {
    pub fn detect(reach: Reach) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = match reach {
            Reach::Top => None,
            Reach::Own => Some(fs::read_to_string("/proc/self/cgroup")?),
        };
        let controllers = |unified: &Path| fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        let mut found = Self::parse(&mounts, own.as_deref(), controllers);
        if reach == Reach::Own {
            found.retain(|folder| {
                let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
                may_write(folder) && may_write(&folder.join("cgroup.procs"))
            });
        }
        Ok(found)
    }

    /// `own` is the text of `/proc/self/cgroup` when only groups below this process's own are wanted.
    fn parse(mountinfo: &str, own: Option<&str>, controllers: impl Fn(&Path) -> String) -> Self {
        let mut found = Hierarchies::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let mut places = mount.split(' ').skip(3);
            let (Some(shown), Some(point)) = (places.next(), places.next().map(PathBuf::from)) else { continue };
            let mut fields = filesystem.split(' ');
            let kind = fields.next();
            let options = fields.nth(1).unwrap_or_default();
            let below = |controller: &str| match own {
                None => Some(point.clone()),
                Some(own) => own_folder(own, controller, shown).map(|own| point.join(own)),
            };
            match kind {
                Some("cgroup") => options.split(',').for_each(|option| {
                    let Some(root) = below(option) else { return };
                    found.add_v1(option, root);
                }),
                Some("cgroup2") => found.unified = below(""),
                _ => {}
            }
        }
        if let Some(root) = found.unified.clone() {
            let names = controllers(&root);
            let place =
                |name| names.split_whitespace().any(|n| n == name).then(|| Place { root: root.clone(), unified: true });
            found.memory = found.memory.or_else(|| place("memory"));
            found.cpu = found.cpu.or_else(|| place("cpu"));
            found.pids = found.pids.or_else(|| place("pids"));
        }
        found
    }

    fn add_v1(&mut self, controller: &str, root: PathBuf) {
        let place = Some(Place { root, unified: false });
        match controller {
            "memory" => self.memory = place,
            "cpu" => self.cpu = place,
            "pids" => self.pids = place,
            "freezer" => self.freezer = place,
            _ => {}
        }
    }

    /// One with everything, for documents.
    #[cfg(test)]
    pub fn example() -> Self {
        Self::parse("1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", None, |_| "memory cpu pids".to_owned())
    }

    fn retain(&mut self, usable: impl Fn(&Path) -> bool) {
        for place in [&mut self.memory, &mut self.cpu, &mut self.pids, &mut self.freezer] {
            *place = place.take().filter(|place| usable(&place.root));
        }
        self.unified = self.unified.take().filter(|root| usable(root));
    }

    /// `v1`, `v2` or `hybrid`.
    pub fn kind(&self) -> &'static str {
        let any_v1 = [&self.memory, &self.cpu, &self.pids, &self.freezer].into_iter().flatten().any(|p| !p.unified);
        match (any_v1, &self.unified) {
            (true, Some(_)) => "hybrid",
            (true, None) => "v1",
            (false, _) => "v2",
        }
    }

    /// What holds a promise: `cgroup v1 memory`; `None` when nothing does.
    pub fn holder(&self, controller: &str) -> Option<String> {
        let place = match controller {
            "memory" => &self.memory,
            "cpu" => &self.cpu,
            "pids" => &self.pids,
            _ => {
                let v1 = self.freezer.as_ref().map(|_| "cgroup v1 freezer".to_owned());
                return self.unified.as_ref().map(|_| "cgroup v2 freeze".to_owned()).or(v1);
            }
        };
        place.as_ref().map(|place| format!("cgroup {} {controller}", if place.unified { "v2" } else { "v1" }))
    }

    /// Folders in which an instance's own are made, one a hierarchy.
    pub fn roots(&self) -> BTreeSet<&Path> {
        let places = [&self.memory, &self.cpu, &self.pids].into_iter().flatten().map(|place| place.root.as_path());
        let freezer = self.freezer.as_ref().filter(|_| self.unified.is_none()).map(|place| place.root.as_path());
        places.chain(freezer).chain(self.unified.as_deref()).collect()
    }
}

/// Where this process is in a hierarchy, seen from its mount; without what an instance of Hearth has made there.
fn own_folder<'a>(own: &'a str, controller: &str, shown: &str) -> Option<&'a Path> {
    let found = own.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    })?;
    let below = Path::new(found).strip_prefix(shown).ok()?;
    let cut = below.ancestors().filter(|folder| {
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
    });
    Some(cut.last().and_then(Path::parent).unwrap_or(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 24 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n";
    const V2: &str = "33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn every_layout_of_hierarchies_is_told_apart() {
        let v1 = Hierarchies::parse(V1, None, |_| String::new());
        assert_eq!((v1.kind(), v1.holder("freeze").as_deref()), ("v1", Some("cgroup v1 freezer")));
        assert_eq!((v1.holder("cpu").as_deref(), v1.holder("pids")), (Some("cgroup v1 cpu"), None));
        let v2 = Hierarchies::parse(V2, None, |_| "cpuset cpu memory pids".to_owned());
        assert_eq!((v2.kind(), v2.holder("memory").as_deref()), ("v2", Some("cgroup v2 memory")));
        let hybrid = Hierarchies::parse(&format!("{V1}{V2}"), None, |_| "hugetlb".to_owned());
        assert_eq!((hybrid.kind(), hybrid.holder("freeze").as_deref()), ("hybrid", Some("cgroup v2 freeze")));
        assert_eq!(hybrid.holder("memory").as_deref(), Some("cgroup v1 memory"));
    }

    #[test]
    fn a_user_has_the_groups_below_its_own() {
        let own = "4:memory:/a/b\n2:cpu,cpuacct:/\n0::/user.slice/x/hearth-00/server\n";
        let found = Hierarchies::parse(&format!("{V1}{V2}"), Some(own), |_| String::new());
        let root = |place: &Option<Place>| place.as_ref().map(|place| place.root.clone());
        assert_eq!(root(&found.memory), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(root(&found.cpu), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(root(&found.freezer), None);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified/user.slice/x".into()));
        // In a container, a mount may show a part of the hierarchy.
        assert_eq!(own_folder("1:cpu:/docker/x/y\n", "cpu", "/docker/x"), Some(Path::new("y")));
        assert_eq!(own_folder("1:cpu:/elsewhere\n", "cpu", "/docker/x"), None);
    }
}
