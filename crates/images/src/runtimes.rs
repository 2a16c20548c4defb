//! Runtimes that can run here, and how each becomes a tree (decision 13): interpreters of the host or of packages with
//! Hearth's bootstraps, images with their own, and packages that bring a bootstrap themselves.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_model::{CodeHash, Family, Image, ImageError, RUNTIMES, Root, Runtime, RuntimeEntry, RuntimeTree};
use hearth_store::RecordsError;
use sha2::{Digest, Sha256};

use crate::added::Added;
use crate::debian::{self, PackageSet};
use crate::fault::Fault;
use crate::host::{self, Closed, Interpreter};
use crate::node::{self, Node};
use crate::skeleton::{Made, Skeleton};
use crate::trees::{Lease, Tree, Trees};
use crate::web::Web;
use crate::{fetch, java, python, ruby, sdk};

/// Where a runtime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host's own interpreter.
    Host,
    /// Packages: of npm, fetched when it is needed first, or of a distribution.
    Package,
    /// An image, with its own bootstrap.
    Oci,
    /// The function's package brings it.
    Custom,
}

impl Source {
    /// As `hearth runtimes` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Host => "host",
            Source::Package => "package",
            Source::Oci => "oci",
            Source::Custom => "custom",
        }
    }
}

/// A runtime that can run here, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledRuntime {
    pub runtime: Runtime,
    /// As the interpreter itself says: `3.11.2`. Empty where package or image bring it.
    pub version: String,
    pub source: Source,
    /// Hexadecimal SHA-256 of what makes it: interpreter and bootstrap, or the image's manifest.
    pub digest: String,
    /// Of one that was added: the name that it was added by.
    pub from: Option<String>,
    /// Digests of what it was before, as far as functions can still run on it.
    pub kept: Vec<String>,
    /// The AWS SDK that functions find: `boto3 1.44.8`. Known once the runtime was made ready.
    pub sdk: Option<String>,
}

/// A runtime that can run here.
#[derive(Clone, Debug)]
pub struct Found {
    pub runtime: Runtime,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Python(Interpreter),
    Node(Node),
    Custom,
}

/// A runtime made ready, and what keeps its trees.
#[derive(Clone)]
pub struct Ready {
    pub tree: Arc<RuntimeTree>,
    pub sdk: Option<String>,
    _leases: Vec<Arc<Lease>>,
}

/// What a family adds to a root.
pub struct Entry {
    pub start: RuntimeEntry,
    pub variables: Vec<(&'static str, String)>,
    pub version: String,
    pub leases: Vec<Arc<Lease>>,
}

/// Looks through the host. Newest first within a family; runs each interpreter once.
pub fn find(fetch: bool, closed: &Closed) -> Vec<Found> {
    let mut interpreters = host::find(&host::folders());
    closed.beside(&mut interpreters);
    let mut found: Vec<_> = interpreters
        .into_values()
        .map(|(runtime, interpreter)| Found {
            runtime,
            kind: match runtime.family() {
                Family::Python => Kind::Python(interpreter),
                _ => Kind::Node(Node::Host(interpreter)),
            },
        })
        .collect();
    if fetch && !found.iter().any(|found| found.runtime.family() == Family::NodeJs) {
        found.extend(fetch::NODE.and_then(packaged));
    }
    sort(&mut found, |found| found.runtime);
    for name in ["provided.al2023", "provided.al2"] {
        found.extend(Runtime::parse(name).ok().map(|runtime| Found { runtime, kind: Kind::Custom }));
    }
    found
}

/// The runtime of a Node.js in a package.
fn packaged(package: fetch::NodePackage) -> Option<Found> {
    let major = package.version.split('.').next()?;
    let runtime = Runtime::parse(&format!("nodejs{major}.x")).ok()?;
    Some(Found { runtime, kind: Kind::Node(Node::Package(package)) })
}

impl Found {
    /// Whether little is left to make: the interpreter is used where it is, instead of a copy.
    pub fn is_at_hand(&self) -> bool {
        match &self.kind {
            Kind::Python(interpreter) | Kind::Node(Node::Host(interpreter)) => interpreter.is_public(),
            Kind::Node(Node::Package(_)) => false,
            Kind::Custom => true,
        }
    }

