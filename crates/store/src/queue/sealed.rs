//! Queues whose messages nobody reads without the key of their account: an engine around another one. Names, ids and
//! moments stay open, for they are what is looked up.

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::BoxFuture;

use super::{
    Census, Change, Counts, Look, Message, Ms, NewMessage, Queue, QueueError, QueueName, Receipt, Take, Taken,
};
use crate::RecordsError;
use crate::keys::Keyring;
use crate::sealed::account;

pub struct SealedQueue {
    inner: Arc<dyn Queue>,
    keys: Arc<Keyring>,
}

impl From<RecordsError> for QueueError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::Full => QueueError::Full,
            other => QueueError::Engine(other.to_string().into()),
        }
    }
}

impl SealedQueue {
    pub fn new(inner: Arc<dyn Queue>, keys: Arc<Keyring>) -> Self {
        SealedQueue { inner, keys }
    }

    async fn seal(&self, queue: &QueueName, id: &str, part: &str, plain: &[u8]) -> Result<Bytes, QueueError> {
        Ok(self.keys.of(account(&queue.partition)).await?.seal(&place(queue, id, part), plain).into())
    }

    async fn open(&self, queue: &QueueName, id: &str, part: &str, sealed: &[u8]) -> Result<Bytes, QueueError> {
        let opened = self.keys.of(account(&queue.partition)).await?.open(&place(queue, id, part), sealed);
        opened.ok_or_else(|| QueueError::Engine(format!("the message {id} is damaged").into()))
    }

    async fn open_message(&self, mut message: Message) -> Result<Message, QueueError> {
        message.note = self.open(&message.queue, &message.id, NOTE, &message.note).await?;
        message.size = message.size.saturating_sub(crate::keys::SEALING as u64);
        Ok(message)
    }

    async fn open_whole(&self, (message, body): (Message, Bytes)) -> Result<(Message, Bytes), QueueError> {
        let body = self.open(&message.queue, &message.id, BODY, &body).await?;
        Ok((self.open_message(message).await?, body))
    }

    async fn sealed_message(&self, message: NewMessage) -> Result<NewMessage, QueueError> {
        let note = self.seal(&message.queue, &message.id, NOTE, &message.note).await?;
        let body = self.seal(&message.queue, &message.id, BODY, &message.body).await?;
        Ok(NewMessage { note, body, ..message })
    }

    async fn opened(&self, Taken { messages, next }: Taken) -> Result<Taken, QueueError> {
        let mut opened = Vec::with_capacity(messages.len());
        for message in messages {
            opened.push(self.open_whole(message).await?);
        }
        Ok(Taken { messages: opened, next })
    }

    async fn sealed(&self, change: Change) -> Result<Change, QueueError> {
        let note_of = async |receipt: &Receipt, note: &[u8]| self.seal(&receipt.queue, &receipt.id, NOTE, note).await;
        Ok(match change {
            Change::Send(message) => Change::Send(self.sealed_message(message).await?),
            Change::SendInLine { message, line, once } => {
                Change::SendInLine { message: self.sealed_message(message).await?, line, once }
            }
            Change::Return { note, receipt, due } => {
                Change::Return { note: note_of(&receipt, &note).await?, receipt, due }
            }
            Change::Rewrite { receipt, body } => {
                Change::Rewrite { body: self.seal(&receipt.queue, &receipt.id, BODY, &body).await?, receipt }
            }
            Change::Rest { note, receipt, state } => {
                Change::Rest { note: note_of(&receipt, &note).await?, receipt, state }
            }
            other @ (Change::Hold { .. } | Change::Delete(_) | Change::Tally { .. }) => other,
        })
    }
}

const NOTE: &str = "note";
const BODY: &str = "body";

/// What is moved to another message is not that message's.
fn place(queue: &QueueName, id: &str, part: &str) -> Vec<u8> {
    [&queue.partition, queue.kind, &queue.name, id, part].join("\0").into_bytes()
}

impl Queue for SealedQueue {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move {
            let mut sealed = Vec::with_capacity(changes.len());
            for change in changes {
                sealed.push(self.sealed(change).await?);
            }
            self.inner.commit(sealed).await
        })
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>> {
        Box::pin(async move { self.opened(self.inner.take(take).await?).await })
    }

    fn take_in_line(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>> {
        Box::pin(async move { self.opened(self.inner.take_in_line(take).await?).await })
    }

    fn counts(&self, queue: QueueName, now: Ms) -> BoxFuture<'_, Result<Counts, QueueError>> {
        self.inner.counts(queue, now)
    }

    fn clear(&self, queue: QueueName, before: Ms, limit: usize) -> BoxFuture<'_, Result<usize, QueueError>> {
        self.inner.clear(queue, before, limit)
    }

    fn recover(&self, kind: &'static str, due: Ms) -> BoxFuture<'_, Result<u64, QueueError>> {
        self.inner.recover(kind, due)
    }

    fn queues(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<(QueueName, Ms)>, QueueError>> {
        self.inner.queues(kind)
    }

    fn find(&self, kind: &'static str, id: String) -> BoxFuture<'_, Result<Option<(Message, Bytes)>, QueueError>> {
        Box::pin(async move {
            match self.inner.find(kind, id).await? {
                Some(found) => self.open_whole(found).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn look(&self, look: Look) -> BoxFuture<'_, Result<Vec<Message>, QueueError>> {
        Box::pin(async move {
            let found = self.inner.look(look).await?;
            let mut opened = Vec::with_capacity(found.len());
            for message in found {
                opened.push(self.open_message(message).await?);
            }
            Ok(opened)
        })
    }

    fn census(&self, kind: &'static str) -> BoxFuture<'_, Result<Census, QueueError>> {
        self.inner.census(kind)
    }

    fn sweep(
        &self,
        kind: &'static str,
        before: Ms,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Option<u64>, QueueError>> {
        self.inner.sweep(kind, before, after, limit)
    }
}
