//! Functions through the service's own traits, on the engines without a disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hearth_control::{Config, Control, Ports};
use hearth_model::{
    AdmitError, Admitted, BoxFuture, CodeHash, FunctionArn, FunctionRef, Functions, LookupError, MaterialsError,
    Packages, Quotas, SystemClock,
};
use hearth_store::{Blobs, MemoryBlobs, MemoryRecords};
use hearth_wire::{Blob, Context, Error};
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{AccountApi, CodeApi, FunctionsApi};

/// Packages that are anything that begins with `PK`; unpacking waits for `open`.
struct TestPackages {
    blobs: Arc<MemoryBlobs>,
    open: AtomicBool,
    opened: tokio::sync::Notify,
}

impl Packages for TestPackages {
    fn admit(&self, zip: Bytes) -> BoxFuture<'_, Result<Admitted, AdmitError>> {
        Box::pin(async move {
            if !zip.starts_with(b"PK") {
                return Err(AdmitError::NotAZip("no".to_owned()));
            }
            let zipped = zip.len() as u64;
            Ok(Admitted { code: self.blobs.put(zip).await.unwrap(), zipped, unzipped: zipped })
        })
    }

    fn check(&self, zip: Bytes) -> BoxFuture<'_, Result<Admitted, AdmitError>> {
        self.admit(zip)
    }

    fn unpack(&self, _: CodeHash) -> BoxFuture<'_, Result<(), MaterialsError>> {
        Box::pin(async move {
            while !self.open.load(Ordering::Acquire) {
                self.opened.notified().await;
            }
            Ok(())
        })
    }

    fn release(&self, code: CodeHash) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.blobs.delete(code).await.unwrap() })
    }
}

struct World {
    control: Control,
    packages: Arc<TestPackages>,
    records: Arc<MemoryRecords>,
    blobs: Arc<MemoryBlobs>,
    cx: Context,
    reconciler: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let blobs = Arc::new(MemoryBlobs::default());
        let opened = tokio::sync::Notify::new();
        let packages = Arc::new(TestPackages { blobs: blobs.clone(), open: AtomicBool::new(true), opened });
        let records = Arc::new(MemoryRecords::default());
        let (control, reconciler) = open(&records, &packages, &blobs).await;
        let cx = Context::new("000000000000", "us-east-1", "r", "localhost", None);
        World { control, packages, records, blobs, cx, reconciler }
    }

    fn hold(&self) {
        self.packages.open.store(false, Ordering::Release);
    }

    fn let_go(&self) {
        self.packages.open.store(true, Ordering::Release);
        self.packages.opened.notify_waiters();
    }

    async fn create(&self, name: &str) -> Result<FunctionConfiguration, Error> {
        self.control.create_function(&self.cx, a_function(name)).await
    }

    async fn configuration(&self, name: &str) -> FunctionConfiguration {
        let input = GetFunctionConfigurationRequest { function_name: Some(name.to_owned()), qualifier: None };
        self.control.get_function_configuration(&self.cx, input).await.ok().unwrap()
    }

    async fn until_settled(&self, name: &str) -> FunctionConfiguration {
        let settled = async {
            loop {
                let found = self.configuration(name).await;
                if found.last_update_status.as_deref() == Some("Successful") {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), settled).await.expect("the reconciler brings it about")
    }

    async fn update_code(&self, name: &str, zip: &'static [u8]) -> Result<FunctionConfiguration, Error> {
        let input = UpdateFunctionCodeRequest {
            function_name: Some(name.to_owned()),
            zip_file: Some(Blob(Bytes::from_static(zip))),
            ..UpdateFunctionCodeRequest::default()
        };
        self.control.update_function_code(&self.cx, input).await
    }

    fn generation(&self, name: &str) -> u64 {
        self.control.find(&arn(name)).ok().unwrap().key.generation
    }
}

async fn open(
    records: &Arc<MemoryRecords>,
    packages: &Arc<TestPackages>,
    blobs: &Arc<MemoryBlobs>,
) -> (Control, tokio::task::JoinHandle<()>) {
    let ports = Ports {
        records: records.clone(),
        packages: packages.clone(),
        blobs: blobs.clone(),
        clock: Arc::new(SystemClock),
    };
    let control = Control::open(Config { quotas: Quotas::default() }, ports).await.unwrap();
    let reconciler = tokio::spawn(control.clone().run());
    (control, reconciler)
}

fn a_function(name: &str) -> CreateFunctionRequest {
    CreateFunctionRequest {
        function_name: Some(name.to_owned()),
        runtime: Some("python3.11".to_owned()),
        handler: Some("index.handler".to_owned()),
        role: Some("arn:aws:iam::000000000000:role/r".to_owned()),
        code: Some(FunctionCode { zip_file: Some(Blob(Bytes::from_static(b"PK1"))), ..FunctionCode::default() }),
        ..CreateFunctionRequest::default()
    }
}

fn arn(name: &str) -> FunctionArn {
    let (account, region) = (hearth_model::AccountId::default_account(), hearth_model::Region::default_region());
    FunctionRef::parse(name).unwrap().resolve(&account, &region, None).unwrap()
}

fn message(result: Result<FunctionConfiguration, Error>) -> (u16, String) {
    let error = result.err().expect("it is refused");
    (error.status, error.message.unwrap_or_default())
}

