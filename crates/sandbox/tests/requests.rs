//! The real launcher under requests that no honest server makes: it answers each, or ends cleanly, and touches nothing
//! that is not its own. `HEARTH_FUZZ` is how many (2,000).
//!
//! Not libtest: this program is also the launcher.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType,
};

const DONE: u8 = 1;
const FAILED: u8 = 2;
const EVENT: u8 = 3;
const SETTLE: u8 = 1;
const KILL: u8 = 5;
const PATIENCE: Duration = Duration::from_secs(30);

/// What may come along with a request. Folders are this test's own: a launcher that did what it is asked to here would
/// empty them.
struct Things {
    kinds: Vec<OwnedFd>,
    folder: tempfile::TempDir,
}

impl Things {
    fn gather() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let strangers = folder.path().join("strangers/folder");
        std::fs::create_dir_all(&strangers).unwrap();
        std::fs::write(strangers.join("precious"), "x").unwrap();
        let strangers = strangers.parent().unwrap();
        let mut kinds = vec![place("/dev/null"), place("/etc/hosts"), place(strangers.to_str().unwrap())];
        kinds.push(std::fs::File::open(strangers).unwrap().into());
        kinds.push(tempfile::tempfile_in(folder.path()).unwrap().into());
        kinds.push(pair().0);
        Things { kinds, folder }
    }

    fn are_untouched(&self) -> bool {
        self.folder.path().join("strangers/folder/precious").exists()
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

struct Launcher {
    socket: OwnedFd,
    child: Child,
}

impl Launcher {
    fn start() -> Self {
        let (socket, theirs) = pair();
        let script = r#"exec 3<&0 0</dev/null; exec -a hearth-launcher "$0" process 1879048192 1879113727 /run/hearth 1879048192 1879048192"#;
        let child = Command::new("bash")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        Launcher { socket, child }
    }

    fn settle(&self) {
        let name = format!("fuzz{}", std::process::id());
        let mut packet = vec![SETTLE];
        packet.extend(1u32.to_le_bytes());
        packet.extend((name.len() as u32).to_le_bytes());
        packet.extend(name.as_bytes());
        assert_eq!(self.ask(&packet, &[]), Some(DONE), "it cannot be settled");
    }

    /// The kind of its answer; `None` when it ended.
    fn ask(&self, packet: &[u8], things: &[BorrowedFd<'_>]) -> Option<u8> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        if !things.is_empty() {
            assert!(along.push(SendAncillaryMessage::ScmRights(things)));
        }
        let sent = rustix::net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut along, SendFlags::NOSIGNAL);
        if sent.is_err() {
            return None;
        }
        loop {
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap();
            assert!(rustix::event::poll(&mut ready, Some(&patience)).unwrap() > 0, "no answer to {packet:?}");
            let mut bytes = [0; 8192];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut along = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut along, flags);
            match got.map(|got| got.bytes) {
                Err(_) | Ok(0) => return None,
                // A child that a request started has ended.
                Ok(_) if bytes[0] == EVENT => {}
                Ok(_) => return Some(bytes[0]),
            }
        }
    }

    /// Lets go of it; how it ended.
    fn end(mut self) -> std::process::ExitStatus {
        drop(self.socket);
        self.child.wait().unwrap()
    }
}

/// Bytes that look more or less like a request, and which things go along.
fn requests() -> impl Strategy<Value = (Vec<u8>, Vec<prop::sample::Index>)> {
    let number =
        prop_oneof![Just(0u32), Just(1), Just(2), Just(u32::MAX), Just(std::process::id()), 0..70u32, any::<u32>()]
            .prop_map(|number| number.to_le_bytes().to_vec());
    let text = prop::collection::vec(any::<u8>(), 0..300).prop_map(|text| {
        let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
        bytes.extend(text);
        bytes
    });
    let path = prop::sample::select(vec!["usr", "dev", "../etc", "/", "a/b", ""]).prop_map(|path: &str| {
        let mut bytes = (path.len() as u32).to_le_bytes().to_vec();
        bytes.extend(path.bytes());
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..5000);
    let part = prop_oneof![4 => number, 1 => text, 2 => path, 1 => noise];
    let parts = prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat());
    let things = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    (0..9u8, parts, things).prop_map(|(kind, parts, things)| {
        let mut bytes = vec![kind];
        bytes.extend(parts);
        (bytes, things)
    })
}

fn main() {
    hearth_sandbox::launcher::main_if_asked();
    let count: u32 = std::env::var("HEARTH_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let things = Things::gather();
    let mut victim = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut runner = TestRunner::deterministic();
    let strategy = requests();
    let (mut refused, mut done, mut ended) = (0, 0, 0);
    let mut launcher = Launcher::start();
    launcher.settle();
    for n in 0..count {
        let (packet, along) = strategy.new_tree(&mut runner).unwrap().current();
        let along: Vec<_> = along.iter().map(|index| index.get(&things.kinds).as_fd()).collect();
        match launcher.ask(&packet, &along) {
            Some(FAILED) => refused += 1,
            Some(DONE) => done += 1,
            Some(other) => panic!("request {n}: an answer of kind {other}"),
            None => {
                ended += 1;
                let status = std::mem::replace(&mut launcher, Launcher::start()).end();
                assert!(status.code().is_some(), "request {n} {packet:?} ended it by {status}");
                launcher.settle();
            }
        }
    }
    let mut kill = vec![KILL];
    kill.extend(7u32.to_le_bytes());
    kill.extend(victim.id().to_le_bytes());
    assert_eq!(launcher.ask(&kill, &[]), Some(FAILED), "it signals what is not its own");
    assert!(victim.try_wait().unwrap().is_none(), "a stranger's process was ended");
    assert!(launcher.end().success());
    assert!(things.are_untouched(), "it emptied what is not the server's");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(refused > count / 2, "{refused} refused, {done} done, {ended} ended");
    println!("test requests_are_answered ... ok ({refused} refused, {done} done, {ended} ended it)");
}
