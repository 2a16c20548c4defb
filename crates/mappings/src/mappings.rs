//! The handle to the room: every mapping there is, and a worker for each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hearth_events::Couriers;
use hearth_model::{Clock, FunctionArn, Functions, Guard, Invoke, InvokeError};
use hearth_queues::Queues;
use hearth_store::queue::Ms;
use hearth_store::{Expect, Records, RecordsError, Write};
use hearth_wire::Error;
use hearth_wire_lambda::errors::service_exception;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::buffers::Buffers;
use crate::counts::{Ages, AllAges, Counted, Numbers};
use crate::kept;
use crate::life::State;
use crate::record::{KIND, MappingRecord, key};
use crate::source::Source;
use crate::sqs::Sqs;
use crate::stream::Streams;
use crate::worker;

/// Records read at once.
const PAGE: usize = 500;
/// Payloads of runs in memory, of all mappings, KiB. One of the largest always fits.
const ROOM_KIB: usize = 64 * 1024;
/// Waits before a state that could not be written is written again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    pub functions: Arc<dyn Functions>,
    pub queues: Queues,
    /// Kinesis, where there is one.
    pub streams: Option<Arc<dyn Streams>>,
    /// To destinations of records that are given up.
    pub couriers: Arc<dyn Couriers>,
    pub guard: Arc<Guard>,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the event source mapping {0} is damaged")]
    Damaged(String),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Mappings {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub ports: Ports,
    /// By partition and UUID.
    all: Mutex<BTreeMap<(String, String), Arc<Live>>>,
    /// Held by whoever writes records: mappings are told things rarely.
    pub turn: tokio::sync::Mutex<()>,
    pub room: Arc<Semaphore>,
    /// For records of streams.
    pub buffers: Arc<Buffers>,
    pub ages: AllAges,
    pub stopping: CancellationToken,
    invoke: OnceLock<Arc<dyn Invoke>>,
    tasks: TaskTracker,
}

/// A mapping as it was last written, and what is known of it beside.
pub(crate) struct Live {
    pub partition: String,
    pub uuid: String,
    record: watch::Sender<Arc<MappingRecord>>,
    pub numbers: Numbers,
    /// What `LastProcessingResult` says.
    problem: Mutex<Option<String>>,
    /// Whether the function was run with records, since the server's start.
    has_run: AtomicBool,
}

impl Live {
    pub fn new(partition: String, uuid: String, record: MappingRecord) -> Self {
        let record = watch::Sender::new(Arc::new(record));
        Live {
            partition,
            uuid,
            record,
            numbers: Numbers::default(),
            problem: Mutex::default(),
            has_run: AtomicBool::new(false),
        }
    }

    pub fn record(&self) -> Arc<MappingRecord> {
        self.record.borrow().clone()
    }

    pub fn changes(&self) -> watch::Receiver<Arc<MappingRecord>> {
        self.record.subscribe()
    }

    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn has_run(&self) {
        self.has_run.store(true, Ordering::Relaxed);
    }

    /// Of a mapping of a stream (recorded).
    pub fn last_result(&self) -> String {
        let otherwise = if self.has_run.load(Ordering::Relaxed) { "OK" } else { "No records processed" };
        self.problem().unwrap_or_else(|| otherwise.to_owned())
    }

    /// Logged when it is another one than before.
    pub fn has_problem(&self, problem: Option<String>) {
        let mut kept = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept != problem {
            if let Some(problem) = &problem {
                tracing::warn!(mapping = %self.uuid, %problem, "an event source mapping cannot go on");
            }
            *kept = problem;
        }
    }
}

impl Mappings {
    pub async fn open(ports: Ports) -> Result<Self, OpenError> {
        let mut all = BTreeMap::new();
        let mut after = None;
        loop {
            let page = ports.records.all(KIND, after, PAGE).await?;
            for record in &page {
                let read = serde_json::from_slice(&record.value);
                let read = read.map_err(|_| OpenError::Damaged(record.id.clone()))?;
                let key = (record.key_partition.clone(), record.id.clone());
                all.insert(key.clone(), Arc::new(Live::new(key.0, key.1, read)));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some((last.key_partition.clone(), last.id.clone())),
                _ => break,
            }
        }
        let shared = Shared {
            ports,
            all: Mutex::new(all),
            turn: tokio::sync::Mutex::default(),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            buffers: Buffers::new(),
            ages: AllAges::default(),
            stopping: CancellationToken::new(),
            invoke: OnceLock::new(),
            tasks: TaskTracker::new(),
        };
        Ok(Mappings { shared: Arc::new(shared) })
    }

    /// Begins to work.
    pub fn run(&self, invoke: Arc<dyn Invoke>) {
        let _ = self.shared.invoke.set(invoke);
        self.shared.every().into_iter().for_each(|live| self.shared.begin(live));
    }

