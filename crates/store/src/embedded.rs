//! One SQLite file as an engine: write-ahead log with full sync, one writer thread, group commit, a few readers.
//!
//! The writer takes every change that waits, makes each in its own savepoint (one that is refused does not fail the
//! others) and syncs once for all. A change is answered only after that sync. Knows nothing of what is stored.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Changes that may wait for the writer before callers wait in turn.
const WAITING_MAX: usize = 1024;
/// Changes that share one sync.
const GROUP_MAX: usize = 256;
/// Queries that run at once; later ones wait.
const READERS_MAX: usize = 4;
/// Statements that a connection keeps prepared: more than any room here has.
const STATEMENTS_MAX: usize = 64;

/// The engine failed; nothing of the change was kept.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Full,
    Engine(Arc<str>),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full,
            _ => Fault::Engine(error.to_string().into()),
        }
    }
}

/// What a change must outlive before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlives {
    /// The host's loss of power: on disk.
    Everything,
    /// The death of the process. After a loss of power it may not have been, but never without what came before it.
    Process,
}

/// Dropping the last clone ends the writer after what it had accepted.
#[derive(Clone)]
pub(crate) struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    changes: Option<mpsc::Sender<Box<dyn Change>>>,
    reading: Semaphore,
    idle_readers: Mutex<Vec<Connection>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the file, making it if it is not there. `name` is the writer thread's.
    pub fn open(path: &Path, name: &str, schema: &str) -> Result<Self, Fault> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // Else a statement is planned anew for each value of some parameters.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch(schema)?;
        let failed = |e: std::io::Error| Fault::Engine(e.to_string().into());
        sync_folder(path).map_err(failed)?;
        let (changes, waiting) = mpsc::channel(WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || Writer { connection, outlives: Outlives::Everything }.run(waiting))
            .map_err(failed)?;
        let inner = Inner {
            path: path.to_owned(),
            changes: Some(changes),
            reading: Semaphore::new(READERS_MAX),
            idle_readers: Mutex::new(Vec::new()),
            writer: Some(writer),
        };
        Ok(Embedded { inner: Arc::new(inner) })
    }

    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = self.inner.clone();
        // The semaphore is never closed.
        let _turn = self.inner.reading.acquire().await;
        let read = move || {
            let connection = inner.reader()?;
            let answer = query(&connection);
            inner.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            answer
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(answer) => Ok(answer?),
            Err(e) => Err(Fault::Engine(e.to_string().into())),
        }
    }

    /// Makes a change whole or not at all. An `Err` inside refuses it alone; one outside fails all that share its sync.
    pub async fn write<T, E>(
        &self,
        outlives: Outlives,
        make: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Fault> + Send + 'static,
    {
        let gone = || E::from(Fault::Engine("the writer has ended".into()));
        let (answer, answered) = oneshot::channel();
        let changes = self.inner.changes.as_ref().ok_or_else(gone)?;
        let change = Waiting { outlives, make: Some(make), made: None, answer };
        changes.send(Box::new(change)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Inner {
    fn reader(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        idle.map_or_else(|| Connection::open_with_flags(&self.path, flags), Ok)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// SQLite syncs the folder for its journals, not for the file itself.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// A change of any type on its way through the writer.
trait Change: Send {
    fn outlives(&self) -> Outlives;
    /// Whether it was made rather than refused.
    fn make(&mut self, connection: &Connection) -> rusqlite::Result<bool>;
    fn answer(self: Box<Self>, kept: Result<(), Fault>);
}

struct Waiting<F, T, E> {
    outlives: Outlives,
    make: Option<F>,
    made: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Change for Waiting<F, T, E>
where
    F: FnOnce(&Connection) -> rusqlite::Result<Result<T, E>> + Send,
    T: Send,
    E: From<Fault> + Send,
{
    fn outlives(&self) -> Outlives {
        self.outlives
    }

    fn make(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let Some(make) = self.make.take() else { return Ok(false) };
        let made = make(connection)?;
        Ok(self.made.insert(made).is_ok())
    }

    fn answer(self: Box<Self>, kept: Result<(), Fault>) {
        let lost = || Err(E::from(Fault::Engine("the change was not made".into())));
        let answer = match kept {
            Ok(()) => self.made.unwrap_or_else(lost),
            Err(fault) => Err(E::from(fault)),
        };
        let _ = self.answer.send(answer);
    }
}

struct Writer {
    connection: Connection,
    /// What the connection is set to.
    outlives: Outlives,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Change>>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while let Some(first) = waiting.blocking_recv() {
            group.push(first);
            while group.len() < GROUP_MAX {
                match waiting.try_recv() {
                    Ok(next) => group.push(next),
                    Err(_) => break,
                }
            }
            let kept = self.write(&mut group).map_err(Fault::from);
            for change in group.drain(..) {
                change.answer(kept.clone());
            }
        }
    }

    /// One transaction, one sync. When the engine fails (a full disk), nothing of the group is kept.
    fn write(&mut self, group: &mut [Box<dyn Change>]) -> rusqlite::Result<()> {
        let durable = group.iter().any(|change| change.outlives() == Outlives::Everything);
        self.set(if durable { Outlives::Everything } else { Outlives::Process })?;
        self.say("BEGIN IMMEDIATE")?;
        let kept = self.make(group).and_then(|()| self.say("COMMIT"));
        if kept.is_err() && !self.connection.is_autocommit() {
            self.say("ROLLBACK")?;
        }
        kept
    }

    fn make(&self, group: &mut [Box<dyn Change>]) -> rusqlite::Result<()> {
        for change in group {
            self.say("SAVEPOINT change")?;
            if !change.make(&self.connection)? {
                self.say("ROLLBACK TO change")?;
            }
            self.say("RELEASE change")?;
        }
        Ok(())
    }

    fn say(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    fn set(&mut self, outlives: Outlives) -> rusqlite::Result<()> {
        if self.outlives != outlives {
            let synchronous = if outlives == Outlives::Everything { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            self.outlives = outlives;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<(), Fault>>;

    fn insert(size: i64) -> (Box<dyn Change>, Answer) {
        let (answer, answered) = oneshot::channel();
        let make = move |connection: &Connection| {
            connection.execute("INSERT INTO kept VALUES (zeroblob(?))", [size])?;
            Ok(Ok(()))
        };
        (Box::new(Waiting { outlives: Outlives::Everything, make: Some(make), made: None, answer }), answered)
    }

    fn write(writer: &mut Writer, sizes: &[i64]) -> Vec<Result<(), Fault>> {
        let (mut group, answers): (Vec<_>, Vec<Answer>) = sizes.iter().map(|size| insert(*size)).unzip();
        let kept = writer.write(&mut group).map_err(Fault::from);
        group.into_iter().for_each(|change| change.answer(kept.clone()));
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
    }

    #[test]
    fn a_full_disk_fails_its_whole_group_and_keeps_nothing_of_it() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE kept (bytes BLOB)").unwrap();
        connection.pragma_update(None, "max_page_count", 16).unwrap();
        let mut writer = Writer { connection, outlives: Outlives::Everything };
        let answers = write(&mut writer, &[10, 1_000_000, 10]);
        assert!(answers.iter().all(|answer| matches!(answer, Err(Fault::Full))), "{answers:?}");
        let count = "SELECT COUNT(*) FROM kept";
        assert_eq!(writer.connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        assert!(write(&mut writer, &[10])[0].is_ok());
    }

    #[tokio::test]
    async fn the_last_clone_ends_the_writer_after_what_it_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let schema = "CREATE TABLE IF NOT EXISTS kept (n INTEGER)";
        let file = Embedded::open(&path, "test", schema).unwrap();
        for outlives in [Outlives::Process, Outlives::Everything, Outlives::Process] {
            let insert = |connection: &Connection| {
                connection.execute("INSERT INTO kept VALUES (1)", [])?;
                Ok(Ok(()))
            };
            file.write::<(), Fault>(outlives, insert).await.unwrap();
        }
        drop(file);
        let file = Embedded::open(&path, "test", schema).unwrap();
        let count = |connection: &Connection| connection.query_row("SELECT COUNT(*) FROM kept", [], |row| row.get(0));
        assert_eq!(file.read::<i64>(count).await.unwrap(), 3);
    }
}
