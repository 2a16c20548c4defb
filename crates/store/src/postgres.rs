//! Records in PostgreSQL, which several servers share (decision 19).
//!
//! A batch is one call of one function in the database (`postgres/commit.sql`): one trip there and back, one transaction,
//! durable when it answers. What others wrote is told by `follow`, woken by `attend`; `schema` makes the tables and brings
//! them forward.

mod attend;
mod follow;
mod schema;
mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Timeouts};
use hearth_model::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::{Expect, Key, Record, Records, RecordsError, Write};
use tls::Secured;
pub use url::PostgresUrl;

/// Connections for queries and batches; later ones wait. Two more are for what goes on by itself. Twenty servers fit into
/// the hundred that PostgreSQL accepts by default, with some left for its operators.
const CONNECTIONS_MAX: usize = 8;
/// Longest wait for a connection of the pool, and for a new one to come about.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for an answer: longer than the database itself lets a statement take.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
/// Attempts at a batch that the database refuses only for what runs beside it.
const ATTEMPTS_MAX: usize = 10;
/// How `postgres/commit.sql` says that an expectation does not hold.
const CONFLICT: &str = "HE001";

/// Who else may use the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Any number of servers that say the same.
    Servers,
    /// Nobody: for what no server may see half done.
    Nobody,
}

/// The engine of [`Records`] that servers share. A cheap handle.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    url: PostgresUrl,
    pool: Pool,
    /// A batch was written, and others are to hear of it.
    written: Arc<Notify>,
    attendant: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.attendant.abort();
    }
}

impl Postgres {
    /// Connects, and makes or brings forward what is stored.
    pub async fn open(url: &PostgresUrl, company: Company) -> Result<Self, RecordsError> {
        let mut first = connect(url).await?;
        let attending = attend::join(&first.client, company).await?;
        schema::bring_forward(&mut first.client).await?;
        let manager = Manager::from_config(
            url.config().clone(),
            Secured,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let ready = Hook::async_fn(|client, _| {
            Box::pin(async move { make_ready(client).await.map_err(|error| HookError::message(error.to_string())) })
        });
        let timeouts =
            Timeouts { wait: Some(CONNECTION_WAIT), create: Some(CONNECTION_WAIT), recycle: Some(CONNECTION_WAIT) };
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .timeouts(timeouts)
            .post_create(ready)
            .build()
            .map_err(|error| RecordsError::Engine(error.to_string().into()))?;
        let written = Arc::new(Notify::new());
        let attendant = tokio::spawn(attend::run(url.clone(), first, attending, written.clone()));
        Ok(Postgres { inner: Arc::new(Inner { url: url.clone(), pool, written, attendant }) })
    }

    /// A query for rows. Where the connection had gone since it was used last, it is asked once more by another.
    async fn rows(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, RecordsError> {
        let mut is_first = true;
        loop {
            let client = self.inner.pool.get().await.map_err(no_connection)?;
            let asked = async { client.query(&client.prepare_cached(query).await?, parameters).await };
            match in_time(asked).await? {
                Err(error) if error.is_closed() && is_first => is_first = false,
                answer => return answer.map_err(failed),
            }
        }
    }

    /// One attempt at a batch. A connection that breaks leaves open whether it was written, which is an error.
    async fn try_commit(&self, writes: &[Write]) -> Result<Result<u64, tokio_postgres::Error>, RecordsError> {
        let mut columns = Columns::default();
        writes.iter().for_each(|write| columns.push(write));
        let client = self.inner.pool.get().await.map_err(no_connection)?;
        let Columns { verbs, kinds, partitions, ids, expects, values } = &columns;
        let asked = async {
            let commit = client.prepare_cached("SELECT hearth.commit($1, $2, $3, $4, $5, $6)").await?;
            // The answer is whole only once the transaction has ended.
            let rows = client.query(&commit, &[verbs, kinds, partitions, ids, expects, values]).await?;
            rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))
        };
        Ok(in_time(asked).await?.map(i64::cast_unsigned))
    }
}

/// The writes of a batch, as the database takes them.
#[derive(Default)]
struct Columns<'a> {
    verbs: Vec<i16>,
    kinds: Vec<&'a str>,
    partitions: Vec<&'a str>,
    ids: Vec<&'a str>,
    expects: Vec<Option<i64>>,
    values: Vec<Option<&'a [u8]>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, write: &'a Write) {
        let (verb, value) = match write {
            Write::Put { value, .. } => (0, Some(&value[..])),
            Write::Delete { .. } => (1, None),
            Write::Check { .. } => (2, None),
        };
        let (key, expect) = write.condition();
        self.verbs.push(verb);
        self.kinds.push(key.kind);
        self.partitions.push(&key.partition);
        self.ids.push(&key.id);
        self.expects.push(match expect {
            Expect::Anything => None,
            Expect::Absent => Some(0),
            Expect::Change(change) => Some(change.cast_signed()),
        });
        self.values.push(value);
    }
}

impl Records for Postgres {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>, RecordsError>> {
        Box::pin(async move {
            let query = "SELECT partition, id, change, value FROM hearth.records WHERE kind = $1 AND partition = $2 AND id = $3";
            let rows = self.rows(query, &[&key.kind, &key.partition, &key.id]).await?;
            rows.first().map(record).transpose()
        })
    }