    pub fn describe(&self, sdk: Option<String>) -> InstalledRuntime {
        let (version, source) = match &self.kind {
            Kind::Python(interpreter) => (interpreter.version.clone(), Source::Host),
            Kind::Node(node @ Node::Host(_)) => (node.version().to_owned(), Source::Host),
            Kind::Node(node @ Node::Package(_)) => (node.version().to_owned(), Source::Package),
            Kind::Custom => (String::new(), Source::Custom),
        };
        InstalledRuntime {
            runtime: self.runtime,
            version,
            source,
            digest: self.digest(),
            from: None,
            kept: Vec::new(),
            sdk,
        }
    }

    fn digest(&self) -> String {
        match &self.kind {
            Kind::Python(interpreter) => python::identity(self.runtime, interpreter),
            Kind::Node(node) => node.identity(self.runtime),
            Kind::Custom => digest(self.runtime, "", &[]),
        }
    }

    /// Makes its tree. May take long the first time, when something has to be fetched or copied.
    pub fn make(&self, trees: &Trees, fetch: bool) -> io::Result<Ready> {
        let kind = match &self.kind {
            Kind::Python(interpreter) => Kind::Python(python::at_hand(trees, self.runtime, interpreter)?),
            other => other.clone(),
        };
        let sdk = match &kind {
            Kind::Python(interpreter) => {
                told(self.runtime, sdk::python(trees, self.runtime, interpreter, fetch).map(Some))
            }
            Kind::Node(node) => node_sdk(self.runtime, node.version(), trees, fetch),
            Kind::Custom => None,
        };
        let packages = sdk.as_ref().map(|sdk| &sdk.tree);
        let mut skeleton = Skeleton::new();
        let entry = match &kind {
            Kind::Python(interpreter) => python::add(&mut skeleton, trees, self.runtime, interpreter, packages)?,
            Kind::Node(node) => node::add(&mut skeleton, trees, self.runtime, node, packages)?,
            Kind::Custom => custom(self.runtime),
        };
        let made = skeleton.make(trees)?;
        let label = sdk.as_ref().map(|sdk| sdk.label.clone());
        Ok(finished(self.runtime, made, entry, hosts(self.runtime).to_hex(), label))
    }
}

/// A root with a runtime's entry in it.
fn finished(runtime: Runtime, made: Made, entry: Entry, version_digest: String, sdk: Option<String>) -> Ready {
    let tree = RuntimeTree {
        runtime,
        root: Arc::new(made.root),
        entry: entry.start,
        variables: entry.variables.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        version_digest,
        replaced: Default::default(),
        version: entry.version,
    };
    let mut leases = made.leases;
    leases.extend(entry.leases);
    Ready { tree: Arc::new(tree), sdk, _leases: leases }
}

fn node_sdk(runtime: Runtime, version: &str, trees: &Trees, fetch: bool) -> Option<sdk::Sdk> {
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    told(runtime, sdk::node(trees, major.unwrap_or_default(), fetch))
}

/// Without it functions run, but cannot import what AWS's runtime has: said loudly.
fn told(runtime: Runtime, found: io::Result<Option<sdk::Sdk>>) -> Option<sdk::Sdk> {
    match found {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(
                %runtime, %error,
                "functions run without the AWS SDK, which AWS's runtime has; the next start tries again to fetch it"
            );
            None
        }
    }
}

/// Newest first within a family; families as AWS lists them, backwards. Custom runtimes come last.
pub fn sort<T>(all: &mut [T], of: impl Fn(&T) -> Runtime) {
    all.sort_by_key(|one| {
        let place = RUNTIMES.iter().position(|known| *known == of(one).as_str());
        (of(one).family() == Family::Provided, std::cmp::Reverse(place))
    });
}

/// The program that a runtime's image must have, inside it.
const BOOTSTRAP: &str = "var/runtime/bootstrap";

