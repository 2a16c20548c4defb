//! The platform's own lines in a function's log, in AWS's text format (spec 3.4; recorded).

use std::fmt::Write;
use std::time::SystemTime;

use hearth_model::{InitReport, Millis, PlatformRecord, Report, RuntimeVersion, Source, Status};

/// One event's line, without a newline at its end; `None` for what has none.
pub fn render(record: &PlatformRecord) -> Option<String> {
    Some(match record {
        PlatformRecord::InitStart(start) => {
            let RuntimeVersion { name, arn } = start.runtime_version.as_ref()?;
            format!("INIT_START Runtime Version: {name}\tRuntime Version ARN: {arn}")
        }
        PlatformRecord::Extension { name, state, events, error_type } => {
            let mut line = format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{}]", events.join(", "));
            if let Some(error_type) = error_type {
                let _ = write!(line, "\tError Type: {error_type}");
            }
            line
        }
        PlatformRecord::InitReport(report) if report.status == Status::Success => return None,
        PlatformRecord::InitReport(report) => init_report(report),
        PlatformRecord::Subscription { name, logs, sources } => {
            let types: Vec<&str> = sources.iter().map(|source| capitalised(*source)).collect();
            let api = if *logs { "LOGS" } else { "TELEMETRY" };
            format!("{api}\tName: {name}\tState: Subscribed\tTypes: [{}]", types.join(", "))
        }
        PlatformRecord::InitRuntimeDone { .. }
        | PlatformRecord::RuntimeDone(_)
        | PlatformRecord::LogsDropped { .. } => return None,
        PlatformRecord::Start { request_id, version, .. } => {
            format!("START RequestId: {request_id} Version: {version}")
        }
        PlatformRecord::TimedOut { at, request_id, timeout } => {
            format!("{} {request_id} Task timed out after {:.2} seconds\n", timestamp(*at), timeout.as_secs_f64())
        }
        PlatformRecord::RuntimeExited { request_id, message, error_type } => {
            format!("RequestId: {request_id} Error: {message}\n{}", error_type.as_str())
        }
        PlatformRecord::Substituted { asked, running } => {
            format!("Runtime {asked} is not installed on this host: {running} runs in its place (runtimes.substitute)")
        }
        PlatformRecord::Blocked(line) => line.clone(),
        PlatformRecord::End { request_id } => format!("END RequestId: {request_id}"),
        PlatformRecord::Report(report) => self::report(report),
    })
}

fn capitalised(source: Source) -> &'static str {
    match source {
        Source::Platform => "Platform",
        Source::Function => "Function",
        Source::Extension => "Extension",
    }
}

fn report(report: &Report) -> String {
    let mut line = format!(
        "REPORT RequestId: {}\tDuration: {}\tBilled Duration: {} ms\tMemory Size: {}\tMax Memory Used: {}\t",
        report.request_id,
        Millis(report.duration),
        report.billed_ms(),
        report.memory_size,
        report.max_memory_used,
    );
    if let Some(init) = report.init_duration {
        let _ = write!(line, "Init Duration: {}\t", Millis(init));
    }
    if report.status != Status::Success {
        let _ = write!(line, "Status: {}\t", report.status.as_str());
    }
    if let Some(error_type) = report.error_type.as_ref().filter(|_| report.status == Status::Error) {
        let _ = write!(line, "Error Type: {}\t", error_type.as_str());
    }
    if let Some(isolation) = report.isolation {
        let _ = write!(line, "Isolation: {isolation}\t");
    }
    line
}

fn init_report(report: &InitReport) -> String {
    let mut line = format!(
        "INIT_REPORT Init Duration: {}\tPhase: {}\tStatus: {}",
        Millis(report.duration),
        report.phase.as_str(),
        report.status.as_str()
    );
    if let Some(error_type) = report.error_type.as_ref().filter(|_| report.status != Status::Timeout) {
        let _ = write!(line, "\tError Type: {}", error_type.as_str());
    }
    line
}

