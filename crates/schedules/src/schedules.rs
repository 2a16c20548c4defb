//! The handle to the room, and what its parts share.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_identity::Identity;
use hearth_model::Clock;
use hearth_store::queue::Ms;
use hearth_store::{Expect, Queue, QueueError, Records, RecordsError, Write};
use hearth_wire::Error;
use hearth_wire_scheduler::errors::internal_server_exception;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{MutexGuard, Notify, RwLock, RwLockReadGuard, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::agenda::Agenda;
use crate::counts::{Counted, Counts};
use crate::record::{GROUP, GoneRecord, GroupRecord, MadeBy, Place, SCHEDULE, ScheduleRecord};
use crate::targets::Targets;
use crate::{delivery, engine, machine};

/// Records that are read at once: a schedule's input is up to 256 KB.
const PAGE: usize = 50;
/// Schedules of which changes may be written at the same time.
const TURNS: usize = 64;
/// Deletions that are remembered, for requests that are made again.
const DELETIONS_MAX: usize = 1_024;

#[derive(Clone, Debug)]
pub struct Config {
    /// What became of occurrences is kept for so long: while it is, none can fire again.
    pub retention: Duration,
    /// Schedules of an account in a region.
    pub schedules_max: usize,
    pub groups_max: usize,
}

impl Config {
    /// Quotas are AWS's, but for schedules, of which it has ten million: what is due when is in memory here, some 300 bytes
    /// of each.
    pub fn new(retention: Duration) -> Self {
        Config { retention, schedules_max: 1_000_000, groups_max: 500 }
    }
}

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    pub queue: Arc<dyn Queue>,
    pub targets: Arc<dyn Targets>,
    /// Where roles are to be checked.
    pub roles: Option<Identity>,
    pub clock: Arc<dyn Clock>,
    /// Chance: another one whenever it is asked for.
    pub uuids: Arc<dyn Fn() -> Uuid + Send + Sync>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the record {0} of schedules is damaged")]
    Damaged(String),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Schedules {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub config: Config,
    pub ports: Ports,
    pub counts: Counts,
    /// When this server began.
    pub up_since: Ms,
    pub agenda: Mutex<Agenda>,
    /// Told when something else may be due first.
    pub changed: Notify,
    /// Whoever takes what has fired, by partition: told when something has.
    pub takers: Mutex<HashMap<String, Arc<Notify>>>,
    /// For attempts to reach a target.
    pub room: Arc<Semaphore>,
    pub stopping: CancellationToken,
    /// Held for writing by who changes many records: what fires, and groups. Others hold it for reading, and one of `turns`.
    pub all: RwLock<()>,
    turns: Vec<tokio::sync::Mutex<()>>,
    /// Schedules there are, by partition.
    totals: Mutex<HashMap<String, usize>>,
    /// Tokens of deletions, and what they deleted.
    deletions: Mutex<VecDeque<(String, String)>>,
    pub tasks: TaskTracker,
}

/// The right to write one schedule.
pub(crate) struct Turn<'a> {
    _all: RwLockReadGuard<'a, ()>,
    _one: MutexGuard<'a, ()>,
}

impl Schedules {
    /// Finds what is due when, and gives back what a former process was about.
    pub async fn open(config: Config, ports: Ports) -> Result<Self, OpenError> {
        let shared = Shared {
            config,
            counts: Counts::default(),
            up_since: ports.clock.epoch_ms(),
            agenda: Mutex::default(),
            changed: Notify::new(),
            takers: Mutex::default(),
            room: Arc::new(Semaphore::new(delivery::UNDER_WAY_MAX)),
            stopping: CancellationToken::new(),
            all: RwLock::default(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            totals: Mutex::default(),
            deletions: Mutex::default(),
            tasks: TaskTracker::new(),
            ports,
        };
        let mut after = None;
        loop {
            let page = shared.ports.records.all(SCHEDULE, after, PAGE).await?;
            for found in &page {
                let damaged = || OpenError::Damaged(found.id.clone());
                let place = Place::of(&found.key_partition, &found.id).ok_or_else(damaged)?;
                shared.add_total(&place.partition);
                match serde_json::from_slice(&found.value) {
                    Ok(record) => shared.plan(&place, Some(&record)),
                    Err(_) => shared.set_aside(&place),
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some((last.key_partition.clone(), last.id.clone())),
                _ => break,
            }
        }
        for found in hearth_store::every(&*shared.ports.records, GROUP).await? {
            let damaged = || OpenError::Damaged(found.id.clone());
            let record: GroupRecord = serde_json::from_slice(&found.value).map_err(|_| damaged())?;
            if record.going {
                shared.clear_group(&found.key_partition, &found.id).await?;
            }
        }
        shared.ports.queue.recover(delivery::KIND, shared.now()).await?;
        let scheduled = shared.agenda().len();
        tracing::debug!(scheduled, "schedules were read");
        Ok(Schedules { shared: Arc::new(shared) })
    }

    pub fn service(&self) -> hearth_wire_scheduler::Service {
        let own = Arc::new(self.clone());
        hearth_wire_scheduler::Service { groups: Some(own.clone()), schedules: Some(own.clone()), tags: Some(own) }
    }

    /// Begins to fire.
    pub fn run(&self) {
        self.shared.tasks.spawn(engine::run(self.shared.clone()));
        self.shared.tasks.spawn(delivery::begin(self.shared.clone()));
    }

    /// Fires no more. What is on its way to a target arrives.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
    }

    /// Ready when, after [`Schedules::stop`], what became of all that was on its way is on disk.
    pub async fn stopped(&self) {
        self.shared.tasks.wait().await;
    }

    /// Numbers of every group that fired.
    pub fn counted(&self) -> Vec<Counted> {
        self.shared.counts.all()
    }
}

impl Shared {
    pub fn now(&self) -> Ms {
        self.ports.clock.epoch_ms()
    }