/// Why a runtime was not added, updated or removed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("{image} is no image of a runtime: it has no program at /{BOOTSTRAP}")]
    NoBootstrap { image: String },
    #[error("no runtime has an architecture such as this host's")]
    OtherHost,
    #[error("{from} cannot be used: {fault}")]
    Packages { from: String, fault: Fault },
    #[error("{0} was not added")]
    NotAdded(Runtime),
    #[error("{runtime} is needed by {}: delete them, or give them another version by UpdateRuntimeOn", listed(.users))]
    InUse { runtime: Runtime, users: Vec<String> },
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// Some of many names.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Whether an image can be the runtime: a custom one is a system without a bootstrap, which packages bring.
pub fn require_bootstrap(runtime: Runtime, image: &Image, tree: &Path) -> Result<(), RuntimeError> {
    // A link may lead out of the tree here, and is none of AWS's.
    let program = std::fs::symlink_metadata(tree.join(BOOTSTRAP));
    let is_program = program.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if runtime.family() == Family::Provided || is_program {
        Ok(())
    } else {
        Err(RuntimeError::NoBootstrap { image: image.uri.clone() })
    }
}

pub fn describe_added(runtime: Runtime, added: &Added, sdk: Option<String>) -> InstalledRuntime {
    let (version, source) = match added {
        Added::Image(_) => (String::new(), Source::Oci),
        Added::Packages(set) => (set.version.clone(), Source::Package),
    };
    InstalledRuntime {
        runtime,
        version,
        source,
        digest: added.digest().to_hex(),
        from: Some(added.from().to_owned()),
        kept: Vec::new(),
        sdk,
    }
}

/// A runtime of the interpreter of a system of packages, with Hearth's bootstrap or, for Java, AWS's client. `tools` are trees
/// that it is made by. Blocking, in a thread of the async runtime.
pub fn of_packages(
    runtime: Runtime,
    set: &PackageSet,
    system: &Tree,
    tools: &[Tree],
    trees: &Trees,
    web: &Web,
    fetch: bool,
) -> Result<Ready, Fault> {
    let (system, digest) = (&system.path, set.digest().to_hex());
    match runtime.family() {
        Family::Python => {
            let tools: Vec<PathBuf> = tools.iter().map(|tool| tool.path.clone()).collect();
            let interpreter = debian::interpreter(system, runtime, &set.version, &tools);
            let sdk = told(runtime, sdk::python(trees, runtime, &interpreter, fetch).map(Some));
            let mut skeleton = Skeleton::on(system);
            let packages = sdk.as_ref().map(|sdk| &sdk.tree);
            let entry = python::add_of_system(&mut skeleton, runtime, &interpreter, packages);
            let label = sdk.as_ref().map(|sdk| sdk.label.clone());
            Ok(finished(runtime, skeleton.make(trees)?, entry, digest, label))
        }
        Family::Java => {
            let (client, home) = (java::client(trees, web, fetch)?, java::home(system, runtime)?);
            let mut skeleton = Skeleton::on(system);
            let entry = java::add_of_system(&mut skeleton, &home, &set.version, &client);
            Ok(finished(runtime, skeleton.make(trees)?, entry, digest, None))
        }
        Family::Ruby => {
            let mut skeleton = Skeleton::on(system);
            let entry = ruby::add_of_system(&mut skeleton, runtime, &set.version);
            Ok(finished(runtime, skeleton.make(trees)?, entry, digest, None))
        }
        _ => {
            let sdk = node_sdk(runtime, &set.version, trees, fetch);
            let mut skeleton = Skeleton::on(system);
            let packages = sdk.as_ref().map(|sdk| &sdk.tree);
            let entry = node::add_of_system(&mut skeleton, runtime, &set.version, packages);
            let label = sdk.as_ref().map(|sdk| sdk.label.clone());
            Ok(finished(runtime, skeleton.make(trees)?, entry, digest, label))
        }
    }
}

