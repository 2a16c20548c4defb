//! Dependencies of a folder, installed into a copy of it: `requirements.txt` by pip, `package.json` by npm.
//!
//! pip is told the runtime's version and platform, so that what it fetches fits there and not only here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hearth_model::{Architecture, Family};

use super::PackError;
use super::archive::files_of;

/// Newest first; each also allows the older ones of its kind.
const GLIBC: [&str; 4] = ["manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014"];

/// What the dependencies are for.
pub struct Target<'a> {
    pub family: Family,
    /// `3.11` of `python3.11`.
    pub language_version: Option<&'a str>,
    pub architecture: Architecture,
}

/// A copy of `folder` with its dependencies; `None` when it names none.
pub fn install(folder: &Path, target: &Target<'_>) -> Result<Option<tempfile::TempDir>, PackError> {
    match target.family {
        Family::Python if folder.join("requirements.txt").is_file() => {
            let stage = copy(folder, &[])?;
            pip(stage.path(), target)?;
            Ok(Some(stage))
        }
        Family::NodeJs if names_packages(&folder.join("package.json"))? => {
            let stage = copy(folder, &["node_modules"])?;
            npm(stage.path())?;
            Ok(Some(stage))
        }
        _ => Ok(None),
    }
}

fn copy(folder: &Path, without: &[&str]) -> Result<tempfile::TempDir, PackError> {
    let stage = tempfile::Builder::new().prefix("hearth-deploy-").tempdir().map_err(PackError::io(folder))?;
    let leading = |path: &Path| path.components().next().map(|first| first.as_os_str().to_owned());
    for below in files_of(folder)? {
        if leading(&below).is_some_and(|first| without.iter().any(|name| first == *name)) {
            continue;
        }
        let (from, to) = (folder.join(&below), stage.path().join(&below));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(PackError::io(parent))?;
        }
        if from.is_symlink() {
            let link = fs::read_link(&from).map_err(PackError::io(&from))?;
            std::os::unix::fs::symlink(link, &to).map_err(PackError::io(&to))?;
        } else {
            fs::copy(&from, &to).map_err(PackError::io(&from))?;
        }
    }
    Ok(stage)
}

fn pip(stage: &Path, target: &Target<'_>) -> Result<(), PackError> {
    let version = target.language_version.unwrap_or("3");
    let python = python_with_pip(version)?;
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet", "--no-compile"]);
        command.arg("--target").arg(stage).arg("-r").arg(stage.join("requirements.txt"));
        command.env("PIP_ROOT_USER_ACTION", "ignore").current_dir(stage);
        command
    };
    let mut foreign = command(&python);
    foreign.args(["--only-binary=:all:", "--implementation", "cp", "--python-version", version]);
    for glibc in GLIBC {
        foreign.arg("--platform").arg(format!("{glibc}_{}", machine(target.architecture)));
    }
    let failed = match run("pip", &mut foreign) {
        Ok(()) => return Ok(()),
        Err(failed) => failed,
    };
    // A dependency without a built package can only be built by the very interpreter that will run it.
    let own = PathBuf::from(format!("python{version}"));
    if Architecture::of_host() == Some(target.architecture) && has_pip(&own) {
        return run("pip", &mut command(&own));
    }
    Err(failed)
}

fn python_with_pip(version: &str) -> Result<PathBuf, PackError> {
    [format!("python{version}"), "python3".to_owned(), "/usr/bin/python3".to_owned()]
        .into_iter()
        .map(PathBuf::from)
        .find(|python| has_pip(python))
        .ok_or(PackError::ToolMissing {
            tool: "pip",
            source_file: "requirements.txt",
            advice: " (Debian: apt-get install python3-pip)",
        })
}

fn has_pip(python: &Path) -> bool {
    let mut asked = Command::new(python);
    asked.args(["-m", "pip", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

fn machine(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86_64",
        Architecture::Arm64 => "aarch64",
    }
}

/// Whether a `package.json` names packages that the function needs when it runs.
fn names_packages(path: &Path) -> Result<bool, PackError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(PackError::Io { path: path.to_owned(), source }),
    };
    let document: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| PackError::Unclear(format!("{} is not JSON: {e}", path.display())))?;
    let named = |member: &str| document[member].as_object().is_some_and(|packages| !packages.is_empty());
    Ok(named("dependencies") || named("optionalDependencies"))
}

fn npm(stage: &Path) -> Result<(), PackError> {
    let verb = if stage.join("package-lock.json").is_file() { "ci" } else { "install" };
    let mut command = Command::new("npm");
    command.args([verb, "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(stage);
    run("npm", &mut command)
}

/// Runs a tool to its end; what it says is shown only when it fails.
fn run(tool: &'static str, command: &mut Command) -> Result<(), PackError> {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let source_file = if tool == "npm" { "package.json" } else { "requirements.txt" };
            return Err(PackError::ToolMissing { tool, source_file, advice: "" });
        }
        Err(source) => return Err(PackError::Io { path: tool.into(), source }),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(PackError::ToolFailed { tool, said: String::from_utf8_lossy(&said).trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_needed_at_run_time_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("package.json");
        assert!(!names_packages(&path).unwrap());
        for (text, expect) in [
            (r#"{"type": "module"}"#, false),
            (r#"{"devDependencies": {"esbuild": "1"}}"#, false),
            (r#"{"dependencies": {}}"#, false),
            (r#"{"dependencies": {"ms": "2"}}"#, true),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(names_packages(&path).unwrap(), expect, "{text}");
        }
        fs::write(&path, "{").unwrap();
        assert!(names_packages(&path).is_err());
    }

    #[test]
    fn the_folder_itself_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("node_modules/x")).unwrap();
        fs::write(folder.path().join("node_modules/x/index.js"), "").unwrap();
        fs::write(folder.path().join("index.js"), "1").unwrap();
        let stage = copy(folder.path(), &["node_modules"]).unwrap();
        assert!(stage.path().join("index.js").is_file());
        assert!(!stage.path().join("node_modules").exists());
        assert!(folder.path().join("node_modules/x/index.js").is_file());
    }
}
