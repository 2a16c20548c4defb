//! Debian's packages as runtimes: the interpreter that a suite has, with a small system around it, from a mirror that
//! the host's `apt` knows.
//!
//! ```text
//!   suite ─► what its archives sign ─► lists ─► index ─► what is needed ─► PackageSet, pinned by digest     resolve
//!   PackageSet ─► each package: intake (digest) ─► unpacker's process: files ─┐
//!                 …                                                          ├─► system, a tree               make
//! ```
//!
//! No script of a package is run. What scripts would do and a runtime needs is done in `system`.

mod archive;
mod closure;
pub mod deb;
mod index;
mod release;
mod system;
mod version;

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use hearth_model::{Architecture, CodeHash, Family, Runtime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::fault::Fault;
use crate::gather;
use crate::progress::Progress;
use crate::trees::{Tree, Trees};
use crate::unpacker::{self, What};
use crate::web::{self, Open, Web};
use archive::{Archive, Kind};
use deb::Packed;
use index::{Index, Package};
use release::Release;

pub use archive::{Mirror, Settings};
pub use system::{interpreter, lay};

/// Where runtimes are said to come from: `debian`, or `debian:SUITE`.
const SCHEME: &str = "debian";
/// The name of an unpacked list.
pub const INDEX: &str = "index";
/// Largest document that an archive signs, bytes: some 200 KB are usual.
const RELEASE_MAX: u64 = 8 << 20;
/// Largest list of packages, bytes; the largest suite has 65 MB.
const INDEX_MAX: u64 = 256 << 20;
/// Largest package, bytes of its files.
const PACKAGE_MAX: u64 = 2 << 30;
/// Packages that are fetched and unpacked at one time.
const AT_ONCE: usize = 4;
/// Counts up when the same packages become another tree.
const EDITION: &str = "1";

/// Which suite has which runtime: the oldest that is kept up, where several have it.
const SUITES: &[(Family, &str, &str)] = &[
    (Family::Python, "3.9", "bullseye"),
    (Family::Python, "3.11", "bookworm"),
    (Family::Python, "3.13", "trixie"),
    (Family::Python, "3.14", "forky"),
    (Family::Python, "3.15", "forky"),
    (Family::Java, "11", "bullseye"),
    (Family::Java, "17", "bookworm"),
    (Family::Java, "21", "trixie"),
    (Family::Java, "25", "trixie"),
    (Family::NodeJs, "18", "bookworm"),
    (Family::NodeJs, "20", "trixie"),
    (Family::NodeJs, "24", "forky"),
    (Family::Ruby, "3.3", "trixie"),
];

/// What is around every interpreter, as on AWS: a shell, the usual tools, time zones.
const SYSTEM: &[&str] =
    &["bash", "coreutils", "curl", "findutils", "grep", "gzip", "libc-bin", "mawk", "openssl", "sed", "tar", "tzdata"];

/// What a runtime is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackageSet {
    /// As it was asked for.
    pub from: String,
    pub suite: String,
    /// Of the interpreter: `3.13.5`.
    pub version: String,
    /// By name.
    pub packages: Vec<Pinned>,
    /// What is needed only to make it.
    pub tools: Vec<Pinned>,
    /// Once it was asked for: every start of an environment asks.
    #[serde(skip)]
    named: OnceLock<CodeHash>,
}

/// One package and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    pub name: String,
    pub version: String,
    pub archive: Kind,
    /// Below the archive.
    pub path: String,
    pub size: u64,
    pub digest: CodeHash,
}

impl PackageSet {
    /// Names all packages at once.
    pub fn digest(&self) -> CodeHash {
        *self.named.get_or_init(|| {
            let mut hash = Sha256::new();
            hash.update(EDITION);
            for Pinned { name, version, digest, .. } in self.packages.iter().chain(&self.tools) {
                hash.update(format!("\n{name} {version} "));
                hash.update(digest.0);
            }
            CodeHash(hash.finalize().into())
        })
    }
}

