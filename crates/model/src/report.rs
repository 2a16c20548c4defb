//! The facts of one finished invocation, from which log line, metric and bill derive; and the platform's log records.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::{Memory, Millis, RequestId, Source, TenantId, Version};

/// How an invocation or init ended (spec 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Success,
    /// The function failed: handler error, crash, exit.
    Error,
    /// The platform failed (`Sandbox.*`).
    Failure,
    Timeout,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Error => "error",
            Status::Failure => "failure",
            Status::Timeout => "timeout",
        }
    }
}

/// An error type of AWS's vocabulary (spec 4.8), or one that the runtime posted, already made safe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorType(Cow<'static, str>);

impl ErrorType {
    pub const RUNTIME_EXIT: ErrorType = ErrorType(Cow::Borrowed("Runtime.ExitError"));
    pub const RUNTIME_UNKNOWN: ErrorType = ErrorType(Cow::Borrowed("Runtime.Unknown"));
    pub const OUT_OF_MEMORY: ErrorType = ErrorType(Cow::Borrowed("Runtime.OutOfMemory"));
    pub const INVALID_ENTRYPOINT: ErrorType = ErrorType(Cow::Borrowed("Runtime.InvalidEntrypoint"));
    pub const INVALID_WORKING_DIRECTORY: ErrorType = ErrorType(Cow::Borrowed("Runtime.InvalidWorkingDir"));
    pub const TRUNCATED_RESPONSE: ErrorType = ErrorType(Cow::Borrowed("Runtime.TruncatedResponse"));
    pub const INVALID_RESPONSE_MODE: ErrorType = ErrorType(Cow::Borrowed("Runtime.InvalidResponseModeHeader"));
    pub const RESPONSE_TOO_LARGE: ErrorType = ErrorType(Cow::Borrowed("Function.ResponseSizeTooLarge"));
    pub const FUNCTION_UNKNOWN: ErrorType = ErrorType(Cow::Borrowed("Function.Unknown"));
    pub const EXTENSION_INIT: ErrorType = ErrorType(Cow::Borrowed("Extension.InitError"));
    pub const EXTENSION_EXIT: ErrorType = ErrorType(Cow::Borrowed("Extension.ExitError"));
    pub const EXTENSION_CRASH: ErrorType = ErrorType(Cow::Borrowed("Extension.Crash"));
    pub const EXTENSION_LAUNCH: ErrorType = ErrorType(Cow::Borrowed("Extension.LaunchError"));
    pub const SANDBOX_TIMEOUT: ErrorType = ErrorType(Cow::Borrowed("Sandbox.Timedout"));
    pub const SANDBOX_FAILURE: ErrorType = ErrorType(Cow::Borrowed("Sandbox.Failure"));

    /// A type posted by a runtime. What does not match `(Runtime|Function)\.[A-Z][a-zA-Z]+` becomes
    /// `Function.Unknown` when prefixed `Function.`, else `Runtime.Unknown` (spec 2.2).
    pub fn posted(text: &str) -> Self {
        let rest = text.strip_prefix("Runtime.").or_else(|| text.strip_prefix("Function."));
        let well_formed = rest.is_some_and(|rest| {
            let bytes = rest.as_bytes();
            bytes.len() > 1 && bytes[0].is_ascii_uppercase() && bytes.iter().all(u8::is_ascii_alphabetic)
        });
        if well_formed {
            ErrorType(Cow::Owned(text.to_owned()))
        } else if text.starts_with("Function.") {
            ErrorType::FUNCTION_UNKNOWN
        } else {
            ErrorType::RUNTIME_UNKNOWN
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the records of an invocation repeat of its call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// X-Ray header.
    pub trace: Option<String>,
    pub tenant: Option<TenantId>,
}

/// One per accepted invocation, also on crash, timeout and kill (decision 9).
#[derive(Clone, Debug)]
pub struct Report {
    pub request_id: RequestId,
    pub version: Version,
    pub status: Status,
    pub error_type: Option<ErrorType>,
    /// From delivery to the runtime until the runtime and every extension that took part asked for the next event, or the
    /// end was forced.
    pub duration: Duration,
    /// Only on the first invocation after a successful init phase.
    pub init_duration: Option<Duration>,
    pub initialization: Initialization,
    pub memory_size: Memory,
    pub max_memory_used: Memory,
    /// Said where functions are confined less than usual: `landlock`, `none`.
    pub isolation: Option<&'static str>,
    pub labels: Labels,
    /// What extensions did after the runtime was done.
    pub overhead: Option<Span>,
}

impl Report {
    /// Rounded up to 1 ms. Init is included (AWS bills it since August 2025) unless it was provisioned: who pays for that
    /// pays by the hour.
    pub fn billed_ms(&self) -> u64 {
        let init = self.init_duration.filter(|_| self.initialization == Initialization::OnDemand);
        Millis(self.duration + init.unwrap_or_default()).billed()
    }
}

/// What an environment was initialised for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialization {
    /// A call.
    OnDemand,
    /// To be there when one comes.
    Provisioned,
}

impl Initialization {
    /// As functions read it in `AWS_LAMBDA_INITIALIZATION_TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Initialization::OnDemand => "on-demand",
            Initialization::Provisioned => "provisioned-concurrency",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitPhase {
    Init,
    /// Again, inside the first invocation.
    Invoke,
}

impl InitPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            InitPhase::Init => "init",
            InitPhase::Invoke => "invoke",
        }
    }
}

