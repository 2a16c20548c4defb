//! Looks for interpreters on the host: `/usr/bin` before the rest of `PATH`, as each of them answers for itself.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
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
    /// Where the libraries lie that it is linked to, when it does not find them itself.
    pub libraries: Option<PathBuf>,
    /// What loads it with them, when the host's own cannot: it comes from another system.
    loader: Option<PathBuf>,
    /// What it finds modules in, beside its own.
    modules: Vec<PathBuf>,
    held: Option<Held>,
}

/// What leads to an interpreter that this user cannot reach by its path.
#[derive(Clone, Debug)]
struct Held {
    facts: String,
    _program: Arc<OwnedFd>,
    /// The folder of libraries, where there is one.
    lib: Option<Arc<OwnedFd>>,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl Eq for Held {}

impl Interpreter {
    pub fn at(program: PathBuf, prefix: PathBuf, version: String) -> Self {
        Interpreter { program, prefix, version, libraries: None, loader: None, modules: Vec::new(), held: None }
    }

    /// One of another system, whose loader and libraries lie there.
    pub fn loaded_by(self, loader: PathBuf, libraries: PathBuf) -> Self {
        Interpreter { loader: Some(loader), libraries: Some(libraries), ..self }
    }

    pub fn with_modules(self, modules: Vec<PathBuf>) -> Self {
        Interpreter { modules, ..self }
    }

    /// Runs it, or another program that is linked to the same libraries.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match (&self.loader, &self.libraries) {
            (Some(loader), Some(libraries)) => {
                let mut command = Command::new(loader);
                command.arg("--library-path").arg(libraries).arg(program);
                command
            }
            (None, Some(libraries)) => {
                let mut command = Command::new(program);
                command.env("LD_LIBRARY_PATH", libraries);
                command
            }
            (_, None) => Command::new(program),
        };
        if let Some(modules) = std::env::join_paths(&self.modules).ok().filter(|modules| !modules.is_empty()) {
            command.env("PYTHONPATH", modules);
        }
        command
    }

    /// The same as it is in a folder of its own, where it can be run.
    pub fn moved(&self, prefix: &Path, program: &Path) -> Self {
        let libraries = Some(prefix.join("lib"));
        Interpreter { program: program.to_owned(), prefix: prefix.to_owned(), libraries, ..self.clone() }
    }

    /// The folder of its standard library and of what it is linked to.
    pub fn lib(&self) -> PathBuf {
        match self.held.as_ref().and_then(|held| held.lib.as_deref()) {
            Some(lib) if self.libraries.is_none() => path_of(lib),
            _ => self.prefix.join("lib"),
        }
    }

    /// Whether it can only be read, through a descriptor.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Says whether another look would find the same one: changes when the host upgrades it.
    pub fn facts(&self) -> String {
        if let Some(held) = &self.held {
            return held.facts.clone();
        }
        let metadata = fs::metadata(&self.program);
        let (size, modified) = metadata.map(|m| (m.len(), m.mtime())).unwrap_or_default();
        format!("{} {} {size} {modified}", self.version, self.program.display())
    }

    /// Whether every user may read it where it is: not below a home, and all that leads there is open.
    pub fn is_public(&self) -> bool {
        public(&self.program) && public(&self.prefix)
    }
}

/// Interpreters in folders of `PATH` that are closed to other users, such as below root's home, held open: what
/// they are made of can be copied by whom this process becomes.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    found: Vec<(Runtime, Interpreter)>,
}

impl Closed {
    /// For root, before it becomes another. Runs each that it finds, in threads that have ended when this comes back.
    pub fn hold() -> Self {
        let closed: Vec<_> = folders().into_iter().filter(|folder| !open_to_all(folder)).collect();
        Closed { found: hold_below(&closed) }
    }

    /// Those for other runtimes than the ones that were found.
    pub fn beside(&self, found: &mut BTreeMap<&'static str, (Runtime, Interpreter)>) {
        for (runtime, interpreter) in &self.found {
            found.entry(runtime.as_str()).or_insert_with(|| (*runtime, interpreter.clone()));
        }
    }
}

