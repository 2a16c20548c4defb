//! A control room on the engines without a disk, with packages that are anything that begins with `PK`.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hearth_control::{Config, Control, Dependents, Ports, Shared};
use hearth_identity::Identity;
use hearth_model::{
    AdmitError, Admitted, Architecture, BoxFuture, Checked, Clock, CodeHash, ContainerImages, FunctionArn, FunctionRef,
    Image, ImageError, MaterialsError, Packages, Pieces, Quotas, Runtime, RuntimeVersions, StoredPackage,
    StoredPackageError, StoredPackageRef, StoredPackages,
};
use hearth_store::{Blobs, Feed, Leases, MemoryBlobs, MemoryRecords, Records, SharedBlobs, Write};
use hearth_wire::{Blob, Context, Error};
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{AliasesApi, CodeApi, FunctionsApi, LayersApi, VersionsApi};
use sha2::{Digest, Sha256};

pub const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:";

/// Keeps nothing of functions.
struct Nobody;

impl Dependents for Nobody {
    fn removal(&self, _: &FunctionArn) -> Vec<Write> {
        Vec::new()
    }

    fn removed(&self, _: &FunctionArn) {}
}

/// Unpacking waits for `open`.
pub struct TestPackages {
    blobs: Arc<dyn Blobs>,
    open: AtomicBool,
    opened: tokio::sync::Notify,
}

impl TestPackages {
    async fn wait(&self) {
        while !self.open.load(Ordering::Acquire) {
            self.opened.notified().await;
        }
    }
}

/// No name is one of an image.
struct NoImages;

impl ContainerImages for NoImages {
    fn resolve(&self, uri: String, _: Architecture) -> BoxFuture<'_, Result<Image, ImageError>> {
        Box::pin(std::future::ready(Err(ImageError::Missing { uri })))
    }

    fn fetch(&self, image: Arc<Image>) -> BoxFuture<'_, Result<(), ImageError>> {
        Box::pin(std::future::ready(Err(ImageError::Missing { uri: image.uri.clone() })))
    }
}

impl RuntimeVersions for NoImages {
    fn current(&self, _: Runtime) -> Option<CodeHash> {
        None
    }

    fn is_kept(&self, _: Runtime, _: CodeHash) -> bool {
        false
    }
}

impl Packages for TestPackages {
    fn check(&self, zip: Pieces) -> BoxFuture<'_, Result<Checked, AdmitError>> {
        Box::pin(async move {
            let zip = joined(zip).await;
            if !zip.starts_with(b"PK") {
                return Err(AdmitError::NotAZip("no".to_owned()));
            }
            let zipped = zip.len() as u64;
            // `PK+N` unpacks to N bytes.
            let told = zip.strip_prefix(b"PK+").and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
            let code = CodeHash(Sha256::digest(&zip).into());
            let (admitted, blobs) = (Admitted { code, zipped, unzipped: told.unwrap_or(zipped) }, self.blobs.clone());
            let keep =
                Box::pin(
                    async move { blobs.put(zip).await.map(drop).map_err(|e| AdmitError::Io(e.to_string().into())) },
                );
            Ok(Checked { admitted, keep })
        })
    }

    fn unpack(&self, _: CodeHash) -> BoxFuture<'_, Result<(), MaterialsError>> {
        Box::pin(async move {
            self.wait().await;
            Ok(())
        })
    }

    fn merge(&self, _: Vec<CodeHash>) -> BoxFuture<'_, Result<(), MaterialsError>> {
        Box::pin(async { Ok(()) })
    }

    fn release(&self, code: CodeHash) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.blobs.delete(code.into()).await.unwrap() })
    }
}

async fn joined(mut pieces: Pieces) -> Bytes {
    let mut whole = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| pieces.as_mut().poll_next(cx)).await {
        whole.extend_from_slice(&piece.unwrap());
    }
    whole.into()
}

/// Objects by `BUCKET/KEY`.
#[derive(Default)]
pub struct TestStored(pub std::sync::Mutex<BTreeMap<String, &'static str>>);

impl StoredPackages for TestStored {
    fn open(&self, at: StoredPackageRef) -> BoxFuture<'_, Result<StoredPackage, StoredPackageError>> {
        Box::pin(async move {
            let found = self.0.lock().unwrap().get(&format!("{}/{}", at.bucket, at.key)).copied();
            let bytes = found.ok_or_else(|| StoredPackageError {
                code: "NoSuchKey".to_owned(),
                message: "The specified key does not exist.".to_owned(),
            })?;
            let pieces = Box::pin(Once(Some(Bytes::from_static(bytes.as_bytes()))));
            Ok(StoredPackage { size: bytes.len() as u64, version: Some("v1".to_owned()), pieces })
        })
    }
}