/// Who begins to initialise, on what.
#[derive(Clone, Debug)]
pub struct InitStart {
    pub initialization: Initialization,
    pub phase: InitPhase,
    /// An image has none.
    pub runtime_version: Option<RuntimeVersion>,
    pub function_name: String,
    pub function_version: String,
    /// Unqualified.
    pub function_arn: String,
    /// Name of the log stream.
    pub instance: String,
    pub memory: Memory,
}

/// Which runtime it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// Such as `python:3.11.2`.
    pub name: String,
    pub arn: String,
}

/// A part of an invocation's time.
#[derive(Clone, Debug)]
pub struct Span {
    /// As AWS names it.
    pub name: &'static str,
    pub start: SystemTime,
    pub duration: Duration,
}

/// The runtime has asked for its next event, or its end was forced.
#[derive(Clone, Debug)]
pub struct RuntimeDone {
    pub request_id: RequestId,
    pub labels: Labels,
    pub status: Status,
    pub error_type: Option<ErrorType>,
    pub duration: Duration,
    /// Bytes of the answer.
    pub produced: usize,
    pub spans: Vec<Span>,
}

/// The log has it only when init failed or timed out.
#[derive(Clone, Debug)]
pub struct InitReport {
    pub initialization: Initialization,
    pub duration: Duration,
    pub phase: InitPhase,
    pub status: Status,
    pub error_type: Option<ErrorType>,
}

/// What the platform itself says of a function: lines of its log (spec 3.4), events of the Telemetry and Logs APIs
/// (spec 4.6), or both. `observe` renders it.
#[derive(Clone, Debug)]
pub enum PlatformRecord {
    InitStart(InitStart),
    /// No line of the log.
    InitRuntimeDone {
        initialization: Initialization,
        phase: InitPhase,
        status: Status,
        error_type: Option<ErrorType>,
    },
    /// How an extension stands when init is over.
    Extension {
        name: String,
        state: &'static str,
        events: Vec<&'static str>,
        error_type: Option<String>,
    },
    InitReport(InitReport),
    Start {
        request_id: RequestId,
        version: Version,
        labels: Labels,
    },
    /// No line of the log.
    RuntimeDone(RuntimeDone),
    /// An extension gets events by the Telemetry API, or (`logs`) by the Logs API.
    Subscription {
        name: String,
        logs: bool,
        sources: Vec<Source>,
    },
    /// No line of the log: said to who has missed something.
    LogsDropped {
        records: u64,
        bytes: u64,
    },
    /// `timeout` is the function's, printed in seconds with two decimals.
    TimedOut {
        at: SystemTime,
        request_id: RequestId,
        timeout: Duration,
    },
    /// The runtime process ended: `message` is `Runtime exited with error: exit status 1` or its like.
    RuntimeExited {
        request_id: RequestId,
        message: String,
        error_type: ErrorType,
    },
    /// A runtime other than the one asked for runs the function (`runtimes.substitute`).
    Substituted {
        asked: crate::Runtime,
        running: crate::Runtime,
    },
    /// The function was kept from something on the network; says what, and which setting would let it.
    Blocked(String),
    End {
        request_id: RequestId,
    },
    Report(Report),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posted_error_types_are_made_safe() {
        for (text, safe) in [
            ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
            ("Function.MyError", "Function.MyError"),
            ("Function.my error", "Function.Unknown"),
            ("ValueError", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
            ("Runtime.\nX", "Runtime.Unknown"),
        ] {
            assert_eq!(ErrorType::posted(text).as_str(), safe, "{text:?}");
        }
    }
}
