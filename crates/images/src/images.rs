//! The room's front: implements the ports `Packages`, `ContainerImages` and `Materials`.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hearth_model::{
    AdmitError, Admitted, Architecture, BoxFuture, Checked, CodeHash, CodeTree, ContainerImages, Family, Image,
    ImageError, ImageTree, Materials, MaterialsError, Package, Packages, Pieces, Root, Runtime, RuntimeTree,
};
use hearth_store::{Blobs, BlobsError, Draft, Naming, Records, RecordsError};
use rustix::fs::MemfdFlags;
use tokio::sync::{OnceCell, Semaphore};

use crate::added::{Added, AddedRuntimes};
use crate::host::Closed;
use crate::layers;
use crate::oci::{self, Progress, Registries};
use crate::runtimes::{self, Found, InstalledRuntime, Ready, RuntimeError};
use crate::trees::{Tree, Trees};
use crate::unpacker::{self, What};

/// Largest sum of a package's files, bytes (AWS's quota, which is never raised).
const UNZIPPED_MAX: u64 = 262_144_000;
/// Largest package that is read at all, bytes: no smaller one can hold more than that, and one that holds less has no
/// use for it.
const ZIPPED_MAX: u64 = UNZIPPED_MAX + (16 << 20);
/// What is written at once of a package that comes in pieces, bytes.
const PIECE: usize = 1 << 20;
/// How long the next piece of a package may take.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Unpacked code in the cache, bytes; above it what was unused for longest goes, and is unpacked again when needed.
const CODE_MAX: u64 = 20 << 30;
/// Interpreters, SDKs and roots in the cache, bytes.
const RUNTIMES_MAX: u64 = 8 << 30;
/// Images and their layers in the cache, bytes. Those that functions lose here are fetched again when needed.
const IMAGES_MAX: u64 = 40 << 30;
/// Images that are fetched at one time.
const PULLS: usize = 4;
/// Packages that are read or unpacked at one time: each keeps a core busy.
const WORKERS: usize = 4;

#[derive(Clone, Debug)]
pub struct Config {
    /// Runtimes and unpacked code; may be shared by data folders.
    pub cache_dir: PathBuf,
    /// Run a function on the nearest installed runtime of its family when its own is missing.
    pub substitute: bool,
    /// Interpreters that this user cannot reach by their paths.
    pub closed: Closed,
    /// Fetch from registries what a runtime lacks: Node.js itself, boto3.
    pub fetch: bool,
    /// Credentials for registries of images, as `docker login` writes them. The file need not be there.
    pub registry_credentials: Option<PathBuf>,
}

