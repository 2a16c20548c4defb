//! The driver of a mapping of a stream: lists its shards, reads each in a task of its own, children after their parents, and
//! does what the machine of a shard says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_model::FunctionArn;
use hearth_store::queue::Ms;
use hearth_store::{Expect, RecordsError};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::buffers::Share;
use crate::counts::add;
use crate::filter;
use crate::kept::{self, Kept};
use crate::life::State;
use crate::mappings::{Live, Shared};
use crate::record::{MappingRecord, Stream};
use crate::shard::{Checkpoint, Ended, Plan, Position, Shard, Step};
use crate::shard_run::{Run, discard};
use crate::stream::{Batch, Origin, ShardFacts, StreamError, StreamFacts, Streams};

/// Between two looks at which shards there are.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// After a look, or a write, that failed.
const AGAIN: Duration = Duration::from_secs(2);

type Changes = watch::Receiver<Arc<MappingRecord>>;

/// Until the mapping is no longer to be enabled as it is, and nothing is under way.
pub async fn run(shared: &Arc<Shared>, live: &Arc<Live>, changes: &mut Changes) {
    let record = live.record();
    let quit = CancellationToken::new();
    let (Some(streams), Some(stream)) = (shared.ports.streams.clone(), record.settings.stream.clone()) else {
        live.has_problem(Some(
            "PROBLEM: Hearth does not support a source of Kinesis without the setting endpoints.kinesis".to_owned(),
        ));
        return wait(shared, changes, Duration::MAX).await;
    };
    let reading = Reading {
        shared: shared.clone(),
        live: live.clone(),
        streams,
        stream,
        record,
        facts: Mutex::new(None),
        look: Notify::new(),
        quit: quit.clone(),
    };
    let mut tasks = JoinSet::new();
    let reading = Arc::new(reading);
    let mut open = BTreeSet::new();
    loop {
        let again = match reading.begin(&mut open, &mut tasks).await {
            Ok(Look::Same) => LIST_EVERY,
            Ok(Look::Other) => {
                tracing::warn!(mapping = %live.uuid, "another stream has the name of the one that was read");
                quit.cancel();
                while tasks.join_next().await.is_some() {}
                return;
            }
            Err(problem) => {
                live.has_problem(Some(format!("PROBLEM: {problem}")));
                AGAIN
            }
        };
        tokio::select! {
            Some(ended) = tasks.join_next() => match ended {
                Ok((shard, is_finished)) => {
                    open.remove(&shard);
                    if !is_finished {
                        // Somebody else has it, or it broke off.
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                Err(error) => {
                    tracing::error!(mapping = %live.uuid, %error, "the reading of a shard broke off");
                    quit.cancel();
                    while tasks.join_next().await.is_some() {}
                    return wait(shared, changes, AGAIN).await;
                }
            },
            () = reading.look.notified() => wait(shared, changes, AGAIN).await,
            () = wait(shared, changes, again) => {}
        }
        let state = changes.borrow().state;
        if shared.stopping.is_cancelled() || state != State::Enabled {
            quit.cancel();
            while tasks.join_next().await.is_some() {}
            return;
        }
    }
}

/// Until something is told.
async fn wait(shared: &Shared, changes: &mut Changes, longest: Duration) {
    tokio::select! {
        _ = changes.changed() => {}
        () = shared.stopping.cancelled() => {}
        () = tokio::time::sleep(longest) => {}
    }
}

struct Reading {
    shared: Arc<Shared>,
    live: Arc<Live>,
    streams: Arc<dyn Streams>,
    stream: Stream,
    record: Arc<MappingRecord>,
    /// Of the stream, as they were last seen.
    facts: Mutex<Option<StreamFacts>>,
    /// A shard cannot be read: what is there may be another.
    look: Notify,
    quit: CancellationToken,
}

/// What a look at a stream found.
enum Look {
    Same,
    /// Another one of its name.
    Other,
}

impl Reading {
    fn facts(&self) -> MutexGuard<'_, Option<StreamFacts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old records may be, by the mapping and by the stream.
    fn age_max(&self) -> Ms {
        let asked = self.stream.age_max_s.map_or(Ms::MAX, |seconds| Ms::from(seconds) * 1000);
        self.facts().map_or(asked, |facts| asked.min(facts.retention))
    }

    fn created(&self) -> Option<Ms> {
        self.facts().and_then(|facts| facts.created)
    }

    /// Begins to read every shard whose turn it is, and forgets those that are gone.
    async fn begin(
        self: &Arc<Self>,
        open: &mut BTreeSet<String>,
        tasks: &mut JoinSet<(String, bool)>,
    ) -> Result<Look, String> {
        let name = || self.record.source.clone();
        let said = |error: StreamError| error.to_string();
        let facts = self.streams.facts(name()).await.map_err(said)?;
        let shards = self.streams.shards(name()).await.map_err(said)?;
        if is_other(self.created(), facts.created) {
            return Ok(Look::Other);
        }
        *self.facts() = Some(facts);
        let unread = |error: RecordsError| error.to_string();
        let records = &*self.shared.ports.records;
        let mut kept = kept::of(records, &self.live).await.map_err(unread)?;
        // How far another stream was read says nothing of this one.
        let others: Vec<String> = kept
            .iter()
            .filter(|(_, kept)| is_other(kept.created, facts.created))
            .map(|(shard, _)| shard.clone())
            .collect();
        kept::forget(records, &self.live, &others).await.map_err(unread)?;
        kept.retain(|shard, _| !others.contains(shard));
        let new: Vec<(String, Checkpoint)> = shards
            .iter()
            .filter(|shard| !kept.contains_key(&shard.id))
            .map(|shard| (shard.id.clone(), self.stream.begins(shard.is_closed, kept.is_empty())))
            .collect();
        if !new.is_empty() {
            let writes = new.iter().map(|(shard, checkpoint)| (shard.as_str(), checkpoint, Expect::Absent)).collect();
            let created = facts.created;
            let change = kept::put(records, &self.live, created, writes).await.map_err(unread)?;
            kept.extend(new.into_iter().map(|(shard, checkpoint)| (shard, Kept { checkpoint, created, change })));
        }
        let gone = |(shard, kept): (&String, &Kept)| {
            (kept.checkpoint.finished && !shards.iter().any(|listed| listed.id == *shard)).then(|| shard.clone())
        };
        let gone: Vec<String> = kept.iter().filter_map(gone).collect();
        kept::forget(records, &self.live, &gone).await.map_err(unread)?;
        for shard in due(&shards, &kept) {
            if !open.insert(shard.clone()) {
                continue;
            }
            if let Some(kept) = kept.remove(&shard) {
                let driver = Driver::new(self.clone(), shard, kept);
                tasks.spawn(driver.run());
            }
        }
        Ok(Look::Same)
    }
}

/// Whether streams of one name are two, by when they were created. Where that is not known they are one.
fn is_other(before: Option<Ms>, now: Option<Ms>) -> bool {
    before.zip(now).is_some_and(|(before, now)| before != now)
}

/// Shards that are not at their end, and whose parents are, as far as they are still there.
fn due(shards: &[ShardFacts], kept: &BTreeMap<String, Kept>) -> Vec<String> {
    let is_open = |id: &str| {
        let is_listed = shards.iter().any(|shard| shard.id == id);
        is_listed && kept.get(id).is_none_or(|kept| !kept.checkpoint.finished)
    };
    let is_due = |shard: &&ShardFacts| is_open(&shard.id) && !shard.parents.iter().any(|parent| is_open(parent));
    shards.iter().filter(is_due).map(|shard| shard.id.clone()).collect()
}

/// What reads one shard.
struct Driver {
    reading: Arc<Reading>,
    id: String,
    origin: Arc<Origin>,
    machine: Shard,
    share: Share,
    change: u64,
    runs: JoinSet<Did>,
}

enum Did {
    Ran(usize, Ended),
    Discarded(usize),
    /// With its turn.
    Read {
        began: Ms,
        read: Result<Batch, StreamError>,
        _turn: Option<OwnedSemaphorePermit>,
    },
}

impl Driver {
    fn new(reading: Arc<Reading>, id: String, kept: Kept) -> Self {
        let record = &reading.record;
        let origin = Origin {
            stream: record.source.clone(),
            region: record.source.split(':').nth(3).unwrap_or_default().to_owned(),
            shard: id.clone(),
            filters: filter::compiled(&record.settings.filters),
        };
        let share = reading.shared.buffers.enter();
        let plan = plan(record, &reading.stream, reading.age_max());
        let machine = Shard::open(plan, share.bytes(), kept.checkpoint, reading.shared.now());
        Driver { origin: Arc::new(origin), machine, share, change: kept.change, runs: JoinSet::new(), reading, id }
    }

    /// The shard, and whether it is at its end.
    async fn run(mut self) -> (String, bool) {
        let mut iterator = None;
        loop {
            let now = self.reading.shared.now();
            if self.reading.quit.is_cancelled() {
                self.machine.leave();
            }
            self.machine.adapt(self.share.bytes(), self.reading.age_max());
            let until = match self.machine.next(now) {
                Step::Finished => return (self.id, true),
                Step::Left => return (self.id, false),
                Step::Save(checkpoint) => {
                    if !self.save(&checkpoint).await {
                        return (self.id, false);
                    }
                    continue;
                }
                Step::Run(work) => {
                    let (shared, live) = (self.reading.shared.clone(), self.reading.live.clone());
                    let (record, origin) = (self.reading.record.clone(), self.origin.clone());
                    self.runs.spawn(async move {
                        let lane = work.lane;
                        let run = Run { shared: &shared, live: &live, record: &record, origin: &origin };
                        Did::Ran(lane, run.run(work).await)
                    });
                    continue;
                }
                Step::Discard(discarded) => {
                    let (shared, live) = (self.reading.shared.clone(), self.reading.live.clone());
                    let (record, origin) = (self.reading.record.clone(), self.origin.clone());
                    self.runs.spawn(async move {
                        let lane = discarded.lane;
                        discard(&shared, &live, &record, &origin, discarded).await;
                        Did::Discarded(lane)
                    });
                    continue;
                }
                Step::Poll { limit } => {
                    self.poll(iterator.take(), limit, now);
                    continue;
                }
                Step::Wait(until) => until,
            };
            let sleep = Duration::from_millis(until.map_or(Ms::MAX, |until| until.saturating_sub(now)));
            tokio::select! {
                Some(did) = self.runs.join_next() => match did {
                    Ok(Did::Ran(lane, ended)) => self.machine.ended(lane, ended, self.reading.shared.now()),
                    Ok(Did::Discarded(lane)) => self.machine.discarded(lane),
                    Ok(Did::Read { began, read, _turn }) => iterator = self.read(began, read),
                    Err(error) => {
                        // From what is on disk it begins again.
                        tracing::error!(mapping = %self.reading.live.uuid, shard = %self.id, %error, "a run broke off");
                        return (self.id, false);
                    }
                },
                () = self.reading.quit.cancelled(), if !self.reading.quit.is_cancelled() => {}
                () = tokio::time::sleep(sleep), if until.is_some() => {}
            }
        }
    }

    /// Until it is on disk. Not, when somebody else has written.
    async fn save(&mut self, checkpoint: &Checkpoint) -> bool {
        loop {
            let Reading { shared, live, .. } = &*self.reading;
            let writes = vec![(self.id.as_str(), checkpoint, Expect::Change(self.change))];
            match kept::put(&*shared.ports.records, live, self.reading.created(), writes).await {
                Ok(change) => {
                    self.change = change;
                    return true;
                }
                Err(RecordsError::Conflict(_)) => {
                    tracing::warn!(mapping = %live.uuid, shard = %self.id, "a shard is somebody else's by now");
                    return false;
                }
                Err(error) => {
                    tracing::error!(mapping = %live.uuid, shard = %self.id, %error, "a checkpoint is not written")
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn poll(&mut self, iterator: Option<String>, limit: usize, began: Ms) {
        let (streams, shard, position) = (self.reading.streams.clone(), self.id.clone(), self.machine.position());
        let (stream, turn) = (self.reading.record.source.clone(), self.share.poll());
        self.runs.spawn(async move {
            let _turn = turn.await;
            let iterator = match iterator {
                Some(iterator) => Ok(iterator),
                None => streams.iterator(stream.clone(), shard, position).await,
            };
            let read = match iterator {
                Ok(iterator) => streams.read(stream, iterator, limit).await,
                Err(error) => Err(error),
            };
            Did::Read { began, read, _turn }
        });
    }

    /// The iterator of the next poll.
    fn read(&mut self, began: Ms, read: Result<Batch, StreamError>) -> Option<String> {
        let (now, live) = (self.reading.shared.now(), &self.reading.live);
        match read {
            Ok(Batch { records, next, behind }) => {
                live.has_problem(live.problem().filter(|problem| problem.starts_with("PROBLEM: Function")));
                let arn = FunctionArn::parse(&self.reading.record.function);
                let function = arn.and_then(|arn| self.reading.shared.ports.functions.known(&arn).ok());
                let role = function.map(|function| function.role.clone()).unwrap_or_default();
                let entries: Vec<_> = records.into_iter().map(|given| self.origin.entry(given, &role)).collect();
                let wanted: Vec<bool> = entries.iter().map(|entry| entry.wanted).collect();
                let taken = self.machine.read(entries, next.is_none(), behind == 0, began, now);
                add(&live.numbers.polled, taken);
                add(&live.numbers.filtered_out, wanted[..taken].iter().filter(|wanted| !**wanted).count());
                next.filter(|_| taken == wanted.len())
            }
            Err(error) => {
                if !matches!(error, StreamError::Expired) {
                    live.has_problem(Some(format!("PROBLEM: {error}")));
                    self.reading.look.notify_one();
                }
                self.machine.poll_failed(began, now);
                None
            }
        }
    }
}

fn plan(record: &MappingRecord, stream: &Stream, age_max: Ms) -> Plan {
    Plan {
        batch_size: record.settings.batch_size as usize,
        window: Ms::from(record.settings.window_s) * 1000,
        factor: stream.factor,
        retries: stream.retries,
        age_max,
        bisect: stream.bisect,
        tumbling: Ms::from(stream.tumbling_s) * 1000,
    }
}

impl Stream {
    /// Where a shard that nothing was read of begins. `is_first`: the mapping has read none. Who begins with the latest
    /// takes of shards that come later everything.
    fn begins(&self, is_closed: bool, is_first: bool) -> Checkpoint {
        let position = match (&self.start, is_first) {
            (Position::Latest, false) => Position::Horizon,
            (start, _) => start.clone(),
        };
        let finished = is_closed && position == Position::Latest;
        Checkpoint { finished, ..Checkpoint::new(position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parents: &[&str], is_closed: bool) -> ShardFacts {
        let parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
        ShardFacts { id: id.to_owned(), parents, is_closed }
    }

    #[test]
    fn children_begin_when_every_parent_that_is_there_is_at_its_end() {
        let shards = [
            shard("a", &["expired"], true),
            shard("b", &[], true),
            shard("ab", &["a", "b"], false),
            shard("c", &["a"], false),
        ];
        let kept = |finished: &[&str]| {
            let kept = |shard: &ShardFacts| {
                let finished = finished.contains(&&*shard.id);
                let checkpoint = Checkpoint { finished, ..Checkpoint::new(Position::Horizon) };
                (shard.id.clone(), Kept { checkpoint, created: None, change: 1 })
            };
            shards.iter().map(kept).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(due(&shards, &kept(&[])), ["a", "b"]);
        assert_eq!(due(&shards, &kept(&["a"])), ["b", "c"]);
        assert_eq!(due(&shards, &kept(&["a", "b"])), ["ab", "c"]);
    }

    #[test]
    fn what_comes_after_the_latest_is_read_from_its_beginning() {
        let stream = Stream { start: Position::Latest, ..Stream::default() };
        assert_eq!(stream.begins(false, true), Checkpoint::new(Position::Latest));
        assert!(stream.begins(true, true).finished);
        assert_eq!(stream.begins(false, false), Checkpoint::new(Position::Horizon));
        assert_eq!(stream.begins(true, false), Checkpoint::new(Position::Horizon));
    }
}
