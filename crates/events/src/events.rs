//! The handle to the room: accepts events, and sees to it that each is run.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, Entry};
use hearth_model::{
    AcceptError, AcceptEvents, BoxFuture, Clock, FunctionArn, Functions, Guard, Invoke, InvokeError, NewEvent,
};
use hearth_store::queue::{Change, Ms, NewMessage, QueueName};
use hearth_store::{Queue, QueueError, Records, RecordsError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Configs;
use crate::counts::{Counted, Counts};
use crate::destination::Couriers;
use crate::note::{ACCEPTED, KIND, Note, queue_of};
use crate::pump::{self, Signal};
use crate::retry::Policy;
use crate::settle::tally;

/// Payloads in memory, of all functions, KiB: what is queued beyond stays on disk.
const ROOM_KIB: usize = 48 * 1024;
/// Between looks for outcomes that are older than is kept.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Messages that one step of a sweep looks at.
const SWEEP_STEP: usize = 1_000;
/// Waits before what could not be written is written again.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Config {
    /// Before the second attempt of an event.
    pub retry_base_delay: Duration,
    /// Outcomes are kept for so long, counted from the acceptance of their event.
    pub retention: Duration,
    /// Events of one function that may be under way at once.
    pub under_way_max: usize,
    /// What environments of one function may take of the host for its events, bytes. The rest is for others.
    pub memory_share: u64,
}

#[derive(Clone)]
pub struct Ports {
    pub queue: Arc<dyn Queue>,
    pub records: Arc<dyn Records>,
    pub functions: Arc<dyn Functions>,
    pub couriers: Arc<dyn Couriers>,
    pub guard: Arc<Guard>,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("the event-invoke configuration of {0} is damaged")]
    Damaged(String),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Events {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub config: Config,
    pub ports: Ports,
    pub configs: Configs,
    pub counts: Counts,
    /// Payloads that may come into memory, KiB.
    pub room: Arc<Semaphore>,
    pub stopping: CancellationToken,
    invoke: OnceLock<Arc<dyn Invoke>>,
    /// Of functions whose queue is looked after.
    pumps: DashMap<Arc<QueueName>, Arc<Signal>>,
    tasks: TaskTracker,
}

impl Events {
    /// Gives back what a former process was about.
    pub async fn open(config: Config, ports: Ports) -> Result<Self, OpenError> {
        let configs = Configs::open(ports.records.clone()).await?;
        let shared = Shared {
            config,
            configs,
            counts: Counts::default(),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            stopping: CancellationToken::new(),
            invoke: OnceLock::new(),
            pumps: DashMap::new(),
            tasks: TaskTracker::new(),
            ports,
        };
        let recovered = shared.ports.queue.recover(KIND, shared.now()).await?;
        if recovered > 0 {
            tracing::info!(recovered, "events that were cut off are run again");
        }
        Ok(Events { shared: Arc::new(shared) })
    }

    /// Begins to run what is queued, and forgets what is older than is kept. Runs until it is dropped.
    pub async fn run(self, invoke: Arc<dyn Invoke>) {
        let shared = self.shared;
        let _ = shared.invoke.set(invoke);
        let mut wait = AGAIN_FIRST;
        loop {
            match shared.ports.queue.queues(KIND).await {
                Ok(queues) => {
                    queues.into_iter().for_each(|(queue, _)| shared.wake(&Arc::new(queue)));
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "queued events cannot be read");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_MAX);
                }
            }
        }
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            shared.sweep().await;
        }
    }

    /// Begins no more events. Those under way go on.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
    }

    /// Ready when, after [`Events::stop`], the outcome of every event that was under way is on disk.
    pub async fn stopped(&self) {
        self.shared.tasks.wait().await;
    }

    /// Numbers of every function that had events.
    pub fn counted(&self) -> Vec<Counted> {
        self.shared.counts.all()
    }
}

impl AcceptEvents for Events {
    fn accept(&self, event: NewEvent) -> BoxFuture<'_, Result<(), AcceptError>> {
        Box::pin(async move {
            let NewEvent { request_id, arn, payload, content_type, client_context, trace, tenant, origin } = event;
            let arn_text = arn.to_string();
            let note = Note { arn: arn_text, content_type, client_context, trace, tenant, origin, ..Note::default() };
            self.shared.accept(&arn, request_id.to_string(), &note, payload).await
        })
    }
}

