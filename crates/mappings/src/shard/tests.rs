//! Histories of a shard under a virtual clock: records that are put while it is read, poison, functions that fail, report,
//! throttle and take long, destinations, windows, crashes, mappings that are changed, and little room. Seeded; `HEARTH_SEED=N`
//! runs one alone.

use std::collections::{BTreeMap, BTreeSet};

use hearth_store::simulation::{Chance, histories};

use super::*;

const RECORDS: u64 = 60;
const HOUR: Ms = 3_600_000;
/// For all that there is.
const ROOM: usize = 1_000_000;

fn sequence(number: u64) -> Sequence {
    // As long as those of Kinesis, with one that is longer among them.
    Sequence(format!("{}", 9_990 + number))
}

fn number(sequence: &Sequence) -> u64 {
    sequence.0.parse::<u64>().unwrap() - 9_990
}

fn ran() -> Ran {
    Ran { request_id: "r".to_owned(), version: "$LATEST".to_owned(), is_error: true }
}

struct Put {
    key: String,
    arrived: Ms,
    poison: bool,
    wanted: bool,
}

struct World {
    chance: Chance,
    plan: Plan,
    reports: bool,
    now: Ms,
    stream: Vec<Put>,
    kept: Checkpoint,
    /// Numbers of records, in the order in which they were first done with, and what was given up.
    done: Vec<u64>,
    given_up: BTreeSet<u64>,
    runs: BTreeMap<u64, u32>,
    crashes: u32,
    changes: u32,
    room: usize,
    /// Sums of windows: what their last run was told.
    sums: BTreeMap<(Ms, usize), u64>,
    became: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64) -> Self {
        let chance = Chance::of(seed);
        let plan = Plan {
            batch_size: 1 + chance.next(12) as usize,
            window: chance.next(3) * 1_000,
            factor: 1 + chance.next(4) as u32,
            retries: (!chance.once_in(4)).then(|| chance.next(4) as u32),
            age_max: if chance.once_in(2) { 60_000 } else { HOUR },
            bisect: chance.once_in(2),
            tumbling: if chance.once_in(3) { 10_000 } else { 0 },
        };
        World {
            reports: chance.once_in(2),
            room: if chance.once_in(2) { ROOM } else { 1 + chance.next(20) as usize },
            chance,
            plan,
            now: 1_000_000,
            stream: Vec::new(),
            kept: Checkpoint::new(Position::Horizon),
            done: Vec::new(),
            given_up: BTreeSet::new(),
            runs: BTreeMap::new(),
            crashes: 0,
            changes: 0,
            sums: BTreeMap::new(),
            became: BTreeSet::new(),
        }
    }

    fn put(&mut self) {
        self.stream.push(Put {
            key: self.chance.next(7).to_string(),
            arrived: self.now,
            poison: self.chance.once_in(8),
            wanted: !self.chance.once_in(10),
        });
    }

    fn read(&self, from: &Position, limit: usize) -> Vec<Entry> {
        let begin = match from {
            Position::After(sequence) => number(sequence) + 1,
            _ => 0,
        };
        let entry = |(at, put): (usize, &Put)| Entry {
            sequence: sequence(at as u64),
            key: put.key.clone(),
            json: at.to_string(),
            arrived: put.arrived,
            wanted: put.wanted,
        };
        self.stream.iter().enumerate().skip(begin as usize).take(limit).map(entry).collect()
    }

    fn ended(&mut self, work: &Work) -> Ended {
        if self.chance.once_in(10) {
            self.became.insert("refused");
            return Ended::Refused;
        }
        let mut sum = work.window.as_ref().map_or(0, |(window, _)| window.state.parse().unwrap_or(0));
        if let Some((window, true)) = &work.window {
            assert!(work.records.is_empty());
            if self.chance.once_in(6) {
                self.became.insert("an end failed");
                return Ended::Failed(ran());
            }
            *self.sums.entry((window.start, work.lane)).or_default() += sum;
            self.became.insert(if window.early { "ended early" } else { "ended" });
            return Ended::Well { state: None };
        }
        assert!((1..=self.plan.batch_size).contains(&work.records.len()));
        let mut first_bad = None;
        let mut good = Vec::new();
        for (at, entry) in work.records.iter().enumerate() {
            let number = number(&entry.sequence);
            *self.runs.entry(number).or_default() += 1;
            if self.stream[number as usize].poison || self.chance.once_in(40) {
                first_bad = Some(at);
                break;
            }
            sum += 1;
            good.push(number);
        }
        let state = (self.plan.tumbling > 0).then(|| sum.to_string());
        if first_bad.is_some() && !self.reports {
            self.became.insert("failed");
            return Ended::Failed(ran());
        }
        for number in good {
            if !self.done.contains(&number) {
                self.done.push(number);
            }
        }
        match first_bad {
            None => Ended::Well { state },
            Some(first) => {
                self.became.insert("partly");
                Ended::Partly { first, ran: Ran { is_error: false, ..ran() }, state }
            }
        }
    }

    /// The mapping is changed, as it can be.
    fn change(&mut self) {
        self.changes += 1;
        if self.chance.once_in(2) {
            self.plan.factor = 1 + self.chance.next(4) as u32;
            self.became.insert("other lanes");
        }
        if self.chance.once_in(2) {
            self.plan.batch_size = 1 + self.chance.next(12) as usize;
            self.became.insert("other batches");
        }
    }

    /// A server from its start to its death, or to a change of the mapping, or to the end of the shard.
    fn live(&mut self, dies: bool) -> bool {
        let mut shard = Shard::open(self.plan.clone(), self.room, self.kept.clone(), self.now);
        let mut is_leaving = false;
        let mut under_way: Vec<(Ms, Work)> = Vec::new();
        let mut discards: Vec<(Ms, Discard)> = Vec::new();
        loop {
            if dies && self.chance.once_in(60) {
                self.crashes += 1;
                return false;
            }
            if dies && self.chance.once_in(60) {
                is_leaving = true;
                shard.leave();
            }
            if self.chance.once_in(200) {
                // Other shards come and go, and the stream keeps its records longer, or not as long.
                self.room = if self.chance.once_in(2) { ROOM } else { 1 + self.chance.next(20) as usize };
                self.plan.age_max = if self.chance.once_in(2) { 60_000 } else { HOUR };
                shard.adapt(self.room, self.plan.age_max);
            }
            if (self.stream.len() as u64) < RECORDS && self.chance.once_in(3) {
                self.put();
            }
            match shard.next(self.now) {
                Step::Save(kept) => {
                    // What is kept can be read again.
                    self.kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
                }
                Step::Run(work) => {
                    assert!(under_way.iter().all(|(_, other)| other.lane != work.lane), "one of a lane at a time");
                    let takes = if self.chance.once_in(15) { 15_000 } else { 300 };
                    under_way.push((self.now + self.chance.next(takes), work));
                }
                Step::Discard(discard) => discards.push((self.now + self.chance.next(2_000), discard)),
                Step::Poll { limit } => {
                    if self.chance.once_in(12) {
                        shard.poll_failed(self.now, self.now);
                        continue;
                    }
                    let some = 1 + self.chance.next(limit as u64) as usize;
                    let entries = self.read(&shard.position(), some.min(9));
                    let last = entries.last().map(|entry| number(&entry.sequence)).or(match shard.position() {
                        Position::After(sequence) => Some(number(&sequence)),
                        _ => None,
                    });
                    let is_latest = last.map_or(0, |last| last + 1) == self.stream.len() as u64;
                    let is_over = is_latest && self.stream.len() as u64 >= RECORDS;
                    let (count, before) = (entries.len(), shard.bytes());
                    let taken = shard.read(entries, is_over, is_latest, self.now, self.now);
                    // One more than there is room for, at most: each has two digits and a byte between.
                    assert!(shard.bytes() <= before.max(self.room + 3), "{} of {}", shard.bytes(), self.room);
                    self.became.extend((taken < count).then_some("no room"));
                }
                Step::Finished => return true,
                Step::Left => {
                    assert!(is_leaving && under_way.is_empty() && discards.is_empty());
                    self.became.insert("left");
                    return false;
                }
                Step::Wait(until) => {
                    let ran = under_way.iter().map(|(due, _)| *due).chain(discards.iter().map(|(due, _)| *due)).min();
                    let next = [until, ran].into_iter().flatten().min();
                    let next = next.unwrap_or_else(|| panic!("it waits for nothing: {:?}", self.kept));
                    self.now = self.now.max(next);
                    while let Some(at) = under_way.iter().position(|(due, _)| *due <= self.now) {
                        let (_, work) = under_way.swap_remove(at);
                        let ended = self.ended(&work);
                        shard.ended(work.lane, ended, self.now);
                    }
                    while let Some(at) = discards.iter().position(|(due, _)| *due <= self.now) {
                        let (_, discard) = discards.swap_remove(at);
                        self.became.insert(match discard.condition {
                            Condition::RecordAgeExceeded => "too old",
                            Condition::RetryAttemptsExhausted => "out of attempts",
                        });
                        let numbers = discard.records.iter().map(|entry| number(&entry.sequence));
                        self.given_up.extend(numbers);
                        shard.discarded(discard.lane);
                    }
                }
            }
        }
    }

    fn holds(&self) {
        for (number, put) in self.stream.iter().enumerate() {
            let number = number as u64;
            let (is_done, is_given_up) = (self.done.contains(&number), self.given_up.contains(&number));
            match put {
                Put { wanted: false, .. } => assert!(!self.runs.contains_key(&number), "{number} was run"),
                Put { poison: true, .. } => assert!(is_given_up && !is_done, "the poison {number} is nowhere"),
                _ => assert!(is_done || is_given_up, "{number} is lost"),
            }
        }
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for number in &self.done {
            let before = last.insert(&self.stream[*number as usize].key, *number);
            assert!(before.is_none_or(|before| before < *number), "{number} came after {before:?}: {:?}", self.done);
        }
        if self.plan.tumbling > 0 && self.crashes == 0 && !self.became.contains("an end failed") {
            let sum: u64 = self.sums.values().sum();
            assert_eq!(sum, self.done.len() as u64, "windows count what was done, once each: {:?}", self.sums);
        }
        if let (Some(retries), true) = (self.plan.retries, self.crashes + self.changes == 0) {
            // Cutting in two is no attempt; a batch is cut so often at most as it has records.
            let most = (retries + 1) * 2 + self.plan.batch_size as u32 * 2;
            assert!(self.runs.values().all(|runs| *runs <= most), "{:?} of {most}", self.runs);
        }
    }
}

