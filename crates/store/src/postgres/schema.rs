//! What is stored in the database, version by version.

use tokio_postgres::Client;

use super::failed;
use crate::RecordsError;

/// What brings the stored format from one version to the next; a database without Hearth is of version 0. What is here was
/// shipped and never changes.
const STEPS: &[&str] = &[include_str!("records.sql"), include_str!("changes.sql"), include_str!("blobs.sql")];
/// Servers that start at once take turns.
const TURN: i64 = 0x6865_6172_7468_0001;

/// In one transaction: whole or not at all.
pub async fn bring_forward(client: &mut Client) -> Result<(), RecordsError> {
    take_steps(client, STEPS).await
}

async fn take_steps(client: &mut Client, steps: &[&str]) -> Result<(), RecordsError> {
    refuse_other_encodings(client).await?;
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.query("SELECT pg_advisory_xact_lock($1)", &[&TURN]).await.map_err(failed)?;
    let found = version(transaction.client()).await?;
    if found >= steps.len() {
        return transaction.rollback().await.map_err(failed);
    }
    tracing::info!(from = found, to = steps.len(), "the database's format is brought forward");
    if found == 0 {
        // A schema that an administrator has made is used.
        let absent = "SELECT FROM pg_namespace WHERE nspname = 'hearth'";
        if transaction.query(absent, &[]).await.map_err(failed)?.is_empty() {
            transaction.batch_execute("CREATE SCHEMA hearth").await.map_err(failed)?;
        }
        let format = "CREATE TABLE hearth.format (one boolean PRIMARY KEY CHECK (one), version integer NOT NULL); \
                      INSERT INTO hearth.format VALUES (true, 0)";
        transaction.batch_execute(format).await.map_err(failed)?;
    }
    for step in &steps[found..] {
        transaction.batch_execute(step).await.map_err(failed)?;
    }
    let to = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    transaction.execute("UPDATE hearth.format SET version = $1", &[&to]).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// A newer Hearth may bring the format forward while this one runs.
pub async fn refuse_newer(client: &Client) -> Result<(), RecordsError> {
    let (found, known) = (version(client).await?, STEPS.len());
    if found > known {
        let text = format!("the database was written by a newer Hearth (format {found}, this one knows {known})");
        return Err(RecordsError::Engine(text.into()));
    }
    Ok(())
}

async fn version(client: &Client) -> Result<usize, RecordsError> {
    let known = client.query("SELECT to_regclass('hearth.format') IS NOT NULL", &[]).await.map_err(failed)?;
    if !known.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed)? {
        return Ok(0);
    }
    let found = client.query("SELECT version FROM hearth.format", &[]).await.map_err(failed)?;
    let found: i32 = found.first().map_or(Ok(-1), |row| row.try_get(0)).map_err(failed)?;
    usize::try_from(found).map_err(|_| RecordsError::Engine("the database's format has no version".into()))
}

async fn refuse_other_encodings(client: &Client) -> Result<(), RecordsError> {
    let shown = client.query("SHOW server_encoding", &[]).await.map_err(failed)?;
    let encoding: String = shown.first().map_or(Ok(String::new()), |row| row.try_get(0)).map_err(failed)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(RecordsError::Engine(format!("the database's encoding is {encoding}; it must be UTF8").into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::connect;
    use crate::suite::server::Server;
    use crate::{Company, Expect, Key, Postgres, Records, Write};

    #[tokio::test]
    async fn an_older_format_is_brought_forward_and_a_newer_one_refused() {
        let server = Server::start();
        let url = server.database().await;
        let mut connected = connect(&url).await.unwrap();
        take_steps(&mut connected.client, &STEPS[..1]).await.unwrap();
        let insert =
            "INSERT INTO hearth.records VALUES ('function', '1/us-east-1', 'old', nextval('hearth.change'), 'x')";
        connected.client.batch_execute(insert).await.unwrap();
        let records = Postgres::open(&url, Company::Servers).await.unwrap();
        let key = Key { partition: "1/us-east-1".to_owned(), kind: "function", id: "old".to_owned() };
        let old = records.get(key.clone()).await.unwrap().unwrap();
        assert_eq!((old.change, &old.value[..]), (1, &b"x"[..]));
        records.commit(vec![Write::Delete { key, expect: Expect::Change(1) }]).await.unwrap();
        connected.client.batch_execute("UPDATE hearth.format SET version = 999").await.unwrap();
        let refused = Postgres::open(&url, Company::Servers).await.err().unwrap().to_string();
        assert!(refused.contains("newer Hearth (format 999"), "{refused}");
    }
}
