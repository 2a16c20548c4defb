//! What the `landlock` tier refuses beside the filter of [`crate::filter`], because no namespace keeps it in: datagrams
//! and raw sockets, sockets of the host by path or name, and System V memory and semaphores of other processes.

use std::collections::BTreeMap;

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, EPERM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SYS_semctl,
    SYS_semget, SYS_semop, SYS_semtimedop, SYS_shmat, SYS_shmctl, SYS_shmget, SYS_socket,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Flags of a socket's type lie above it.
const TYPE: u64 = 0xf;

pub fn compile() -> Result<BpfProgram, seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let calls = [SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget, SYS_semop, SYS_semctl, SYS_semtimedop];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let mut sockets = Vec::new();
    for family in [AF_UNIX, AF_NETLINK] {
        sockets.push(SeccompRule::new(vec![is(0, SeccompCmpOp::Eq, family as u64)?])?);
    }
    for family in [AF_INET, AF_INET6] {
        for kind in [SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET] {
            let family = is(0, SeccompCmpOp::Eq, family as u64)?;
            sockets.push(SeccompRule::new(vec![family, is(1, SeccompCmpOp::MaskedEq(TYPE), kind as u64)?])?);
        }
    }
    rules.insert(SYS_socket, sockets);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM as u32), architecture)?;
    Ok(filter.try_into()?)
}

fn is(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_filter_compiles() {
        assert!(super::compile().unwrap().len() < 4096);
    }
}
