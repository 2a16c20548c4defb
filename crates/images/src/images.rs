//! The room's front: implements the ports `Packages` and `Materials`.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hearth_model::{
    AdmitError, Admitted, BoxFuture, CodeHash, CodeTree, Family, Materials, MaterialsError, Packages, Runtime,
    RuntimeTree,
};
use hearth_store::Blobs;
use tokio::sync::OnceCell;

use crate::code::CodeTrees;
use crate::package;
use crate::runtimes::{self, InstalledRuntime};

#[derive(Clone, Debug)]
pub struct Config {
    /// Runtimes and unpacked code; may be shared by data folders.
    pub cache_dir: PathBuf,
    /// Run a function on the nearest installed runtime of its family when its own is missing.
    pub substitute: bool,
    /// Largest sum of a package's files, bytes.
    pub unzipped_max: u64,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    blobs: Arc<dyn Blobs>,
    trees: CodeTrees,
    installed: Vec<InstalledRuntime>,
    ready: Mutex<HashMap<Runtime, Arc<OnceCell<Arc<RuntimeTree>>>>>,
}

impl Images {
    /// Looks for runtimes on the host. Blocking; runs each interpreter that it finds once.
    pub fn open(config: Config, blobs: Arc<dyn Blobs>) -> std::io::Result<Self> {
        let trees = CodeTrees::open(&config.cache_dir.join("code"))?;
        let installed = runtimes::find();
        let inner = Inner { config, blobs, trees, installed, ready: Mutex::default() };
        Ok(Images { inner: Arc::new(inner) })
    }

    /// What can run here.
    pub fn installed(&self) -> &[InstalledRuntime] {
        &self.inner.installed
    }
}

impl Inner {
    fn find(&self, asked: Runtime) -> Result<&InstalledRuntime, MaterialsError> {
        let same = self.installed.iter().find(|installed| installed.runtime == asked);
        let nearest = || {
            if !self.config.substitute || asked.family() == Family::Provided {
                return None;
            }
            let family = self.installed.iter().filter(|installed| installed.runtime.family() == asked.family());
            family.min_by_key(|installed| distance(installed.runtime, asked))
        };
        let found = same.or_else(nearest).ok_or(MaterialsError::RuntimeMissing(asked))?;
        if found.runtime != asked {
            tracing::warn!(%asked, running = %found.runtime, "a runtime is substituted");
        }
        Ok(found)
    }

    async fn runtime(&self, asked: Runtime) -> Result<Arc<RuntimeTree>, MaterialsError> {
        let found = self.find(asked)?.clone();
        let cell = self.ready.lock().unwrap_or_else(PoisonError::into_inner).entry(found.runtime).or_default().clone();
        let cache = self.config.cache_dir.clone();
        let made = cell.get_or_try_init(|| async move {
            let runtime = found.runtime;
            let made = tokio::task::spawn_blocking(move || runtimes::make(&found, &cache)).await;
            let made = made.unwrap_or_else(|e| Err(std::io::Error::other(e)));
            made.map(Arc::new).map_err(|e| MaterialsError::Runtime { runtime, reason: e.to_string().into() })
        });
        made.await.cloned()
    }

    async fn code(&self, code: CodeHash) -> Result<CodeTree, MaterialsError> {
        let failed = |reason: String| MaterialsError::Code { code, reason: reason.into() };
        if let Some(tree) = self.trees.lease(code).map_err(|e| failed(e.to_string()))? {
            return Ok(tree);
        }
        let zip = self.blobs.open(code).await.map_err(|e| failed(e.to_string()))?;
        let (trees, unzipped_max) = (self.trees.clone(), self.config.unzipped_max);
        let unpacked = tokio::task::spawn_blocking(move || {
            trees.make(code, |folder| {
                package::unpack(zip, folder, unzipped_max).map(drop).map_err(std::io::Error::other)
            })
        });
        unpacked.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
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

async fn check(zip: Bytes, unzipped_max: u64) -> Result<(u64, u64), AdmitError> {
    let zipped = zip.len() as u64;
    let checked = tokio::task::spawn_blocking(move || package::check(Cursor::new(zip), unzipped_max)).await;
    match checked {
        Ok(Ok(unzipped)) => Ok((zipped, unzipped)),
        Ok(Err(package::Error::TooLarge { limit })) => Err(AdmitError::TooLarge { limit }),
        Ok(Err(package::Error::Io(e))) => Err(AdmitError::Io(e.to_string().into())),
        Ok(Err(refused)) => Err(AdmitError::NotAZip(refused.to_string())),
        Err(e) => Err(AdmitError::Io(e.to_string().into())),
    }
}

impl Packages for Images {
    fn admit(&self, zip: Bytes) -> BoxFuture<'_, Result<Admitted, AdmitError>> {
        Box::pin(async move {
            let (zipped, unzipped) = check(zip.clone(), self.inner.config.unzipped_max).await?;
            let code = self.inner.blobs.put(zip).await.map_err(|e| AdmitError::Io(e.to_string().into()))?;
            Ok(Admitted { code, zipped, unzipped })
        })
    }

    fn check(&self, zip: Bytes) -> BoxFuture<'_, Result<Admitted, AdmitError>> {
        Box::pin(async move {
            use sha2::Digest;
            let code = CodeHash(sha2::Sha256::digest(&zip).into());
            let (zipped, unzipped) = check(zip, self.inner.config.unzipped_max).await?;
            Ok(Admitted { code, zipped, unzipped })
        })
    }

    fn unpack(&self, code: CodeHash) -> BoxFuture<'_, Result<(), MaterialsError>> {
        Box::pin(async move { self.inner.code(code).await.map(drop) })
    }

    fn release(&self, code: CodeHash) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.inner.blobs.delete(code).await {
                tracing::warn!(%error, "a package could not be deleted");
            }
            let trees = self.inner.trees.clone();
            let removed = tokio::task::spawn_blocking(move || trees.remove(code)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "an unpacked package could not be deleted");
            }
        })
    }
}

impl Materials for Images {
    fn code(&self, code: CodeHash) -> BoxFuture<'_, Result<CodeTree, MaterialsError>> {
        Box::pin(self.inner.code(code))
    }

    fn runtime(&self, runtime: Runtime) -> BoxFuture<'_, Result<Arc<RuntimeTree>, MaterialsError>> {
        Box::pin(self.inner.runtime(runtime))
    }
}
