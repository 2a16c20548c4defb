//! Versions, aliases, layers and what goes with a function, through the service's own traits.

mod support;

use std::sync::Arc;

use hearth_model::{Functions, LookupError, Program, Quotas, Version};
use hearth_store::{Blobs, MemoryRecords};
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{
    AccountApi, AliasesApi, CodeApi, CodeSigningApi, FunctionsApi, LayersApi, PoliciesApi, ReservedConcurrencyApi,
    TagsApi, VersionsApi,
};

use support::{ARN, World, a_function, arn, blob, context, refusal};

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

impl World {
    async fn delete_version(&self, name: &str, number: &str) -> Result<(), hearth_wire::Error> {
        let input = DeleteFunctionRequest { function_name: named(name), qualifier: named(number) };
        self.control.delete_function(&self.cx, input).await.map(drop)
    }

    async fn versions(&self, name: &str) -> Vec<String> {
        let input = ListVersionsByFunctionRequest { function_name: named(name), ..Default::default() };
        let listed = self.control.list_versions_by_function(&self.cx, input).await.ok().unwrap();
        listed.versions.unwrap().into_iter().map(|version| version.version.unwrap()).collect()
    }

    async fn usage(&self) -> (i64, i64, i64) {
        let input = GetAccountSettingsRequest::default();
        let settings = self.control.get_account_settings(&self.cx, input).await.ok().unwrap();
        let (usage, limit) = (settings.account_usage.unwrap(), settings.account_limit.unwrap());
        let unreserved = limit.unreserved_concurrent_executions.unwrap();
        (usage.function_count.unwrap(), usage.total_code_size.unwrap(), unreserved)
    }

    async fn reserve(&self, name: &str, count: i64) -> Result<(), hearth_wire::Error> {
        let input =
            PutFunctionConcurrencyRequest { function_name: named(name), reserved_concurrent_executions: Some(count) };
        self.control.put_function_concurrency(&self.cx, input).await.map(drop)
    }

    /// The version that an invocation of this name runs.
    fn runs(&self, name: &str) -> Result<Version, LookupError> {
        self.control.find(&arn(name))?.primary.map(|found| found.key.version)
    }
}

#[tokio::test]
async fn publishing_what_has_not_changed_answers_the_version_that_is_there() {
    let world = World::new().await;
    let before = world.made("f").await;
    let first = world.publish("f").await.ok().unwrap();
    assert_eq!((first.version.as_deref(), first.function_arn.unwrap()), (Some("1"), format!("{ARN}f:1")));
    assert_eq!((first.state.as_deref(), first.last_update_status.as_deref()), (Some("Active"), Some("Successful")));
    assert_ne!(world.configuration("f").await.revision_id, before.revision_id);
    let again = PublishVersionRequest {
        function_name: named("f"),
        description: named("ignored"),
        ..PublishVersionRequest::default()
    };
    let again = world.control.publish_version(&world.cx, again).await.ok().unwrap();
    assert_eq!((again.version, again.revision_id), (first.version, first.revision_id));
    assert_eq!(again.description.as_deref(), Some(""));
    assert_eq!(world.next_version("f", "PK2").await.version.as_deref(), Some("2"));
    // The same values once more are no news.
    assert_eq!(world.next_version("f", "PK2").await.version.as_deref(), Some("2"));
    assert_eq!(world.next_version("f", "PK1").await.version.as_deref(), Some("3"));
}

#[tokio::test]
async fn numbers_are_never_given_twice() {
    let world = World::new().await;
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    world.next_version("f", "PK2").await;
    world.delete_version("f", "2").await.ok().unwrap();
    assert_eq!(world.versions("f").await, ["$LATEST", "1"]);
    assert_eq!(world.publish("f").await.ok().unwrap().version.as_deref(), Some("3"));
    let world = world.restarted().await;
    world.delete_version("f", "3").await.ok().unwrap();
    assert_eq!(world.publish("f").await.ok().unwrap().version.as_deref(), Some("4"));
    assert_eq!(world.versions("f").await, ["$LATEST", "1", "4"]);
}

