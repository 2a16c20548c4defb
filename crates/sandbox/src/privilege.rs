//! What a process of Hearth may do: the server nothing, the launcher what making sandboxes takes.

use std::io;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::sys;

/// A user of the host and the group that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// For namespaces, mounts and loop devices; to say whom the users of a sandbox are on the host; to open files of the
/// server's control groups; to make device nodes.
pub(crate) const MAKING: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::MKNOD);

/// In a user namespace of the launcher's own, where they reach no further than its user does: the same but devices, and
/// to map its own root, and to remove files of other users of the namespace.
pub(crate) const MAKING_INSIDE: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETFCAP);

/// Whether a uid exists in this user namespace.
pub fn is_mapped(uid: u32) -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&uid.into()))
    })
}

/// Whether this process can become another user and give files away: not so for root in some containers.
pub fn may_become_another() -> bool {
    holds(CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN)
}

/// Whether this process holds all of them.
pub(crate) fn holds(wanted: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(wanted))
}

/// Makes this process `owner`'s, without a capability in any set and without a way to gain one. For good. Call it while
/// there is one thread: each has its own.
pub fn become_unprivileged(owner: Option<Owner>) -> io::Result<()> {
    if let Some(owner) = owner {
        empty_bounding_set(CapabilitySet::empty())?;
        sys::become_user(owner.uid, owner.gid)?;
    }
    retain(CapabilitySet::empty())?;
    sys::no_new_privileges()
}

/// Keeps these capabilities and no others, in no set from which an executed program could take them.
pub(crate) fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    empty_bounding_set(kept)?;
    retain(kept)?;
    sys::no_new_privileges()
}

/// Of those held; the bounding set stays.
pub(crate) fn retain(kept: CapabilitySet) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    let kept = kept & held.permitted;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    // Kernels before 4.3 have no such set.
    match rustix::thread::clear_ambient_capability_set() {
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Without CAP_SETPCAP it stays as it is; that no program can gain privileges then holds alone.
pub(crate) fn empty_bounding_set(but: CapabilitySet) -> io::Result<()> {
    if !holds(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if but.contains(capability) {
            continue;
        }
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_this_namespace_are_mapped() {
        assert!(is_mapped(rustix::process::geteuid().as_raw()));
        assert!(!is_mapped(u32::MAX));
    }
}
