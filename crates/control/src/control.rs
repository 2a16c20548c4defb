//! The room's state: every record in memory exactly as it is on disk, written through, and the reconciler that brings
//! intent about.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use hearth_model::{
    Clock, CodeHash, FunctionArn, FunctionName, FunctionVersion, Functions, LookupError, MaterialsError, Packages,
    Quotas, VersionKey,
};
use hearth_store::{Blobs, Expect, Records, RecordsError, Write};
use tokio::sync::mpsc;

use crate::download::{DownloadError, Signer};
use crate::record::{FunctionRecord, KIND, Owner, Update};

/// Functions that may wait for the reconciler before creations wait in turn.
const RECONCILE_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub struct Config {
    pub quotas: Quotas,
}

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    pub packages: Arc<dyn Packages>,
    pub blobs: Arc<dyn Blobs>,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the record of function {id} in {partition} does not read: {source}")]
    Damaged { partition: String, id: String, source: serde_json::Error },
    #[error("no random bytes: {0}")]
    Random(std::io::Error),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Control {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: Config,
    pub ports: Ports,
    pub signer: Signer,
    functions: RwLock<BTreeMap<(Owner, FunctionName), Arc<Entry>>>,
    /// Read while a package is admitted and its record written; written while packages that nobody needs are removed.
    pub packages_in_use: tokio::sync::RwLock<()>,
    pending: mpsc::Sender<(Owner, FunctionName)>,
    to_do: std::sync::Mutex<Option<mpsc::Receiver<(Owner, FunctionName)>>>,
}

/// A record as it is on disk.
pub(crate) struct Entry {
    pub record: FunctionRecord,
    pub change: u64,
    version: Option<Arc<FunctionVersion>>,
}

impl Control {
    /// Reads every record.
    pub async fn open(config: Config, ports: Ports) -> Result<Self, OpenError> {
        let mut functions = BTreeMap::new();
        for stored in ports.records.all(KIND).await? {
            let record: FunctionRecord = serde_json::from_slice(&stored.value).map_err(|source| {
                OpenError::Damaged { partition: stored.key_partition.clone(), id: stored.id.clone(), source }
            })?;
            let key = (record.owner.clone(), record.name.clone());
            functions.insert(key, Arc::new(Entry::new(record, stored.change)));
        }
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut key))
            .map_err(OpenError::Random)?;
        let (pending, to_do) = mpsc::channel(RECONCILE_MAX);
        let inner = Inner {
            config,
            ports,
            signer: Signer::new(key),
            functions: RwLock::new(functions),
            packages_in_use: tokio::sync::RwLock::new(()),
            pending,
            to_do: std::sync::Mutex::new(Some(to_do)),
        };
        Ok(Control { inner: Arc::new(inner) })
    }

    /// The reconciler: resumes what a former process left undone, then brings about what is asked for. Runs until it is
    /// dropped.
    pub async fn run(self) {
        let Some(mut to_do) = self.inner.to_do.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.inner.remove_unused_packages(None).await;
        for key in self.inner.unfinished() {
            self.inner.reconcile(&key.0, &key.1).await;
        }
        while let Some((owner, name)) = to_do.recv().await {
            self.inner.reconcile(&owner, &name).await;
        }
    }

    /// The package that a link of `Code.Location` leads to.
    pub async fn download(&self, token: &str) -> Result<std::fs::File, DownloadError> {
        let code = self.inner.signer.open(token, self.inner.ports.clock.wall())?;
        self.inner.ports.blobs.open(code).await.map_err(|_| DownloadError::Missing)
    }
}

impl Entry {
    fn new(record: FunctionRecord, change: u64) -> Self {
        Entry { version: record.version(), record, change }
    }
}

/// Why a record was not written.
pub(crate) enum WriteError {
    /// Somebody else changed it meanwhile.
    Conflict,
    Store(RecordsError),
}

impl From<RecordsError> for WriteError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Conflict(_) => WriteError::Conflict,
            other => WriteError::Store(other),
        }
    }
}

type All<'a> = RwLockReadGuard<'a, BTreeMap<(Owner, FunctionName), Arc<Entry>>>;