#[derive(Clone)]
pub struct Ports {
    pub blobs: Arc<dyn Blobs>,
    pub records: Arc<dyn Records>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the cache folder: {0}")]
    Cache(#[from] io::Error),
    #[error("cannot read which runtimes were added: {0}")]
    Records(#[from] RecordsError),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

/// A runtime, and the image that it is made of; `None`: the host's own.
type MadeOf = (Runtime, Option<CodeHash>);

struct Inner {
    config: Config,
    blobs: Arc<dyn Blobs>,
    code: Trees,
    runtimes: Trees,
    images: Trees,
    found: Vec<Found>,
    added: AddedRuntimes,
    registries: Arc<Registries>,
    ready: Mutex<HashMap<MadeOf, Arc<OnceCell<Ready>>>>,
    workers: Semaphore,
    pulls: Semaphore,
    /// A folder with nothing in it: all that a process sees which only checks a package.
    empty: Arc<File>,
}

impl Images {
    /// Opens the cache and looks for runtimes, which takes a moment: each interpreter of the host is run once.
    pub async fn open(config: Config, ports: Ports) -> Result<Self, OpenError> {
        let added = AddedRuntimes::open(ports.records).await?;
        let opened = tokio::task::spawn_blocking(move || Self::begin(config, ports.blobs, added));
        Ok(opened.await.unwrap_or_else(|e| Err(io::Error::other(e)))?)
    }

    fn begin(config: Config, blobs: Arc<dyn Blobs>, added: AddedRuntimes) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&config.cache_dir)?;
        let empty = config.cache_dir.join("empty");
        DirBuilder::new().recursive(true).mode(0o500).create(&empty)?;
        let inner = Inner {
            code: Trees::open(&config.cache_dir.join("code"), CODE_MAX)?,
            runtimes: Trees::open(&config.cache_dir.join("runtimes"), RUNTIMES_MAX)?,
            images: Trees::open(&config.cache_dir.join("images"), IMAGES_MAX)?,
            found: runtimes::find(config.fetch, &config.closed),
            added,
            registries: Arc::new(Registries::new(config.registry_credentials.clone())),
            ready: Mutex::default(),
            workers: Semaphore::new(WORKERS),
            pulls: Semaphore::new(PULLS),
            empty: Arc::new(File::open(empty)?),
            blobs,
            config,
        };
        Ok(Images { inner: Arc::new(inner) })
    }

    /// What can run here, newest first within a family.
    pub fn installed(&self) -> Vec<InstalledRuntime> {
        let added = self.inner.added.all();
        let describe = |found: &Found| {
            let cell = self.inner.cell(found.runtime, None);
            found.describe(cell.get().and_then(|ready| ready.sdk.clone()))
        };
        let hosts = self.inner.found.iter().filter(|found| !added.iter().any(|(runtime, _)| *runtime == found.runtime));
        let mut all: Vec<_> = hosts.map(describe).collect();
        all.extend(added.iter().map(|(runtime, added)| runtimes::describe_added(*runtime, &added.image)));
        runtimes::sort(&mut all, |installed| installed.runtime);
        all
    }

    /// Makes a runtime of what an image's name means now, in place of what it was made of before.
    pub async fn add(
        &self,
        runtime: Runtime,
        uri: String,
        progress: Arc<Progress>,
    ) -> Result<InstalledRuntime, RuntimeError> {
        let architecture = Architecture::of_host().ok_or(RuntimeError::OtherHost)?;
        let image = Arc::new(oci::resolve(&self.inner.registries, &uri, architecture).await?);
        let tree = self.inner.pull(image.clone(), progress).await?;
        runtimes::require_bootstrap(runtime, &image, &tree.path)?;
        let before = self.inner.added.get(runtime);
        self.inner.added.put(runtime, Some(Added { image: image.clone() })).await?;
        self.inner.forget(runtime, before.filter(|before| before.image.digest != image.digest));
        tracing::info!(%runtime, image = image.resolved_uri(), "a runtime was added");
        Ok(runtimes::describe_added(runtime, &image))
    }

    /// The same for a runtime that was added, with the name that it was added by.
    pub async fn update(&self, runtime: Runtime, progress: Arc<Progress>) -> Result<InstalledRuntime, RuntimeError> {
        let added = self.inner.added.get(runtime).ok_or(RuntimeError::NotAdded(runtime))?;
        self.add(runtime, added.image.uri.clone(), progress).await
    }

    /// Environments that run go on; what comes next finds the host's own runtime, or none.
    pub async fn remove(&self, runtime: Runtime) -> Result<(), RuntimeError> {
        let added = self.inner.added.get(runtime).ok_or(RuntimeError::NotAdded(runtime))?;
        self.inner.added.put(runtime, None).await?;
        self.inner.forget(runtime, Some(added));
        tracing::info!(%runtime, "a runtime was removed");
        Ok(())
    }

    /// Makes runtimes ready ahead of need, one after another: those that lie open on the host, and the newest of each
    /// language; a version manager may have many more. What fails is logged, and tried again when needed.
    pub async fn prepare(&self) {
        let (at_hand, others): (Vec<_>, Vec<_>) = self.inner.found.iter().partition(|found| found.is_at_hand());
        let is_newest = |found: &&Found| {
            self.inner.found.iter().find(|other| other.runtime.family() == found.runtime.family()).map(|f| f.runtime)
                == Some(found.runtime)
        };
        let is_used = |found: &&Found| self.inner.added.get(found.runtime).is_none();
        for found in at_hand.into_iter().chain(others.into_iter().filter(is_newest)).filter(is_used) {
            if let Err(error) = self.inner.ready(found).await {
                tracing::warn!(runtime = %found.runtime, %error, "a runtime could not be made ready");
            }
        }
    }
}

impl Inner {
    /// The runtime itself, or the nearest where that is allowed.
    async fn runtime(&self, asked: Runtime) -> Result<Arc<RuntimeTree>, MaterialsError> {
        if let Some(ready) = self.installed(asked).await {
            return ready;
        }
        let nearest = || {
            if !self.config.substitute || asked.family() == Family::Provided {
                return None;
            }
            let family = self.found.iter().map(|found| found.runtime).filter(|known| known.family() == asked.family());
            family.chain(self.added.of_family(asked.family())).min_by_key(|known| distance(*known, asked))
        };
        let running = nearest().ok_or(MaterialsError::RuntimeMissing(asked))?;
        tracing::warn!(%asked, %running, "a runtime is substituted");
        self.installed(running).await.unwrap_or(Err(MaterialsError::RuntimeMissing(asked)))
    }

