//! What this host lets Hearth enforce. Looks only; makes nothing and needs no server.

use hearth_sandbox::process::{Survey, survey};

use crate::documents::{Doctor, PromiseRow};
use hearth_sandbox::Isolation;

/// Without these no sandbox can be made; bit numbers of `linux/capability.h`.
const NEEDED: [(&str, u32); 5] =
    [("CAP_SETGID", 6), ("CAP_SETUID", 7), ("CAP_KILL", 5), ("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21)];

pub fn examine(isolation: Isolation) -> std::io::Result<Doctor> {
    let Survey { cgroup, promises } = survey()?;
    let mut promises: Vec<PromiseRow> = promises.into_iter().map(PromiseRow::from).collect();
    let hindrance = hindrance();
    if let Some((why, fix)) = &hindrance {
        for promise in &mut promises {
            promise.held = false;
            promise.by.clear();
            promise.why.clone_from(why);
            promise.fix.clone_from(fix);
        }
    }
    Ok(Doctor {
        way: way(),
        isolation: isolation.to_string(),
        cgroup: Some(cgroup),
        kernel: kernel(),
        promises,
        runs_confined: hindrance.is_none(),
    })
}

/// Why this process can confine nothing, and what to do.
pub fn hindrance() -> Option<(String, String)> {
    if !rustix::process::geteuid().is_root() {
        let why = "functions are confined only when Hearth runs as root; ordinary users are not built yet";
        return Some((why.to_owned(), "run it as root".to_owned()));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = effective_capabilities(&status)?;
    let missing: Vec<&str> = NEEDED.iter().filter(|(_, bit)| held >> bit & 1 == 0).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return None;
    }
    let missing = missing.join(", ");
    Some((format!("root lacks {missing} here"), format!("outside of a container, or with {missing}")))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let text = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

fn way() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "root"
    } else if own_cgroup_is_writable() {
        "user-delegated"
    } else {
        "user"
    }
}

fn own_cgroup_is_writable() -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    own.lines().find_map(|line| line.strip_prefix("0::")).is_some_and(|below| {
        let path = format!("/sys/fs/cgroup{}/cgroup.procs", below.trim_end_matches('/'));
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
    })
}

/// `6.1.0-18-amd64`; empty when it is not known.
fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective_capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name: x"), None);
    }

    #[test]
    fn every_promise_is_named_with_a_reason_where_it_is_not_held() {
        let doctor = examine(Isolation::Process).unwrap();
        let names: Vec<&str> = doctor.promises.iter().map(|promise| promise.name).collect();
        let all =
            ["memory", "cpu", "processes", "tmp", "network", "filesystem", "uid", "seccomp", "landlock", "freeze"];
        assert_eq!(names, all);
        assert!(doctor.promises.iter().all(|promise| promise.held || !promise.why.is_empty()));
    }
}
