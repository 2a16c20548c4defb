//! When a shard of a stream is read, what makes a batch, and what becomes of one that failed (spec 6.2, 6.4, 6.5). Decisions
//! only: no clock, no task, no stream.
//!
//! ```text
//!             ┌─ something is to be on disk ──► Save
//!   next ─────┤  a lane is free and not waiting ──┬─ a window is over ──────────────► Run, with its state
//!             │                                   ├─ too old, or out of attempts ───► Discard ──► discarded
//!             │                                   └─ a batch is complete ───────────► Run ──► ended ──┬─ well: on
//!             ├─ room for more ──► Poll ──► read ──► lanes, by partition key                          ├─ cut in two
//!             └─ the end, and nothing left ──► Finished                                               └─ later again
//! ```
//!
//! A lane has one batch under way, and what fails stays in its way until it is done with. What a lane does next is only
//! begun when what it did before is on disk: a crash repeats what was under way, and nothing else.

mod checkpoint;
mod lane;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hearth_store::queue::Ms;

pub use checkpoint::{Checkpoint, Position, Ran, Sequence, Window};
use checkpoint::{LaneNote, Marks, lane_of};
use lane::{Lane, Next};

/// What one poll may bring (the limit of Kinesis), and the least that is asked for.
const POLL_MAX: usize = 10_000;
const POLL_MIN: usize = 1_000;
/// Between polls of a shard in which there is nothing new (spec 6.5), and while there is: Kinesis allows five a second.
const POLL_IDLE: Ms = 1_000;
const POLL_BUSY: Ms = 200;
/// Before a stream that failed is asked again; doubles.
const POLL_AGAIN_FIRST: Ms = 500;
const POLL_AGAIN_MAX: Ms = 30_000;

/// A record of a shard.
#[derive(Debug)]
pub struct Entry {
    pub sequence: Sequence,
    pub key: String,
    /// As functions see it.
    pub json: String,
    /// When the stream got it.
    pub arrived: Ms,
    /// Whether a filter wants it.
    pub wanted: bool,
}

/// What a mapping asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub batch_size: usize,
    pub window: Ms,
    /// Lanes.
    pub factor: u32,
    /// Of a batch that failed; `None` without limit.
    pub retries: Option<u32>,
    /// Records that are older are given up.
    pub age_max: Ms,
    pub bisect: bool,
    /// Length of tumbling windows; 0 without.
    pub tumbling: Ms,
}

