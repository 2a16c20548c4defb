//! The handle to the room, and what handlers do with records.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use hearth_model::{AccountId, Clock};
use hearth_policy::{Facts, Principal};
use hearth_store::{Expect, Key, Records, RecordsError, Write, shared_secret};
use hearth_wire::Error;
use hearth_wire_iam::errors::{concurrent_modification_exception, service_failure_exception};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex as Turn, MutexGuard};

use crate::arn::RoleArn;
use crate::record::{self, ROLE, Role, SESSION_KEY};
use crate::sessions::{Sessions, letters};
use crate::sts;

/// Accounts whose writers may take each other's turn: a number large enough that they rarely do.
const TURNS: usize = 64;

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    pub clock: Arc<dyn Clock>,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    ports: Ports,
    sessions: Sessions,
    turns: Vec<Turn<()>>,
    hasher: RandomState,
}

/// A record as it was read, to be written again only if nobody else has written it meanwhile.
pub(crate) struct Stored<T> {
    pub value: T,
    /// `None` when there is none yet.
    change: Option<u64>,
}

/// Records that are written together or not at all.
#[derive(Default)]
pub(crate) struct Batch(Vec<Write>);

impl Identity {
    /// Reads the key of session tokens, or makes it.
    pub async fn open(ports: Ports) -> Result<Self, RecordsError> {
        let sessions = Sessions::new(shared_secret(&*ports.records, SESSION_KEY).await?, ports.clock.clone());
        let turns = (0..TURNS).map(|_| Turn::new(())).collect();
        Ok(Identity { inner: Arc::new(Inner { ports, sessions, turns, hasher: RandomState::new() }) })
    }

    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    pub fn iam(&self) -> hearth_wire_iam::Service {
        let own = Arc::new(self.clone());
        hearth_wire_iam::Service { policies: Some(own.clone()), role_policies: Some(own.clone()), roles: Some(own) }
    }

    pub fn sts(&self) -> hearth_wire_sts::Service {
        hearth_wire_sts::Service { sessions: Some(Arc::new(self.clone())) }
    }

    /// Whether there is such a role, and its trust policy lets a service take it on.
    pub async fn lets_service_assume(&self, role: &RoleArn, service: &str, facts: Facts) -> Result<bool, Error> {
        let found = self.role(&role.account, &role.name).await?;
        let found = found.filter(|found| found.value.path == role.path);
        Ok(found.is_some_and(|found| sts::is_trusted(&found.value, role, Principal::Service(service), &facts)))
    }

    pub(crate) async fn role(&self, account: &AccountId, name: &str) -> Result<Option<Stored<Role>>, Error> {
        self.read(record::key(account, ROLE, &record::id_of(name))).await
    }

    /// The turn to write what belongs to an account.
    pub(crate) async fn turn(&self, account: &AccountId) -> MutexGuard<'_, ()> {
        let place = self.inner.hasher.hash_one(account) as usize;
        self.inner.turns[place % TURNS].lock().await
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, key: Key) -> Result<Option<Stored<T>>, Error> {
        let found = self.inner.ports.records.get(key).await.map_err(failed)?;
        found.map(|found| Ok(Stored { value: parsed(&found.value)?, change: Some(found.change) })).transpose()
    }

    /// As [`Identity::read`]; what is not there is as when nothing was written yet.
    pub(crate) async fn read_or_new<T: DeserializeOwned + Default>(&self, key: Key) -> Result<Stored<T>, Error> {
        Ok(self.read(key).await?.unwrap_or_else(|| Stored::new(T::default())))
    }

    /// Records of one kind with their ids, after `after`, at most `limit`.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        account: &AccountId,
        kind: &'static str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let found = self.inner.ports.records.list(account.to_string(), kind, after, limit).await.map_err(failed)?;
        found.into_iter().map(|found| Ok((found.id, parsed(&found.value)?))).collect()
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), Error> {
        let written = self.inner.ports.records.commit(batch.0).await;
        written.map(drop).map_err(failed)
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let since = self.inner.ports.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

impl<T> Stored<T> {
    pub fn new(value: T) -> Self {
        Stored { value, change: None }
    }
}

impl Batch {
    pub fn put<T: Serialize>(mut self, key: Key, stored: &Stored<T>) -> Result<Self, Error> {
        let value =
            serde_json::to_vec(&stored.value).map_err(|e| failed(RecordsError::Engine(e.to_string().into())))?;
        self.0.push(Write::Put { key, expect: stored.expect(), value: value.into() });
        Ok(self)
    }

    pub fn delete<T>(mut self, key: Key, stored: &Stored<T>) -> Self {
        self.0.push(Write::Delete { key, expect: stored.expect() });
        self
    }
}

impl<T> Stored<T> {
    fn expect(&self) -> Expect {
        self.change.map_or(Expect::Absent, Expect::Change)
    }
}

/// An id of a role (`AROA…`) or policy (`ANPA…`).
pub(crate) fn new_id(prefix: &str) -> String {
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{prefix}{}{}", letters(&one.as_bytes()[..6]), letters(&other.as_bytes()[5..]))
}

fn parsed<T: DeserializeOwned>(value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|e| failed(RecordsError::Engine(e.to_string().into())))
}

fn failed(error: RecordsError) -> Error {
    if let RecordsError::Conflict(_) = error {
        return concurrent_modification_exception(
            "The request was rejected because multiple requests to change this object were submitted simultaneously. Wait a \
             few minutes and submit your request again.",
        );
    }
    tracing::error!(%error, "a record of identity could not be read or written");
    service_failure_exception("The records could not be used; Hearth's log says more.")
}
