//! What the tests in real sandboxes share. Needs root, as Hearth does in this version.
//!
//! Not libtest: the launcher must be started before any thread exists.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{BoxFuture, CodeTree, Memory, Root, RootBind};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Class, Command, Driver, Exit, Identity, Isolation, Process, Sandbox, launcher};

pub struct World {
    pub driver: ProcessDriver,
    pub class: Class,
    pub code: CodeTree,
    pub instance: String,
    _folder: tempfile::TempDir,
}

pub type Test = for<'a> fn(&'a World) -> BoxFuture<'a, ()>;

/// Runs the tests whose names hold the first argument, or all.
pub fn run_all(tests: &[(&str, Test)]) {
    launcher::main_if_asked();
    let orders = launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: PathBuf::from("/run/hearth"),
        server: Owner { uid: 0, gid: 0 },
    };
    let started = launcher::start(&orders).expect("start the launcher");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    runtime.block_on(async {
        let world = world(started).await;
        for (name, test) in tests {
            if wanted.as_deref().is_none_or(|wanted| name.contains(wanted)) {
                let began = Instant::now();
                test(&world).await;
                println!("test {name} ... ok ({} ms)", began.elapsed().as_millis());
            }
        }
        let instance = world.instance.clone();
        leaves_nothing_behind(world, &instance).await;
        println!("test leaves_nothing_behind ... ok");
    });
}

async fn world(started: launcher::Started) -> World {
    let folder = tempfile::tempdir().unwrap();
    let skeleton = folder.path().join("skeleton");
    for name in ["bin", "lib", "lib64", "usr", "dev", "proc", "tmp", "var/task", "etc", "mnt", "opt"] {
        std::fs::create_dir_all(skeleton.join(name)).unwrap();
    }
    let code = folder.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("index.txt"), "code").unwrap();
    for open in [folder.path(), &skeleton, &code] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let binds =
        ["bin", "lib", "lib64", "usr"].map(|name| RootBind { source: Path::new("/").join(name), target: name.into() });
    let instance = format!("test{}", std::process::id());
    let config =
        Config { instance: instance.clone(), scratch: folder.path().join("scratch"), isolation: Isolation::Process };
    World {
        driver: ProcessDriver::open(started.attach().unwrap(), config).await.unwrap(),
        class: Class { root: Arc::new(Root { skeleton, binds: binds.into() }), ephemeral_storage: Memory::mib(512) },
        code: CodeTree { path: code, lease: Arc::new(()) },
        instance,
        _folder: folder,
    }
}

impl World {
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

    pub async fn sandbox(&self, memory: u32) -> Box<dyn Sandbox> {
        let prepared = self.driver.prepare(self.class.clone()).await.unwrap();
        let identity = Identity { memory: Memory::mib(memory), code: self.code.clone() };
        prepared.bind(identity).await.unwrap()
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

/// Runs a program to its end; its output and how it ended.
pub async fn run(sandbox: &dyn Sandbox, program: &str, arguments: &[&str]) -> (String, Exit) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let process = sandbox.spawn(command(program, arguments, writer.into())).await.unwrap();
    let output = tokio::task::spawn_blocking(move || {
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        output
    });
    let exit = process.exit.await.unwrap();
    (output.await.unwrap(), exit)
}

pub fn command(program: &str, arguments: &[&str], output: std::os::fd::OwnedFd) -> Command {
    Command {
        program: program.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        working_directory: "/var/task".to_owned(),
        output,
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

async fn leaves_nothing_behind(world: World, instance: &str) {
    drop(world);
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