    pub fn agenda(&self) -> std::sync::MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to write one schedule.
    pub async fn turn(&self, place: &Place) -> Turn<'_> {
        let _all = self.all.read().await;
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(place);
        let _one = self.turns[usize::try_from(hash % TURNS as u64).unwrap_or_default()].lock().await;
        Turn { _all, _one }
    }

    /// Notes when a schedule is due, as it stands in the store by now. `None` when it is not there.
    pub fn plan(&self, place: &Place, record: Option<&ScheduleRecord>) {
        let due = record.and_then(|record| {
            let Some(next) = record.next else { return machine::goes(record) };
            let Some(timetable) = record.definition.timetable(record.anchor) else {
                self.set_aside(place);
                return None;
            };
            Some(machine::due(record, &timetable, next))
        });
        self.agenda().put(place, due);
    }

    /// A schedule whose record cannot be read does not fire, until it is made anew; others do.
    pub fn set_aside(&self, place: &Place) {
        tracing::error!(schedule = %place.arn(), "a schedule cannot be read, and does not fire");
        self.counts.count(&place.partition, &place.group, |numbers| numbers.set_aside += 1);
        self.agenda().put(place, None);
    }

    /// Whether a schedule was made by that request, is completed and gone.
    pub async fn has_gone(&self, place: &Place, made_by: &MadeBy, now: Ms) -> Result<bool, RecordsError> {
        let gone = self.read::<GoneRecord>(place.gone_key(&made_by.token)).await?;
        Ok(gone.is_some_and(|gone| gone.made_by == *made_by && gone.until > now))
    }

    pub async fn read<T: DeserializeOwned>(&self, key: hearth_store::Key) -> Result<Option<T>, RecordsError> {
        let id = key.id.clone();
        let found = self.ports.records.get(key).await?;
        let damaged = |_| RecordsError::Engine(format!("the record {id} is damaged").into());
        found.map(|record| serde_json::from_slice(&record.value).map_err(damaged)).transpose()
    }

    pub async fn write(&self, writes: Vec<Write>) -> Result<(), RecordsError> {
        self.ports.records.commit(writes).await.map(drop)
    }

    /// One more schedule, if there may be one more.
    pub fn is_room(&self, partition: &str) -> bool {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.get(partition).is_none_or(|total| *total < self.config.schedules_max)
    }

    pub fn add_total(&self, partition: &str) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        *totals.entry(partition.to_owned()).or_default() += 1;
    }

    /// A schedule is gone.
    pub fn forget(&self, place: &Place) {
        self.plan(place, None);
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(total) = totals.get_mut(&place.partition) {
            *total = total.saturating_sub(1);
        }
    }

    /// A request of that token has deleted it.
    pub fn remember_deletion(&self, token: Option<&str>, arn: String) {
        let Some(token) = token else { return };
        let mut deletions = self.deletions.lock().unwrap_or_else(PoisonError::into_inner);
        if deletions.len() >= DELETIONS_MAX {
            deletions.pop_front();
        }
        deletions.push_back((token.to_owned(), arn));
    }

    pub fn was_deleted_by(&self, token: Option<&str>, arn: &str) -> bool {
        let deletions = self.deletions.lock().unwrap_or_else(PoisonError::into_inner);
        token.is_some_and(|token| deletions.iter().any(|(by, what)| by == token && what == arn))
    }
}

/// A record as it is to be.
pub(crate) fn put(key: hearth_store::Key, record: &impl Serialize) -> Write {
    // Texts and numbers: it cannot fail.
    let value = serde_json::to_vec(record).unwrap_or_default().into();
    Write::Put { key, expect: Expect::Anything, value }
}

pub(crate) fn delete(key: hearth_store::Key) -> Write {
    Write::Delete { key, expect: Expect::Anything }
}

pub(crate) fn unstored(error: RecordsError) -> Error {
    tracing::error!(%error, "a schedule could not be stored or read");
    internal_server_exception("An internal error occurred; Hearth's log says more.")
}