/// Whether a runtime is to be made of packages; of which suite, where that is said.
pub fn names(from: &str) -> Option<Result<Option<&str>, Fault>> {
    match from.split_once(':') {
        None if from == SCHEME => Some(Ok(None)),
        Some((SCHEME, suite)) if archive::is_name(suite) => Some(Ok(Some(suite))),
        Some((SCHEME, _)) => Some(Err(Fault::Unsupported("that is no name of a suite".to_owned()))),
        _ => None,
    }
}

/// The package of a runtime's interpreter, and those that AWS's runtime has beside it where the suite has them.
fn interpreter_of(runtime: Runtime) -> Result<(String, &'static [&'static str]), Fault> {
    let version = runtime.language_version().unwrap_or_default();
    match runtime.family() {
        Family::Python => Ok((format!("python{version}"), &["python3-distutils"])),
        Family::NodeJs => Ok(("nodejs".to_owned(), &[])),
        Family::Java => Ok((format!("openjdk-{version}-jre-headless"), &[])),
        Family::Ruby => Ok((format!("ruby{version}"), &[])),
        _ => Err(Fault::Unsupported(format!("Hearth has no bootstrap for {runtime}: make it of AWS's base image"))),
    }
}

/// Which packages make the runtime itself work, once.
fn tools_of(runtime: Runtime) -> &'static [&'static str] {
    match runtime.family() {
        // The first that there is: it was called otherwise in Debian 11.
        Family::Python => &["python3-pip-whl", "python-pip-whl"],
        _ => &[],
    }
}

/// Debian's archives.
pub struct Debian {
    web: Arc<Web>,
    settings: Settings,
}

impl Debian {
    pub fn new(web: Arc<Web>, settings: Settings) -> Self {
        Debian { web, settings }
    }

    pub fn web(&self) -> &Web {
        &self.web
    }

    /// Finds out which packages make a runtime now. Blocking, in a thread of the async runtime.
    pub fn resolve(
        &self,
        trees: &Trees,
        runtime: Runtime,
        from: &str,
        suite: Option<&str>,
        architecture: Architecture,
    ) -> Result<PackageSet, Fault> {
        let (main, beside) = interpreter_of(runtime)?;
        let suite = suite.or_else(|| usual_suite(runtime)).ok_or_else(|| {
            let known: Vec<String> = SUITES.iter().map(|(family, version, _)| named(*family, version)).collect();
            Fault::Unsupported(format!("no suite of Debian is known to have {runtime}, only {}", known.join(", ")))
        })?;
        let lists = self.lists(trees, suite, architecture)?;
        let texts = lists.iter().map(|(kind, tree)| Ok((*kind, fs::read_to_string(tree.path.join(INDEX))?)));
        let texts = texts.collect::<std::io::Result<Vec<_>>>()?;
        let texts: Vec<(Kind, &str)> = texts.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
        let index = Index::parse(&texts).map_err(Fault::Damaged)?;
        let of_suite = |reason: String| Fault::Unsupported(format!("Debian's suite {suite}: {reason}"));
        let package = index.get(&main).ok_or_else(|| of_suite(format!("it has no package {main}")))?;
        let version = version::upstream(package.version);
        if !is_of(runtime, version) {
            return Err(of_suite(format!("its {main} is {version}, which is not {runtime}")));
        }
        let there = |name: &&&str| index.get(name).is_some();
        let wanted: Vec<&str> = SYSTEM
            .iter()
            .copied()
            .chain([main.as_str()])
            .chain(beside.iter().filter(there).copied().filter(|_| has_distutils(runtime)))
            .collect();
        let packages = closure::of(&index, &wanted).map_err(of_suite)?;
        let tools = tools_of(runtime).iter().find_map(|name| index.get(name));
        Ok(PackageSet {
            from: from.to_owned(),
            suite: suite.to_owned(),
            version: version.to_owned(),
            packages: packages.into_iter().map(pinned).collect(),
            tools: tools.into_iter().map(pinned).collect(),
            named: OnceLock::new(),
        })
    }

