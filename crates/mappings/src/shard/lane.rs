//! One lane of a shard: records in their order, one batch at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use hearth_model::SYNC_PAYLOAD_MAX;
use hearth_store::queue::Ms;

use super::checkpoint::{LaneNote, Part, Ran, Sequence, Window};
use super::{Condition, Discard, Ended, Entry, Plan, Work, doubling};

/// What surrounds the records of a payload, without the state of a window.
const FRAME: usize = 512;
/// Largest state of a window (spec 6.5).
const STATE_MAX: usize = 1024 * 1024;
/// After the end of a window, until it is over when no record of a later one has come: what arrived within it may be seen
/// late, and the stream's clock be behind. AWS waits for up to two minutes (its guide, Tumbling windows).
const WINDOW_GRACE: Ms = 1_000;
/// Before a run that failed is tried again; doubles. AWS does not say how long it waits.
const AGAIN_FIRST: Ms = 500;
const AGAIN_MAX: Ms = 60_000;
/// Before one that found no room is; doubles.
const REFUSED_FIRST: Ms = 200;
const REFUSED_MAX: Ms = 10_000;

#[derive(Default)]
pub struct Lane {
    /// Everything that is not done with, and when it was read.
    pub queue: VecDeque<(Arc<Entry>, Ms)>,
    pub bytes: usize,
    /// Batches that were begun, in their order: each is what the queue has up to its end.
    pub parts: VecDeque<Part>,
    /// Up to here everything is done with, while there are records.
    pub after: Option<Sequence>,
    pub window: Option<Window>,
    /// Windows that are over, but for their last run. They come before records.
    pub endings: VecDeque<Window>,
    pub is_busy: bool,
    /// How many records are being given up, or none where it is the end of a window.
    discarding: Option<usize>,
    due: Ms,
    refusals: u32,
}

/// How far the shard was read.
pub struct Read<'a> {
    pub last: Option<&'a Sequence>,
    pub is_over: bool,
    pub caught_up: Ms,
    /// Nothing more is read before something is done with.
    pub is_full: bool,
}

pub enum Next {
    Run(Work),
    Discard(Discard),
    Wait(Option<Ms>),
}