fn history(seed: u64) -> BTreeSet<&'static str> {
    let mut world = World::new(seed);
    for _ in 0..world.chance.next(5) {
        if world.live(true) {
            break;
        }
        if world.chance.once_in(2) {
            world.change();
        }
        world.now += world.chance.next(20_000);
    }
    assert!(world.live(false));
    world.holds();
    let again = Shard::open(world.plan.clone(), ROOM, world.kept.clone(), world.now).next(world.now);
    assert!(matches!(again, Step::Finished));
    world.became
}

#[test]
fn no_record_is_lost_or_overtaken_and_no_poison_stays() {
    let mut became = BTreeSet::new();
    let many = histories(2_000, history, |lived| became.extend(lived));
    let whatever = ["an end failed", "ended", "ended early", "failed", "left", "no room", "other batches"];
    let whatever = whatever.into_iter().chain(["other lanes", "out of attempts", "partly", "refused", "too old"]);
    assert!(!many || whatever.clone().all(|what| became.contains(what)), "not everything happens: {became:?}");
}

const PLAN: Plan =
    Plan { batch_size: 4, window: 0, factor: 1, retries: Some(1), age_max: HOUR, bisect: false, tumbling: 0 };

fn opened(plan: &Plan, count: u64) -> Shard {
    reopened(plan, count, Checkpoint::new(Position::Horizon))
}

