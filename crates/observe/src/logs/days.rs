//! The files of the days, and questions to them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_model::LogGroup;
use rusqlite::{Connection, OpenFlags, Row, named_params, params};

use super::queue::Batch;
use super::{LogsError, Query, Stored, failed};

/// Text that one answer may hold.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS events (
        number INTEGER PRIMARY KEY, grp TEXT NOT NULL, at INTEGER NOT NULL, stream TEXT NOT NULL, message BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_group ON events (grp);
";

/// `2026-01-31`, in UTC.
pub(super) fn name(at: SystemTime) -> String {
    let mut text = crate::platform::timestamp(at);
    text.truncate(10);
    text
}

/// Opens the file of a day to write, making it if it is not there.
pub(super) fn open(folder: &Path, day: &str) -> Result<Connection, LogsError> {
    let connection = Connection::open(folder.join(format!("{day}.sqlite"))).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    connection.execute_batch(SCHEMA).map_err(failed)?;
    Ok(connection)
}

/// One transaction.
pub(super) fn write<'a>(
    connection: &mut Connection,
    batches: impl Iterator<Item = &'a Batch>,
) -> Result<(), LogsError> {
    let transaction = connection.transaction().map_err(failed)?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?)").map_err(failed)?;
        for batch in batches {
            let group = key(&batch.group);
            for (number, event) in (batch.first..).zip(&batch.events) {
                let values = params![
                    number.cast_signed(),
                    group,
                    micros(event.at),
                    batch.stream.as_str(),
                    event.message.as_ref()
                ];
                insert.execute(values).map_err(failed)?;
            }
        }
    }
    transaction.commit().map_err(failed)
}

pub(super) fn delete_before(folder: &Path, oldest: &str) -> Result<(), LogsError> {
    for file in files(folder)?.into_iter().filter(|file| day_of(file) < oldest) {
        for suffix in ["-wal", "-shm", ""] {
            let mut path = file.clone().into_os_string();
            path.push(suffix);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The largest number in use, 0 when there is none.
pub(super) fn last_number(folder: &Path) -> Result<u64, LogsError> {
    for file in files(folder)?.into_iter().rev() {
        let Some(connection) = open_to_read(&file)? else { continue };
        let last: Option<i64> =
            connection.query_row("SELECT max(number) FROM events", [], |row| row.get(0)).map_err(failed)?;
        if let Some(last) = last {
            return Ok(last.cast_unsigned());
        }
    }
    Ok(0)
}

/// Part of a group: numbers, both ends included, and perhaps one stream.
struct Span {
    stream: Option<String>,
    from: i64,
    to: i64,
}

/// Ascending by number. Blocking.
pub(super) fn read(folder: &Path, query: &Query) -> Result<Vec<Stored>, LogsError> {
    let first_day = query.since.map(name).unwrap_or_default();
    let mut files = files(folder)?;
    files.retain(|file| day_of(file) >= first_day.as_str());
    let mut days = Vec::new();
    for file in &files {
        days.extend(open_to_read(file)?);
    }
    let after = query.after.map_or(0, |after| after.saturating_add(1)).cast_signed();
    let mut spans = match &query.request {
        None => vec![Span { stream: None, from: 0, to: i64::MAX }],
        Some(request) => spans_of(&days, query, request.as_str())?,
    };
    for span in &mut spans {
        span.from = span.from.max(after);
    }
    let latest = query.after.is_none();
    if latest {
        days.reverse();
    }
    let mut found: Vec<Stored> = Vec::new();
    let mut bytes = 0;
    for day in days {
        let mut events = Vec::new();
        for span in &spans {
            events.extend(read_span(&day, query, span, query.limit.saturating_sub(found.len()))?);
        }
        events.sort_by_key(|event| event.number);
        if latest {
            events.reverse();
        }
        for event in events {
            bytes += event.message.len();
            if found.len() >= query.limit || bytes > ANSWER_MAX && !found.is_empty() {
                break;
            }
            found.push(event);
        }
        if found.len() >= query.limit || bytes > ANSWER_MAX {
            break;
        }
    }
    found.sort_by_key(|event| event.number);
    Ok(found)
}

/// At most `limit` events, and no more of them than an answer may hold: the first of the span, or the latest.
fn read_span(day: &Connection, query: &Query, span: &Span, limit: usize) -> Result<Vec<Stored>, LogsError> {
    let order = if query.after.is_some() { "ASC" } else { "DESC" };
    let mut select = day
        .prepare_cached(&format!(
            "SELECT number, at, stream, message FROM events
             WHERE grp = :group AND number BETWEEN :from AND :to AND at >= :since AND at < :until
             AND (:stream IS NULL OR stream = :stream) AND (:grep IS NULL OR instr(message, :grep) > 0)
             ORDER BY number {order} LIMIT :limit"
        ))
        .map_err(failed)?;
    let mut rows = select
        .query(named_params! {
            ":group": key(&query.group),
            ":from": span.from,
            ":to": span.to,
            ":since": query.since.map_or(i64::MIN, micros),
            ":until": query.until.map_or(i64::MAX, micros),
            ":stream": span.stream,
            ":grep": query.grep.as_ref().map(String::as_bytes),
            ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
        })
        .map_err(failed)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        let event = stored(row).map_err(failed)?;
        bytes += event.message.len();
        found.push(event);
        if bytes > ANSWER_MAX {
            break;
        }
    }
    Ok(found)
}

/// Where the invocation stands in its streams: from START to REPORT. A stream is one environment's, and that serves one
/// invocation at a time. `days` ascend.
fn spans_of(days: &[Connection], query: &Query, request: &str) -> Result<Vec<Span>, LogsError> {
    let start = format!("START RequestId: {request} ");
    let report = format!("REPORT RequestId: {request}\t");
    let mut spans: Vec<Span> = Vec::new();
    for day in days {
        let mut select = day
            .prepare(
                "SELECT number, stream, substr(message, 1, 1) = CAST('S' AS BLOB) FROM events
                 WHERE grp = ?1
                 AND (substr(message, 1, length(?2)) = ?2 OR substr(message, 1, length(?3)) = ?3)
                 ORDER BY number",
            )
            .map_err(failed)?;
        let values = params![key(&query.group), start.as_bytes(), report.as_bytes()];
        let marks = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(failed)?;
        for mark in marks {
            let (number, stream, starts): (i64, String, bool) = mark.map_err(failed)?;
            if starts {
                spans.push(Span { stream: Some(stream), from: number, to: i64::MAX });
            } else if let Some(span) = spans.iter_mut().rev().find(|span| span.stream.as_deref() == Some(&*stream)) {
                span.to = span.to.min(number);
            }
        }
    }
    Ok(spans)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        at: time(row.get(1)?),
        stream: row.get::<_, String>(2)?.into(),
        message: row.get::<_, Vec<u8>>(3)?.into(),
    })
}

/// None when the day was deleted meanwhile, or has no table yet.
fn open_to_read(file: &Path) -> Result<Option<Connection>, LogsError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(file, flags) {
        Ok(connection) => connection,
        Err(_) if !file.exists() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let ready = connection.table_exists(None, "events").map_err(failed)?;
    Ok(ready.then_some(connection))
}

/// Oldest first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, LogsError> {
    let mut days = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "sqlite") {
            days.push(path);
        }
    }
    days.sort();
    Ok(days)
}

fn day_of(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
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
