//! Records in one SQLite file: the embedded engine of [`Records`].

use std::path::Path;

use bytes::Bytes;
use hearth_model::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::embedded::{Embedded, Fault, Outlives};
use crate::{Expect, Key, Record, Records, RecordsError, Write};

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
    file: Embedded,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        Ok(Sqlite { file: Embedded::open(path, "hearth-records", SCHEMA)? })
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, RecordsError> {
        Ok(self.file.read(query).await?)
    }
}

impl From<Fault> for RecordsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => RecordsError::Full,
            Fault::Engine(said) => RecordsError::Engine(said),
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
        Box::pin(self.file.write(Outlives::Everything, move |connection| apply(connection, &writes)))
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key_partition: row.get(0)?,
        id: row.get(1)?,
        change: row.get::<_, i64>(2)?.cast_unsigned(),
        value: Bytes::from(row.get::<_, Vec<u8>>(3)?),
    })
}

fn apply(connection: &Connection, writes: &[Write]) -> rusqlite::Result<Result<u64, RecordsError>> {
    let change: i64 = connection
        .prepare_cached("UPDATE changes SET last = last + 1 RETURNING last")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))?;
    for write in writes {
        let (key, expect) = write.condition();
        if !holds(connection, key, expect)? {
            return Ok(Err(RecordsError::Conflict(key.clone())));
        }
        match write {
            Write::Put { key, value, .. } => connection
                .prepare_cached("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)")
                .and_then(|mut put| put.execute(params![key.kind, key.partition, key.id, change, value.as_ref()])),
            Write::Delete { key, .. } => connection
                .prepare_cached("DELETE FROM records WHERE kind = ? AND partition = ? AND id = ?")
                .and_then(|mut delete| delete.execute(params![key.kind, key.partition, key.id])),
            Write::Check { .. } => continue,
        }?;
    }
    Ok(Ok(change.cast_unsigned()))
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
