//! Extensions beside a runtime: real processes, in sandboxes that confine nothing.

mod support;

use std::time::{Duration, Instant};

use hearth_model::{FunctionError, Status};
use support::{World, invocation, invoke, running, variable};

const ECHO: &str = "while True:\n  id, event = next_event()\n  say('runtime ' + id + '\\n')\n  respond(id, event)\n";
/// Says what it is told.
const WATCH: &str = "register('INVOKE', 'SHUTDOWN')\nwhile True:\n  event = next_event()\n  \
    say(name + ' ' + event['eventType'] + ' ' + event.get('requestId', event.get('shutdownReason', '')))\n  \
    if event['eventType'] == 'SHUTDOWN': sys.exit(0)\n";

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
async fn external_extensions_start_first_are_told_of_invocations_and_end_in_order() {
    let mut world = World::new(&format!("say('runtime starts\\n')\n{ECHO}"));
    world.write_extension("watch", &format!("say('watch starts')\n{WATCH}"));
    let environment = world.start();
    for id in ["r1", "r2"] {
        assert_eq!(invoke(&environment, id, "1").await.unwrap().body, "1");
        world.wait_idle().await;
    }
    environment.shutdown().await;
    world.wait_gone().await;
    let log = world.log().await;
    in_order(
        &log,
        &[
            "INIT_START",
            "watch starts",
            "runtime starts",
            "EXTENSION\tName: watch\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
            "START RequestId: r1",
            "watch INVOKE r1",
            "REPORT RequestId: r1",
            "watch INVOKE r2",
            "REPORT RequestId: r2",
            "watch SHUTDOWN spindown",
        ],
    );
    assert_eq!(log.iter().filter(|line| line.starts_with("EXTENSION")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_on_its_way_while_an_extension_still_works() {
    let world = World::new(ECHO);
    let slow = "register('INVOKE')\nevent = next_event()\nwhile not os.path.exists(os.environ['GO']): time.sleep(0.001)\n\
        say('done')\nnext_event()\n";
    world.write_extension("slow", slow);
    let go = tempfile::tempdir().unwrap();
    let file = go.path().join("go");
    let mut world = world.with(|function| function.environment = vec![variable("GO", file.to_str().unwrap())]);
    let environment = world.start();
    world.wait_idle().await;
    let response = environment.invoke(invocation(&environment, "r", "7"), running()).await.unwrap();
    let (_, body, outcome) = response.collect(100).await.unwrap();
    assert_eq!(body, "7");
    let answered = Instant::now();
    let refused = invoke(&environment, "s", "1").await.unwrap_err();
    assert!(refused.to_string().contains("another invocation"), "{refused}");
    tokio::time::sleep(Duration::from_millis(30)).await;
    std::fs::write(&file, "").unwrap();
    let report = outcome.await.report;
    assert!(report.duration >= Duration::from_millis(30), "{report:?} after {:?}", answered.elapsed());
    assert!(report.billed_ms() >= 30);
    world.wait_idle().await;
    in_order(&world.log().await, &["runtime r", "done", "END RequestId: r", "REPORT RequestId: r"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_never_finishes_takes_the_invocation_to_its_timeout() {
    let mut world = World::new(ECHO).with(|function| function.timeout = Duration::from_millis(600));
    let code = "register('INVOKE', 'SHUTDOWN')\nnext_event()\nsignal.alarm(100)\ntime.sleep(1000)\n";
    world.write_extension("stuck", code);
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    assert_eq!((done.body.as_str(), done.head.function_error), ("1", None), "the answer had been given");
    assert_eq!(done.outcome.report.status, Status::Timeout);
    world.wait_idle().await;
    in_order(&world.log().await, &["Task timed out after 0.60 seconds", "Status: timeout"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_are_told_why_and_start_again_after_a_timeout_and_a_crash() {
    let code = "while True:\n  id, event = next_event()\n  if event == '1': time.sleep(1000)\n  if event == '2': sys.exit(3)\n  respond(id, event)\n";
    let mut world = World::new(code).with(|function| function.timeout = Duration::from_secs(4));
    world.write_extension("watch", WATCH);
    let environment = world.start();
    let late = invoke(&environment, "late", "1").await.unwrap();
    assert_eq!(late.outcome.report.status, Status::Timeout);
    world.wait_idle().await;
    let crashed = invoke(&environment, "crashed", "2").await.unwrap();
    assert!(crashed.body.contains("exit status 3"), "{}", crashed.body);
    world.wait_idle().await;
    assert_eq!(invoke(&environment, "well", "3").await.unwrap().body, "3");
    let log = world.log().await;
    let ready = "EXTENSION\tName: watch\tState: Ready";
    in_order(&log, &[ready, "watch INVOKE late", "watch SHUTDOWN timeout", ready, "watch SHUTDOWN failure", ready]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_ends_fails_init_and_invocations_and_its_own_error_names_it() {
    for (code, error_type, message, state) in [
        ("sys.exit(0)\n", "Extension.Crash", "exit code 0", "Exited"),
        ("register('INVOKE')\nsys.exit(4)\n", "Extension.Crash", "exit status 4", "Exited"),
        (
            "register('INVOKE')\nfail('init', 'My.Broken')\nsys.exit(5)\n",
            "Extension.InitError",
            "exit status 5",
            "InitError\tEvents: [INVOKE]\tError Type: My.Broken",
        ),
    ] {
        let mut world = World::new(ECHO);
        world.write_extension("bad", code);
        let environment = world.start();
        let done = invoke(&environment, "r", "1").await.unwrap();
        let expected = format!(r#"{{"errorType":"{error_type}","errorMessage":"RequestId: r Error: {message}"}}"#);
        assert_eq!((done.body, done.head.function_error), (expected, Some(FunctionError::Unhandled)));
        let log = world.log().await;
        let (state, init) =
            (format!("State: {state}"), format!("Phase: init\tStatus: error\tError Type: {error_type}"));
        in_order(&log, &[&state, &init, "Phase: invoke", "START RequestId: r", "END RequestId: r"]);
        assert!(!log.iter().any(|line| line.contains("runtime r")), "{log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_ends_in_an_invocation_fails_it_and_the_next_starts_afresh() {
    let code = "import pathlib\nregister('INVOKE')\nnext_event()\nseen = pathlib.Path(sys.argv[0] + '.seen')\n\
        if not seen.exists():\n  seen.touch()\n  fail('exit', 'My.Exit')\n  sys.exit(6)\nnext_event()\n";
    let slow = ECHO.replace("respond", "time.sleep(1 if id == 'r' else 0); respond");
    let mut world = World::new(&slow);
    world.write_extension("once", code);
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    let expected = r#"{"errorType":"Extension.ExitError","errorMessage":"RequestId: r Error: exit status 6"}"#;
    assert_eq!(done.body, expected);
    world.wait_idle().await;
    // What it leaves behind is no extension of its own.
    std::fs::remove_file(world.host.extension("once.seen")).unwrap();
    world.write_extension("once", "register('INVOKE')\nwhile True: next_event()\n");
    assert_eq!(invoke(&environment, "s", "2").await.unwrap().body, "2");
    let log = world.log().await;
    in_order(&log, &["RequestId: r Error: exit status 6\nExtension.ExitError", "Error Type: Extension.ExitError"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_that_cannot_be_started_are_named() {
    let mut world = World::new(ECHO);
    world.write("opt/extensions", "locked", "#!/bin/sh\n", 0o644);
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    let expected = r#"{"errorType":"Extension.LaunchError","errorMessage":"RequestId: r Error: fork/exec /opt/extensions/locked: permission denied"}"#;
    assert_eq!(done.body, expected);
    in_order(&world.log().await, &["Name: locked\tState: LaunchError\tEvents: []\tError Type: Extension.LaunchError"]);
    let mut world = World::new(ECHO);
    (0..11).for_each(|number| world.write_extension(&format!("e{number:02}"), WATCH));
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    assert!(done.body.contains("Extension.LaunchError") && done.body.contains("Extension limit (10) reached"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_extensions_take_part() {
    let mut world = World::new(ECHO);
    (0..10).for_each(|number| world.write_extension(&format!("e{number}"), WATCH));
    let environment = world.start();
    assert_eq!(invoke(&environment, "r", "1").await.unwrap().body, "1");
    world.wait_idle().await;
    environment.shutdown().await;
    let log = world.log().await;
    for number in 0..10 {
        in_order(&log, &[&format!("e{number} INVOKE r"), &format!("e{number} SHUTDOWN spindown")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_wants_nothing_is_waited_for_once_and_killed_at_the_end() {
    let mut world = World::new(ECHO);
    let code = "register()\nsay('asked')\nnext_event()\nsay('never told')\n";
    world.write_extension("quiet", code);
    let environment = world.start();
    for id in ["a", "b"] {
        assert_eq!(invoke(&environment, id, "1").await.unwrap().body, "1");
        world.wait_idle().await;
    }
    environment.shutdown().await;
    let log = world.log().await;
    in_order(&log, &["asked", "Name: quiet\tState: Ready\tEvents: []", "REPORT RequestId: b"]);
    assert!(!log.iter().any(|line| line.contains("never told")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_is_asked_to_end_when_there_are_extensions_and_killed_when_there_are_none() {
    let polite = "import signal\ndef end(*_):\n  say('asked to end\\n')\n  sys.exit(0)\nsignal.signal(15, end)\n";
    for extension in [true, false] {
        let mut world = World::new(&format!("{polite}{ECHO}"));
        if extension {
            world.write_extension("watch", WATCH);
        }
        let environment = world.start();
        world.wait_idle().await;
        environment.shutdown().await;
        let log = world.log().await;
        assert_eq!(log.contains(&"asked to end".to_owned()), extension, "{log:#?}");
        if extension {
            in_order(&log, &["asked to end", "watch SHUTDOWN spindown"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_end_is_killed_when_its_time_is_over() {
    let stubborn = "import signal\nsignal.signal(15, signal.SIG_IGN)\n";
    let mut world = World::new(&format!("{stubborn}{ECHO}"));
    let code = "register('SHUTDOWN')\nevent = next_event()\nleft = event['deadlineMs'] / 1000 - time.time()\n\
        say('told ' + str(left < 2))\ntime.sleep(1000)\n";
    world.write_extension("stubborn", code);
    let environment = world.start();
    world.wait_idle().await;
    let begun = Instant::now();
    environment.shutdown().await;
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
    in_order(&world.log().await, &["told True"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_extensions_register_from_the_runtime_until_it_is_ready() {
    let code = "import json\napi2 = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n\
def ext(method, path, body=None, headers={}):\n  api2.request(method, '/2020-01-01/extension/' + path, body, headers)\n  \
  reply = api2.getresponse()\n  return reply, reply.read().decode()\n\
reply, _ = ext('POST', 'register', json.dumps({'events': ['INVOKE']}), {'Lambda-Extension-Name': 'inner'})\n\
mine = {'Lambda-Extension-Identifier': reply.headers['Lambda-Extension-Identifier']}\n\
def listen():\n  while True:\n    event = json.loads(ext('GET', 'event/next', None, mine)[1])\n    say('inner ' + event['requestId'] + '\\n')\n\
threading.Thread(target=listen, daemon=True).start()\n\
while True:\n  id, event = next_event()\n  late = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])\n  \
late.request('POST', '/2020-01-01/extension/register', '{}', {'Lambda-Extension-Name': 'late'})\n  \
say('late ' + str(late.getresponse().read()) + '\\n')\n  respond(id, event)\n";
    let mut world = World::new(code);
    let environment = world.start();
    assert_eq!(invoke(&environment, "r", "1").await.unwrap().body, "1");
    world.wait_idle().await;
    environment.shutdown().await;
    let log = world.log().await;
    in_order(&log, &["Name: inner\tState: Ready\tEvents: [INVOKE]", "REPORT RequestId: r"]);
    assert!(log.contains(&"inner r".to_owned()), "{log:#?}");
    in_order(&log, &["late ", "REPORT RequestId: r"]);
    assert!(log.iter().any(|line| line.contains("Extension.RegistrationClosed")), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_waits_for_extensions_within_its_time() {
    let mut world = World::new(ECHO);
    world.write_extension("mute", "time.sleep(1000)\n");
    world.shorten_init(Duration::from_millis(700));
    let mut world = world.with(|function| function.timeout = Duration::from_millis(900));
    let environment = world.start();
    let done = invoke(&environment, "r", "1").await.unwrap();
    assert_eq!(done.outcome.report.status, Status::Timeout);
    let log = world.log().await;
    let parts = [
        "EXTENSION\tName: mute\tState: Started\tEvents: []",
        "INIT_REPORT Init Duration: 700.00 ms\tPhase: init\tStatus: timeout",
        "INIT_REPORT Init Duration: 900.00 ms\tPhase: invoke\tStatus: timeout",
        "Task timed out after 0.90 seconds",
    ];
    in_order(&log, &parts);
    assert!(!log.iter().any(|line| line.starts_with("runtime")), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_finds_its_variables_and_not_the_runtimes() {
    let own = vec![variable("MINE", "1"), variable("_DROPPED", "x")];
    let mut world = World::new(ECHO).with(|function| function.environment = own);
    world.write_extension("env", &format!("say(json.dumps([dict(os.environ), os.getcwd()]))\n{WATCH}"));
    let environment = world.start();
    world.wait_idle().await;
    let log = world.log().await;
    let line = log.iter().find(|line| line.starts_with("[{")).unwrap();
    let (found, folder): (serde_json::Map<String, serde_json::Value>, String) = serde_json::from_str(line).unwrap();
    for (key, value) in [("MINE", "1"), ("AWS_REGION", "us-east-1"), ("AWS_LAMBDA_FUNCTION_NAME", "f"), ("TZ", ":UTC")]
    {
        assert_eq!(found[key], value, "{key}");
    }
    assert!(found.contains_key("AWS_ACCESS_KEY_ID") && found.contains_key("AWS_LAMBDA_RUNTIME_API"));
    for key in ["_HANDLER", "_DROPPED", "AWS_LAMBDA_LOG_STREAM_NAME", "LAMBDA_TASK_ROOT", "AWS_XRAY_CONTEXT_MISSING"] {
        assert!(!found.contains_key(key), "{key} is in {found:?}");
    }
    drop((folder, environment.shutdown()));
}
