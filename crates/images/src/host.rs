//! Looks for interpreters on the host: `/usr/bin` before the rest of `PATH`, as each of them answers for itself.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hearth_model::Runtime;

use crate::run::run;

/// How long an interpreter may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);

const ASK_PYTHON: &str =
    "import sys, os; print(sys.version.split()[0], os.path.realpath(sys.executable), sys.base_prefix, sep='\\n')";
const ASK_NODE: &str = "[process.versions.node, fs.realpathSync(process.execPath), path.dirname(path.dirname(process.execPath))].join('\\n')";

/// An interpreter of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The program itself, behind links and launch scripts.
    pub program: PathBuf,
    /// The folder above `bin` and `lib`.
    pub prefix: PathBuf,
    /// As it says itself: `3.11.2`.
    pub version: String,
}

impl Interpreter {
    /// Says whether another look would find the same one: changes when the host upgrades it.
    pub fn facts(&self) -> String {
        let metadata = fs::metadata(&self.program);
        let (size, modified) = metadata.map(|m| (m.len(), m.mtime())).unwrap_or_default();
        format!("{} {} {size} {modified}", self.version, self.program.display())
    }

    /// Whether every user may read it where it is: not below a home, and all that leads there is open.
    pub fn is_public(&self) -> bool {
        public(&self.program) && public(&self.prefix)
    }
}

fn public(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.parent().is_some());
    let mut homes = vec![PathBuf::from("/root"), PathBuf::from("/home")];
    homes.extend(home);
    let open =
        |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o005 == 0o005);
    !homes.iter().any(|home| path.starts_with(home)) && path.ancestors().all(open)
}

/// Where interpreters are looked for.
pub fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path) {
        if folder.is_absolute() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The first program of that name.
pub fn program(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|program| executable(program))
}

fn executable(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The interpreters in these folders, by runtime; of two for one runtime the first. All are asked at once: the launch
/// scripts of version managers take a tenth of a second each.
pub fn find(folders: &[PathBuf]) -> BTreeMap<&'static str, (Runtime, Interpreter)> {
    let mut names = HashSet::new();
    let all = folders.iter().flat_map(|folder| programs(folder));
    let first_of_each_name: Vec<PathBuf> =
        all.filter(|program| program.file_name().is_some_and(|name| names.insert(name.to_owned()))).collect();
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = first_of_each_name.iter().map(|program| scope.spawn(|| ask(program))).collect();
        asked.into_iter().filter_map(|asked| asked.join().ok().flatten()).collect::<Vec<_>>()
    });
    let mut found = BTreeMap::new();
    for (runtime, interpreter) in answers {
        found.entry(runtime.as_str()).or_insert((runtime, interpreter));
    }
    found
}

/// Interpreters of a folder, by name.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let named = |name: &str| {
        name == "node" || name == "python3" || name.starts_with("python3.") && Runtime::parse(name).is_ok()
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut programs: Vec<_> = entries
        .filter(|e| e.file_name().to_str().is_some_and(named))
        .map(|e| e.path())
        .filter(|p| executable(p))
        .collect();
    programs.sort();
    programs
}

/// Asks an interpreter what it is. Launch scripts of version managers answer for the one that they choose.
fn ask(program: &Path) -> Option<(Runtime, Interpreter)> {
    let python = program.file_name()?.to_str()?.starts_with("python");
    let mut command = Command::new(program);
    if python {
        command.args(["-I", "-S", "-c", ASK_PYTHON]);
    } else {
        command.args(["-p", ASK_NODE]);
    }
    let text = run(&mut command, PATIENCE).ok()?.success().ok()?;
    let mut lines = text.lines();
    let (version, program, prefix) = (lines.next()?.to_owned(), lines.next()?.into(), lines.next()?.into());
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let name = if python { format!("python{major}.{minor}") } else { format!("nodejs{major}.x") };
    let runtime = Runtime::parse(&name).ok()?;
    Some((runtime, Interpreter { program, prefix, version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(folder: &Path, name: &str, script: &str) {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_first_folder_wins_and_each_interpreter_answers_for_itself() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fake(first.path(), "python3", "printf '3.12.1\\n/a/bin/python3.12\\n/a\\n'");
        fake(second.path(), "python3.12", "printf '3.12.9\\n/b/bin/python3.12\\n/b\\n'");
        fake(second.path(), "node", "printf '22.1.0\\n/b/bin/node\\n/b\\n'");
        let found = find(&[first.path().to_owned(), second.path().to_owned()]);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["nodejs22.x", "python3.12"]);
        let python = &found["python3.12"].1;
        assert_eq!((python.version.as_str(), python.prefix.as_path()), ("3.12.1", Path::new("/a")));
    }

    #[test]
    fn what_cannot_be_executed_hides_nothing() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(first.path().join("node"), "").unwrap();
        fake(second.path(), "node", "printf '22.1.0\\n/b/bin/node\\n/b\\n'");
        assert!(find(&[first.path().to_owned(), second.path().to_owned()]).contains_key("nodejs22.x"));
    }

    #[test]
    fn what_fails_or_is_of_a_version_that_no_runtime_has_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fake(folder.path(), "python3.9", "exit 127");
        fake(folder.path(), "python3.7", "printf '3.7.1\\n/p\\n/p\\n'");
        fake(folder.path(), "python3-config", "printf '3.11.1\\n/p\\n/p\\n'");
        assert!(find(&[folder.path().to_owned()]).is_empty());
    }

    #[test]
    fn interpreters_below_homes_or_closed_folders_are_not_public() {
        let closed = tempfile::tempdir().unwrap();
        assert!(!public(&closed.path().join("bin/python3")));
        assert!(!public(Path::new("/root/.pyenv/bin/python3")));
        assert!(public(Path::new("/usr/bin")));
    }
}
