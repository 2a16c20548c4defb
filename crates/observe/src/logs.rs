//! Log streams on disk: one SQLite file a day (UTC), written by one thread, in batches.
//!
//! Appending puts events into a bounded queue and returns. When the queue is full they are dropped, counted, and the
//! count is written into the log they are missing from. A crash loses at most what was queued.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hearth_model::{LogEvent, LogGroup, LogStreamName};
use rusqlite::{Connection, params};
use tokio::sync::broadcast;

/// Batches that may wait for the writer.
const QUEUE_MAX: usize = 8192;
/// Batches of one transaction.
const GROUP_MAX: usize = 512;
/// Batches that a slow follower may lag behind.
const FOLLOW_MAX: usize = 1024;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS events (
        grp TEXT NOT NULL, at INTEGER NOT NULL, stream TEXT NOT NULL, message BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_group ON events (grp, at);
";

#[derive(Clone, Debug)]
pub struct Config {
    pub folder: PathBuf,
    /// Days' files older than this are deleted.
    pub retention: Duration,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("the log store failed: {0}")]
pub struct LogsError(Arc<str>);

/// A cheap handle.
#[derive(Clone)]
pub struct Logs {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    queue: Mutex<Option<mpsc::SyncSender<Batch>>>,
    dropped: Mutex<HashMap<(LogGroup, LogStreamName), u64>>,
    followers: broadcast::Sender<Followed>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Batch {
    group: LogGroup,
    stream: LogStreamName,
    events: Vec<LogEvent>,
}

/// New events of one stream, for followers.
#[derive(Clone, Debug)]
pub struct Followed {
    pub group: LogGroup,
    pub stream: LogStreamName,
    pub events: Arc<[LogEvent]>,
}

#[derive(Clone, Debug, Default)]
pub struct Query {
    pub since: Option<SystemTime>,
    /// Only messages that hold this text.
    pub grep: Option<String>,
    /// At most this many, the latest.
    pub limit: usize,
}

/// An event as it was kept.
#[derive(Clone, Debug)]
pub struct Stored {
    pub at: SystemTime,
    pub stream: String,
    pub message: Bytes,
}

impl Logs {
    pub fn open(config: Config) -> Result<Self, LogsError> {
        std::fs::create_dir_all(&config.folder).map_err(failed)?;
        let (queue, waiting) = mpsc::sync_channel(QUEUE_MAX);
        let folder = config.folder.clone();
        let writer = std::thread::Builder::new()
            .name("hearth-logs".to_owned())
            .spawn(move || write_all(&config, &waiting))
            .map_err(failed)?;
        let inner = Inner {
            folder,
            queue: Mutex::new(Some(queue)),
            dropped: Mutex::default(),
            followers: broadcast::Sender::new(FOLLOW_MAX),
            writer: Mutex::new(Some(writer)),
        };
        Ok(Logs { inner: Arc::new(inner) })
    }

    /// Never waits.
    pub fn append(&self, group: &LogGroup, stream: &LogStreamName, mut events: Vec<LogEvent>) {
        if events.is_empty() {
            return;
        }
        let mut dropped = lock(&self.inner.dropped);
        if !dropped.is_empty()
            && let Some(count) = dropped.remove(&(group.clone(), stream.clone()))
        {
            let message =
                format!("hearth: {count} log events were dropped here: the log could not be written fast enough");
            events.insert(0, LogEvent { at: events[0].at, message: message.into() });
        }
        drop(dropped);
        if self.inner.followers.receiver_count() > 0 {
            let followed = Followed { group: group.clone(), stream: stream.clone(), events: events.clone().into() };
            let _ = self.inner.followers.send(followed);
        }
        let count = events.len() as u64;
        let batch = Batch { group: group.clone(), stream: stream.clone(), events };
        let sent = lock(&self.inner.queue).as_ref().is_some_and(|queue| queue.try_send(batch).is_ok());
        if !sent {
            *lock(&self.inner.dropped).entry((group.clone(), stream.clone())).or_default() += count;
        }
    }

    /// Events of a group that are on disk, ascending by time. Blocking.
    pub fn read(&self, group: &LogGroup, query: &Query) -> Result<Vec<Stored>, LogsError> {
        let since = query.since.map_or(i64::MIN, micros);
        let mut found = Vec::new();
        let mut days = days(&self.inner.folder).map_err(failed)?;
        days.reverse();
        for day in days {
            if found.len() >= query.limit {
                break;
            }
            let connection = Connection::open(day).map_err(failed)?;
            connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
            let mut select = connection
                .prepare(
                    "SELECT at, stream, message FROM events WHERE grp = ?1 AND at >= ?2
                     AND (?3 IS NULL OR instr(CAST(message AS TEXT), ?3) > 0) ORDER BY at DESC, rowid DESC LIMIT ?4",
                )
                .map_err(failed)?;
            let rest = i64::try_from(query.limit - found.len()).unwrap_or(i64::MAX);
            let events = select
                .query_map(params![key(group), since, query.grep, rest], |row| {
                    Ok(Stored { at: time(row.get(0)?), stream: row.get(1)?, message: row.get::<_, Vec<u8>>(2)?.into() })
                })
                .map_err(failed)?;
            for event in events {
                found.push(event.map_err(failed)?);
            }
        }
        found.reverse();
        Ok(found)
    }

    /// What is appended from now on, to every group.
    pub fn follow(&self) -> broadcast::Receiver<Followed> {
        self.inner.followers.subscribe()
    }

    /// Writes what is queued and ends. Blocking. Later events are dropped.
    pub fn close(&self) {
        *lock(&self.inner.queue) = None;
        let writer = lock(&self.inner.writer).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: impl std::fmt::Display) -> LogsError {
    LogsError(error.to_string().into())
}

fn key(group: &LogGroup) -> String {
    format!("{}/{}{}", group.account, group.region, group.name)
}

fn micros(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Files of the days, oldest first.
fn days(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut days: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sqlite"))
        .collect();
    days.sort();
    Ok(days)
}

fn day(at: SystemTime) -> String {
    crate::platform::timestamp(at).chars().take(10).collect()
}

fn write_all(config: &Config, waiting: &mpsc::Receiver<Batch>) {
    let mut open: Option<(String, Connection)> = None;
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        group.extend(waiting.try_iter().take(GROUP_MAX - 1));
        let today = day(SystemTime::now());
        if open.as_ref().is_none_or(|(day, _)| *day != today) {
            open = begin_day(config, &today)
                .map_err(|error| tracing::error!(%error, "the day's log cannot be opened"))
                .ok();
        }
        let Some((_, connection)) = &mut open else { continue };
        if let Err(error) = write_group(connection, &group) {
            tracing::error!(%error, batches = group.len(), "log events could not be written");
        }
    }
}

fn begin_day(config: &Config, today: &str) -> Result<(String, Connection), LogsError> {
    let oldest = day(SystemTime::now() - config.retention);
    for file in days(&config.folder).map_err(failed)? {
        let old = file.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem < oldest.as_str());
        if old {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
            }
        }
    }
    let connection = Connection::open(config.folder.join(format!("{today}.sqlite"))).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    connection.execute_batch(SCHEMA).map_err(failed)?;
    Ok((today.to_owned(), connection))
}

fn write_group(connection: &mut Connection, group: &[Batch]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?)")?;
        for batch in group {
            let key = key(&batch.group);
            for event in &batch.events {
                insert.execute(params![key, micros(event.at), batch.stream.as_str(), event.message.as_ref()])?;
            }
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use hearth_model::{AccountId, LogStreamId, Region, Version};

    use super::*;

    fn group(name: &str) -> LogGroup {
        LogGroup { account: AccountId::default_account(), region: Region::default_region(), name: name.into() }
    }

    fn stream() -> LogStreamName {
        LogStreamName::new((2026, 1, 2), None, Version::Latest, &LogStreamId::new("ab"))
    }

    fn event(text: &'static str) -> LogEvent {
        LogEvent { at: SystemTime::now(), message: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn what_was_appended_is_read_in_order_after_closing() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { folder: folder.path().to_owned(), retention: Duration::from_secs(86400) };
        let logs = Logs::open(config.clone()).unwrap();
        let mut follower = logs.follow();
        logs.append(&group("/a"), &stream(), vec![event("one"), event("two")]);
        logs.append(&group("/b"), &stream(), vec![event("other")]);
        logs.append(&group("/a"), &stream(), vec![event("three")]);
        logs.close();
        assert_eq!(follower.try_recv().unwrap().events.len(), 2);
        let logs = Logs::open(config).unwrap();
        let texts = |query: Query| {
            let found = logs.read(&group("/a"), &query).unwrap();
            found.into_iter().map(|e| String::from_utf8(e.message.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(texts(Query { limit: 10, ..Query::default() }), ["one", "two", "three"]);
        assert_eq!(texts(Query { limit: 1, ..Query::default() }), ["three"]);
        assert_eq!(texts(Query { limit: 9, grep: Some("w".to_owned()), ..Query::default() }), ["two"]);
    }

    #[test]
    fn old_days_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("2001-01-01.sqlite"), "").unwrap();
        let logs =
            Logs::open(Config { folder: folder.path().to_owned(), retention: Duration::from_secs(86400) }).unwrap();
        logs.append(&group("/a"), &stream(), vec![event("one")]);
        logs.close();
        assert_eq!(days(folder.path()).unwrap().len(), 1);
    }
}
