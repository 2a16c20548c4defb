//! What callers and logs are told when a function cannot answer for itself (spec 2.2).

use std::time::Duration;

use hearth_model::{BodyError, ErrorType, RequestId, Status};
use hearth_runtime_api::Answer;
use hearth_sandbox::Exit;

/// Why init or an invocation failed.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// The runtime's own words: passed on as they are.
    Posted(Answer),
    /// The platform's: `message` is what follows `RequestId: … Error: `.
    Platform { error_type: ErrorType, message: String },
}

impl Cause {
    pub fn platform(error_type: ErrorType, message: impl Into<String>) -> Self {
        Cause::Platform { error_type, message: message.into() }
    }

    pub fn error_type(&self) -> ErrorType {
        match self {
            Cause::Posted(answer) => answer.error.clone().unwrap_or(ErrorType::RUNTIME_UNKNOWN),
            Cause::Platform { error_type, .. } => error_type.clone(),
        }
    }

    pub fn status(&self) -> Status {
        if self.error_type().as_str().starts_with("Sandbox.") { Status::Failure } else { Status::Error }
    }

    /// A process that ended by itself. Also when memory ran out: the caller is told `Runtime.ExitError` then, and the
    /// report alone says `Runtime.OutOfMemory` (docs/decisions/0004).
    pub fn exit(exit: Exit) -> Self {
        let message = match exit {
            Exit::Code(0) => "Runtime exited without providing a reason".to_owned(),
            Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
            Exit::Signal(signal) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
        };
        Cause::platform(ErrorType::RUNTIME_EXIT, message)
    }

    /// An external extension's process that ended by itself.
    pub fn extension_exit(exit: Exit) -> Self {
        let message = match exit {
            Exit::Code(0) => "exit code 0".to_owned(),
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal(signal) => format!("signal: {}", signal_name(signal)),
        };
        Cause::platform(ErrorType::EXTENSION_CRASH, message)
    }

    /// The same, under the name of an error that came before it.
    pub fn under(self, first: Option<ErrorType>) -> Self {
        match (self, first) {
            (Cause::Platform { message, .. }, Some(error_type)) => Cause::Platform { error_type, message },
            (cause, _) => cause,
        }
    }

    /// A program that could not be executed.
    pub fn not_executable(error_type: ErrorType, program: &str, error: &std::io::Error) -> Self {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        Cause::platform(error_type, format!("fork/exec {program}: {text}"))
    }

    pub fn no_bootstrap(tried: &[String]) -> Self {
        let message = format!("Couldn't find valid bootstrap(s): [{}]", tried.join(" "));
        Cause::platform(ErrorType::INVALID_ENTRYPOINT, message)
    }

    /// What the caller gets.
    pub fn answer(self, request_id: &RequestId) -> Answer {
        match self {
            Cause::Posted(answer) => answer,
            Cause::Platform { error_type, message } => {
                platform_answer(error_type, &format!("RequestId: {request_id} Error: {message}"))
            }
        }
    }
}

/// The caller's answer when the function's time is over.
pub(crate) fn timed_out(request_id: &RequestId, timeout: Duration) -> Answer {
    let seconds = timeout.as_secs_f64();
    let message = format!("RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds");
    platform_answer(ErrorType::SANDBOX_TIMEOUT, &message)
}

/// What the caller's answer becomes once a stream has begun. What ends an environment has a name of its own there
/// (spec 4.3).
pub(crate) fn cut_off(answer: Answer) -> BodyError {
    let timed_out = answer.error == Some(ErrorType::SANDBOX_TIMEOUT);
    let error_type = if timed_out { "Sandbox.Timeout" } else { "Sandbox.Failure" };
    BodyError { error_type: error_type.to_owned(), details: answer.body }
}

/// An object as the platform writes it: `errorType`, then `errorMessage`.
fn platform_answer(error: ErrorType, message: &str) -> Answer {
    // Written by hand for the order of its members; a string is escaped by the library.
    let message = serde_json::Value::from(message);
    let body = format!(r#"{{"errorType":"{}","errorMessage":{message}}}"#, error.as_str());
    Answer { error: Some(error), content_type: "application/json".to_owned(), body: body.into() }
}

/// Signals as AWS's messages name them.
fn signal_name(signal: i32) -> String {
    match signal {
        4 => "illegal instruction".to_owned(),
        5 => "trace/breakpoint trap".to_owned(),
        6 => "aborted".to_owned(),
        7 => "bus error".to_owned(),
        8 => "floating point exception".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        13 => "broken pipe".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cause: Cause) -> String {
        String::from_utf8(cause.answer(&RequestId::new("r")).body.to_vec()).unwrap()
    }

    #[test]
    fn exits_read_as_awss_do() {
        for (exit, message) in [
            (Exit::Code(0), "Runtime exited without providing a reason"),
            (Exit::Code(3), "Runtime exited with error: exit status 3"),
            (Exit::Signal(11), "Runtime exited with error: signal: segmentation fault"),
            (Exit::Signal(9), "Runtime exited with error: signal: killed"),
        ] {
            let expected =
                format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: {message}"}}"#);
            assert_eq!(text(Cause::exit(exit)), expected);
        }
    }

    #[test]
    fn ends_of_extensions_read_as_awss_do() {
        for (exit, first, error_type, message) in [
            (Exit::Code(0), None, "Extension.Crash", "exit code 0"),
            (Exit::Code(3), Some(ErrorType::EXTENSION_EXIT), "Extension.ExitError", "exit status 3"),
            (Exit::Signal(11), None, "Extension.Crash", "signal: segmentation fault"),
        ] {
            let expected = format!(r#"{{"errorType":"{error_type}","errorMessage":"RequestId: r Error: {message}"}}"#);
            assert_eq!(text(Cause::extension_exit(exit).under(first)), expected);
        }
    }

    #[test]
    fn programs_that_cannot_be_executed_are_named() {
        let error = std::io::Error::from_raw_os_error(13);
        let expected = r#"{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: r Error: fork/exec /var/task/bootstrap: permission denied"}"#;
        let cause = Cause::not_executable(ErrorType::INVALID_ENTRYPOINT, "/var/task/bootstrap", &error);
        assert_eq!(text(cause), expected);
        let tried = ["/var/task/bootstrap".to_owned(), "/opt/bootstrap".to_owned()];
        assert!(
            text(Cause::no_bootstrap(&tried))
                .contains("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
        );
    }

    #[test]
    fn timeouts_print_two_decimals() {
        let body = timed_out(&RequestId::new("r"), Duration::from_secs(3)).body;
        let expected = r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r Error: Task timed out after 3.00 seconds"}"#;
        assert_eq!(body, expected);
    }

    #[test]
    fn messages_are_escaped() {
        assert_eq!(
            platform_answer(ErrorType::RUNTIME_EXIT, "a \"b\"\n").body,
            r#"{"errorType":"Runtime.ExitError","errorMessage":"a \"b\"\n"}"#
        );
    }
}