fn path_of(held: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

fn hold_below(folders: &[PathBuf]) -> Vec<(Runtime, Interpreter)> {
    let hold = |(runtime, interpreter): (Runtime, Interpreter)| {
        let program = OwnedFd::from(fs::File::open(&interpreter.program).ok()?);
        let lib = fs::File::open(interpreter.prefix.join("lib")).ok().map(|lib| Arc::new(lib.into()));
        let path = path_of(&program);
        let held = Some(Held { facts: interpreter.facts(), _program: Arc::new(program), lib });
        Some((runtime, Interpreter { program: path, held, ..interpreter }))
    };
    let found = find(folders).into_values();
    found.filter(|(_, interpreter)| !open_to_all(&interpreter.program)).filter_map(hold).collect()
}

/// Whether every user may go there, and read it.
fn open_to_all(path: &Path) -> bool {
    let open =
        |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o005 == 0o005);
    path.ancestors().all(open)
}

fn public(path: &Path) -> bool {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.parent().is_some());
    let mut homes = vec![PathBuf::from("/root"), PathBuf::from("/home")];
    homes.extend(home);
    !homes.iter().any(|home| path.starts_with(home)) && open_to_all(path)
}

/// Where interpreters are looked for.
pub fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path).flat_map(behind_shims) {
        if folder.is_absolute() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Version managers have launch scripts on `PATH`, in a folder `shims`, each of which takes a tenth of a second and more.
/// What these launch lies beside it, by version: the newest first.
fn behind_shims(folder: PathBuf) -> Vec<PathBuf> {
    let Some(manager) = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "shims")) else {
        return vec![folder];
    };
    let below = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let languages: Vec<PathBuf> = below(&manager.join("installs"));
    let versions = languages.into_iter().chain([manager.join("versions")]);
    let mut versions: Vec<PathBuf> = versions.flat_map(|folder: PathBuf| -> Vec<PathBuf> { below(&folder) }).collect();
    versions.sort_by_cached_key(|folder| std::cmp::Reverse(numbers(folder)));
    let programs: Vec<PathBuf> =
        versions.iter().map(|version| version.join("bin")).filter(|bin| bin.is_dir()).collect();
    if programs.is_empty() { vec![folder] } else { programs }
}

/// Of a folder named after a version.
fn numbers(folder: &Path) -> Vec<u32> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The first program of that name.
pub fn program(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|program| executable(program))
}

fn executable(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The interpreters in these folders, by runtime; of two for one runtime the first. All are asked at once.
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

/// Asks an interpreter what it is. A launch script answers for the one that it chooses.
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
    Some((runtime, Interpreter::at(program, prefix, version)))
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
    fn what_launch_scripts_launch_is_found_behind_them() {
        let manager = tempfile::tempdir().unwrap();
        let place = |path: &str| manager.path().join(path);
        let shims = place("shims");
        assert!(behind_shims(shims.clone()) == [&*shims], "nothing is behind it");
        for version in ["versions/3.9.2/bin", "versions/3.12.1/bin", "versions/system", "installs/nodejs/22.1.0/bin"] {
            fs::create_dir_all(place(version)).unwrap();
        }
        let expected = ["installs/nodejs/22.1.0/bin", "versions/3.12.1/bin", "versions/3.9.2/bin"].map(place);
        assert_eq!(behind_shims(shims), expected);
        assert_eq!(behind_shims(place("bin")), [place("bin")]);
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
    fn a_held_interpreter_is_read_through_its_descriptor_and_has_the_same_facts_again() {
        let closed = tempfile::tempdir().unwrap();
        fs::create_dir_all(closed.path().join("bin")).unwrap();
        fs::create_dir_all(closed.path().join("shims")).unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let (program, prefix) = (closed.path().join("bin/python3.12"), closed.path().to_owned());
        fake(&closed.path().join("bin"), "python3.12", "exit 1");
        let answer = format!("printf '3.12.1\\n{}\\n{}\\n'", program.display(), prefix.display());
        fake(&closed.path().join("shims"), "python3.12", &answer);
        let held = || hold_below(&[closed.path().join("shims")]).pop().unwrap();
        let (runtime, interpreter) = held();
        assert_eq!(runtime.as_str(), "python3.12");
        assert!(interpreter.program.starts_with("/proc/self/fd") && interpreter.is_held() && !interpreter.is_public());
        assert_eq!(fs::read(&interpreter.program).unwrap(), fs::read(&program).unwrap());
        assert_eq!(held().1.facts(), interpreter.facts(), "whatever the descriptor's number is");
    }

    #[test]
    fn interpreters_below_homes_or_closed_folders_are_not_public() {
        let closed = tempfile::tempdir().unwrap();
        assert!(!public(&closed.path().join("bin/python3")));
        assert!(!public(Path::new("/root/.pyenv/bin/python3")));
        assert!(public(Path::new("/usr/bin")));
    }
}
