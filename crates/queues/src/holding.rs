//! What was received: deleted, or hidden for longer or shorter. And queues as a whole: purged.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use hearth_store::queue::{Change, Receipt};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_sqs::MessagesApi;
use hearth_wire_sqs::errors::{message_not_inflight, purge_queue_in_progress};
use hearth_wire_sqs::types::{
    ChangeMessageVisibilityBatchRequest, ChangeMessageVisibilityBatchResult, ChangeMessageVisibilityBatchResultEntry,
    ChangeMessageVisibilityRequest, DeleteMessageBatchRequest, DeleteMessageBatchResult, DeleteMessageBatchResultEntry,
    DeleteMessageRequest, PurgeQueueRequest, ReceiveMessageRequest, ReceiveMessageResult, SendMessageBatchRequest,
    SendMessageBatchResult, SendMessageRequest, SendMessageResult,
};

use crate::handle;
use crate::live::Live;
use crate::queues::{Outcome, Queues};
use crate::receiving::too_late;
use crate::record::KIND;
use crate::refusals::{given, invalid_value, missing, unstored};
use crate::sending::{check_batch, failure};

/// How long after a purge there is no other.
const PURGE_MS: u64 = 60_000;
const VISIBILITY_S_MAX: u64 = 43_200;

#[async_trait]
impl MessagesApi for Queues {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn send_message(&self, cx: &Context, input: SendMessageRequest) -> Result<SendMessageResult, Error> {
        self.send_one(cx, input).await
    }

    async fn send_message_batch(
        &self,
        cx: &Context,
        input: SendMessageBatchRequest,
    ) -> Result<SendMessageBatchResult, Error> {
        self.send_batch(cx, input).await
    }

    async fn receive_message(&self, cx: &Context, input: ReceiveMessageRequest) -> Result<ReceiveMessageResult, Error> {
        self.receive(cx, input).await
    }

    async fn delete_message(&self, cx: &Context, input: DeleteMessageRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "DeleteMessage")?;
        let handle = given(input.receipt_handle, "ReceiptHandle")?;
        let receipt = handle::read(&live.queue, &handle)?;
        self.delete(&live, vec![(handle, receipt)]).await?.remove(0)
    }

    async fn delete_message_batch(
        &self,
        cx: &Context,
        input: DeleteMessageBatchRequest,
    ) -> Result<DeleteMessageBatchResult, Error> {
        let live = self.asked(cx, input.queue_url, "DeleteMessage")?;
        let entries = input.entries.unwrap_or_default();
        check_batch("DeleteMessageBatchRequestEntry", entries.iter().map(|entry| entry.id.as_deref()))?;
        let (mut ids, mut receipts) = (Vec::new(), Vec::new());
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = entry.id.unwrap_or_default();
            let handle = given(entry.receipt_handle, "ReceiptHandle");
            match handle.and_then(|handle| Ok((handle.clone(), handle::read(&live.queue, &handle)?))) {
                Ok(receipt) => {
                    ids.push(id);
                    receipts.push(receipt);
                }
                Err(error) => failed.push(failure(id, &error)),
            }
        }
        for (id, deleted) in ids.into_iter().zip(self.delete(&live, receipts).await?) {
            match deleted {
                Ok(()) => successful.push(DeleteMessageBatchResultEntry { id: Some(id) }),
                Err(error) => failed.push(failure(id, &error)),
            }
        }
        Ok(DeleteMessageBatchResult { successful: Some(successful), failed: Some(failed) })
    }

    async fn change_message_visibility(
        &self,
        cx: &Context,
        input: ChangeMessageVisibilityRequest,
    ) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "ChangeMessageVisibility")?;
        let hold = hold(&live, input.receipt_handle, input.visibility_timeout)?;
        self.hold(&live, vec![hold]).await?.remove(0)
    }

    async fn change_message_visibility_batch(
        &self,
        cx: &Context,
        input: ChangeMessageVisibilityBatchRequest,
    ) -> Result<ChangeMessageVisibilityBatchResult, Error> {
        let live = self.asked(cx, input.queue_url, "ChangeMessageVisibility")?;
        let entries = input.entries.unwrap_or_default();
        check_batch("ChangeMessageVisibilityBatchRequestEntry", entries.iter().map(|entry| entry.id.as_deref()))?;
        let (mut ids, mut holds) = (Vec::new(), Vec::new());
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = entry.id.unwrap_or_default();
            match hold(&live, entry.receipt_handle, entry.visibility_timeout) {
                Ok(hold) => {
                    ids.push(id);
                    holds.push(hold);
                }
                Err(error) => failed.push(failure(id, &error)),
            }
        }
        for (id, held) in ids.into_iter().zip(self.hold(&live, holds).await?) {
            match held {
                Ok(()) => successful.push(ChangeMessageVisibilityBatchResultEntry { id: Some(id) }),
                Err(error) => failed.push(failure(id, &error)),
            }
        }
        Ok(ChangeMessageVisibilityBatchResult { successful: Some(successful), failed: Some(failed) })
    }

    async fn purge_queue(&self, cx: &Context, input: PurgeQueueRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "PurgeQueue")?;
        let now = self.now();
        {
            let _turn = self.inner.turn.lock().await;
            let mut record = live.kept().record.clone();
            if record.purged.is_some_and(|purged| now < purged + PURGE_MS) {
                return Err(purge_queue_in_progress(format!(
                    "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                    live.place.name
                )));
            }
            record.purged = Some(now);
            self.keep(&live, record).await?;
        }
        self.clear(&live, now + 1).await;
        Ok(())
    }
}