#[tokio::test]
async fn a_function_is_pending_until_its_package_is_ready() {
    let world = World::new().await;
    world.hold();
    let created = world.create("f").await.ok().unwrap();
    assert_eq!((created.state.as_deref(), created.state_reason_code.as_deref()), (Some("Pending"), Some("Creating")));
    assert_eq!(created.last_update_status, None);
    assert!(matches!(world.control.find(&arn("f")), Err(LookupError::NotReady("Pending"))));
    assert_eq!(message(world.update_code("f", b"PK2").await).0, 409);
    world.let_go();
    let active = world.until_settled("f").await;
    assert_eq!(active.state.as_deref(), Some("Active"));
    assert_ne!(active.revision_id, created.revision_id);
}

#[tokio::test]
async fn an_update_serves_the_old_code_until_the_new_is_ready() {
    let world = World::new().await;
    world.create("f").await.ok().unwrap();
    world.until_settled("f").await;
    let before = world.generation("f");
    world.hold();
    let updating = world.update_code("f", b"PK2").await.ok().unwrap();
    assert_eq!(updating.last_update_status.as_deref(), Some("InProgress"));
    assert_eq!(world.generation("f"), before);
    let (status, text) = message(world.update_code("f", b"PK3").await);
    assert_eq!((status, text.ends_with("function:f")), (409, true), "{text}");
    world.let_go();
    world.until_settled("f").await;
    assert!(world.generation("f") > before);
}

#[tokio::test]
async fn packages_live_as_long_as_somebody_needs_them() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.create(name).await.ok().unwrap();
        world.until_settled(name).await;
    }
    let delete = |name: &str| DeleteFunctionRequest { function_name: Some(name.to_owned()), qualifier: None };
    world.control.delete_function(&world.cx, delete("a")).await.ok().unwrap();
    assert_eq!(world.blobs.list().await.unwrap().len(), 1);
    world.control.delete_function(&world.cx, delete("b")).await.ok().unwrap();
    assert!(world.blobs.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_left_undone_is_resumed_after_a_restart() {
    let world = World::new().await;
    world.hold();
    world.create("f").await.ok().unwrap();
    let orphan = world.blobs.put(Bytes::from_static(b"PK-nobody")).await.unwrap();
    world.reconciler.abort();
    world.let_go();
    let (control, reconciler) = open(&world.records, &world.packages, &world.blobs).await;
    let restarted = World { control, reconciler, ..world };
    restarted.until_settled("f").await;
    assert!(!restarted.blobs.list().await.unwrap().contains(&orphan));
}

#[tokio::test]
async fn texts_are_awss() {
    let world = World::new().await;
    world.create("f").await.ok().unwrap();
    assert_eq!(message(world.create("f").await), (409, "Function already exist: f".to_owned()));
    let mut bad = a_function("g");
    bad.code = Some(FunctionCode { zip_file: Some(Blob(Bytes::from_static(b"no"))), ..FunctionCode::default() });
    let (status, text) = message(world.control.create_function(&world.cx, bad).await);
    assert_eq!(status, 400);
    assert_eq!(text, "Could not unzip uploaded file. Please check your file, then try to upload again.");
    let mut layered = a_function("g");
    layered.layers = Some(vec!["l".to_owned()]);
    let (status, text) = message(world.control.create_function(&world.cx, layered).await);
    assert_eq!((status, text.as_str()), (501, "Hearth does not support lambda:CreateFunction with Layers."));
    let mut stale = UpdateFunctionConfigurationRequest {
        function_name: Some("f".to_owned()),
        revision_id: Some("old".to_owned()),
        ..UpdateFunctionConfigurationRequest::default()
    };
    world.until_settled("f").await;
    assert_eq!(message(world.control.update_function_configuration(&world.cx, stale.clone()).await).0, 412);
    stale.function_name = Some("nobody".to_owned());
    let (status, text) = message(world.control.update_function_configuration(&world.cx, stale).await);
    assert_eq!(status, 404);
    assert_eq!(text, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody");
}

#[tokio::test]
async fn lists_are_paged_and_leave_states_out() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create(name).await.ok().unwrap();
    }
    let page =
        |marker: Option<String>| ListFunctionsRequest { max_items: Some(2), marker, ..ListFunctionsRequest::default() };
    let first = world.control.list_functions(&world.cx, page(None)).await.ok().unwrap();
    let second = world.control.list_functions(&world.cx, page(first.next_marker.clone())).await.ok().unwrap();
    let names = |found: &ListFunctionsResponse| {
        let functions = found.functions.iter().flatten();
        functions.map(|function| function.function_name.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((names(&first), names(&second)), (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
    assert_eq!(second.next_marker, None);
    assert!(first.functions.iter().flatten().all(|function| function.state.is_none()));
    let settings = GetAccountSettingsRequest::default();
    let usage = world.control.get_account_settings(&world.cx, settings).await.ok().unwrap().account_usage.unwrap();
    assert_eq!((usage.function_count, usage.total_code_size), (Some(3), Some(9)));
}

#[tokio::test]
async fn environments_come_back_as_they_were_given() {
    let world = World::new().await;
    let mut input = a_function("f");
    let variables = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
    input.environment = Some(Environment { variables: Some(variables.clone()) });
    world.control.create_function(&world.cx, input).await.ok().unwrap();
    let found = world.until_settled("f").await;
    assert_eq!(found.environment.unwrap().variables, Some(variables));
}