/// A run of the function.
#[derive(Debug)]
pub struct Work {
    pub lane: usize,
    pub records: Vec<Arc<Entry>>,
    /// The window that they are in, and whether it ends here.
    pub window: Option<(Window, bool)>,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub enum Ended {
    Well {
        state: Option<String>,
    },
    /// The first that failed, by its place. What comes before is done with.
    Partly {
        first: usize,
        ran: Ran,
        state: Option<String>,
    },
    Failed(Ran),
    /// The function has not seen it: that counts as no attempt.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    RetryAttemptsExhausted,
    RecordAgeExceeded,
}

/// Records that are given up.
#[derive(Debug)]
pub struct Discard {
    pub lane: usize,
    /// None where the end of a window is given up.
    pub records: Vec<Arc<Entry>>,
    pub condition: Condition,
    pub attempts: u32,
    /// The last run with them.
    pub ran: Option<Ran>,
}

#[derive(Debug)]
pub enum Step {
    /// To be on disk before the next step.
    Save(Checkpoint),
    Run(Work),
    Discard(Discard),
    Poll {
        limit: usize,
    },
    Wait(Option<Ms>),
    /// Nothing will come of this shard any more, and that is on disk.
    Finished,
    /// It was told to leave, and nothing is under way.
    Left,
}

pub struct Shard {
    plan: Plan,
    /// Records in memory, bytes: when they are as many nothing is read.
    room: usize,
    lanes: Vec<Lane>,
    /// Where reading began, as long as nothing was read.
    start: Position,
    last_read: Option<Sequence>,
    /// What lanes of another factor have done.
    before: Vec<Marks>,
    is_dirty: bool,
    is_polling: bool,
    is_leaving: bool,
    /// The stream has no more of this shard.
    is_over: bool,
    is_finished: bool,
    poll_after: Ms,
    poll_failures: u32,
    /// When a poll began that left nothing unread.
    caught_up: Ms,
}

impl Shard {
    /// `room`: for records in memory, bytes. One is held whatever it is.
    pub fn open(plan: Plan, room: usize, kept: Checkpoint, now: Ms) -> Self {
        let Checkpoint { position, finished, mut marks, lanes: notes } = kept;
        let same_factor = marks.last().is_some_and(|marks| marks.after.len() == plan.factor as usize);
        let mut lanes: Vec<Lane> = (0..plan.factor).map(|_| Lane::default()).collect();
        let last_read = match &position {
            Position::After(sequence) => Some(sequence.clone()),
            _ => None,
        };
        // Windows of other lanes, or of another length, end where they are.
        for (at, note) in notes.into_iter().enumerate() {
            let LaneNote { parts, window, endings } = note;
            let to = if same_factor { at } else { 0 };
            lanes[to].endings.extend(endings);
            if same_factor {
                lanes[to].parts = parts.into();
            }
            match window {
                Some(window) if same_factor && window.length() == plan.tumbling => lanes[to].window = Some(window),
                Some(window) => lanes[to].endings.push_back(Window { early: true, ..window }),
                None => {}
            }
        }
        if same_factor && let Some(own) = marks.last() {
            for (lane, after) in lanes.iter_mut().zip(&own.after) {
                lane.after.clone_from(after);
            }
        }
        marks.retain(|marks| marks.after.iter().flatten().next().is_some());
        Shard {
            plan,
            room,
            lanes,
            start: position,
            last_read,
            before: marks,
            is_dirty: false,
            is_polling: false,
            is_leaving: false,
            is_over: finished,
            is_finished: finished,
            poll_after: now,
            poll_failures: 0,
            caught_up: 0,
        }
    }

    /// Where the next read begins when there is no iterator.
    pub fn position(&self) -> Position {
        self.last_read.clone().map_or_else(|| self.start.clone(), Position::After)
    }

    /// What may be another at any time: the room, and how old records may be.
    pub fn adapt(&mut self, room: usize, age_max: Ms) {
        self.room = room;
        self.plan.age_max = age_max;
    }

    /// Begins nothing more.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    pub fn next(&mut self, now: Ms) -> Step {
        if self.is_dirty {
            self.is_dirty = false;
            return Step::Save(self.checkpoint());
        }
        if self.is_finished {
            return Step::Finished;
        }
        let is_busy = self.lanes.iter().any(|lane| lane.is_busy);
        if self.is_leaving {
            // What a poll would bring is read again.
            return if is_busy { Step::Wait(None) } else { Step::Left };
        }
        let mut wake: Option<Ms> = None;
        for at in 0..self.lanes.len() {
            let (last, is_over, caught_up) = (self.last_read.as_ref(), self.is_over, self.caught_up);
            let read = lane::Read { last, is_over, caught_up, is_full: !self.has_room() };
            match self.lanes[at].next(at, &self.plan, &read, now) {
                Next::Run(work) => return Step::Run(work),
                Next::Discard(discard) => return Step::Discard(discard),
                Next::Wait(until) => wake = [wake, until].into_iter().flatten().min(),
            }
        }
        if self.is_over && !is_busy && self.lanes.iter().all(Lane::is_empty) {
            self.is_finished = true;
            return Step::Save(self.checkpoint());
        }
        if !self.is_over && !self.is_polling && self.has_room() {
            if now >= self.poll_after {
                self.is_polling = true;
                let limit = self.plan.batch_size.saturating_mul(self.lanes.len()).clamp(POLL_MIN, POLL_MAX);
                return Step::Poll { limit };
            }
            wake = Some(wake.map_or(self.poll_after, |wake| wake.min(self.poll_after)));
        }
        Step::Wait(wake.map(|wake| wake.max(now + 1)))
    }

