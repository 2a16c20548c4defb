//! The room's front: implements the ports `Packages`, `ContainerImages` and `Materials`.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use hearth_model::{
    AdmitError, Admitted, Architecture, BoxFuture, Checked, CodeHash, CodeTree, ContainerImages, Family, Image,
    ImageError, ImageTree, Materials, MaterialsError, Packages, Pieces, Root, Runtime, RuntimeTree, RuntimeUsers,
    RuntimeVersions,
};
use hearth_store::{Blobs, BlobsError, Draft, Naming, Records, RecordsError, bulk};
use tokio::sync::{OnceCell, Semaphore};

use crate::added::{Added, AddedRuntimes};
use crate::debian::{self, Debian, PackageSet};
use crate::fault::Fault;
use crate::host::Closed;
use crate::layers;
use crate::oci::{self, Registries};
use crate::progress::Progress;
use crate::runtimes::{self, Found, InstalledRuntime, Ready, RuntimeError};
use crate::trees::{Tree, Trees};
use crate::unpacker::{self, What};
use crate::web::Web;

/// Largest sum of a package's files, bytes (AWS's quota, which is never raised).
const UNZIPPED_MAX: u64 = 262_144_000;
/// Largest package that is read at all, bytes: no smaller one can hold more than that, and one that holds less has no
/// use for it.
const ZIPPED_MAX: u64 = UNZIPPED_MAX + (16 << 20);
/// What is written at once of a package, bytes.
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
    /// Where packages of a distribution come from.
    pub debian: debian::Settings,
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

/// A runtime, and the image or the packages that it is made of; `None`: the host's own.
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
    debian: Arc<Debian>,
    ready: Mutex<HashMap<MadeOf, Arc<OnceCell<Ready>>>>,
    /// Who needs what runtimes were before.
    users: OnceLock<Arc<dyn RuntimeUsers>>,
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
        let web = Arc::new(Web::default());
        let inner = Inner {
            code: Trees::open(&config.cache_dir.join("code"), CODE_MAX)?,
            runtimes: Trees::open(&config.cache_dir.join("runtimes"), RUNTIMES_MAX)?,
            images: Trees::open(&config.cache_dir.join("images"), IMAGES_MAX)?,
            found: runtimes::find(config.fetch, &config.closed),
            added,
            registries: Arc::new(Registries::new(config.registry_credentials.clone(), web.clone())),
            debian: Arc::new(Debian::new(web, config.debian.clone())),
            ready: Mutex::default(),
            users: OnceLock::new(),
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
        all.extend(added.iter().map(|(runtime, added)| {
            let cell = self.inner.cell(*runtime, Some(added.digest()));
            let described = runtimes::describe_added(*runtime, added, cell.get().and_then(|ready| ready.sdk.clone()));
            let kept = self.inner.added.before(*runtime).iter().map(|before| before.digest().to_hex()).collect();
            InstalledRuntime { kept, ..described }
        }));
        runtimes::sort(&mut all, |installed| installed.runtime);
        all
    }

    /// Makes a runtime of what a name of an image or of packages means now, in place of what it was made of before.
    pub async fn add(
        &self,
        runtime: Runtime,
        from: String,
        progress: Arc<Progress>,
    ) -> Result<InstalledRuntime, RuntimeError> {
        let architecture = Architecture::of_host().ok_or(RuntimeError::OtherHost)?;
        let added = match debian::names(&from) {
            Some(suite) => {
                let suite = suite.map_err(|fault| RuntimeError::Packages { from: from.clone(), fault })?;
                let suite = suite.map(str::to_owned);
                Added::Packages(Arc::new(self.inner.choose(runtime, from, suite, architecture).await?))
            }
            None => Added::Image(Arc::new(oci::resolve(&self.inner.registries, &from, architecture).await?)),
        };
        let sdk = match &added {
            Added::Image(image) => {
                let tree = self.inner.pull(image.clone(), progress).await?;
                runtimes::require_bootstrap(runtime, image, &tree.path)?;
                None
            }
            Added::Packages(set) => {
                let ready = self.inner.ready_packages(runtime, set.clone(), progress).await;
                ready.map_err(|fault| RuntimeError::Packages { from: set.from.clone(), fault })?.sdk
            }
        };
        // The version before this one stays until there is another.
        if self.inner.added.get(runtime).is_none_or(|before| before.digest() != added.digest()) {
            self.inner.drop_unneeded(runtime).await?;
        }
        self.inner.replace(runtime, Some(added.clone())).await?;
        tracing::info!(%runtime, from = added.from(), digest = %added.digest().to_hex(), "a runtime was added");
        Ok(runtimes::describe_added(runtime, &added, sdk))
    }

    /// The same for a runtime that was added, with the name that it was added by.
    pub async fn update(&self, runtime: Runtime, progress: Arc<Progress>) -> Result<InstalledRuntime, RuntimeError> {
        let added = self.inner.added.get(runtime).ok_or(RuntimeError::NotAdded(runtime))?;
        self.add(runtime, added.from().to_owned(), progress).await
    }

    /// Environments that run go on; what comes next finds the host's own runtime, or none. Refused while functions need
    /// this runtime and no other.
    pub async fn remove(&self, runtime: Runtime) -> Result<(), RuntimeError> {
        let added = self.inner.added.get(runtime).ok_or(RuntimeError::NotAdded(runtime))?;
        let editions = self.inner.added.before(runtime).into_iter().chain([added.clone()]);
        let users: Vec<String> = editions.flat_map(|edition| self.inner.users_of(edition.digest())).collect();
        if !users.is_empty() {
            return Err(RuntimeError::InUse { runtime, users });
        }
        self.inner.drop_unneeded(runtime).await?;
        self.inner.replace(runtime, None).await?;
        self.inner.forget(runtime, added.digest());
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
        // Held from now on: where they came from may have them no more.
        for (runtime, added) in self.inner.added.all_before() {
            if let Err(error) = self.inner.ready_added(runtime, added).await {
                tracing::warn!(%runtime, %error, "an older version of a runtime could not be made ready");
            }
        }
    }

    /// Says who needs what runtimes were before, once: they are found by what is made of this.
    pub fn used_by(&self, users: Arc<dyn RuntimeUsers>) {
        let _ = self.inner.users.set(users);
    }
}

