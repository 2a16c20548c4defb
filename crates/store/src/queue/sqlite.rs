//! Queues in one SQLite file: the embedded engine of [`Queue`].
//!
//! Bodies lie in a table of their own, so that a change of state does not write them again. Queues are named by numbers in
//! every index: a name is long, and there are few. `CROSS JOIN` keeps the order of a join as it is written.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Census, Change, Counts, LOOKED_AT_MAX, Look, Message, Ms, NEVER, NewMessage, Once, Queue, QueueError, QueueName,
    Receipt, State, Take, Taken, Which,
};
use crate::embedded::{Embedded, Outlives};

/// `due` is null while a message rests. `held`: taken, and neither given back nor ended. `once`: keys by which a message was
/// sent, and until when none is sent again.
const SCHEMA: &str = "
    PRAGMA cache_size = -16384;
    CREATE TABLE IF NOT EXISTS queues (
        queue INTEGER PRIMARY KEY, kind TEXT NOT NULL, partition TEXT NOT NULL, name TEXT NOT NULL,
        UNIQUE (kind, partition, name)
    );
    CREATE TABLE IF NOT EXISTS messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, sent INTEGER NOT NULL,
        due INTEGER, held INTEGER NOT NULL, turns INTEGER NOT NULL, state TEXT, note BLOB NOT NULL, size INTEGER NOT NULL,
        first INTEGER, line TEXT
    );
    CREATE TABLE IF NOT EXISTS bodies (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS tallies (
        kind TEXT NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS once (
        queue INTEGER NOT NULL, key TEXT NOT NULL, until INTEGER NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (queue, key)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS once_until ON once (queue, until);
    CREATE INDEX IF NOT EXISTS place ON messages (queue, number) WHERE due IS NOT NULL;
    CREATE INDEX IF NOT EXISTS held_line ON messages (queue, line) WHERE held = 1;
    CREATE INDEX IF NOT EXISTS due ON messages (queue, due) WHERE due IS NOT NULL;
    CREATE INDEX IF NOT EXISTS held ON messages (queue) WHERE held = 1;
    CREATE INDEX IF NOT EXISTS resting ON messages (state, number) WHERE due IS NULL;
";

const COLUMNS: &str =
    "q.partition, q.name, m.id, m.number, m.sent, m.due, m.held, m.turns, m.state, m.note, m.size, m.first, m.line";

/// The embedded engine of [`Queue`]. Dropping the last clone ends the writer after what it had accepted.
#[derive(Clone)]
pub struct SqliteQueue {
    file: Embedded,
}

impl SqliteQueue {
    pub fn open(path: &Path) -> Result<Self, QueueError> {
        Ok(SqliteQueue { file: Embedded::open(path, "hearth-queue", SCHEMA)? })
    }
}

impl Queue for SqliteQueue {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(self.file.write(Outlives::Everything, move |connection| {
            for change in changes {
                if let Err(refused) = apply(connection, change)? {
                    return Ok(Err(refused));
                }
            }
            Ok(Ok(()))
        }))
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>> {
        Box::pin(self.file.write(Outlives::Process, move |connection| taken(connection, &take).map(Ok)))
    }

    fn take_in_line(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>> {
        Box::pin(self.file.write(Outlives::Process, move |connection| taken_in_line(connection, &take).map(Ok)))
    }

    fn counts(&self, queue: QueueName, now: Ms) -> BoxFuture<'_, Result<Counts, QueueError>> {
        let read = move |connection: &Connection| {
            let Some(number) = known(connection, &queue)? else { return Ok(Counts::default()) };
            connection
                .prepare_cached(
                    "SELECT COUNT(*) FILTER (WHERE due <= ?2), COUNT(*) FILTER (WHERE due > ?2 AND held = 0),
                         COUNT(*) FILTER (WHERE due > ?2 AND held = 1)
                     FROM messages WHERE queue = ?1 AND due IS NOT NULL",
                )?
                .query_row(params![number, signed(now)], |row| {
                    let count = |at| row.get(at).map(unsigned);
                    Ok(Counts { due: count(0)?, delayed: count(1)?, held: count(2)? })
                })
        };
        Box::pin(async move { Ok(self.file.read(read).await?) })
    }

    fn clear(&self, queue: QueueName, before: Ms, limit: usize) -> BoxFuture<'_, Result<usize, QueueError>> {
        Box::pin(self.file.write(Outlives::Everything, move |connection| {
            let Some(queue) = known(connection, &queue)? else { return Ok(Ok(0)) };
            let oldest = "SELECT number, sent < ? FROM messages INDEXED BY place WHERE queue = ? AND due IS NOT NULL
                          ORDER BY number LIMIT ?";
            let seen: Vec<(i64, bool)> = connection
                .prepare_cached(oldest)?
                .query_map(params![signed(before), queue, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let old = seen.iter().filter(|(_, old)| *old);
            for (number, _) in old.clone() {
                remove(connection, *number)?;
            }
            Ok(Ok(old.count()))
        }))
    }

    fn recover(&self, kind: &'static str, due: Ms) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(self.file.write(Outlives::Everything, move |connection| {
            let recover = "UPDATE messages SET held = 0, due = ?
                           WHERE held = 1 AND queue IN (SELECT queue FROM queues WHERE kind = ?)";
            connection.execute(recover, params![signed(due), kind]).map(|recovered| Ok(recovered as u64))
        }))
    }

    fn queues(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<(QueueName, Ms)>, QueueError>> {
        let read = move |connection: &Connection| {
            connection
                .prepare_cached(
                    "SELECT partition, name, first FROM (
                         SELECT partition, name, (SELECT MIN(due) FROM messages m WHERE m.queue = q.queue AND due IS NOT NULL) first
                         FROM queues q WHERE kind = ?
                     ) WHERE first < ?",
                )?
                .query_map(params![kind, signed(NEVER)], |row| {
                    Ok((QueueName { partition: row.get(0)?, kind, name: row.get(1)? }, unsigned(row.get(2)?)))
                })?
                .collect()
        };
        Box::pin(async move { Ok(self.file.read(read).await?) })
    }

    fn find(&self, kind: &'static str, id: String) -> BoxFuture<'_, Result<Option<(Message, Bytes)>, QueueError>> {
        let read = move |connection: &Connection| {
            let found = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM messages m JOIN queues q USING (queue) WHERE m.id = ? AND q.kind = ?"
                ))?
                .query_row(params![id, kind], |row| message(row, kind))
                .optional()?;
            found.map(|message| body(connection, message.number).map(|body| (message, body))).transpose()
        };
        Box::pin(async move { Ok(self.file.read(read).await?) })
    }

    fn look(&self, look: Look) -> BoxFuture<'_, Result<Vec<Message>, QueueError>> {
        let read = move |connection: &Connection| {
            // Each is found by its own index: the few among many are not looked for in all of them.
            let (which, state) = match &look.state {
                None => ("?4 IS NULL", None),
                Some(Which::Waiting) => (
                    "?4 IS NULL AND m.held = 0 AND m.number IN (SELECT number FROM messages WHERE due IS NOT NULL)",
                    None,
                ),
                Some(Which::Taken) => {
                    ("?4 IS NULL AND m.held = 1 AND m.number IN (SELECT number FROM messages WHERE held = 1)", None)
                }
                Some(Which::Resting(state)) => ("m.due IS NULL AND m.state = ?4", Some(state)),
            };
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM messages m CROSS JOIN queues q USING (queue)
                     WHERE q.kind = ?1 AND (?2 IS NULL OR q.partition = ?2) AND (?3 IS NULL OR q.name = ?3)
                         AND {which} AND m.sent >= ?5 AND m.sent < ?6 AND m.number < ?7
                     ORDER BY m.number DESC LIMIT ?8"
                ))?
                .query_map(
                    params![
                        look.kind,
                        look.partition,
                        look.name,
                        state,
                        signed(look.since),
                        signed(look.until),
                        signed(look.below),
                        i64::try_from(look.limit).unwrap_or(i64::MAX)
                    ],
                    |row| message(row, look.kind),
                )?
                .collect()
        };
        Box::pin(async move { Ok(self.file.read(read).await?) })
    }

    fn census(&self, kind: &'static str) -> BoxFuture<'_, Result<Census, QueueError>> {
        let read = move |connection: &Connection| {
            // One transaction: a snapshot.
            let snapshot = connection.unchecked_transaction()?;
            let number = |query: &str| -> rusqlite::Result<u64> {
                snapshot.prepare_cached(query)?.query_row([kind], |row| row.get(0).map(unsigned))
            };
            let held = number(
                "SELECT COUNT(*) FROM queues q JOIN messages m INDEXED BY held USING (queue) WHERE q.kind = ? AND m.held = 1",
            )?;
            let live = number(
                "SELECT COUNT(*) FROM queues q JOIN messages m INDEXED BY due USING (queue)
                 WHERE q.kind = ? AND m.due IS NOT NULL",
            )?;
            let tallies: BTreeMap<String, u64> = snapshot
                .prepare_cached("SELECT name, n FROM tallies WHERE kind = ?")?
                .query_map([kind], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Census { waiting: live - held, taken: held, tallies })
        };
        Box::pin(async move { Ok(self.file.read(read).await?) })
    }

    fn sweep(
        &self,
        kind: &'static str,
        before: Ms,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Option<u64>, QueueError>> {
        Box::pin(self.file.write(Outlives::Process, move |connection| {
            let seen: Vec<(i64, bool, bool)> = connection
                .prepare_cached(
                    "SELECT m.number, m.sent < ?1, m.due IS NULL AND q.kind = ?2
                     FROM messages m CROSS JOIN queues q USING (queue)
                     WHERE m.number > ?3 ORDER BY m.number LIMIT ?4",
                )?
                .query_map(
                    params![signed(before), kind, signed(after), i64::try_from(limit).unwrap_or(i64::MAX)],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )?
                .collect::<rusqlite::Result<_>>()?;
            for (number, _, _) in seen.iter().filter(|(_, old, resting)| *old && *resting) {
                remove(connection, *number)?;
            }
            let older_may_follow = seen.len() == limit && seen.iter().any(|(_, old, _)| *old);
            Ok(Ok(seen.last().filter(|_| older_may_follow).map(|(number, _, _)| unsigned(*number))))
        }))
    }
}

fn apply(connection: &Connection, change: Change) -> rusqlite::Result<Result<(), QueueError>> {
    match change {
        Change::Send(message) => send(connection, &message, None),
        Change::SendInLine { message, line, once } => {
            let sent = match &once {
                Some(once) => first_by(connection, &message, once)?,
                None => Ok(()),
            };
            if sent.is_err() {
                return Ok(sent);
            }
            let sent = send(connection, &message, Some(&line))?;
            if let (Ok(()), Some(once)) = (&sent, &once) {
                keep_once(connection, &message, once)?;
            }
            Ok(sent)
        }
        Change::Hold { receipt, now, due } => end(
            connection,
            &receipt,
            "UPDATE messages SET due = ?3 WHERE id = ?1 AND turns = ?2 AND held = 1 AND due > ?4",
            params![receipt.id, receipt.turn, signed(due), signed(now)],
        ),
        Change::Return { receipt, due, note } => end(
            connection,
            &receipt,
            "UPDATE messages SET held = 0, due = ?3, note = ?4 WHERE id = ?1 AND turns = ?2 AND held = 1",
            params![receipt.id, receipt.turn, signed(due), note.as_ref()],
        ),
        Change::Rewrite { receipt, body } => {
            let held = "UPDATE messages SET size = ?3 WHERE id = ?1 AND turns = ?2 AND held = 1 RETURNING number";
            let number = connection
                .prepare_cached(held)?
                .query_row(params![receipt.id, receipt.turn, signed(body.len() as u64)], |row| row.get::<_, i64>(0))
                .optional()?;
            let Some(number) = number else { return Ok(Err(QueueError::Stale(receipt.id))) };
            let rewrite = "UPDATE bodies SET body = ?2 WHERE number = ?1";
            connection.prepare_cached(rewrite)?.execute(params![number, body.as_ref()])?;
            Ok(Ok(()))
        }
        Change::Rest { receipt, state, note } => end(
            connection,
            &receipt,
            "UPDATE messages SET held = 0, due = NULL, state = ?3, note = ?4 WHERE id = ?1 AND turns = ?2 AND held = 1",
            params![receipt.id, receipt.turn, state, note.as_ref()],
        ),
        Change::Delete(receipt) => {
            let held = "SELECT number FROM messages WHERE id = ? AND turns = ? AND held = 1";
            let number = connection
                .prepare_cached(held)?
                .query_row(params![receipt.id, receipt.turn], |row| row.get(0))
                .optional()?;
            match number {
                Some(number) => remove(connection, number).map(Ok),
                None => Ok(Err(QueueError::Stale(receipt.id))),
            }
        }
        Change::Tally { kind, name, by } => {
            let add = "INSERT INTO tallies VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n";
            connection.prepare_cached(add)?.execute(params![kind, name, signed(by)])?;
            Ok(Ok(()))
        }
    }
}

/// Whether no message was sent by the key before.
fn first_by(connection: &Connection, message: &NewMessage, once: &Once) -> rusqlite::Result<Result<(), QueueError>> {
    let queue = number_of(connection, &message.queue)?;
    let find = "SELECT id, number FROM once WHERE queue = ? AND key = ? AND until > ?";
    let found = connection
        .prepare_cached(find)?
        .query_row(params![queue, once.key, signed(once.now)], |row| Ok((row.get(0)?, row.get(1).map(unsigned)?)))
        .optional()?;
    Ok(match found {
        Some((first, number)) => Err(QueueError::Repeated { id: message.id.clone(), first, number }),
        None => Ok(()),
    })
}

/// Of the message that was sent last. Forgets what is over.
fn keep_once(connection: &Connection, message: &NewMessage, once: &Once) -> rusqlite::Result<()> {
    let (number, queue) = (connection.last_insert_rowid(), number_of(connection, &message.queue)?);
    let over = "DELETE FROM once WHERE queue = ? AND until <= ?";
    connection.prepare_cached(over)?.execute(params![queue, signed(once.now)])?;
    connection.prepare_cached("INSERT INTO once VALUES (?, ?, ?, ?, ?)")?.execute(params![
        queue,
        once.key,
        signed(once.until),
        message.id,
        number
    ])?;
    Ok(())
}

fn send(connection: &Connection, message: &NewMessage, line: Option<&str>) -> rusqlite::Result<Result<(), QueueError>> {
    let NewMessage { queue, id, sent, due, note, body } = message;
    let queue = number_of(connection, queue)?;
    let sent = connection
        .prepare_cached(
            "INSERT INTO messages (queue, id, sent, due, held, turns, note, size, line) VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![queue, id, signed(*sent), signed(*due), note.as_ref(), signed(body.len() as u64), line])?;
    if sent == 0 {
        return Ok(Err(QueueError::Duplicate(id.clone())));
    }
    let number = connection.last_insert_rowid();
    connection.prepare_cached("INSERT INTO bodies VALUES (?, ?)")?.execute(params![number, body.as_ref()])?;
    Ok(Ok(()))
}

/// Runs an update of what a receipt holds.
fn end(
    connection: &Connection,
    receipt: &Receipt,
    update: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Result<(), QueueError>> {
    match connection.prepare_cached(update)?.execute(values)? {
        0 => Ok(Err(QueueError::Stale(receipt.id.clone()))),
        _ => Ok(Ok(())),
    }
}

fn remove(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM messages WHERE number = ?")?.execute([number])?;
    connection.prepare_cached("DELETE FROM bodies WHERE number = ?")?.execute([number])?;
    Ok(())
}

fn taken(connection: &Connection, take: &Take) -> rusqlite::Result<Taken> {
    let queue = number_of(connection, &take.queue)?;
    let due = "SELECT number, size FROM messages WHERE queue = ? AND due <= ? ORDER BY due, number LIMIT ?";
    let mut due = connection.prepare_cached(due)?;
    let limit = i64::try_from(take.limit).unwrap_or(i64::MAX);
    let mut rows = due.query(params![queue, signed(take.now), limit])?;
    let (mut numbers, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += unsigned(row.get(1)?);
        if !numbers.is_empty() && bytes > take.bytes_max {
            break;
        }
        numbers.push(row.get::<_, i64>(0)?);
    }
    drop(rows);
    let messages = held(connection, take, numbers)?;
    let next = connection
        .prepare_cached("SELECT MIN(due) FROM messages WHERE queue = ? AND due IS NOT NULL")?
        .query_row([queue], |row| row.get::<_, Option<i64>>(0))?;
    Ok(Taken { messages, next: next.map(unsigned).filter(|next| *next < NEVER) })
}

fn taken_in_line(connection: &Connection, take: &Take) -> rusqlite::Result<Taken> {
    let queue = number_of(connection, &take.queue)?;
    let in_order = "SELECT number, size, due, line FROM messages INDEXED BY place WHERE queue = ? AND due IS NOT NULL
                    ORDER BY number LIMIT ?";
    let mut in_order = connection.prepare_cached(in_order)?;
    let mut rows = in_order.query(params![queue, LOOKED_AT_MAX as i64])?;
    let mut is_held = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM messages WHERE queue = ? AND line IS ? AND held = 1 AND due > ?)",
    )?;
    let mut closed: HashMap<Option<String>, bool> = HashMap::new();
    let (mut numbers, mut bytes, mut next) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let (due, line) = (unsigned(row.get(2)?), row.get::<_, Option<String>>(3)?);
        if due > take.now {
            next = Some(next.map_or(due, |next: Ms| next.min(due)));
            closed.insert(line, true);
            continue;
        }
        let is_closed = match closed.get(&line) {
            Some(is_closed) => *is_closed,
            None => {
                let is_closed = is_held.query_row(params![queue, line, signed(take.now)], |row| row.get(0))?;
                closed.insert(line, is_closed);
                is_closed
            }
        };
        if is_closed {
            continue;
        }
        bytes += unsigned(row.get(1)?);
        if numbers.len() == take.limit || (!numbers.is_empty() && bytes > take.bytes_max) {
            next = Some(due);
            break;
        }
        numbers.push(row.get::<_, i64>(0)?);
    }
    drop(rows);
    Ok(Taken { messages: held(connection, take, numbers)?, next: next.filter(|next| *next < NEVER) })
}

