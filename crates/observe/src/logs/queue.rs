//! What waits for the writer: bounded in bytes, numbered, and shown to followers in the same order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hearth_model::{Clock, LogEvent, LogGroup, LogStreamName};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::follow::Followers;
use super::{Follower, LogsError, Stored};

/// Bytes that may wait, and as many again while the writer writes.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an event costs beside its text.
const EVENT_COST: usize = 128;
/// Streams whose drops are counted one by one.
const DROPPED_MAX: usize = 1024;
/// How long the writer waits for more before it writes, so that lines of a busy host share blocks. A killed server loses
/// no more than this and what the write itself takes.
const LINGER: Duration = Duration::from_millis(200);
/// Changes of groups and streams that may wait.
const JOBS_MAX: usize = 1024;

/// A change of the catalogue. What was appended before it is written before it.
pub(super) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

pub(super) struct Queue {
    clock: Arc<dyn Clock>,
    dropped: Dropped,
    state: Mutex<State>,
    /// Something came to an empty queue, the queue is half full, somebody waits for a flush, or it was closed.
    changed: Condvar,
}

/// All that was ever dropped.
#[derive(Default)]
struct Dropped {
    events: AtomicU64,
    bytes: AtomicU64,
}

/// What is missing from a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub events: u64,
    pub bytes: u64,
}

impl Missing {
    fn of(events: &[LogEvent]) -> Self {
        Missing { events: events.len() as u64, bytes: events.iter().map(|event| event.message.len() as u64).sum() }
    }

    fn add(&mut self, other: Missing) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
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
    /// When they were appended.
    pub ingested: SystemTime,
    pub events: Vec<LogEvent>,
}

/// What the writer has to do next.
#[derive(Default)]
pub(super) struct Taken {
    pub batches: Vec<Batch>,
    /// What is missing from a stream.
    pub dropped: HashMap<(LogGroup, LogStreamName), Missing>,
    /// What is missing from streams beyond those.
    pub dropped_elsewhere: Missing,
    /// Told when all this is on disk; dropped when it could not be written.
    pub flushes: Vec<oneshot::Sender<()>>,
    pub jobs: Vec<Job>,
}

impl Taken {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.dropped.is_empty()
            && self.dropped_elsewhere == Missing::default()
            && self.flushes.is_empty()
            && self.jobs.is_empty()
    }

    fn drop_events(&mut self, group: &LogGroup, stream: &LogStreamName, missing: Missing) {
        let key = (group.clone(), stream.clone());
        if self.dropped.len() < DROPPED_MAX || self.dropped.contains_key(&key) {
            self.dropped.entry(key).or_default().add(missing);
        } else {
            self.dropped_elsewhere.add(missing);
        }
    }
}