    /// Polls no more, and gives back what no run has begun with. Runs that are under way go on.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
    }

    /// Ready when, after [`Mappings::stop`], what became of every record that was under way is on disk.
    pub async fn stopped(&self) {
        self.shared.tasks.wait().await;
    }

    /// `IteratorAge` of every function that mappings of streams run.
    pub fn ages(&self) -> BTreeMap<FunctionArn, Ages> {
        self.shared.ages.all()
    }

    /// Numbers of every mapping that is to tell some.
    pub fn counted(&self) -> Vec<Counted> {
        let counted = self.shared.every().into_iter().map(|live| {
            let record = live.record();
            let (account, region) = live.partition.split_once('/').unwrap_or_default();
            let tells = record.settings.metrics.is_some();
            let pollers = record.settings.pollers.is_some();
            let pollers = pollers.then(|| live.numbers.pollers.load(Ordering::Relaxed));
            Counted {
                account: account.to_owned(),
                region: region.to_owned(),
                uuid: live.uuid.clone(),
                events: tells.then(|| live.numbers.events()),
                pollers,
            }
        });
        counted.filter(|counted| counted.events.is_some() || counted.pollers.is_some()).collect()
    }
}

impl Shared {
    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Arc<Live>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn find(&self, partition: &str, uuid: &str) -> Option<Arc<Live>> {
        self.map().get(&(partition.to_owned(), uuid.to_owned())).cloned()
    }

    fn every(&self) -> Vec<Arc<Live>> {
        self.map().values().cloned().collect()
    }

    /// Of one account and region, by UUID.
    pub fn of(&self, partition: &str) -> Vec<Arc<Live>> {
        let mut all = self.every();
        all.retain(|live| live.partition == partition);
        all
    }

    /// A new mapping, on disk. The caller holds the turn.
    pub async fn add(self: &Arc<Self>, live: Arc<Live>) -> Result<(), Error> {
        self.put(&live, &live.record()).await.map_err(unstored)?;
        self.map().insert((live.partition.clone(), live.uuid.clone()), live.clone());
        self.begin(live);
        Ok(())
    }

    /// Writes a mapping as it is to be. The caller holds the turn.
    pub async fn keep(&self, live: &Live, record: MappingRecord) -> Result<(), Error> {
        self.put(live, &record).await.map_err(unstored)?;
        live.record.send_replace(Arc::new(record));
        Ok(())
    }

    async fn put(&self, live: &Live, record: &MappingRecord) -> Result<(), RecordsError> {
        let value = serde_json::to_vec(record).map_err(|e| RecordsError::Engine(e.to_string().into()))?;
        let write = Write::Put { key: key(&live.partition, &live.uuid), expect: Expect::Anything, value: value.into() };
        self.ports.records.commit(vec![write]).await.map(drop)
    }

    /// Brings a transition to its end, unless it is another one by now. What cannot be written is written later.
    pub async fn settle(&self, live: &Live, from: State) {
        loop {
            let turn = self.turn.lock().await;
            let record = live.record();
            let to = record.state.settles(record.enabled).filter(|_| record.state == from);
            let Some(state) = to else { return };
            let record = MappingRecord { state, ..(*record).clone() };
            match self.put(live, &record).await {
                Ok(()) => {
                    live.record.send_replace(Arc::new(record));
                    return;
                }
                Err(error) => tracing::error!(mapping = %live.uuid, %error, "a state could not be written"),
            }
            drop(turn);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The end of a mapping.
    pub async fn remove(&self, live: &Live) {
        loop {
            let turn = self.turn.lock().await;
            match self.forget(live).await {
                Ok(()) => {
                    self.map().remove(&(live.partition.clone(), live.uuid.clone()));
                    return;
                }
                Err(error) => tracing::error!(mapping = %live.uuid, %error, "a mapping could not be removed"),
            }
            drop(turn);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Checkpoints first: nobody would find them later.
    async fn forget(&self, live: &Live) -> Result<(), RecordsError> {
        let records = &*self.ports.records;
        let shards: Vec<String> = kept::of(records, live).await?.into_keys().collect();
        kept::forget(records, live, &shards).await?;
        let write = Write::Delete { key: key(&live.partition, &live.uuid), expect: Expect::Anything };
        records.commit(vec![write]).await.map(drop)
    }

    fn begin(self: &Arc<Self>, live: Arc<Live>) {
        if self.invoke.get().is_some() && !self.stopping.is_cancelled() {
            self.tasks.spawn(worker::run(self.clone(), live));
        }
    }

    /// Where a mapping's records come from.
    pub fn source(&self, record: &MappingRecord) -> Arc<dyn Source> {
        Arc::new(Sqs::new(self.ports.queues.clone(), record.source.clone()))
    }

    pub fn invoke(&self) -> Result<&Arc<dyn Invoke>, InvokeError> {
        // No worker begins before it is there.
        self.invoke.get().ok_or(InvokeError::ShuttingDown)
    }

    pub fn now(&self) -> Ms {
        self.ports.clock.epoch_ms()
    }
}

fn unstored(error: RecordsError) -> Error {
    tracing::error!(%error, "an event source mapping could not be stored");
    service_exception("An internal error occurred; Hearth's log says more.")
}
