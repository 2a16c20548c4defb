mod exploits;
mod machine;

use std::collections::BTreeSet;
use std::fmt::Write;

use libc::{EINVAL, ENOPROTOOPT, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM};
use proptest::prelude::*;

use super::calls::ALLOWED_MAX;
use super::*;
use machine::{Answer, Asked, Filter};

const BOTH: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];
/// Stands in the upper half of an argument that the kernel takes as 32 bits.
const ABOVE: u64 = 0xdead_beef_0000_0000;

fn row(name: &str) -> &'static Call {
    CALLS.iter().find(|call| call.name == name).unwrap_or_else(|| panic!("{name} has no row"))
}

/// What both architectures answer; they must agree.
pub fn ask(name: &str, arguments: [u64; 6]) -> Answer {
    let call = row(name);
    let answers: Vec<_> = BOTH
        .iter()
        .filter_map(|architecture| {
            let number = architecture.number(call)?;
            Some(Filter::of(*architecture).ask(number, arguments))
        })
        .collect();
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{name}: {answers:?}");
    answers[0]
}

fn allowed(call: &Call) -> bool {
    !matches!(call.arguments, Arguments::Never(_))
}

#[test]
fn every_row_has_a_reason_and_no_more_than_two_hundred_calls_are_allowed() {
    let names: BTreeSet<_> = CALLS.iter().map(|call| call.name).collect();
    assert_eq!(names.len(), CALLS.len(), "a call has two rows");
    for call in CALLS {
        assert!(call.reason.trim().len() > 3, "{} does not say who needs it", call.name);
    }
    let count = CALLS.iter().filter(|call| allowed(call)).count();
    assert!(count <= ALLOWED_MAX, "{count} calls are allowed");
}

#[test]
fn numbers_are_those_of_each_architecture() {
    for (architecture, target) in
        BOTH.into_iter().zip([seccompiler::TargetArch::x86_64, seccompiler::TargetArch::aarch64])
    {
        for call in CALLS {
            // The library knows names; its program for one of them compares with the number.
            let json = format!(
                r#"{{"f": {{"mismatch_action": "trap", "match_action": "allow", "filter": [{{"syscall": "{}"}}]}}}}"#,
                call.name
            );
            let known = seccompiler::compile_from_json(json.as_bytes(), target).ok();
            let known = known.map(|programs| programs["f"][4].k);
            assert_eq!(architecture.number(call), known, "{} on {architecture:?}", call.name);
        }
    }
}

#[test]
fn what_the_table_allows_is_allowed_and_nothing_else() {
    for architecture in BOTH {
        let filter = Filter::of(architecture);
        assert!(filter.length() <= 4096);
        for number in (0..600).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let call = CALLS.iter().find(|call| architecture.number(call) == Some(number));
            let expected = match call.map(|call| &call.arguments) {
                Some(Arguments::Any) => Answer::Allow,
                Some(Arguments::Never(error)) => Answer::Errno(*error),
                // Arguments are another test's.
                Some(Arguments::Only(_)) => continue,
                None if number > NEWEST => Answer::Errno(ENOSYS),
                None => Answer::Errno(EPERM),
            };
            let asked = Asked { number, architecture: architecture.audit(), arguments: [0; 6] };
            let (answer, steps) = filter.run(asked);
            assert_eq!(answer, expected, "{number} on {architecture:?}");
            assert!(steps <= 16, "{steps} steps for {number}");
        }
    }
}

#[test]
fn calls_of_another_architecture_end_the_process() {
    const I386: u32 = 0x4000_0003;
    let filter = Filter::of(Architecture::X86_64);
    assert_eq!(filter.run(Asked { number: 1, architecture: I386, arguments: [0; 6] }).0, Answer::Kill);
}

#[test]
fn no_clone_makes_a_namespace_and_clone3_is_not_there() {
    assert_eq!(ask("clone3", [0; 6]), Answer::Errno(ENOSYS));
    const THREAD: u64 = 0x003d_0f00;
    assert_eq!(ask("clone", [THREAD, 0, 0, 0, 0, 0]), Answer::Allow);
    assert_eq!(ask("clone", [17, 0, 0, 0, 0, 0]), Answer::Allow);
    for bit in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000_u64] {
        assert_eq!(ask("clone", [THREAD | bit, 0, 0, 0, 0, 0]), Answer::Errno(EPERM), "{bit:#x}");
    }
}

