//! Log groups, their streams and events on disk: one SQLite file a day (UTC), and one that says which groups and streams
//! there are. One thread writes, one makes room.
//!
//! ```text
//! append ─▶ queue (bounded, numbered) ─▶ writer ─▶ catalogue, YYYY-MM-DD.blocks ─▶ scan
//!             └─▶ followers (bounded, told what they missed)
//! ```
//!
//! Appending takes a lock and pushes: it never waits and never touches the disk. What does not fit, or cannot be written,
//! is dropped, counted, and the count is written into the stream it is missing from. A killed server loses at most what was
//! queued, which is the last second at most while the disk keeps up; a loss of power also what the disk had not
//! been told to keep.
//!
//! - `queue`: what waits; `follow`: who watches live
//! - `writer`: the thread that writes; `sweep`: the one that deletes
//! - `catalogue`: groups, streams and their settings; `days`: the files of events; `block`: how events stand in them
//! - `former`: files of a version before
//! - `scan`: reading in the order of time; `read`: a group's log for people

mod block;
mod catalogue;
mod days;
mod follow;
mod former;
mod queue;
mod read;
mod scan;
mod sweep;
mod writer;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hearth_model::{AccountId, Clock, LogEvent, LogGroup, LogStreamName, Region};
use rusqlite::{Connection, Transaction};
use tokio::sync::{Semaphore, oneshot};

pub use catalogue::{
    ChangeError, Group, GroupId, GroupSettings, MetricFilter, Stream, StreamId, StreamMark, StreamOrder, Subscription,
};
pub use follow::{Followed, Follower};
pub use queue::Missing;
use queue::Queue;
pub use read::Query;
pub use scan::{Candidate, Page, Position, Scan, Scanned, Streams, Way};

/// Queries that run at once; later ones wait.
const READERS_MAX: usize = 4;
/// Longest wait of a reader for what is queued; then it reads what is there.
const READ_WAIT: Duration = Duration::from_secs(2);
/// Longest wait of who must know that it is written.
const FLUSH_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Config {
    /// How long events of groups are kept that have no retention of their own.
    pub retention: Duration,
    /// What the files may take of the disk.
    pub bytes_max: u64,
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
    config: Config,
    queue: Arc<Queue>,
    reading: Semaphore,
    writer: Mutex<Option<JoinHandle<()>>>,
    sweeper: Mutex<Option<SyncSender<()>>>,
}

/// An event as it is kept. Numbers grow in the order in which events were appended, over all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub number: u64,
    pub at: SystemTime,
    pub ingested: SystemTime,
    pub stream: Arc<str>,
    pub message: Bytes,
}

impl Stored {
    pub fn position(&self) -> Position {
        Position { at: millis(self.at), number: self.number }
    }
}

impl Logs {
    pub fn open(folder: &Path, config: Config) -> Result<Self, LogsError> {
        std::fs::create_dir_all(folder).map_err(failed)?;
        let catalogue = catalogue::open(folder).map_err(failed)?;
        // Should the last number have been lost with a power cut, the clock is beyond it.
        let by_clock = u64::try_from(millis(config.clock.wall()).saturating_mul(1000)).unwrap_or(0);
        let last = catalogue::last_number(&catalogue).map_err(failed)?.max(by_clock);
        let queue = Arc::new(Queue::new(last + 1, config.clock.clone()));
        let removals = Arc::new(days::Removals::default());
        let writer = writer::Writer::new(folder.to_owned(), config.clone(), queue.clone(), catalogue, removals.clone());
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writing = thread("hearth-logs").spawn(move || writer.run()).map_err(failed)?;
        let (sweep, told) = std::sync::mpsc::sync_channel(1);
        let sweeper =
            sweep::Sweeper { folder: folder.to_owned(), config: config.clone(), removals, queue: queue.clone(), told };
        thread("hearth-logs-old").spawn(move || sweeper.run()).map_err(failed)?;
        let inner = Inner {
            folder: folder.to_owned(),
            config,
            queue,
            reading: Semaphore::new(READERS_MAX),
            writer: Mutex::new(Some(writing)),
            sweeper: Mutex::new(Some(sweep)),
        };
        Ok(Logs { inner: Arc::new(inner) })
    }