    /// What was added counts before what the host has.
    async fn installed(&self, runtime: Runtime) -> Option<Result<Arc<RuntimeTree>, MaterialsError>> {
        if let Some(added) = self.added.get(runtime) {
            return Some(self.ready_added(runtime, added.image).await);
        }
        let found = self.found.iter().find(|found| found.runtime == runtime)?;
        Some(self.ready(found).await)
    }

    fn cell(&self, runtime: Runtime, image: Option<CodeHash>) -> Arc<OnceCell<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).entry((runtime, image)).or_default().clone()
    }

    /// Its tree may go from the cache when nobody uses it any more.
    fn forget(&self, runtime: Runtime, added: Option<Added>) {
        let Some(added) = added else { return };
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(&(runtime, Some(added.image.digest)));
    }

    async fn ready_added(&self, runtime: Runtime, image: Arc<Image>) -> Result<Arc<RuntimeTree>, MaterialsError> {
        let cell = self.cell(runtime, Some(image.digest));
        let made = cell.get_or_try_init(|| async {
            let tree = self.pull(image.clone(), Arc::default()).await?;
            Ok::<_, MaterialsError>(runtimes::of_image(runtime, &image, tree))
        });
        Ok(made.await?.tree.clone())
    }

    /// The tree of an image, fetched where it is not in the cache.
    async fn pull(&self, image: Arc<Image>, progress: Arc<Progress>) -> Result<Tree, ImageError> {
        if let Some(tree) = self.images.held(&oci::tree_name(&image.layers)) {
            return Ok(tree);
        }
        let failed = |reason: String| ImageError::Unavailable { uri: image.uri.clone(), reason };
        let _turn = self.pulls.acquire().await.map_err(|e| failed(e.to_string()))?;
        let (trees, registries, fetched) = (self.images.clone(), self.registries.clone(), image.clone());
        let pulled = tokio::task::spawn_blocking(move || oci::pull(&trees, &registries, &fetched, &progress));
        pulled.await.map_err(|e| failed(e.to_string()))?
    }

    async fn ready(&self, found: &Found) -> Result<Arc<RuntimeTree>, MaterialsError> {
        let cell = self.cell(found.runtime, None);
        let made = cell.get_or_try_init(|| async {
            let (found, trees, fetch) = (found.clone(), self.runtimes.clone(), self.config.fetch);
            let runtime = found.runtime;
            let made = tokio::task::spawn_blocking(move || found.make(&trees, fetch)).await;
            let made = made.unwrap_or_else(|e| Err(io::Error::other(e)));
            made.map_err(|e| MaterialsError::Runtime { runtime, reason: e.to_string().into() })
        });
        Ok(made.await?.tree.clone())
    }

    async fn code(&self, code: CodeHash) -> Result<Tree, MaterialsError> {
        let name = code.to_hex();
        let failed = |reason: String| MaterialsError::Code { code, reason: reason.into() };
        if let Some(tree) = self.code.held(&name) {
            return Ok(tree);
        }
        let _worker = self.workers.acquire().await.map_err(|e| failed(e.to_string()))?;
        let zip = self.blobs.open(code.into()).await.map_err(|e| failed(e.to_string()))?;
        let trees = self.code.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            trees.make(&name, |folder| unpacker::read(What::Unpack, &zip, &File::open(folder)?, UNZIPPED_MAX).map(drop))
        });
        unpacked.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
    }

    /// One tree of several packages; that of a single one is its own.
    async fn layers(&self, codes: &[CodeHash]) -> Result<Option<Tree>, MaterialsError> {
        let (Some(&first), true) = (codes.first(), codes.len() > 1) else {
            return match codes.first() {
                Some(only) => self.code(*only).await.map(Some),
                None => Ok(None),
            };
        };
        let name = layers::name(codes);
        if let Some(tree) = self.code.held(&name) {
            return Ok(Some(tree));
        }
        let failed = |reason: String| MaterialsError::Code { code: first, reason: reason.into() };
        let mut parts = Vec::new();
        for code in codes {
            parts.push(self.code(*code).await?);
        }
        let _worker = self.workers.acquire().await.map_err(|e| failed(e.to_string()))?;
        let trees = self.code.clone();
        let merged = tokio::task::spawn_blocking(move || {
            // The parts' leases live until they are merged.
            let paths: Vec<PathBuf> = parts.iter().map(|part| part.path.clone()).collect();
            let merged = trees.make(&name, |folder| layers::merge(&paths, folder));
            drop(parts);
            merged
        });
        merged.await.map_err(|e| failed(e.to_string()))?.map(Some).map_err(|e| failed(e.to_string()))
    }

    /// A package that comes in pieces goes to disk as it comes; only then it is looked into, and only then it counts.
    async fn take(&self, pieces: Pieces) -> Result<(Admitted, Box<dyn Draft>), AdmitError> {
        let mut draft = self.blobs.create(Naming::OfContent).await.map_err(kept)?;
        let (zipped, code) = copy(pieces, &mut *draft).await?;
        let _worker = self.workers.acquire().await.map_err(failed)?;
        let (file, empty) = (draft.open().await.map_err(kept)?, self.empty.clone());
        let checked = tokio::task::spawn_blocking(move || unpacker::read(What::Check, &file, &empty, UNZIPPED_MAX));
        let unzipped = checked.await.map_err(failed)?.map_err(refused)?;
        Ok((Admitted { code, zipped, unzipped }, draft))
    }

    async fn check(&self, zip: Bytes) -> Result<Admitted, AdmitError> {
        let _worker = self.workers.acquire().await.map_err(failed)?;
        let empty = self.empty.clone();
        let checked = tokio::task::spawn_blocking(move || {
            use sha2::Digest;
            let unzipped = unpacker::read(What::Check, &in_memory(&zip)?, &empty, UNZIPPED_MAX)?;
            Ok(Admitted { code: CodeHash(sha2::Sha256::digest(&zip).into()), zipped: zip.len() as u64, unzipped })
        });
        checked.await.map_err(failed)?.map_err(refused)
    }

    async fn release(&self, code: CodeHash) {
        match self.blobs.delete(code.into()).await {
            Ok(()) | Err(BlobsError::Missing(_)) => {}
            Err(error) => tracing::warn!(%error, "a package could not be deleted"),
        }
        let trees = self.code.clone();
        // A tree in use stays; it goes when the cache needs room.
        let removed = tokio::task::spawn_blocking(move || trees.remove(&code.to_hex())).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "an unpacked package could not be deleted");
        }
    }
}

