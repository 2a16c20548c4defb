//! Queues without a disk, for tests and simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hearth_model::BoxFuture;

use super::{
    Census, Change, Counts, LOOKED_AT_MAX, Look, Message, Ms, NEVER, NewMessage, Once, Queue, QueueError, QueueName,
    Receipt, State, Take, Taken, Which,
};

#[derive(Clone, Default)]
pub struct MemoryQueue {
    all: Arc<Mutex<All>>,
}

#[derive(Clone, Default)]
struct All {
    last: u64,
    /// By number.
    messages: BTreeMap<u64, (Message, Bytes)>,
    tallies: BTreeMap<(&'static str, String), u64>,
    /// Until when a key is taken, by which message.
    once: BTreeMap<(QueueName, String), (Ms, String, u64)>,
}

impl MemoryQueue {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn apply(&mut self, change: Change) -> Result<(), QueueError> {
        match change {
            Change::Send(message) => self.send(message, None)?,
            Change::SendInLine { message, line, once } => {
                if let Some(once) = once {
                    self.once(&message, once)?;
                }
                self.send(message, Some(line))?;
            }
            Change::Hold { receipt, now, due } => {
                let message = self.held(&receipt)?;
                if message.due().is_none_or(|due| due <= now) {
                    return Err(QueueError::Stale(receipt.id));
                }
                message.state = State::Taken(due);
            }
            Change::Return { receipt, due, note } => {
                let message = self.held(&receipt)?;
                (message.state, message.note) = (State::Waiting(due), note);
            }
            Change::Rewrite { receipt, body } => {
                let message = self.held(&receipt)?;
                message.size = body.len() as u64;
                let number = message.number;
                if let Some((_, former)) = self.messages.get_mut(&number) {
                    *former = body;
                }
            }
            Change::Rest { receipt, state, note } => {
                let message = self.held(&receipt)?;
                (message.state, message.note) = (State::Resting(state.to_owned()), note);
            }
            Change::Delete(receipt) => {
                let number = self.held(&receipt)?.number;
                self.messages.remove(&number);
            }
            Change::Tally { kind, name, by } => *self.tallies.entry((kind, name)).or_default() += by,
        }
        Ok(())
    }

    fn send(&mut self, message: NewMessage, line: Option<String>) -> Result<(), QueueError> {
        let NewMessage { queue, id, sent, due, note, body } = message;
        if self.messages.values().any(|(message, _)| message.id == id) {
            return Err(QueueError::Duplicate(id));
        }
        self.last += 1;
        let (queue, state, size) = (Arc::new(queue), State::Waiting(due), body.len() as u64);
        let message = Message { queue, id, number: self.last, sent, state, turns: 0, first: None, line, note, size };
        self.messages.insert(self.last, (message, body));
        Ok(())
    }

    fn once(&mut self, message: &NewMessage, once: Once) -> Result<(), QueueError> {
        let key = (message.queue.clone(), once.key);
        if let Some((until, first, number)) = self.once.get(&key)
            && *until > once.now
        {
            let (id, first) = (message.id.clone(), first.clone());
            return Err(QueueError::Repeated { id, first, number: *number });
        }
        self.once.insert(key, (once.until, message.id.clone(), self.last + 1));
        Ok(())
    }

    fn held(&mut self, receipt: &Receipt) -> Result<&mut Message, QueueError> {
        let held = |message: &Message| {
            message.id == receipt.id && message.turns == receipt.turn && matches!(message.state, State::Taken(_))
        };
        let found = self.messages.values_mut().map(|(message, _)| message).find(|message| held(message));
        found.ok_or_else(|| QueueError::Stale(receipt.id.clone()))
    }

    fn take(&mut self, take: &Take) -> Taken {
        let of_queue = |message: &&mut (Message, Bytes)| message.0.queue == take.queue;
        let mut due: Vec<&mut (Message, Bytes)> = self.messages.values_mut().filter(of_queue).collect();
        due.retain(|(message, _)| message.due().is_some_and(|due| due <= take.now));
        due.sort_by_key(|(message, _)| (message.due(), message.number));
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for (message, body) in due.into_iter().take(take.limit) {
            bytes += message.size;
            if !messages.is_empty() && bytes > take.bytes_max {
                break;
            }
            taking(message, take);
            messages.push((message.clone(), body.clone()));
        }
        let left = self.messages.values().filter(|(message, _)| message.queue == take.queue);
        let next = left.filter_map(|(message, _)| message.due()).min().filter(|next| *next < NEVER);
        Taken { messages, next }
    }

    fn take_in_line(&mut self, take: &Take) -> Taken {
        let held = |message: &Message| matches!(message.state, State::Taken(until) if until > take.now);
        let of_queue = |message: &&Message| message.queue == take.queue;
        let mut closed: BTreeSet<Option<String>> = BTreeSet::new();
        let all = self.messages.values().map(|(message, _)| message).filter(of_queue);
        closed.extend(all.filter(|message| held(message)).map(|message| message.line.clone()));
        let (mut messages, mut bytes, mut next) = (Vec::new(), 0, None);
        let lines = self.messages.values_mut().filter(|(message, _)| message.queue == take.queue);
        for (message, body) in lines.filter(|(message, _)| message.due().is_some()).take(LOOKED_AT_MAX) {
            let due = message.due().unwrap_or_default();
            if due > take.now {
                next = Some(next.map_or(due, |next: Ms| next.min(due)));
                closed.insert(message.line.clone());
            } else if !closed.contains(&message.line) {
                bytes += message.size;
                if messages.len() == take.limit || (!messages.is_empty() && bytes > take.bytes_max) {
                    next = Some(due);
                    break;
                }
                taking(message, take);
                messages.push((message.clone(), body.clone()));
            }
        }
        Taken { messages, next: next.filter(|next| *next < NEVER) }
    }

