//! When a mapping polls, what makes a batch, and when one is tried again (spec 6.2, 6.3). Decisions only: no clock, no
//! task, no source.
//!
//! ```text
//!            ┌── room for another batch? ──► Poll ──► polled ──► gathered ──┬─ full, large or old enough ──► Run
//!   next ────┤                                                              └─ not yet ──► Wait
//!            └── a batch is due again ──► Run ──► ended ──┬─ over
//!                                                         └─ throttled ──► waits, as long as the records are ours
//! ```

use hearth_model::SYNC_PAYLOAD_MAX;
use hearth_store::queue::Ms;

use crate::scale::{Rule, Scale};
use crate::source::Taken;

/// What surrounds the records of a payload: `{"Records":[` and `]}`.
pub const FRAME: usize = 14;
/// Before a batch that found no room is tried again; doubles.
const AGAIN_FIRST: Ms = 200;
const AGAIN_MAX: Ms = 10_000;
/// Before a source that failed is asked again; doubles.
const POLL_AGAIN_FIRST: Ms = 500;
const POLL_AGAIN_MAX: Ms = 5_000;

/// What a mapping asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    pub batch_size: usize,
    pub window: Ms,
    pub rule: Rule,
    /// What a run may take of the time in which its records are ours: a run that is begun later may not end in it.
    pub run: Ms,
}

pub struct Batch {
    pub records: Vec<Taken>,
    /// Runs that found no room.
    refusals: u32,
    expires: Ms,
}

impl Batch {
    /// When its records are somebody else's.
    pub fn expires(&self) -> Ms {
        self.expires
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Whatever became of it.
    Over,
    /// The function has not seen it: it, or the host, has no room.
    Throttled,
    /// The function has not seen it: a fault.
    Refused,
}

pub enum Step {
    Run(Batch),
    Poll {
        limit: usize,
        bytes_max: u64,
    },
    /// Nothing to do before that moment, or before something is heard.
    Wait(Option<Ms>),
    /// It was told to leave, and nothing is under way.
    Left,
}

pub struct Machine {
    plan: Plan,
    scale: Scale,
    gathered: Vec<Taken>,
    /// When the first of the gathered came.
    since: Ms,
    is_polling: bool,
    under_way: usize,
    /// Batches that found no room, and when they are tried again.
    refused: Vec<(Ms, Batch)>,
    /// How often in a row the source failed, and when it is asked again.
    failures: u32,
    poll_after: Ms,
    is_leaving: bool,
}

impl Machine {
    pub fn new(plan: Plan, now: Ms) -> Self {
        Machine {
            scale: Scale::new(plan.rule, now),
            plan,
            gathered: Vec::new(),
            since: now,
            is_polling: false,
            under_way: 0,
            refused: Vec::new(),
            failures: 0,
            poll_after: now,
            is_leaving: false,
        }
    }

    /// What is asked for from now on.
    pub fn change(&mut self, plan: Plan) {
        self.scale.change(plan.rule);
        self.plan = plan;
    }

    /// Polls no more. What was gathered is still run.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Takes everything that no run has begun with.
    pub fn give_up(&mut self) -> Vec<Taken> {
        self.leave();
        let refused = std::mem::take(&mut self.refused).into_iter().flat_map(|(_, batch)| batch.records);
        std::mem::take(&mut self.gathered).into_iter().chain(refused).collect()
    }

    /// Pollers that are at work, of provisioned ones.
    pub fn pollers(&self) -> Option<u32> {
        self.scale.pollers()
    }

    pub fn next(&mut self, now: Ms) -> Step {
        self.forget_expired(now);
        let busy = self.under_way + self.refused.len();
        let limit = self.scale.limit(busy, now);
        if self.under_way < limit
            && let Some(at) = self.refused.iter().position(|(due, _)| *due <= now)
        {
            self.under_way += 1;
            return Step::Run(self.refused.swap_remove(at).1);
        }
        let has_room = busy < limit;
        if has_room && self.is_complete(now) {
            self.under_way += 1;
            return Step::Run(self.take());
        }
        if self.is_leaving {
            let is_idle = busy == 0 && self.gathered.is_empty() && !self.is_polling;
            return if is_idle { Step::Left } else { Step::Wait(self.wake(now, limit)) };
        }
        let missing = self.plan.batch_size.saturating_sub(self.gathered.len());
        if has_room && !self.is_polling && missing > 0 && now >= self.poll_after {
            self.is_polling = true;
            let bytes_max = SYNC_PAYLOAD_MAX.saturating_sub(self.bytes()) as u64;
            return Step::Poll { limit: missing, bytes_max };
        }
        Step::Wait(self.wake(now, limit))
    }

    /// The longest that a poll may wait for records: the window of those that are there goes on.
    pub fn patience(&self, longest: Ms, now: Ms) -> Ms {
        match self.gathered.is_empty() {
            true => longest,
            false => (self.since + self.plan.window).saturating_sub(now).min(longest),
        }
    }