    /// The lists of a suite, of every archive that has it.
    fn lists(&self, trees: &Trees, suite: &str, architecture: Architecture) -> Result<Vec<(Kind, Tree)>, Fault> {
        let mut lists = Vec::new();
        for archive in self.settings.archives().map_err(Fault::Unavailable)? {
            let name = archive.kind.suite(suite);
            match self.list(trees, &archive, &name, architecture) {
                Ok(list) => lists.push((archive.kind, list)),
                // A suite that is not released yet has none.
                Err(Fault::Missing) if archive.kind != Kind::Main => {
                    tracing::info!(suite = name, mirror = archive.uri, "the mirror has no such suite");
                }
                Err(Fault::Missing) => {
                    return Err(Fault::Unavailable(format!("the mirror {} has no suite {name}", archive.uri)));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(lists)
    }

    fn list(&self, trees: &Trees, archive: &Archive, suite: &str, architecture: Architecture) -> Result<Tree, Fault> {
        let place = format!("{}/dists/{suite}", archive.uri);
        let mirror = Open { web: &self.web };
        let document = format!("{place}/InRelease");
        let signed = Handle::current().block_on(web::document(&mirror, &document, None, RELEASE_MAX))?;
        let release = Release::prove(&signed, &archive.keys, suite)?;
        let folder = format!("main/binary-{}", machine(architecture));
        let known = ["Packages.xz", "Packages.gz", "Packages"];
        let found = known.iter().find_map(|name| {
            let (digest, size) = release.file(&format!("{folder}/{name}"))?;
            Some((*name, Packed::of(name)?, digest, size))
        });
        let (name, packed, digest, size) = found.ok_or_else(|| {
            Fault::Unsupported(format!("the suite {suite} is not there for {}", machine(architecture)))
        })?;
        let mut urls = vec![format!("{place}/{folder}/{name}")];
        if release.by_hash {
            urls.insert(0, format!("{place}/{folder}/by-hash/SHA256/{}", digest.to_hex()));
        }
        trees.make(&format!("list-{}", digest.to_hex()), |folder| {
            let file = web::fetch(&self.web, &urls, size, digest, folder, &|_| {})?;
            unpack(What::Index(packed), &file, folder, INDEX_MAX)
        })
    }

    /// The tree of a whole system of these packages: found, or fetched and laid. Blocking, as [`Debian::resolve`].
    pub fn system(
        &self,
        trees: &Trees,
        runtime: Runtime,
        set: &PackageSet,
        progress: &Progress,
    ) -> Result<Tree, Fault> {
        let all = set.packages.iter();
        progress.begin(set.packages.len() as u64, all.map(|package| package.size).fold(0, u64::saturating_add));
        trees.make(&format!("system-{}", set.digest().to_hex()), |root| {
            let packages = self.packages(trees, &set.packages, progress)?;
            let paths: Vec<&Path> = packages.iter().map(|package| package.path.as_path()).collect();
            Ok(lay(&paths, runtime, &set.version, root)?)
        })
    }

    /// Each package by itself.
    pub fn packages(&self, trees: &Trees, pinned: &[Pinned], progress: &Progress) -> Result<Vec<Tree>, Fault> {
        let (archives, handle) = (self.settings.archives().map_err(Fault::Unavailable)?, Handle::current());
        gather::each(pinned, AT_ONCE, |package| {
            let _async = handle.enter();
            self.package(trees, &archives, package, progress).map_err(|fault| of_package(package, fault))
        })
    }

    fn package(
        &self,
        trees: &Trees,
        archives: &[Archive],
        package: &Pinned,
        progress: &Progress,
    ) -> Result<Tree, Fault> {
        let archive = archives.iter().find(|archive| archive.kind == package.archive);
        let archive = archive.ok_or_else(|| Fault::Unavailable("its archive is no source any more".to_owned()))?;
        let mut is_new = false;
        let tree = trees.make(&format!("deb-{}", package.digest.to_hex()), |folder| {
            is_new = true;
            let urls = [format!("{}/{}", archive.uri, package.path)];
            let file =
                web::fetch(&self.web, &urls, package.size, package.digest, folder, &|bytes| progress.came(bytes))?;
            unpack(What::Debian, &file, folder, PACKAGE_MAX)
        })?;
        if !is_new {
            progress.came(package.size);
        }
        progress.part_is_there();
        Ok(tree)
    }
}

/// With the name of the package that it is about.
fn of_package(package: &Pinned, fault: Fault) -> Fault {
    let Pinned { name, version, .. } = package;
    let said = |reason: String| format!("the package {name} {version}: {reason}");
    match fault {
        Fault::Missing => Fault::Unavailable(said(
            "the mirror has it no more; hearth runtimes update takes what it has now".to_owned(),
        )),
        Fault::Denied(reason) => Fault::Denied(said(reason)),
        Fault::Damaged(reason) => Fault::Damaged(said(reason)),
        Fault::Unsupported(reason) => Fault::Unsupported(said(reason)),
        Fault::Unavailable(reason) => Fault::Unavailable(said(reason)),
    }
}

fn unpack(what: What, packed: &File, folder: &Path, limit: u64) -> Result<(), Fault> {
    let unpacked = unpacker::read(what, packed, &File::open(folder)?, limit);
    unpacked.map(drop).map_err(|error| match error {
        unpacker::Error::TooLarge { .. } | unpacker::Error::Refused(_) => Fault::Damaged(error.to_string()),
        unpacker::Error::Io(reason) => Fault::Unavailable(reason),
    })
}

fn pinned(package: &Package<'_>) -> Pinned {
    Pinned {
        name: package.name.to_owned(),
        version: package.version.to_owned(),
        archive: package.archive,
        path: package.path.to_owned(),
        size: package.size,
        digest: package.digest,
    }
}

fn usual_suite(runtime: Runtime) -> Option<&'static str> {
    let is_it =
        |known: &&(Family, &str, &str)| known.0 == runtime.family() && Some(known.1) == runtime.language_version();
    SUITES.iter().find(is_it).map(|(_, _, suite)| *suite)
}

/// `python3.9` of family and version.
fn named(family: Family, version: &str) -> String {
    match family {
        Family::NodeJs => format!("nodejs{version}.x"),
        Family::Java => format!("java{version}"),
        Family::Ruby => format!("ruby{version}"),
        _ => format!("python{version}"),
    }
}

/// Whether an interpreter of this version is the runtime's.
fn is_of(runtime: Runtime, version: &str) -> bool {
    let rest = version.strip_prefix(runtime.language_version().unwrap_or_default());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Python had it until 3.11; Debian has it apart.
fn has_distutils(runtime: Runtime) -> bool {
    matches!(runtime.language_version(), Some("3.9" | "3.10" | "3.11"))
}

fn machine(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::Arm64 => "arm64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_debian_with_or_without_a_suite_or_something_else() {
        assert!(matches!(names("debian"), Some(Ok(None))));
        assert!(matches!(names("debian:trixie"), Some(Ok(Some("trixie")))));
        for bad in ["debian:", "debian:../x", "debian:Trixie", "debian:trixie/main"] {
            assert!(matches!(names(bad), Some(Err(_))), "{bad}");
        }
        assert!(names("registry.example/debian:trixie").is_none() && names("oci:/debian").is_none());
    }

    #[test]
    fn every_known_runtime_is_one_and_its_version_is_recognised() {
        for (family, version, suite) in SUITES {
            let runtime = Runtime::parse(&named(*family, version)).unwrap();
            assert_eq!(usual_suite(runtime), Some(*suite));
            assert!(is_of(runtime, &format!("{version}.1")) && !is_of(runtime, &format!("{version}1.1")));
            assert!(interpreter_of(runtime).is_ok());
        }
    }

    #[test]
    fn a_set_has_another_digest_when_a_package_is_another() {
        let pinned = |byte| Pinned {
            name: "p".to_owned(),
            version: "1".to_owned(),
            archive: Kind::Main,
            path: "pool/p".to_owned(),
            size: 1,
            digest: CodeHash([byte; 32]),
        };
        let set = |byte| PackageSet {
            from: "debian".to_owned(),
            suite: "trixie".to_owned(),
            version: "3.13.5".to_owned(),
            packages: vec![pinned(byte)],
            tools: Vec::new(),
            named: OnceLock::new(),
        };
        assert_eq!(set(1).digest(), set(1).digest());
        assert_ne!(set(1).digest(), set(2).digest());
        let kept: PackageSet = serde_json::from_slice(&serde_json::to_vec(&set(3)).unwrap()).unwrap();
        assert_eq!(kept.packages, set(3).packages);
    }
}
