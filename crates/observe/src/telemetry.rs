//! Events of the Telemetry and Logs APIs (spec 4.6, 4.7): what they look like, and how they are gathered for one
//! subscriber.

mod buffer;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hearth_model::{
    ErrorType, InitStart, Initialization, Labels, LogLevel, PlatformRecord, Report, RuntimeDone, RuntimeVersion,
    Source, Span, Status, TelemetrySchema,
};
use serde_json::{Map, Value, json};

use crate::platform::timestamp;

pub use buffer::{Batch, Buffer};

/// As AWS says why something is missing.
const FELL_BEHIND: &str = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.";

/// A line that a process wrote; `json`: to a log whose lines are JSON.
pub fn line(schema: TelemetrySchema, source: Source, at: SystemTime, line: &[u8], json: bool) -> Bytes {
    if json
        && schema == TelemetrySchema::TelemetryWithObjects
        && let Some(object) = as_object(line)
    {
        return format!(r#"{{"time":"{}","type":"{}","record":{object}}}"#, timestamp(at), source.as_str()).into();
    }
    event(source.as_str(), at, String::from_utf8_lossy(line).into())
}

/// The line, when it is one JSON object.
fn as_object(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?.trim();
    (text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()).then_some(text)
}

/// How much a line of a log whose lines are JSON matters (spec 3.4): INFO where it does not say.
pub fn level(line: &[u8]) -> LogLevel {
    #[derive(serde::Deserialize)]
    struct Said<'a> {
        #[serde(borrow, alias = "log_level")]
        level: Option<std::borrow::Cow<'a, str>>,
    }
    let said = as_object(line).and_then(|text| serde_json::from_str::<Said<'_>>(text).ok());
    said.and_then(|said| LogLevel::parse(&said.level?)).unwrap_or(LogLevel::Info)
}

/// The platform's line in a log whose lines are JSON; `None` when it has none, or matters less than `least` (spec 3.4).
pub fn json_line(least: LogLevel, at: SystemTime, record: &PlatformRecord) -> Option<Bytes> {
    let ended = |status: Status, well: LogLevel| if status == Status::Success { well } else { LogLevel::Warn };
    let level = match record {
        PlatformRecord::InitRuntimeDone { status, .. } => ended(*status, LogLevel::Debug),
        PlatformRecord::InitStart(start) if start.runtime_version.is_none() => LogLevel::Debug,
        PlatformRecord::InitReport(report) if report.initialization == Initialization::OnDemand => {
            ended(report.status, LogLevel::Debug)
        }
        PlatformRecord::InitReport(report) => ended(report.status, LogLevel::Info),
        PlatformRecord::RuntimeDone(done) => ended(done.status, LogLevel::Debug),
        PlatformRecord::Report(report) => ended(report.status, LogLevel::Info),
        PlatformRecord::Extension { state: "Ready", .. } => LogLevel::Info,
        PlatformRecord::Extension { .. } | PlatformRecord::LogsDropped { .. } => LogLevel::Warn,
        _ => LogLevel::Info,
    };
    if level < least {
        return None;
    }
    platform(TelemetrySchema::Telemetry, at, record)
}

/// What the platform says; `None` when this schema does not know it.
pub fn platform(schema: TelemetrySchema, at: SystemTime, record: &PlatformRecord) -> Option<Bytes> {
    let (kind, record) = match schema {
        TelemetrySchema::Telemetry | TelemetrySchema::TelemetryWithObjects => of_telemetry(record)?,
        TelemetrySchema::Logs => of_logs(record, false)?,
        TelemetrySchema::LogsWithRuntimeDone => of_logs(record, true)?,
    };
    Some(event(&format!("platform.{kind}"), at, record))
}

fn event(kind: &str, at: SystemTime, record: Value) -> Bytes {
    json!({ "time": timestamp(at), "type": kind, "record": record }).to_string().into()
}

fn of_telemetry(record: &PlatformRecord) -> Option<(&'static str, Value)> {
    Some(match record {
        PlatformRecord::InitStart(start) => ("initStart", init_start(start)),
        PlatformRecord::InitRuntimeDone { initialization, phase, status, error_type } => {
            let mut record = Map::new();
            record.insert("initializationType".into(), initialization.as_str().into());
            record.insert("phase".into(), phase.as_str().into());
            ended(&mut record, *status, error_type.as_ref());
            ("initRuntimeDone", record.into())
        }
        PlatformRecord::InitReport(report) => {
            let mut record = Map::new();
            record.insert("initializationType".into(), report.initialization.as_str().into());
            record.insert("phase".into(), report.phase.as_str().into());
            ended(&mut record, report.status, report.error_type.as_ref());
            record.insert("metrics".into(), json!({ "durationMs": ms(report.duration, 100.0) }));
            ("initReport", record.into())
        }
        PlatformRecord::Start { request_id, version, labels } => {
            let mut record = Map::new();
            record.insert("requestId".into(), request_id.as_str().into());
            record.insert("version".into(), version.to_string().into());
            labelled(&mut record, labels);
            ("start", record.into())
        }
        PlatformRecord::RuntimeDone(done) => ("runtimeDone", runtime_done(done)),
        PlatformRecord::Report(report) => ("report", self::report(report)),
        PlatformRecord::Extension { .. } | PlatformRecord::Subscription { .. } | PlatformRecord::LogsDropped { .. } => {
            of_both(record)?
        }
        PlatformRecord::TimedOut { .. }
        | PlatformRecord::RuntimeExited { .. }
        | PlatformRecord::Substituted { .. }
        | PlatformRecord::Blocked(_)
        | PlatformRecord::End { .. } => return None,
    })
}

fn init_start(start: &InitStart) -> Value {
    let mut record = Map::new();
    record.insert("initializationType".into(), start.initialization.as_str().into());
    record.insert("phase".into(), start.phase.as_str().into());
    if let Some(RuntimeVersion { name, arn }) = &start.runtime_version {
        record.insert("runtimeVersion".into(), name.as_str().into());
        record.insert("runtimeVersionArn".into(), arn.as_str().into());
    }
    record.insert("functionName".into(), start.function_name.as_str().into());
    record.insert("functionVersion".into(), start.function_version.as_str().into());
    record.insert("functionArn".into(), start.function_arn.as_str().into());
    record.insert("instanceId".into(), start.instance.as_str().into());
    record.insert("instanceMaxMemory".into(), start.memory.as_bytes().into());
    record.into()
}

fn of_logs(record: &PlatformRecord, runtime_done: bool) -> Option<(&'static str, Value)> {
    Some(match record {
        PlatformRecord::Start { request_id, version, .. } => {
            ("start", json!({ "requestId": request_id.as_str(), "version": version.to_string() }))
        }
        PlatformRecord::RuntimeDone(done) if runtime_done => {
            ("runtimeDone", json!({ "requestId": done.request_id.as_str(), "status": done.status.as_str() }))
        }
        PlatformRecord::End { request_id } => ("end", json!({ "requestId": request_id.as_str() })),
        PlatformRecord::Report(report) => {
            ("report", json!({ "requestId": report.request_id.as_str(), "metrics": metrics(report) }))
        }
        PlatformRecord::RuntimeExited { request_id, message, error_type } => {
            ("fault", format!("RequestId: {request_id} Error: {message}\n{}\n", error_type.as_str()).into())
        }
        _ => of_both(record)?,
    })
}

fn of_both(record: &PlatformRecord) -> Option<(&'static str, Value)> {
    Some(match record {
        PlatformRecord::Extension { name, state, events, error_type } => {
            let mut record = Map::new();
            record.insert("name".into(), name.as_str().into());
            record.insert("state".into(), (*state).into());
            record.insert("events".into(), json!(events));
            if let Some(error_type) = error_type {
                record.insert("errorType".into(), error_type.as_str().into());
            }
            ("extension", record.into())
        }
        PlatformRecord::Subscription { name, logs, sources } => {
            let types: Vec<&str> = sources.iter().map(|source| source.as_str()).collect();
            let kind = if *logs { "logsSubscription" } else { "telemetrySubscription" };
            (kind, json!({ "name": name, "state": "Subscribed", "types": types }))
        }
        PlatformRecord::LogsDropped { records, bytes } => {
            ("logsDropped", json!({ "droppedBytes": bytes, "droppedRecords": records, "reason": FELL_BEHIND }))
        }
        _ => return None,
    })
}

fn runtime_done(done: &RuntimeDone) -> Value {
    let mut record = Map::new();
    record.insert("requestId".into(), done.request_id.as_str().into());
    ended(&mut record, done.status, done.error_type.as_ref());
    let metrics = json!({ "durationMs": ms(done.duration, 1000.0), "producedBytes": done.produced });
    record.insert("metrics".into(), metrics);
    record.insert("spans".into(), done.spans.iter().map(span).collect());
    labelled(&mut record, &done.labels);
    record.into()
}

fn report(report: &Report) -> Value {
    let mut record = Map::new();
    record.insert("requestId".into(), report.request_id.as_str().into());
    ended(&mut record, report.status, report.error_type.as_ref());
    record.insert("metrics".into(), metrics(report));
    if let Some(overhead) = &report.overhead {
        record.insert("spans".into(), json!([span(overhead)]));
    }
    labelled(&mut record, &report.labels);
    record.into()
}

fn metrics(report: &Report) -> Value {
    let mut metrics = Map::new();
    metrics.insert("durationMs".into(), ms(report.duration, 100.0));
    metrics.insert("billedDurationMs".into(), report.billed_ms().into());
    metrics.insert("memorySizeMB".into(), report.memory_size.as_mib().into());
    metrics.insert("maxMemoryUsedMB".into(), report.max_memory_used.as_mib().into());
    if let Some(init) = report.init_duration {
        metrics.insert("initDurationMs".into(), ms(init, 100.0));
    }
    metrics.into()
}

fn ended(record: &mut Map<String, Value>, status: Status, error_type: Option<&ErrorType>) {
    record.insert("status".into(), status.as_str().into());
    if let Some(error_type) = error_type.filter(|_| status != Status::Timeout) {
        record.insert("errorType".into(), error_type.as_str().into());
    }
}

fn labelled(record: &mut Map<String, Value>, Labels { trace, tenant }: &Labels) {
    // Every invocation has a header; this is one that is traced.
    if let Some(trace) = trace.as_deref().filter(|trace| trace.split(';').any(|part| part == "Sampled=1")) {
        record.insert("tracing".into(), json!({ "type": "X-Amzn-Trace-Id", "value": trace }));
    }
    if let Some(tenant) = tenant {
        record.insert("tenantId".into(), tenant.as_str().into());
    }
}

fn span(span: &Span) -> Value {
    json!({ "name": span.name, "start": timestamp(span.start), "durationMs": ms(span.duration, 1000.0) })
}

/// Milliseconds with so many parts of one.
fn ms(duration: Duration, parts: f64) -> Value {
    ((duration.as_secs_f64() * 1000.0 * parts).round() / parts).into()
}

#[cfg(test)]
mod tests;
