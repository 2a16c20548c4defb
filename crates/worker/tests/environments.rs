//! Environments with real processes and a real Runtime API, in sandboxes that confine nothing.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_model::{FunctionError, InvokeError, Status};
use hearth_worker::Refused;
use support::{World, invocation, invoke, running, variable};

const ECHO: &str = "while True:\n  id, event = next_event()\n  respond(id, event)\n";

/// Positions of lines that contain these, in order of the log.
fn in_order(log: &[String], parts: &[&str]) {
    let mut from = 0;
    for part in parts {
        let found = log[from..].iter().position(|line| line.contains(part));
        let at = found.unwrap_or_else(|| panic!("{part:?} is not in {log:#?} after line {from}"));
        from += at + 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_initialises_serves_and_reports() {
    let mut world =
        World::new(&format!("say('init\\n')\n{}", ECHO.replace("  respond", "  say('hello\\n')\n  respond")));
    world.host.memory.store(36 << 20, Ordering::Relaxed);
    let environment = world.start();
    let first = invoke(&environment, "r1", "{\"a\": 1}").await.unwrap();
    assert_eq!((first.body.as_str(), first.head.function_error), ("{\"a\": 1}", None));
    assert_eq!((first.outcome.report.status, first.outcome.report.max_memory_used.as_mib()), (Status::Success, 36));
    assert!(first.outcome.report.init_duration.is_some_and(|init| init > Duration::from_millis(1)));
    world.wait_idle().await;
    let second = invoke(&environment, "r2", "2").await.unwrap();
    assert_eq!((second.body.as_str(), second.outcome.report.init_duration), ("2", None));
    let log = world.log().await;
    in_order(
        &log,
        &[
            "INIT_START Runtime Version: provided:al2023\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:0",
            "init",
            "START RequestId: r1 Version: $LATEST",
            "hello",
            "END RequestId: r1",
            "REPORT RequestId: r1\tDuration: ",
            "START RequestId: r2",
            "hello",
            "END RequestId: r2",
            "REPORT RequestId: r2",
        ],
    );
    assert_eq!(log.len(), 10, "{log:#?}");
    let tail = second.tail();
    assert!(tail.starts_with("START RequestId: r2 Version: $LATEST\nhello\nEND RequestId: r2\nREPORT"), "{tail}");
    assert!(world.host.cpu_limited.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_frozen_while_idle_and_thawed_for_a_call() {
    let mut world = World::new(ECHO);
    let environment = world.start();
    world.wait_idle().await;
    assert!(!world.host.cpu_limited.load(Ordering::Relaxed), "init is not held back");
    for id in ["a", "b"] {
        world.wait_until("frozen", |host| host.frozen.load(Ordering::Relaxed)).await;
        assert_eq!(invoke(&environment, id, "1").await.unwrap().body, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_too_long_is_ended_and_the_next_starts_afresh() {
    let code = "fresh = True\nwhile True:\n  id, event = next_event()\n  say('here\\n')\n  \
                if event == 'sleep': time.sleep(1000)\n  respond(id, str(fresh).lower()); fresh = False\n";
    let mut world = World::new(code).with(|function| function.timeout = Duration::from_millis(700));
    let environment = world.start();
    assert_eq!(invoke(&environment, "r0", "1").await.unwrap().body, "true");
    world.wait_idle().await;
    let late = invoke(&environment, "r1", "sleep").await.unwrap();
    let expected =
        r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r1 Error: Task timed out after 0.70 seconds"}"#;
    assert_eq!((late.body.as_str(), late.head.function_error), (expected, Some(FunctionError::Unhandled)));
    let report = &late.outcome.report;
    assert_eq!((report.status, report.duration), (Status::Timeout, Duration::from_millis(700)));
    world.wait_idle().await;
    let next = invoke(&environment, "r2", "1").await.unwrap();
    assert_eq!((next.body.as_str(), next.outcome.report.init_duration), ("true", None));
    let log = world.log().await;
    let parts = [
        "START RequestId: r1",
        "here",
        "r1 Task timed out after 0.70 seconds\n",
        "END RequestId: r1",
        "Status: timeout\t",
    ];
    in_order(&log, &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_exits_fails_with_its_status_and_the_next_starts_afresh() {
    let code = "while True:\n  id, event = next_event()\n  if event == '1': sys.exit(3)\n  \
                if event == '2': os.kill(os.getpid(), 11)\n  if event == '3': sys.exit(0)\n  respond(id, event)\n";
    let mut world = World::new(code);
    let environment = world.start();
    for (event, message) in [
        ("1", "Runtime exited with error: exit status 3"),
        ("2", "Runtime exited with error: signal: segmentation fault"),
        ("3", "Runtime exited without providing a reason"),
    ] {
        let done = invoke(&environment, event, event).await.unwrap();
        let expected =
            format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {event} Error: {message}"}}"#);
        assert_eq!(done.body, expected);
        assert_eq!(done.outcome.report.error_type.unwrap().as_str(), "Runtime.ExitError");
        world.wait_idle().await;
    }
    assert_eq!(invoke(&environment, "4", "4").await.unwrap().body, "4");
    let log = world.log().await;
    let line = "RequestId: 1 Error: Runtime exited with error: exit status 3\nRuntime.ExitError";
    in_order(&log, &["START RequestId: 1", line, "END RequestId: 1", "Status: error\tError Type: Runtime.ExitError\t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_killed_for_want_of_memory_says_so() {
    let code = "while True:\n  id, event = next_event()\n  os.kill(os.getpid(), 9)\n";
    let mut world = World::new(code);
    let environment = world.start();
    world.wait_idle().await;
    world.host.oom_kills.store(1, Ordering::Relaxed);
    let done = invoke(&environment, "r", "1").await.unwrap();
    let expected = r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited with error: signal: killed"}"#;
    assert_eq!(done.body, expected);
    assert_eq!(done.outcome.report.error_type.unwrap().as_str(), "Runtime.OutOfMemory");
    assert_eq!(done.outcome.report.max_memory_used.as_mib(), 128);
    let log = world.log().await;
    let line = "RequestId: r Error: Runtime exited with error: signal: killed\nRuntime.ExitError";
    in_order(&log, &[line, "END RequestId: r", "Status: error\tError Type: Runtime.OutOfMemory\t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_given_right_before_an_exit_counts() {
    let code = "id, event = next_event()\nrespond(id, event)\nos._exit(1)\n";
    let mut world = World::new(code);
    let environment = world.start();
    let done = invoke(&environment, "r", "\"kept\"").await.unwrap();
    assert_eq!((done.body.as_str(), done.head.function_error), ("\"kept\"", None));
    assert_eq!(done.outcome.report.error_type.unwrap().as_str(), "Runtime.ExitError");
    world.wait_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_that_fails_is_tried_again_inside_the_invocation_and_its_error_reaches_the_caller() {
    let body = r#"{"errorMessage": "no", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []}"#;
    let code = format!("say('trying\\n')\nfail('init/error', 'Runtime.ImportModuleError', '{body}')\nsys.exit(1)\n");
    let mut world = World::new(&code);
    let environment = world.start();
    for id in ["r1", "r2"] {
        let done = invoke(&environment, id, "1").await.unwrap();
        assert_eq!((done.body.as_str(), done.head.function_error), (body, Some(FunctionError::Unhandled)));
        assert_eq!(done.outcome.report.error_type.unwrap().as_str(), "Runtime.ImportModuleError");
        assert_eq!(done.outcome.report.init_duration, None);
        world.wait_idle().await;
    }
    let log = world.log().await;
    let parts = [
        "INIT_START",
        "trying",
        "Phase: init\tStatus: error\tError Type: Runtime.ImportModuleError",
        "trying",
        "Phase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError",
        "START RequestId: r1",
        "END RequestId: r1",
        "REPORT RequestId: r1",
        "Phase: invoke",
        "START RequestId: r2",
    ];
    in_order(&log, &parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_that_crashes_once_recovers_inside_the_invocation() {
    let code = "import pathlib\nseen = pathlib.Path(__file__).parent / 'seen'\n\
                if not seen.exists():\n  seen.touch()\n  sys.exit(7)\n";
    let mut world = World::new(&format!("{code}{ECHO}"));
    let environment = world.start();
    let done = invoke(&environment, "r", "5").await.unwrap();
    assert_eq!((done.body.as_str(), done.outcome.report.init_duration), ("5", None));
    in_order(&world.log().await, &["Phase: init\tStatus: error\tError Type: Runtime.ExitError", "START RequestId: r"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_unusable_bootstrap_is_named() {
    let mut world = World::without_bootstrap();
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    let expected = r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: r Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"}"#;
    assert_eq!(done.body, expected);
    world.wait_idle().await;
    world.write_bootstrap("#!/bin/sh\n", 0o644);
    let done = invoke(&environment, "s", "1").await.unwrap();
    let expected = r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: s Error: fork/exec /var/task/bootstrap: permission denied"}"#;
    assert_eq!(done.body, expected);
    world.wait_idle().await;
    world.write_bootstrap("neither script nor program", 0o755);
    assert!(invoke(&environment, "t", "1").await.unwrap().body.contains("exec format error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_errors_pass_byte_for_byte() {
    let code = "while True:\n  id, event = next_event()\n  fail(f'invocation/{id}/error', 'Whatever', '{\"errorType\" : \"E\"}')\n";
    let mut world = World::new(code);
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    assert_eq!(
        (done.body.as_str(), done.head.function_error),
        ("{\"errorType\" : \"E\"}", Some(FunctionError::Unhandled))
    );
    assert_eq!(
        (done.outcome.report.status, done.outcome.report.error_type.unwrap().as_str()),
        (Status::Error, "Runtime.Unknown")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_too_large_is_replaced_and_the_environment_goes_on() {
    let code = "while True:\n  id, event = next_event()\n  status = respond(id, 'x' * int(event))\n  say(f'told {status}\\n')\n";
    let mut world = World::new(code);
    let environment = world.start();
    let done = invoke(&environment, "r", "6291557").await.unwrap();
    let expected = r#"{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#;
    assert_eq!((done.body.as_str(), done.head.function_error), (expected, Some(FunctionError::Unhandled)));
    world.wait_idle().await;
    assert_eq!(invoke(&environment, "s", "6291556").await.unwrap().body.len(), 6_291_556);
    in_order(&world.log().await, &["told 413", "Error Type: Function.ResponseSizeTooLarge", "told 202"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_is_refused_and_the_caller_gets_the_first() {
    let code = "while True:\n  id, event = next_event()\n  respond(id, '1')\n  status = respond(id, '2')\n  \
                say(f'second {status}\\n')\n";
    let mut world = World::new(code);
    let environment = world.start();
    for id in ["a", "b"] {
        assert_eq!(invoke(&environment, id, "0").await.unwrap().body, "1");
        world.wait_idle().await;
    }
    in_order(&world.log().await, &["second 400", "REPORT RequestId: a", "second 400", "REPORT RequestId: b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_closes_its_socket_and_never_answers_times_out() {
    let code = "while True:\n  id, event = next_event()\n  if event == '1':\n    api.close()\n    time.sleep(1000)\n  respond(id, event)\n";
    let mut world = World::new(code).with(|function| function.timeout = Duration::from_secs(3));
    let environment = world.start();
    assert!(invoke(&environment, "r", "1").await.unwrap().body.contains("Sandbox.Timedout"));
    world.wait_idle().await;
    assert_eq!(invoke(&environment, "s", "2").await.unwrap().body, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_output_is_in_the_log_before_the_report() {
    let code = "import sys\nwhile True:\n  id, event = next_event()\n  data = b''.join(b'%031d\\n' % i for i in range(1 << 15))\n  \
                while data: data = data[os.write(1, data):]\n  os.write(2, b'no newline')\n  respond(id, '1')\n";
    let mut world = World::new(code);
    let environment = world.start();
    let done = invoke(&environment, "r", "0").await.unwrap();
    let tail = done.tail();
    assert_eq!(tail.len(), 4096);
    assert!(tail.contains("32767\nno newline\nEND RequestId: r\nREPORT RequestId: r"), "{tail}");
    let log = world.log().await;
    let at = |text: &str| log.iter().position(|line| line.starts_with(text)).unwrap();
    let zero = "0".repeat(31);
    assert_eq!(at("no newline") - at(&zero), 1 << 15);
    assert!(at("END RequestId: r") > at("no newline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_floods_its_log_is_served_and_ended_like_any_other() {
    let code = "def flood():\n  while True: os.write(1, b'x' * 65536)\n\
                threading.Thread(target=flood, daemon=True).start()\n";
    let mut world = World::new(&format!("{code}{ECHO}"));
    let environment = world.start();
    for id in ["a", "b", "c"] {
        assert_eq!(invoke(&environment, id, "1").await.unwrap().body, "1");
        world.wait_idle().await;
    }
    environment.shutdown().await;
    world.wait_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_fails_what_is_running_and_gives_everything_back() {
    let mut world = World::new("id, event = next_event()\nsay('in\\n')\ntime.sleep(1000)\n");
    let environment = world.start();
    let response = environment.invoke(invocation(&environment, "r", "1"), running());
    while !world.log().await.contains(&"in".to_owned()) {
        tokio::task::yield_now().await;
    }
    let identity = world.host.served.lock().unwrap()[0].clone();
    assert_eq!((identity.role.as_str(), &identity.environment), ("arn:aws:iam::000000000000:role/r", environment.id()));
    environment.shutdown().await;
    let response = response.await.unwrap();
    let (_, body, outcome) = response.collect(1000).await.unwrap();
    assert!(body.starts_with(br#"{"errorType":"Sandbox.Failure""#));
    assert_eq!(outcome.await.report.status, Status::Failure);
    world.wait_gone().await;
    assert_eq!(world.host.sandboxes.load(Ordering::Relaxed), 0);
    assert!(world.host.served.lock().unwrap().is_empty());
    let refused = invoke(&environment, "s", "1").await.unwrap_err();
    assert!(matches!(refused, InvokeError::ShuttingDown), "{refused}");
    tokio::time::timeout(support::PATIENCE, world.worker.closed()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_call_at_a_time_is_refused() {
    let mut world = World::new("time.sleep(1000)");
    let environment = world.start();
    let first = environment.invoke(invocation(&environment, "a", "1"), running());
    let refused = invoke(&environment, "b", "1").await.unwrap_err();
    assert!(matches!(refused, InvokeError::Internal(_)), "{refused}");
    drop(environment.shutdown());
    assert!(matches!(first.await, Err(Refused { error: InvokeError::ShuttingDown, invocation: Some(_) })));
    world.wait_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_is_missing_refuses_the_call_and_ends_the_environment() {
    let mut world = World::new(ECHO);
    world.host.runtime_missing.store(true, Ordering::Relaxed);
    let environment = world.start();
    let refused = invoke(&environment, "a", "1").await.unwrap_err();
    assert!(matches!(refused, InvokeError::RuntimeMissing(_)), "{refused}");
    world.wait_gone().await;
    assert!(world.log().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_the_environment_in_order() {
    let mut world = World::new(ECHO);
    let environment = world.start();
    drop(environment.invoke(invocation(&environment, "a", "1"), running()));
    world.wait_idle().await;
    assert_eq!(invoke(&environment, "b", "2").await.unwrap().body, "2");
    in_order(&world.log().await, &["REPORT RequestId: a", "REPORT RequestId: b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_finds_awss_variables_and_its_own() {
    let code = "import json\nwhile True:\n  id, event = next_event()\n  respond(id, json.dumps(dict(os.environ)))\n";
    let own = vec![
        variable("MINE", "1"),
        variable("TZ", "Europe/Berlin"),
        variable("AWS_REGION", "moon-1"),
        variable("_DROPPED", "x"),
    ];
    let mut world = World::new(code).with(|function| function.environment = own);
    let environment = world.start();
    let body = invoke(&environment, "r", "1").await.unwrap().body;
    let found: serde_json::Value = serde_json::from_str(&body).unwrap();
    for (key, value) in [
        ("MINE", "1"),
        ("TZ", "Europe/Berlin"),
        ("LANG", "en_US.UTF-8"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
        ("AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1:2000"),
        ("_AWS_XRAY_DAEMON_PORT", "2000"),
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("_HANDLER", "h"),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    assert!(found.get("_DROPPED").is_none() && found.get("AWS_EXECUTION_ENV").is_none(), "{found}");
    let stream = found["AWS_LAMBDA_LOG_STREAM_NAME"].as_str().unwrap();
    assert!(stream.ends_with(&format!("[$LATEST]{}", environment.id())), "{stream}");
    let key = found["AWS_ACCESS_KEY_ID"].as_str().unwrap();
    assert!(key.len() == 20 && key.starts_with("ASIA"), "{key}");
}
