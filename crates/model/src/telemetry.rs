//! Words of the Telemetry API and of the Logs API, its older form (spec 4.6, 4.7).

use std::time::Duration;

/// Where an event comes from, as subscriptions choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Platform,
    Function,
    Extension,
}

impl Source {
    pub const ALL: [Source; 3] = [Source::Platform, Source::Function, Source::Extension];

    pub fn as_str(self) -> &'static str {
        match self {
            Source::Platform => "platform",
            Source::Function => "function",
            Source::Extension => "extension",
        }
    }
}

/// What events look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TelemetrySchema {
    Telemetry,
    /// The Telemetry API's later versions, in which lines that are JSON stay JSON where the function's log is JSON.
    TelemetryWithObjects,
    /// The Logs API's first version.
    Logs,
    /// Its second one, which knows when the runtime was done.
    LogsWithRuntimeDone,
}

impl TelemetrySchema {
    pub const COUNT: usize = 4;
}

/// When events that were gathered are sent: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    pub items_max: usize,
    pub bytes_max: usize,
    pub timeout: Duration,
}

/// Where events go: always to a loopback address inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `host` as the subscriber wrote it, with the port; `path` with its query.
    Http {
        host: String,
        port: u16,
        path: String,
    },
    Tcp {
        port: u16,
    },
}
