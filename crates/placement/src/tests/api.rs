//! The operation Invoke through its trait.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_model::{Architecture, Program, Runtime, Target};
use hearth_wire::{Context, Error};
use hearth_wire_lambda::InvokeApi;
use hearth_wire_lambda::types::{InvocationRequest, InvocationResponse, InvokeAsyncRequest};

use super::support::{self, World, config};

fn context() -> Context {
    Context::new("000000000000", "us-east-1", "5b3c4f6e-0000-4000-8000-000000000001", "localhost:4566", None)
}

fn asks(name: &str, payload: &'static str) -> InvocationRequest {
    let payload = Bytes::from_static(payload.as_bytes());
    InvocationRequest { function_name: Some(name.to_owned()), payload, ..InvocationRequest::default() }
}

async fn invoke(world: &World, input: InvocationRequest) -> Result<InvocationResponse, Error> {
    InvokeApi::invoke(&world.placement, &context(), input).await
}

fn said(error: &Error) -> (u16, &str, &str) {
    (error.status, &error.code, error.message.as_deref().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_carries_what_ran() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let answer = invoke(&world, asks("f", " [1]")).await.unwrap();
    assert_eq!((answer.status_code, &answer.payload[..]), (Some(200), &b" [1]"[..]));
    assert_eq!((answer.executed_version.as_deref(), answer.function_error), (Some("$LATEST"), None));
    assert_eq!(answer.log_result, None);
    let empty = invoke(&world, asks("f", "")).await.unwrap();
    assert_eq!(empty.payload, "{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tail_holds_the_whole_invocation() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let input = InvocationRequest { log_type: Some("Tail".to_owned()), ..asks("f", "1") };
    let tail = STANDARD.decode(invoke(&world, input).await.unwrap().log_result.unwrap()).unwrap();
    let tail = String::from_utf8(tail).unwrap();
    assert!(tail.contains("START RequestId: 5b3c4f6e-0000-4000-8000-000000000001 Version: $LATEST\n"), "{tail}");
    assert!(tail.contains("\nREPORT RequestId: 5b3c4f6e-0000-4000-8000-000000000001\t"), "{tail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_travel_to_the_runtime_and_back() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let mut cx = context();
    cx.trace = Some("Root=1-67891233-abcdef012345678912345678;Sampled=1".to_owned());
    cx.content_type = Some("text/x-test".to_owned());
    let client_context = Some(STANDARD.encode("{\"custom\":{}}"));
    let input = InvocationRequest { client_context, ..asks("f", "\"headers\"") };
    let answer = InvokeApi::invoke(&world.placement, &cx, input).await.unwrap();
    let seen = String::from_utf8(answer.payload.to_vec()).unwrap();
    let parts: Vec<&str> = seen.split('|').collect();
    assert!(parts[0].starts_with("Root=1-67891233-abcdef012345678912345678;Parent="), "{seen}");
    assert!(parts[0].contains(";Sampled=1;Lineage=1:") && parts[0].ends_with(":0"), "{seen}");
    assert_eq!(parts[1..], ["{\"custom\":{}}", "text/x-test"]);
    let back = cx.take_answer_headers();
    let trace = "Root=1-67891233-abcdef012345678912345678;Sampled=1".to_owned();
    assert!(back.contains(&("x-amzn-trace-id", trace)), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_only_whether_the_function_is_there() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let dry = |name| InvocationRequest { invocation_type: Some("DryRun".to_owned()), ..asks(name, "") };
    assert_eq!(invoke(&world, dry("f")).await.unwrap().status_code, Some(204));
    let error = invoke(&world, dry("missing")).await.err().unwrap();
    assert_eq!(error.status, 404);
    assert_eq!(world.host.sandboxes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_nowhere_are_answered_as_recorded() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let arn = "arn:aws:lambda:us-east-1:000000000000:function";
    let not_found =
        |tail: &str| (404, "ResourceNotFoundException".to_owned(), format!("Function not found: {arn}:{tail}"));
    let long = "x".repeat(100);
    let cases = [
        ("missing", None, not_found("missing:$LATEST")),
        ("f:7", None, not_found("f:7")),
        ("f", Some("live"), not_found("f:live")),
        (long.as_str(), None, not_found(&format!("{long}:$LATEST"))),
        (
            "arn:aws:lambda:eu-west-1:000000000000:function:f",
            None,
            (
                404,
                "ResourceNotFoundException".to_owned(),
                "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')".to_owned(),
            ),
        ),
        (
            "f:1",
            Some("2"),
            (
                400,
                "InvalidParameterValueException".to_owned(),
                "The derived qualifier from the function name does not match the specified qualifier.".to_owned(),
            ),
        ),
        (
            "123456789012:function:f",
            None,
            (
                403,
                "AccessDeniedException".to_owned(),
                "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:InvokeFunction on resource: \
                 arn:aws:lambda:us-east-1:123456789012:function:f because no resource-based policy allows the \
                 lambda:InvokeFunction action"
                    .to_owned(),
            ),
        ),
    ];
    for (name, qualifier, (status, code, message)) in cases {
        let input = InvocationRequest { qualifier: qualifier.map(str::to_owned), ..asks(name, "") };
        let error = invoke(&world, input).await.err().unwrap();
        assert_eq!(said(&error), (status, code.as_str(), message.as_str()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_invokes_what_its_policy_lets_it() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let call = async |account: &str| {
        let cx = Context::new(account, "us-east-1", "5b3c4f6e-0000-4000-8000-000000000002", "localhost", None);
        InvokeApi::invoke(&world.placement, &cx, asks("000000000000:function:f", "1")).await
    };
    assert_eq!(call(support::FRIEND).await.unwrap().payload, "1");
    assert_eq!(call("222222222222").await.err().unwrap().status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_checked_and_accepted_and_runs_nothing() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    let event = |name, payload| InvocationRequest { invocation_type: Some("Event".to_owned()), ..asks(name, payload) };
    let cx = context();
    let answer = InvokeApi::invoke(&world.placement, &cx, event("f", "[1]")).await.unwrap();
    assert_eq!((answer.status_code, answer.executed_version, &answer.payload[..]), (Some(202), None, &b""[..]));
    assert!(cx.take_answer_headers().iter().any(|(name, _)| *name == "x-amzn-trace-id"));
    for (name, payload, status) in [("missing", "1", 404), ("f", "{", 400)] {
        assert_eq!(invoke(&world, event(name, payload)).await.err().unwrap().status, status);
    }
    let large = Bytes::from([b"\"".to_vec(), b"x".repeat(1 << 20), b"\"".to_vec()].concat());
    let error = invoke(&world, InvocationRequest { payload: large, ..event("f", "") }).await.err().unwrap();
    let text = "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes)";
    assert_eq!(said(&error), (413, "RequestTooLargeException", text));
    let legacy = InvokeAsyncRequest { function_name: Some("f".to_owned()), invoke_args: Bytes::from_static(b"2") };
    let answer = InvokeApi::invoke_async(&world.placement, &context(), legacy).await.unwrap();
    assert_eq!(answer.status, Some(202));
    let accepted: Vec<Bytes> = world.events.events.lock().unwrap().iter().map(|event| event.payload.clone()).collect();
    assert_eq!(accepted, ["[1]", "2"]);
    world.events.is_full.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(invoke(&world, event("f", "1")).await.err().unwrap().status, 500);
    assert_eq!(world.host.sandboxes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_built_is_refused_by_name() {
    let world = World::new(config());
    let input = InvocationRequest { durable_execution_name: Some("x".to_owned()), ..asks("f", "") };
    let error = invoke(&world, input).await.err().unwrap();
    let message = "Hearth does not support lambda:Invoke with DurableExecutionName.";
    assert_eq!(said(&error), (501, "NotImplementedException", message));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why() {
    let full = World::new(support::Config { memory_budget: 100 << 20, ..config() });
    full.functions.put("f", 128, 1);
    let error = invoke(&full, asks("f", "")).await.err().unwrap();
    let message = "Rate Exceeded. The host's memory budget of 100 MB is in use.";
    assert_eq!(said(&error), (429, "TooManyRequestsException", message));
    assert_eq!(error.extra, [("Reason", "ConcurrentInvocationLimitExceeded".into())]);

    let closed = World::new(support::Config { concurrent_executions: 0, ..config() });
    closed.functions.put("f", 128, 1);
    let error = invoke(&closed, asks("f", "")).await.err().unwrap();
    assert_eq!(said(&error), (429, "TooManyRequestsException", "Rate Exceeded."));
    assert_eq!(error.extra, [("Reason", "ConcurrentInvocationLimitExceeded".into())]);

    let world = World::new(config());
    world.functions.put_changed("net", 128, 1, |function| {
        let Program::Zip(zip) = &mut function.program else { panic!("it is a zip") };
        zip.runtime = Runtime::parse("dotnet8").unwrap();
    });
    let error = invoke(&world, asks("net", "")).await.err().unwrap();
    let message = "Runtime dotnet8 is not installed on this host; see hearth runtimes.";
    assert_eq!(said(&error), (502, "InvalidRuntimeException", message));

    let other =
        if Architecture::of_host() == Some(Architecture::X86_64) { Architecture::Arm64 } else { Architecture::X86_64 };
    world.functions.put_changed("arm", 128, 1, |function| function.architecture = other);
    let error = invoke(&world, asks("arm", "")).await.err().unwrap();
    assert_eq!((error.status, &*error.code), (502, "InvalidRuntimeException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_with_weights_runs_each_version_as_often_as_it_says() {
    let world = World::new(config());
    let (primary, additional) = (world.functions.published("f", 1), world.functions.published("f", 2));
    let target = |weight| Target { primary: Ok(primary.clone()), additional: Some((Ok(additional.clone()), weight)) };
    for (weight, expected) in [(0.0, "1"), (1.0, "2")] {
        world.functions.alias("f", "live", target(weight));
        for _ in 0..20 {
            let answer = invoke(&world, asks("f:live", "1")).await.unwrap();
            assert_eq!(answer.executed_version.as_deref(), Some(expected));
        }
    }
    const DRAWS: u32 = 10_000;
    // The value that chi-square with one degree of freedom passes by chance once in a million times.
    const CHI_SQUARE_MAX: f64 = 23.93;
    for weight in [0.02, 0.25, 0.5, 0.9] {
        world.functions.alias("f", "live", target(weight));
        let (mut additional, mut changes, mut last) = (0, 0, None);
        for _ in 0..DRAWS {
            let version = invoke(&world, asks("f:live", "1")).await.unwrap().executed_version;
            additional += u32::from(version.as_deref() == Some("2"));
            changes += u32::from(last.as_ref().is_some_and(|last| *last != version));
            last = Some(version);
        }
        let chi_square = |seen: u32, draws: u32, chance: f64| {
            let expected = f64::from(draws) * chance;
            (f64::from(seen) - expected).powi(2) / (expected * (1.0 - chance))
        };
        let found = chi_square(additional, DRAWS, weight);
        assert!(found < CHI_SQUARE_MAX, "{weight}: {additional} of {DRAWS}, chi-square {found}");
        // Each is drawn anew: a call runs another version than the one before it as often as two draws differ. Calls that share
        // a draw make the variance at most twice as large.
        let found = chi_square(changes, DRAWS - 1, 2.0 * weight * (1.0 - weight)) / 2.0;
        assert!(found < CHI_SQUARE_MAX, "{weight}: {changes} changes, chi-square {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_whose_reservation_is_in_use_is_throttled_for_that_reason() {
    let world = World::new(config());
    world.functions.put("f", 128, 1);
    world.functions.put("g", 128, 1);
    world.functions.reserve("f", 0);
    let error = invoke(&world, asks("f", "")).await.err().unwrap();
    assert_eq!(said(&error), (429, "TooManyRequestsException", "Rate Exceeded."));
    assert_eq!(error.extra, [("Reason", "ReservedFunctionConcurrentInvocationLimitExceeded".into())]);
    world.functions.reserve("f", 1000);
    let error = invoke(&world, asks("g", "")).await.err().unwrap();
    assert_eq!(error.extra, [("Reason", "ConcurrentInvocationLimitExceeded".into())]);
    assert!(invoke(&world, asks("f", "1")).await.is_ok());
}
