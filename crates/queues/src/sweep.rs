//! What is over is removed: messages that are older than their queue keeps them, and those of queues that are gone.

use std::time::Duration;

use hearth_store::queue::QueueName;
use hearth_store::{Expect, Write};
use tokio::task::JoinSet;

use crate::live::Live;
use crate::making::GONE_MS;
use crate::queues::Queues;
use crate::record::{GONE, GoneRecord, KIND};
use hearth_store::Key;

const EVERY: Duration = Duration::from_secs(60);
/// Messages that are removed in one transaction.
const AT_ONCE: usize = 1000;
/// Names that were deleted and are looked at in one round.
const GONE_MAX: usize = 1000;

impl Queues {
    /// Removes what is over, and moves what is to be moved, for as long as it is polled.
    pub async fn run(self) {
        self.remove_orphans().await;
        let mut moving = JoinSet::new();
        self.resume(&mut moving).await;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.sweep().await,
                () = self.inner.moves.notified() => self.resume(&mut moving).await,
                Some(_) = moving.join_next() => {}
            }
        }
    }

    async fn sweep(&self) {
        let now = self.now();
        for live in self.inner.all.every() {
            let retention = live.kept().settings.retention_s * 1000;
            self.clear(&live, now.saturating_sub(retention)).await;
        }
        if let Err(error) = self.forget_names(now).await {
            tracing::error!(%error, "names of deleted queues could not be forgotten");
        }
    }

    /// Removes what was sent to a queue before a moment.
    pub(crate) async fn clear(&self, live: &Live, before: u64) {
        self.clear_named(&live.queue, before).await;
    }

    async fn clear_named(&self, queue: &QueueName, before: u64) {
        loop {
            match self.inner.ports.messages.clear(queue.clone(), before, AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(%error, "messages that are over could not be removed");
                    return;
                }
            }
        }
    }

    async fn remove_orphans(&self) {
        let known: Vec<_> = self.inner.all.every().iter().map(|live| live.queue.clone()).collect();
        match self.inner.ports.messages.queues(KIND).await {
            Ok(queues) => {
                for (queue, _) in queues.iter().filter(|(queue, _)| !known.iter().any(|known| **known == *queue)) {
                    self.clear_named(queue, u64::MAX).await;
                }
            }
            Err(error) => tracing::error!(%error, "queues could not be listed"),
        }
    }

    async fn forget_names(&self, now: u64) -> Result<(), hearth_store::RecordsError> {
        let gone = self.inner.ports.records.all(GONE, None, GONE_MAX).await?;
        let is_over =
            |value: &[u8]| serde_json::from_slice(value).is_ok_and(|gone: GoneRecord| gone.deleted + GONE_MS <= now);
        let writes: Vec<Write> = gone
            .into_iter()
            .filter(|record| is_over(&record.value))
            .map(|record| Write::Delete {
                key: Key { partition: record.key_partition, kind: GONE, id: record.id },
                expect: Expect::Change(record.change),
            })
            .collect();
        match writes.is_empty() {
            true => Ok(()),
            false => self.inner.ports.records.commit(writes).await.map(drop),
        }
    }
}
