//! Records in one SQLite file: write-ahead log with full sync, one writer thread, group commit.
//!
//! The writer takes every batch that waits, applies each in its own savepoint (one conflict does not fail the others)
//! and syncs once for all. A batch is answered only after that sync.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use hearth_model::BoxFuture;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{Expect, Key, Record, Records, RecordsError, Write};

/// Batches that may wait for the writer before callers wait in turn.
const WAITING_MAX: usize = 1024;
/// Batches that share one sync.
const GROUP_MAX: usize = 256;
/// Queries that run at once; later ones wait.
const READERS_MAX: usize = 4;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (
        kind TEXT NOT NULL, partition TEXT NOT NULL, id TEXT NOT NULL, change INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (kind, partition, id)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS changes (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
    INSERT OR IGNORE INTO changes VALUES (1, 0);
";

/// The embedded engine of [`Records`]. Dropping the last clone ends the writer after what it had accepted.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    batches: Option<mpsc::Sender<Batch>>,
    reading: Semaphore,
    idle_readers: Mutex<Vec<Connection>>,
    writer: Option<JoinHandle<()>>,
}

struct Batch {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<u64, RecordsError>>,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        let connection = Connection::open(path).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        sync_folder(path).map_err(|e| RecordsError::Engine(e.to_string().into()))?;
        let (batches, waiting) = mpsc::channel(WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("hearth-records".to_owned())
            .spawn(move || write_all(connection, waiting))
            .map_err(|e| RecordsError::Engine(e.to_string().into()))?;
        let inner = Inner {
            path: path.to_owned(),
            batches: Some(batches),
            reading: Semaphore::new(READERS_MAX),
            idle_readers: Mutex::new(Vec::new()),
            writer: Some(writer),
        };
        Ok(Sqlite { inner: Arc::new(inner) })
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, RecordsError> {
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
            Ok(answer) => answer.map_err(failed),
            Err(e) => Err(RecordsError::Engine(e.to_string().into())),
        }
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
        self.batches = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Records for Sqlite {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>> {
        Box::pin(self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT partition, id, change, value FROM records WHERE kind = ? AND partition = ? AND id = ?",
                )?
                .query_row(params![key.kind, key.partition, key.id], record)
                .optional()
        }))
    }

    fn list(
        &self,
        partition: String,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT partition, id, change, value FROM records
                     WHERE kind = ? AND partition = ? AND (?3 IS NULL OR id > ?3) ORDER BY id LIMIT ?4",
                )?
                .query_map(params![kind, partition, after, i64::try_from(limit).unwrap_or(i64::MAX)], record)?
                .collect()
        }))
    }

    fn all(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(self.read(move |connection| {
            // No partition is empty, so that these two come before every record.
            let (partition, id) = after.unwrap_or_default();
            connection
                .prepare_cached(
                    "SELECT partition, id, change, value FROM records
                     WHERE kind = ? AND (partition, id) > (?, ?) ORDER BY partition, id LIMIT ?",
                )?
                .query_map(params![kind, partition, id, i64::try_from(limit).unwrap_or(i64::MAX)], record)?
                .collect()
        }))
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>> {
        Box::pin(async move {
            let gone = || RecordsError::Engine("the writer has ended".into());
            let (answer, answered) = oneshot::channel();
            let batches = self.inner.batches.as_ref().ok_or_else(gone)?;
            batches.send(Batch { writes, answer }).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }
}

/// SQLite syncs the folder for its journals, not for the file itself.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key_partition: row.get(0)?,
        id: row.get(1)?,
        change: row.get::<_, i64>(2)?.cast_unsigned(),
        value: Bytes::from(row.get::<_, Vec<u8>>(3)?),
    })
}

fn failed(error: rusqlite::Error) -> RecordsError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => RecordsError::Full,
        _ => RecordsError::Engine(error.to_string().into()),
    }
}

fn write_all(mut connection: Connection, mut waiting: mpsc::Receiver<Batch>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        while group.len() < GROUP_MAX {
            match waiting.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        let answers = write_group(&mut connection, &group);
        for (batch, answer) in group.drain(..).zip(answers) {
            let _ = batch.answer.send(answer);
        }
    }
}

/// One transaction, one sync; an answer for each batch. When the engine fails (a full disk), nothing of the group is
/// kept and every batch of it is told so.
fn write_group(connection: &mut Connection, group: &[Batch]) -> Vec<Result<u64, RecordsError>> {
    let mut write = || -> Result<Vec<Result<u64, RecordsError>>, RecordsError> {
        let mut transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        let mut answers = Vec::with_capacity(group.len());
        for batch in group {
            let savepoint = transaction.savepoint().map_err(failed)?;
            let answer = apply(&savepoint, &batch.writes);
            match answer {
                Ok(_) => savepoint.commit().map_err(failed)?,
                Err(RecordsError::Conflict(_)) => savepoint.finish().map_err(failed)?,
                Err(engine) => return Err(engine),
            }
            answers.push(answer);
        }
        transaction.commit().map_err(failed)?;
        Ok(answers)
    };
    write().unwrap_or_else(|error| group.iter().map(|_| Err(error.clone())).collect())
}

fn apply(connection: &Connection, writes: &[Write]) -> Result<u64, RecordsError> {
    let change: i64 = connection
        .prepare_cached("UPDATE changes SET last = last + 1 RETURNING last")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(failed)?;
    for write in writes {
        let (key, expect) = write.condition();
        if !holds(connection, key, expect).map_err(failed)? {
            return Err(RecordsError::Conflict(key.clone()));
        }
        match write {
            Write::Put { key, value, .. } => connection
                .prepare_cached("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)")
                .and_then(|mut put| put.execute(params![key.kind, key.partition, key.id, change, value.as_ref()])),
            Write::Delete { key, .. } => connection
                .prepare_cached("DELETE FROM records WHERE kind = ? AND partition = ? AND id = ?")
                .and_then(|mut delete| delete.execute(params![key.kind, key.partition, key.id])),
            Write::Check { .. } => continue,
        }
        .map_err(failed)?;
    }
    Ok(change.cast_unsigned())
}

fn holds(connection: &Connection, key: &Key, expect: Expect) -> rusqlite::Result<bool> {
    if expect == Expect::Anything {
        return Ok(true);
    }
    let found: Option<i64> = connection
        .prepare_cached("SELECT change FROM records WHERE kind = ? AND partition = ? AND id = ?")?
        .query_row(params![key.kind, key.partition, key.id], |row| row.get(0))
        .optional()?;
    Ok(match expect {
        Expect::Anything => true,
        Expect::Absent => found.is_none(),
        Expect::Change(change) => found == Some(change.cast_signed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: &str, size: usize) -> Batch {
        let key = Key { partition: "000000000000/us-east-1".to_owned(), kind: "function", id: id.to_owned() };
        let write = Write::Put { key, expect: Expect::Absent, value: vec![0; size].into() };
        Batch { writes: vec![write], answer: oneshot::channel().0 }
    }

    #[test]
    fn a_full_disk_fails_its_whole_group_and_keeps_nothing_of_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection.pragma_update(None, "max_page_count", 16).unwrap();
        let answers = write_group(&mut connection, &[batch("a", 10), batch("b", 1_000_000), batch("c", 10)]);
        assert!(answers.iter().all(|answer| matches!(answer, Err(RecordsError::Full))), "{answers:?}");
        let kept: i64 = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 0);
        assert!(write_group(&mut connection, &[batch("a", 10)])[0].is_ok());
    }
}