impl Inner {
    /// What runs in the place of a runtime: itself, or the nearest where that is allowed.
    fn chosen(&self, asked: Runtime) -> Option<Runtime> {
        let is_there = |runtime| self.added.get(runtime).is_some() || self.found.iter().any(|f| f.runtime == runtime);
        if is_there(asked) {
            return Some(asked);
        }
        if !self.config.substitute || asked.family() == Family::Provided {
            return None;
        }
        let family = self.found.iter().map(|found| found.runtime).filter(|known| known.family() == asked.family());
        family.chain(self.added.of_family(asked.family())).min_by_key(|known| distance(*known, asked))
    }

    async fn runtime(&self, asked: Runtime, version: Option<CodeHash>) -> Result<Arc<RuntimeTree>, MaterialsError> {
        if let Some(version) = version {
            match self.runtime_version(asked, version).await {
                // The host's own cannot be kept; functions that were published on it go on with what there is now.
                Err(MaterialsError::RuntimeVersionMissing { .. }) if runtimes::is_hosts(asked, version) => {}
                found => return found,
            }
        }
        let running = self.chosen(asked).ok_or(MaterialsError::RuntimeMissing(asked))?;
        if running != asked {
            tracing::warn!(%asked, %running, "a runtime is substituted");
        }
        // What was added counts before what the host has.
        match (self.added.get(running), self.hosts(running)) {
            (Some(added), _) => self.ready_added(running, added).await,
            (None, Some(found)) => self.ready(found).await,
            (None, None) => Err(MaterialsError::RuntimeMissing(asked)),
        }
    }