struct Once(Option<Bytes>);

impl futures_core::Stream for Once {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

/// The runtime's clock, which tests may pause.
pub struct Paused(std::time::SystemTime, tokio::time::Instant);

impl Paused {
    pub fn new() -> Arc<Self> {
        Arc::new(Paused(std::time::SystemTime::now(), tokio::time::Instant::now()))
    }
}

impl Clock for Paused {
    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }

    fn wall(&self) -> std::time::SystemTime {
        self.0 + self.1.elapsed()
    }
}

pub struct World {
    pub control: Control,
    pub packages: Arc<TestPackages>,
    pub records: Arc<dyn Records>,
    pub blobs: Arc<MemoryBlobs>,
    pub stored: Arc<TestStored>,
    pub clock: Arc<Paused>,
    pub config: Config,
    pub cx: Context,
    pub reconciler: tokio::task::JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        Self::on(Arc::new(MemoryRecords::default()), Quotas::default()).await
    }

    pub async fn on(records: Arc<dyn Records>, quotas: Quotas) -> Self {
        let blobs = Arc::new(MemoryBlobs::default());
        Self::opened(records, blobs, config(quotas), None).await
    }

    /// One of the servers that share these.
    pub async fn among(records: &MemoryRecords, blobs: &Arc<MemoryBlobs>) -> Self {
        Self::with_feed(records, blobs, Arc::new(records.clone())).await
    }

    pub async fn with_feed(records: &MemoryRecords, blobs: &Arc<MemoryBlobs>, feed: Arc<dyn Feed>) -> Self {
        let clock = Paused::new();
        let leases = Leases::new(Arc::new(records.clone()), clock.clone());
        let kept = SharedBlobs::new(Arc::new(records.clone()), blobs.clone(), clock, leases.clone());
        let shared = Shared { feed, leases, blobs: kept };
        Self::opened(Arc::new(records.clone()), blobs.clone(), config(Quotas::default()), Some(shared)).await
    }

    /// One in which who is not called for so long becomes inactive.
    pub async fn idling(idle_timeout: Duration) -> Self {
        let config = Config { idle_timeout, ..config(Quotas::default()) };
        Self::opened(Arc::new(MemoryRecords::default()), Arc::new(MemoryBlobs::default()), config, None).await
    }

    async fn opened(
        records: Arc<dyn Records>,
        blobs: Arc<MemoryBlobs>,
        config: Config,
        shared: Option<Shared>,
    ) -> Self {
        let clock = Paused::new();
        let opened = tokio::sync::Notify::new();
        let kept: Arc<dyn Blobs> = match &shared {
            Some(shared) => Arc::new(shared.blobs.clone()),
            None => blobs.clone(),
        };
        let packages = Arc::new(TestPackages { blobs: kept.clone(), open: AtomicBool::new(true), opened });
        let stored = Arc::new(TestStored::default());
        let (control, reconciler) = open(&records, &packages, &kept, &stored, (&clock, config.clone()), shared).await;
        World { control, packages, records, blobs, stored, clock, config, cx: context("000000000000"), reconciler }
    }

    /// The same store, opened again.
    pub async fn restarted(self) -> Self {
        self.reconciler.abort();
        let blobs = &self.packages.blobs;
        let with = (&self.clock, self.config.clone());
        let (control, reconciler) = open(&self.records, &self.packages, blobs, &self.stored, with, None).await;
        World { control, reconciler, ..self }
    }

    pub fn hold(&self) {
        self.packages.open.store(false, Ordering::Release);
    }

    pub fn let_go(&self) {
        self.packages.open.store(true, Ordering::Release);
        self.packages.opened.notify_waiters();
    }

    pub async fn create(&self, name: &str) -> Result<FunctionConfiguration, Error> {
        self.control.create_function(&self.cx, a_function(name)).await
    }

    pub async fn try_configuration(&self, name: &str) -> Option<FunctionConfiguration> {
        let input = GetFunctionConfigurationRequest { function_name: Some(name.to_owned()), qualifier: None };
        self.control.get_function_configuration(&self.cx, input).await.ok()
    }

    /// A function that is ready.
    pub async fn made(&self, name: &str) -> FunctionConfiguration {
        self.create(name).await.expect("it is created");
        self.until_settled(name).await
    }

    pub async fn configuration(&self, name: &str) -> FunctionConfiguration {
        self.try_configuration(name).await.unwrap()
    }

    pub async fn until_settled(&self, name: &str) -> FunctionConfiguration {
        let settled = async {
            loop {
                let found = self.configuration(name).await;
                if found.last_update_status.as_deref() == Some("Successful") {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled).await.expect("the reconciler brings it about")
    }

    pub async fn update_code(&self, name: &str, zip: &str) -> Result<FunctionConfiguration, Error> {
        let input = UpdateFunctionCodeRequest {
            function_name: Some(name.to_owned()),
            zip_file: blob(zip),
            ..UpdateFunctionCodeRequest::default()
        };
        self.control.update_function_code(&self.cx, input).await
    }

    /// Other code, and the version that it is published as.
    pub async fn next_version(&self, name: &str, zip: &str) -> FunctionConfiguration {
        self.update_code(name, zip).await.expect("it is updated");
        self.until_settled(name).await;
        self.publish(name).await.expect("it is published")
    }

    pub async fn publish(&self, name: &str) -> Result<FunctionConfiguration, Error> {
        let input = PublishVersionRequest { function_name: Some(name.to_owned()), ..PublishVersionRequest::default() };
        self.control.publish_version(&self.cx, input).await
    }

    pub async fn alias(&self, name: &str, alias: &str, version: &str) -> Result<AliasConfiguration, Error> {
        let input = CreateAliasRequest {
            function_name: Some(name.to_owned()),
            name: Some(alias.to_owned()),
            function_version: Some(version.to_owned()),
            ..CreateAliasRequest::default()
        };
        self.control.create_alias(&self.cx, input).await
    }

    pub async fn delete(&self, name: &str) -> Result<DeleteFunctionResponse, Error> {
        let input = DeleteFunctionRequest { function_name: Some(name.to_owned()), qualifier: None };
        self.control.delete_function(&self.cx, input).await
    }

    pub async fn layer(&self, name: &str, zip: &str) -> Result<PublishLayerVersionResponse, Error> {
        let input = PublishLayerVersionRequest {
            layer_name: Some(name.to_owned()),
            content: Some(LayerVersionContentInput { zip_file: blob(zip), ..LayerVersionContentInput::default() }),
            ..PublishLayerVersionRequest::default()
        };
        self.control.publish_layer_version(&self.cx, input).await
    }
}

async fn open(
    records: &Arc<dyn Records>,
    packages: &Arc<TestPackages>,
    blobs: &Arc<dyn Blobs>,
    stored: &Arc<TestStored>,
    (clock, config): (&Arc<Paused>, Config),
    shared: Option<Shared>,
) -> (Control, tokio::task::JoinHandle<()>) {
    let identity = hearth_identity::Ports { records: records.clone(), clock: clock.clone() };
    let ports = Ports {
        identity: Identity::open(identity).await.unwrap(),
        records: records.clone(),
        packages: packages.clone(),
        images: Arc::new(NoImages),
        runtimes: Arc::new(NoImages),
        blobs: blobs.clone(),
        stored: stored.clone(),
        dependents: Arc::new(Nobody),
        clock: clock.clone(),
        shared,
    };
    let control = Control::open(config, ports).await.unwrap();
    let reconciler = tokio::spawn(control.clone().run());
    (control, reconciler)
}

fn config(quotas: Quotas) -> Config {
    Config { quotas, check_roles: false, idle_timeout: Duration::from_secs(14 * 24 * 3600) }
}

pub fn context(account: &str) -> Context {
    Context::new(account, "us-east-1", "r", "localhost", None)
}

pub fn blob(zip: &str) -> Option<Blob> {
    Some(Blob(Bytes::copy_from_slice(zip.as_bytes())))
}

pub fn a_function(name: &str) -> CreateFunctionRequest {
    CreateFunctionRequest {
        function_name: Some(name.to_owned()),
        runtime: Some("python3.11".to_owned()),
        handler: Some("index.handler".to_owned()),
        role: Some("arn:aws:iam::000000000000:role/r".to_owned()),
        code: Some(FunctionCode { zip_file: blob("PK1"), ..FunctionCode::default() }),
        ..CreateFunctionRequest::default()
    }
}

pub fn arn(name: &str) -> FunctionArn {
    let (account, region) = (hearth_model::AccountId::default_account(), hearth_model::Region::default_region());
    FunctionRef::parse(name).unwrap().resolve(&account, &region, None).unwrap()
}

/// Status and text of a refusal.
pub fn refusal<T>(result: Result<T, Error>) -> (u16, String) {
    let error = result.err().expect("it is refused");
    (error.status, error.message.unwrap_or_default())
}