/// A runtime whose root and bootstrap are an image's.
pub fn of_image(runtime: Runtime, image: &Image, tree: Tree) -> Ready {
    let entry = match runtime.family() {
        Family::Provided => RuntimeEntry::OfPackage,
        _ => RuntimeEntry::Own(vec![format!("/{BOOTSTRAP}")]),
    };
    let variables = image.process.environment.iter();
    let made = RuntimeTree {
        runtime,
        root: Arc::new(Root { skeleton: tree.path, binds: Vec::new(), whole: true }),
        entry,
        variables: variables.map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect(),
        version: named(runtime),
        version_digest: image.digest.to_hex(),
        replaced: Default::default(),
    };
    Ready { tree: Arc::new(made), sdk: None, _leases: vec![tree.lease] }
}

/// `python:3.12` of `python3.12`.
fn named(runtime: Runtime) -> String {
    let text = runtime.as_str();
    match (runtime.language_version(), text.find(|c: char| c.is_ascii_digit())) {
        (Some(version), Some(digits)) => format!("{}:{version}", &text[..digits]),
        _ => text.replacen('.', ":", 1),
    }
}

fn custom(runtime: Runtime) -> Entry {
    Entry { start: RuntimeEntry::OfPackage, variables: Vec::new(), version: named(runtime), leases: Vec::new() }
}

/// The version of a runtime that is the host's own, whatever interpreter that is.
pub fn hosts(runtime: Runtime) -> CodeHash {
    CodeHash(Sha256::digest(runtime.as_str()).into())
}

/// Whether this is the version of a host's own interpreter, here or elsewhere, that this runtime can be.
pub fn is_hosts(runtime: Runtime, version: CodeHash) -> bool {
    let mut known = RUNTIMES.iter().filter_map(|name| Runtime::parse(name).ok());
    known.any(|known| known.family() == runtime.family() && hosts(known) == version)
}

/// Hexadecimal SHA-256.
pub fn hash(text: &str) -> String {
    CodeHash(Sha256::digest(text).into()).to_hex()
}

/// Names what makes a runtime: its interpreter and its bootstrap.
pub fn digest(runtime: Runtime, facts: &str, bootstrap: &[(&str, &str)]) -> String {
    let mut all = format!("{runtime}\n{facts}\n");
    for (name, text) in bootstrap {
        all.push_str(&format!("{name} {}\n{text}", text.len()));
    }
    hash(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees() -> (tempfile::TempDir, Trees) {
        let cache = tempfile::tempdir().unwrap();
        let trees = Trees::open(cache.path(), u64::MAX).unwrap();
        (cache, trees)
    }

    #[test]
    fn both_provided_runtimes_are_there_and_share_one_root() {
        let (_cache, trees) = trees();
        let custom: Vec<_> =
            find(false, &Closed::default()).into_iter().filter(|found| matches!(found.kind, Kind::Custom)).collect();
        assert_eq!(
            custom.iter().map(|found| found.runtime.as_str()).collect::<Vec<_>>(),
            ["provided.al2023", "provided.al2"]
        );
        let roots: Vec<_> = custom.iter().map(|found| found.make(&trees, false).unwrap().tree.root.clone()).collect();
        assert_eq!(roots[0], roots[1]);
        assert!(roots[0].skeleton.join("var/task").is_dir());
    }

    #[test]
    fn another_look_makes_the_same_root() {
        let (_cache, trees) = trees();
        let make = || {
            find(false, &Closed::default())
                .iter()
                .map(|found| found.make(&trees, false).unwrap().tree.root.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(make(), make());
    }

    #[test]
    fn every_mount_point_is_there() {
        let (_cache, trees) = trees();
        for found in find(false, &Closed::default()) {
            let root = found.make(&trees, false).unwrap().tree.root.clone();
            for bind in &root.binds {
                let place = root.skeleton.join(&bind.target);
                assert_eq!(place.is_dir(), bind.source.is_dir(), "{bind:?}");
                assert!(place.exists(), "{bind:?}");
            }
        }
    }

    #[test]
    fn a_host_without_node_gets_one_of_a_runtime_that_aws_has() {
        let found = fetch::NODE.and_then(packaged).unwrap();
        let described = found.describe(None);
        assert_eq!((described.runtime.as_str(), described.source), ("nodejs22.x", Source::Package));
    }
}
