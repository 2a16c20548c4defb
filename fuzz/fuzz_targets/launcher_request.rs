//! Any packet to the launcher, with any descriptors beside it: what is taken as a request is that and nothing else, byte
//! for byte and descriptor for descriptor; no descriptor is left open.
#![no_main]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use hearth_sandbox::fuzzing::{DESCRIPTORS_MAX, PACKET_MAX, echo_request, pair};
use libfuzzer_sys::{Corpus, fuzz_target};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

/// Of each kind that requests tell apart, and of some that they know nothing of.
static THINGS: LazyLock<Vec<OwnedFd>> = LazyLock::new(|| {
    let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let paths = ["/", "/etc/hosts", "/dev/null", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"];
    let mut things: Vec<OwnedFd> = paths.into_iter().filter_map(open).collect();
    things.push(File::open("/").expect("the root").into());
    things.push(tempfile::tempfile().expect("a file without a name").into());
    things.push(pair().expect("sockets").0);
    let stream = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    things.push(stream.expect("sockets").0);
    things
});
static SOCKETS: LazyLock<(OwnedFd, OwnedFd)> = LazyLock::new(|| pair().expect("sockets"));

fuzz_target!(|input: (Vec<u8>, &[u8])| -> Corpus {
    let (chosen, packet) = input;
    if packet.is_empty() || packet.len() > PACKET_MAX || chosen.len() > DESCRIPTORS_MAX {
        return Corpus::Reject;
    }
    let things: Vec<_> = chosen.iter().map(|at| THINGS[usize::from(*at) % THINGS.len()].as_fd()).collect();
    let (ours, theirs) = &*SOCKETS;
    let lowest = next_descriptor(ours);
    send(ours, packet, &things);
    if matches!(echo_request(theirs.as_fd()), Ok(true)) {
        let (echo, back) = receive(ours);
        assert_eq!(echo, packet, "a request was understood otherwise");
        assert_eq!(back.iter().map(file).collect::<Vec<_>>(), things.iter().map(file).collect::<Vec<_>>());
    }
    assert_eq!(next_descriptor(ours), lowest, "a descriptor was left open");
    Corpus::Keep
});

/// The lowest that is free: higher when one was left open.
fn next_descriptor(any: &OwnedFd) -> i32 {
    any.try_clone().expect("a descriptor").as_raw_fd()
}

fn file(descriptor: &impl AsFd) -> (u64, u64) {
    let facts = rustix::fs::fstat(descriptor).expect("its facts");
    (facts.st_dev, facts.st_ino)
}

fn send(socket: &OwnedFd, packet: &[u8], things: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    assert!(things.is_empty() || along.push(SendAncillaryMessage::ScmRights(things)));
    rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut along, SendFlags::DONTWAIT).expect("room");
}

fn receive(socket: &OwnedFd) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut bytes = vec![0; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut along, flags).expect("an echo");
    let mut back = Vec::new();
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = message {
            back.extend(found);
        }
    }
    bytes.truncate(got.bytes);
    (bytes, back)
}
