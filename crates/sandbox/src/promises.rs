//! What the process driver holds on this host, for `hearth doctor` and the lines at start.

use crate::cgroup::Hierarchies;
use crate::driver::Promise;

const MOUNT_CONTROLLER: &str = "mount a cgroup hierarchy with this controller, or boot with cgroup v2";

/// Every promise in the order of the documentation.
pub fn held(hierarchies: &Hierarchies) -> Vec<Promise> {
    let controlled = |name, controller: &str| match hierarchies.holder(controller) {
        Some(by) => kept(name, by),
        None => broken(name, format!("no cgroup hierarchy has the {controller} controller"), MOUNT_CONTROLLER),
    };
    vec![
        controlled("memory", "memory"),
        controlled("cpu", "cpu"),
        controlled("processes", "pids"),
        kept("tmp", "ext4 image on a loop device"),
        kept("network", "network namespace without a route out"),
        kept("filesystem", "mount namespace, read-only root"),
        kept("uid", "user namespace, a host uid for each environment"),
        kept("seccomp", "allow-list of system calls"),
        broken("landlock", "not used yet: the mount namespace already hides the host's files".to_owned(), ""),
        controlled("freeze", "freeze"),
    ]
}

/// Nothing is held, for one reason.
pub fn none(reason: &str) -> Vec<Promise> {
    NAMES.iter().map(|name| broken(name, reason.to_owned(), "see hearth doctor")).collect()
}

const NAMES: [&str; 10] =
    ["memory", "cpu", "processes", "tmp", "network", "filesystem", "uid", "seccomp", "landlock", "freeze"];

fn kept(name: &'static str, by: impl Into<String>) -> Promise {
    Promise { name, held: true, by: by.into(), why: String::new(), fix: String::new() }
}

fn broken(name: &'static str, why: String, fix: &str) -> Promise {
    Promise { name, held: false, by: String::new(), why, fix: fix.to_owned() }
}
