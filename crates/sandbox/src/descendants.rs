//! The processes below one, as `/proc` tells them: for sandboxes without a control group or without namespaces.

use std::collections::HashSet;
use std::fs;
use std::io;

use crate::sys;

/// Longest that a tree that grows is followed: every round leaves fewer that can fork.
const ROUNDS_MAX: usize = 1000;

/// Every process below `root`, without it. Orphans stay below where the root adopts them.
pub fn of(root: u32) -> HashSet<u32> {
    let (mut found, mut waiting) = (HashSet::new(), vec![root]);
    while let Some(pid) = waiting.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
                if found.insert(child) {
                    waiting.push(child);
                }
            }
        }
    }
    found
}

/// Sends a signal to every descendant of this process. Before they are killed they are stopped, so that none forks on.
pub fn signal(signal: i32) -> io::Result<()> {
    if signal == libc::SIGCONT {
        of(std::process::id()).into_iter().for_each(|pid| drop(sys::signal(pid.cast_signed(), signal)));
        return Ok(());
    }
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let new: Vec<u32> = of(std::process::id()).into_iter().filter(|pid| stopped.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        new.into_iter().for_each(|pid| drop(sys::signal(pid.cast_signed(), libc::SIGSTOP)));
    }
    if signal != libc::SIGSTOP {
        stopped.into_iter().for_each(|pid| drop(sys::signal(pid.cast_signed(), signal)));
    }
    Ok(())
}

/// Memory that the processes below `root` hold for themselves, bytes: anonymous and shared, not files. A page that two
/// of them share counts twice.
pub fn memory(root: u32) -> u64 {
    let of_one = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        (kib("RssAnon") + kib("RssShmem")) * 1024
    };
    of(root).into_iter().map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn children_of_children_are_found_and_weighed() {
        let mut shell = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let child = loop {
            assert!(std::time::Instant::now() < deadline, "it never forked");
            if let Some(child) = super::of(shell.id()).into_iter().next() {
                break child;
            }
            std::thread::yield_now();
        };
        assert!(super::of(std::process::id()).is_superset(&[shell.id(), child].into()));
        assert!(super::memory(std::process::id()) > 0);
        crate::sys::kill(child.cast_signed()).unwrap();
        shell.wait().unwrap();
    }
}