#[test]
fn sockets_are_local_tcp_udp_and_netlink_route() {
    let open = |family: i32, kind: i32, protocol: i32| {
        ask("socket", [family as u64, kind as u64, protocol as u64, 0, 0, 0]) == Answer::Allow
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (family, kind, protocol) in [(1, 1, 0), (1, 2, 0), (1, 5, 0), (2, 1, 0), (2, 1, 6), (2, 2, 17), (10, 2, 0)] {
        assert!(open(family, kind, protocol) && open(family, kind | flags, protocol), "{family} {kind} {protocol}");
    }
    assert!(open(16, 3, 0) && open(16, 2, 0));
    for protocol in 1..32 {
        assert!(!open(16, 3, protocol), "netlink {protocol}");
    }
    // Raw, packet, SCTP (132), UDP-Lite (136), multipath TCP (262), ICMP.
    for (family, kind, protocol) in
        [(2, 3, 1), (2, 3, 255), (2, 10, 0), (2, 5, 132), (2, 1, 132), (2, 2, 136), (2, 1, 262), (2, 2, 1), (10, 2, 58)]
    {
        assert!(!open(family, kind, protocol), "{family} {kind} {protocol}");
    }
    for family in (0..64).filter(|family| ![1, 2, 10, 16].contains(family)) {
        for kind in 1..=10 {
            assert!(!open(family, kind, 0), "family {family}, type {kind}");
        }
    }
    assert_eq!(ask("socketpair", [1, 1, 0, 0, 0, 0]), Answer::Allow);
    assert_eq!(ask("socketpair", [30, 1, 0, 0, 0, 0]), Answer::Errno(EPERM));
}

#[test]
fn options_of_sockets_reach_no_upper_protocol_no_filter_no_group_and_no_netfilter() {
    let set = |level: u64, option: u64| ask("setsockopt", [3, level, option, 0, 0, 0]);
    for (level, option) in [(1, 2), (1, 9), (6, 1), (0, 11), (41, 26)] {
        assert_eq!(set(level, option), Answer::Allow);
    }
    let refused = [
        (6, 31, "TCP_ULP"),
        (6, 19, "TCP_REPAIR"),
        (282, 1, "TLS_TX"),
        (282, 2, "TLS_RX"),
        (1, 26, "SO_ATTACH_FILTER"),
        (1, 50, "SO_ATTACH_BPF"),
        (1, 60, "SO_ZEROCOPY"),
        (0, 35, "IP_ADD_MEMBERSHIP"),
        (0, 42, "MCAST_JOIN_GROUP"),
        (41, 20, "IPV6_JOIN_GROUP"),
        (41, 42, "MCAST_JOIN_GROUP"),
        (41, 1, "IPV6_ADDRFORM"),
        (0, 64, "IPT_SO_SET_REPLACE"),
        (0, 17, "IP_XFRM_POLICY"),
        (17, 100, "UDP_ENCAP"),
        (263, 1, "PACKET_ADD_MEMBERSHIP"),
        (270, 1, "NETLINK_ADD_MEMBERSHIP"),
    ];
    for (level, option, name) in refused {
        assert_eq!(set(level, option), Answer::Errno(ENOPROTOOPT), "{name}");
    }
}

#[test]
fn arguments_are_held_to_what_the_table_says() {
    let cases = [
        ("ioctl", [0, 0x5401, 0, 0, 0, 0], Answer::Allow),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], Answer::Errno(ENOTTY)),
        ("ioctl", [0, 0x541c, 0, 0, 0, 0], Answer::Errno(ENOTTY)),
        ("ioctl", [0, 0x8914, 0, 0, 0, 0], Answer::Errno(ENOTTY)),
        ("personality", [0xffff_ffff, 0, 0, 0, 0, 0], Answer::Allow),
        ("personality", [0x0040_0000, 0, 0, 0, 0, 0], Answer::Errno(EPERM)),
        ("prctl", [15, 0, 0, 0, 0, 0], Answer::Allow),
        ("prctl", [22, 2, 0, 0, 0, 0], Answer::Errno(EINVAL)),
        ("prctl", [libc::PR_SET_MM as u64, 0, 0, 0, 0, 0], Answer::Errno(EINVAL)),
        ("prctl", [67, 1, 0, 0, 0, 0], Answer::Errno(EINVAL)),
        ("mmap", [0, 4096, 3, 0x22, 0, 0], Answer::Allow),
        ("mmap", [0, 4096, 3, 0x4_0022, 0, 0], Answer::Errno(EINVAL)),
        ("memfd_create", [0, 1, 0, 0, 0, 0], Answer::Allow),
        ("memfd_create", [0, 5, 0, 0, 0, 0], Answer::Errno(EINVAL)),
        ("madvise", [0, 4096, 4, 0, 0, 0], Answer::Allow),
        ("madvise", [0, 4096, 12, 0, 0, 0], Answer::Errno(EINVAL)),
        ("mknodat", [0, 0, 0o010_644, 0, 0, 0], Answer::Allow),
        ("mknodat", [0, 0, 0o020_644, 0, 0, 0], Answer::Errno(EPERM)),
        ("mknod", [0, 0o060_644, 0, 0, 0, 0], Answer::Errno(EPERM)),
        ("sendto", [3, 0, 0, 0x4000, 0, 0], Answer::Allow),
        ("sendto", [3, 0, 0, 1, 0, 0], Answer::Errno(EOPNOTSUPP)),
        ("sendmsg", [3, 0, 1, 0, 0, 0], Answer::Errno(EOPNOTSUPP)),
        ("setrlimit", [7, 1, 0, 0, 0, 0], Answer::Allow),
        ("setrlimit", [4, 1, 0, 0, 0, 0], Answer::Errno(EINVAL)),
        ("prlimit64", [0, 4, 0, 1, 0, 0], Answer::Allow),
        ("prlimit64", [0, 4, 0x1_0000_0000, 0, 0, 0], Answer::Errno(EINVAL)),
        ("prlimit64", [0, 7, 1, 0, 0, 0], Answer::Allow),
    ];
    for (name, arguments, expected) in cases {
        assert_eq!(ask(name, arguments), expected, "{name} {arguments:x?}");
    }
}

