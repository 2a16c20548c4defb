//! Two sandboxes beside each other, and what lies outside of them.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use hearth_egress::Egress;
use hearth_sandbox::{Command, Process, Sandbox, launcher, weaken};

use super::support::{self, Ground, command, pipe};

/// Things of the host: a file, a process, sockets, shared memory.
pub struct Outside {
    /// Of whoever made it.
    _child: Option<Serving>,
    /// As the attempts are told it.
    said: serde_json::Map<String, serde_json::Value>,
}

impl Outside {
    pub fn make() -> Self {
        // On the host's root file system, of which sandboxes show other parts.
        let folder = tempfile::tempdir_in("/opt").unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escapes/outside.py");
        let mut child = std::process::Command::new("/usr/bin/python3")
            .arg("-I")
            .arg(script)
            .arg(folder.path().join("secret"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Outside { _child: Some(Serving { child, _folder: folder }), said: serde_json::from_str(&line).unwrap() }
    }

    /// What another process made, as it says.
    pub fn known(said: &str) -> Self {
        Outside { _child: None, said: serde_json::from_str(said).unwrap() }
    }

    pub fn say(&self) -> String {
        serde_json::to_string(&self.said).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.said["file"].as_str().unwrap().into()
    }
}

struct Serving {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub struct World {
    ground: Ground,
    /// What its functions may reach.
    egress: Egress,
    told: String,
    file: PathBuf,
    _neighbour: (Box<dyn Sandbox>, Process),
}

impl World {
    pub async fn new(started: launcher::Started, outside: &Outside, allow: &[&str]) -> Self {
        let allow = allow.iter().map(|entry| entry.parse().unwrap()).collect();
        let egress = Egress::new(hearth_egress::Config { allow, ..hearth_egress::Config::default() });
        let ground = Ground::new(started, |code| fill(code, &outside.file())).await;
        let neighbour = ground.sandbox(1769).await;
        // The sandbox's id, so that it is found.
        let mark = format!("1000.{}", ground.instance.replace(|c: char| !c.is_ascii_digit(), ""));
        let process = neighbour.spawn(command("/bin/sleep", &[&mark], pipe().1)).await.unwrap();
        let mut told = outside.said.clone();
        let (pid, group) = find_neighbour(&mark);
        told.insert("neighbour".to_owned(), pid.into());
        told.insert("cgroup".to_owned(), group.into());
        let told = serde_json::to_string(&told).unwrap();
        World { ground, egress, told, file: outside.file(), _neighbour: (neighbour, process) }
    }

    /// In a sandbox of its own; how it ended, and what it said.
    pub async fn attempt(&self, name: &str) -> (String, String) {
        let said = match name {
            "terminal_input" => self.run("attempts.py", &[name, &self.told], weaken::terminal().unwrap()).await,
            "file_by_working_directory" => self.read_by_working_directory().await,
            _ => self.run("attempts.py", &[name, &self.told], pipe()).await,
        };
        // A terminal shows what is typed into it.
        let begins = ["out:", "held:", "absent:"].iter().filter_map(|word| said.rfind(word)).max().unwrap_or_default();
        let line = said[begins..].trim().to_owned();
        (line.split(':').next().unwrap_or_default().to_owned(), line)
    }

    /// Runs a program of the package to its end, in a new sandbox; what it wrote.
    pub async fn run(&self, script: &str, arguments: &[&str], (reader, writer): (OwnedFd, OwnedFd)) -> String {
        let sandbox = self.ground.sandbox(1769).await;
        let _gateway = support::gateway(&*sandbox, self.egress.clone());
        let script = format!("/var/task/{script}");
        let arguments = [&["-I", &script], arguments].concat();
        support::run_command(&*sandbox, command("/usr/bin/python3", &arguments, writer), reader).await.unwrap().0
    }

    /// CVE-2024-21626 again: a working directory that is an open descriptor of the host.
    async fn read_by_working_directory(&self) -> String {
        let sandbox = self.ground.sandbox(1769).await;
        let file = format!("{}{}", "../".repeat(12), self.file.strip_prefix("/").unwrap().display());
        let secret = std::fs::read_to_string(&self.file).unwrap();
        for descriptor in 3..64 {
            let (reader, writer) = pipe();
            let directory = format!("/proc/self/fd/{descriptor}");
            let command = Command { working_directory: directory, ..command("/bin/cat", &[&file], writer) };
            // Most are no directory.
            let read = support::run_command(&*sandbox, command, reader).await;
            if read.is_ok_and(|(said, _)| said.trim() == secret) {
                return format!("out: started in descriptor {descriptor}");
            }
        }
        "held: no descriptor leads there".to_owned()
    }

    /// Ready when nothing of it is left.
    pub async fn end(self) {
        let World { ground, _neighbour: neighbour, .. } = self;
        drop(neighbour);
        ground.end().await;
    }
}

/// The package: the attempts, a link to a file of the host, a program that wants to be root.
fn fill(code: &Path, file: &Path) {
    for name in ["attempts.py", "probe.py"] {
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escapes").join(name), code.join(name)).unwrap();
        std::fs::set_permissions(code.join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    symlink(file, code.join("link")).unwrap();
    std::fs::copy("/usr/bin/id", code.join("setuid-id")).unwrap();
    std::fs::set_permissions(code.join("setuid-id"), std::fs::Permissions::from_mode(0o4755)).unwrap();
}

/// On the host: the neighbour's process and a folder of its control group.
fn find_neighbour(mark: &str) -> (u32, String) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let text = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if text("cmdline").split('\0').nth(1) == Some(mark) {
            let groups = text("cgroup");
            // Its own group has the longest path.
            let paths = groups.lines().filter_map(|line| line.rsplit(':').next());
            return (pid, find_group(paths.max_by_key(|path| path.len()).unwrap_or("/")));
        }
    }
    panic!("the neighbour is not there");
}

/// Where a control group's path is mounted, in whichever hierarchy.
fn find_group(path: &str) -> String {
    let roots = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let roots = roots.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (root, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then_some(root)
    });
    let mut groups = roots.map(|root| format!("{root}{path}")).filter(|group| Path::new(group).exists());
    groups.next().expect("a control group of the neighbour")
}