impl Shared {
    pub async fn accept(
        self: &Arc<Self>,
        arn: &FunctionArn,
        id: String,
        note: &Note,
        payload: Bytes,
    ) -> Result<(), AcceptError> {
        let changes = self.accepting(arn, id, note, payload);
        self.ports.queue.commit(changes).await.map_err(|error| match error {
            QueueError::Duplicate(_) => AcceptError::Repeated,
            error => {
                tracing::error!(%error, "an event could not be stored");
                AcceptError::NotStored
            }
        })?;
        self.counts.received(arn);
        self.wake(&queue_of(arn));
        Ok(())
    }

    /// The changes that accept an event.
    pub fn accepting(&self, arn: &FunctionArn, id: String, note: &Note, payload: Bytes) -> Vec<Change> {
        let (now, queue) = (self.now(), (*queue_of(arn)).clone());
        let message = NewMessage { queue, id, sent: now, due: now, note: note.written(), body: payload };
        vec![Change::Send(message), tally(ACCEPTED)]
    }

    /// Sees to it that somebody looks at a queue from now on.
    pub fn wake(self: &Arc<Self>, queue: &Arc<QueueName>) {
        if self.invoke.get().is_none() || self.stopping.is_cancelled() {
            return;
        }
        match self.pumps.entry(queue.clone()) {
            Entry::Occupied(signal) => signal.get().wake(),
            Entry::Vacant(place) => {
                let signal = Arc::new(Signal::default());
                place.insert(signal.clone());
                self.tasks.spawn(pump::run(self.clone(), queue.clone(), signal));
            }
        }
    }

    /// Whether nobody has asked for a queue since `seen`; then nobody looks at it any more.
    pub fn let_go(&self, queue: &Arc<QueueName>, seen: u64) -> bool {
        self.pumps.remove_if(queue, |_, signal| signal.seen() == seen).is_some()
    }

    /// Writes what has happened. What cannot be written now is written later: until then the event is under way, and its
    /// function has one less. `false` when somebody else has ended it meanwhile.
    pub async fn commit(&self, changes: Vec<Change>) -> bool {
        let mut wait = AGAIN_FIRST;
        loop {
            match self.ports.queue.commit(changes.clone()).await {
                Ok(()) => return true,
                Err(error @ (QueueError::Stale(_) | QueueError::Duplicate(_) | QueueError::Repeated { .. })) => {
                    tracing::error!(%error, "an event was ended twice");
                    return false;
                }
                Err(error @ (QueueError::Full | QueueError::Engine(_))) => {
                    tracing::error!(%error, "what became of an event cannot be written; it is tried again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    pub fn invoke(&self) -> Result<&Arc<dyn Invoke>, InvokeError> {
        // Nothing is taken before it is there.
        self.invoke.get().ok_or(InvokeError::ShuttingDown)
    }

    pub fn now(&self) -> Ms {
        self.ports.clock.epoch_ms()
    }

    pub fn default_policy(&self) -> Policy {
        let base_delay = u64::try_from(self.config.retry_base_delay.as_millis()).unwrap_or(Ms::MAX);
        Policy { retries: Policy::RETRIES, age_max: Policy::AGE_MAX, base_delay }
    }

    /// What holds for events of a function, as it was invoked.
    pub fn policy(&self, arn: &FunctionArn) -> Policy {
        let default = self.default_policy();
        let Some(config) = self.configs.find(arn) else { return default };
        Policy {
            retries: config.retries.unwrap_or(default.retries),
            age_max: config.age_max_s.map_or(default.age_max, |seconds| u64::from(seconds) * 1000),
            ..default
        }
    }

    async fn sweep(&self) {
        let retention = u64::try_from(self.config.retention.as_millis()).unwrap_or(Ms::MAX);
        let before = self.now().saturating_sub(retention);
        let mut after = 0;
        loop {
            match self.ports.queue.sweep(KIND, before, after, SWEEP_STEP).await {
                Ok(Some(seen)) => after = seen,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "old events cannot be removed");
                    return;
                }
            }
        }
    }
}
