//! What functions did: the platform's log lines, log streams on disk, and the tail that callers may ask for.
//!
//! Nothing here is on the way of an invocation: appending never waits and never touches the disk.

mod frames;
mod lines;
mod logs;
pub mod platform;
mod tail;
pub mod telemetry;

pub use frames::{FrameSplitter, LogRecord};
pub use lines::{LINE_MAX, LineSplitter};
pub use logs::{
    Candidate, ChangeError, Config, Followed, Follower, Group, GroupId, GroupSettings, Logs, LogsError, MetricFilter,
    Missing, Page, Position, Query, Scan, Scanned, Stored, Stream, StreamId, StreamMark, StreamOrder, Streams,
    Subscription, Way,
};
pub use tail::{LogTail, TAIL_MAX};