    pub fn polled(&mut self, records: Vec<Taken>, now: Ms) {
        self.is_polling = false;
        self.failures = 0;
        if self.gathered.is_empty() {
            self.since = now;
        }
        self.gathered.extend(records);
    }

    pub fn poll_failed(&mut self, now: Ms) {
        self.is_polling = false;
        self.poll_after = now + doubling(POLL_AGAIN_FIRST, self.failures, POLL_AGAIN_MAX);
        self.failures = self.failures.saturating_add(1);
    }

    /// A run has ended. Answers the batch when it is given up: its source gives it to us again.
    pub fn ended(&mut self, batch: Batch, ended: Ended, now: Ms) -> Option<Batch> {
        if ended == Ended::Throttled {
            self.scale.throttled(self.under_way, now);
        }
        self.under_way -= 1;
        if ended == Ended::Over {
            return None;
        }
        let due = now + doubling(AGAIN_FIRST, batch.refusals, AGAIN_MAX);
        if due + self.plan.run >= batch.expires {
            return Some(batch);
        }
        self.refused.push((due, Batch { refusals: batch.refusals + 1, ..batch }));
        None
    }

    /// A run has ended, nobody knows how: its source gives its records to us again.
    pub fn broke(&mut self) {
        self.under_way -= 1;
    }

    fn is_complete(&self, now: Ms) -> bool {
        let is_old = now >= self.since + self.plan.window || self.is_leaving && !self.is_polling;
        let is_full = self.gathered.len() >= self.plan.batch_size || self.bytes() > SYNC_PAYLOAD_MAX - FULL_WITHIN;
        !self.gathered.is_empty() && (is_full || is_old)
    }

    /// Of a payload of all that is gathered: each record with the comma before it.
    fn bytes(&self) -> usize {
        FRAME + self.gathered.iter().map(|record| record.json.len() + 1).sum::<usize>()
    }

    /// As many of the gathered as one payload may have.
    fn take(&mut self) -> Batch {
        let mut bytes = FRAME;
        let fits = |record: &&Taken| {
            bytes += record.json.len() + 1;
            bytes <= SYNC_PAYLOAD_MAX
        };
        let count = self.gathered.iter().take(self.plan.batch_size).take_while(fits).count().max(1);
        let records: Vec<Taken> = self.gathered.drain(..count).collect();
        let expires = records.iter().map(|record| record.expires).min().unwrap_or(Ms::MAX);
        Batch { records, refusals: 0, expires }
    }

    /// What waited for room until others may have it is theirs.
    fn forget_expired(&mut self, now: Ms) {
        self.refused.retain(|(_, batch)| batch.expires > now + self.plan.run);
        self.gathered.retain(|record| record.expires > now);
    }

