//! Runtimes that can run here: the host's own interpreters with Hearth's bootstraps, and packages' own bootstraps
//! (decision 13). `/usr/bin` is looked at before the rest of `PATH`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hearth_model::{CodeHash, Family, RootBind, Runtime, RuntimeTree};
use sha2::{Digest, Sha256};

use crate::skeleton::{self, Additions};

const PYTHON_BOOTSTRAP: &str = include_str!("../../../bootstraps/python/bootstrap.py");
const NODE_BOOTSTRAP: &str = include_str!("../../../bootstraps/node/bootstrap.mjs");

/// Where a runtime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host's own interpreter.
    Host,
    /// The package brings it.
    Custom,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Host => "host",
            Source::Custom => "custom",
        }
    }
}

/// A runtime that can run here.
#[derive(Clone, Debug)]
pub struct InstalledRuntime {
    pub runtime: Runtime,
    /// As the interpreter itself says: `3.11.2`. Empty where the package brings it.
    pub version: String,
    pub source: Source,
    interpreter: Option<Interpreter>,
}

#[derive(Clone, Debug)]
struct Interpreter {
    program: PathBuf,
    /// The folder above `bin` and `lib`.
    prefix: PathBuf,
}

/// Looks through the host. Newest first within a family.
pub fn find() -> Vec<InstalledRuntime> {
    let mut found: BTreeMap<&'static str, InstalledRuntime> = BTreeMap::new();
    for folder in folders() {
        for program in programs(&folder) {
            if let Some(installed) = ask(&program) {
                found.entry(installed.runtime.as_str()).or_insert(installed);
            }
        }
    }
    let mut all: Vec<_> = found.into_values().collect();
    all.sort_by_key(|installed| {
        std::cmp::Reverse(hearth_model::RUNTIMES.iter().position(|known| *known == installed.runtime.as_str()))
    });
    for name in ["provided.al2023", "provided.al2"] {
        if let Ok(runtime) = Runtime::parse(name) {
            all.push(InstalledRuntime { runtime, version: String::new(), source: Source::Custom, interpreter: None });
        }
    }
    all
}

fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path) {
        if folder.is_absolute() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Interpreters of a folder, by name.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let named = |name: &str| {
        name == "node"
            || name == "python3"
            || name.strip_prefix("python3.").is_some_and(|minor| minor.parse::<u8>().is_ok())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut programs: Vec<_> =
        entries.filter(|e| e.file_name().to_str().is_some_and(named)).map(|e| e.path()).collect();
    programs.sort();
    programs
}

/// Asks an interpreter what it is. Launch scripts of version managers answer for the interpreter that they choose.
fn ask(program: &Path) -> Option<InstalledRuntime> {
    let python = program.file_name()?.to_str()?.starts_with("python");
    let arguments: &[&str] = if python {
        &[
            "-I",
            "-S",
            "-c",
            "import sys, os; print(sys.version.split()[0], os.path.realpath(sys.executable), sys.base_prefix, sep='\\n')",
        ]
    } else {
        &["-p", "[process.versions.node, fs.realpathSync(process.execPath), ''].join('\\n')"]
    };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let mut lines = text.lines();
    let (version, program) = (lines.next()?.to_owned(), PathBuf::from(lines.next()?));
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let name = if python { format!("python{major}.{minor}") } else { format!("nodejs{major}.x") };
    let prefix = if python { PathBuf::from(lines.next()?) } else { program.parent()?.parent()?.to_owned() };
    let runtime = Runtime::parse(&name).ok()?;
    let interpreter = Some(Interpreter { program, prefix });
    Some(InstalledRuntime { runtime, version, source: Source::Host, interpreter })
}

/// Makes the tree of a runtime. Blocking.
pub fn make(installed: &InstalledRuntime, cache: &Path) -> io::Result<RuntimeTree> {
    let mut additions = Additions::default();
    let (command, variables) = match &installed.interpreter {
        None => (Vec::new(), Vec::new()),
        Some(interpreter) if installed.runtime.family() == Family::Python => {
            python(installed, interpreter, cache, &mut additions)?
        }
        Some(interpreter) => node(installed, interpreter, cache, &mut additions)?,
    };
    let root = skeleton::root(cache, additions)?;
    let family = match installed.runtime.family() {
        Family::Python => format!("python:{}", installed.version),
        Family::NodeJs => format!("nodejs:{}", installed.version),
        _ => installed.runtime.as_str().replacen('.', ":", 1),
    };
    let digest = CodeHash(Sha256::digest(format!("{family} {}", root.skeleton.display())).into()).to_hex();
    Ok(RuntimeTree {
        runtime: installed.runtime,
        root: std::sync::Arc::new(root),
        command,
        variables,
        version: family,
        version_arn: format!("arn:aws:lambda:us-east-1::runtime:{digest}"),
    })
}

type CommandAndVariables = (Vec<String>, Vec<(String, String)>);

fn python(
    installed: &InstalledRuntime,
    interpreter: &Interpreter,
    cache: &Path,
    additions: &mut Additions,
) -> io::Result<CommandAndVariables> {
    let version = installed.runtime.language_version().unwrap_or_default();
    let name = format!("python{version}");
    let (program, library) = if reachable(&interpreter.program) && reachable(&interpreter.prefix) {
        (interpreter.program.clone(), interpreter.prefix.join("lib").join(&name))
    } else {
        let copy = copied(installed, cache, |folder| copy_python(interpreter, &name, folder))?;
        for shared in shared_libraries(&copy.join("lib"))? {
            let target = Path::new("var/lang/lib").join(shared.file_name().unwrap_or_default());
            additions.binds.push(RootBind { source: shared, target });
        }
        (copy.join("bin/python"), copy.join("lib").join(&name))
    };
    additions.files.insert("var/runtime/bootstrap.py", PYTHON_BOOTSTRAP.as_bytes().to_vec());
    additions.binds.push(RootBind { source: program, target: Path::new("var/lang/bin").join(&name) });
    additions.binds.push(RootBind { source: library, target: Path::new("var/lang/lib").join(&name) });
    let command = [&*format!("/var/lang/bin/{name}"), "-B", "-X", "frozen_modules=on", "/var/runtime/bootstrap.py"];
    let variables = [("PYTHONPATH", "/var/runtime"), ("LC_CTYPE", "C.UTF-8"), ("PWD", "/var/task"), ("SHLVL", "0")];
    Ok((command.map(str::to_owned).into(), variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into()))
}

fn node(
    installed: &InstalledRuntime,
    interpreter: &Interpreter,
    cache: &Path,
    additions: &mut Additions,
) -> io::Result<CommandAndVariables> {
    let program = if reachable(&interpreter.program) {
        interpreter.program.clone()
    } else {
        let copy = copied(installed, cache, |folder| fs::copy(&interpreter.program, folder.join("node")).map(drop))?;
        copy.join("node")
    };
    additions.files.insert("var/runtime/bootstrap.mjs", NODE_BOOTSTRAP.as_bytes().to_vec());
    additions.binds.push(RootBind { source: program, target: "var/lang/bin/node".into() });
    let major = installed.runtime.language_version().unwrap_or_default();
    let path = format!(
        "/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
    );
    let command = ["/var/lang/bin/node", "/var/runtime/bootstrap.mjs"].map(str::to_owned);
    Ok((command.into(), vec![("NODE_PATH".to_owned(), path)]))
}

/// Whether any user can read it where it is: everything above it is open, and it lies in no home.
fn reachable(path: &Path) -> bool {
    let open =
        |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o005 == 0o005);
    !path.starts_with("/root") && !path.starts_with("/home") && path.ancestors().all(open)
}