#[tokio::test]
async fn a_version_is_what_latest_was_and_stays_so() {
    let world = World::new().await;
    world.made("f").await;
    let first = world.publish("f").await.ok().unwrap();
    world.next_version("f", "PK2").await;
    let input = GetFunctionConfigurationRequest { function_name: named("f:1"), qualifier: None };
    let found = world.control.get_function_configuration(&world.cx, input).await.ok().unwrap();
    assert_eq!((found.code_sha256, found.revision_id), (first.code_sha256, first.revision_id));
    let keys =
        ["f", "f:1", "f:2"].map(|name| world.control.find(&arn(name)).ok().unwrap().primary.unwrap().key.clone());
    assert!(keys.iter().all(|key| world.control.is_current(key)));
    assert_eq!(keys.map(|key| key.version), [Version::Latest, Version::Number(1), Version::Number(2)]);
    assert_eq!(world.runs("f:3").unwrap_err(), LookupError::NotFound(format!("{ARN}f:3")));
}

#[tokio::test]
async fn environments_of_a_deleted_functions_version_are_not_those_of_its_successor() {
    let world = World::new().await;
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    let old = world.control.find(&arn("f:1")).ok().unwrap().primary.unwrap().key.clone();
    world.delete("f").await.ok().unwrap();
    assert!(!world.control.is_current(&old));
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    assert!(!world.control.is_current(&old));
}

#[tokio::test]
async fn a_function_created_with_publish_has_version_one_which_becomes_active_with_it() {
    let world = World::new().await;
    world.hold();
    let input = CreateFunctionRequest { publish: Some(true), ..a_function("f") };
    let created = world.control.create_function(&world.cx, input).await.ok().unwrap();
    assert_eq!((created.version.as_deref(), created.function_arn.unwrap()), (Some("1"), format!("{ARN}f")));
    assert_eq!(created.state.as_deref(), Some("Pending"));
    assert_eq!(world.runs("f:1").unwrap_err(), LookupError::NotReady("Pending"));
    world.let_go();
    world.until_settled("f").await;
    assert_eq!(world.runs("f:1"), Ok(Version::Number(1)));
}

#[tokio::test]
async fn publication_has_preconditions() {
    let world = World::new().await;
    let made = world.made("f").await;
    let with = |code_sha256: Option<&str>, revision_id: Option<&str>| PublishVersionRequest {
        function_name: named("f"),
        code_sha256: code_sha256.map(str::to_owned),
        revision_id: revision_id.map(str::to_owned),
        ..PublishVersionRequest::default()
    };
    let sha = made.code_sha256.clone().unwrap();
    let (status, text) = refusal(world.control.publish_version(&world.cx, with(Some("x"), None)).await);
    let expected = format!(
        "CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({sha}). Please try again with the CodeSHA256 in \
         $LATEST."
    );
    assert_eq!((status, text), (400, expected));
    let (status, text) = refusal(world.control.publish_version(&world.cx, with(None, Some("x"))).await);
    assert_eq!((status, text.starts_with("The Revision Id provided does not match")), (412, true));
    let right = with(Some(&sha), made.revision_id.as_deref());
    assert!(world.control.publish_version(&world.cx, right).await.is_ok());
}

#[tokio::test]
async fn a_version_that_an_alias_points_at_stays() {
    let world = World::new().await;
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    world.alias("f", "live", "1").await.ok().unwrap();
    let (status, text) = refusal(world.delete_version("f", "1").await);
    assert_eq!(status, 409);
    assert_eq!(text, "Unable to delete version because the following aliases reference it: [live]");
    assert_eq!(world.runs("f:live"), Ok(Version::Number(1)));
    let gone = DeleteAliasRequest { function_name: named("f"), name: named("live") };
    for _ in 0..2 {
        world.control.delete_alias(&world.cx, gone.clone()).await.ok().unwrap();
    }
    world.delete_version("f", "1").await.ok().unwrap();
    assert_eq!(world.runs("f:live").unwrap_err(), LookupError::NotFound(format!("{ARN}f:live")));
}

