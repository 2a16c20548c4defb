//! The handle to the room, and the reconciler that brings intent about.

use std::io::Read;
use std::sync::{Arc, PoisonError};

use hearth_identity::Identity;
use hearth_model::{
    AccountId, Clock, CodeHash, ContainerImages, FunctionArn, FunctionName, Functions, ImageError, LookupError,
    MaterialsError, Packages, Quotas, Reservation, StoredPackages, Target, VersionKey,
};
use hearth_store::{Blobs, Records};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::download::{DownloadError, Signer};
use crate::record::{Content, Definition, FUNCTION, Owner, Readiness, Update};
use crate::state::function::Function;
use crate::state::{OpenError, State, WriteError};

/// Functions that may wait for the reconciler before creations wait in turn.
const RECONCILE_MAX: usize = 4096;
/// Functions that are made ready at one time: each keeps a core busy.
const RECONCILING_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct Config {
    pub quotas: Quotas,
    /// Whether a function's role must exist and trust Lambda.
    pub check_roles: bool,
}

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    pub packages: Arc<dyn Packages>,
    pub images: Arc<dyn ContainerImages>,
    /// Packages that lie in buckets.
    pub stored: Arc<dyn StoredPackages>,
    pub blobs: Arc<dyn Blobs>,
    pub clock: Arc<dyn Clock>,
    pub identity: Identity,
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
    pub state: State,
    /// Read while a package is admitted and its record written; written while packages that nobody needs are removed.
    pub packages_in_use: tokio::sync::RwLock<()>,
    pending: mpsc::Sender<(Owner, FunctionName)>,
    to_do: std::sync::Mutex<Option<mpsc::Receiver<(Owner, FunctionName)>>>,
}

impl Control {
    /// Reads every record.
    pub async fn open(config: Config, ports: Ports) -> Result<Self, OpenError> {
        let state = State::open(ports.records.clone()).await?;
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut key))
            .map_err(OpenError::Random)?;
        let (pending, to_do) = mpsc::channel(RECONCILE_MAX);
        let inner = Inner {
            config,
            ports,
            signer: Signer::new(key),
            state,
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
        let mut unfinished = self.inner.state.unfinished();
        let mut reconciling = JoinSet::new();
        loop {
            let next = match unfinished.pop() {
                Some(next) => next,
                None => match to_do.recv().await {
                    Some(next) => next,
                    None => return,
                },
            };
            while reconciling.len() >= RECONCILING_MAX {
                reconciling.join_next().await;
            }
            while reconciling.try_join_next().is_some() {}
            let inner = self.inner.clone();
            reconciling.spawn(async move { inner.reconcile(&next.0, &next.1).await });
        }
    }

    /// The package that a link of `Code.Location` leads to.
    pub async fn download(&self, token: &str) -> Result<std::fs::File, DownloadError> {
        let code = self.inner.signer.open(token, self.inner.ports.clock.wall())?;
        self.inner.ports.blobs.open(code.into()).await.map_err(|_| DownloadError::Missing)
    }

    /// A URL from which a package downloads, by the door that was asked.
    pub(crate) fn location(&self, host: &str, code: CodeHash) -> String {
        let token = self.inner.signer.token(code, self.inner.ports.clock.wall());
        format!("http://{host}/_hearth/v1/code/{token}")
    }

    /// `2026-01-31T12:34:56.789+0000`.
    pub(crate) fn now(&self) -> String {
        match jiff::Timestamp::try_from(self.inner.ports.clock.wall()) {
            Ok(now) => format!("{now:.3}").replace('Z', "+0000"),
            Err(_) => String::new(),
        }
    }

    /// Asks the reconciler to look at a function.
    pub(crate) async fn wake(&self, function: &Function) {
        let _ = self.inner.pending.send((function.owner.clone(), function.name.clone())).await;
    }
}