/// A copy in the cache, made once and whole.
fn copied(
    installed: &InstalledRuntime,
    cache: &Path,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let folder = cache.join("runtimes");
    let place = folder.join(format!("{}-{}", installed.runtime, installed.version));
    if !place.exists() {
        fs::create_dir_all(&folder)?;
        let beside = tempfile::Builder::new().prefix(".new-").tempdir_in(&folder)?;
        fill(beside.path())?;
        match fs::rename(beside.path(), &place) {
            Ok(()) => drop(beside.keep()),
            // Another Hearth was faster.
            Err(_) if place.exists() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(place)
}

fn copy_python(interpreter: &Interpreter, name: &str, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("bin"))?;
    fs::create_dir_all(folder.join("lib"))?;
    fs::copy(&interpreter.program, folder.join("bin/python"))?;
    for library in shared_libraries(&interpreter.prefix.join("lib"))? {
        fs::copy(&library, folder.join("lib").join(library.file_name().unwrap_or_default()))?;
    }
    copy_tree(&interpreter.prefix.join("lib").join(name), &folder.join("lib").join(name))
}

/// `libpython…so` beside an interpreter that is linked to one.
fn shared_libraries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let named = |path: &PathBuf| {
        path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("libpython") && n.contains(".so"))
    };
    Ok(fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(named).collect())
}

/// The standard library without its tests and without what was installed into it.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if name == "site-packages" || name == "test" {
            continue;
        }
        if entry.is_dir() {
            copy_tree(&entry, &to.join(name))?;
        } else if entry.exists() {
            fs::copy(&entry, to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_python_and_both_provided_runtimes() {
        let found = find();
        assert!(found.iter().any(|installed| installed.runtime.family() == Family::Python), "{found:?}");
        assert_eq!(found.iter().filter(|installed| installed.source == Source::Custom).count(), 2);
    }

    #[test]
    fn equal_runtimes_share_one_root() {
        let cache = tempfile::tempdir().unwrap();
        let found = find();
        let roots: Vec<_> = found
            .iter()
            .filter(|installed| installed.source == Source::Custom)
            .map(|installed| make(installed, cache.path()).unwrap().root)
            .collect();
        assert_eq!(roots[0], roots[1]);
        assert!(roots[0].skeleton.join("var/task").is_dir());
    }
}
