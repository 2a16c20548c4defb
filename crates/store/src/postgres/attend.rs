//! What a server does beside its batches, on a connection of its own: it says that it is there, tells others that
//! something was written, and forgets what nobody follows any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::Client;

use super::follow::{CHANNEL, KEPT};
use super::{Company, Connected, PostgresUrl, connect, failed, in_time};
use crate::RecordsError;

/// Held by every server together, or by one who wants to be alone.
const PRESENCE: i64 = 0x6865_6172_7468_0002;
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Between attempts to connect again.
const PAUSE: Duration = Duration::from_secs(1);

/// Says that this server is there, for as long as the connection lives.
pub async fn join(client: &Client, company: Company) -> Result<Company, RecordsError> {
    let (query, refused) = match company {
        Company::Servers => (
            "SELECT pg_try_advisory_lock_shared($1)",
            "the database is being worked on (hearth keys): try again when that is done",
        ),
        Company::Nobody => {
            ("SELECT pg_try_advisory_lock($1)", "the database is in use by another Hearth: stop every server")
        }
    };
    let rows = in_time(client.query(query, &[&PRESENCE])).await?.map_err(failed)?;
    match rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed)? {
        true => Ok(company),
        false => Err(RecordsError::Engine(refused.into())),
    }
}

/// Runs until it is aborted. `connected` has joined.
pub async fn run(url: PostgresUrl, mut connected: Connected, company: Company, written: Arc<Notify>) {
    loop {
        if let Err(error) = attend(&connected.client, &written).await {
            tracing::warn!(%error, "the connection to the database was lost");
        }
        connected = loop {
            tokio::time::sleep(PAUSE).await;
            match again(&url, company).await {
                Ok(connected) => break connected,
                Err(error) => tracing::warn!(%error, "the database cannot be reached"),
            }
        };
        tracing::info!("the database is reached again");
    }
}

async fn again(url: &PostgresUrl, company: Company) -> Result<Connected, RecordsError> {
    let connected = connect(url).await?;
    join(&connected.client, company).await?;
    Ok(connected)
}

/// Until the connection breaks. However many batches are written while others are told of one, they are told of once:
/// telling is a commit of its own, beside those of the batches, which would otherwise wait for each other.
async fn attend(client: &Client, written: &Notify) -> Result<(), RecordsError> {
    let tell = format!("NOTIFY {CHANNEL}");
    let forget = format!("DELETE FROM hearth.changes WHERE at < now() - interval '{} seconds'", KEPT.as_secs());
    let mut forgetting = tokio::time::interval(FORGET_EVERY);
    loop {
        tokio::select! {
            () = written.notified() => in_time(client.batch_execute(&tell)).await?.map_err(failed)?,
            _ = forgetting.tick() => in_time(client.batch_execute(&forget)).await?.map_err(failed)?,
        }
    }
}