impl Lane {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.endings.is_empty() && self.window.is_none()
    }

    /// `before`: what was read of the shard before it.
    pub fn push(&mut self, entry: Arc<Entry>, before: Option<&Sequence>, now: Ms) {
        if self.queue.is_empty() {
            self.after = before.cloned().max(self.after.take());
        }
        self.bytes += entry.json.len() + 1;
        self.queue.push_back((entry, now));
    }

    pub fn note(&self) -> LaneNote {
        LaneNote {
            parts: self.parts.iter().cloned().collect(),
            window: self.window.clone(),
            endings: self.endings.iter().cloned().collect(),
        }
    }

    pub fn next(&mut self, lane: usize, plan: &Plan, read: &Read<'_>, now: Ms) -> Next {
        if self.is_busy {
            return Next::Wait(None);
        }
        if now < self.due {
            return Next::Wait(Some(self.due));
        }
        self.close_window(plan, read, now);
        if let Some(window) = self.endings.front() {
            self.is_busy = true;
            if plan.retries.is_some_and(|retries| window.failures > retries) {
                self.discarding = Some(0);
                let (condition, attempts) = (Condition::RetryAttemptsExhausted, window.failures);
                return Next::Discard(Discard { lane, records: Vec::new(), condition, attempts, ran: None });
            }
            return Next::Run(Work { lane, records: Vec::new(), window: Some((window.clone(), true)) });
        }
        loop {
            let Some(part) = self.parts.front() else {
                match self.complete(plan, read, now) {
                    Ok(part) => self.parts.push_back(part),
                    Err(until) => return Next::Wait(until),
                }
                continue;
            };
            if !read.is_over && read.last.is_none_or(|last| *last < part.last) {
                // Begun in a life before: its records are read again, as many as there is room for.
                let Some((last, _)) = self.queue.back().filter(|_| read.is_full) else { return Next::Wait(None) };
                let last = last.sequence.clone();
                self.parts.push_front(Part { last, ..part.clone() });
                continue;
            }
            let part = part.clone();
            let records = self.records(&part);
            if records.is_empty() {
                self.parts.pop_front();
                continue;
            }
            // Batches may have become smaller since it was begun.
            if let Some(last) = records.get(plan.batch_size - 1).filter(|_| records.len() > plan.batch_size) {
                let last = last.sequence.clone();
                self.parts.push_front(Part { last, ..part });
                continue;
            }
            return self.begin(lane, plan, part, records, now);
        }
    }

    fn begin(&mut self, lane: usize, plan: &Plan, part: Part, mut records: Vec<Arc<Entry>>, now: Ms) -> Next {
        self.is_busy = true;
        let is_old = |entry: &&Arc<Entry>| now.saturating_sub(entry.arrived) > plan.age_max;
        let old = records.iter().take_while(is_old).count();
        let exhausted = plan.retries.is_some_and(|retries| part.failures > retries);
        let condition = match (old, exhausted) {
            (_, true) => Condition::RetryAttemptsExhausted,
            (0, false) => {
                if plan.tumbling > 0 && self.window.is_none() {
                    self.window = Some(Window::of(records[0].arrived, plan.tumbling));
                }
                return Next::Run(Work { lane, records, window: self.window.clone().map(|window| (window, false)) });
            }
            (old, false) => {
                records.truncate(old);
                Condition::RecordAgeExceeded
            }
        };
        self.discarding = Some(records.len());
        let (attempts, ran) = (part.failures, part.ran);
        Next::Discard(Discard { lane, records, condition, attempts, ran })
    }

    fn records(&self, part: &Part) -> Vec<Arc<Entry>> {
        let entries = self.queue.iter().map(|(entry, _)| entry);
        entries.take_while(|entry| entry.sequence <= part.last).cloned().collect()
    }

    /// A batch that is to be run now, or when there may be one.
    fn complete(&self, plan: &Plan, read: &Read<'_>, now: Ms) -> Result<Part, Option<Ms>> {
        let Some((first, since)) = self.queue.front() else { return Err(None) };
        let start = |entry: &Entry| entry.arrived.checked_div(plan.tumbling);
        let mut bytes = FRAME + self.window.as_ref().map_or(0, |window| window.state.len());
        let fits = |entry: &&Arc<Entry>| {
            bytes += entry.json.len() + 1;
            bytes <= SYNC_PAYLOAD_MAX && start(entry) == start(first)
        };
        let entries = self.queue.iter().map(|(entry, _)| entry);
        let count = entries.take(plan.batch_size).take_while(fits).count().max(1);
        let due = since + plan.window;
        let is_full = count == plan.batch_size || count < self.queue.len();
        if !is_full && now < due && !read.is_over && !read.is_full {
            return Err(Some(due));
        }
        Ok(Part { last: self.queue[count - 1].0.sequence.clone(), failures: 0, ran: None })
    }

    /// A window is over when the next record is in another, or when there will be none.
    fn close_window(&mut self, plan: &Plan, read: &Read<'_>, now: Ms) {
        let Some(window) = &self.window else { return };
        let is_over = match self.queue.front() {
            Some((entry, _)) => Window::of(entry.arrived, plan.tumbling).start != window.start,
            None => read.is_over || read.caught_up >= window.end + WINDOW_GRACE,
        };
        // What is tried again belongs to it, though it was not read again yet.
        if is_over && (self.parts.is_empty() || read.is_over || !self.queue.is_empty()) {
            let early = window.early || self.queue.is_empty() && now < window.end;
            self.endings.extend(self.window.take().map(|window| Window { early, ..window }));
        }
    }

    /// Answers whether that is to be on disk.
    pub fn ended(&mut self, plan: &Plan, ended: Ended, now: Ms) -> bool {
        self.is_busy = false;
        if let Ended::Refused = ended {
            self.due = now + doubling(REFUSED_FIRST, self.refusals, REFUSED_MAX);
            self.refusals = self.refusals.saturating_add(1);
            return false;
        }
        self.refusals = 0;
        if let Some(window) = self.endings.front_mut() {
            if let Ended::Well { .. } = ended {
                self.endings.pop_front();
            } else {
                self.due = now + doubling(AGAIN_FIRST, window.failures, AGAIN_MAX);
                window.failures = window.failures.saturating_add(1);
            }
            return true;
        }
        let Some(mut part) = self.parts.pop_front() else { return false };
        let count = self.records(&part).len();
        match ended {
            Ended::Well { state } => {
                self.forget(count);
                self.keep(state);
            }
            Ended::Partly { first, ran, state } if first > 0 => {
                self.forget(first);
                self.keep(state);
                self.later(&mut part, ran, !plan.bisect, now);
                self.parts.push_front(part);
            }
            Ended::Partly { ran, .. } | Ended::Failed(ran) => {
                let halves = plan.bisect && count > 1;
                self.later(&mut part, ran, !halves, now);
                let middle = self.queue[count.div_ceil(2).max(1) - 1].0.sequence.clone();
                let first = halves.then(|| Part { last: middle, ..part.clone() });
                self.parts.push_front(part);
                if let Some(first) = first {
                    self.parts.push_front(first);
                }
            }
            Ended::Refused => {}
        }
        true
    }

    /// A part is tried again later. Not everything counts: what is cut smaller comes to an end, too.
    fn later(&mut self, part: &mut Part, ran: Ran, counts: bool, now: Ms) {
        self.due = now + doubling(AGAIN_FIRST, part.failures, AGAIN_MAX);
        part.failures = part.failures.saturating_add(u32::from(counts));
        part.ran = Some(ran);
    }

    pub fn discarded(&mut self) {
        self.is_busy = false;
        match self.discarding.take() {
            Some(0) => {
                self.endings.pop_front();
                return;
            }
            Some(count) => self.forget(count),
            None => {}
        }
        let is_rest = |part: &Part| self.queue.front().is_some_and(|(entry, _)| entry.sequence <= part.last);
        if self.parts.front().is_some_and(|part| !is_rest(part)) {
            self.parts.pop_front();
        }
    }

    fn forget(&mut self, count: usize) {
        for (entry, _) in self.queue.drain(..count) {
            self.bytes -= entry.json.len() + 1;
            self.after = Some(entry.sequence.clone());
        }
    }

    /// The state of the window from now on. One that is too large ends it.
    fn keep(&mut self, state: Option<String>) {
        let (Some(window), Some(state)) = (&mut self.window, state) else { return };
        window.state = state;
        if window.state.len() > STATE_MAX {
            window.early = true;
            self.endings.extend(self.window.take());
        }
    }
}
