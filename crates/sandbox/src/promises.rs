//! What each layer holds, by the way in which Hearth runs here; `probe` then tries each. For `hearth doctor`, the lines at
//! start, and the table in `docs/ways.md`.

use crate::cgroup::Hierarchies;
use crate::driver::Promise;
use crate::isolation::Isolation;
use crate::launcher::Standing;
use crate::walls;

/// In the order of the documentation.
pub const NAMES: [&str; 10] =
    ["memory", "cpu", "processes", "tmp", "network", "filesystem", "uid", "seccomp", "landlock", "freeze"];

const DELEGATE: &str =
    "start it as root, or in a control group that is its own: systemd-run --user --scope -p Delegate=yes";
const MOUNT: &str = "mount a cgroup hierarchy with this controller, or boot with cgroup v2";
const ROOT: &str = "start it as root";
const PROCESS: &str = "isolation process";

/// What a way of running is made of.
pub struct Ground<'a> {
    pub isolation: Isolation,
    pub standing: Standing,
    pub hierarchies: &'a Hierarchies,
    /// Version of the kernel's Landlock, 0 without.
    pub landlock: i32,
}

impl Ground<'_> {
    /// Every promise, once.
    pub fn promises(&self) -> Vec<Promise> {
        NAMES.iter().map(|name| self.promise(name)).collect()
    }

    fn promise(&self, name: &'static str) -> Promise {
        let Standing { images, uids, namespaces, tunnels, .. } = self.standing;
        let landlock = self.isolation == Isolation::Landlock;
        match name {
            "memory" | "cpu" => self.controlled(name, name),
            "processes" => match self.hierarchies.holder("pids") {
                Some(by) => kept(name, by),
                None if namespaces => kept(name, "RLIMIT_NPROC, counted in a user namespace"),
                None => self.controlled(name, "pids"),
            },
            "tmp" if images => kept(name, "ext4 image on a loop device"),
            "tmp" if self.standing.privileged => broken(
                name,
                "a folder on disk: there are no loop devices here",
                "give it /dev/loop-control and loop devices",
            ),
            "tmp" => broken(name, "a folder on disk, whose size nothing limits: only root can mount an image", ROOT),
            "network" if tunnels => {
                kept(name, "network namespace; what leaves it is let through by the server, as egress.allow says")
            }
            "network" if namespaces => {
                kept(name, "network namespace; no way out, as /dev/net/tun is not there or not this user's")
            }
            "network" if landlock && self.landlock >= walls::PORTS => {
                let why =
                    "the host's network: TCP to the ports of the function's own APIs, on any address; nothing else";
                broken(name, why, PROCESS)
            }
            "network" if landlock => broken(name, "the host's network: any TCP connection", PROCESS),
            "filesystem" if namespaces => kept(name, "mount namespace, read-only root"),
            "filesystem" if landlock => kept(name, "Landlock: the host's libraries, the function's code and its /tmp"),
            "uid" if uids => kept(name, "user namespace, a host uid for each environment"),
            "uid" if namespaces => broken(
                name,
                "all environments run as the one user who started it",
                "ranges of subordinate ids (/etc/subuid, /etc/subgid) and newuidmap, or start it as root",
            ),
            "seccomp" if self.isolation != Isolation::None => kept(name, "allow-list of system calls"),
            "landlock" if self.isolation != Isolation::None => self.landlock(),
            "freeze" => match self.hierarchies.holder("freeze") {
                Some(by) => kept(name, by),
                None => broken(
                    name,
                    "SIGSTOP to every process, which they can see afterwards",
                    if self.standing.privileged { MOUNT } else { DELEGATE },
                ),
            },
            "uid" if landlock => broken(name, "all environments run as the server's own user", PROCESS),
            _ => broken(name, "functions are not confined (isolation none)", PROCESS),
        }
    }

    fn controlled(&self, name: &'static str, controller: &str) -> Promise {
        match self.hierarchies.holder(controller) {
            Some(by) => kept(name, by),
            None if self.standing.privileged => {
                broken(name, format!("no cgroup hierarchy has the {controller} controller"), MOUNT)
            }
            None => broken(name, format!("no control group with the {controller} controller is this user's"), DELEGATE),
        }
    }

    fn landlock(&self) -> Promise {
        if self.landlock >= walls::REFER {
            kept("landlock", format!("Landlock of version {}", self.landlock))
        } else {
            broken(
                "landlock",
                "the kernel has no Landlock",
                "Linux 5.19 or newer with landlock among its security modules",
            )
        }
    }
}

