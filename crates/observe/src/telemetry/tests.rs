use std::time::UNIX_EPOCH;

use hearth_model::{
    InitPhase, InitReport, InitStart, Initialization, Labels, Memory, RequestId, RuntimeVersion, Version,
};

use super::*;

fn telemetry(record: &PlatformRecord) -> String {
    String::from_utf8(platform(TelemetrySchema::Telemetry, UNIX_EPOCH, record).unwrap().to_vec()).unwrap()
}

fn logs(schema: TelemetrySchema, record: &PlatformRecord) -> Option<String> {
    platform(schema, UNIX_EPOCH, record).map(|event| String::from_utf8(event.to_vec()).unwrap())
}

fn expected(kind: &str, record: &str) -> String {
    format!(r#"{{"time":"1970-01-01T00:00:00.000Z","type":"{kind}","record":{record}}}"#)
}

fn a_span(name: &'static str) -> Span {
    Span { name, start: UNIX_EPOCH + Duration::from_millis(7), duration: Duration::from_micros(70_987) }
}

fn a_report() -> Report {
    Report {
        request_id: RequestId::new("r"),
        version: Version::Latest,
        status: Status::Success,
        error_type: None,
        duration: Duration::from_micros(74_617),
        init_duration: Some(Duration::from_micros(214_521)),
        initialization: Initialization::OnDemand,
        memory_size: Memory::mib(512),
        max_memory_used: Memory::mib(33),
        isolation: None,
        labels: Labels { trace: Some("Root=1-2-3;Sampled=1".to_owned()), tenant: None },
        overhead: Some(a_span("extensionOverhead")),
    }
}

fn an_init_start() -> InitStart {
    InitStart {
        initialization: Initialization::OnDemand,
        phase: InitPhase::Init,
        runtime_version: Some(RuntimeVersion { name: "python:3.11.2".to_owned(), arn: "arn".to_owned() }),
        function_name: "f".to_owned(),
        function_version: "$LATEST".to_owned(),
        function_arn: "arn:f".to_owned(),
        instance: "s".to_owned(),
        memory: Memory::mib(128),
    }
}

#[test]
fn init_is_told_as_aws_tells_it() {
    let start = an_init_start();
    let of_an_image = InitStart { runtime_version: None, ..start.clone() };
    let record = r#"{"initializationType":"on-demand","phase":"init","functionName":"f","functionVersion":"$LATEST","functionArn":"arn:f","instanceId":"s","instanceMaxMemory":134217728}"#;
    assert_eq!(telemetry(&PlatformRecord::InitStart(of_an_image)), expected("platform.initStart", record));
    let record = r#"{"initializationType":"on-demand","phase":"init","runtimeVersion":"python:3.11.2","runtimeVersionArn":"arn","functionName":"f","functionVersion":"$LATEST","functionArn":"arn:f","instanceId":"s","instanceMaxMemory":134217728}"#;
    assert_eq!(telemetry(&PlatformRecord::InitStart(start)), expected("platform.initStart", record));
    let error_type = Some(ErrorType::RUNTIME_EXIT);
    let done = PlatformRecord::InitRuntimeDone {
        initialization: Initialization::OnDemand,
        phase: InitPhase::Invoke,
        status: Status::Error,
        error_type,
    };
    let record =
        r#"{"initializationType":"on-demand","phase":"invoke","status":"error","errorType":"Runtime.ExitError"}"#;
    assert_eq!(telemetry(&done), expected("platform.initRuntimeDone", record));
    let report = InitReport {
        initialization: Initialization::Provisioned,
        duration: Duration::from_micros(125_334),
        phase: InitPhase::Init,
        status: Status::Success,
        error_type: None,
    };
    let record = r#"{"initializationType":"provisioned-concurrency","phase":"init","status":"success","metrics":{"durationMs":125.33}}"#;
    assert_eq!(telemetry(&PlatformRecord::InitReport(report)), expected("platform.initReport", record));
}

#[test]
fn invocations_are_told_as_aws_tells_them() {
    let start = PlatformRecord::Start {
        request_id: RequestId::new("r"),
        version: Version::Latest,
        labels: Labels { trace: Some("Root=1-2-3;Sampled=1".to_owned()), tenant: None },
    };
    let tracing = r#""tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-2-3;Sampled=1"}"#;
    let record = format!(r#"{{"requestId":"r","version":"$LATEST",{tracing}}}"#);
    assert_eq!(telemetry(&start), expected("platform.start", &record));
    let untraced = PlatformRecord::Start {
        request_id: RequestId::new("r"),
        version: Version::Latest,
        labels: Labels { trace: Some("Root=1-2-3;Sampled=0".to_owned()), tenant: None },
    };
    let record = r#"{"requestId":"r","version":"$LATEST"}"#;
    assert_eq!(telemetry(&untraced), expected("platform.start", record));
    let done = RuntimeDone {
        request_id: RequestId::new("r"),
        labels: Labels::default(),
        status: Status::Timeout,
        error_type: Some(ErrorType::SANDBOX_TIMEOUT),
        duration: Duration::from_micros(140),
        produced: 16,
        spans: vec![a_span("responseLatency")],
    };
    let span = |name| format!(r#"{{"name":"{name}","start":"1970-01-01T00:00:00.007Z","durationMs":70.987}}"#);
    let spans = span("responseLatency");
    let record = format!(
        r#"{{"requestId":"r","status":"timeout","metrics":{{"durationMs":0.14,"producedBytes":16}},"spans":[{spans}]}}"#
    );
    assert_eq!(telemetry(&PlatformRecord::RuntimeDone(done)), expected("platform.runtimeDone", &record));
    let (spans, metrics) = (span("extensionOverhead"), METRICS);
    let record = format!(r#"{{"requestId":"r","status":"success","metrics":{metrics},"spans":[{spans}],{tracing}}}"#);
    assert_eq!(telemetry(&PlatformRecord::Report(a_report())), expected("platform.report", &record));
}

const METRICS: &str =
    r#"{"durationMs":74.62,"billedDurationMs":290,"memorySizeMB":512,"maxMemoryUsedMB":33,"initDurationMs":214.52}"#;

#[test]
fn extensions_subscriptions_and_losses_are_told_in_both_apis() {
    let name = || "watch".to_owned();
    let error_type = Some("My.Error".to_owned());
    let extension = PlatformRecord::Extension { name: name(), state: "Ready", events: vec!["INVOKE"], error_type };
    let record = r#"{"name":"watch","state":"Ready","events":["INVOKE"],"errorType":"My.Error"}"#;
    assert_eq!(telemetry(&extension), expected("platform.extension", record));
    assert_eq!(logs(TelemetrySchema::Logs, &extension), Some(telemetry(&extension)));
    let sources = vec![Source::Platform, Source::Function];
    for (of_logs, kind) in [(false, "platform.telemetrySubscription"), (true, "platform.logsSubscription")] {
        let record = PlatformRecord::Subscription { name: name(), logs: of_logs, sources: sources.clone() };
        let said = r#"{"name":"watch","state":"Subscribed","types":["platform","function"]}"#;
        assert_eq!(telemetry(&record), expected(kind, said));
    }
    let dropped = PlatformRecord::LogsDropped { records: 123, bytes: 12_345 };
    let record = r#"{"droppedBytes":12345,"droppedRecords":123,"reason":"Consumer seems to have fallen behind as it has not acknowledged receipt of logs."}"#;
    assert_eq!(telemetry(&dropped), expected("platform.logsDropped", record));
}

#[test]
fn the_logs_api_has_its_own_events() {
    let request_id = || RequestId::new("r");
    let end = PlatformRecord::End { request_id: request_id() };
    assert_eq!(logs(TelemetrySchema::Logs, &end), Some(expected("platform.end", r#"{"requestId":"r"}"#)));
    assert!(platform(TelemetrySchema::Telemetry, UNIX_EPOCH, &end).is_none());
    let fault = PlatformRecord::RuntimeExited {
        request_id: request_id(),
        message: "Runtime exited with error: exit status 1".to_owned(),
        error_type: ErrorType::RUNTIME_EXIT,
    };
    let record = r#""RequestId: r Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n""#;
    assert_eq!(logs(TelemetrySchema::Logs, &fault), Some(expected("platform.fault", record)));
    let report = logs(TelemetrySchema::Logs, &PlatformRecord::Report(a_report()));
    let record = format!(r#"{{"requestId":"r","metrics":{METRICS}}}"#);
    assert_eq!(report, Some(expected("platform.report", &record)));
    let done = PlatformRecord::RuntimeDone(RuntimeDone {
        request_id: request_id(),
        labels: Labels::default(),
        status: Status::Success,
        error_type: None,
        duration: Duration::ZERO,
        produced: 0,
        spans: Vec::new(),
    });
    assert_eq!(logs(TelemetrySchema::Logs, &done), None);
    let record = r#"{"requestId":"r","status":"success"}"#;
    let known = logs(TelemetrySchema::LogsWithRuntimeDone, &done);
    assert_eq!(known, Some(expected("platform.runtimeDone", record)));
}

#[test]
fn lines_are_strings_whatever_they_hold() {
    let event = line(TelemetrySchema::Telemetry, Source::Function, UNIX_EPOCH, b"a \"b\" \xff", false);
    assert_eq!(event, expected("function", "\"a \\\"b\\\" \u{fffd}\""));
}

#[test]
fn lines_of_a_json_log_are_objects_in_later_schemas() {
    let of = |schema, text: &str, json| line(schema, Source::Function, UNIX_EPOCH, text.as_bytes(), json);
    let object = r#"{"level": "INFO", "n": 1.50}"#;
    let whole = expected("function", object);
    assert_eq!(of(TelemetrySchema::TelemetryWithObjects, object, true), whole, "as it was written");
    let text = serde_json::to_string(object).unwrap();
    assert_eq!(of(TelemetrySchema::TelemetryWithObjects, object, false), expected("function", &text));
    assert_eq!(of(TelemetrySchema::Telemetry, object, true), expected("function", &text));
    for no_object in ["{\"a\": 1} x", "[1]", "7", "{"] {
        let text = serde_json::to_string(no_object).unwrap();
        assert_eq!(of(TelemetrySchema::TelemetryWithObjects, no_object, true), expected("function", &text));
    }
}

#[test]
fn lines_say_their_level_or_are_information() {
    for (text, found) in [
        (r#"{"level": "DEBUG", "message": "x"}"#, LogLevel::Debug),
        (r#"{"message": "x", "level": "warning"}"#, LogLevel::Warn),
        (r#"{"log_level": "ERROR"}"#, LogLevel::Error),
        (r#"{"level": "loud"}"#, LogLevel::Info),
        (r#"{"level": 7}"#, LogLevel::Info),
        ("ERROR: x", LogLevel::Info),
    ] {
        assert_eq!(level(text.as_bytes()), found, "{text}");
    }
}

#[test]
fn the_platforms_lines_have_levels() {
    let says = |least, record: &PlatformRecord| json_line(least, UNIX_EPOCH, record).is_some();
    let start =
        PlatformRecord::Start { request_id: RequestId::new("r"), version: Version::Latest, labels: Labels::default() };
    let report = |status| PlatformRecord::Report(Report { status, ..a_report() });
    let done = |status| PlatformRecord::InitRuntimeDone {
        initialization: Initialization::OnDemand,
        phase: InitPhase::Init,
        status,
        error_type: None,
    };
    let init = |initialization, status| {
        let (duration, phase, error_type) = (Duration::ZERO, InitPhase::Init, None);
        PlatformRecord::InitReport(InitReport { initialization, duration, phase, status, error_type })
    };
    let of_an_image = InitStart { runtime_version: None, ..an_init_start() };
    for (record, least) in [
        (PlatformRecord::InitStart(an_init_start()), LogLevel::Info),
        (PlatformRecord::InitStart(of_an_image), LogLevel::Debug),
        (init(Initialization::OnDemand, Status::Success), LogLevel::Debug),
        (init(Initialization::Provisioned, Status::Success), LogLevel::Info),
        (init(Initialization::Provisioned, Status::Error), LogLevel::Warn),
        (start, LogLevel::Info),
        (report(Status::Success), LogLevel::Info),
        (report(Status::Timeout), LogLevel::Warn),
        (done(Status::Success), LogLevel::Debug),
        (done(Status::Error), LogLevel::Warn),
    ] {
        for level in [LogLevel::Debug, LogLevel::Info, LogLevel::Warn] {
            assert_eq!(says(level, &record), level <= least, "{record:?} at {level:?}");
        }
    }
    assert!(!says(LogLevel::Debug, &PlatformRecord::End { request_id: RequestId::new("r") }), "JSON has no END");
}
