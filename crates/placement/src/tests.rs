mod api;
mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hearth_model::{
    FunctionVersion, Invocation, Invoke, InvokeError, LastUsed, Memory, Provisioned, Provisioning, RequestId,
    ResponseMode, TenancyError, TenantId, ThrottleReason,
};

use support::{World, config};

/// A call's answer: which environment it ran in, and of which generation that is.
type Ran = Result<(String, String), InvokeError>;

impl World {
    async fn call(&self, function: &Arc<FunctionVersion>, payload: &'static str) -> Ran {
        self.call_for(None, function, payload).await
    }

    async fn call_for(&self, tenant: Option<&str>, function: &Arc<FunctionVersion>, payload: &'static str) -> Ran {
        let invocation = Invocation {
            request_id: RequestId::new(uuid::Uuid::new_v4().to_string()),
            function: function.clone(),
            invoked_arn: function.arn().to_string(),
            payload: Bytes::from_static(payload.as_bytes()),
            content_type: None,
            client_context: None,
            tenant: tenant.and_then(TenantId::parse),
            trace: None,
            wants_log_tail: false,
            mode: ResponseMode::Buffered,
        };
        let response = Invoke::invoke(&self.placement, invocation).await?;
        let (_, body, _) = response.collect(1000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let (environment, generation) = text.trim_matches('"').split_once('|').unwrap();
        Ok((environment.to_owned(), generation.to_owned()))
    }

    /// A call that its function holds until the gate opens; ready to be awaited once it runs.
    async fn hold(self: &Arc<Self>, function: &Arc<FunctionVersion>) -> tokio::task::JoinHandle<Ran> {
        let (begun, world, function) = (self.host.begun(), self.clone(), function.clone());
        let held = tokio::spawn(async move { world.call(&function, "\"hold\"").await });
        self.until("held", |host| host.begun() > begun).await;
        held
    }

    fn open_gate(&self) {
        self.host.gate.send_replace(true);
    }
}

fn throttled(error: &InvokeError) -> bool {
    matches!(error, InvokeError::Throttled(ThrottleReason::ConcurrentInvocationLimitExceeded))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_one_after_another_share_an_environment() {
    let world = World::new(config());
    let function = world.functions.put("f", 128, 1);
    let first = world.call(&function, "\"who\"").await.unwrap();
    for _ in 0..50 {
        assert_eq!(world.call(&function, "\"who\"").await.unwrap(), first);
    }
    assert_eq!(world.placement.environments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_no_environment_and_leave_nothing_behind() {
    let world = World::new(config());
    let function = world.functions.put_changed("f", 128, 1, |function| function.per_tenant = true);
    let refused = world.call(&function, "\"who\"").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Tenancy(TenancyError::Missing)));
    let common = world.functions.put("common", 128, 1);
    let refused = world.call_for(Some("a"), &common, "\"who\"").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Tenancy(TenancyError::Unwanted)));
    let mut seen = HashSet::new();
    for tenant in ["a", "b", "c"] {
        let first = world.call_for(Some(tenant), &function, "\"who\"").await.unwrap();
        assert_eq!(world.call_for(Some(tenant), &function, "\"who\"").await.unwrap(), first);
        assert!(seen.insert(first));
    }
    world.until("idle", |_| world.placement.inner.idle() == 3).await;
    world.clock.advance(config().idle_timeout);
    world.placement.inner.reap(config().idle_timeout);
    world.until("gone", |_| world.placement.environments() == 0).await;
    world.placement.inner.reap(config().idle_timeout);
    assert!(world.placement.inner.pools.map(|_, _| ()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_serves_no_call_that_its_credentials_may_not_outlast() {
    let world = World::new(config());
    let function = world.functions.put("f", 128, 1);
    let first = world.call(&function, "\"who\"").await.unwrap();
    let longest = Duration::from_secs(12 * 3600 - 300) - function.timeout;
    world.clock.advance(longest - Duration::from_secs(1));
    assert_eq!(world.call(&function, "\"who\"").await.unwrap(), first);
    world.clock.advance(Duration::from_secs(1));
    assert_ne!(world.call(&function, "\"who\"").await.unwrap(), first);
    world.placement.inner.reap(Duration::from_secs(24 * 3600));
    world.until("shut down", |host| host.sandboxes() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_have_one_environment_each() {
    let world = Arc::new(World::new(config()));
    let function = world.functions.put("f", 128, 1);
    let held = [world.hold(&function).await, world.hold(&function).await, world.hold(&function).await];
    world.open_gate();
    let mut environments = Vec::new();
    for call in held {
        environments.push(call.await.unwrap().unwrap().0);
    }
    environments.sort();
    environments.dedup();
    assert_eq!(environments.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_the_account_may_have_are_throttled_until_one_has_its_answer() {
    let world = Arc::new(World::new(support::Config { concurrent_executions: 1, ..config() }));
    let function = world.functions.put("f", 128, 1);
    let held = world.hold(&function).await;
    assert!(throttled(&world.call(&function, "\"who\"").await.unwrap_err()));
    world.open_gate();
    held.await.unwrap().unwrap();
    assert!(world.call(&function, "\"who\"").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_environment_is_lost_before_its_function_saw_it_gets_another_once() {
    let world = World::new(support::Config { concurrent_executions: 1, ..config() });
    let function = world.functions.put("f", 128, 1);
    world.host.losses.store(1, Ordering::SeqCst);
    world.call(&function, "\"who\"").await.unwrap();
    assert_eq!(world.host.begun(), 1);

    let other = world.functions.put("g", 128, 1);
    world.host.losses.store(2, Ordering::SeqCst);
    let refused = world.call(&other, "\"who\"").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Internal(_)), "{refused}");
    assert_eq!(world.host.begun(), 1);
    world.call(&other, "\"who\"").await.unwrap();
    world.until("all lost ones gone", |host| host.sandboxes() == 2).await;
    assert_eq!(world.placement.inner.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_tried_again_runs_what_its_function_is_by_then() {
    let world = World::new(config());
    let found = world.functions.put("f", 128, 1);
    world.functions.put("f", 128, 2);
    world.host.losses.store(1, Ordering::SeqCst);
    let (_, generation) = world.call(&found, "\"who\"").await.unwrap();
    assert_eq!(generation, "2");
}

fn observed(world: &World, function: &FunctionVersion) -> Provisioned {
    world.placement.observe(&function.key)
}

/// One step after another until as many are initialised, and nothing else is there.
async fn provision(world: &World, function: &FunctionVersion, ready: u32) {
    let inner = &world.placement.inner;
    let reached = async {
        while observed(world, function).ready != ready || world.placement.environments() != ready as usize {
            inner.reap(Duration::ZERO);
            inner.provision();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, reached).await.expect("it was provisioned");
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioned_environments_are_there_before_calls_and_serve_them_first() {
    let world = Arc::new(World::new(support::Config { concurrent_executions: 1, ..config() }));
    let function = world.functions.published("f", 1);
    world.functions.provision(&function, 2, "first");
    provision(&world, &function, 2).await;
    // Two of them need nothing of what the account has on demand, and the next is served on demand.
    let held = [world.hold(&function).await, world.hold(&function).await, world.hold(&function).await];
    assert_eq!((world.placement.environments(), world.placement.inner.running()), (3, 1));
    assert!(throttled(&world.call(&function, "1").await.unwrap_err()));
    world.open_gate();
    for held in held {
        held.await.unwrap().unwrap();
    }
    provision(&world, &function, 2).await;

    world.functions.provision(&function, 1, "second");
    provision(&world, &function, 1).await;
    world.functions.provision(&function, 0, "third");
    provision(&world, &function, 0).await;
    world.until("shut down", |host| host.sandboxes() == 0).await;
    assert_eq!(world.placement.inner.memory.used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_are_provisioned_as_soon_as_others_are_initialised() {
    let world = World::new(support::Config { memory_budget: 4 << 30, ..config() });
    let function = world.functions.published("f", 1);
    world.functions.provision(&function, 25, "first");
    let inner = &world.placement.inner;
    let reached = async {
        while observed(&world, &function).ready < 25 {
            inner.provision();
            inner.provisions_changed.notified().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, reached).await.expect("no clock is needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provisioned_environment_that_cannot_be_initialised_is_said_to_have_failed_and_tried_again() {
    let world = World::new(config());
    let function = world.functions.published("f", 1);
    world.host.losses.store(2, Ordering::SeqCst);
    world.functions.provision(&function, 2, "first");
    world.placement.inner.provision();
    let failed = async {
        while observed(&world, &function).failure.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, failed).await.expect("it was said");
    world.until("gone", |host| host.sandboxes() == 0).await;
    assert_eq!(observed(&world, &function).ready, 0);
    world.functions.provision(&function, 2, "second");
    provision(&world, &function, 2).await;
    assert_eq!(observed(&world, &function).failure, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_alias_leaves_for_a_version_that_rests_is_kept_until_that_is_awake() {
    let world = World::new(config());
    let (before, after) = (world.functions.published("f", 1), world.functions.published("f", 2));
    world.functions.provision(&before, 2, "first");
    provision(&world, &before, 2).await;
    world.functions.provision_of(&after, 2, "first", false);
    for _ in 0..20 {
        world.placement.inner.provision();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((observed(&world, &before).ready, world.placement.environments()), (2, 2));
    world.functions.provision(&after, 2, "first");
    provision(&world, &after, 2).await;
    assert_eq!(observed(&world, &before).ready, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_in_use_until_its_call_is_answered() {
    let world = Arc::new(World::new(config()));
    let last_used = LastUsed::default();
    let function = world.functions.put_changed("f", 128, 1, |function| function.last_used = Some(last_used.clone()));
    let held = world.hold(&function).await;
    assert!(last_used.is_running() && last_used.ms() > 0);
    world.open_gate();
    held.await.unwrap().unwrap();
    assert!(!last_used.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_what_is_provisioned() {
    let world = World::new(config());
    let function = world.functions.published("f", 1);
    world.functions.provision(&function, 3, "first");
    provision(&world, &function, 3).await;
    world.placement.drain(tokio::time::Instant::now() + support::PATIENCE).await;
    assert_eq!((world.host.sandboxes(), world.placement.environments()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_started_no_faster_than_its_rate() {
    let world = Arc::new(World::new(support::Config { scaling_rate: 1, ..config() }));
    let (function, other) = (world.functions.put("f", 128, 1), world.functions.put("g", 128, 1));
    let held = world.hold(&function).await;
    assert!(throttled(&world.call(&function, "\"who\"").await.unwrap_err()));
    assert!(world.call(&other, "\"who\"").await.is_ok(), "the rate is each function's own");
    world.clock.advance(Duration::from_secs(10));
    assert!(world.call(&function, "\"who\"").await.is_ok());
    world.open_gate();
    held.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_memory_needs_nothing_of_the_rate() {
    let world = Arc::new(World::new(support::Config { scaling_rate: 1, ..config() }));
    let large = world.functions.put("large", 1024, 1);
    let held = world.hold(&large).await;
    let waiting = world.hold(&large);
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "there is no room");
    world.open_gate();
    held.await.unwrap().unwrap();
    waiting.await.await.unwrap().unwrap();
    assert_eq!(world.host.sandboxes(), 1, "one environment has served both");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_environment_makes_room_for_another_function() {
    let world = World::new(config());
    let (small, large) = (world.functions.put("small", 128, 1), world.functions.put("large", 1024, 1));
    world.call(&small, "\"who\"").await.unwrap();
    world.call(&large, "\"who\"").await.unwrap();
    world.until("shut down", |host| host.sandboxes() == 1).await;
    world.call(&small, "\"who\"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_becomes_idle_makes_room_for_a_call_that_waits() {
    let world = Arc::new(World::new(config()));
    let (small, large) = (world.functions.put("small", 128, 1), world.functions.put("large", 1024, 1));
    let held = world.hold(&small).await;
    let waiting = world.hold(&large);
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "there is no room");
    world.open_gate();
    held.await.unwrap().unwrap();
    waiting.await.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_refuses_after_the_wait_and_says_why() {
    let world = Arc::new(World::new(support::Config { wait: Duration::from_millis(10), ..config() }));
    let (small, large) = (world.functions.put("small", 128, 1), world.functions.put("large", 1024, 1));
    let held = world.hold(&small).await;
    assert!(matches!(world.call(&large, "\"who\"").await, Err(InvokeError::HostFull { budget_mb: 1024 })));
    world.open_gate();
    held.await.unwrap().unwrap();
    assert!(world.call(&large, "\"who\"").await.is_ok(), "the refused call holds nothing");
    let too_large = world.functions.put("too-large", 1025, 1);
    assert!(matches!(world.call(&too_large, "\"who\"").await, Err(InvokeError::HostFull { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_memory_takes_an_environment_of_its_own_version_that_frees_up() {
    let world = Arc::new(World::new(config()));
    let function = world.functions.put("f", 1024, 1);
    let held = world.hold(&function).await;
    let waiting = tokio::spawn({
        let (world, function) = (world.clone(), function.clone());
        async move { world.call(&function, "\"who\"").await }
    });
    world.open_gate();
    let (first, second) = (held.await.unwrap().unwrap(), waiting.await.unwrap().unwrap());
    assert_eq!(first, second);
    assert_eq!(world.placement.environments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_while_it_waits_leaves_nothing_behind() {
    let world = Arc::new(World::new(config()));
    let (small, large) = (world.functions.put("small", 128, 1), world.functions.put("large", 1024, 1));
    let held = world.hold(&small).await;
    for _ in 0..5 {
        let gone = tokio::time::timeout(Duration::from_millis(5), world.call(&large, "\"who\"")).await;
        assert!(gone.is_err());
    }
    world.open_gate();
    held.await.unwrap().unwrap();
    for _ in 0..3 {
        world.call(&small, "\"who\"").await.unwrap();
        world.call(&large, "\"who\"").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_never_mixes_versions_and_ends_environments_of_the_old() {
    let world = Arc::new(World::new(config()));
    let old = world.functions.put("f", 128, 1);
    let held = world.hold(&old).await;
    let idle = world.call(&old, "\"who\"").await.unwrap();
    let new = world.functions.put("f", 128, 2);
    let ran = world.call(&new, "\"who\"").await.unwrap();
    assert_eq!((ran.1.as_str(), ran.0 == idle.0), ("2", false));
    world.placement.inner.reap(config().idle_timeout);
    world.open_gate();
    assert_eq!(held.await.unwrap().unwrap().1, "1", "what runs finishes on the old version");
    world.until("only the new is left", |host| host.sandboxes() == 1).await;
    assert_eq!(world.call(&new, "\"who\"").await.unwrap(), ran);
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_that_are_idle_for_long_are_shut_down() {
    let world = World::new(config());
    let function = world.functions.put("f", 128, 1);
    let first = world.call(&function, "\"who\"").await.unwrap();
    world.until("idle", |_| world.placement.inner.idle() == 1).await;
    world.clock.advance(config().idle_timeout - Duration::from_secs(1));
    world.placement.inner.reap(config().idle_timeout);
    assert_eq!(world.call(&function, "\"who\"").await.unwrap(), first);
    world.until("idle", |_| world.placement.inner.idle() == 1).await;
    world.clock.advance(config().idle_timeout);
    world.placement.inner.reap(config().idle_timeout);
    world.until("gone", |host| host.sandboxes() == 0).await;
    assert_ne!(world.call(&function, "\"who\"").await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_what_runs_finish_and_refuses_the_rest() {
    let world = Arc::new(World::new(config()));
    let (function, other) = (world.functions.put("f", 128, 1), world.functions.put("g", 128, 1));
    world.call(&other, "\"who\"").await.unwrap();
    let held = world.hold(&function).await;
    let drain = tokio::spawn({
        let placement = world.placement.clone();
        async move { placement.drain(tokio::time::Instant::now() + support::PATIENCE).await }
    });
    world.until("the idle one is gone", |host| host.sandboxes() == 1).await;
    assert!(matches!(world.call(&other, "\"who\"").await, Err(InvokeError::ShuttingDown)));
    assert!(!drain.is_finished());
    world.open_gate();
    held.await.unwrap().unwrap();
    drain.await.unwrap();
    assert_eq!((world.host.sandboxes(), world.placement.environments()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_ends_with_all_memory_and_every_permit_given_back() {
    let budget = Memory::mib(512).as_bytes();
    let world = Arc::new(World::new(support::Config { memory_budget: budget, ..config() }));
    let functions: Vec<_> = (0..4).map(|n| world.functions.put(&format!("f{n}"), 128 + 64 * n, 1)).collect();
    world.open_gate();
    let calls = (0..200).map(|n| {
        let (world, function) = (world.clone(), functions[n % 4].clone());
        tokio::spawn(async move { world.call(&function, "\"who\"").await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    world.placement.drain(tokio::time::Instant::now() + support::PATIENCE).await;
    assert_eq!((world.host.sandboxes(), world.placement.environments()), (0, 0));
    assert_eq!(world.placement.inner.running(), 0);
    assert_eq!(world.placement.inner.memory.used(), 0);
}
