//! The handle to the room, and what handlers share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hearth_model::Clock;
use hearth_store::queue::{Change, Ms};
use hearth_store::{Expect, Queue, QueueError, Records, RecordsError, Write};
use hearth_wire::{Context, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::access;
use crate::live::{All, Live};
use crate::names::{Place, is_account};
use crate::record::{QUEUE, QueueRecord, key};
use crate::refusals::{given, no_queue, unstored};

/// Records that are read at a time.
const PAGE: usize = 500;

pub struct Ports {
    pub records: Arc<dyn Records>,
    pub messages: Arc<dyn Queue>,
    pub clock: Arc<dyn Clock>,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Queues {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub ports: Ports,
    pub all: All,
    /// Held by whoever writes records: queues are made and told things rarely.
    pub turn: tokio::sync::Mutex<()>,
    /// Told when a task of moving begins.
    pub moves: Notify,
    /// Handles of tasks that somebody is at.
    pub moving: Mutex<BTreeSet<String>>,
    pub ended: watch::Sender<bool>,
}

impl Queues {
    pub async fn open(ports: Ports) -> Result<Self, RecordsError> {
        let all = All::default();
        let mut after = None;
        loop {
            let page = ports.records.all(QUEUE, after, PAGE).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|record| (record.key_partition.clone(), record.id.clone()));
            for record in page {
                let damaged = || RecordsError::Engine(format!("the queue {} does not read", record.id).into());
                let (account, region) = record.key_partition.split_once('/').ok_or_else(damaged)?;
                let place = Place { account: account.to_owned(), region: region.to_owned(), name: record.id.clone() };
                let read: QueueRecord = serde_json::from_slice(&record.value).map_err(|_| damaged())?;
                all.add(Arc::new(Live::new(place, read)));
            }
            if is_last {
                break;
            }
        }
        let (turn, moves, ended) = (tokio::sync::Mutex::default(), Notify::new(), watch::Sender::new(false));
        Ok(Queues { inner: Arc::new(Inner { ports, all, turn, moves, moving: Mutex::default(), ended }) })
    }

    pub fn service(&self) -> hearth_wire_sqs::Service {
        let own = Arc::new(self.clone());
        hearth_wire_sqs::Service {
            messages: Some(own.clone()),
            moves: Some(own.clone()),
            permissions: Some(own.clone()),
            queues: Some(own.clone()),
            tags: Some(own),
        }
    }

    /// Whoever waits for a message is answered that there is none.
    pub fn end(&self) {
        self.inner.ended.send_replace(true);
    }

    pub(crate) fn now(&self) -> Ms {
        self.inner.ports.clock.epoch_ms()
    }

    /// The queue that a request means, where its caller may do this to it.
    pub(crate) fn asked(&self, cx: &Context, url: Option<String>, action: &str) -> Result<Arc<Live>, Error> {
        let live = self.at(&Place::of_url(cx, &given(url, "QueueUrl")?)?)?;
        access::check(cx, &live, action)?;
        Ok(live)
    }

    pub(crate) fn at(&self, place: &Place) -> Result<Arc<Live>, Error> {
        self.inner.all.find(place).ok_or_else(no_queue)
    }

    pub(crate) fn by_name(&self, cx: &Context, name: &str, owner: Option<&str>) -> Result<Arc<Live>, Error> {
        let account = owner.filter(|owner| is_account(owner)).unwrap_or(&cx.account).to_owned();
        self.at(&Place { account, region: cx.region.clone(), name: name.to_owned() })
    }

    /// Writes a queue as it is to be. The caller holds the turn.
    pub(crate) async fn keep(&self, live: &Live, record: QueueRecord) -> Result<(), Error> {
        self.put(&live.place, QUEUE, &live.place.name, &record).await?;
        live.replace(record);
        Ok(())
    }

    pub(crate) async fn put(
        &self,
        place: &Place,
        kind: &'static str,
        id: &str,
        record: &impl Serialize,
    ) -> Result<(), Error> {
        let value = serde_json::to_vec(record).map_err(unstored)?.into();
        let write = Write::Put { key: key(place, kind, id), expect: Expect::Anything, value };
        self.inner.ports.records.commit(vec![write]).await.map(drop).map_err(unstored)
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        place: &Place,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<T>, Error> {
        let found = self.inner.ports.records.get(key(place, kind, id)).await.map_err(unstored)?;
        found.map(|record| serde_json::from_slice(&record.value).map_err(unstored)).transpose()
    }

    /// Commits changes of several messages together, without those that cannot be made. Answers what became of each.
    pub(crate) async fn each(&self, mut parts: Vec<(String, Vec<Change>)>) -> Result<Vec<Outcome>, Error> {
        let mut outcomes: Vec<Outcome> = parts.iter().map(|_| Outcome::Done).collect();
        loop {
            let together: Vec<Change> = parts.iter().flat_map(|(_, changes)| changes.iter().cloned()).collect();
            if together.is_empty() {
                return Ok(outcomes);
            }
            let (id, outcome) = match self.inner.ports.messages.commit(together).await {
                Ok(()) => return Ok(outcomes),
                Err(QueueError::Stale(id)) => (id, Outcome::Stale),
                Err(QueueError::Repeated { id, first, number }) => (id, Outcome::Repeated { first, number }),
                Err(error) => return Err(unstored(error)),
            };
            // The same message twice: the later one is what cannot be made.
            let at = parts.iter().rposition(|(of, changes)| *of == id && !changes.is_empty());
            let at = at.ok_or_else(|| unstored(QueueError::Stale(id)))?;
            parts[at].1.clear();
            outcomes[at] = outcome;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Of a receipt that holds nothing any more.
    Stale,
    /// Another message is what was sent.
    Repeated {
        first: String,
        number: u64,
    },
}