/// A message that is to be due in so many seconds.
pub(crate) struct Hold {
    handle: String,
    receipt: Receipt,
    seconds: u64,
}

impl Hold {
    /// For whoever comes next.
    pub fn released(live: &Live, handle: &str) -> Result<Self, Error> {
        Ok(Hold { handle: handle.to_owned(), receipt: handle::read(&live.queue, handle)?, seconds: 0 })
    }
}

fn hold(live: &Live, handle: Option<String>, seconds: Option<i64>) -> Result<Hold, Error> {
    let handle = given(handle, "ReceiptHandle")?;
    let seconds = seconds.ok_or_else(|| missing("VisibilityTimeout"))?;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds <= VISIBILITY_S_MAX).ok_or_else(|| {
        invalid_value(seconds, "VisibilityTimeout", "VisibilityTimeout must be an integer between 0 and 43200")
    })?;
    let receipt = handle::read(&live.queue, &handle)?;
    Ok(Hold { handle, receipt, seconds })
}

impl Queues {
    /// Whoever received a message last may delete it; a standard queue does not say so to others.
    pub(crate) async fn delete(
        &self,
        live: &Arc<Live>,
        receipts: Vec<(String, Receipt)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let now = self.now();
        let changes = |receipt: &Receipt| match live.is_fifo {
            true => vec![Change::Hold { receipt: receipt.clone(), now, due: now + 1 }, Change::Delete(receipt.clone())],
            false => vec![Change::Delete(receipt.clone())],
        };
        let parts = receipts.iter().map(|(_, receipt)| (receipt.id.clone(), changes(receipt))).collect();
        let mut answers = Vec::with_capacity(receipts.len());
        let outcomes = self.each(parts).await?;
        let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count();
        subtract(live, done);
        for ((handle, receipt), outcome) in receipts.into_iter().zip(outcomes) {
            let is_kept = outcome == Outcome::Stale && live.is_fifo && self.is_there(&receipt).await?;
            answers.push(if is_kept { Err(too_late(&handle)) } else { Ok(()) });
        }
        if live.is_fifo {
            // A line may have opened.
            live.wake(done);
        }
        Ok(answers)
    }

    pub(crate) async fn hold(&self, live: &Arc<Live>, holds: Vec<Hold>) -> Result<Vec<Result<(), Error>>, Error> {
        let now = self.now();
        let parts = holds.iter().map(|hold| {
            let change = Change::Hold { receipt: hold.receipt.clone(), now, due: now + hold.seconds * 1000 };
            (hold.receipt.id.clone(), vec![change])
        });
        let outcomes = self.each(parts.collect()).await?;
        let mut answers = Vec::with_capacity(holds.len());
        for (hold, outcome) in holds.into_iter().zip(outcomes) {
            answers.push(match outcome {
                Outcome::Stale if self.is_there(&hold.receipt).await? => {
                    Err(message_not_inflight("The message referred to is not in flight."))
                }
                Outcome::Stale => {
                    let shown: String = hold.handle.chars().take(200).collect();
                    let reason = "Message does not exist or is not available for visibility timeout change.";
                    Err(invalid_value(shown, "ReceiptHandle", reason))
                }
                _ => Ok(()),
            });
        }
        // Whoever waits must know of the new moment.
        live.wake(answers.len());
        Ok(answers)
    }

    async fn is_there(&self, receipt: &Receipt) -> Result<bool, Error> {
        let found = self.inner.ports.messages.find(KIND, receipt.id.clone()).await.map_err(unstored)?;
        Ok(found.is_some_and(|(message, _)| message.queue == receipt.queue))
    }
}

fn subtract(live: &Live, count: usize) {
    let less = |held: u64| Some(held.saturating_sub(count as u64));
    // It always answers a number.
    let _ = live.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}