/// Writes all pieces; answers how many bytes they were, and their hash.
async fn copy(mut pieces: Pieces, draft: &mut dyn Draft) -> Result<(u64, CodeHash), AdmitError> {
    use sha2::Digest;
    let (mut hash, mut zipped, mut waiting) = (sha2::Sha256::new(), 0, BytesMut::new());
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, std::future::poll_fn(|cx| pieces.as_mut().poll_next(cx)));
        let piece = next.await.map_err(|_| AdmitError::Io("the package did not come to its end in time".into()))?;
        let end = piece.is_none();
        if let Some(piece) = piece.transpose().map_err(failed)? {
            zipped += piece.len() as u64;
            if zipped > ZIPPED_MAX {
                return Err(AdmitError::TooLarge { limit: UNZIPPED_MAX });
            }
            hash.update(&piece);
            waiting.extend_from_slice(&piece);
        }
        if waiting.len() >= PIECE || (end && !waiting.is_empty()) {
            draft.write(waiting.split().freeze()).await.map_err(kept)?;
        }
        if end {
            return Ok((zipped, CodeHash(hash.finalize().into())));
        }
    }
}

fn failed(error: impl std::fmt::Display) -> AdmitError {
    AdmitError::Io(error.to_string().into())
}

fn kept(error: BlobsError) -> AdmitError {
    failed(error)
}

