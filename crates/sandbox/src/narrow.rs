//! What the `landlock` tier refuses beside the filter of [`crate::filter`], because no namespace keeps it in: datagrams,
//! and sockets of the host by path or name.

use std::collections::BTreeMap;

use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, EPERM, SOCK_DGRAM, SYS_socket};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Flags of a socket's type lie above it.
const TYPE: u64 = 0xf;

pub fn compile() -> Result<BpfProgram, seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut sockets = Vec::new();
    for family in [AF_UNIX, AF_NETLINK] {
        sockets.push(SeccompRule::new(vec![is(0, SeccompCmpOp::Eq, family as u64)?])?);
    }
    for family in [AF_INET, AF_INET6] {
        let family = is(0, SeccompCmpOp::Eq, family as u64)?;
        sockets.push(SeccompRule::new(vec![family, is(1, SeccompCmpOp::MaskedEq(TYPE), SOCK_DGRAM as u64)?])?);
    }
    let rules = BTreeMap::from([(SYS_socket, sockets)]);
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
