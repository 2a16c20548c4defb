//! Packages laid over one another as a system to run an interpreter in, with what their scripts would have done for it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_model::{Family, Runtime};

use crate::host::Interpreter;
use crate::oci::stack;
use crate::run::run;

/// Folders that are links into `/usr`.
const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];
/// Programs by the name that scripts choose for them.
const CHOSEN: &[(&str, &str)] =
    &[("usr/bin/sh", "bash"), ("usr/bin/awk", "mawk"), ("usr/bin/which", "which.debianutils")];
/// Where libraries are, and the loader beside them.
const LIBRARIES: &str = if cfg!(target_arch = "aarch64") { "lib/aarch64-linux-gnu" } else { "lib/x86_64-linux-gnu" };
const LOADER: &str = if cfg!(target_arch = "aarch64") { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" };
/// Longest that the modules of a language take to be compiled.
const COMPILE_PATIENCE: Duration = Duration::from_secs(300);
/// Modules that are no code of this Python.
const NOT_COMPILED: &str = r"bad_coding|badsyntax|/lib2to3/tests/|/test/";

/// Lays packages into an empty folder.
pub fn lay(packages: &[&Path], runtime: Runtime, version: &str, root: &Path) -> io::Result<()> {
    for name in MERGED {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    stack(packages.iter().copied(), root)?;
    for (name, chosen) in CHOSEN {
        let place = root.join(name);
        if fs::symlink_metadata(&place).is_err() && place.with_file_name(chosen).exists() {
            symlink(chosen, place)?;
        }
    }
    match runtime.family() {
        Family::Python => compile(&interpreter(root, runtime, version, &[]), runtime, root),
        _ => Ok(()),
    }
}

/// The interpreter of a system, where the host can run it. `tools` are trees of packages with wheels.
pub fn interpreter(system: &Path, runtime: Runtime, version: &str, tools: &[PathBuf]) -> Interpreter {
    let usr = system.join("usr");
    let program = usr.join("bin").join(format!("python{}", runtime.language_version().unwrap_or_default()));
    let libraries = usr.join(LIBRARIES);
    let loader = libraries.join(LOADER);
    Interpreter::at(program, usr, version.to_owned()).loaded_by(loader, libraries).with_modules(wheels(tools))
}

/// Debian has what installs packages as wheels, which Python can run from.
fn wheels(tools: &[PathBuf]) -> Vec<PathBuf> {
    let folders = tools.iter().map(|tool| tool.join("files/usr/share/python-wheels"));
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()));
    let mut wheels: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "whl")).collect();
    wheels.sort();
    wheels
}

/// So that nothing is compiled when functions import it: they cannot keep what comes of it.
fn compile(python: &Interpreter, runtime: Runtime, root: &Path) -> io::Result<()> {
    let library = Path::new("usr/lib").join(format!("python{}", runtime.language_version().unwrap_or_default()));
    let mut command = python.command(&python.program);
    command.args(["-I", "-S", "-B", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
    command.args(["-x", NOT_COMPILED, "-p", "/"]).arg("-s").arg(root).arg(root.join(library));
    run(&mut command, COMPILE_PATIENCE)?.success().map(drop)
}