    /// Never waits. Group and stream come into being with their first event. Whether the events were taken: else they are
    /// counted as dropped.
    pub fn append(&self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) -> bool {
        self.inner.queue.push(group, stream, events)
    }

    /// Ready when everything that was appended before is written.
    pub async fn flush(&self) -> Result<(), LogsError> {
        let unwritten = || failed("what is queued could not be written");
        match self.inner.queue.flush() {
            None => Err(failed("it is closed")),
            Some(flushed) => match tokio::time::timeout(FLUSH_WAIT, flushed).await {
                Ok(written) => written.map_err(|_| unwritten()),
                Err(_) => Err(unwritten()),
            },
        }
    }

    /// What was dropped since the start.
    pub fn dropped(&self) -> Missing {
        self.inner.queue.dropped()
    }

    /// What is appended to a group from now on.
    pub fn follow(&self, group: &LogGroup) -> Result<Follower, LogsError> {
        self.inner.queue.follow(group)
    }

    /// Writes what is queued and ends. Later events are dropped, followers end.
    pub async fn close(&self) {
        self.inner.queue.close();
        self.inner.sweeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

/// Groups and streams.
impl Logs {
    pub async fn group(&self, name: &LogGroup) -> Result<Option<Group>, LogsError> {
        let name = name.clone();
        self.look(move |catalogue, _| catalogue::group(catalogue, &name)).await
    }

    /// Groups of an account and region by name, after `after`, that `wanted` takes.
    pub async fn groups(
        &self,
        account: AccountId,
        region: Region,
        after: String,
        limit: usize,
        wanted: impl Fn(&Group) -> bool + Send + 'static,
    ) -> Result<Vec<Group>, LogsError> {
        self.look(move |catalogue, _| catalogue::groups(catalogue, (&account, &region), &after, limit, wanted)).await
    }

    /// Every group, of every account, with filters of either kind.
    pub async fn filtered(&self) -> Result<Vec<Group>, LogsError> {
        self.look(|catalogue, _| catalogue::filtered(catalogue)).await
    }

    pub async fn stream(&self, group: GroupId, name: &str) -> Result<Option<Stream>, LogsError> {
        let name = name.to_owned();
        self.look(move |catalogue, _| catalogue::stream(catalogue, group, &name)).await
    }

    /// Streams whose name begins with `prefix`.
    pub async fn streams(
        &self,
        group: GroupId,
        prefix: String,
        order: StreamOrder,
        after: Option<StreamMark>,
        limit: usize,
    ) -> Result<Vec<Stream>, LogsError> {
        self.look(move |catalogue, _| catalogue::streams(catalogue, group, &prefix, order, after.as_ref(), limit)).await
    }

    /// On disk when it is done, as every change.
    pub async fn create_group(&self, name: LogGroup, settings: GroupSettings) -> Result<(), ChangeError> {
        let now = self.now();
        self.change(move |change| catalogue::create_group(change, &name, now, &settings).map(drop)).await
    }

    /// Decides on what is set now; an error changes nothing.
    pub async fn set<E: Send + 'static>(
        &self,
        name: LogGroup,
        decide: impl FnOnce(&mut GroupSettings) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<(), E>, ChangeError> {
        self.change(move |change| {
            let mut group = catalogue::group(change, &name)?.ok_or(ChangeError::NoGroup)?;
            if let Err(refused) = decide(&mut group.settings) {
                return Ok(Err(refused));
            }
            catalogue::set(change, group.id, &group.settings)?;
            Ok(Ok(()))
        })
        .await
    }

    /// With its streams and events, of which the disk is freed later. Refused while it is protected.
    pub async fn delete_group(&self, name: LogGroup) -> Result<(), ChangeError> {
        self.change(move |change| {
            let group = catalogue::group(change, &name)?.ok_or(ChangeError::NoGroup)?;
            if group.settings.protected {
                return Err(ChangeError::Protected);
            }
            Ok(catalogue::delete_group(change, group.id)?)
        })
        .await?;
        self.sweep();
        Ok(())
    }

    pub async fn create_stream(&self, name: LogGroup, stream: LogStreamName) -> Result<(), ChangeError> {
        let now = self.now();
        self.change(move |change| {
            let group = catalogue::group(change, &name)?.ok_or(ChangeError::NoGroup)?;
            catalogue::create_stream(change, group.id, &stream, now).map(drop)
        })
        .await
    }

    pub async fn delete_stream(&self, name: LogGroup, stream: LogStreamName) -> Result<(), ChangeError> {
        self.change(move |change| {
            let group = catalogue::group(change, &name)?.ok_or(ChangeError::NoGroup)?;
            if group.settings.protected {
                return Err(ChangeError::Protected);
            }
            let stream = catalogue::stream(change, group.id, stream.as_str())?.ok_or(ChangeError::NoStream)?;
            Ok(catalogue::delete_stream(change, group.id, stream.id)?)
        })
        .await?;
        self.sweep();
        Ok(())
    }

    /// The first moment that is kept of a group now, in milliseconds since 1970.
    pub fn kept_since(&self, settings: &GroupSettings) -> i64 {
        catalogue::kept_since(settings, self.inner.config.retention, self.now())
    }

    /// A page of a group's events, with everything that was appended before this call. `keep` is asked of every event of
    /// the range, in no particular order.
    pub async fn scan(
        &self,
        scan: Scan,
        mut keep: impl FnMut(&Candidate<'_>) -> bool + Send + 'static,
    ) -> Result<Page, LogsError> {
        self.look_into(move |folder, catalogue| scan::scan(folder, catalogue, &scan, &mut keep)).await
    }

    /// Every event of a range, once: nearly in the order of their times, with the names of their streams. For what takes
    /// long: it waits for nobody's turn, so that its caller must bound how many there are.
    pub async fn each(
        &self,
        scan: Scan,
        mut visit: impl FnMut(&Candidate<'_>, &Arc<str>) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Scanned, LogsError> {
        let _ = tokio::time::timeout(READ_WAIT, self.flush()).await;
        let folder = self.inner.folder.clone();
        let visited = tokio::task::spawn_blocking(move || {
            let catalogue = catalogue::open_to_read(&folder).map_err(failed)?;
            scan::each(&folder, &catalogue, &scan, &mut visit)
        });
        visited.await.map_err(failed)?
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection, &Path) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogsError> {
        self.look_into(move |folder, catalogue| look(catalogue, folder).map_err(failed)).await
    }

    /// Reads after what is queued was written.
    async fn look_into<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Path, &Connection) -> Result<T, LogsError> + Send + 'static,
    ) -> Result<T, LogsError> {
        // The semaphore is never closed.
        let _turn = self.inner.reading.acquire().await;
        // What cannot be written is not waited for, and is told where it is missing.
        let _ = tokio::time::timeout(READ_WAIT, self.flush()).await;
        let folder = self.inner.folder.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let catalogue = catalogue::open_to_read(&folder).map_err(failed)?;
            look(&folder, &catalogue)
        });
        looked.await.map_err(failed)?
    }

    /// One transaction of the writer.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let (answer, changed) = oneshot::channel();
        let asked = self.inner.queue.ask(Box::new(move |catalogue| {
            let done = catalogue::change(catalogue, true).map_err(ChangeError::from).and_then(|transaction| {
                let done = change(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
            let _ = answer.send(done);
        }));
        if !asked {
            return Err(ChangeError::Store(failed("too many changes wait")));
        }
        changed.await.map_err(|_| ChangeError::Store(failed("it is closed")))?
    }

    fn sweep(&self) {
        if let Some(sweeper) = &*self.inner.sweeper.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sweeper.try_send(());
        }
    }

    fn now(&self) -> i64 {
        millis(self.inner.config.clock.wall())
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

/// Since 1970.
fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests;
