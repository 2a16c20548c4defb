//! What an environment is made of: code trees and runtime trees. `images` makes them, `worker` uses them.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_core::Stream;

use crate::{AccountId, Architecture, BoxFuture, CodeHash, Image, Region, Runtime};

/// A read-only directory that appears at `/var/task` or `/opt`. It stays on disk at least while the value lives.
#[derive(Clone, Debug)]
pub struct CodeTree {
    pub path: PathBuf,
    /// Keeps the tree from being collected while it is in use.
    pub lease: Arc<dyn std::any::Any + Send + Sync>,
}

/// A directory of the host that appears, read-only, inside a root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RootBind {
    pub source: PathBuf,
    /// Relative to the root; the skeleton holds an empty directory (or file) there.
    pub target: PathBuf,
}

/// What `/` is: a skeleton directory made by Hearth (with `/etc`, `/var/runtime`, empty mount points for
/// `/var/task`, `/opt`, `/tmp`, `/dev`, `/proc`, `/sys`) and the binds on top of it. Two equal roots are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    pub skeleton: PathBuf,
    pub binds: Vec<RootBind>,
    /// It is a whole system, and cannot be lived in without being the root.
    pub whole: bool,
}

/// A runtime that can run here: a directory tree and a bootstrap (decision 13).
#[derive(Clone, Debug)]
pub struct RuntimeTree {
    pub runtime: Runtime,
    pub root: Arc<Root>,
    pub entry: RuntimeEntry,
    /// Variables that belong to this runtime (spec 3.2: `PYTHONPATH`, `NODE_PATH`, …).
    pub variables: Vec<(String, String)>,
    /// For INIT_START: `python:3.11.2`.
    pub version: String,
    /// For the ARN in INIT_START, as `RuntimeVersionArn` of a function's configuration has it.
    pub version_digest: String,
    pub replaced: Replaced,
}

/// Whether what follows a runtime is to run on another by now. Shared by all who have the tree.
#[derive(Clone, Debug, Default)]
pub struct Replaced(Arc<AtomicBool>);

impl Replaced {
    pub fn set(&self, replaced: bool) {
        self.0.store(replaced, Ordering::Relaxed);
    }

    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is started first on a runtime. Commands are a program and its arguments, inside the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEntry {
    /// The package's `bootstrap` (`provided`).
    OfPackage,
    /// Hearth's bootstrap, which Hearth gives to a wrapper where a function asks for one (spec 3.1).
    Hearths(Vec<String>),
    /// The bootstrap that came with the runtime, which starts a wrapper itself.
    Own(Vec<String>),
}

/// An image ready to be a root. It stays on disk at least while the value lives.
#[derive(Clone, Debug)]
pub struct ImageTree {
    pub root: Arc<Root>,
    pub lease: Arc<dyn std::any::Any + Send + Sync>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum MaterialsError {
    #[error("runtime {0} is not installed on this host")]
    RuntimeMissing(Runtime),
    #[error("version {} of runtime {runtime} is not kept on this host", .version.to_hex())]
    RuntimeVersionMissing { runtime: Runtime, version: CodeHash },
    #[error("code {code:?} cannot be unpacked: {reason}")]
    Code { code: CodeHash, reason: Arc<str> },
    #[error("runtime {runtime} cannot be made ready: {reason}")]
    Runtime { runtime: Runtime, reason: Arc<str> },
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What keeps an image from being used. The texts are for its user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its name is none, or names no registry.
    #[error("{uri:?} names no image: {reason}")]
    Name { uri: String, reason: &'static str },
    #[error("there is no image {uri}")]
    Missing { uri: String },
    #[error("{uri} must not be read: {reason}")]
    Denied { uri: String, reason: String },
    /// It is there, but nothing that can run here.
    #[error("{uri} cannot be used: {reason}")]
    Unsupported { uri: String, reason: String },
    /// It is not what its digests say, or not well-formed.
    #[error("{uri} is damaged: {reason}")]
    Damaged { uri: String, reason: String },
    #[error("the files of {uri} are larger than {limit} bytes")]
    TooLarge { uri: String, limit: u64 },
    /// The registry, the network or the disk: it may work later.
    #[error("{uri} cannot be fetched: {reason}")]
    Unavailable { uri: String, reason: String },
}

/// Trees ready to mount. Calls are cheap when the tree is already there.
pub trait Materials: Send + Sync + 'static {
    fn code(&self, code: CodeHash) -> BoxFuture<'_, Result<CodeTree, MaterialsError>>;

    /// One tree of all of `layers`, later ones over earlier ones; `None` when there are none.
    fn layers(&self, layers: Vec<CodeHash>) -> BoxFuture<'_, Result<Option<CodeTree>, MaterialsError>>;

    /// The tree for `runtime`, or with `runtimes.substitute` the nearest installed one; where a version is named, of that one.
    fn runtime(
        &self,
        runtime: Runtime,
        version: Option<CodeHash>,
    ) -> BoxFuture<'_, Result<Arc<RuntimeTree>, MaterialsError>>;

    /// The tree of an image; fetched again where the cache has lost it.
    fn image(&self, image: Arc<Image>) -> BoxFuture<'_, Result<ImageTree, MaterialsError>>;
}

/// Versions of runtimes, by what stands at the end of their ARNs. In memory, never IO.
pub trait RuntimeVersions: Send + Sync + 'static {
    /// What functions of a runtime run on now; none where nothing does.
    fn current(&self, runtime: Runtime) -> Option<CodeHash>;

