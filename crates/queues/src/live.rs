//! The queues there are, in memory: as they were last written, who waits at them, and how many messages are out.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hearth_store::queue::QueueName;
use tokio::sync::Notify;

use crate::attributes::Settings;
use crate::names::{FIFO, Place};
use crate::record::{KIND, QueueRecord};

pub struct Live {
    pub place: Place,
    pub is_fifo: bool,
    /// In the store.
    pub queue: Arc<QueueName>,
    kept: RwLock<Arc<Kept>>,
    /// One for each message that came, or can be taken again.
    pub arrived: Notify,
    /// At least as many as are held.
    pub held: AtomicU64,
}

/// A queue as it was last written.
pub struct Kept {
    pub record: QueueRecord,
    pub settings: Settings,
}

impl Live {
    pub fn new(place: Place, record: QueueRecord) -> Self {
        let queue = QueueName { partition: place.partition(), kind: KIND, name: record.id.clone() };
        let settings = Settings::of(&record.attributes);
        Live {
            is_fifo: place.name.ends_with(FIFO),
            place,
            queue: Arc::new(queue),
            kept: RwLock::new(Arc::new(Kept { record, settings })),
            arrived: Notify::new(),
            held: AtomicU64::new(0),
        }
    }

    pub fn kept(&self) -> Arc<Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, record: QueueRecord) {
        let settings = Settings::of(&record.attributes);
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Kept { record, settings });
    }

    /// Messages came, or can be taken again.
    pub fn wake(&self, messages: usize) {
        // A permit that nobody takes is kept once.
        (0..messages.min(10)).for_each(|_| self.arrived.notify_one());
    }
}

/// Every queue.
#[derive(Default)]
pub struct All(Mutex<BTreeMap<Place, Arc<Live>>>);

impl All {
    pub fn find(&self, place: &Place) -> Option<Arc<Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    pub fn add(&self, live: Arc<Live>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(live.place.clone(), live);
    }

    pub fn remove(&self, place: &Place) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
    }

    pub fn every(&self) -> Vec<Arc<Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Of one account and region, by name.
    pub fn of(&self, account: &str, region: &str) -> Vec<Arc<Live>> {
        let mut all = self.every();
        all.retain(|live| live.place.account == account && live.place.region == region);
        all
    }
}