    /// One version of it, whatever it is now.
    async fn runtime_version(&self, asked: Runtime, version: CodeHash) -> Result<Arc<RuntimeTree>, MaterialsError> {
        if let Some(found) = self.hosts_version(asked, version) {
            return self.ready(found).await;
        }
        let mut edition = self.added.edition(asked, version);
        if edition.is_none() {
            if let Err(error) = self.added.read_again().await {
                tracing::warn!(%error, "which runtimes were added cannot be read");
            }
            edition = self.added.edition(asked, version);
        }
        let missing = MaterialsError::RuntimeVersionMissing { runtime: asked, version };
        let (runtime, added) = edition.ok_or(missing)?;
        self.ready_added(runtime, added).await
    }

    fn hosts(&self, runtime: Runtime) -> Option<&Found> {
        self.found.iter().find(|found| found.runtime == runtime)
    }

    /// The host's own runtime, where this is its version.
    fn hosts_version(&self, asked: Runtime, version: CodeHash) -> Option<&Found> {
        let mut family = self.found.iter().filter(|found| found.runtime.family() == asked.family());
        family.find(|found| runtimes::hosts(found.runtime) == version)
    }

    async fn ready_added(&self, runtime: Runtime, added: Added) -> Result<Arc<RuntimeTree>, MaterialsError> {
        match added {
            Added::Image(image) => self.ready_image(runtime, image).await,
            Added::Packages(set) => {
                let ready = self.ready_packages(runtime, set, Arc::default()).await;
                ready
                    .map(|ready| ready.tree)
                    .map_err(|fault| MaterialsError::Runtime { runtime, reason: fault.to_string().into() })
            }
        }
    }

    fn users_of(&self, version: CodeHash) -> Vec<String> {
        self.users.get().map(|users| users.users(version)).unwrap_or_default()
    }

    /// Makes a runtime of something else; what follows it moves with its next call.
    async fn replace(&self, runtime: Runtime, added: Option<Added>) -> Result<(), RecordsError> {
        let before = self.added.get(runtime).map(|added| added.digest());
        let now = added.as_ref().map(Added::digest);
        self.added.put(runtime, added).await?;
        for (made_of, replaced) in [(before, true), (now, false)] {
            if before != now
                && let Some(ready) = self.cell(runtime, made_of).get()
            {
                ready.tree.replaced.set(replaced);
            }
        }
        Ok(())
    }

    /// Lets go what a runtime was before, as far as no function needs it.
    async fn drop_unneeded(&self, runtime: Runtime) -> Result<(), RecordsError> {
        for before in self.added.before(runtime) {
            if self.users_of(before.digest()).is_empty() {
                self.added.drop(runtime, before.digest()).await?;
                self.forget(runtime, before.digest());
            }
        }
        Ok(())
    }

