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
