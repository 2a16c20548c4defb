//! Log streams on disk: one SQLite file a day (UTC), written by one thread, in groups.
//!
//! ```text
//! append ─▶ queue (bounded, numbered) ─▶ writer thread ─▶ YYYY-MM-DD.sqlite ─▶ read
//!             └─▶ followers (bounded, told what they missed)
//! ```
//!
//! Appending takes a lock and pushes: it never waits and never touches the disk. What does not fit is dropped, counted,
//! and the count is written into the log it is missing from. A crash loses at most what was queued.

mod days;
mod follow;
mod queue;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hearth_model::{Clock, LogEvent, LogGroup, LogStreamName, RequestId};
use tokio::sync::Semaphore;

pub use follow::{Followed, Follower};
use queue::Queue;

/// Queries that run at once; later ones wait.
const READERS_MAX: usize = 4;
/// Longest wait of a reader for what is queued; then it reads what is there.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Config {
    /// Days older than this are deleted.
    pub retention: Duration,
    pub clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("the log store failed: {0}")]
pub struct LogsError(Arc<str>);

/// A cheap handle. Dropping the last one ends the writer after what is queued; [`Logs::close`] also waits for it.
#[derive(Clone)]
pub struct Logs {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    queue: Arc<Queue>,
    reading: Semaphore,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Which events of a group to read.
#[derive(Clone, Debug)]
pub struct Query {
    pub group: LogGroup,
    pub since: Option<SystemTime>,
    /// Exclusive.
    pub until: Option<SystemTime>,
    /// Only what was logged between START and REPORT of this invocation.
    pub request: Option<RequestId>,
    /// Only messages that hold this text.
    pub grep: Option<String>,
    /// Where the last page ended. With it the answer holds the first `limit` events that follow, else the latest.
    pub after: Option<u64>,
    pub limit: usize,
}

impl Query {
    /// The latest `limit` events of a group.
    pub fn latest(group: LogGroup, limit: usize) -> Self {
        Query { group, since: None, until: None, request: None, grep: None, after: None, limit }
    }
}

/// An event as it is kept. Numbers grow in the order in which events were appended, over all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub number: u64,
    pub at: SystemTime,
    pub stream: Arc<str>,
    pub message: Bytes,
}

impl Logs {
    pub fn open(folder: &Path, config: Config) -> Result<Self, LogsError> {
        std::fs::create_dir_all(folder).map_err(failed)?;
        let queue = Arc::new(Queue::new(days::last_number(folder)? + 1));
        let writer = writer::Writer::new(folder.to_owned(), config, queue.clone());
        let thread =
            std::thread::Builder::new().name("hearth-logs".to_owned()).spawn(move || writer.run()).map_err(failed)?;
        let inner = Inner {
            folder: folder.to_owned(),
            queue,
            reading: Semaphore::new(READERS_MAX),
            writer: Mutex::new(Some(thread)),
        };
        Ok(Logs { inner: Arc::new(inner) })
    }

    /// Never waits.
    pub fn append(&self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) {
        self.inner.queue.push(group, stream, events);
    }

    /// Events ascending by number, with everything that was appended before this call. An answer may hold fewer than
    /// `limit` when their text is long: it is bounded in bytes, too.
    pub async fn read(&self, query: Query) -> Result<Vec<Stored>, LogsError> {
        // The semaphore is never closed.
        let _turn = self.inner.reading.acquire().await;
        if let Some(flushed) = self.inner.queue.flush() {
            let _ = tokio::time::timeout(FLUSH_WAIT, flushed).await;
        }
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || days::read(&inner.folder, &query)).await.map_err(failed)?
    }

    /// What is appended to a group from now on.
    pub fn follow(&self, group: &LogGroup) -> Result<Follower, LogsError> {
        self.inner.queue.follow(group)
    }

    /// Writes what is queued and ends. Later events are dropped, followers end.
    pub async fn close(&self) {
        self.inner.queue.close();
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn failed(error: impl std::fmt::Display) -> LogsError {
    LogsError(error.to_string().into())
}

#[cfg(test)]
mod tests;
