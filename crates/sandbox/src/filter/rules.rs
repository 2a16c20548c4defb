//! Which arguments are allowed.
//!
//! A filter sees six numbers and no memory. The kernel takes most of them as 32-bit integers and ignores what stands
//! above, so these are compared by their lower half: a comparison of all 64 bits could be passed by by setting one that
//! the kernel never looks at. Pointers are compared whole.

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
    CLONE_NEWUSER, CLONE_NEWUTS, EINVAL, ENOPROTOOPT, ENOTTY, EOPNOTSUPP, EPERM, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP,
    IPPROTO_UDP, MADV_MERGEABLE, MAP_HUGETLB, NETLINK_ROUTE, S_IFIFO, S_IFMT, S_IFREG, SOCK_DGRAM, SOCK_RAW,
    SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET,
};

/// Any one of them suffices.
pub struct Rules {
    pub allowed: &'static [Rule],
    /// What is answered where none holds: the error that a C library expects of a call that is not possible here.
    pub otherwise: i32,
}

/// Conditions that all must hold.
pub type Rule = &'static [Condition];

pub struct Condition {
    /// Index of the argument, from 0.
    pub argument: u8,
    pub test: Test,
}

pub enum Test {
    Is(u32),
    IsNot(u32),
    OneOf(&'static [u32]),
    /// Of these bits, exactly those.
    Bits {
        mask: u32,
        are: u32,
    },
    /// All 64 bits.
    Null,
}
use Test::{Bits, Is, IsNot, Null, OneOf};

const fn on(argument: u8, test: Test) -> Condition {
    Condition { argument, test }
}

const fn none_of(mask: u32) -> Test {
    Bits { mask, are: 0 }
}

const NAMESPACES: u32 =
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) as u32;

/// No new namespaces. (A time namespace cannot be asked of `clone`.)
pub const CLONE: Rules = Rules { allowed: &[&[on(0, none_of(NAMESPACES))]], otherwise: EPERM };

/// The kinds of socket without the two flags that may stand beside them.
const TYPE: u32 = 0xf;
const fn kind(kind: i32) -> Test {
    Bits { mask: TYPE, are: kind as u32 }
}

/// TCP and UDP, local sockets, and of netlink what lists interfaces and routes. No raw or packet sockets, no ICMP, SCTP,
/// UDP-Lite or multipath TCP, no families of hardware, hypervisors or the kernel's cryptography.
pub const SOCKET: Rules = Rules {
    allowed: &[
        &[on(0, Is(AF_UNIX as u32)), on(1, kind(SOCK_STREAM))],
        &[on(0, Is(AF_UNIX as u32)), on(1, kind(SOCK_DGRAM))],
        &[on(0, Is(AF_UNIX as u32)), on(1, kind(SOCK_SEQPACKET))],
        &[
            on(0, OneOf(&[AF_INET as u32, AF_INET6 as u32])),
            on(1, kind(SOCK_STREAM)),
            on(2, OneOf(&[0, IPPROTO_TCP as u32])),
        ],
        &[
            on(0, OneOf(&[AF_INET as u32, AF_INET6 as u32])),
            on(1, kind(SOCK_DGRAM)),
            on(2, OneOf(&[0, IPPROTO_UDP as u32])),
        ],
        &[on(0, Is(AF_NETLINK as u32)), on(1, kind(SOCK_RAW)), on(2, Is(NETLINK_ROUTE as u32))],
        &[on(0, Is(AF_NETLINK as u32)), on(1, kind(SOCK_DGRAM)), on(2, Is(NETLINK_ROUTE as u32))],
    ],
    otherwise: EPERM,
};

pub const SOCKETPAIR: Rules = Rules { allowed: &[&[on(0, Is(AF_UNIX as u32))]], otherwise: EPERM };

/// No option that reaches kTLS or another upper protocol of TCP, a filter program, multicast membership, netfilter,
/// encapsulation in UDP, a change of address family, zero-copy or another interface.
pub const SETSOCKOPT: Rules = Rules {
    allowed: &[
        &[on(1, Is(SOL_SOCKET as u32)), on(2, OneOf(OF_SOCKETS))],
        &[on(1, Is(IPPROTO_TCP as u32)), on(2, OneOf(OF_TCP))],
        &[on(1, Is(IPPROTO_IP as u32)), on(2, OneOf(OF_IP))],
        &[on(1, Is(IPPROTO_IPV6 as u32)), on(2, OneOf(OF_IPV6))],
    ],
    otherwise: ENOPROTOOPT,
};

