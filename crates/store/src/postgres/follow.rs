//! What became visible since, by snapshots.
//!
//! A number is given before a batch is visible: who asks for numbers above the last one seen misses the batch that took
//! its number early and became visible late. So a follower remembers the *snapshot* of its last answer, which says of each
//! transaction whether it was visible then, and asks for what its next snapshot sees and that one did not.

use std::time::Duration;

use hearth_model::BoxFuture;
use tokio_postgres::Row;

use super::{Connected, Postgres, connect, failed, in_time, record_at};
use crate::{Change, Feed, Follower, Key, RecordsError};

/// Between two looks when nobody wakes the follower: a wake-up is only a hint.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long what was written is remembered for those who follow.
pub const KEPT: Duration = Duration::from_secs(3600);
/// A follower that has not looked for so long may have missed something. Batches take up to a minute to become visible.
const ABSENCE_MAX: Duration = Duration::from_secs(1800);
/// Keys in one answer; who is behind by more reads everything.
const CHANGES_MAX: usize = 10_000;
/// What writers tell.
pub const CHANNEL: &str = "hearth";

impl Feed for Postgres {
    fn follow(&self, kinds: &'static [&'static str]) -> BoxFuture<'_, Result<Box<dyn Follower>, RecordsError>> {
        Box::pin(async move {
            let connected = connect(&self.inner.url).await?;
            let listen = format!("LISTEN {CHANNEL}");
            in_time(connected.client.batch_execute(&listen)).await?.map_err(failed)?;
            let now = "SELECT pg_current_snapshot()::text, extract(epoch FROM clock_timestamp())::bigint";
            let rows = in_time(connected.client.query(now, &[])).await?.map_err(failed)?;
            let row = rows.first().ok_or_else(nothing)?;
            let (snapshot, at) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            Ok(Box::new(Following { connected, kinds, snapshot, at }) as Box<dyn Follower>)
        })
    }
}

struct Following {
    connected: Connected,
    kinds: &'static [&'static str],
    /// Of the last answer.
    snapshot: String,
    /// When that was by the database's clock, seconds.
    at: i64,
}

impl Follower for Following {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, RecordsError>> {
        Box::pin(async move {
            loop {
                let changes = self.look().await?;
                if !changes.is_empty() {
                    return Ok(changes);
                }
                let _ = tokio::time::timeout(LOOK_EVERY, self.connected.told.notified()).await;
            }
        })
    }
}

impl Following {
    /// One statement, so that the records, their changes and the snapshot are of one moment.
    async fn look(&mut self) -> Result<Vec<Change>, RecordsError> {
        let query = "SELECT pg_current_snapshot()::text, extract(epoch FROM clock_timestamp())::bigint, \
                            c.kind, c.partition, c.id, c.number, r.partition, r.id, r.change, r.value \
                     FROM (SELECT) AS one LEFT JOIN ( \
                         SELECT kind, partition, id, max(number) AS number FROM hearth.changes \
                         WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) \
                             AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) AND kind = ANY ($2) \
                         GROUP BY kind, partition, id LIMIT $3 \
                     ) c ON true LEFT JOIN hearth.records r USING (kind, partition, id)";
        let limit = CHANGES_MAX as i64 + 1;
        let asked = async { self.connected.client.query(query, &[&self.snapshot, &self.kinds, &limit]).await };
        let rows = in_time(asked).await?.map_err(failed)?;
        let first = rows.first().ok_or_else(nothing)?;
        let (snapshot, at): (String, i64) = (first.try_get(0).map_err(failed)?, first.try_get(1).map_err(failed)?);
        if at - self.at > ABSENCE_MAX.as_secs().cast_signed() || rows.len() > CHANGES_MAX {
            return Err(RecordsError::Engine("more was written than is remembered for those who follow".into()));
        }
        let changes = rows.iter().filter_map(|row| self.change(row).transpose()).collect::<Result<Vec<_>, _>>()?;
        (self.snapshot, self.at) = (snapshot, at);
        Ok(changes)
    }

    /// `None` of the row that is there also without a change.
    fn change(&self, row: &Row) -> Result<Option<Change>, RecordsError> {
        let Some(kind) = row.try_get::<_, Option<&str>>(2).map_err(failed)? else { return Ok(None) };
        let Some(kind) = self.kinds.iter().find(|known| **known == kind) else { return Ok(None) };
        let key = Key { kind, partition: row.try_get(3).map_err(failed)?, id: row.try_get(4).map_err(failed)? };
        let number = row.try_get::<_, i64>(5).map_err(failed)?.cast_unsigned();
        let is_there = row.try_get::<_, Option<&str>>(6).map_err(failed)?.is_some();
        let record = is_there.then(|| record_at(row, 6)).transpose()?;
        Ok(Some(Change { key, number, record }))
    }
}

fn nothing() -> RecordsError {
    RecordsError::Engine("the database answered nothing".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::server::Server;
    use crate::{Company, Expect, Records, Write};
    use bytes::Bytes;

    fn put(id: &str) -> Write {
        let key = Key { partition: "1/us-east-1".to_owned(), kind: "function", id: id.to_owned() };
        Write::Put { key, expect: Expect::Anything, value: Bytes::from_static(b"x") }
    }

    /// The order in which a follower hears of `early`, which took its number first, and `late`, which was visible first.
    #[tokio::test]
    async fn a_batch_that_took_its_number_early_and_became_visible_late_is_not_missed() {
        let server = Server::start();
        let url = server.database().await;
        let records = Postgres::open(&url, Company::Servers).await.unwrap();
        let mut follower = records.follow(&["function"]).await.unwrap();
        let mut delayed = connect(&url).await.unwrap();
        let transaction = delayed.client.transaction().await.unwrap();
        let commit = "SELECT hearth.commit('{0}', '{function}', '{1/us-east-1}', '{early}', '{null}', '{x}')";
        let early: i64 = transaction.query_one(commit, &[]).await.unwrap().get(0);
        let late = records.commit(vec![put("late")]).await.unwrap();
        assert!(early.cast_unsigned() < late);
        let told = |changes: Vec<Change>| changes.into_iter().map(|c| (c.key.id, c.number)).collect::<Vec<_>>();
        assert_eq!(told(follower.next().await.unwrap()), [("late".to_owned(), late)]);
        // Nor is anything told twice, while the other is still under way.
        let later = records.commit(vec![put("later")]).await.unwrap();
        assert_eq!(told(follower.next().await.unwrap()), [("later".to_owned(), later)]);
        transaction.commit().await.unwrap();
        assert_eq!(told(follower.next().await.unwrap()), [("early".to_owned(), early.cast_unsigned())]);
    }

    #[tokio::test]
    async fn who_was_away_for_too_long_is_told_to_read_everything() {
        let server = Server::start();
        let records = Postgres::open(&server.database().await, Company::Servers).await.unwrap();
        let mut connected = connect(&records.inner.url).await.unwrap();
        let snapshot: String =
            connected.client.query_one("SELECT pg_current_snapshot()::text", &[]).await.unwrap().get(0);
        let now: i64 =
            connected.client.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await.unwrap().get(0);
        connected.told = Default::default();
        let at = now - ABSENCE_MAX.as_secs().cast_signed() - 60;
        let mut away = Following { connected, kinds: &["function"], snapshot, at };
        assert!(away.next().await.is_err());
    }
}
