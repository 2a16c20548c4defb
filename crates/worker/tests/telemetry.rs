//! What subscribers of the Telemetry and Logs APIs are sent: real sockets, in sandboxes that confine nothing.

mod support;

use hearth_model::{JsonLogs, LogLevel};
use serde_json::Value;
use support::{Done, World, invoke, variable};

/// An extension that listens and says what it gets; `hold()` is called before a request is answered.
const LISTEN: &str = r#"
import http.server, socketserver, threading
def hold(): pass
def got(events):
    for event in events:
        if event['type'] != 'extension': say('got ' + json.dumps(event))
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        assert self.headers['Content-Type'] == 'application/json' and self.path == '/sink'
        hold()
        got(json.loads(body))
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_): pass
class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: got([json.loads(line)])
def listen(server, handler):
    server = server(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
def subscribe(path, schema, types, destination, **buffering):
    body = {'schemaVersion': schema, 'types': types, 'destination': destination, 'buffering': buffering}
    api.request('PUT', path, json.dumps(body), {'Lambda-Extension-Identifier': id})
    reply = api.getresponse()
    return reply.status, reply.read().decode()
def over_http():
    port = listen(http.server.ThreadingHTTPServer, Sink)
    return {'protocol': 'HTTP', 'URI': f'http://sandbox.localdomain:{port}/sink'}
def over_tcp():
    return {'protocol': 'TCP', 'port': listen(socketserver.ThreadingTCPServer, Lines)}
TELEMETRY = '/2022-07-01/telemetry'
LOGS = '/2020-08-15/logs'
def live():
    while True:
        if next_event()['eventType'] == 'SHUTDOWN': break
"#;

const ECHO: &str = "while True:\n  id, event = next_event()\n  say('hello ' + id + '\\n')\n  respond(id, event)\n";

fn world(extension: &str) -> World {
    let world = World::new(ECHO);
    world.write_extension("sink", &format!("{LISTEN}{extension}"));
    world
}

/// What the extension says that it got.
async fn got(world: &World) -> Vec<Value> {
    let log = world.log().await;
    log.iter().filter_map(|line| line.strip_prefix("got ")).map(|event| serde_json::from_str(event).unwrap()).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// The record of the only event of this type that has this request id, or none.
fn record<'a>(events: &'a [Value], kind: &str, request_id: &str) -> &'a Value {
    let found = events.iter().filter(|event| event["type"] == kind).map(|event| &event["record"]);
    let mine: Vec<_> =
        found.filter(|record| [&Value::Null, &request_id.into()].contains(&&record["requestId"])).collect();
    assert_eq!(mine.len(), 1, "{kind} of {request_id}: {events:#?}");
    mine[0]
}