/// `2026-01-31T12:00:00.123Z`.
pub fn timestamp(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hearth_model::{ErrorType, Initialization, Labels, Memory, RequestId, Version};

    use super::*;

    fn render(record: &PlatformRecord) -> String {
        super::render(record).unwrap()
    }

    fn a_report() -> Report {
        Report {
            request_id: RequestId::new("r"),
            version: Version::Latest,
            status: Status::Success,
            error_type: None,
            duration: Duration::from_micros(3_010),
            init_duration: Some(Duration::from_micros(110_100)),
            initialization: Initialization::OnDemand,
            memory_size: Memory::mib(128),
            max_memory_used: Memory::mib(36),
            isolation: None,
            labels: Labels::default(),
            overhead: None,
        }
    }

    #[test]
    fn a_report_reads_as_awss_does() {
        let line = render(&PlatformRecord::Report(a_report()));
        let expected = "REPORT RequestId: r\tDuration: 3.01 ms\tBilled Duration: 114 ms\tMemory Size: 128 MB\t\
                        Max Memory Used: 36 MB\tInit Duration: 110.10 ms\t";
        assert_eq!(line, expected);
        let provisioned = Report { initialization: Initialization::Provisioned, ..a_report() };
        let line = render(&PlatformRecord::Report(provisioned));
        assert_eq!(line, expected.replace("Billed Duration: 114", "Billed Duration: 4"));
    }

    #[test]
    fn failed_reports_say_how() {
        let error = Report {
            status: Status::Error,
            error_type: Some(ErrorType::RUNTIME_EXIT),
            init_duration: None,
            ..a_report()
        };
        assert!(
            render(&PlatformRecord::Report(error.clone())).ends_with("Status: error\tError Type: Runtime.ExitError\t")
        );
        let timeout = Report { status: Status::Timeout, ..error };
        assert!(render(&PlatformRecord::Report(timeout)).ends_with("36 MB\tStatus: timeout\t"));
        let loose = Report { isolation: Some("none"), ..a_report() };
        assert!(render(&PlatformRecord::Report(loose)).ends_with("Init Duration: 110.10 ms\tIsolation: none\t"));
    }

    #[test]
    fn extensions_read_as_awss_do() {
        let extension = |state, events, error_type: Option<&str>| {
            let error_type = error_type.map(str::to_owned);
            render(&PlatformRecord::Extension { name: "watch".to_owned(), state, events, error_type })
        };
        let line = extension("Ready", vec!["INVOKE", "SHUTDOWN"], None);
        assert_eq!(line, "EXTENSION\tName: watch\tState: Ready\tEvents: [INVOKE, SHUTDOWN]");
        let line = extension("LaunchError", vec![], Some("PermissionDenied"));
        assert_eq!(line, "EXTENSION\tName: watch\tState: LaunchError\tEvents: []\tError Type: PermissionDenied");
    }

    #[test]
    fn subscriptions_read_as_awss_do() {
        let subscription =
            |logs, sources| render(&PlatformRecord::Subscription { name: "watch".to_owned(), logs, sources });
        let line = subscription(false, vec![Source::Platform, Source::Function]);
        assert_eq!(line, "TELEMETRY\tName: watch\tState: Subscribed\tTypes: [Platform, Function]");
        let line = subscription(true, vec![Source::Extension]);
        assert_eq!(line, "LOGS\tName: watch\tState: Subscribed\tTypes: [Extension]");
    }

    #[test]
    fn timeouts_print_two_decimals_and_a_blank_line() {
        let record = PlatformRecord::TimedOut {
            at: SystemTime::UNIX_EPOCH,
            request_id: RequestId::new("r"),
            timeout: Duration::from_secs(3),
        };
        assert_eq!(render(&record), "1970-01-01T00:00:00.000Z r Task timed out after 3.00 seconds\n");
    }
}
