//! A driver on a folder of its own, whose sandboxes show the system folders of this host, and what tests do with it.
//! Needs root, as these tests do.
//!
//! Not libtest: the launcher must be started before any thread exists.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hearth_egress::{Egress, Gateway, Link, Refused, Witness};
use hearth_model::{BoxFuture, CodeTree, Memory, Root, RootBind};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Class, Command, Driver, Error, Exit, Identity, Isolation, Process, Sandbox, Tunnel, launcher};

pub type Test = for<'a> fn(&'a Ground) -> BoxFuture<'a, ()>;

/// Runs the tests whose names hold the first argument, or all.
pub fn run_all(tests: &[(&str, Test)]) {
    launcher::main_if_asked();
    let started = start(Path::new(RUN));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    runtime.block_on(async {
        let ground = Ground::new(started, |code| std::fs::write(code.join("index.txt"), "code").unwrap()).await;
        for (name, test) in tests {
            if wanted.as_deref().is_none_or(|wanted| name.contains(wanted)) {
                let began = Instant::now();
                test(&ground).await;
                println!("test {name} ... ok ({} ms)", began.elapsed().as_millis());
            }
        }
        let instance = ground.instance.clone();
        leaves_nothing_behind(ground, &instance).await;
        println!("test leaves_nothing_behind ... ok");
    });
}

/// The launcher of a server that stays who it is: root, or an ordinary user.
pub fn start(run: &Path) -> launcher::Started {
    let orders = launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: run.to_owned(),
        server: Owner { uid: 0, gid: 0 },
    };
    launcher::start(&orders).expect("start the launcher")
}

/// Where instances of root meet.
pub const RUN: &str = "/run/hearth";

pub struct Ground {
    pub driver: ProcessDriver,
    pub instance: String,
    pub class: Class,
    pub code: CodeTree,
    _folder: tempfile::TempDir,
}

impl Ground {
    /// `fill` makes the package in an empty folder. Needs a running async runtime.
    pub async fn new(started: launcher::Started, fill: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (skeleton, code) = (folder.path().join("skeleton"), folder.path().join("code"));
        for name in ["bin", "lib", "lib64", "usr", "dev", "proc", "sys", "tmp", "var/task", "etc", "mnt", "opt"] {
            std::fs::create_dir_all(skeleton.join(name)).unwrap();
        }
        std::fs::write(skeleton.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        std::fs::write(skeleton.join("etc/passwd"), "sbx_user1051:x:1051:1051::/tmp:/sbin/nologin\n").unwrap();
        std::fs::create_dir(&code).unwrap();
        for open in [folder.path(), &skeleton, &code] {
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        fill(&code);
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let instance = format!("test{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = Config {
            isolation: Isolation::Process,
            instance: instance.clone(),
            scratch: folder.path().join("scratch"),
        };
        let mut binds: Vec<_> = ["bin", "lib", "lib64", "usr"].map(PathBuf::from).into();
        // Where Debian keeps settings of Java.
        for name in ["etc/java-17-openjdk", "etc/ssl"].map(PathBuf::from) {
            if Path::new("/").join(&name).exists() {
                std::fs::create_dir(skeleton.join(&name)).unwrap();
                binds.push(name);
            }
        }
        let binds = binds.into_iter().map(|target| RootBind { source: Path::new("/").join(&target), target }).collect();
        Ground {
            driver: ProcessDriver::open(started.attach().unwrap(), config).await.unwrap(),
            instance,
            class: Class {
                root: Arc::new(Root { skeleton, binds, whole: false }),
                ephemeral_storage: Memory::mib(512),
                listeners: Vec::new(),
            },
            code: CodeTree { path: code, lease: Arc::new(()) },
            _folder: folder,
        }
    }

    pub async fn sandbox(&self, memory: u32) -> Box<dyn Sandbox> {
        let prepared = self.driver.prepare(self.class.clone()).await.unwrap();
        let identity = Identity { memory: Memory::mib(memory), code: Some(self.code.clone()), opt: None };
        prepared.bind(identity).await.unwrap()
    }

    /// The group of the sandbox that was made last.
    pub fn newest_group(&self) -> Group {
        let folder = Path::new("/sys/fs/cgroup/cpu").join(format!("hearth-{}", self.instance));
        let ids =
            std::fs::read_dir(folder).unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        Group { instance: self.instance.clone(), id: ids.max().unwrap() }
    }

    /// Most memory that sockets of the newest sandbox held, where the host counts it apart.
    pub fn peak_of_sockets(&self) -> Option<u64> {
        self.newest_group().read("memory", "memory.kmem.tcp.max_usage_in_bytes")?.trim().parse().ok()
    }

    /// Ready when nothing of it is left.
    pub async fn end(self) {
        self.driver.closed().await;
    }
}

/// A sandbox's control groups, as the host sees them.
pub struct Group {
    instance: String,
    id: u64,
}

impl Group {
    /// Of the sandbox that was made just before.
    pub fn before(&self) -> Self {
        Group { instance: self.instance.clone(), id: self.id - 1 }
    }

    pub fn read(&self, hierarchy: &str, file: &str) -> Option<String> {
        let folders = [format!("/sys/fs/cgroup/{hierarchy}"), "/sys/fs/cgroup/unified".into(), "/sys/fs/cgroup".into()];
        let place = |folder: &String| format!("{folder}/hearth-{}/{}/{file}", self.instance, self.id);
        folders.iter().find_map(|folder| std::fs::read_to_string(place(folder)).ok())
    }

    fn stat(&self, hierarchy: &str, name: &str) -> Option<u64> {
        let text = self.read(hierarchy, "cpu.stat")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.stat("unified", "usage_usec ").unwrap())
    }

    /// Of CPU, as the host writes it; -1 is none.
    pub fn quota(&self) -> Option<String> {
        let v1 = self.read("cpu", "cpu.cfs_quota_us").map(|text| text.trim().to_owned());
        v1.or_else(|| self.read("unified", "cpu.max").map(|text| text.replace("max", "-1")))
    }

    /// Periods in which it was held back.
    pub fn throttled(&self) -> u64 {
        self.stat("cpu", "nr_throttled ").unwrap()
    }
}

/// Serves the way out of a sandbox as the server does, until what is answered is dropped.
pub fn gateway(sandbox: &dyn Sandbox, egress: Egress) -> Option<Gateway> {
    Some(Gateway::open(egress, Way(sandbox.tunnel()?), Nobody))
}

struct Way(Tunnel);

impl Link for Way {
    fn readable(&self) -> BoxFuture<'_, std::io::Result<()>> {
        Box::pin(self.0.readable())
    }