    /// Whether functions of a runtime can run on this version of it.
    fn is_kept(&self, runtime: Runtime, version: CodeHash) -> bool;
}

/// Who needs versions of runtimes.
pub trait RuntimeUsers: Send + Sync + 'static {
    /// ARNs of the functions and versions that run on this one whatever else there is.
    fn users(&self, version: CodeHash) -> Vec<String>;
}

/// Images on their way in.
pub trait ContainerImages: Send + Sync + 'static {
    /// What a name means now, for an architecture: reads the manifest, and no layer.
    fn resolve(&self, uri: String, architecture: Architecture) -> BoxFuture<'_, Result<Image, ImageError>>;

    /// Makes the tree, so that the first invocation finds it.
    fn fetch(&self, image: Arc<Image>) -> BoxFuture<'_, Result<(), ImageError>>;
}

/// A package that was looked into.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub code: CodeHash,
    /// Bytes of the zip.
    pub zipped: u64,
    /// Bytes of its files.
    pub unzipped: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum AdmitError {
    /// AWS: 400 `Could not unzip uploaded file. Please check your file, then try to upload again.`
    #[error("not a readable zip: {0}")]
    NotAZip(String),
    /// AWS: 400 `Unzipped size must be smaller than 262144000 bytes`.
    #[error("unzipped size over {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("cannot keep the package: {0}")]
    Io(Arc<str>),
}

/// An object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPackageRef {
    pub account: AccountId,
    pub region: Region,
    pub bucket: String,
    pub key: String,
    pub version: Option<String>,
}

/// An object that is being read.
pub struct StoredPackage {
    pub size: u64,
    /// Where the bucket has versions.
    pub version: Option<String>,
    pub pieces: Pieces,
}

/// Bytes as they come; what ends early ends with an error.
pub type Pieces = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// As S3 says it: AWS's services repeat both.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StoredPackageError {
    pub code: String,
    pub message: String,
}

/// Packages that lie in buckets.
pub trait StoredPackages: Send + Sync + 'static {
    fn open(&self, at: StoredPackageRef) -> BoxFuture<'_, Result<StoredPackage, StoredPackageError>>;
}

/// A package that was looked into and is not kept yet. Dropped, it leaves nothing.
pub struct Checked {
    pub admitted: Admitted,
    /// `Ok` once the bytes are on disk.
    pub keep: BoxFuture<'static, Result<(), AdmitError>>,
}

/// Packages on their way in.
pub trait Packages: Send + Sync + 'static {
    /// Takes a zip and looks into it.
    fn check(&self, zip: Pieces) -> BoxFuture<'_, Result<Checked, AdmitError>>;

    /// Makes the tree of a kept package, so that the first invocation finds it.
    fn unpack(&self, code: CodeHash) -> BoxFuture<'_, Result<(), MaterialsError>>;

    /// The same for kept packages that are layers together, in this order.
    fn merge(&self, layers: Vec<CodeHash>) -> BoxFuture<'_, Result<(), MaterialsError>>;

    /// No record refers to `code` any more: its tree (and blob) may go.
    fn release(&self, code: CodeHash) -> BoxFuture<'_, ()>;
}