fn refused(error: unpacker::Error) -> AdmitError {
    match error {
        unpacker::Error::TooLarge { limit } => AdmitError::TooLarge { limit },
        unpacker::Error::Refused(reason) => AdmitError::NotAZip(reason),
        unpacker::Error::Io(cause) => AdmitError::Io(cause.into()),
    }
}

/// A file of these bytes that is nowhere on disk, for another process to read.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("package", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// How far apart two versions of one family are.
fn distance(one: Runtime, other: Runtime) -> u32 {
    let number = |runtime: Runtime| {
        let mut parts = runtime.language_version().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
        parts.next().unwrap_or(0u32) * 100 + parts.next().unwrap_or(0)
    };
    number(one).abs_diff(number(other))
}

impl Packages for Images {
    fn check(&self, zip: Package) -> BoxFuture<'_, Result<Checked, AdmitError>> {
        Box::pin(async move {
            match zip {
                Package::Whole(zip) => {
                    let admitted = self.inner.check(zip.clone()).await?;
                    let blobs = self.inner.blobs.clone();
                    let keep = async move { blobs.put(zip).await.map(drop).map_err(kept) };
                    Ok(Checked { admitted, keep: Box::pin(keep) })
                }
                Package::Pieces(pieces) => {
                    let (admitted, draft) = self.inner.take(pieces).await?;
                    let keep = async move { draft.finish().await.map(drop).map_err(kept) };
                    Ok(Checked { admitted, keep: Box::pin(keep) })
                }
            }
        })
    }

    fn unpack(&self, code: CodeHash) -> BoxFuture<'_, Result<(), MaterialsError>> {
        Box::pin(async move { self.inner.code(code).await.map(drop) })
    }

    fn merge(&self, layers: Vec<CodeHash>) -> BoxFuture<'_, Result<(), MaterialsError>> {
        Box::pin(async move { self.inner.layers(&layers).await.map(drop) })
    }

    fn release(&self, code: CodeHash) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.release(code))
    }
}

impl Materials for Images {
    fn code(&self, code: CodeHash) -> BoxFuture<'_, Result<CodeTree, MaterialsError>> {
        Box::pin(async move {
            let tree = self.inner.code(code).await?;
            Ok(CodeTree { path: tree.path, lease: tree.lease })
        })
    }

    fn layers(&self, layers: Vec<CodeHash>) -> BoxFuture<'_, Result<Option<CodeTree>, MaterialsError>> {
        Box::pin(async move {
            let tree = self.inner.layers(&layers).await?;
            Ok(tree.map(|tree| CodeTree { path: tree.path, lease: tree.lease }))
        })
    }

    fn runtime(&self, runtime: Runtime) -> BoxFuture<'_, Result<Arc<RuntimeTree>, MaterialsError>> {
        Box::pin(self.inner.runtime(runtime))
    }

    fn image(&self, image: Arc<Image>) -> BoxFuture<'_, Result<ImageTree, MaterialsError>> {
        Box::pin(async move {
            let tree = self.inner.pull(image, Arc::default()).await?;
            let root = Root { skeleton: tree.path, binds: Vec::new(), whole: true };
            Ok(ImageTree { root: Arc::new(root), lease: tree.lease })
        })
    }
}

impl ContainerImages for Images {
    fn resolve(&self, uri: String, architecture: Architecture) -> BoxFuture<'_, Result<Image, ImageError>> {
        Box::pin(async move { oci::resolve(&self.inner.registries, &uri, architecture).await })
    }

    fn fetch(&self, image: Arc<Image>) -> BoxFuture<'_, Result<(), ImageError>> {
        Box::pin(async move { self.inner.pull(image, Arc::default()).await.map(drop) })
    }
}