/// Two invocations, then the end, at which all is sent.
async fn run(world: &mut World) -> [Done; 2] {
    let environment = world.start();
    let mut done = Vec::new();
    for id in ["r1", "r2"] {
        done.push(invoke(&environment, id, "\"1234\"").await.unwrap());
        world.wait_idle().await;
    }
    environment.shutdown().await;
    done.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_everything_with_its_time() {
    let mut world = world(
        "register('INVOKE', 'SHUTDOWN')\nsay(str(subscribe(TELEMETRY, '2022-07-01', ['platform', 'function'], over_http(), \
         timeoutMs=25)))\nlive()\ntime.sleep(0.3)\n",
    );
    let [first, _] = run(&mut world).await;
    let log = world.log().await;
    assert!(log.contains(&"(200, '\"OK\"')".to_owned()), "{log:#?}");
    assert!(log.contains(&"TELEMETRY\tName: sink\tState: Subscribed\tTypes: [Platform, Function]".to_owned()));
    let events = got(&world).await;
    let platform: Vec<_> = types(&events).into_iter().filter(|kind| kind.starts_with("platform")).collect();
    let invocation = ["platform.start", "platform.runtimeDone", "platform.report"];
    let init = ["platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone"];
    let init = [&init[..], &["platform.extension", "platform.initReport"]].concat();
    assert_eq!(platform, [&init[..], &invocation, &invocation].concat());
    let start = record(&events, "platform.initStart", "");
    assert_eq!((&start["phase"], &start["instanceMaxMemory"]), (&"init".into(), &(128 << 20).into()));
    assert_eq!(record(&events, "platform.initRuntimeDone", "")["status"], "success");
    assert!(record(&events, "platform.initReport", "")["metrics"]["durationMs"].as_f64().unwrap() > 1.0);
    let extension = record(&events, "platform.extension", "");
    assert_eq!(extension, &serde_json::json!({"name": "sink", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}));
    let done = record(&events, "platform.runtimeDone", "r1");
    assert_eq!((&done["status"], &done["metrics"]["producedBytes"]), (&"success".into(), &6.into()));
    let spans = done["spans"].as_array().unwrap();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["responseLatency", "responseDuration", "runtimeOverhead"]);
    let sum: f64 = spans.iter().map(|span| span["durationMs"].as_f64().unwrap()).sum();
    let whole = done["metrics"]["durationMs"].as_f64().unwrap();
    assert!((sum - whole).abs() < 0.01, "spans of {sum} ms in {whole} ms");
    let report = record(&events, "platform.report", "r1");
    let ms = |name: &str| report["metrics"][name].as_f64().unwrap();
    let told = first.outcome.report;
    assert!((ms("durationMs") - told.duration.as_secs_f64() * 1e3).abs() < 0.01);
    assert_eq!((ms("billedDurationMs") as u64, ms("memorySizeMB") as u64), (told.billed_ms(), 128));
    assert!(ms("initDurationMs") > 1.0 && ms("durationMs") >= whole - 0.01);
    assert_eq!(report["spans"][0]["name"], "extensionOverhead");
    assert!(record(&events, "platform.report", "r2")["metrics"]["initDurationMs"].is_null());
    let lines: Vec<_> = events.iter().filter(|event| event["type"] == "function").map(|e| &e["record"]).collect();
    assert_eq!(lines, ["hello r1", "hello r2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_api_speaks_over_tcp_and_knows_extensions_lines() {
    let mut world = world(
        "register('SHUTDOWN')\nsay(str(subscribe(LOGS, '2021-03-18', ['platform', 'extension', 'function'], over_tcp(), \
         timeoutMs=25)))\nlive()\ntime.sleep(0.3)\n",
    );
    run(&mut world).await;
    assert!(
        world
            .log()
            .await
            .iter()
            .any(|line| line == "LOGS\tName: sink\tState: Subscribed\tTypes: [Platform, Function, Extension]")
    );
    let events = got(&world).await;
    let invocation = ["platform.start", "function", "platform.runtimeDone", "platform.end", "platform.report"];
    let expected = [&["platform.logsSubscription", "platform.extension"][..], &invocation, &invocation].concat();
    assert_eq!(types(&events), expected);
    assert_eq!(record(&events, "platform.end", "r2"), &serde_json::json!({"requestId": "r2"}));
    assert_eq!(
        record(&events, "platform.runtimeDone", "r1"),
        &serde_json::json!({"requestId": "r1", "status": "success"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_falls_behind_is_told_and_holds_up_nobody() {
    let mut world = world(
        "def hold():\n  while not os.path.exists(os.environ['GO']): time.sleep(0.005)\n\
         register('SHUTDOWN')\nsubscribe(TELEMETRY, '2022-12-13', ['platform', 'function'], over_http(), timeoutMs=25)\n\
         live()\ntime.sleep(0.5)\n",
    );
    world.write_code("while True:\n  id, event = next_event()\n  for i in range(1500): say('x' * 999 + '\\n')\n  respond(id, event)\n");
    let go = tempfile::tempdir().unwrap();
    let file = go.path().join("go");
    world.function.environment = vec![variable("GO", file.to_str().unwrap())];
    let environment = world.start();
    assert_eq!(invoke(&environment, "r1", "1").await.unwrap().body, "1", "nobody waits for the subscriber");
    world.wait_idle().await;
    std::fs::write(&file, "").unwrap();
    assert_eq!(invoke(&environment, "r2", "2").await.unwrap().body, "2");
    world.wait_idle().await;
    environment.shutdown().await;
    let events = got(&world).await;
    let dropped: Vec<_> = events.iter().filter(|event| event["type"] == "platform.logsDropped").collect();
    assert!(!dropped.is_empty(), "{:?}", types(&events));
    for event in &dropped {
        let number = |name: &str| event["record"][name].as_u64().unwrap();
        assert!(number("droppedRecords") > 0 && number("droppedBytes") > 1_000, "{event}");
        assert!(event["record"]["reason"].as_str().unwrap().starts_with("Consumer seems to have fallen behind"));
    }
    let lines = types(&events).iter().filter(|kind| **kind == "function").count();
    assert!(lines < 3_000, "{lines} of 3000 lines, and others dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_failing_function_is_told() {
    let mut world = world(
        "register('SHUTDOWN')\nsubscribe(TELEMETRY, '2025-01-29', ['platform'], over_http(), timeoutMs=25)\nlive()\ntime.sleep(0.3)\n",
    );
    world.write_code("while True:\n  id, event = next_event()\n  if event == '1': fail(f'invocation/{id}/error', 'Function.Sad', '{}')\n  else: sys.exit(3)\n");
    let environment = world.start();
    for (id, event) in [("sad", "1"), ("gone", "2")] {
        invoke(&environment, id, event).await.unwrap();
        world.wait_idle().await;
    }
    environment.shutdown().await;
    let events = got(&world).await;
    for (id, error_type) in [("sad", "Function.Sad"), ("gone", "Runtime.ExitError")] {
        for kind in ["platform.runtimeDone", "platform.report"] {
            let record = record(&events, kind, id);
            assert_eq!((&record["status"], &record["errorType"]), (&"error".into(), &error_type.into()), "{kind} {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_refused_when_wrong_or_late() {
    let mut world = world(
        "register('INVOKE')\nsay('wrong ' + str(subscribe(TELEMETRY, '1999-01-01', ['platform'], {'protocol': 'TCP', 'port': 5})))\n\
         next_event()\nfor path, schema in (TELEMETRY, '2022-07-01'), (LOGS, '2020-08-15'):\n  \
         say('late ' + str(subscribe(path, schema, ['platform'], {'protocol': 'TCP', 'port': 5})))\nlive()\n",
    );
    let environment = world.start();
    invoke(&environment, "r", "1").await.unwrap();
    world.wait_idle().await;
    drop(environment.shutdown());
    for part in [
        "wrong (400, '{\"errorMessage\":\"schemaVersion 1999-01-01 is not supported\",\"errorType\":\"ValidationError\"}')",
        "late (403, '{\"errorMessage\":\"Telemetry API subscription is closed already\",\"errorType\":\"Telemetry.SubscriptionClosed\"}')",
        "late (403, '{\"errorMessage\":\"Logs API subscription is closed already\",\"errorType\":\"Logs.SubscriptionClosed\"}')",
    ] {
        world.wait_log(part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_buffer_is_sent_at_the_end() {
    let mut world = world(
        "register('SHUTDOWN')\nsubscribe(TELEMETRY, '2022-07-01', ['platform'], over_http(), timeoutMs=30000)\nlive()\ntime.sleep(0.5)\n",
    );
    run(&mut world).await;
    let events = got(&world).await;
    assert_eq!(types(&events).last(), Some(&"platform.report"), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_json_has_the_platforms_events_and_the_functions_lines_of_its_levels() {
    let extension = "register('SHUTDOWN')\nsubscribe(TELEMETRY, '2022-12-13', ['function'], over_http(), timeoutMs=25)\nlive()\ntime.sleep(0.3)\n";
    for (system, debug) in [(LogLevel::Info, false), (LogLevel::Debug, true)] {
        let mut world = world(extension);
        world.write_code("while True:\n  id, event = next_event()\n  say('{\"level\": \"DEBUG\", \"n\": 1}\\n{\"level\": \"WARN\", \"n\": 2}\\nplain\\n')\n  respond(id, os.environ['AWS_LAMBDA_LOG_LEVEL'] + os.environ['AWS_LAMBDA_LOG_FORMAT'])\n");
        world.function.json_logs = Some(JsonLogs { application: LogLevel::Warn, system });
        let environment = world.start();
        let done = invoke(&environment, "r1", "1").await.unwrap();
        assert_eq!(done.body, "WARNJSON");
        world.wait_idle().await;
        environment.shutdown().await;
        let log = world.log().await;
        let events: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let platform: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        let all = [
            "platform.initStart",
            "platform.initRuntimeDone",
            "platform.extension",
            "platform.initReport",
            "platform.start",
            "platform.runtimeDone",
            "platform.report",
        ];
        let without = ["platform.initRuntimeDone", "platform.initReport", "platform.runtimeDone"];
        let expected: Vec<_> = all.into_iter().filter(|kind| debug || !without.contains(kind)).collect();
        let platform: Vec<_> = platform.into_iter().filter(|kind| *kind != "platform.telemetrySubscription").collect();
        assert_eq!(platform, expected);
        let own: Vec<_> = events.iter().filter_map(|event| event["n"].as_u64()).collect();
        assert_eq!(own, [2], "a line that does not say its level is information: {log:#?}");
        assert!(!log.iter().any(|line| line == "plain" || line.starts_with("START") || line.starts_with("INIT_START")));
        // Who gets telemetry gets every line.
        let got = got(&world).await;
        let records: Vec<_> = got.iter().map(|event| event["record"].clone()).collect();
        assert_eq!(
            records,
            [
                serde_json::json!({"level": "DEBUG", "n": 1}),
                serde_json::json!({"level": "WARN", "n": 2}),
                "plain".into()
            ]
        );
    }
}