    fn cell(&self, runtime: Runtime, image: Option<CodeHash>) -> Arc<OnceCell<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).entry((runtime, image)).or_default().clone()
    }

    /// Its tree may go from the cache when nobody uses it any more.
    fn forget(&self, runtime: Runtime, version: CodeHash) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).remove(&(runtime, Some(version)));
    }

    /// What a name of packages means now.
    async fn choose(
        &self,
        runtime: Runtime,
        from: String,
        suite: Option<String>,
        architecture: Architecture,
    ) -> Result<PackageSet, RuntimeError> {
        let failed = |fault| RuntimeError::Packages { from: from.clone(), fault };
        let _turn = self.pulls.acquire().await.map_err(|e| failed(Fault::Unavailable(e.to_string())))?;
        let (debian, trees, name) = (self.debian.clone(), self.runtimes.clone(), from.clone());
        let chosen =
            tokio::task::spawn_blocking(move || debian.resolve(&trees, runtime, &name, suite.as_deref(), architecture));
        chosen.await.unwrap_or_else(|e| Err(Fault::Unavailable(e.to_string()))).map_err(failed)
    }

    async fn ready_packages(
        &self,
        runtime: Runtime,
        set: Arc<PackageSet>,
        progress: Arc<Progress>,
    ) -> Result<Ready, Fault> {
        let cell = self.cell(runtime, Some(set.digest()));
        let made = cell.get_or_try_init(|| async {
            let failed = |reason: String| Fault::Unavailable(reason);
            let _turn = self.pulls.acquire().await.map_err(|e| failed(e.to_string()))?;
            let (debian, trees, fetch) = (self.debian.clone(), self.runtimes.clone(), self.config.fetch);
            let made = tokio::task::spawn_blocking(move || {
                let system = debian.system(&trees, runtime, &set, &progress)?;
                let tools = debian.packages(&trees, &set.tools, &Progress::default())?;
                runtimes::of_packages(runtime, &set, &system, &tools, &trees, debian.web(), fetch)
            });
            made.await.map_err(|e| failed(e.to_string()))?
        });
        Ok(made.await?.clone())
    }

    async fn ready_image(&self, runtime: Runtime, image: Arc<Image>) -> Result<Arc<RuntimeTree>, MaterialsError> {
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
        // Most often it was unpacked when it was published: then nothing is asked of the store.
        let (trees, sought) = (self.code.clone(), name.clone());
        let found = tokio::task::spawn_blocking(move || trees.find(&sought)).await;
        if let Some(tree) = found.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))? {
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

    /// A package goes to disk as it comes; only then it is looked into, and only then it counts.
    async fn take(&self, pieces: Pieces) -> Result<(Admitted, Box<dyn Draft>), AdmitError> {
        let mut draft = self.blobs.create().await.map_err(kept)?;
        let (zipped, code) = copy(pieces, &mut *draft).await?;
        let _worker = self.workers.acquire().await.map_err(failed)?;
        let (file, empty) = (draft.open().await.map_err(kept)?, self.empty.clone());
        let checked = tokio::task::spawn_blocking(move || unpacker::read(What::Check, &file, &empty, UNZIPPED_MAX));
        let unzipped = checked.await.map_err(failed)?.map_err(refused)?;
        Ok((Admitted { code, zipped, unzipped }, draft))
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
            waiting.extend_from_slice(&piece);
        }
        if waiting.len() >= PIECE || (end && !waiting.is_empty()) {
            let piece = waiting.split().freeze();
            let same = piece.clone();
            let (hashed, written) = tokio::join!(bulk(move || hash.chain_update(&same)), draft.write(piece));
            written.map_err(kept)?;
            hash = hashed.map_err(failed)?;
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

/// How far apart two versions of one family are.
fn distance(one: Runtime, other: Runtime) -> u32 {
    let number = |runtime: Runtime| {
        let mut parts = runtime.language_version().unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
        parts.next().unwrap_or(0u32) * 100 + parts.next().unwrap_or(0)
    };
    number(one).abs_diff(number(other))
}

impl Packages for Images {
    fn check(&self, zip: Pieces) -> BoxFuture<'_, Result<Checked, AdmitError>> {
        Box::pin(async move {
            let (admitted, draft) = self.inner.take(zip).await?;
            let name = Naming::As(admitted.code.into());
            let keep = async move { draft.finish(name).await.map(drop).map_err(kept) };
            Ok(Checked { admitted, keep: Box::pin(keep) })
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

    fn runtime(
        &self,
        runtime: Runtime,
        version: Option<CodeHash>,
    ) -> BoxFuture<'_, Result<Arc<RuntimeTree>, MaterialsError>> {
        Box::pin(self.inner.runtime(runtime, version))
    }

    fn image(&self, image: Arc<Image>) -> BoxFuture<'_, Result<ImageTree, MaterialsError>> {
        Box::pin(async move {
            let tree = self.inner.pull(image, Arc::default()).await?;
            let root = Root { skeleton: tree.path, binds: Vec::new(), whole: true };
            Ok(ImageTree { root: Arc::new(root), lease: tree.lease })
        })
    }
}

impl RuntimeVersions for Images {
    fn current(&self, runtime: Runtime) -> Option<CodeHash> {
        let running = self.inner.chosen(runtime)?;
        Some(self.inner.added.get(running).map_or_else(|| runtimes::hosts(running), |added| added.digest()))
    }

    fn is_kept(&self, runtime: Runtime, version: CodeHash) -> bool {
        self.inner.hosts_version(runtime, version).is_some() || self.inner.added.edition(runtime, version).is_some()
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
