//! Functions without a root of their own (isolation `landlock` and `none`): every path that a runtime knows is found on
//! the host instead, in commands and in variables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_model::Root;

use crate::driver::Command;
use crate::walls::Walls;

/// Folders that a runtime knows by name and the host does not have, or has with something else in them.
const INSIDE: [&str; 5] = ["/var/task", "/var/runtime", "/var/lang", "/opt", "/tmp"];

/// What a program of the host needs of the host: libraries, certificates, names, facts about the machine.
const READABLE: [&str; 20] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ssl",
    "/etc/ca-certificates",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
];
const WRITABLE: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Where a function's places are on the host.
pub struct Places {
    pub root: Arc<Root>,
    pub code: PathBuf,
    /// Of `/tmp`.
    pub scratch: PathBuf,
}

impl Places {
    /// The command as it is run on the host.
    pub fn command(&self, command: Command) -> Command {
        let Command { program, arguments, environment, working_directory, output, log, told } = command;
        let mut environment: Vec<_> =
            environment.into_iter().map(|(key, value)| (key, self.translate(&value))).collect();
        if !environment.iter().any(|(key, _)| key == "TMPDIR") {
            environment.push(("TMPDIR".to_owned(), self.scratch.to_string_lossy().into_owned()));
        }
        Command {
            program: self.translate(&program),
            arguments: arguments.iter().map(|argument| self.translate(argument)).collect(),
            environment,
            working_directory: self.translate(&working_directory),
            output,
            log,
            told,
        }
    }

    /// What the function may touch, and the only ports that it may connect to.
    pub fn walls(&self, ports: Vec<u16>) -> Walls {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let own = [&self.root.skeleton, &self.code].map(|path| text(path));
        let binds = self.root.binds.iter().map(|bind| text(&bind.source));
        Walls {
            readable: READABLE.iter().map(|&path| path.to_owned()).chain(own).chain(binds).collect(),
            writable: WRITABLE.iter().map(|&path| path.to_owned()).chain([text(&self.scratch)]).collect(),
            ports: Some(ports),
        }
    }

    /// A path, or a list of paths with colons.
    fn translate(&self, text: &str) -> String {
        let parts: Vec<String> =
            text.split(':').map(|part| self.find(part).unwrap_or_else(|| part.to_owned())).collect();
        parts.join(":")
    }

    fn find(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        if !INSIDE.iter().any(|inside| path.starts_with(inside)) {
            return None;
        }
        let found = if let Ok(below) = path.strip_prefix("/var/task") {
            below_of(&self.code, below)
        } else if let Ok(below) = path.strip_prefix("/tmp") {
            below_of(&self.scratch, below)
        } else {
            let below = path.strip_prefix("/").ok()?;
            let bound = self.root.binds.iter().filter_map(|bind| Some((bind, below.strip_prefix(&bind.target).ok()?)));
            match bound.max_by_key(|(bind, _)| bind.target.as_os_str().len()) {
                Some((bind, below)) => below_of(&bind.source, below),
                None => self.root.skeleton.join(below),
            }
        };
        Some(found.to_string_lossy().into_owned())
    }
}

/// Without a slash at its end where nothing follows.
fn below_of(folder: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { folder.to_owned() } else { folder.join(below) }
}

#[cfg(test)]
mod tests {
    use hearth_model::RootBind;

    use super::*;

    #[test]
    fn what_a_runtime_knows_is_found_on_the_host() {
        let bind = |source: &str, target: &str| RootBind { source: source.into(), target: target.into() };
        let root = Root {
            skeleton: "/cache/root".into(),
            binds: vec![bind("/usr/bin/python3.11", "var/lang/bin/python3.11"), bind("/usr/lib64", "usr/lib64")],
            whole: false,
        };
        let places = Places { root: Arc::new(root), code: "/cache/code".into(), scratch: "/data/scratch/1".into() };
        for (inside, host) in [
            ("/var/task", "/cache/code"),
            ("/var/task/bootstrap", "/cache/code/bootstrap"),
            ("/var/taskmaster", "/var/taskmaster"),
            ("/var/lang/bin/python3.11", "/usr/bin/python3.11"),
            ("/var/lang/lib:/var/task/lib:/usr/lib64", "/cache/root/var/lang/lib:/cache/code/lib:/usr/lib64"),
            ("/tmp/x", "/data/scratch/1/x"),
            ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
            ("", ""),
        ] {
            assert_eq!(places.translate(inside), host, "{inside}");
        }
    }
}
