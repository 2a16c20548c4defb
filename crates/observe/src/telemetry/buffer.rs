//! Events on their way to one subscriber, without clock, task or socket.
//!
//! ```text
//!   push ──► gathered ──full, or old enough──► take: a batch is on its way ──► done, failed
//!                └── more than fits while a batch is on its way: dropped, counted, said in the next batch
//! ```

use std::time::Instant;

use bytes::Bytes;
use hearth_model::Buffering;

/// What is sent at once.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Bytes>,
    /// What the subscriber has missed before it: events, and their bytes.
    pub missed: Option<(u64, u64)>,
}

/// See the module. Holds about what one batch may, and twice as much until it is taken.
#[derive(Debug)]
pub struct Buffer {
    limits: Buffering,
    events: Vec<Bytes>,
    bytes: usize,
    /// When the oldest event came.
    since: Option<Instant>,
    /// A batch is on its way, of so many events and bytes.
    sending: Option<(u64, u64)>,
    missed: (u64, u64),
    /// What is there is to be sent now.
    hurry: bool,
}

impl Buffer {
    pub fn new(limits: Buffering) -> Self {
        let (events, since, sending) = (Vec::new(), None, None);
        Buffer { limits, events, bytes: 0, since, sending, missed: (0, 0), hurry: false }
    }

    /// Takes an event. Answers whether who sends must look again.
    pub fn push(&mut self, event: Bytes, now: Instant) -> bool {
        if self.is_over() {
            self.miss(1, event.len() as u64);
            return false;
        }
        let first = self.events.is_empty();
        self.since = self.since.or(Some(now));
        self.bytes += event.len();
        self.events.push(event);
        first || self.is_full()
    }

    /// What there is goes at once.
    pub fn hurry(&mut self) {
        self.hurry = true;
    }

    /// What is to be sent now; afterwards it is `done` or `failed`.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        let due = self.hurry || self.is_full() || self.wake_at().is_some_and(|at| now >= at);
        if self.sending.is_some() || self.events.is_empty() || !due {
            return None;
        }
        let events = std::mem::take(&mut self.events);
        self.sending = Some((events.len() as u64, self.bytes as u64));
        (self.bytes, self.since, self.hurry) = (0, None, false);
        let missed = std::mem::take(&mut self.missed);
        Some(Batch { events, missed: (missed.0 > 0).then_some(missed) })
    }

    /// When `take` has something, if nothing happens before. Not while a batch is on its way.
    pub fn wake_at(&self) -> Option<Instant> {
        if self.sending.is_some() {
            return None;
        }
        self.since.map(|since| since + self.limits.timeout)
    }

    /// The batch has arrived.
    pub fn done(&mut self) {
        self.sending = None;
    }

    /// The batch is lost.
    pub fn failed(&mut self) {
        if let Some((events, bytes)) = self.sending.take() {
            self.miss(events, bytes);
        }
    }

    /// Nothing is there and nothing on its way.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.sending.is_none()
    }

    fn is_full(&self) -> bool {
        self.reaches(1)
    }

    /// Nothing more is taken. Who sends may be a moment late.
    fn is_over(&self) -> bool {
        self.reaches(if self.sending.is_some() { 1 } else { 2 })
    }

    fn reaches(&self, times: usize) -> bool {
        self.events.len() >= times * self.limits.items_max || self.bytes >= times * self.limits.bytes_max
    }

    fn miss(&mut self, events: u64, bytes: u64) {
        self.missed.0 += events;
        self.missed.1 += bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Buffering = Buffering { items_max: 4, bytes_max: 100, timeout: Duration::from_millis(50) };

    fn event(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    #[test]
    fn events_go_when_they_are_old_enough() {
        let (mut buffer, start) = (Buffer::new(LIMITS), Instant::now());
        assert!(buffer.push(event(1), start) && !buffer.push(event(1), start + LIMITS.timeout / 2));
        assert!(buffer.take(start + LIMITS.timeout / 2).is_none());
        assert_eq!(buffer.wake_at(), Some(start + LIMITS.timeout));
        assert_eq!(buffer.take(start + LIMITS.timeout).unwrap().events.len(), 2);
        assert!(buffer.wake_at().is_none() && !buffer.is_empty());
        buffer.done();
        assert!(buffer.is_empty());
    }

    #[test]
    fn events_go_when_there_are_enough_or_when_there_is_no_time_left() {
        let (mut buffer, now) = (Buffer::new(LIMITS), Instant::now());
        assert_eq!((0..4).map(|_| buffer.push(event(1), now)).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(buffer.take(now).unwrap().events.len(), 4);
        buffer.done();
        buffer.push(event(100), now);
        assert!(buffer.take(now).is_some(), "enough bytes");
        buffer.done();
        buffer.push(event(1), now);
        assert!(buffer.take(now).is_none());
        buffer.hurry();
        assert!(buffer.take(now).is_some());
    }

    #[test]
    fn what_does_not_fit_while_a_batch_is_on_its_way_is_missed_and_said() {
        let (mut buffer, now) = (Buffer::new(LIMITS), Instant::now());
        for _ in 0..4 {
            buffer.push(event(2), now);
        }
        assert!(buffer.take(now).is_some());
        for _ in 0..6 {
            buffer.push(event(3), now);
        }
        assert!(buffer.take(now).is_none());
        buffer.failed();
        let batch = buffer.take(now).unwrap();
        assert_eq!((batch.events.len(), batch.missed), (4, Some((6, 14))));
    }

    proptest! {
        /// Whatever comes and goes: nothing is lost uncounted, and no more is held than may be.
        #[test]
        fn every_event_is_sent_once_or_counted(steps in prop::collection::vec((0..5u8, 1..60usize), 0..200)) {
            let (mut buffer, mut now) = (Buffer::new(LIMITS), Instant::now());
            let (mut pushed, mut sent, mut missed, mut on_way) = (0u64, 0u64, 0u64, None);
            for (step, size) in steps {
                match step {
                    0 | 1 => {
                        buffer.push(event(size), now);
                        pushed += 1;
                    }
                    2 => now += Duration::from_millis(size as u64),
                    3 => if let Some(batch) = buffer.take(now) {
                        prop_assert!(on_way.is_none());
                        prop_assert!(batch.events.len() <= 2 * LIMITS.items_max);
                        prop_assert!(batch.events.iter().map(Bytes::len).sum::<usize>() < 2 * LIMITS.bytes_max + 60);
                        missed += batch.missed.map_or(0, |missed| missed.0);
                        on_way = Some(batch.events.len() as u64);
                    },
                    _ => if let Some(events) = on_way.take() {
                        if size % 2 == 0 {
                            buffer.done();
                            sent += events;
                        } else {
                            buffer.failed();
                        }
                    },
                }
            }
            if let Some(events) = on_way {
                buffer.done();
                sent += events;
            }
            prop_assert_eq!(pushed, sent + missed + buffer.missed.0 + buffer.events.len() as u64);
        }
    }
}