/// Arguments that the kernel takes as pointers or whole words; all other compared ones are 32 bits.
const POINTERS: &[(&str, u8)] = &[("prlimit64", 2)];

proptest! {
    #[test]
    fn what_stands_above_a_thirty_two_bit_argument_changes_nothing(
        index in 0..CALLS.len(),
        low in prop::collection::vec(prop_oneof![0_u32..64, any::<u32>()], 6),
    ) {
        let call = &CALLS[index];
        let Arguments::Only(rules) = call.arguments else { return Ok(()) };
        let arguments: [u64; 6] = std::array::from_fn(|i| u64::from(low[i]));
        let mut noisy = arguments;
        for condition in rules.allowed.iter().copied().flatten() {
            if !POINTERS.contains(&(call.name, condition.argument)) {
                noisy[usize::from(condition.argument)] |= ABOVE;
            }
        }
        prop_assert_eq!(ask(call.name, arguments), ask(call.name, noisy));
    }
}

#[test]
fn the_page_of_system_calls_is_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/system-calls.md");
    let page = page();
    if std::env::var_os("HEARTH_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "docs/system-calls.md is not the table: run this test with HEARTH_UPDATE_DOCS=1");
}

#[test]
fn the_page_on_security_counts_right() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = std::fs::read_to_string(path).unwrap();
    let instructions = Filter::of(Architecture::X86_64).length().div_ceil(100) * 100;
    let instructions =
        format!("One program of at most {},{:03} instructions", instructions / 1000, instructions % 1000);
    let of_packages = format!("no capability, {} system calls", crate::errand::ALLOWED.len());
    let of_functions = format!("an allow-list of at most {ALLOWED_MAX} system calls");
    for count in [instructions, of_packages, of_functions] {
        assert!(page.contains(&count), "docs/security.md does not say {count:?}");
    }
}

fn page() -> String {
    let count = |architecture: Architecture| {
        CALLS.iter().filter(|call| allowed(call) && architecture.number(call).is_some()).count()
    };
    let mut page = format!(
        "# System calls\n\nWhat code in a sandbox may ask of the kernel. Made from `crates/sandbox/src/filter/calls.rs` \
         by its tests; do not edit.\n\nAllowed: {} over both architectures, {} on x86-64, {} on aarch64. Any other call \
         answers `EPERM`, one that is newer than number {NEWEST} `ENOSYS`; a call in the convention of another \
         architecture ends the process. Which arguments are allowed stands in `crates/sandbox/src/filter/rules.rs`.\n",
        CALLS.iter().filter(|call| allowed(call)).count(),
        count(Architecture::X86_64),
        count(Architecture::Aarch64),
    );
    let arguments = |call: &Call| match call.arguments {
        Arguments::Any => "any".to_owned(),
        Arguments::Only(rules) => format!("some, else {}", error(rules.otherwise)),
        Arguments::Never(number) => error(number).to_owned(),
    };
    for (title, heading, is_allowed) in [("Allowed", "needed by", true), ("Refused by name", "why", false)] {
        write!(page, "\n## {title}\n\n| call | x86-64 | aarch64 | arguments | {heading} |\n|---|---|---|---|---|\n")
            .unwrap();
        for call in CALLS.iter().filter(|call| allowed(call) == is_allowed) {
            let number = |number: Option<u32>| number.map_or("–".to_owned(), |number| number.to_string());
            let (x86_64, aarch64) = (number(call.x86_64), number(call.aarch64));
            let (name, arguments, reason) = (call.name, arguments(call), call.reason);
            writeln!(page, "| `{name}` | {x86_64} | {aarch64} | {arguments} | {reason} |").unwrap();
        }
    }
    page
}

fn error(number: i32) -> &'static str {
    match number {
        EPERM => "EPERM",
        EINVAL => "EINVAL",
        ENOTTY => "ENOTTY",
        ENOSYS => "ENOSYS",
        ENOPROTOOPT => "ENOPROTOOPT",
        EOPNOTSUPP => "EOPNOTSUPP",
        _ => panic!("an error without a name: {number}"),
    }
}
