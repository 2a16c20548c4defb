//! Functions through the service's own traits.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use hearth_model::{Functions, LookupError};
use hearth_store::Blobs;
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{AccountApi, CodeApi, FunctionsApi};

use support::{World, a_function, arn, blob, refusal};

impl World {
    fn generation(&self, name: &str) -> u64 {
        self.control.find(&arn(name)).ok().unwrap().primary.unwrap().key.generation
    }
}

#[tokio::test]
async fn a_function_is_pending_until_its_package_is_ready() {
    let world = World::new().await;
    world.hold();
    let created = world.create("f").await.ok().unwrap();
    assert_eq!((created.state.as_deref(), created.state_reason_code.as_deref()), (Some("Pending"), Some("Creating")));
    assert_eq!(created.last_update_status, None);
    assert!(matches!(world.control.find(&arn("f")).unwrap().primary, Err(LookupError::NotReady("Pending"))));
    assert_eq!(refusal(world.update_code("f", "PK2").await).0, 409);
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
    let updating = world.update_code("f", "PK2").await.ok().unwrap();
    assert_eq!(updating.last_update_status.as_deref(), Some("InProgress"));
    assert_eq!(world.generation("f"), before);
    let (status, text) = refusal(world.update_code("f", "PK3").await);
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
    world.delete("a").await.ok().unwrap();
    assert_eq!(world.blobs.list().await.unwrap().len(), 1);
    world.delete("b").await.ok().unwrap();
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
    let restarted = world.restarted().await;
    restarted.until_settled("f").await;
    assert!(!restarted.blobs.list().await.unwrap().contains(&orphan.into()));
}

#[tokio::test]
async fn code_may_lie_in_a_bucket() {
    let world = World::new().await;
    world.stored.0.lock().unwrap().extend([("b/a".to_owned(), "PK-a"), ("b/bad".to_owned(), "no zip")]);
    let from = |key: &str, mode: Option<&str>| CreateFunctionRequest {
        code: Some(FunctionCode {
            s3_bucket: Some("b".to_owned()),
            s3_key: Some(key.to_owned()),
            s3_object_storage_mode: mode.map(str::to_owned),
            ..FunctionCode::default()
        }),
        ..a_function("f")
    };
    let text = |key: &str| {
        let (world, input) = (&world, from(key, None));
        async move { refusal(world.control.create_function(&world.cx, input).await) }
    };
    let missing =
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.";
    assert_eq!(text("none").await, (400, missing.to_owned()));
    assert_eq!(text("bad").await.0, 400);
    assert!(world.blobs.list().await.unwrap().is_empty());
    let created = world.control.create_function(&world.cx, from("a", Some("REFERENCE"))).await.ok().unwrap();
    assert_eq!(created.code_size, Some(4));
    world.until_settled("f").await;
    let input = GetFunctionRequest { function_name: Some("f".to_owned()), qualifier: None };
    let resolved =
        world.control.get_function(&world.cx, input.clone()).await.ok().unwrap().code.unwrap().resolved_s3_object;
    assert_eq!(resolved.unwrap().s3_object_version.as_deref(), Some("v1"));
    let other = UpdateFunctionCodeRequest {
        function_name: Some("f".to_owned()),
        s3_bucket: Some("b".to_owned()),
        s3_key: Some("a".to_owned()),
        ..UpdateFunctionCodeRequest::default()
    };
    let dry = UpdateFunctionCodeRequest { dry_run: Some(true), ..other.clone() };
    world.control.update_function_code(&world.cx, dry).await.ok().unwrap();
    world.control.update_function_code(&world.cx, other).await.ok().unwrap();
    world.until_settled("f").await;
    let found = world.control.get_function(&world.cx, input).await.ok().unwrap();
    assert!(found.code.unwrap().resolved_s3_object.is_none());
}

#[tokio::test]
async fn texts_are_awss() {
    let world = World::new().await;
    world.create("f").await.ok().unwrap();
    assert_eq!(refusal(world.create("f").await), (409, "Function already exist: f".to_owned()));
    let mut bad = a_function("g");
    bad.code = Some(FunctionCode { zip_file: blob("no"), ..FunctionCode::default() });
    let (status, text) = refusal(world.control.create_function(&world.cx, bad).await);
    assert_eq!(status, 400);
    assert_eq!(text, "Could not unzip uploaded file. Please check your file, then try to upload again.");
    let mut stale = UpdateFunctionConfigurationRequest {
        function_name: Some("f".to_owned()),
        revision_id: Some("old".to_owned()),
        ..UpdateFunctionConfigurationRequest::default()
    };
    world.until_settled("f").await;
    assert_eq!(refusal(world.control.update_function_configuration(&world.cx, stale.clone()).await).0, 412);
    stale.function_name = Some("nobody".to_owned());
    let (status, text) = refusal(world.control.update_function_configuration(&world.cx, stale).await);
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