impl Inner {
    pub fn all(&self) -> All<'_> {
        self.functions.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, owner: &Owner, name: &FunctionName) -> Option<Arc<Entry>> {
        self.all().get(&(owner.clone(), name.clone())).cloned()
    }

    /// Functions of one owner, ascending by name, after `after`.
    pub fn list(&self, owner: &Owner, after: Option<&str>, limit: usize) -> Vec<Arc<Entry>> {
        let all = self.all();
        let of_owner =
            all.iter().filter(|((of, name), _)| of == owner && after.is_none_or(|after| name.as_str() > after));
        of_owner.map(|(_, entry)| entry.clone()).take(limit).collect()
    }

    /// Writes a record: on disk first, then in memory. `before` is what it replaces.
    pub async fn put(&self, record: FunctionRecord, before: Option<u64>) -> Result<Arc<Entry>, WriteError> {
        let key = record.owner.key(&record.name);
        let value = serde_json::to_vec(&record).map_err(|e| RecordsError::Engine(e.to_string().into()))?;
        let expect = before.map_or(Expect::Absent, Expect::Change);
        let change = self.ports.records.commit(vec![Write::Put { key, expect, value: value.into() }]).await?;
        let entry = Arc::new(Entry::new(record, change));
        let key = (entry.record.owner.clone(), entry.record.name.clone());
        let mut all = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        // A later write may have come here first.
        if all.get(&key).is_none_or(|there| there.change < change) {
            all.insert(key, entry.clone());
        }
        Ok(entry)
    }

    pub async fn delete(&self, entry: &Entry) -> Result<(), WriteError> {
        let (owner, name) = (entry.record.owner.clone(), entry.record.name.clone());
        let write = Write::Delete { key: owner.key(&name), expect: Expect::Change(entry.change) };
        self.ports.records.commit(vec![write]).await?;
        let mut all = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let key = (owner, name);
        if all.get(&key).is_some_and(|there| there.change == entry.change) {
            all.remove(&key);
        }
        Ok(())
    }

    /// Asks the reconciler to look at a function.
    pub async fn wake(&self, entry: &Entry) {
        let _ = self.pending.send((entry.record.owner.clone(), entry.record.name.clone())).await;
    }

    fn unfinished(&self) -> Vec<(Owner, FunctionName)> {
        let all = self.all();
        let unfinished = all.iter().filter(|(_, entry)| entry.record.update == Update::InProgress);
        unfinished.map(|(key, _)| key.clone()).collect()
    }

    /// From intent to what runs: the package is unpacked, then the definition serves. Idempotent.
    async fn reconcile(&self, owner: &Owner, name: &FunctionName) {
        let Some(entry) = self.get(owner, name).filter(|entry| entry.record.update == Update::InProgress) else {
            return;
        };
        let unpacked = self.ports.packages.unpack(entry.record.intent.code).await;
        let mut record = entry.record.clone();
        let replaced = record.serving.as_ref().map(|serving| serving.code);
        match unpacked {
            Ok(()) => {
                record.serving = Some(record.intent.clone());
                record.update = Update::Successful;
            }
            Err(error) => {
                tracing::error!(function = %name, %error, "a package could not be made ready");
                let code = match error {
                    MaterialsError::Code { .. } => "InvalidZipFileException",
                    MaterialsError::Runtime { .. } | MaterialsError::RuntimeMissing(_) => "InvalidRuntime",
                };
                record.update = Update::Failed { reason: error.to_string(), code: code.to_owned() };
            }
        }
        record.revision_id = uuid::Uuid::new_v4().to_string();
        if let Err(WriteError::Store(error)) = self.put(record, Some(entry.change)).await {
            tracing::error!(function = %name, %error, "a function's state could not be written");
        }
        self.remove_unused_packages(replaced).await;
    }

    /// Removes one package, or with `None` every package, that no record needs.
    pub async fn remove_unused_packages(&self, only: Option<CodeHash>) {
        let candidates = match only {
            Some(code) => vec![code],
            None => self.ports.blobs.list().await.unwrap_or_default(),
        };
        let _alone = self.packages_in_use.write().await;
        for code in candidates {
            let needed = self.all().values().any(|entry| entry.record.codes().any(|needed| needed == code));
            if !needed {
                self.ports.packages.release(code).await;
            }
        }
    }
}

impl Functions for Control {
    fn find(&self, arn: &FunctionArn) -> Result<Arc<FunctionVersion>, LookupError> {
        let not_found = || LookupError::NotFound(arn.to_string());
        if arn.qualifier.as_ref().is_some_and(|qualifier| !qualifier.is_latest()) {
            return Err(not_found());
        }
        let owner = Owner { account: arn.account.clone(), region: arn.region.clone() };
        let entry = self.inner.get(&owner, &arn.name).ok_or_else(not_found)?;
        entry.version.clone().ok_or(LookupError::NotReady("Pending"))
    }

    fn is_current(&self, key: &VersionKey) -> bool {
        let owner = Owner { account: key.account.clone(), region: key.region.clone() };
        let entry = self.inner.get(&owner, &key.name);
        entry.is_some_and(|entry| entry.version.as_ref().is_some_and(|version| version.key == *key))
    }
}