    /// What a poll brought that began then. `is_over`: there is no more in this shard; `is_latest`: so far. Answers how
    /// many there was room for; the rest is to be read again.
    pub fn read(&mut self, entries: Vec<Entry>, is_over: bool, is_latest: bool, began: Ms, now: Ms) -> usize {
        self.is_polling = false;
        self.poll_failures = 0;
        self.has_begun(began);
        let (count, mut taken) = (entries.len(), 0);
        for entry in entries {
            if self.bytes() >= self.room.max(1) {
                break;
            }
            taken += 1;
            let is_done = self.before.iter().any(|marks| marks.has(&entry.key, &entry.sequence))
                || self.last_read.as_ref().is_some_and(|last| entry.sequence <= *last);
            let sequence = entry.sequence.clone();
            if entry.wanted && !is_done {
                let at = lane_of(&entry.key, self.lanes.len());
                self.lanes[at].push(Arc::new(entry), self.last_read.as_ref(), now);
            }
            self.last_read = self.last_read.take().max(Some(sequence));
        }
        let is_latest = is_latest && taken == count;
        self.poll_after = now + if is_latest { POLL_IDLE } else { POLL_BUSY };
        self.is_over = is_over && taken == count;
        if is_latest {
            self.caught_up = began;
        }
        // What nobody wants is done with.
        self.is_dirty |= taken > 0 && self.lanes.iter().all(|lane| lane.queue.is_empty());
        taken
    }

    /// A poll that began then.
    pub fn poll_failed(&mut self, began: Ms, now: Ms) {
        self.is_polling = false;
        self.has_begun(began);
        self.poll_after = now + doubling(POLL_AGAIN_FIRST, self.poll_failures, POLL_AGAIN_MAX);
        self.poll_failures = self.poll_failures.saturating_add(1);
    }

    /// What is written after the first poll is not missed, even if nothing is read before a crash.
    fn has_begun(&mut self, began: Ms) {
        if self.start == Position::Latest {
            self.start = Position::Moment(began);
            self.is_dirty = true;
        }
    }

    pub fn ended(&mut self, lane: usize, ended: Ended, now: Ms) {
        self.is_dirty |= self.lanes[lane].ended(&self.plan, ended, now);
    }

    /// What a lane had to give up is where it is to be.
    pub fn discarded(&mut self, lane: usize) {
        self.lanes[lane].discarded();
        self.is_dirty = true;
    }

    fn has_room(&self) -> bool {
        let hungry = |lane: &Lane| lane.queue.len() < self.plan.batch_size.saturating_mul(2);
        self.bytes() < self.room.max(1) && self.lanes.iter().any(hungry)
    }

    fn bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.bytes).sum()
    }

    fn checkpoint(&self) -> Checkpoint {
        // A lane without records has done whatever was read.
        let after = |lane: &Lane| if lane.queue.is_empty() { self.last_read.clone() } else { lane.after.clone() };
        let done: Vec<Option<Sequence>> = self.lanes.iter().map(after).collect();
        let least = done.iter().min().cloned().flatten();
        let position = least.clone().map_or_else(|| self.start.clone(), Position::After);
        let mut marks = self.before.clone();
        marks.retain(|marks| marks.after.iter().max() > Some(&least));
        // Of a life before, with the same factor: the lanes know it, too.
        marks
            .retain(|marks| marks.after.len() != done.len() || marks.after.iter().zip(&done).any(|(was, is)| was > is));
        marks.push(Marks { after: done });
        let lanes = self.lanes.iter().map(Lane::note).collect();
        Checkpoint { position, finished: self.is_finished, marks, lanes }
    }
}

fn doubling(first: Ms, times: u32, most: Ms) -> Ms {
    first.saturating_mul(1 << times.min(20)).min(most)
}
