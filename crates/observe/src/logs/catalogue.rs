//! Which groups and streams there are, and what their owners have set: one SQLite file beside those of the days.
//!
//! The writer's thread alone changes it, so that what is appended and what is created or deleted have one order. What names
//! a group or stream in the files of the days is a number that is given once: who deletes a stream and makes another of the
//! same name finds nothing of the first.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hearth_model::{AccountId, LogGroup, LogStreamName, Region};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

const NAME: &str = "catalogue.sqlite";
/// The sweeper writes, too, in short transactions.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS groups (
        id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
        created INTEGER NOT NULL, settings TEXT NOT NULL, UNIQUE (account, region, name)
    );
    CREATE TABLE IF NOT EXISTS streams (
        id INTEGER PRIMARY KEY AUTOINCREMENT, grp INTEGER NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL,
        first INTEGER, last INTEGER, ingested INTEGER, UNIQUE (grp, name)
    );
    CREATE INDEX IF NOT EXISTS by_last ON streams (grp, coalesce(last, created));
    CREATE TABLE IF NOT EXISTS sizes (
        day INTEGER NOT NULL, grp INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (day, grp)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS numbers (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
    INSERT OR IGNORE INTO numbers VALUES (1, 0);
    CREATE TABLE IF NOT EXISTS doomed (
        day INTEGER NOT NULL, grp INTEGER NOT NULL, stream INTEGER NOT NULL, PRIMARY KEY (day, grp, stream)
    ) WITHOUT ROWID;
";

/// What the owner of a group has set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSettings {
    pub retention_days: Option<u32>,
    /// As AWS calls it; none is `STANDARD`.
    pub class: Option<String>,
    pub protected: bool,
    pub tags: BTreeMap<String, String>,
    pub subscriptions: Vec<Subscription>,
    pub metric_filters: Vec<MetricFilter>,
}

/// Events of a group that somebody is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub name: String,
    pub pattern: String,
    pub destination: String,
    pub distribution: Option<String>,
    /// Milliseconds since 1970.
    pub created: i64,
}

/// Events of a group that make values of a metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricFilter {
    pub name: String,
    pub pattern: String,
    pub namespace: String,
    pub metric: String,
    /// A number, or where one stands in an event.
    pub value: String,
    /// Of a minute with events of which none matches.
    pub default: Option<f64>,
    /// Names, and where their values stand in an event.
    pub dimensions: BTreeMap<String, String>,
    pub unit: Option<String>,
    /// Milliseconds since 1970.
    pub created: i64,
}

/// Names a group in files. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(super) i64);

/// Names a stream in files. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) i64);

#[derive(Clone, Debug)]
pub struct Group {
    pub id: GroupId,
    pub name: LogGroup,
    /// Milliseconds since 1970.
    pub created: i64,
    pub bytes: u64,
    pub settings: GroupSettings,
}

/// Times are milliseconds since 1970; a stream without events has only the first.
#[derive(Clone, Debug)]
pub struct Stream {
    pub id: StreamId,
    pub name: String,
    pub created: i64,
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub ingested: Option<i64>,
}

/// Why a group or stream is not as it was to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is one already")]
    Exists,
    #[error("there is no such group")]
    NoGroup,
    #[error("there is no such stream")]
    NoStream,
    #[error("the group is protected from being deleted")]
    Protected,
    #[error("{0}")]
    Store(super::LogsError),
}

impl From<rusqlite::Error> for ChangeError {
    fn from(error: rusqlite::Error) -> Self {
        ChangeError::Store(super::failed(error))
    }
}

/// In which order streams are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOrder {
    Name { descending: bool },
    LastEvent { descending: bool },
}

/// What a list of streams goes on after: of the last stream listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMark {
    pub name: String,
    /// Its last event, or its creation.
    pub last: i64,
}

impl StreamMark {
    pub fn of(stream: &Stream) -> Self {
        StreamMark { name: stream.name.clone(), last: stream.last.unwrap_or(stream.created) }
    }
}