/// REUSEADDR, DONTROUTE, BROADCAST, SNDBUF, RCVBUF, KEEPALIVE, OOBINLINE, PRIORITY, LINGER, REUSEPORT, PASSCRED,
/// RCVLOWAT, RCVTIMEO, SNDTIMEO, TIMESTAMP, and the two times with 64 bits.
const OF_SOCKETS: &[u32] = &[2, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18, 20, 21, 29, 66, 67];
/// NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP, QUICKACK,
/// USER_TIMEOUT, NOTSENT_LOWAT.
const OF_TCP: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 18, 25];
/// TOS, TTL, PKTINFO, MTU_DISCOVER, RECVERR, RECVTTL, RECVTOS, BIND_ADDRESS_NO_PORT.
const OF_IP: &[u32] = &[1, 2, 8, 10, 11, 12, 13, 24];
/// UNICAST_HOPS, MULTICAST_HOPS (Java sets it on every datagram socket; no group can be joined), MTU_DISCOVER, RECVERR,
/// V6ONLY, RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS, TCLASS.
const OF_IPV6: &[u32] = &[16, 18, 23, 25, 26, 49, 51, 66, 67];

/// Out-of-band data, zero-copy sending and TCP Fast Open: MSG_OOB, MSG_ZEROCOPY, MSG_FASTOPEN.
const SENDING: u32 = 1 | 0x0400_0000 | 0x2000_0000;
pub const SENDTO: Rules = Rules { allowed: &[&[on(3, none_of(SENDING))]], otherwise: EOPNOTSUPP };
pub const SENDMSG: Rules = Rules { allowed: &[&[on(2, none_of(SENDING))]], otherwise: EOPNOTSUPP };
pub const SENDMMSG: Rules = Rules { allowed: &[&[on(3, none_of(SENDING))]], otherwise: EOPNOTSUPP };

/// Questions to terminals, pipes and interfaces, and the way to make a descriptor non-blocking. Nothing that puts
/// characters into a terminal (TIOCSTI, TIOCLINUX), changes a file system or configures an interface.
pub const IOCTL: Rules = Rules { allowed: &[&[on(1, OneOf(REQUESTS))]], otherwise: ENOTTY };
/// TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCSPGRP, TIOCOUTQ, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX,
/// FIOASYNC, SIOCATMARK; SIOCGIF- NAME, CONF, FLAGS, ADDR, DSTADDR, BRDADDR, NETMASK, METRIC, MTU, HWADDR, INDEX, TXQLEN;
/// RNDGETENTCNT.
const REQUESTS: &[u32] = &[
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x540f,
    0x5410,
    0x5411,
    0x5413,
    0x541b,
    0x5421,
    0x5450,
    0x5451,
    0x5452,
    0x8905,
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8917,
    0x8919,
    0x891b,
    0x891d,
    0x8921,
    0x8927,
    0x8933,
    0x8942,
    0x8004_5200,
];

/// Named pipes and files, no devices.
pub const MKNOD: Rules = Rules { allowed: &[&[on(2, PIPE)], &[on(2, FILE)]], otherwise: EPERM };
pub const MKNOD_LEGACY: Rules = Rules { allowed: &[&[on(1, PIPE)], &[on(1, FILE)]], otherwise: EPERM };
const PIPE: Test = Bits { mask: S_IFMT, are: S_IFIFO };
const FILE: Test = Bits { mask: S_IFMT, are: S_IFREG };

/// Huge pages come from a pool of the host that no limit of memory counts.
pub const MMAP: Rules = Rules { allowed: &[&[on(3, none_of(MAP_HUGETLB as u32))]], otherwise: EINVAL };
/// MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC; no huge pages.
pub const MEMFD: Rules = Rules { allowed: &[&[on(1, none_of(!0x1b))]], otherwise: EINVAL };
/// Merging equal pages would tell one function what another has in memory, by the time that a write takes.
pub const MADVISE: Rules = Rules { allowed: &[&[on(2, IsNot(MADV_MERGEABLE as u32))]], otherwise: EINVAL };

/// What a thread may say and ask about itself: parent's death signal, dumpable, name, bounding set, seccomp mode, timer
/// slack, child subreaper, no_new_privs, transparent huge pages, ambient set (question; there is none to raise), vector
/// length and tagged addresses of aarch64, speculation (question), names of memory.
pub const PRCTL: Rules = Rules { allowed: &[&[on(0, OneOf(OPTIONS))]], otherwise: EINVAL };
const OPTIONS: &[u32] =
    &[1, 2, 3, 4, 15, 16, 21, 23, 29, 30, 36, 37, 38, 39, 41, 42, 47, 50, 51, 52, 54, 55, 56, 0x5356_4d41];

/// PER_LINUX, and the question which one it is.
pub const PERSONALITY: Rules = Rules { allowed: &[&[on(0, OneOf(&[0, u32::MAX]))]], otherwise: EPERM };

/// RLIMIT_CORE, whose type is not the same in every C library.
const CORE: u32 = 4;
/// Every limit but that of core files, whose value keeps the kernel from feeding a crash to the host's handler.
pub const SETRLIMIT: Rules = Rules { allowed: &[&[on(0, IsNot(CORE))]], otherwise: EINVAL };
pub const PRLIMIT: Rules = Rules { allowed: &[&[on(1, IsNot(CORE))], &[on(2, Null)]], otherwise: EINVAL };
