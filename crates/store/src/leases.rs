//! Leases: time-bounded rights to act, of which only one server at a time has each. They are records, so that every
//! engine has them.
//!
//! The number of the change by which a lease was taken is its *fencing token*: it grows from one holder to the next, and a
//! batch with [`Lease::fence`] in it is refused once another holds the lease, whatever the slow holder still believes.
//!
//! No two clocks are compared. Who wants a lease that another holds watches its beat, and takes it over when that has
//! stood still for [`LIFETIME`] by his own clock.
//!
//! | kind | id | written |
//! |---|---|---|
//! | `lease` | its name | when it is taken; deleted when it is given back |
//! | `lease-beat` | its name | while it is held |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_model::Clock;

use crate::{Expect, Key, Records, RecordsError, Write};

const LEASE: &str = "lease";
const BEAT: &str = "lease-beat";
/// How long a holder that is not heard of keeps its lease.
pub const LIFETIME: Duration = Duration::from_secs(15);
/// How often a holder makes itself heard: it may fail once.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Leases of others that are watched at once; what was watched longest is forgotten, and its time begins anew.
const WATCHED_MAX: usize = 10_000;

/// The leases of one server. A cheap handle.
#[derive(Clone)]
pub struct Leases {
    inner: Arc<Inner>,
}

struct Inner {
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    watched: Mutex<HashMap<String, Watched>>,
}

/// A lease that another holds, as it was seen, and since when it has been so.
struct Watched {
    token: u64,
    beat: Option<u64>,
    since: Instant,
}

/// A lease that is held. It ends when it is given back, or when nobody hears of it any more.
pub struct Lease {
    leases: Leases,
    name: String,
    token: u64,
}

impl Leases {
    pub fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Self {
        Leases { inner: Arc::new(Inner { records, clock, watched: Mutex::default() }) }
    }

    /// Takes a lease that nobody holds, or whose holder has not been heard of while this server was watching. `None` where
    /// another holds it: ask again later.
    pub async fn take(&self, name: &str) -> Result<Option<Lease>, RecordsError> {
        let expect = match self.inner.records.get(key(LEASE, name)).await? {
            None => Expect::Absent,
            Some(held) => {
                let beat = self.inner.records.get(key(BEAT, name)).await?.map(|beat| beat.change);
                if !self.is_silent(name, held.change, beat) {
                    return Ok(None);
                }
                Expect::Change(held.change)
            }
        };
        let write = Write::Put { key: key(LEASE, name), expect, value: Bytes::from_static(b"{}") };
        let taken = match self.inner.records.commit(vec![write]).await {
            Ok(token) => Some(Lease { leases: self.clone(), name: name.to_owned(), token }),
            Err(RecordsError::Conflict(_)) => None,
            Err(error) => return Err(error),
        };
        if taken.is_some() {
            self.watched().remove(name);
        }
        Ok(taken)
    }

    /// Whether a holder has stood still for long enough, as far as it was watched.
    fn is_silent(&self, name: &str, token: u64, beat: Option<u64>) -> bool {
        let now = self.inner.clock.now();
        let mut watched = self.watched();
        if let Some(seen) = watched.get(name)
            && (seen.token, seen.beat) == (token, beat)
        {
            return now.saturating_duration_since(seen.since) >= LIFETIME;
        }
        if watched.len() >= WATCHED_MAX
            && let Some(oldest) = watched.iter().min_by_key(|(_, seen)| seen.since).map(|(name, _)| name.clone())
        {
            watched.remove(&oldest);
        }
        watched.insert(name.to_owned(), Watched { token, beat, since: now });
        false
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, HashMap<String, Watched>> {
        self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Larger than that of every holder before.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// A batch with this in it is applied only while the lease is held.
    pub fn fence(&self) -> Write {
        Write::Check { key: key(LEASE, &self.name), change: self.token }
    }

    /// Makes the holder heard. A conflict means that another holds the lease.
    pub async fn beat(&self) -> Result<(), RecordsError> {
        let beat =
            Write::Put { key: key(BEAT, &self.name), expect: Expect::Anything, value: Bytes::from_static(b"{}") };
        self.leases.inner.records.commit(vec![self.fence(), beat]).await.map(drop)
    }

    /// Makes the holder heard as often as it takes, until `work` is done or the lease is lost, which answers `None`.
    pub async fn hold_during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep(BEAT_EVERY) => {
                    // Any other failure may pass before the lease does; else the fence tells.
                    if let Err(RecordsError::Conflict(_)) = self.beat().await {
                        return None;
                    }
                }
            }
        }
    }

    /// Gives it back, so that nobody has to wait for it.
    pub async fn give_back(self) -> Result<(), RecordsError> {
        let Lease { leases, name, token } = self;
        let given = vec![
            Write::Delete { key: key(LEASE, &name), expect: Expect::Change(token) },
            Write::Delete { key: key(BEAT, &name), expect: Expect::Anything },
        ];
        match leases.inner.records.commit(given).await {
            // It was another's already.
            Ok(_) | Err(RecordsError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn key(kind: &'static str, name: &str) -> Key {
    Key { partition: String::new(), kind, id: name.to_owned() }
}