    fn list(
        &self,
        partition: String,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = match &after {
                Some(after) => {
                    let query = "SELECT partition, id, change, value FROM hearth.records \
                                 WHERE kind = $1 AND partition = $2 AND id > $3 ORDER BY id LIMIT $4";
                    self.rows(query, &[&kind, &partition, after, &limit]).await?
                }
                None => {
                    let query = "SELECT partition, id, change, value FROM hearth.records \
                                 WHERE kind = $1 AND partition = $2 ORDER BY id LIMIT $3";
                    self.rows(query, &[&kind, &partition, &limit]).await?
                }
            };
            rows.iter().map(record).collect()
        })
    }

    fn all(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, RecordsError>> {
        Box::pin(async move {
            // No id is empty where the partition is, so that these two come before every record.
            let (partition, id) = after.unwrap_or_default();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let query = "SELECT partition, id, change, value FROM hearth.records \
                         WHERE kind = $1 AND (partition, id) > ($2, $3) ORDER BY partition, id LIMIT $4";
            self.rows(query, &[&kind, &partition, &id, &limit]).await?.iter().map(record).collect()
        })
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, RecordsError>> {
        Box::pin(async move {
            for _ in 0..ATTEMPTS_MAX {
                let error = match self.try_commit(&writes).await? {
                    Ok(number) => {
                        self.inner.written.notify_one();
                        return Ok(number);
                    }
                    Err(error) => error,
                };
                match error.code() {
                    Some(code) if code.code() == CONFLICT => return Err(conflict(&error, &writes)),
                    // Nothing was written, for what others did at the same time.
                    Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => {}
                    _ => return Err(failed(error)),
                }
            }
            Err(RecordsError::Engine("others were faster each time".into()))
        })
    }
}

/// A connection outside of the pool.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// Rings when the database tells of something; ends when the connection does.
    told: Arc<Notify>,
    connection: JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(crate) async fn connect(url: &PostgresUrl) -> Result<Connected, RecordsError> {
    let connecting = tokio::time::timeout(CONNECTION_WAIT, url.config().connect(Secured)).await;
    let unreachable = |reason: &dyn std::fmt::Display| {
        RecordsError::Engine(format!("no connection to the database {url}: {reason}").into())
    };
    let connected = connecting.map_err(|_| unreachable(&"it took too long"))?;
    let (client, mut connection) = connected.map_err(|error| unreachable(&said(&error)))?;
    let told = Arc::new(Notify::new());
    let ring = told.clone();
    let connection = tokio::spawn(async move {
        while let Some(Ok(_)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            ring.notify_one();
        }
        ring.notify_one();
    });
    make_ready(&client).await?;
    Ok(Connected { client, told, connection })
}

/// What every connection begins with. What is acknowledged is on disk there, whatever the database's default is.
async fn make_ready(client: &Client) -> Result<(), RecordsError> {
    let settings = "SET statement_timeout = '30s'; SET lock_timeout = '20s'; \
                    SET idle_in_transaction_session_timeout = '30s'; \
                    SELECT set_config('synchronous_commit', 'on', false) \
                    WHERE current_setting('synchronous_commit') = 'off'";
    in_time(client.batch_execute(settings)).await?.map_err(failed)?;
    schema::refuse_newer(client).await
}

fn record(row: &Row) -> Result<Record, RecordsError> {
    record_at(row, 0)
}

/// From four columns of a row, the first of them at `at`.
fn record_at(row: &Row, at: usize) -> Result<Record, RecordsError> {
    Ok(Record {
        key_partition: row.try_get(at).map_err(failed)?,
        id: row.try_get(at + 1).map_err(failed)?,
        change: row.try_get::<_, i64>(at + 2).map_err(failed)?.cast_unsigned(),
        value: Bytes::from(row.try_get::<_, Vec<u8>>(at + 3).map_err(failed)?),
    })
}

async fn in_time<T>(asked: impl Future<Output = T>) -> Result<T, RecordsError> {
    let late = |_| RecordsError::Engine("the database did not answer in time".into());
    tokio::time::timeout(ANSWER_WAIT, asked).await.map_err(late)
}

fn no_connection(error: PoolError) -> RecordsError {
    match error {
        PoolError::Backend(error) => failed(error),
        error => RecordsError::Engine(format!("no connection to the database: {error}").into()),
    }
}

fn failed(error: tokio_postgres::Error) -> RecordsError {
    match error.code() {
        Some(&SqlState::DISK_FULL) => RecordsError::Full,
        _ => RecordsError::Engine(said(&error).into()),
    }
}

/// The database's own words, where it has any.
fn said(error: &tokio_postgres::Error) -> String {
    use std::error::Error;
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => said.to_string(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Which write it was is the error's text.
fn conflict(error: &tokio_postgres::Error, writes: &[Write]) -> RecordsError {
    let place = error.as_db_error().and_then(|said| said.message().parse::<usize>().ok());
    match place.and_then(|place| writes.get(place)) {
        Some(write) => RecordsError::Conflict(write.condition().0.clone()),
        None => RecordsError::Engine(said(error).into()),
    }
}
