//! Versions that nobody calls, under a clock that stands still until somebody waits.

mod support;

use std::time::Duration;

use hearth_model::{Clock, Found, FunctionVersion, Functions, Idle, InUse, LastUsed, LookupError, Version};
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{AliasesApi, FunctionsApi, ProvisionedConcurrencyApi};

use support::{World, a_function, arn};

const IDLE: Duration = Duration::from_secs(800);
/// How exactly it is written when a version was called, and how often is looked.
const GRAIN: Duration = Duration::from_secs(100);

impl World {
    /// A function of a VPC, which can become inactive.
    async fn made_of_vpc(&self, name: &str) {
        let vpc = VpcConfig { subnet_ids: Some(vec!["subnet-1".to_owned()]), ..VpcConfig::default() };
        let input = CreateFunctionRequest { vpc_config: Some(vpc), ..a_function(name) };
        self.control.create_function(&self.cx, input).await.ok().unwrap();
        self.until_settled(name).await;
    }

    fn found(&self, name: &str) -> Found {
        self.control.find(&arn(name))?.primary
    }

    fn last_used(&self, name: &str) -> LastUsed {
        self.control.known(&arn(name)).unwrap().last_used.clone().unwrap()
    }

    fn call(&self, name: &str) -> InUse {
        let last_used = self.last_used(name);
        last_used.note(self.clock.wall());
        last_used.begin()
    }

    /// Its state, and the code of the reason.
    async fn state(&self, name: &str) -> (String, Option<String>) {
        let input = GetFunctionConfigurationRequest { function_name: Some(name.to_owned()), qualifier: None };
        let found = self.control.get_function_configuration(&self.cx, input).await.ok().unwrap();
        (found.state.unwrap(), found.state_reason_code)
    }

    async fn is(&self, name: &str, state: &str, code: Option<&str>) -> bool {
        self.state(name).await == (state.to_owned(), code.map(str::to_owned))
    }

    async fn rests(&self, name: &str) -> bool {
        self.is(name, "Inactive", Some("Idle")).await
    }

    async fn until_awake(&self, name: &str) {
        let awake = async {
            while self.found(name).is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), awake).await.expect("it is woken");
    }
}

fn number(found: Found) -> Result<Version, LookupError> {
    found.map(|found: std::sync::Arc<FunctionVersion>| found.key.version)
}

/// A world in which somebody waits for `f` to be awake.
async fn being_woken() -> World {
    let world = World::idling(IDLE).await;
    world.made_of_vpc("f").await;
    tokio::time::sleep(IDLE + 5 * GRAIN).await;
    world.hold();
    world.control.wake(&arn("f"));
    tokio::time::sleep(GRAIN).await;
    world
}

/// A world in which `f` has versions 1 and 2.
async fn with_versions() -> World {
    let world = World::idling(IDLE).await;
    world.made_of_vpc("f").await;
    world.publish("f").await.ok().unwrap();
    world.next_version("f", "PK2").await;
    world
}

const ASLEEP: LookupError = LookupError::Idle(Idle::Vpc);

#[tokio::test(start_paused = true)]
async fn what_nobody_calls_rests_when_its_time_is_over_and_not_before() {
    let world = World::idling(IDLE).await;
    world.made_of_vpc("f").await;
    world.made("plain").await;
    tokio::time::sleep(IDLE).await;
    assert!(world.is("f", "Active", None).await);
    // Its time begins with the first look, what is read may be older by a grain, and looks are a grain apart.
    tokio::time::sleep(5 * GRAIN).await;
    assert!(world.rests("f").await);
    assert_eq!(number(world.found("f")), Err(ASLEEP));
    assert_eq!(number(world.control.known(&arn("f"))), Ok(Version::Latest));
    assert!(world.is("plain", "Active", None).await);
}

