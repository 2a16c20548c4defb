//! What a process that reads hostile bytes can still do: what it is for.
//!
//! Not libtest: this binary is also the process.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use hearth_sandbox::errand::{Errand, Error, Given, main_if_asked};
use rustix::fs::{Mode, OFlags, ResolveFlags};

const ROLE: &str = "hearth-test-errand";

fn main() {
    main_if_asked(ROLE, work);
    for (name, test) in [
        ("it_reads_its_input_and_writes_below_its_folder", reads_and_writes as fn()),
        ("it_sees_no_other_file", sees_no_other_file),
        ("it_cannot_open_sockets_or_start_anything", cannot_open_sockets_or_start_anything),
        ("memory_time_and_file_size_are_limited", memory_time_and_file_size_are_limited),
        ("a_long_reply_is_refused", a_long_reply_is_refused),
        ("it_comes_after_calls_with_its_whole_session", comes_after_calls_with_its_whole_session),
    ] {
        test();
        println!("test {name} ... ok");
    }
}

fn work(mut given: Given) -> Vec<u8> {
    let open = |path: &str, resolve| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat2(&given.folder, path, flags, Mode::empty(), resolve)
    };
    let said = match given.argument.as_str() {
        "copy" => {
            let mut text = String::new();
            given.input.read_to_string(&mut text).unwrap();
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let file = rustix::fs::openat2(&given.folder, "copied", flags, Mode::RUSR, ResolveFlags::BENEATH).unwrap();
            std::fs::File::from(file).write_all(text.as_bytes()).unwrap();
            text
        }
        "look" => {
            let paths = ["/etc/passwd", "../../../../etc/passwd", "/proc/self/environ", "/copied"];
            let found = paths.map(|path| open(path, ResolveFlags::empty()).is_ok());
            format!("{found:?}")
        }
        "socket" => format!("{:?}", std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
        "spawn" => format!("{:?}", std::process::Command::new("/bin/true").spawn().is_ok()),
        "thread" => format!("{:?}", std::thread::Builder::new().spawn(|| ()).is_ok()),
        "openat" => format!("{:?}", rustix::fs::open("/", OFlags::RDONLY, Mode::empty()).is_ok()),
        "memory" => {
            let all: Vec<Vec<u8>> = (0..2048).map(|_| Vec::with_capacity(1 << 20)).collect();
            format!("{}", all.len())
        }
        "time" => loop {
            std::hint::spin_loop();
        },
        "write" => {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            let file = rustix::fs::openat2(&given.folder, "long", flags, Mode::RUSR, ResolveFlags::BENEATH).unwrap();
            let written = std::fs::File::from(file).write_all(&vec![0; 2 << 20]);
            format!("{:?}", written.is_ok())
        }
        _ => "x".repeat(100_000),
    };
    said.into_bytes()
}

fn run_in(folder: &std::path::Path, argument: &str) -> Result<String, Error> {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"content").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let folder = std::fs::File::open(folder).unwrap();
    let errand = Errand {
        role: ROLE,
        argument,
        input: input.as_fd(),
        folder: folder.as_fd(),
        file_max: 1 << 20,
        time_max: Duration::from_secs(1),
    };
    errand.run().map(|said| String::from_utf8(said).unwrap())
}

fn run(argument: &str) -> Result<String, Error> {
    run_in(tempfile::tempdir().unwrap().path(), argument)
}

fn reads_and_writes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_in(folder.path(), "copy").unwrap(), "content");
    assert_eq!(std::fs::read(folder.path().join("copied")).unwrap(), b"content");
}

fn sees_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), "copy").unwrap();
    let found = run_in(folder.path(), "look").unwrap();
    assert_eq!(found, "[false, false, false, true]", "its folder is its root");
}

fn cannot_open_sockets_or_start_anything() {
    for attempt in ["socket", "spawn", "thread", "openat"] {
        let error = run(attempt).unwrap_err();
        assert!(matches!(&error, Error::Ended(status) if status.to_string().contains("SIGSYS")), "{attempt}: {error}");
        assert!(error.is_of_the_input());
    }
}

fn memory_time_and_file_size_are_limited() {
    // An allocation that fails aborts, which takes a call that the filter has not.
    for (attempt, signal) in [("memory", "SIGSYS"), ("time", "SIGXCPU"), ("write", "SIGXFSZ")] {
        let error = run(attempt).unwrap_err();
        assert!(error.to_string().contains(signal), "{attempt}: {error}");
        assert!(error.is_of_the_input());
    }
}

fn a_long_reply_is_refused() {
    assert!(matches!(run("talk").unwrap_err(), Error::Io(_)));
}

fn comes_after_calls_with_its_whole_session() {
    let reader = std::thread::spawn(|| run("time").unwrap_err());
    let found = loop {
        let stepped_back = children().into_iter().find(|child| child.nice == 10 && child.session == child.pid);
        match stepped_back {
            Some(child) => break Some(child.pid),
            None if reader.is_finished() => break None,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let pid = found.expect("its priority is low, and its session its own");
    // Not every kernel has them.
    if std::path::Path::new("/proc/self/autogroup").exists() {
        while !std::fs::read_to_string(format!("/proc/{pid}/autogroup")).unwrap().contains("nice 10") {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    reader.join().unwrap();
}

struct Child {
    pid: u32,
    session: u32,
    nice: i32,
}

fn children() -> Vec<Child> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state, parent, group, session, and the nineteenth of all is nice.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let is_ours = fields[1].parse() == Ok(std::process::id());
        is_ours.then(|| Child { pid, session: fields[3].parse().unwrap(), nice: fields[16].parse().unwrap() })
    });
    all.collect()
}