pub(super) fn open(folder: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(folder.join(NAME))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

pub(super) fn open_to_read(folder: &Path) -> rusqlite::Result<Connection> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder.join(NAME), flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Begins a change. What is `lasting` is on disk when it is committed; else a loss of power may undo it.
pub(super) fn change(connection: &mut Connection, lasting: bool) -> rusqlite::Result<Transaction<'_>> {
    connection.pragma_update(None, "synchronous", if lasting { "FULL" } else { "NORMAL" })?;
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

const GROUP: &str = "SELECT id, account, region, name, created, settings,
    (SELECT coalesce(sum(bytes), 0) FROM sizes WHERE grp = groups.id) FROM groups";

pub(super) fn group(connection: &Connection, group: &LogGroup) -> rusqlite::Result<Option<Group>> {
    let mut select = connection.prepare_cached(&format!("{GROUP} WHERE account = ? AND region = ? AND name = ?"))?;
    select.query_row(params![group.account.as_str(), group.region.as_str(), &*group.name], read_group).optional()
}

/// Groups of an account and region by name, after `after`, that `wanted` takes.
pub(super) fn groups(
    connection: &Connection,
    (account, region): (&AccountId, &Region),
    after: &str,
    limit: usize,
    wanted: impl Fn(&Group) -> bool,
) -> rusqlite::Result<Vec<Group>> {
    let mut select =
        connection.prepare_cached(&format!("{GROUP} WHERE account = ? AND region = ? AND name > ? ORDER BY name"))?;
    let mut rows = select.query(params![account.as_str(), region.as_str(), after])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let group = read_group(row)?;
        if wanted(&group) {
            found.push(group);
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// Every group that has filters.
pub(super) fn filtered(connection: &Connection) -> rusqlite::Result<Vec<Group>> {
    let mut select = connection.prepare(&format!(
        "{GROUP} WHERE json_array_length(settings, '$.subscriptions') > 0
         OR json_array_length(settings, '$.metric_filters') > 0"
    ))?;
    select.query_map([], read_group)?.collect()
}

fn read_group(row: &Row<'_>) -> rusqlite::Result<Group> {
    let (account, region): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(Group {
        id: GroupId(row.get(0)?),
        name: LogGroup {
            account: AccountId::parse(&account).unwrap_or_else(AccountId::default_account),
            region: Region::parse(&region).unwrap_or_else(Region::default_region),
            name: row.get::<_, String>(3)?.into(),
        },
        created: row.get(4)?,
        settings: serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default(),
        bytes: row.get::<_, i64>(6)?.cast_unsigned(),
    })
}

const STREAM: &str = "SELECT id, name, created, first, last, ingested FROM streams";

pub(super) fn stream(connection: &Connection, group: GroupId, name: &str) -> rusqlite::Result<Option<Stream>> {
    let mut select = connection.prepare_cached(&format!("{STREAM} WHERE grp = ? AND name = ?"))?;
    select.query_row(params![group.0, name], read_stream).optional()
}

pub(super) fn stream_name(connection: &Connection, stream: StreamId) -> rusqlite::Result<Option<String>> {
    let mut select = connection.prepare_cached("SELECT name FROM streams WHERE id = ?")?;
    select.query_row([stream.0], |row| row.get(0)).optional()
}

pub(super) fn streams(
    connection: &Connection,
    group: GroupId,
    prefix: &str,
    order: StreamOrder,
    after: Option<&StreamMark>,
    limit: usize,
) -> rusqlite::Result<Vec<Stream>> {
    let (StreamOrder::Name { descending } | StreamOrder::LastEvent { descending }) = order;
    let (than, direction) = if descending { ("<", "DESC") } else { (">", "ASC") };
    let (beyond, sorted) = match order {
        StreamOrder::Name { .. } => (format!("name {than} ?3"), format!("name {direction}")),
        StreamOrder::LastEvent { .. } => (
            format!("(coalesce(last, created), name) {than} (?4, ?3)"),
            format!("coalesce(last, created) {direction}, name {direction}"),
        ),
    };
    let mut select = connection.prepare_cached(&format!(
        "{STREAM} WHERE grp = ?1 AND (?2 = '' OR (name >= ?2 AND substr(name, 1, length(?2)) = ?2))
         AND (?4 IS NULL OR {beyond}) ORDER BY {sorted} LIMIT ?5"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = params![group.0, prefix, after.map(|mark| &mark.name), after.map(|mark| mark.last), limit];
    select.query_map(values, read_stream)?.collect()
}

fn read_stream(row: &Row<'_>) -> rusqlite::Result<Stream> {
    Ok(Stream {
        id: StreamId(row.get(0)?),
        name: row.get(1)?,
        created: row.get(2)?,
        first: row.get(3)?,
        last: row.get(4)?,
        ingested: row.get(5)?,
    })
}

/// Days that hold events of a group, ascending.
pub(super) fn days(connection: &Connection, group: GroupId) -> rusqlite::Result<Vec<i64>> {
    let mut select = connection.prepare_cached("SELECT day FROM sizes WHERE grp = ? ORDER BY day")?;
    select.query_map([group.0], |row| row.get(0))?.collect()
}

pub(super) fn create_group(
    change: &Transaction<'_>,
    group: &LogGroup,
    created: i64,
    settings: &GroupSettings,
) -> Result<GroupId, ChangeError> {
    let inserted = change.execute(
        "INSERT OR IGNORE INTO groups (account, region, name, created, settings) VALUES (?, ?, ?, ?, ?)",
        params![group.account.as_str(), group.region.as_str(), &*group.name, created, text(settings)],
    )?;
    if inserted == 0 { Err(ChangeError::Exists) } else { Ok(GroupId(change.last_insert_rowid())) }
}

pub(super) fn set(change: &Transaction<'_>, group: GroupId, settings: &GroupSettings) -> rusqlite::Result<()> {
    change.execute("UPDATE groups SET settings = ? WHERE id = ?", params![text(settings), group.0]).map(drop)
}

pub(super) fn delete_group(change: &Transaction<'_>, group: GroupId) -> rusqlite::Result<()> {
    change.execute("INSERT OR IGNORE INTO doomed SELECT day, grp, 0 FROM sizes WHERE grp = ?", [group.0])?;
    for table in ["sizes", "streams"] {
        change.execute(&format!("DELETE FROM {table} WHERE grp = ?"), [group.0])?;
    }
    change.execute("DELETE FROM groups WHERE id = ?", [group.0]).map(drop)
}

pub(super) fn create_stream(
    change: &Transaction<'_>,
    group: GroupId,
    name: &LogStreamName,
    created: i64,
) -> Result<StreamId, ChangeError> {
    let inserted = change.execute(
        "INSERT OR IGNORE INTO streams (grp, name, created) VALUES (?, ?, ?)",
        params![group.0, name.as_str(), created],
    )?;
    if inserted == 0 { Err(ChangeError::Exists) } else { Ok(StreamId(change.last_insert_rowid())) }
}

pub(super) fn delete_stream(change: &Transaction<'_>, group: GroupId, stream: StreamId) -> rusqlite::Result<()> {
    let doom = "INSERT OR IGNORE INTO doomed SELECT day, grp, ?2 FROM sizes WHERE grp = ?1";
    change.execute(doom, params![group.0, stream.0])?;
    change.execute("DELETE FROM streams WHERE id = ?", [stream.0]).map(drop)
}

/// The largest number that an event may have.
pub(super) fn last_number(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT last FROM numbers", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

pub(super) fn numbered(change: &Transaction<'_>, last: u64) -> rusqlite::Result<()> {
    change.execute("UPDATE numbers SET last = ?", [last.cast_signed()]).map(drop)
}

/// What was written of a stream.
pub(super) struct Written {
    pub group: GroupId,
    pub stream: StreamId,
    pub first: i64,
    pub last: i64,
    pub ingested: i64,
    /// Bytes by day.
    pub bytes: BTreeMap<i64, u64>,
}

pub(super) fn wrote(change: &Transaction<'_>, written: &Written) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "UPDATE streams SET first = min(coalesce(first, ?2), ?2), last = max(coalesce(last, ?3), ?3), ingested = ?4
             WHERE id = ?1",
        )?
        .execute(params![written.stream.0, written.first, written.last, written.ingested])?;
    let mut add = change.prepare_cached(
        "INSERT INTO sizes VALUES (?1, ?2, ?3) ON CONFLICT (day, grp) DO UPDATE SET bytes = bytes + ?3",
    )?;
    for (day, bytes) in &written.bytes {
        add.execute(params![day, written.group.0, bytes.cast_signed()])?;
    }
    Ok(())
}

/// What of a day is to be deleted: a whole group's, or one stream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pub day: i64,
    pub group: GroupId,
    pub stream: Option<StreamId>,
}

/// Moves to what is doomed each group's days that end before its retention does: its owner's, else `usual`.
pub(super) fn expire(change: &Transaction<'_>, now: i64, usual: Duration) -> rusqlite::Result<()> {
    let usual = i64::try_from(usual.as_millis()).unwrap_or(i64::MAX);
    let expired = "SELECT day, grp FROM sizes JOIN groups ON groups.id = sizes.grp
        WHERE (day + 1) * 86400000 <= ?1 - coalesce(json_extract(settings, '$.retention_days') * 86400000, ?2)";
    change
        .execute(&format!("INSERT OR IGNORE INTO doomed SELECT day, grp, 0 FROM ({expired})"), params![now, usual])?;
    change.execute("DELETE FROM sizes WHERE (day, grp) IN (SELECT day, grp FROM doomed WHERE stream = 0)", [])?;
    // Streams whose last event is gone go with it: every environment makes one.
    change
        .execute(
            "DELETE FROM streams WHERE last < ?1 - coalesce(
                (SELECT json_extract(settings, '$.retention_days') FROM groups WHERE id = grp) * 86400000, ?2) - 86400000",
            params![now, usual],
        )
        .map(drop)
}

pub(super) fn doomed(connection: &Connection) -> rusqlite::Result<Vec<Doomed>> {
    let mut select = connection.prepare_cached("SELECT day, grp, stream FROM doomed ORDER BY day")?;
    let read = |row: &Row<'_>| {
        let stream: i64 = row.get(2)?;
        Ok(Doomed { day: row.get(0)?, group: GroupId(row.get(1)?), stream: (stream != 0).then_some(StreamId(stream)) })
    };
    select.query_map([], read)?.collect()
}

pub(super) fn spared(change: &Transaction<'_>, doomed: &Doomed) -> rusqlite::Result<()> {
    let stream = doomed.stream.map_or(0, |stream| stream.0);
    change
        .execute(
            "DELETE FROM doomed WHERE day = ? AND grp = ? AND stream = ?",
            params![doomed.day, doomed.group.0, stream],
        )
        .map(drop)
}

/// Whether no group has events of that day.
pub(super) fn is_empty(connection: &Connection, day: i64) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sizes WHERE day = ?)", [day], |row| row.get(0))
}

/// The whole day is gone.
pub(super) fn forget(change: &Transaction<'_>, day: i64) -> rusqlite::Result<()> {
    change.execute("DELETE FROM sizes WHERE day = ?", [day])?;
    change.execute("DELETE FROM doomed WHERE day = ?", [day]).map(drop)
}

pub(super) fn retention(settings: &GroupSettings, usual: Duration) -> Duration {
    settings.retention_days.map_or(usual, |days| Duration::from_secs(u64::from(days) * 86_400))
}

/// The first moment that is kept of a group now, in milliseconds.
pub(super) fn kept_since(settings: &GroupSettings, usual: Duration, now: i64) -> i64 {
    now.saturating_sub(i64::try_from(retention(settings, usual).as_millis()).unwrap_or(i64::MAX))
}

fn text(settings: &GroupSettings) -> String {
    serde_json::to_string(settings).unwrap_or_default()
}