/// Takes what was chosen.
fn held(connection: &Connection, take: &Take, numbers: Vec<i64>) -> rusqlite::Result<Vec<(Message, Bytes)>> {
    let mut messages = Vec::with_capacity(numbers.len());
    for number in numbers {
        // One statement a message: `COLUMNS`, of a queue that is known, and the body.
        let hold =
            "UPDATE messages SET held = 1, due = ?, turns = turns + 1, first = COALESCE(first, ?) WHERE number = ?
                    RETURNING '', '', id, number, sent, due, held, turns, state, note, size, first, line,
                        (SELECT body FROM bodies WHERE bodies.number = messages.number)";
        let values = params![signed(take.until), signed(take.now), number];
        let (mut message, body) = connection
            .prepare_cached(hold)?
            .query_row(values, |row| Ok((message(row, take.queue.kind)?, Bytes::from(row.get::<_, Vec<u8>>(13)?))))?;
        message.queue = take.queue.clone();
        messages.push((message, body));
    }
    Ok(messages)
}

fn known(connection: &Connection, queue: &QueueName) -> rusqlite::Result<Option<i64>> {
    let find = "SELECT queue FROM queues WHERE kind = ? AND partition = ? AND name = ?";
    let address = params![queue.kind, queue.partition, queue.name];
    connection.prepare_cached(find)?.query_row(address, |row| row.get(0)).optional()
}

