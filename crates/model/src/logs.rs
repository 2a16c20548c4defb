//! Names of log groups and streams, and one line of a log.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::{AccountId, FunctionName, LogStreamId, Region, Version};

/// A log group of one account and region, such as `/aws/lambda/hello`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogGroup {
    pub account: AccountId,
    pub region: Region,
    pub name: Arc<str>,
}

/// `YYYY/MM/DD/[VERSION]HEX`, or `YYYY/MM/DD/NAME[VERSION]HEX` in a custom log group (spec 3.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogStreamName(Arc<str>);

impl LogStreamName {
    /// `date` is `(year, month, day)` in UTC at the environment's start.
    pub fn new(date: (i16, i8, i8), custom_group: Option<&FunctionName>, version: Version, id: &LogStreamId) -> Self {
        let (year, month, day) = date;
        let name = custom_group.map(FunctionName::as_str).unwrap_or_default();
        LogStreamName(format!("{year:04}/{month:02}/{day:02}/{name}[{version}]{id}").into())
    }

    /// As a client calls one of its own.
    pub fn named(name: &str) -> Self {
        LogStreamName(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogStreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One event of a log stream: a line without its newline (it may hold `\r`).
#[derive(Clone, Debug)]
pub struct LogEvent {
    pub at: SystemTime,
    pub message: Bytes,
}

/// How much a line of a log matters, from the least (spec 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl LogLevel {
    const ALL: [LogLevel; 6] =
        [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Fatal];

    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Trace => "TRACE",
            LogLevel::Debug => "DEBUG",
            LogLevel::Info => "INFO",
            LogLevel::Warn => "WARN",
            LogLevel::Error => "ERROR",
            LogLevel::Fatal => "FATAL",
        }
    }

    /// In any case; also as libraries spell it that have names of their own.
    pub fn parse(text: &str) -> Option<Self> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        let alias = if is("WARNING") { Some(LogLevel::Warn) } else { is("CRITICAL").then_some(LogLevel::Fatal) };
        LogLevel::ALL.into_iter().find(|level| is(level.as_str())).or(alias)
    }
}

/// A log whose lines are JSON, and what of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLogs {
    /// Of the function's lines.
    pub application: LogLevel,
    /// Of the platform's.
    pub system: LogLevel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_known_in_any_case_and_have_an_order() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::parse(&level.as_str().to_lowercase()), Some(level));
        }
        assert_eq!(LogLevel::parse("Warning"), Some(LogLevel::Warn));
        assert_eq!(LogLevel::parse("loud"), None);
        assert!(LogLevel::Debug < LogLevel::Info && LogLevel::Error < LogLevel::Fatal);
    }
}