/// Whole, from a checkpoint on.
fn reopened(plan: &Plan, count: u64, kept: Checkpoint) -> Shard {
    let mut shard = Shard::open(plan.clone(), ROOM, kept, 0);
    assert!(matches!(shard.next(0), Step::Poll { .. }));
    shard.read((0..count).map(entry).collect(), true, true, 0, 0);
    shard
}

fn entry(at: u64) -> Entry {
    let (key, json) = ("k".to_owned(), "{}".to_owned());
    Entry { sequence: sequence(at), key, json, arrived: at * 1_000, wanted: true }
}

/// Numbers of the records of the next run, at whatever moment it comes.
#[track_caller]
fn runs(shard: &mut Shard, now: &mut Ms) -> Vec<u64> {
    loop {
        match shard.next(*now) {
            Step::Run(work) => return work.records.iter().map(|entry| number(&entry.sequence)).collect(),
            Step::Wait(Some(until)) => *now = until,
            Step::Save(_) => {}
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn a_batch_is_run_once_more_than_it_is_tried_again_and_then_given_up() {
    let (mut shard, mut now) = (opened(&PLAN, 6), 0);
    for _ in 0..2 {
        assert_eq!(runs(&mut shard, &mut now), [0, 1, 2, 3]);
        shard.ended(0, Ended::Failed(ran()), now);
    }
    assert!(matches!(shard.next(now), Step::Save(_)));
    let Step::Wait(Some(now)) = shard.next(now) else { panic!("it is given up at once") };
    let Step::Discard(discard) = shard.next(now) else { panic!("it is not given up") };
    assert_eq!((discard.records.len(), discard.attempts, discard.ran), (4, 2, Some(ran())));
    assert_eq!(discard.condition, Condition::RetryAttemptsExhausted);
    shard.discarded(0);
    assert_eq!(runs(&mut shard, &mut now.clone()), [4, 5]);
}

#[test]
fn bisecting_finds_the_poison_without_using_up_attempts() {
    let (mut shard, mut now) = (opened(&Plan { bisect: true, retries: Some(0), ..PLAN }, 4), 0);
    let mut good = Vec::new();
    loop {
        match shard.next(now) {
            Step::Run(work) => {
                let numbers: Vec<u64> = work.records.iter().map(|entry| number(&entry.sequence)).collect();
                if numbers.contains(&2) {
                    shard.ended(0, Ended::Failed(ran()), now);
                } else {
                    good.extend(numbers);
                    shard.ended(0, Ended::Well { state: None }, now);
                }
            }
            Step::Discard(discard) => {
                assert_eq!(discard.records.len(), 1);
                assert_eq!(number(&discard.records[0].sequence), 2);
                shard.discarded(0);
            }
            Step::Wait(Some(until)) => now = until,
            Step::Save(_) => {}
            Step::Finished => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(good, [0, 1, 3]);
}

#[test]
fn a_report_leaves_what_comes_before_it_behind() {
    let (mut shard, mut now) = (opened(&PLAN, 4), 0);
    assert_eq!(runs(&mut shard, &mut now), [0, 1, 2, 3]);
    shard.ended(0, Ended::Partly { first: 2, ran: ran(), state: None }, now);
    let Step::Save(kept) = shard.next(now) else { panic!("it is not kept") };
    assert_eq!(kept.position, Position::After(sequence(1)));
    assert_eq!(runs(&mut shard, &mut now), [2, 3]);
}

#[test]
fn windows_end_with_their_state_before_the_next_begins() {
    let (mut shard, mut now) = (opened(&Plan { tumbling: 3_000, batch_size: 10, ..PLAN }, 5), 0);
    assert_eq!(runs(&mut shard, &mut now), [0, 1, 2]);
    shard.ended(0, Ended::Well { state: Some("3".to_owned()) }, now);
    assert!(matches!(shard.next(now), Step::Save(_)));
    let Step::Run(work) = shard.next(now) else { panic!("the window does not end") };
    let Some((window, true)) = work.window else { panic!("it is not its last run") };
    assert_eq!((window.start, window.end, &*window.state, window.early), (0, 3_000, "3", false));
    shard.ended(0, Ended::Well { state: None }, now);
    assert_eq!(runs(&mut shard, &mut now), [3, 4]);
    let large = "1".repeat(2 << 20);
    shard.ended(0, Ended::Well { state: Some(large) }, now);
    assert!(matches!(shard.next(now), Step::Save(_)));
    let Step::Run(work) = shard.next(now) else { panic!("a window whose state is too large goes on") };
    assert!(work.window.is_some_and(|(window, is_last)| is_last && window.early));
}

#[test]
fn who_begins_with_the_latest_goes_on_from_that_moment() {
    let mut shard = Shard::open(PLAN, ROOM, Checkpoint::new(Position::Latest), 0);
    assert!(matches!(shard.next(7), Step::Poll { .. }) && shard.position() == Position::Latest);
    shard.read(Vec::new(), false, true, 7, 9);
    let Step::Save(kept) = shard.next(9) else { panic!("the moment is not kept") };
    assert_eq!(kept.position, Position::Moment(7));
    // A poll that fails has begun, too.
    let mut shard = Shard::open(PLAN, ROOM, Checkpoint::new(Position::Latest), 0);
    shard.next(7);
    shard.poll_failed(7, 9);
    assert!(matches!(shard.next(9), Step::Save(_)) && shard.position() == Position::Moment(7));
}

#[test]
fn a_batch_in_the_way_is_cut_where_batches_become_smaller() {
    let (mut shard, mut now) = (opened(&PLAN, 6), 0);
    runs(&mut shard, &mut now);
    shard.ended(0, Ended::Failed(ran()), now);
    let Step::Save(kept) = shard.next(now) else { panic!("the attempt is not kept") };
    let mut shard = reopened(&Plan { batch_size: 1, ..PLAN }, 6, kept);
    assert_eq!(runs(&mut shard, &mut now), [0]);
}

#[test]
fn a_batch_of_a_life_before_is_cut_where_there_is_no_room_for_it() {
    let (mut shard, mut now) = (opened(&PLAN, 6), 0);
    runs(&mut shard, &mut now);
    shard.ended(0, Ended::Failed(ran()), now);
    let Step::Save(kept) = shard.next(now) else { panic!("the attempt is not kept") };
    let mut shard = Shard::open(PLAN, 4, kept, now);
    assert!(matches!(shard.next(now), Step::Poll { .. }));
    let entries: Vec<Entry> = (0..6).map(entry).collect();
    assert_eq!(shard.read(entries, true, true, now, now), 2);
    assert_eq!(shard.position(), Position::After(sequence(1)));
    assert_eq!(runs(&mut shard, &mut now), [0, 1]);
    // Its attempts are counted on.
    shard.ended(0, Ended::Failed(ran()), now);
    let Step::Save(_) = shard.next(now) else { panic!("the attempt is not kept") };
    let Step::Wait(Some(now)) = shard.next(now) else { panic!("it is given up at once") };
    assert!(matches!(shard.next(now), Step::Discard(Discard { attempts: 2, .. })));
}

#[test]
fn records_that_the_stream_keeps_longer_are_tried_longer() {
    let age_max = 60_000;
    let (mut shard, mut now) = (opened(&Plan { age_max, retries: None, ..PLAN }, 4), 0);
    assert_eq!(runs(&mut shard, &mut now), [0, 1, 2, 3]);
    shard.ended(0, Ended::Failed(ran()), now);
    now = 2 * age_max;
    shard.adapt(ROOM, HOUR);
    assert_eq!(runs(&mut shard, &mut now), [0, 1, 2, 3]);
    shard.ended(0, Ended::Failed(ran()), now);
    shard.adapt(ROOM, age_max);
    now *= 2;
    assert!(matches!(shard.next(now), Step::Save(_)));
    let Step::Discard(discard) = shard.next(now) else { panic!("it is not given up") };
    assert_eq!(discard.condition, Condition::RecordAgeExceeded);
}

#[test]
fn a_window_waits_a_moment_for_what_is_seen_late() {
    let plan = Plan { tumbling: 3_000, batch_size: 1, ..PLAN };
    let mut shard = Shard::open(plan, ROOM, Checkpoint::new(Position::Horizon), 0);
    let poll = |shard: &mut Shard, now: Ms, entries: Vec<Entry>| loop {
        match shard.next(now) {
            Step::Poll { .. } => break shard.read(entries, false, true, now, now),
            Step::Save(_) => {}
            step => panic!("{step:?}"),
        }
    };
    poll(&mut shard, 0, vec![entry(0)]);
    let well = || Ended::Well { state: Some("1".to_owned()) };
    assert_eq!(runs(&mut shard, &mut 0), [0]);
    shard.ended(0, well(), 0);
    // Nothing has come by its end; what arrived within it is seen after that.
    poll(&mut shard, 3_000, Vec::new());
    poll(&mut shard, 4_000, vec![entry(2)]);
    let Step::Run(work) = shard.next(4_000) else { panic!("the record is not run") };
    let (window, is_last) = work.window.unwrap();
    assert_eq!((window.start, &*window.state, is_last), (0, "1", false));
    shard.ended(0, well(), 4_000);
    assert!(matches!(shard.next(4_000), Step::Save(_)));
    let Step::Run(work) = shard.next(4_000) else { panic!("the window does not end") };
    assert!(work.records.is_empty() && work.window.is_some_and(|(window, is_last)| is_last && !window.early));
}

#[test]
fn sequence_numbers_are_numbers() {
    let of = |text: &str| Sequence(text.to_owned());
    assert!(of("9") < of("10") && of("0009") < of("10") && of("10") < of("11") && of("2") > of("10").min(of("1")));
}