/// Made when it is first named.
fn number_of(connection: &Connection, queue: &QueueName) -> rusqlite::Result<i64> {
    if let Some(number) = known(connection, queue)? {
        return Ok(number);
    }
    let address = params![queue.kind, queue.partition, queue.name];
    connection.prepare_cached("INSERT INTO queues (kind, partition, name) VALUES (?, ?, ?)")?.execute(address)?;
    Ok(connection.last_insert_rowid())
}

fn body(connection: &Connection, number: impl TryInto<i64>) -> rusqlite::Result<Bytes> {
    let number = number.try_into().unwrap_or(i64::MAX);
    let read = "SELECT body FROM bodies WHERE number = ?";
    connection.prepare_cached(read)?.query_row([number], |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
}

/// A row of [`COLUMNS`].
fn message(row: &Row<'_>, kind: &'static str) -> rusqlite::Result<Message> {
    let due: Option<i64> = row.get(5)?;
    let state = match due {
        None => State::Resting(row.get::<_, Option<String>>(8)?.unwrap_or_default()),
        Some(due) if row.get(6)? => State::Taken(unsigned(due)),
        Some(due) => State::Waiting(unsigned(due)),
    };
    Ok(Message {
        queue: Arc::new(QueueName { partition: row.get(0)?, kind, name: row.get(1)? }),
        id: row.get(2)?,
        number: unsigned(row.get(3)?),
        sent: unsigned(row.get(4)?),
        state,
        turns: row.get(7)?,
        note: row.get::<_, Vec<u8>>(9)?.into(),
        size: unsigned(row.get(10)?),
        first: row.get::<_, Option<i64>>(11)?.map(unsigned),
        line: row.get(12)?,
    })
}

/// SQLite's integers are signed; no moment or number here comes near the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
