//! A PostgreSQL of a test's own: Debian's binaries, a folder below the temporary one, a Unix socket, no port.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::PostgresUrl;

/// A user that owns nothing, where root runs the tests: PostgreSQL refuses to be root.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    binaries: PathBuf,
    folder: tempfile::TempDir,
    process: Child,
    databases: std::sync::atomic::AtomicU32,
}

impl Server {
    pub fn start() -> Self {
        let (binaries, folder) = (binaries(), tempfile::tempdir().unwrap());
        if is_root() {
            std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = command(&binaries, "initdb")
            .args(["--no-sync", "--auth=trust", "--username=hearth", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = run(&binaries, folder.path());
        Server { binaries, folder, process, databases: Default::default() }
    }

    /// A new database.
    pub async fn database(&self) -> PostgresUrl {
        let number = self.databases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match crate::postgres::connect(&self.url("postgres")).await {
                Ok(connected) => {
                    let create = format!("CREATE DATABASE test{number}");
                    connected.client.batch_execute(&create).await.unwrap();
                    return self.url(&format!("test{number}"));
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self, database: &str) -> PostgresUrl {
        let text = format!("postgres:///{database}?host={}&user=hearth", self.folder.path().display());
        PostgresUrl::parse(&text).unwrap()
    }

    pub fn crash_and_start(&mut self) {
        self.quit();
        self.process = run(&self.binaries, self.folder.path());
    }

    /// At once, as in a crash, with every process of it.
    fn quit(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.quit();
    }
}

fn run(binaries: &Path, folder: &Path) -> Child {
    let data = folder.join("data");
    command(binaries, "postgres")
        // What it has written outlives its process without a sync, and a busy disk holds up nobody.
        .args(["-c", "listen_addresses=", "-c", "log_min_messages=fatal", "-c", "fsync=off", "-c"])
        .arg(format!("unix_socket_directories={}", folder.display()))
        .arg("-D")
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn command(binaries: &Path, name: &str) -> Command {
    let mut command = Command::new(binaries.join(name));
    // Somewhere that every user may be.
    command.current_dir("/").stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Of the newest version that is installed.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest =
        installed.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists()).max_by_key(|p| version(p));
    newest.expect("these tests need PostgreSQL's binaries, which script/prepare installs").join("bin")
}
