//! The handle to the room, and what goes on by itself: the reconciler that brings intent about, and, where servers share
//! the records, the follower of what the others write.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hearth_identity::Identity;
use hearth_model::{
    AccountId, Clock, CodeHash, ContainerImages, Found, FunctionArn, FunctionName, Functions, ImageError, LookupError,
    MaterialsError, Packages, Provision, Provisioning, Quotas, Region, Reservation, RuntimeVersions, StoredPackages,
    Target, VersionKey,
};
use hearth_store::{Blobs, Feed, Follower, Lease, Leases, Records, SharedBlobs, Write, shared_secret};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::download::{DownloadError, Signer};
use crate::idle::Wakes;
use crate::record::{Content, Definition, FUNCTION, Owner, Readiness, Update};
use crate::state::function::Function;
use crate::state::{KINDS, OpenError, State, WriteError};

/// Functions that may wait for the reconciler before creations wait in turn.
const RECONCILE_MAX: usize = 4096;
/// Functions that are made ready at one time: each keeps a core busy.
const RECONCILING_MAX: usize = 4;
/// Between looks for functions that another server has left unfinished.
const LEFT_EVERY: Duration = Duration::from_secs(5);
/// Between looks for shared packages that no record needs.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Before everything is read again, when the others cannot be followed; doubles up to the second.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(10);
/// The key that signs download links, so that each server knows the others'.
const DOWNLOAD_KEY: &str = "download-key";

#[derive(Clone, Debug)]
pub struct Config {
    pub quotas: Quotas,
    /// Whether a function's role must exist and trust Lambda.
    pub check_roles: bool,
    /// How long nobody calls what becomes inactive.
    pub idle_timeout: Duration,
}

/// What other rooms keep of functions, versions and aliases, and what goes with them. A qualifier names one of the latter.
pub trait Dependents: Send + Sync + 'static {
    /// To be written in the transaction that removes it.
    fn removal(&self, arn: &FunctionArn) -> Vec<Write>;

    /// It is removed.
    fn removed(&self, arn: &FunctionArn);
}

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    pub packages: Arc<dyn Packages>,
    pub images: Arc<dyn ContainerImages>,
    pub runtimes: Arc<dyn RuntimeVersions>,
    /// Packages that lie in buckets.
    pub stored: Arc<dyn StoredPackages>,
    pub blobs: Arc<dyn Blobs>,
    pub dependents: Arc<dyn Dependents>,
    pub clock: Arc<dyn Clock>,
    pub identity: Identity,
    /// Where other servers use the same records and packages.
    pub shared: Option<Shared>,
}

/// What servers that share records need of each other.
#[derive(Clone)]
pub struct Shared {
    /// Of the records.
    pub feed: Arc<dyn Feed>,
    pub leases: Leases,
    /// The packages.
    pub blobs: SharedBlobs,
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
    /// Who brings provisioned concurrency about.
    pub provisioning: OnceLock<Arc<dyn Provisioning>>,
    pub wakes: Wakes,
    /// Read while a package is admitted and its record written; written while packages that nobody needs are removed.
    pub packages_in_use: tokio::sync::RwLock<()>,
    pending: mpsc::Sender<(Owner, FunctionName)>,
    to_do: Mutex<Option<mpsc::Receiver<(Owner, FunctionName)>>>,
    /// Of the others, from before the records were read.
    follower: Mutex<Option<Box<dyn Follower>>>,
}

impl Control {
    /// Reads every record.
    pub async fn open(config: Config, ports: Ports) -> Result<Self, OpenError> {
        let follower = match &ports.shared {
            Some(shared) => Some(shared.feed.follow(KINDS).await?),
            None => None,
        };
        let packages = ports.shared.as_ref().map(|shared| shared.blobs.clone());
        let state = State::open(ports.records.clone(), packages).await?;
        let key = shared_secret(&*ports.records, DOWNLOAD_KEY).await?;
        let (pending, to_do) = mpsc::channel(RECONCILE_MAX);
        let inner = Inner {
            config,
            ports,
            signer: Signer::new(key),
            state,
            provisioning: OnceLock::new(),
            wakes: Wakes::new(),
            packages_in_use: tokio::sync::RwLock::new(()),
            pending,
            to_do: Mutex::new(Some(to_do)),
            follower: Mutex::new(follower),
        };
        Ok(Control { inner: Arc::new(inner) })
    }

    /// What goes on by itself. Runs until it is dropped.
    pub async fn run(self) {
        let follower = self.inner.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (follower, &self.inner.ports.shared) {
            (Some(follower), Some(shared)) => {
                tokio::join!(
                    self.inner.clone().reconcile_all(),
                    self.inner.clone().watch_idle(),
                    self.inner.follow(follower, shared),
                    self.inner.sweep(shared)
                );
            }
            _ => drop(tokio::join!(self.inner.clone().reconcile_all(), self.inner.clone().watch_idle())),
        }
    }

