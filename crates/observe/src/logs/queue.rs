//! What waits for the writer: bounded in bytes, numbered, and shown to followers in the same order.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_model::{LogEvent, LogGroup, LogStreamName};
use tokio::sync::oneshot;

use super::follow::Followers;
use super::{Follower, LogsError, Stored};

/// Bytes that may wait, and as many again while the writer writes.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an event costs beside its text.
const EVENT_COST: usize = 128;
/// Streams whose drops are counted one by one.
const DROPPED_MAX: usize = 1024;
/// How long the writer waits for more before it writes, so that a busy host writes in groups.
const LINGER: Duration = Duration::from_millis(50);

pub(super) struct Queue {
    state: Mutex<State>,
    /// Something came to an empty queue, the queue is half full, somebody waits for a flush, or it was closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    bytes: usize,
    followers: Followers,
    waiting: Taken,
    closed: bool,
}

/// Events of one stream with the number of the first; the others follow it.
pub(super) struct Batch {
    pub group: LogGroup,
    pub stream: LogStreamName,
    pub first: u64,
    pub events: Vec<LogEvent>,
}

/// What the writer has to do next.
#[derive(Default)]
pub(super) struct Taken {
    pub batches: Vec<Batch>,
    /// Events that are missing from a stream.
    pub dropped: HashMap<(LogGroup, LogStreamName), u64>,
    /// Events missing from streams beyond those.
    pub dropped_elsewhere: u64,
    /// Told, by being dropped, when all this is on disk.
    pub flushes: Vec<oneshot::Sender<()>>,
}

impl Taken {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.dropped.is_empty() && self.dropped_elsewhere == 0 && self.flushes.is_empty()
    }

    fn drop_events(&mut self, group: &LogGroup, stream: &LogStreamName, count: u64) {
        let key = (group.clone(), stream.clone());
        if self.dropped.len() < DROPPED_MAX || self.dropped.contains_key(&key) {
            *self.dropped.entry(key).or_default() += count;
        } else {
            self.dropped_elsewhere += count;
        }
    }
}

impl Queue {
    pub fn new(next: u64) -> Self {
        Queue { state: Mutex::new(State { next, ..State::default() }), changed: Condvar::new() }
    }

    pub fn push(&self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) {
        if events.is_empty() {
            return;
        }
        let cost: usize = events.iter().map(|event| event.message.len() + EVENT_COST).sum();
        let mut state = self.state();
        if state.closed {
            return;
        }
        let batch = state.number(group, stream, events);
        let wake = state.waiting.is_empty() || state.bytes < BYTES_MAX / 2 && state.bytes + cost >= BYTES_MAX / 2;
        if state.bytes + cost > BYTES_MAX {
            state.waiting.drop_events(group, stream, batch.events.len() as u64);
        } else {
            state.bytes += cost;
            state.waiting.batches.push(batch);
        }
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    /// A batch that the writer adds itself.
    pub fn number(&self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) -> Batch {
        self.state().number(group, stream, events)
    }

    /// Ends (with an error, which means nothing) when what is queued now has been written. None when nothing is.
    pub fn flush(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        let (done, flushed) = oneshot::channel();
        state.waiting.flushes.push(done);
        drop(state);
        self.changed.notify_one();
        Some(flushed)
    }

    pub fn follow(&self, group: &LogGroup) -> Result<Follower, LogsError> {
        self.state().followers.follow(group)
    }

    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.followers = Followers::default();
        drop(state);
        self.changed.notify_one();
    }

    /// Everything that waits; nothing when `idle` has passed without any. None when closed and empty.
    pub fn take(&self, idle: Duration) -> Option<Taken> {
        let state = self.state();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, idle, |state| state.waiting.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let nothing = state.waiting.is_empty();
        if nothing {
            return (!state.closed).then(Taken::default);
        }
        let linger =
            |state: &mut State| !state.closed && state.waiting.flushes.is_empty() && state.bytes < BYTES_MAX / 2;
        let (mut state, _) =
            self.changed.wait_timeout_while(state, LINGER, linger).unwrap_or_else(PoisonError::into_inner);
        state.bytes = 0;
        Some(std::mem::take(&mut state.waiting))
    }

    /// What could not be written: its events count as dropped.
    pub fn give_back(&self, lost: Taken) {
        let mut state = self.state();
        for batch in &lost.batches {
            state.waiting.drop_events(&batch.group, &batch.stream, batch.events.len() as u64);
        }
        for ((group, stream), count) in &lost.dropped {
            state.waiting.drop_events(group, stream, *count);
        }
        state.waiting.dropped_elsewhere += lost.dropped_elsewhere;
    }

    /// Waits, unless the queue is closed.
    pub fn pause(&self, pause: Duration) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.closed);
        drop(waited);
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) -> Batch {
        let batch = Batch { group: group.clone(), stream: stream.clone(), first: self.next, events };
        self.next += batch.events.len() as u64;
        self.followers.tell(&batch);
        batch
    }
}

impl Batch {
    pub fn stored(&self) -> impl Iterator<Item = Stored> + '_ {
        let stream: std::sync::Arc<str> = self.stream.as_str().into();
        (self.first..).zip(&self.events).map(move |(number, event)| Stored {
            number,
            at: event.at,
            stream: stream.clone(),
            message: event.message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::tests::{group, stream};
    use super::*;

    fn events(count: usize, size: usize) -> Vec<LogEvent> {
        (0..count).map(|_| LogEvent { at: SystemTime::UNIX_EPOCH, message: vec![b'x'; size].into() }).collect()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_for_its_stream() {
        let queue = Queue::new(1);
        queue.push(&group("/a"), &stream(), events(1, BYTES_MAX / 2));
        queue.push(&group("/b"), &stream(), events(3, BYTES_MAX / 5));
        queue.push(&group("/a"), &stream(), events(2, 10));
        let taken = queue.take(Duration::ZERO).unwrap();
        let numbers: Vec<_> = taken.batches.iter().map(|batch| (batch.first, batch.events.len())).collect();
        assert_eq!(numbers, [(1, 1), (5, 2)]);
        assert_eq!(taken.dropped, HashMap::from([((group("/b"), stream()), 3)]));
        queue.push(&group("/b"), &stream(), events(3, BYTES_MAX / 5));
        assert!(queue.take(Duration::ZERO).unwrap().dropped.is_empty(), "there is room again");
    }

    #[test]
    fn drops_of_very_many_streams_are_counted_together() {
        let queue = Queue::new(1);
        queue.push(&group("/a"), &stream(), events(1, BYTES_MAX - EVENT_COST));
        for i in 0..DROPPED_MAX + 5 {
            queue.push(&group(&format!("/{i}")), &stream(), events(1, 1));
        }
        let taken = queue.take(Duration::ZERO).unwrap();
        assert_eq!((taken.dropped.len(), taken.dropped_elsewhere), (DROPPED_MAX, 5));
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_ends() {
        let queue = Queue::new(1);
        queue.push(&group("/a"), &stream(), events(1, 1));
        queue.close();
        queue.push(&group("/a"), &stream(), events(1, 1));
        assert_eq!(queue.take(Duration::ZERO).unwrap().batches.len(), 1);
        assert!(queue.take(Duration::ZERO).is_none());
    }
}