#[tokio::test]
async fn weights_need_two_published_versions_with_one_role() {
    let world = World::new().await;
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    world.next_version("f", "PK2").await;
    let alias = |version: &str, weights: &[(&str, f64)]| CreateAliasRequest {
        function_name: named("f"),
        name: named("live"),
        function_version: named(version),
        routing_config: Some(AliasRoutingConfiguration {
            additional_version_weights: Some(weights.iter().map(|(v, w)| ((*v).to_owned(), *w)).collect()),
        }),
        ..CreateAliasRequest::default()
    };
    for (input, status, text) in [
        (
            alias("1", &[("2", 0.1), ("3", 0.1)]),
            400,
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            alias("1", &[("1", 0.1)]),
            400,
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (alias("$LATEST", &[("1", 0.1)]), 400, "$LATEST is not supported for an alias pointing to more than 1 version"),
        (alias("9", &[]), 404, &*format!("Function not found: {ARN}f:9")),
    ] {
        assert_eq!(refusal(world.control.create_alias(&world.cx, input).await), (status, text.to_owned()));
    }
    let made = world.control.create_alias(&world.cx, alias("1", &[("2", 0.25)])).await.ok().unwrap();
    let target = world.control.find(&arn("f:live")).ok().unwrap();
    assert_eq!(
        target.additional.map(|(found, weight)| (found.unwrap().key.version, weight)),
        Some((Version::Number(2), 0.25))
    );
    let clear = UpdateAliasRequest {
        function_name: named("f"),
        name: named("live"),
        routing_config: Some(AliasRoutingConfiguration::default()),
        revision_id: made.revision_id,
        ..UpdateAliasRequest::default()
    };
    let cleared = world.control.update_alias(&world.cx, clear.clone()).await.ok().unwrap();
    assert!(cleared.routing_config.is_none());
    assert_eq!(refusal(world.control.update_alias(&world.cx, clear).await).0, 412);
    let other_role = UpdateFunctionConfigurationRequest {
        function_name: named("f"),
        role: named("arn:aws:iam::000000000000:role/other"),
        ..UpdateFunctionConfigurationRequest::default()
    };
    world.control.update_function_configuration(&world.cx, other_role).await.ok().unwrap();
    world.until_settled("f").await;
    world.publish("f").await.ok().unwrap();
    let mixed = CreateAliasRequest { name: named("mixed"), ..alias("1", &[("3", 0.5)]) };
    assert_eq!(refusal(world.control.create_alias(&world.cx, mixed).await).0, 400);
}

#[tokio::test]
async fn everything_below_a_function_comes_back_after_a_restart_and_goes_with_it() {
    let world = World::new().await;
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    world.alias("f", "live", "1").await.ok().unwrap();
    world.reserve("f", 5).await.ok().unwrap();
    let grant = AddPermissionRequest {
        function_name: named("f"),
        qualifier: named("live"),
        statement_id: named("s"),
        action: named("lambda:InvokeFunction"),
        principal: named("s3.amazonaws.com"),
        ..AddPermissionRequest::default()
    };
    world.control.add_permission(&world.cx, grant).await.ok().unwrap();
    let before = world.usage().await;
    let world = world.restarted().await;
    assert_eq!(world.usage().await, before);
    assert_eq!(before, (1, 6, 995));
    assert_eq!((world.runs("f:live"), world.versions("f").await.len()), (Ok(Version::Number(1)), 2));
    let policy = GetPolicyRequest { function_name: named("f:live"), qualifier: None };
    assert!(world.control.get_policy(&world.cx, policy.clone()).await.is_ok());
    world.delete("f").await.ok().unwrap();
    assert_eq!(world.usage().await, (0, 0, 1000));
    let kinds = ["function", "version", "alias", "policy"];
    for kind in kinds {
        assert!(world.records.all(kind, None, 1).await.unwrap().is_empty(), "{kind}");
    }
    assert!(world.blobs.list().await.unwrap().is_empty());
    world.made("f").await;
    assert!(world.control.get_policy(&world.cx, policy).await.is_err());
}

#[tokio::test]
async fn every_version_is_counted_in_the_code_storage_up_to_its_limit() {
    let quotas = Quotas { code_storage: 9, ..Quotas::default() };
    let world = World::on(Arc::new(MemoryRecords::default()), quotas).await;
    world.made("f").await;
    world.publish("f").await.ok().unwrap();
    world.layer("l", "PK3").await.ok().unwrap();
    assert_eq!(world.usage().await.1, 9);
    let (status, text) = refusal(world.create("g").await);
    assert_eq!((status, text.as_str()), (400, "Code storage limit exceeded."));
    assert_eq!(refusal(world.layer("l", "PK3").await).0, 400);
    world.delete_version("f", "1").await.ok().unwrap();
    assert!(world.create("g").await.is_ok());
}

#[tokio::test]
async fn a_hundred_executions_are_left_for_functions_without_a_reservation() {
    let world = World::new().await;
    world.made("f").await;
    world.made("g").await;
    world.reserve("f", 400).await.ok().unwrap();
    let text = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
                its minimum value of [100].";
    assert_eq!(refusal(world.reserve("g", 501).await), (400, text.to_owned()));
    world.reserve("g", 500).await.ok().unwrap();
    // Its own reservation is given back first.
    world.reserve("f", 399).await.ok().unwrap();
    assert_eq!(world.usage().await.2, 101);
    let key = world.control.find(&arn("f")).ok().unwrap().primary.unwrap().key.clone();
    let reservation = world.control.reservation(&key);
    assert_eq!((reservation.function, reservation.account), (Some(399), 899));
    let (status, text) = refusal(world.reserve("missing", -1).await);
    assert_eq!((status, text), (404, format!("Function not found: {ARN}missing:$LATEST")));
}

#[tokio::test]
async fn functions_go_on_with_a_layer_version_that_was_deleted() {
    let world = World::new().await;
    let layer = world.layer("l", "PK-layer").await.ok().unwrap();
    let layer_arn = layer.layer_version_arn.unwrap();
    assert_eq!(layer_arn, "arn:aws:lambda:us-east-1:000000000000:layer:l:1");
    let input = CreateFunctionRequest { layers: Some(vec![layer_arn.clone()]), ..a_function("f") };
    world.control.create_function(&world.cx, input).await.ok().unwrap();
    world.until_settled("f").await;
    let delete = DeleteLayerVersionRequest { layer_name: named("l"), version_number: Some(1) };
    for _ in 0..2 {
        world.control.delete_layer_version(&world.cx, delete.clone()).await.ok().unwrap();
    }
    let (status, text) = {
        let input = CreateFunctionRequest { layers: Some(vec![layer_arn.clone()]), ..a_function("g") };
        refusal(world.control.create_function(&world.cx, input).await)
    };
    assert_eq!((status, text), (400, format!("Layer version {layer_arn} does not exist.")));
    let world = world.restarted().await;
    let function = world.control.find(&arn("f")).ok().unwrap().primary.unwrap();
    let Program::Zip(zip) = &function.program else { panic!("it is of a zip") };
    assert!(world.blobs.list().await.unwrap().contains(&zip.layers[0].into()));
    assert_eq!(world.layer("l", "PK-layer").await.ok().unwrap().version, Some(2));
    world.delete("f").await.ok().unwrap();
    let delete = DeleteLayerVersionRequest { layer_name: named("l"), version_number: Some(2) };
    world.control.delete_layer_version(&world.cx, delete).await.ok().unwrap();
    assert!(world.blobs.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn code_and_layers_together_are_within_the_limit_to_the_byte() {
    let world = World::new().await;
    let layer = world.layer("l", "PK+262143999").await.ok().unwrap().layer_version_arn;
    let with = |name: &str, zip: &str| CreateFunctionRequest {
        layers: layer.clone().map(|arn| vec![arn]),
        code: Some(FunctionCode { zip_file: blob(zip), ..FunctionCode::default() }),
        ..a_function(name)
    };
    assert!(world.control.create_function(&world.cx, with("f", "PK+1")).await.is_ok());
    let (status, text) = refusal(world.control.create_function(&world.cx, with("g", "PK+2")).await);
    assert_eq!((status, text.as_str()), (400, "Unzipped size must be smaller than 262144000 bytes"));
}

#[tokio::test]
async fn a_layer_of_another_account_is_used_when_its_policy_allows_it() {
    let world = World::new().await;
    let layer_arn = world.layer("l", "PK-layer").await.ok().unwrap().layer_version_arn.unwrap();
    let there = context("111111111111");
    let input = || CreateFunctionRequest { layers: Some(vec![layer_arn.clone()]), ..a_function("f") };
    let (status, text) = refusal(world.control.create_function(&there, input()).await);
    assert_eq!(status, 403);
    assert_eq!(
        text,
        format!(
            "User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:GetLayerVersion on resource: \
             {layer_arn} because no resource-based policy allows the lambda:GetLayerVersion action"
        )
    );
    let grant = AddLayerVersionPermissionRequest {
        layer_name: named("l"),
        version_number: Some(1),
        statement_id: named("s"),
        action: named("lambda:GetLayerVersion"),
        principal: named("111111111111"),
        ..AddLayerVersionPermissionRequest::default()
    };
    world.control.add_layer_version_permission(&world.cx, grant).await.ok().unwrap();
    assert!(world.control.create_function(&there, input()).await.is_ok());
    let by_arn = GetLayerVersionByArnRequest { arn: Some(layer_arn.clone()) };
    assert!(world.control.get_layer_version_by_arn(&there, by_arn.clone()).await.is_ok());
    assert_eq!(refusal(world.control.get_layer_version_by_arn(&context("222222222222"), by_arn).await).0, 403);
}

#[tokio::test]
async fn a_configuration_that_enforces_lets_no_package_in_and_stays_while_it_is_used() {
    let world = World::new().await;
    world.made("f").await;
    let policies = CodeSigningPolicies { untrusted_artifact_on_deployment: named("Enforce") };
    let input = CreateCodeSigningConfigRequest { code_signing_policies: Some(policies), ..Default::default() };
    let made = world.control.create_code_signing_config(&world.cx, input).await.ok().unwrap();
    let config = made.code_signing_config.unwrap().code_signing_config_arn;
    let put =
        PutFunctionCodeSigningConfigRequest { code_signing_config_arn: config.clone(), function_name: named("f") };
    world.control.put_function_code_signing_config(&world.cx, put).await.ok().unwrap();
    assert_eq!(world.update_code("f", "PK2").await.err().unwrap().code, "CodeVerificationFailedException");
    let delete = DeleteCodeSigningConfigRequest { code_signing_config_arn: config.clone() };
    assert_eq!(refusal(world.control.delete_code_signing_config(&world.cx, delete.clone()).await).0, 409);
    let world = world.restarted().await;
    let list =
        ListFunctionsByCodeSigningConfigRequest { code_signing_config_arn: config.clone(), ..Default::default() };
    let listed = world.control.list_functions_by_code_signing_config(&world.cx, list).await.ok().unwrap();
    assert_eq!(listed.function_arns.unwrap(), [format!("{ARN}f")]);
    let detach = DeleteFunctionCodeSigningConfigRequest { function_name: named("f") };
    for _ in 0..2 {
        world.control.delete_function_code_signing_config(&world.cx, detach.clone()).await.ok().unwrap();
    }
    assert!(world.update_code("f", "PK2").await.is_ok());
    world.control.delete_code_signing_config(&world.cx, delete).await.ok().unwrap();
    let missing = PutFunctionCodeSigningConfigRequest { code_signing_config_arn: config, function_name: named("f") };
    let error = world.control.put_function_code_signing_config(&world.cx, missing).await.err().unwrap();
    assert_eq!(error.code, "CodeSigningConfigNotFoundException");
}

#[tokio::test]
async fn fifty_tags_are_the_limit_and_each_change_is_a_revision() {
    let world = World::new().await;
    let before = world.made("f").await.revision_id;
    let tag = |from: usize, to: usize| TagResourceRequest {
        resource: Some(format!("{ARN}f")),
        tags: Some((from..to).map(|n| (format!("k{n}"), "v".to_owned())).collect()),
    };
    world.control.tag_resource(&world.cx, tag(0, 50)).await.ok().unwrap();
    assert_ne!(world.configuration("f").await.revision_id, before);
    let (status, text) = refusal(world.control.tag_resource(&world.cx, tag(50, 51)).await);
    assert_eq!((status, text.as_str()), (400, "Number of tags exceeds resource tag limit."));
    let untag = UntagResourceRequest {
        resource: Some(format!("{ARN}f")),
        tag_keys: Some(vec!["k1".to_owned(), "x".to_owned()]),
    };
    world.control.untag_resource(&world.cx, untag).await.ok().unwrap();
    let list = ListTagsRequest { resource: Some(format!("{ARN}f")) };
    assert_eq!(world.control.list_tags(&world.cx, list).await.ok().unwrap().tags.unwrap().len(), 49);
}

#[tokio::test]
async fn another_account_does_what_the_policy_lets_it_and_nothing_else() {
    let world = World::new().await;
    world.made("f").await;
    let there = context("111111111111");
    let get = || GetFunctionRequest { function_name: Some(format!("{ARN}f")), qualifier: None };
    let denied = "User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:GetFunction on resource: \
                  arn:aws:lambda:us-east-1:000000000000:function:f because no resource-based policy allows the \
                  lambda:GetFunction action";
    assert_eq!(refusal(world.control.get_function(&there, get()).await), (403, denied.to_owned()));
    let grant = AddPermissionRequest {
        function_name: named("f"),
        statement_id: named("s"),
        action: named("lambda:GetFunction"),
        principal: named("111111111111"),
        ..AddPermissionRequest::default()
    };
    world.control.add_permission(&world.cx, grant).await.ok().unwrap();
    assert!(world.control.get_function(&there, get()).await.is_ok());
    let delete = DeleteFunctionRequest { function_name: Some(format!("{ARN}f")), qualifier: None };
    assert_eq!(refusal(world.control.delete_function(&there, delete).await).0, 403);
    // An operation that accounts do not share has no text.
    let other = UpdateFunctionConfigurationRequest { function_name: Some(format!("{ARN}f")), ..Default::default() };
    assert_eq!(refusal(world.control.update_function_configuration(&there, other).await), (403, String::new()));
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_and_changes_nothing() {
    let world = World::new().await;
    let before = world.made("f").await;
    let input = UpdateFunctionCodeRequest {
        function_name: named("f"),
        zip_file: blob("PK-other"),
        dry_run: Some(true),
        architectures: Some(vec!["arm64".to_owned()]),
        ..UpdateFunctionCodeRequest::default()
    };
    let shown = world.control.update_function_code(&world.cx, input).await.ok().unwrap();
    assert_ne!(shown.code_sha256, before.code_sha256);
    assert_eq!(shown.architectures, Some(vec!["arm64".to_owned()]));
    let after = world.configuration("f").await;
    assert_eq!((after.revision_id, after.code_sha256), (before.revision_id, before.code_sha256));
}
