//! The AWS SDK that Python runtimes carry: boto3 and what it needs, in the versions and with the hashes of
//! `sdk-python*.txt`, installed by pip at first use and kept in the cache.

mod node;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_model::Runtime;

use crate::host::Interpreter;
use crate::run::run;
use crate::runtimes::hash;
use crate::trees::{Tree, Trees};

pub use node::node;

/// For every Python that boto3 still runs on.
const CURRENT: &str = include_str!("sdk-python.txt");
/// The last ones for each that it has left behind.
const LAST: &[(&str, &str)] =
    &[("3.8", include_str!("sdk-python-3.8.txt")), ("3.9", include_str!("sdk-python-3.9.txt"))];
/// Longest that the first function of a runtime waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// An SDK in the cache.
pub struct Sdk {
    pub tree: Tree,
    /// `boto3 1.44.8`.
    pub label: String,
}

/// Finds it in the cache or, where that is allowed, fetches it.
pub fn python(trees: &Trees, runtime: Runtime, interpreter: &Interpreter, fetch: bool) -> io::Result<Sdk> {
    let requirements = requirements(runtime);
    let name = format!("sdk-{runtime}-{}", &hash(requirements)[..32]);
    let tree = trees.make(&name, |folder| {
        if !fetch {
            return Err(io::Error::new(io::ErrorKind::NotFound, "fetching is switched off (runtimes.fetch)"));
        }
        tracing::info!(%runtime, sdk = label(requirements), "the AWS SDK is fetched");
        install(interpreter, requirements, folder)
    })?;
    Ok(Sdk { tree, label: label(requirements) })
}

fn requirements(runtime: Runtime) -> &'static str {
    let version = runtime.language_version();
    LAST.iter().find(|(last, _)| Some(*last) == version).map_or(CURRENT, |(_, requirements)| requirements)
}

/// `boto3 1.44.8` of `boto3==1.44.8 --hash=…`.
fn label(requirements: &str) -> String {
    let first = requirements.split_whitespace().next().unwrap_or_default();
    first.replacen("==", " ", 1)
}

fn install(interpreter: &Interpreter, requirements: &str, folder: &Path) -> io::Result<()> {
    let work = tempfile::tempdir()?;
    let file = work.path().join("requirements.txt");
    fs::write(&file, requirements)?;
    let python = with_pip(interpreter, work.path())?;
    let mut pip = interpreter.command(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]);
    pip.args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--timeout", "15", "--retries", "1"]);
    pip.arg("--target").arg(folder).arg("--requirement").arg(&file);
    run(&mut pip, PATIENCE)?.success()?;
    let scripts = folder.join("bin");
    if scripts.exists() { fs::remove_dir_all(scripts) } else { Ok(()) }
}

/// An interpreter of the same version that has pip: itself, or one in a virtual environment.
fn with_pip(interpreter: &Interpreter, work: &Path) -> io::Result<PathBuf> {
    let asked = run(interpreter.command(&interpreter.program).args(["-m", "pip", "--version"]), PATIENCE)?;
    if asked.status.success() {
        return Ok(interpreter.program.clone());
    }
    let place = work.join("venv");
    let made = run(interpreter.command(&interpreter.program).args(["-m", "venv"]).arg(&place), PATIENCE)?;
    made.success().map_err(|e| {
        let program = interpreter.program.display();
        io::Error::other(format!("{program} has neither pip nor venv (Debian: apt-get install python3-venv): {e}"))
    })?;
    Ok(place.join("bin/python3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_by_hash() {
        for requirements in LAST.iter().map(|(_, last)| *last).chain([CURRENT]) {
            assert!(label(requirements).starts_with("boto3 1."));
            for line in requirements.lines() {
                let (name, hash) = line.split_once(" --hash=sha256:").unwrap();
                assert!(name.contains("==") && hash.len() == 64, "{line}");
            }
        }
    }

    #[test]
    fn nothing_is_fetched_when_that_is_switched_off() {
        let cache = tempfile::tempdir().unwrap();
        let trees = Trees::open(cache.path(), u64::MAX).unwrap();
        let interpreter = Interpreter::at("/nowhere/python3".into(), "/nowhere".into(), "3.11.2".to_owned());
        let refused = python(&trees, Runtime::parse("python3.11").unwrap(), &interpreter, false).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
}
