//! Runtimes that can run here, and how each becomes a tree (decision 13): interpreters of the host or of packages with
//! Hearth's bootstraps, images with their own, and packages that bring a bootstrap themselves.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use hearth_model::{CodeHash, Family, Image, ImageError, RUNTIMES, Root, Runtime, RuntimeEntry, RuntimeTree};
use hearth_store::RecordsError;
use sha2::{Digest, Sha256};

use crate::host::{self, Closed, Interpreter};
use crate::node::{self, Node};
use crate::skeleton::Skeleton;
use crate::trees::{Lease, Tree, Trees};
use crate::{fetch, python, sdk};

/// Where a runtime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host's own interpreter.
    Host,
    /// A package of a registry, fetched when it is needed first.
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
    /// The name of the image.
    pub image: Option<String>,
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
        InstalledRuntime { runtime: self.runtime, version, source, digest: self.digest(), image: None, sdk }
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
        let sdk = self.sdk(&kind, trees, fetch);
        let mut skeleton = Skeleton::new();
        let entry = match &kind {
            Kind::Python(interpreter) => {
                let packages = sdk.as_ref().map(|sdk| &sdk.tree);
                python::add(&mut skeleton, trees, self.runtime, interpreter, packages)?
            }
            Kind::Node(node) => node::add(&mut skeleton, trees, self.runtime, node)?,
            Kind::Custom => custom(self.runtime),
        };
        let made = skeleton.make(trees)?;
        let variables = entry.variables.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let tree = RuntimeTree {
            runtime: self.runtime,
            root: Arc::new(made.root),
            entry: entry.start,
            variables,
            version_digest: hash(self.runtime.as_str()),
            version: entry.version,
        };
        let mut leases = made.leases;
        leases.extend(entry.leases);
        Ok(Ready { tree: Arc::new(tree), sdk: sdk.map(|sdk| sdk.label), _leases: leases })
    }

    /// Without it functions run, but cannot import what AWS's runtime has: said loudly.
    fn sdk(&self, kind: &Kind, trees: &Trees, fetch: bool) -> Option<sdk::Sdk> {
        let Kind::Python(interpreter) = kind else { return None };
        match sdk::python(trees, self.runtime, interpreter, fetch) {
            Ok(sdk) => Some(sdk),
            Err(error) => {
                tracing::warn!(
                    runtime = %self.runtime, %error,
                    "functions run without boto3, which AWS's runtime has; the next start tries again to fetch it"
                );
                None
            }
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
    #[error("{0} was not added from an image")]
    NotAdded(Runtime),
    #[error(transparent)]
    Records(#[from] RecordsError),
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

pub fn describe_added(runtime: Runtime, image: &Image) -> InstalledRuntime {
    InstalledRuntime {
        runtime,
        version: String::new(),
        source: Source::Oci,
        digest: image.digest.to_hex(),
        image: Some(image.uri.clone()),
        sdk: None,
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