    /// Says who brings provisioned concurrency about, once: who does so looks functions up here.
    pub fn provisioned_by(&self, placement: Arc<dyn Provisioning>) {
        let _ = self.inner.provisioning.set(placement);
    }

    /// The package that a link of `Code.Location` leads to.
    pub async fn download(&self, token: &str) -> Result<std::fs::File, DownloadError> {
        let code = self.inner.signer.open(token, self.inner.ports.clock.wall())?;
        self.inner.ports.blobs.open(code.into()).await.map_err(|_| DownloadError::Missing)
    }

    /// A URL from which a package downloads, by the door that was asked.
    pub(crate) fn location(&self, origin: &str, code: CodeHash) -> String {
        let token = self.inner.signer.token(code, self.inner.ports.clock.wall());
        format!("{origin}/_hearth/v1/code/{token}")
    }

    /// `2026-01-31T12:34:56.789+0000`.
    pub(crate) fn now(&self) -> String {
        match jiff::Timestamp::try_from(self.inner.ports.clock.wall()) {
            Ok(now) => format!("{now:.3}").replace('Z', "+0000"),
            Err(_) => String::new(),
        }
    }

    /// Asks the reconciler to look at a function.
    pub(crate) async fn bring_about(&self, function: &Function) {
        let _ = self.inner.pending.send((function.owner.clone(), function.name.clone())).await;
    }
}