    fn of_kind(&self, kind: &'static str) -> impl DoubleEndedIterator<Item = &(Message, Bytes)> {
        self.messages.values().filter(move |(message, _)| message.queue.kind == kind)
    }
}

fn taking(message: &mut Message, take: &Take) {
    (message.state, message.turns) = (State::Taken(take.until), message.turns + 1);
    message.first = message.first.or(Some(take.now));
}

impl Look {
    fn shows(&self, message: &Message) -> bool {
        let state = match (&self.state, &message.state) {
            (None, _) | (Some(Which::Waiting), State::Waiting(_)) | (Some(Which::Taken), State::Taken(_)) => true,
            (Some(Which::Resting(wanted)), State::Resting(state)) => wanted == state,
            _ => false,
        };
        state
            && self.partition.as_ref().is_none_or(|partition| *partition == message.queue.partition)
            && self.name.as_ref().is_none_or(|name| *name == message.queue.name)
            && (self.since..self.until).contains(&message.sent)
            && message.number < self.below
    }
}

impl Queue for MemoryQueue {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move {
            let mut all = self.all();
            let mut next = all.clone();
            changes.into_iter().try_for_each(|change| next.apply(change))?;
            *all = next;
            Ok(())
        })
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>> {
        Box::pin(async move { Ok(self.all().take(&take)) })
    }

    fn take_in_line(&self, take: Take) -> BoxFuture<'_, Result<Taken, QueueError>> {
        Box::pin(async move { Ok(self.all().take_in_line(&take)) })
    }

    fn counts(&self, queue: QueueName, now: Ms) -> BoxFuture<'_, Result<Counts, QueueError>> {
        Box::pin(async move {
            let mut counts = Counts::default();
            let all = self.all();
            for (message, _) in all.messages.values().filter(|(message, _)| *message.queue == queue) {
                match message.state {
                    State::Waiting(due) | State::Taken(due) if due <= now => counts.due += 1,
                    State::Waiting(_) => counts.delayed += 1,
                    State::Taken(_) => counts.held += 1,
                    State::Resting(_) => {}
                }
            }
            Ok(counts)
        })
    }

    fn clear(&self, queue: QueueName, before: Ms, limit: usize) -> BoxFuture<'_, Result<usize, QueueError>> {
        Box::pin(async move {
            let mut all = self.all();
            let live = |message: &Message| *message.queue == queue && message.due().is_some();
            let oldest = all.messages.values().map(|(message, _)| message).filter(|message| live(message)).take(limit);
            let old: Vec<u64> = oldest.filter(|message| message.sent < before).map(|message| message.number).collect();
            for number in &old {
                all.messages.remove(number);
            }
            Ok(old.len())
        })
    }

    fn recover(&self, kind: &'static str, due: Ms) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(async move {
            let mut recovered = 0;
            for (message, _) in self.all().messages.values_mut() {
                if message.queue.kind == kind && matches!(message.state, State::Taken(_)) {
                    message.state = State::Waiting(due);
                    recovered += 1;
                }
            }
            Ok(recovered)
        })
    }

    fn queues(&self, kind: &'static str) -> BoxFuture<'_, Result<Vec<(QueueName, Ms)>, QueueError>> {
        Box::pin(async move {
            let mut queues: BTreeMap<QueueName, Ms> = BTreeMap::new();
            for (message, _) in self.all().of_kind(kind) {
                if let Some(due) = message.due().filter(|due| *due < NEVER) {
                    let first = queues.entry((*message.queue).clone()).or_insert(due);
                    *first = due.min(*first);
                }
            }
            Ok(queues.into_iter().collect())
        })
    }

    fn find(&self, kind: &'static str, id: String) -> BoxFuture<'_, Result<Option<(Message, Bytes)>, QueueError>> {
        Box::pin(async move { Ok(self.all().of_kind(kind).find(|(message, _)| message.id == id).cloned()) })
    }

    fn look(&self, look: Look) -> BoxFuture<'_, Result<Vec<Message>, QueueError>> {
        Box::pin(async move {
            let all = self.all();
            let shown = all.of_kind(look.kind).rev().map(|(message, _)| message).filter(|message| look.shows(message));
            Ok(shown.take(look.limit).cloned().collect())
        })
    }

    fn census(&self, kind: &'static str) -> BoxFuture<'_, Result<Census, QueueError>> {
        Box::pin(async move {
            let all = self.all();
            let mut census = Census::default();
            for (message, _) in all.of_kind(kind) {
                match message.state {
                    State::Waiting(_) => census.waiting += 1,
                    State::Taken(_) => census.taken += 1,
                    State::Resting(_) => {}
                }
            }
            let tallies = all.tallies.iter().filter(|((of, _), _)| *of == kind);
            census.tallies = tallies.map(|((_, name), n)| (name.clone(), *n)).collect();
            Ok(census)
        })
    }

    fn sweep(
        &self,
        kind: &'static str,
        before: Ms,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Option<u64>, QueueError>> {
        Box::pin(async move {
            let mut all = self.all();
            let seen: Vec<Message> =
                all.messages.range(after + 1..).take(limit).map(|(_, (message, _))| message.clone()).collect();
            let old = |message: &&Message| message.sent < before;
            for message in seen.iter().filter(old) {
                if message.queue.kind == kind && matches!(message.state, State::Resting(_)) {
                    all.messages.remove(&message.number);
                }
            }
            let older_may_follow = seen.len() == limit && seen.iter().any(|message| old(&message));
            Ok(seen.last().filter(|_| older_may_follow).map(|message| message.number))
        })
    }
}
