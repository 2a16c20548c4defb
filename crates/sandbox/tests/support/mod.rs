//! A driver on a folder of its own, whose sandboxes show the system folders of this host.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hearth_model::{CodeTree, Memory, Root, RootBind};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Class, Command, Driver, Error, Exit, Identity, Isolation, Sandbox, launcher};

/// The launcher of a server that stays root, as that of a test does.
pub fn start() -> launcher::Started {
    let orders = launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: PathBuf::from("/run/hearth"),
        server: Owner { uid: 0, gid: 0 },
    };
    launcher::start(&orders).expect("start the launcher")
}

pub struct Ground {
    pub driver: ProcessDriver,
    #[allow(dead_code, reason = "not every suite looks for its groups")]
    pub instance: String,
    class: Class,
    code: CodeTree,
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
            class: Class { root: Arc::new(Root { skeleton, binds }), ephemeral_storage: Memory::mib(512) },
            code: CodeTree { path: code, lease: Arc::new(()) },
            _folder: folder,
        }
    }

    pub async fn sandbox(&self) -> Box<dyn Sandbox> {
        let prepared = self.driver.prepare(self.class.clone()).await.unwrap();
        prepared.bind(Identity { memory: Memory::mib(1769), code: self.code.clone(), opt: None }).await.unwrap()
    }

    /// Ready when nothing of it is left.
    pub async fn end(self) {
        self.driver.closed().await;
    }
}

/// Runs a program to its end; what it wrote, and how it ended. An error when it could not be started.
pub async fn run(sandbox: &dyn Sandbox, command: Command, reader: OwnedFd) -> Result<(String, Exit), Error> {
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
    }
}