pub(crate) fn revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Inner {
    fn function_of(&self, key: &VersionKey) -> Option<Arc<Function>> {
        let owner = Owner { account: key.account.clone(), region: key.region.clone() };
        self.state.function(&owner, &key.name)
    }

    /// Resumes what a former process left undone, then brings about what is asked for, and what other servers leave.
    async fn reconcile_all(self: Arc<Self>) {
        let Some(mut to_do) = self.to_do.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.remove_unused_packages(None).await;
        let mut unfinished = self.state.unfinished();
        let mut reconciling = JoinSet::new();
        let mut look = tokio::time::interval(LEFT_EVERY);
        let mut seen: HashSet<(Owner, FunctionName)> = HashSet::new();
        loop {
            let next = match unfinished.pop() {
                Some(next) => next,
                None => tokio::select! {
                    next = to_do.recv() => match next {
                        Some(next) => next,
                        None => return,
                    },
                    _ = look.tick(), if self.ports.shared.is_some() => {
                        // Whoever is asked for a function brings it about itself, as long as it lives.
                        let now = self.state.unfinished();
                        unfinished = now.iter().filter(|function| seen.contains(*function)).cloned().collect();
                        seen = now.into_iter().collect();
                        continue;
                    }
                },
            };
            while reconciling.len() >= RECONCILING_MAX {
                reconciling.join_next().await;
            }
            while reconciling.try_join_next().is_some() {}
            let inner = self.clone();
            reconciling.spawn(async move { inner.reconcile_alone(&next.0, &next.1).await });
        }
    }

    /// Takes in what the others write. When it has lost sight of them, everything is read again.
    async fn follow(&self, mut follower: Box<dyn Follower>, shared: &Shared) {
        loop {
            let taken = match follower.next().await {
                Ok(changes) => self.state.take_in(changes).await,
                Err(error) => Err(error.into()),
            };
            let Err(mut error) = taken else { continue };
            let mut pause = FOLLOW_PAUSE;
            follower = loop {
                tracing::warn!(%error, "what other servers write cannot be followed: everything is read again");
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(FOLLOW_PAUSE_MAX);
                match self.catch_up(shared).await {
                    Ok(follower) => break follower,
                    Err(again) => error = again,
                }
            };
            tracing::info!("what other servers write is followed again");
        }
    }

    async fn catch_up(&self, shared: &Shared) -> Result<Box<dyn Follower>, OpenError> {
        let follower = shared.feed.follow(KINDS).await?;
        self.state.read_again().await?;
        Ok(follower)
    }

    /// Reconciles, where servers share the records by whoever of them has the lease.
    async fn reconcile_alone(&self, owner: &Owner, name: &FunctionName) {
        let Some(shared) = &self.ports.shared else { return self.reconcile(owner, name, None).await };
        match shared.leases.take(&format!("{FUNCTION} {} {name}", owner.partition())).await {
            // Another is at it.
            Ok(None) => {}
            Ok(Some(lease)) => {
                lease.hold_during(self.reconcile(owner, name, Some(&lease))).await;
                if let Err(error) = lease.give_back().await {
                    tracing::warn!(%error, "a lease could not be given back: others wait until it has run out");
                }
            }
            Err(error) => tracing::error!(function = %name, %error, "the lease of a function could not be taken"),
        }
    }

    /// From intent to what runs: packages are unpacked, then the definition serves. Idempotent.
    async fn reconcile(&self, owner: &Owner, name: &FunctionName, lease: Option<&Lease>) {
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
        let replaced: Vec<CodeHash> = function.record.definitions().flat_map(|definition| definition.codes()).collect();
        let fence = lease.map(Lease::fence);
        let written = self.state.commit_while(owner, name, Some(&function), changes, fence).await;
        // A conflict is another server's: the feed tells of it.
        if let Err(WriteError::Store(error)) = written {
            tracing::error!(function = %name, %error, "a function's state could not be written");
        }
        drop(turn);
        self.remove_unused_packages(Some(replaced)).await;
    }

    pub(crate) async fn make_ready(&self, definition: &Definition) -> Result<(), MaterialsError> {
        match &definition.content {
            Content::Zip(zip) => {
                self.ports.packages.unpack(zip.code).await?;
                self.ports.packages.merge(zip.layers.iter().map(|layer| layer.code).collect()).await
            }
            Content::Image(content) => Ok(self.ports.images.fetch(content.image.clone()).await?),
        }
    }

    /// Removes packages that servers share and no record needs any more, and here what was unpacked of those that went.
    async fn sweep(&self, shared: &Shared) {
        let mut next = tokio::time::interval(SWEEP_EVERY);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            let swept = shared.blobs.sweep(|package| self.state.is_needed(package.into())).await;
            if let Err(error) = swept {
                tracing::warn!(%error, "packages that nobody needs could not be removed: it is tried again");
            }
            self.release(shared.blobs.gone().into_iter().map(CodeHash::from).collect()).await;
        }
    }

    /// Removes these packages, or with `None` every package, as far as no record needs them. Those that servers share go by
    /// the sweep.
    pub async fn remove_unused_packages(&self, only: Option<Vec<CodeHash>>) {
        if self.ports.shared.is_some() {
            return;
        }
        let candidates = match only {
            Some(codes) => codes,
            None => self.ports.blobs.list().await.unwrap_or_default().into_iter().map(CodeHash::from).collect(),
        };
        self.release(candidates).await;
    }

    async fn release(&self, mut candidates: Vec<CodeHash>) {
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

pub(crate) fn reason_code(error: &MaterialsError) -> &'static str {
    match error {
        MaterialsError::Code { .. } => "InvalidZipFileException",
        MaterialsError::Runtime { .. }
        | MaterialsError::RuntimeMissing(_)
        | MaterialsError::RuntimeVersionMissing { .. } => "InvalidRuntime",
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

    fn known(&self, arn: &FunctionArn) -> Found {
        match self.inner.state.function(&Owner::of(arn), &arn.name) {
            Some(function) => function.known(arn.qualifier.as_ref()),
            None => Err(LookupError::NotFound(arn.to_string())),
        }
    }

    fn wake(&self, arn: &FunctionArn) {
        let function = self.inner.state.function(&Owner::of(arn), &arn.name);
        if function.is_some_and(|function| function.rests()) {
            self.inner.wakes.ask(arn);
        }
    }

    fn reservation(&self, key: &VersionKey) -> Reservation {
        match self.inner.function_of(key) {
            Some(function) => {
                // What is provisioned has its environments; calls on demand share the rest.
                let provisioned = function.record.total_provisioned();
                let own = function.record.reserved_concurrency.map(|reserved| reserved.saturating_sub(provisioned));
                Reservation { function: own, account: function.totals.reserved() }
            }
            None => Reservation::default(),
        }
    }

    fn set_aside(&self, account: &AccountId, region: &Region) -> u32 {
        self.inner.state.totals(&Owner { account: account.clone(), region: region.clone() }).reserved()
    }

    fn allows_loops(&self, key: &VersionKey) -> bool {
        self.inner.function_of(key).is_some_and(|function| function.record.recursion_allowed)
    }

    fn provisions(&self) -> Vec<Provision> {
        let functions = self.inner.state.provisioned();
        let provisions = functions.iter().flat_map(|function| {
            let records = function.record.provisioned.iter();
            records.filter_map(|(qualifier, record)| function.provision(qualifier, record))
        });
        provisions.collect()
    }

    fn lets_invoke(&self, arn: &FunctionArn, caller: &AccountId) -> bool {
        self.permits(arn, caller, "lambda:InvokeFunction")
    }

    fn is_current(&self, key: &VersionKey) -> bool {
        self.inner.function_of(key).is_some_and(|function| function.runs(key.version, key.generation))
    }
}