    fn wake(&self, now: Ms, limit: usize) -> Option<Ms> {
        let has_room = self.under_way + self.refused.len() < limit;
        // What is due while everything that may be is under way waits for a run to end.
        let again = self.refused.iter().map(|(due, _)| *due).filter(|_| self.under_way < limit);
        let window = (!self.gathered.is_empty() && has_room).then_some(self.since + self.plan.window);
        let poll =
            (!self.is_polling && !self.is_leaving && has_room && self.poll_after > now).then_some(self.poll_after);
        let next = again.chain(window).chain(poll).min();
        // Room grows with time, too.
        let grows = !has_room && self.scale.may_grow();
        next.map(|next| next.max(now + 1)).or(grows.then_some(now + AGAIN_FIRST))
    }
}

/// What a payload must have left for another record to be waited for.
const FULL_WITHIN: usize = 64 * 1024;

fn doubling(first: Ms, times: u32, most: Ms) -> Ms {
    first.saturating_mul(1 << times.min(20)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { batch_size: 10, window: 0, rule: Rule::Standard { max: Some(2) }, run: 0 };

    fn records(count: usize, size: usize) -> Vec<Taken> {
        let record = |n: usize| Taken {
            id: n.to_string(),
            handle: n.to_string(),
            json: "x".repeat(size),
            expires: 30_000,
            trace: None,
        };
        (0..count).map(record).collect()
    }

    #[track_caller]
    fn polls(machine: &mut Machine, now: Ms) -> (usize, u64) {
        match machine.next(now) {
            Step::Poll { limit, bytes_max } => (limit, bytes_max),
            step => panic!("{}", said(&step)),
        }
    }

    #[track_caller]
    fn runs(machine: &mut Machine, now: Ms) -> Batch {
        match machine.next(now) {
            Step::Run(batch) => batch,
            step => panic!("{}", said(&step)),
        }
    }

    #[track_caller]
    fn waits(machine: &mut Machine, now: Ms) -> Option<Ms> {
        match machine.next(now) {
            Step::Wait(until) => until,
            step => panic!("{}", said(&step)),
        }
    }

    fn said(step: &Step) -> &'static str {
        match step {
            Step::Run(_) => "it runs",
            Step::Poll { .. } => "it polls",
            Step::Wait(_) => "it waits",
            Step::Left => "it left",
        }
    }

    #[test]
    fn without_a_window_what_a_poll_brings_is_a_batch() {
        let mut machine = Machine::new(PLAN, 0);
        assert_eq!(polls(&mut machine, 0).0, 10);
        assert_eq!(waits(&mut machine, 0), None);
        machine.polled(records(3, 10), 5);
        assert_eq!(runs(&mut machine, 5).records.len(), 3);
        polls(&mut machine, 5);
    }

    #[test]
    fn a_window_begins_with_the_first_record_and_ends_early_when_the_batch_is_full() {
        let mut machine = Machine::new(Plan { batch_size: 5, window: 2_000, ..PLAN }, 0);
        polls(&mut machine, 0);
        machine.polled(records(2, 10), 1_000);
        assert_eq!(polls(&mut machine, 1_000).0, 3);
        assert_eq!(machine.patience(20_000, 1_500), 1_500);
        machine.polled(records(1, 10), 2_500);
        polls(&mut machine, 2_500);
        assert_eq!(waits(&mut machine, 2_500), Some(3_000));
        assert_eq!(runs(&mut machine, 3_000).records.len(), 3);
        machine.polled(records(5, 10), 3_100);
        assert_eq!(runs(&mut machine, 3_100).records.len(), 5);
    }

    #[test]
    fn a_payload_is_never_larger_than_a_call_may_be() {
        let mut machine = Machine::new(Plan { batch_size: 100, window: 60_000, ..PLAN }, 0);
        polls(&mut machine, 0);
        machine.polled(records(7, 1_000_000), 0);
        assert_eq!(runs(&mut machine, 0).records.len(), 6);
        assert_eq!(polls(&mut machine, 0).1, (SYNC_PAYLOAD_MAX - FRAME - 1_000_001) as u64);
    }

    #[test]
    fn no_more_is_polled_than_can_be_run() {
        let mut machine = Machine::new(PLAN, 0);
        for now in 0..2 {
            polls(&mut machine, now);
            machine.polled(records(1, 1), now);
            runs(&mut machine, now);
        }
        assert_eq!(waits(&mut machine, 2), None);
    }

    #[test]
    fn a_full_mapping_looks_for_more_room_and_does_not_spin_over_what_is_refused() {
        let mut machine = Machine::new(Plan { rule: Rule::Standard { max: None }, ..PLAN }, 0);
        let mut begun = Vec::new();
        for _ in 0..5 {
            polls(&mut machine, 0);
            machine.polled(records(1, 1), 0);
            begun.push(runs(&mut machine, 0));
        }
        assert_eq!(waits(&mut machine, 0), Some(AGAIN_FIRST), "room may have grown by then");
        // Two of five may go on; the one that was refused is due, and waits for one of them to end.
        machine.ended(begun.remove(0), Ended::Throttled, 0);
        assert_eq!(waits(&mut machine, 300), Some(300 + AGAIN_FIRST));
        for _ in 0..3 {
            machine.ended(begun.remove(0), Ended::Over, 310);
        }
        runs(&mut machine, 310);
    }

    #[test]
    fn what_found_no_room_is_tried_again_until_others_may_have_it() {
        let mut machine = Machine::new(PLAN, 0);
        polls(&mut machine, 0);
        machine.polled(records(1, 1), 0);
        let (mut now, mut tries) = (0, 0);
        loop {
            let batch = runs(&mut machine, now);
            tries += 1;
            if machine.ended(batch, Ended::Throttled, now).is_some() {
                break;
            }
            now = waits(&mut machine, now).unwrap();
        }
        assert!((6..15).contains(&tries) && now < 30_000, "{tries} tries in {now} ms");
        polls(&mut machine, now + 60_000);
    }

    #[test]
    fn who_leaves_runs_what_is_there_and_who_gives_up_does_not() {
        let mut machine = Machine::new(Plan { window: 60_000, ..PLAN }, 0);
        polls(&mut machine, 0);
        machine.polled(records(1, 1), 0);
        machine.leave();
        let batch = runs(&mut machine, 0);
        assert_eq!(waits(&mut machine, 0), None);
        machine.ended(batch, Ended::Over, 1);
        assert!(matches!(machine.next(1), Step::Left));
        let mut machine = Machine::new(Plan { window: 60_000, ..PLAN }, 0);
        polls(&mut machine, 0);
        machine.polled(records(2, 1), 0);
        assert_eq!(machine.give_up().len(), 2);
        assert!(matches!(machine.next(0), Step::Left));
    }

    #[test]
    fn a_source_that_fails_is_asked_less_often() {
        let mut machine = Machine::new(PLAN, 0);
        let mut now = 0;
        for expected in [500, 1_000, 2_000] {
            polls(&mut machine, now);
            machine.poll_failed(now);
            let then = waits(&mut machine, now).unwrap();
            assert_eq!(then - now, expected);
            now = then;
        }
    }
}