#[tokio::test(start_paused = true)]
async fn who_is_called_now_and_then_stays_active_also_over_a_restart() {
    let world = World::idling(IDLE).await;
    world.made_of_vpc("f").await;
    for _ in 0..5 {
        tokio::time::sleep(IDLE - GRAIN).await;
        drop(world.call("f"));
    }
    assert!(world.is("f", "Active", None).await);
    tokio::time::sleep(2 * GRAIN).await;
    let world = world.restarted().await;
    tokio::time::sleep(IDLE - 2 * GRAIN).await;
    assert!(world.is("f", "Active", None).await);
    tokio::time::sleep(5 * GRAIN).await;
    assert!(world.rests("f").await);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_longer_than_the_timeout_keeps_its_version() {
    let world = World::idling(IDLE).await;
    world.made_of_vpc("f").await;
    let call = world.call("f");
    tokio::time::sleep(10 * IDLE).await;
    assert!(world.is("f", "Active", None).await);
    drop(call);
    // Its time begins at the end.
    tokio::time::sleep(IDLE).await;
    assert!(world.is("f", "Active", None).await);
    tokio::time::sleep(5 * GRAIN).await;
    assert!(world.rests("f").await);
}

#[tokio::test(start_paused = true)]
async fn a_call_wakes_and_being_woken_counts_as_one() {
    let world = being_woken().await;
    assert!(world.is("f", "Pending", Some("Restoring")).await);
    assert_eq!(number(world.found("f")), Err(LookupError::NotReady("Pending")));
    world.let_go();
    world.until_awake("f").await;
    assert!(world.is("f", "Active", None).await);
    tokio::time::sleep(IDLE - GRAIN).await;
    assert!(world.is("f", "Active", None).await);
    tokio::time::sleep(5 * GRAIN).await;
    assert!(world.rests("f").await);
}

#[tokio::test(start_paused = true)]
async fn waking_that_a_restart_cuts_off_goes_on_after_it() {
    let world = being_woken().await;
    let world = world.restarted().await;
    world.let_go();
    world.until_awake("f").await;
    assert!(world.is("f", "Active", None).await);
}

#[tokio::test(start_paused = true)]
async fn of_an_alias_with_weights_each_version_rests_for_itself() {
    let world = with_versions().await;
    let weights = |weight| {
        let weights = [("2".to_owned(), weight)].into();
        Some(AliasRoutingConfiguration { additional_version_weights: Some(weights) })
    };
    let (name, function_version) = (Some("live".to_owned()), Some("1".to_owned()));
    let input = CreateAliasRequest {
        function_name: Some("f".to_owned()),
        name: name.clone(),
        function_version,
        routing_config: weights(0.0),
        ..CreateAliasRequest::default()
    };
    world.control.create_alias(&world.cx, input).await.ok().unwrap();
    for _ in 0..12 {
        drop(world.call("f:1"));
        tokio::time::sleep(GRAIN).await;
    }
    assert!(world.rests("f:2").await && world.is("f:1", "Active", None).await);
    let choose = |draw| number(world.control.find(&arn("f:live")).unwrap().choose(draw));
    // One of no weight is not drawn, and so not woken.
    world.control.wake(&arn("f:live"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((choose(0.0), world.rests("f:2").await), (Ok(Version::Number(1)), true));
    let function_name = Some("f".to_owned());
    let input =
        UpdateAliasRequest { function_name, name, routing_config: weights(0.5), ..UpdateAliasRequest::default() };
    world.control.update_alias(&world.cx, input).await.ok().unwrap();
    assert_eq!((choose(0.7), choose(0.2)), (Ok(Version::Number(1)), Err(ASLEEP)));
    world.control.wake(&arn("f:live"));
    world.until_awake("f:2").await;
    assert_eq!((choose(0.7), choose(0.2)), (Ok(Version::Number(1)), Ok(Version::Number(2))));
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_alias_that_moves_to_what_rests_wakes_it_and_is_kept_meanwhile() {
    let world = with_versions().await;
    world.alias("f", "live", "1").await.ok().unwrap();
    let input = PutProvisionedConcurrencyConfigRequest {
        function_name: Some("f".to_owned()),
        qualifier: Some("live".to_owned()),
        provisioned_concurrent_executions: Some(1),
    };
    world.control.put_provisioned_concurrency_config(&world.cx, input).await.ok().unwrap();
    tokio::time::sleep(IDLE + 5 * GRAIN).await;
    // What is kept initialised is in use.
    assert!(world.is("f:1", "Active", None).await && world.rests("f:2").await);
    let provisioned = || {
        let provisions = world.control.provisions();
        provisions.iter().map(|one| (one.function.key.version, one.is_awake)).collect::<Vec<_>>()
    };
    assert_eq!(provisioned(), [(Version::Number(1), true)]);
    world.hold();
    let input = UpdateAliasRequest {
        function_name: Some("f".to_owned()),
        name: Some("live".to_owned()),
        function_version: Some("2".to_owned()),
        ..UpdateAliasRequest::default()
    };
    world.control.update_alias(&world.cx, input).await.ok().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(provisioned(), [(Version::Number(2), false)]);
    world.let_go();
    world.until_awake("f:2").await;
    assert_eq!(provisioned(), [(Version::Number(2), true)]);
}