impl Queue {
    /// The first event's number is `next`.
    pub fn new(next: u64, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State { next, ..State::default() });
        Queue { clock, dropped: Dropped::default(), state, changed: Condvar::new() }
    }

    /// Whether they were taken: else they count as dropped.
    pub fn push(&self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) -> bool {
        if events.is_empty() {
            return true;
        }
        let ingested = self.clock.wall();
        let cost: usize = events.iter().map(|event| event.message.len() + EVENT_COST).sum();
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let fits = state.bytes + cost <= BYTES_MAX;
        let batch = state.number(group, stream, ingested, events);
        let wake = state.waiting.is_empty() || state.bytes < BYTES_MAX / 2 && state.bytes + cost >= BYTES_MAX / 2;
        if fits {
            state.bytes += cost;
            state.waiting.batches.push(batch);
        } else {
            let missing = Missing::of(&batch.events);
            state.waiting.drop_events(group, stream, missing);
            self.count(missing);
        }
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        fits
    }

    fn count(&self, missing: Missing) {
        self.dropped.events.fetch_add(missing.events, Ordering::Relaxed);
        self.dropped.bytes.fetch_add(missing.bytes, Ordering::Relaxed);
    }

    /// Of all logs, since the start.
    pub fn dropped(&self) -> Missing {
        Missing {
            events: self.dropped.events.load(Ordering::Relaxed),
            bytes: self.dropped.bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether there was room.
    pub fn ask(&self, job: Job) -> bool {
        let mut state = self.state();
        if state.closed || state.waiting.jobs.len() >= JOBS_MAX {
            return false;
        }
        state.waiting.jobs.push(job);
        drop(state);
        self.changed.notify_one();
        true
    }

    /// A batch that the writer adds itself.
    pub fn number(&self, group: &LogGroup, stream: &LogStreamName, events: Vec<LogEvent>) -> Batch {
        let ingested = self.clock.wall();
        self.state().number(group, stream, ingested, events)
    }

    /// The number before that of the next event.
    pub fn last_number(&self) -> u64 {
        self.state().next - 1
    }

    /// Ready when what is queued now has been written, with an error when it could not be. None when closed.
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
        let linger = |state: &mut State| {
            let hurried = state.closed || !state.waiting.flushes.is_empty() || !state.waiting.jobs.is_empty();
            !hurried && state.bytes < BYTES_MAX / 2
        };
        let (mut state, _) =
            self.changed.wait_timeout_while(state, LINGER, linger).unwrap_or_else(PoisonError::into_inner);
        state.bytes = 0;
        Some(std::mem::take(&mut state.waiting))
    }

    /// What could not be written: its events count as dropped.
    pub fn give_back(&self, lost: Taken) {
        let mut state = self.state();
        for batch in &lost.batches {
            let missing = Missing::of(&batch.events);
            state.waiting.drop_events(&batch.group, &batch.stream, missing);
            self.count(missing);
        }
        for ((group, stream), missing) in &lost.dropped {
            state.waiting.drop_events(group, stream, *missing);
        }
        state.waiting.dropped_elsewhere.add(lost.dropped_elsewhere);
    }

    /// Waits, unless the queue is closed.
    pub fn pause(&self, pause: Duration) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.closed);
        drop(waited);
    }

    /// Whether there is room for what is in no hurry: others leave half.
    pub fn has_room(&self) -> bool {
        self.state().bytes < BYTES_MAX / 2
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(
        &mut self,
        group: &LogGroup,
        stream: &LogStreamName,
        ingested: SystemTime,
        events: Vec<LogEvent>,
    ) -> Batch {
        let batch = Batch { group: group.clone(), stream: stream.clone(), first: self.next, ingested, events };
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
            ingested: self.ingested,
            stream: stream.clone(),
            message: event.message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use hearth_model::SystemClock;

    use super::super::tests::{group, stream};
    use super::*;

    fn queue() -> Queue {
        Queue::new(1, Arc::new(SystemClock))
    }

    fn events(count: usize, size: usize) -> Vec<LogEvent> {
        (0..count).map(|_| LogEvent { at: SystemTime::UNIX_EPOCH, message: vec![b'x'; size].into() }).collect()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_for_its_stream() {
        let queue = queue();
        queue.push(&group("/a"), &stream(), events(1, BYTES_MAX / 2));
        queue.push(&group("/b"), &stream(), events(3, BYTES_MAX / 5));
        queue.push(&group("/a"), &stream(), events(2, 10));
        let taken = queue.take(Duration::ZERO).unwrap();
        let numbers: Vec<_> = taken.batches.iter().map(|batch| (batch.first, batch.events.len())).collect();
        assert_eq!(numbers, [(1, 1), (5, 2)]);
        assert_eq!(
            taken.dropped,
            HashMap::from([((group("/b"), stream()), Missing { events: 3, bytes: 3 * (BYTES_MAX / 5) as u64 })])
        );
        queue.push(&group("/b"), &stream(), events(3, BYTES_MAX / 5));
        assert!(queue.take(Duration::ZERO).unwrap().dropped.is_empty(), "there is room again");
    }

    #[test]
    fn drops_of_very_many_streams_are_counted_together() {
        let queue = queue();
        queue.push(&group("/a"), &stream(), events(1, BYTES_MAX - EVENT_COST));
        for i in 0..DROPPED_MAX + 5 {
            queue.push(&group(&format!("/{i}")), &stream(), events(1, 1));
        }
        let taken = queue.take(Duration::ZERO).unwrap();
        assert_eq!((taken.dropped.len(), taken.dropped_elsewhere.events), (DROPPED_MAX, 5));
    }

    #[test]
    fn a_closed_queue_gives_what_it_has_and_ends() {
        let queue = queue();
        queue.push(&group("/a"), &stream(), events(1, 1));
        queue.close();
        queue.push(&group("/a"), &stream(), events(1, 1));
        assert_eq!(queue.take(Duration::ZERO).unwrap().batches.len(), 1);
        assert!(queue.take(Duration::ZERO).is_none());
    }
}