pub(crate) fn revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Inner {
    /// From intent to what runs: packages are unpacked, then the definition serves. Idempotent.
    async fn reconcile(&self, owner: &Owner, name: &FunctionName) {
        let Some(asked) = self.state.function(owner, name).filter(|function| function.record.is_unfinished()) else {
            return;
        };
        let intent = &asked.record.intent;
        let ready = self.make_ready(intent).await;
        let turn = self.state.turn(owner, FUNCTION, name.as_str()).await;
        // Nothing but this finishes an update, but the function may be gone, or another's.
        let current = self.state.function(owner, name).filter(|function| function.record.is_unfinished());
        let Some(function) = current.filter(|function| function.record.intent.generation == intent.generation) else {
            return;
        };
        let mut changes = function.changes();
        let Some(root) = &mut changes.root else { return };
        let readiness = match ready {
            Ok(()) => {
                root.update = Update::Successful;
                Readiness::Ready
            }
            Err(error) => {
                tracing::error!(function = %name, %error, "a package could not be made ready");
                let (reason, code) = (error.to_string(), reason_code(&error).to_owned());
                let serving = function.record.serving().cloned();
                root.update = Update::Failed { reason: reason.clone(), code: code.clone(), serving };
                Readiness::Failed { reason, code }
            }
        };
        root.revision_id = revision();
        for (number, published) in &function.versions {
            if published.record.readiness == Readiness::Pending {
                let record = crate::record::VersionRecord { readiness: readiness.clone(), ..published.record.clone() };
                changes.versions.insert(*number, Some(record));
            }
        }
        let replaced: Vec<CodeHash> = function.definitions().flat_map(|definition| definition.codes()).collect();
        if let Err(WriteError::Store(error)) = self.state.commit(owner, name, Some(&function), changes).await {
            tracing::error!(function = %name, %error, "a function's state could not be written");
        }
        drop(turn);
        self.remove_unused_packages(Some(replaced)).await;
    }

    async fn make_ready(&self, definition: &Definition) -> Result<(), MaterialsError> {
        match &definition.content {
            Content::Zip(zip) => {
                self.ports.packages.unpack(zip.code).await?;
                self.ports.packages.merge(zip.layers.iter().map(|layer| layer.code).collect()).await
            }
            Content::Image(content) => Ok(self.ports.images.fetch(content.image.clone()).await?),
        }
    }

    /// Removes these packages, or with `None` every package, as far as no record needs them.
    pub async fn remove_unused_packages(&self, only: Option<Vec<CodeHash>>) {
        let mut candidates = match only {
            Some(codes) => codes,
            None => self.ports.blobs.list().await.unwrap_or_default().into_iter().map(CodeHash::from).collect(),
        };
        candidates.retain(|code| !self.state.is_needed(*code));
        if candidates.is_empty() {
            return;
        }
        let _alone = self.packages_in_use.write().await;
        for code in candidates {
            if !self.state.is_needed(code) {
                self.ports.packages.release(code).await;
            }
        }
    }
}

fn reason_code(error: &MaterialsError) -> &'static str {
    match error {
        MaterialsError::Code { .. } => "InvalidZipFileException",
        MaterialsError::Runtime { .. } | MaterialsError::RuntimeMissing(_) => "InvalidRuntime",
        MaterialsError::Image(ImageError::Missing { .. }) => "ImageDeleted",
        MaterialsError::Image(ImageError::Denied { .. }) => "ImageAccessDenied",
        MaterialsError::Image(ImageError::Unavailable { .. }) => "InternalError",
        MaterialsError::Image(_) => "InvalidImage",
    }
}

impl Functions for Control {
    fn find(&self, arn: &FunctionArn) -> Result<Target, LookupError> {
        match self.inner.state.function(&Owner::of(arn), &arn.name) {
            Some(function) => function.find(arn.qualifier.as_ref()),
            None => Err(LookupError::NotFound(arn.to_string())),
        }
    }

    fn reservation(&self, key: &VersionKey) -> Reservation {
        let owner = Owner { account: key.account.clone(), region: key.region.clone() };
        match self.inner.state.function(&owner, &key.name) {
            Some(function) => {
                Reservation { function: function.record.reserved_concurrency, account: function.totals.reserved() }
            }
            None => Reservation::default(),
        }
    }

    fn lets_invoke(&self, arn: &FunctionArn, caller: &AccountId) -> bool {
        self.permits(arn, caller, "lambda:InvokeFunction")
    }

    fn is_current(&self, key: &VersionKey) -> bool {
        let owner = Owner { account: key.account.clone(), region: key.region.clone() };
        let function = self.inner.state.function(&owner, &key.name);
        function.is_some_and(|function| function.runs(key.version, key.generation))
    }
}
