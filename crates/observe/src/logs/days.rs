//! The files of the days (UTC, of the events, not of their arrival): a table of blocks with two indexes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::block::Block;
use super::catalogue::{Doomed, GroupId, StreamId};
use super::{LogsError, failed};

const EXTENSION: &str = "blocks";
/// The sweeper deletes in short transactions.
const BUSY: Duration = Duration::from_secs(10);
/// Blocks that one transaction deletes.
const DELETED_AT_ONCE: i64 = 200;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS blocks (
        id INTEGER PRIMARY KEY, grp INTEGER NOT NULL, stream INTEGER NOT NULL, begins INTEGER NOT NULL,
        events INTEGER NOT NULL, data BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_group ON blocks (grp, begins);
    CREATE INDEX IF NOT EXISTS by_stream ON blocks (stream, begins);
";

/// Counts how often files were taken away. Whoever holds it keeps them where they are.
#[derive(Default)]
pub(super) struct Removals(Mutex<u64>);

impl Removals {
    pub fn hold(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file of a day to write, making it if it is not there.
pub(super) fn open(folder: &Path, day: i64) -> Result<Connection, LogsError> {
    let connection = Connection::open(path(folder, day)).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    // Before there is a table: what is deleted is given back by and by.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    connection.execute_batch(SCHEMA).map_err(failed)?;
    Ok(connection)
}

/// None when the day was deleted meanwhile, or has no table yet.
pub(super) fn open_to_read(folder: &Path, day: i64) -> Result<Option<Connection>, LogsError> {
    let file = path(folder, day);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(&file, flags) {
        Ok(connection) => connection,
        Err(_) if !file.exists() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let ready = connection.table_exists(None, "blocks").map_err(failed)?;
    Ok(ready.then_some(connection))
}

/// A transaction for what is appended.
pub(super) fn change(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

pub(super) fn write(change: &Transaction<'_>, group: GroupId, stream: StreamId, block: &Block) -> rusqlite::Result<()> {
    let mut insert =
        change.prepare_cached("INSERT INTO blocks (grp, stream, begins, events, data) VALUES (?, ?, ?, ?, ?)")?;
    let events = i64::try_from(block.events).unwrap_or(i64::MAX);
    insert.execute(params![group.0, stream.0, block.from, events, block.data]).map(drop)
}

/// Deletes some of what is doomed; whether there may be more.
pub(super) fn delete(folder: &Path, doomed: &Doomed) -> Result<bool, LogsError> {
    if !path(folder, doomed.day).exists() {
        return Ok(false);
    }
    let connection = open(folder, doomed.day)?;
    let (what, id) = match doomed.stream {
        Some(stream) => ("stream", stream.0),
        None => ("grp", doomed.group.0),
    };
    let some = format!("DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE {what} = ? LIMIT ?)");
    let deleted = connection.execute(&some, params![id, DELETED_AT_ONCE]).map_err(failed)?;
    give_back(&connection)?;
    Ok(deleted > 0)
}

/// Deletes the blocks of a day that were written first.
pub(super) fn delete_oldest(folder: &Path, day: i64) -> Result<bool, LogsError> {
    let connection = open(folder, day)?;
    let some = "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks ORDER BY id LIMIT ?)";
    let deleted = connection.execute(some, [DELETED_AT_ONCE]).map_err(failed)?;
    give_back(&connection)?;
    Ok(deleted > 0)
}

fn give_back(connection: &Connection) -> Result<(), LogsError> {
    // A row for each page.
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum").map_err(failed)?;
    let mut rows = vacuum.query([]).map_err(failed)?;
    while rows.next().map_err(failed)?.is_some() {}
    // What was freed shows in the file once the log beside it is written back.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)
}

/// Takes the whole file away. Who reads it goes on reading.
pub(super) fn remove(folder: &Path, day: i64, removals: &Removals) -> Result<(), LogsError> {
    let mut removals = removals.hold();
    *removals += 1;
    for file in files_of(folder, day) {
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(())
}

/// Days that have a file, ascending, with what they take of the disk.
pub(super) fn sizes(folder: &Path) -> Result<Vec<(i64, u64)>, LogsError> {
    let mut days = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(day) = path.file_stem().and_then(|stem| stem.to_str()).and_then(day)
        {
            let bytes = files_of(folder, day).filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len());
            days.push((day, bytes.sum()));
        }
    }
    days.sort_unstable();
    Ok(days)
}

/// The file and those that the engine keeps beside it.
fn files_of(folder: &Path, day: i64) -> impl Iterator<Item = PathBuf> {
    let file = path(folder, day).into_os_string();
    ["-wal", "-shm", ""].into_iter().map(move |suffix| {
        let mut file = file.clone();
        file.push(suffix);
        PathBuf::from(file)
    })
}

fn path(folder: &Path, day: i64) -> PathBuf {
    folder.join(format!("{}.{EXTENSION}", date(day)))
}

const FIRST: Date = Date::constant(1970, 1, 1);

fn date(day: i64) -> Date {
    FIRST.saturating_add(jiff::Span::new().days(day.clamp(0, 2_900_000)))
}

fn day(name: &str) -> Option<i64> {
    let date: Date = name.parse().ok()?;
    date.since(FIRST).ok().map(|span| i64::from(span.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_back_from_their_names() {
        for number in [0, 1, 59, 20_000, 2_900_000] {
            assert_eq!(day(&date(number).to_string()), Some(number));
        }
        assert_eq!(date(20_484).to_string(), "2026-01-31");
        assert_eq!(day("catalogue"), None);
    }
}