/// Nothing is held, for one reason.
pub fn none(reason: &str) -> Vec<Promise> {
    NAMES.iter().map(|name| broken(name, reason, "see docs/ways.md for what each way of running needs")).collect()
}

pub fn kept(name: &'static str, by: impl Into<String>) -> Promise {
    Promise { name, held: true, by: by.into(), why: String::new(), fix: String::new() }
}

pub fn broken(name: &'static str, why: impl Into<String>, fix: &str) -> Promise {
    Promise { name, held: false, by: String::new(), why: why.into(), fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// What the columns of the table stand on.
    fn grounds() -> Vec<(&'static str, Isolation, Standing, Hierarchies)> {
        let all = Hierarchies::example();
        let standing = |privileged, namespaces| Standing {
            privileged,
            images: privileged,
            uids: privileged,
            namespaces,
            tunnels: namespaces,
        };
        vec![
            ("root", Isolation::Process, standing(true, true), all.clone()),
            ("user, delegated cgroup", Isolation::Process, standing(false, true), all),
            ("user", Isolation::Process, standing(false, true), Hierarchies::default()),
            ("`landlock`", Isolation::Landlock, standing(false, false), Hierarchies::default()),
            ("`none`", Isolation::None, standing(false, false), Hierarchies::default()),
        ]
    }

    fn table() -> String {
        let columns: Vec<(&str, Vec<Promise>)> = grounds()
            .into_iter()
            .map(|(title, isolation, standing, hierarchies)| {
                (title, Ground { isolation, standing, hierarchies: &hierarchies, landlock: 6 }.promises())
            })
            .collect();
        let mut table = String::from("| promise |");
        for (title, _) in &columns {
            let _ = write!(table, " {title} |");
        }
        table.push_str("\n|---|");
        columns.iter().for_each(|_| table.push_str("---|"));
        for (row, name) in NAMES.iter().enumerate() {
            let _ = write!(table, "\n| {name} |");
            for (_, promises) in &columns {
                let promise = &promises[row];
                let held = if promise.held {
                    format!("held: {}", promise.by)
                } else {
                    format!("**not held**: {}", promise.why)
                };
                let _ = write!(table, " {held} |");
            }
        }
        table
    }

    #[test]
    fn the_table_in_docs_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ways.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (begin, end) = ("<!-- table: begin -->\n", "\n<!-- table: end -->");
        let (before, rest) = page.split_once(begin).unwrap();
        let (kept, after) = rest.split_once(end).unwrap();
        let made = table();
        if std::env::var_os("HEARTH_UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{begin}{made}{end}{after}")).unwrap();
        } else {
            assert!(kept == made, "docs/ways.md is out of date: HEARTH_UPDATE_DOCS=1 cargo test -p hearth-sandbox");
        }
    }

    #[test]
    fn what_is_not_held_says_why_and_what_to_do() {
        for (title, isolation, standing, hierarchies) in grounds() {
            for landlock in [0, 2, 6] {
                let promises = Ground { isolation, standing, hierarchies: &hierarchies, landlock }.promises();
                assert_eq!(promises.iter().map(|promise| promise.name).collect::<Vec<_>>(), NAMES);
                for promise in promises {
                    let Promise { name, held, by, why, fix } = promise;
                    assert_eq!(held, !by.is_empty(), "{title} {name}");
                    assert_eq!(!held, !why.is_empty() && !fix.is_empty(), "{title} {name}");
                }
            }
        }
    }
}