    fn receive(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.receive(buffer)
    }

    fn send(&self, packet: &[u8]) -> std::io::Result<()> {
        self.0.send(packet)
    }
}

struct Nobody;

impl Witness for Nobody {
    fn refused(&self, _: &Refused) {}
}

/// Runs a program to its end; its output and how it ended.
pub async fn run(sandbox: &dyn Sandbox, program: &str, arguments: &[&str]) -> (String, Exit) {
    let (reader, writer) = pipe();
    run_command(sandbox, command(program, arguments, writer), reader).await.unwrap()
}

/// Runs a program to its end; what it wrote, and how it ended. An error when it could not be started.
pub async fn run_command(sandbox: &dyn Sandbox, command: Command, reader: OwnedFd) -> Result<(String, Exit), Error> {
    let process = sandbox.spawn(command).await?;
    let output = tokio::task::spawn_blocking(move || {
        let (mut bytes, mut reader) = (Vec::new(), std::fs::File::from(reader));
        // A terminal ends with an error.
        let _ = reader.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let exit = process.exit.await?;
    Ok((output.await.unwrap(), exit))
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

pub fn command(program: &str, arguments: &[&str], output: OwnedFd) -> Command {
    Command {
        program: program.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("HOME".to_owned(), "/tmp".to_owned())],
        working_directory: "/var/task".to_owned(),
        output,
        log: None,
        told: None,
    }
}

pub async fn shell(sandbox: &dyn Sandbox, script: &str) -> (String, Exit) {
    run(sandbox, "/bin/sh", &["-c", script]).await
}

pub async fn python(sandbox: &dyn Sandbox, script: &str) -> (String, Exit) {
    run(sandbox, "/usr/bin/python3", &["-I", "-c", script]).await
}

/// Starts something that says a word when it has begun, and waits for the word.
pub async fn begin(sandbox: &dyn Sandbox, script: &str) -> Process {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let process = sandbox.spawn(command("/usr/bin/python3", &["-I", "-c", script], writer.into())).await.unwrap();
    let word = tokio::task::spawn_blocking(move || reader.read(&mut [0; 16]).unwrap());
    assert!(word.await.unwrap() > 0);
    process
}

/// Whether a process still runs.
pub fn runs(exit: &mut BoxFuture<'static, Result<Exit, hearth_sandbox::Error>>) -> bool {
    exit.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

async fn leaves_nothing_behind(ground: Ground, instance: &str) {
    drop(ground);
    let deadline = Instant::now() + Duration::from_secs(10);
    let left = || {
        let found = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-name", &format!("hearth-{instance}")])
            .output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "left behind: {}", left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
