//! The AWS SDK that Node.js runtimes carry: the 50 most used clients of version 3 and what goes with them, in the versions
//! and with the hashes of `sdk-node.txt`, fetched by `curl` at first use and kept in the cache. AWS's runtimes have the
//! other clients too.

use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fetch::{integrity, missing, registry};
use crate::host;
use crate::run::run;
use crate::runtimes::hash;
use crate::sdk::Sdk;
use crate::trees::Trees;

const ARCHIVES: &str = include_str!("../sdk-node.txt");
/// Longest that the first function of a runtime waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest archive, bytes.
const ARCHIVE_MAX: u64 = 16 << 20;
/// What the SDK's packages need.
const MAJOR_MIN: u32 = 20;
/// Not for Node.js, or not to be run.
const UNWANTED: [&str; 4] = ["*/dist-types", "*/dist-es", "*/README.md", "*/CHANGELOG.md"];

/// A package: where it lies, its version, and its hash as npm writes it.
struct Archive {
    place: &'static str,
    version: &'static str,
    integrity: &'static str,
}

impl Archive {
    fn all() -> impl Iterator<Item = Archive> {
        ARCHIVES.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some(Archive { place: words.next()?, version: words.next()?, integrity: words.next()? })
        })
    }

    fn name(&self) -> &'static str {
        self.place.rsplit_once("node_modules/").map_or(self.place, |(_, name)| name)
    }

    fn url(&self, registry: &str) -> String {
        let name = self.name();
        let file = name.rsplit('/').next().unwrap_or(name);
        format!("{registry}/{name}/-/{file}-{}.tgz", self.version)
    }
}

/// Finds it in the cache or, where that is allowed, fetches it: a tree with `node_modules`. None for a Node.js that is too
/// old for it.
pub fn node(trees: &Trees, major: u32, fetch: bool) -> io::Result<Option<Sdk>> {
    if major < MAJOR_MIN {
        return Ok(None);
    }
    let name = format!("sdk-node-{}", &hash(ARCHIVES)[..32]);
    let tree = trees.make(&name, |folder| {
        if !fetch {
            return Err(io::Error::new(io::ErrorKind::NotFound, "fetching is switched off (runtimes.fetch)"));
        }
        tracing::info!(sdk = label(), "the AWS SDK is fetched");
        install(&registry(), Archive::all().collect(), folder)
    })?;
    Ok(Some(Sdk { tree, label: label() }))
}

/// `@aws-sdk/client-lambda 3.1164.0`.
fn label() -> String {
    Archive::all().next().map(|first| format!("{} {}", first.name(), first.version)).unwrap_or_default()
}

fn install(registry: &str, archives: Vec<Archive>, folder: &Path) -> io::Result<()> {
    let work = tempfile::tempdir()?;
    let file = |number: usize| work.path().join(format!("{number}.tgz"));
    let mut config = tempfile::NamedTempFile::new()?;
    for (number, archive) in archives.iter().enumerate() {
        writeln!(config, "url = \"{}\"\noutput = \"{}\"", archive.url(registry), file(number).display())?;
    }
    config.flush()?;
    let mut curl = Command::new(host::program("curl").ok_or_else(|| missing("curl"))?);
    curl.args(["--fail", "--fail-early", "--silent", "--show-error", "--location", "--retry", "2"]);
    curl.args(["--parallel", "--parallel-max", "16", "--connect-timeout", "20"]);
    curl.arg("--max-filesize").arg(ARCHIVE_MAX.to_string()).arg("--config").arg(config.path());
    run(&mut curl, PATIENCE)?.success()?;
    let tar = host::program("tar").ok_or_else(|| missing("tar"))?;
    for (number, archive) in archives.iter().enumerate() {
        if integrity(&file(number))? != archive.integrity {
            let reason = format!("what came for {} {} is not the known archive", archive.name(), archive.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let place = folder.join(inside(archive.place)?);
        fs::create_dir_all(&place)?;
        let mut tar = Command::new(&tar);
        tar.arg("-xzf").arg(file(number)).arg("-C").arg(&place).args(["--no-same-owner", "--strip-components=1"]);
        tar.args(UNWANTED.map(|name| format!("--exclude={name}")));
        run(&mut tar, PATIENCE)?.success()?;
    }
    Ok(())
}

/// A path that leads nowhere but below.
fn inside(place: &str) -> io::Result<PathBuf> {
    let path = PathBuf::from(place);
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(path)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("{place} leads elsewhere")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_archive_is_pinned_by_hash() {
        assert!(label().starts_with("@aws-sdk/client-lambda 3."));
        for archive in Archive::all() {
            assert!(archive.integrity.starts_with("sha512-") && archive.integrity.len() == 95, "{}", archive.place);
            assert!(inside(archive.place).is_ok());
        }
        assert_eq!(Archive::all().count(), ARCHIVES.lines().count());
    }

    /// A registry in a folder, with one package.
    fn packed(folder: &Path) -> Archive {
        fs::create_dir_all(folder.join("package/dist-es")).unwrap();
        for file in ["package/package.json", "package/index.js", "package/dist-es/index.js"] {
            fs::write(folder.join(file), "{}").unwrap();
        }
        let place = folder.join("@a/b/-");
        fs::create_dir_all(&place).unwrap();
        let archive = place.join("b-1.0.0.tgz");
        let made = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(folder).arg("package").status();
        assert!(made.unwrap().success());
        let integrity = integrity(&archive).unwrap().leak();
        Archive { place: "node_modules/c/node_modules/@a/b", version: "1.0.0", integrity }
    }

    #[test]
    fn packages_lie_where_they_belong_without_what_is_not_for_node() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let archive = packed(source.path());
        install(&format!("file://{}", source.path().display()), vec![archive], target.path()).unwrap();
        let place = target.path().join("node_modules/c/node_modules/@a/b");
        assert!(place.join("package.json").exists() && place.join("index.js").exists());
        assert!(!place.join("dist-es").exists());
    }

    #[test]
    fn another_archive_is_refused_before_it_is_unpacked() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let archive = Archive { integrity: "sha512-AAAA", ..packed(source.path()) };
        let refused = install(&format!("file://{}", source.path().display()), vec![archive], target.path());
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!target.path().join("node_modules").exists());
    }

    #[test]
    fn a_node_that_is_too_old_has_none() {
        let cache = tempfile::tempdir().unwrap();
        let trees = Trees::open(cache.path(), u64::MAX).unwrap();
        assert!(node(&trees, 18, true).unwrap().is_none());
        assert_eq!(node(&trees, 20, false).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
