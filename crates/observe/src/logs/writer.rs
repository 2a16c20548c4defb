//! The thread that puts queued events into the files of their days, and changes the catalogue.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{LogEvent, LogGroup, LogLevel, LogStreamName, PlatformRecord};
use rusqlite::Connection;

use super::block::{self, Entry};
use super::catalogue::{self, ChangeError, GroupId, StreamId, Written};
use super::days::{self, Removals};
use super::queue::{Batch, Missing, Queue, Taken};
use super::{Config, LogsError, failed, millis};
use crate::telemetry;

/// How often an idle writer looks whether there is something; it is woken when there is.
const IDLE: Duration = Duration::from_secs(600);
/// Pause after a failed write, before the next.
const RETRY: Duration = Duration::from_secs(1);
/// Streams whose numbers are remembered.
const KNOWN_MAX: usize = 65_536;
/// Days whose files are kept open. Events are of today, but for those of clients that catch up.
const OPEN_MAX: usize = 4;

type Name = (LogGroup, LogStreamName);

pub(super) struct Writer {
    folder: PathBuf,
    config: Config,
    queue: Arc<Queue>,
    catalogue: Connection,
    removals: Arc<Removals>,
    known: HashMap<Name, (GroupId, StreamId)>,
    open: Vec<(i64, Connection)>,
    /// Removals that `known` and `open` have seen.
    seen: u64,
}

impl Writer {
    pub fn new(
        folder: PathBuf,
        config: Config,
        queue: Arc<Queue>,
        catalogue: Connection,
        removals: Arc<Removals>,
    ) -> Self {
        Writer { folder, config, queue, catalogue, removals, known: HashMap::new(), open: Vec::new(), seen: 0 }
    }

    /// Until the queue is closed and empty, or closed and the disk takes nothing.
    pub fn run(mut self) {
        while let Some(mut taken) = self.queue.take(IDLE) {
            let (flushes, jobs) = (std::mem::take(&mut taken.flushes), std::mem::take(&mut taken.jobs));
            let written = self.write(&taken);
            if !jobs.is_empty() {
                jobs.into_iter().for_each(|job| job(&mut self.catalogue));
                self.known.clear();
            }
            match written {
                Ok(()) => {
                    for flush in flushes {
                        let _ = flush.send(());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, batches = taken.batches.len(), "log events could not be written");
                    drop(flushes);
                    self.open.clear();
                    self.known.clear();
                    self.queue.give_back(taken);
                    if self.queue.is_closed() {
                        return;
                    }
                    self.queue.pause(RETRY);
                }
            }
        }
    }

    fn write(&mut self, taken: &Taken) -> Result<(), LogsError> {
        if taken.dropped_elsewhere != Missing::default() {
            tracing::warn!(events = taken.dropped_elsewhere.events, "log events were dropped in very many streams");
        }
        if taken.batches.is_empty() && taken.dropped.is_empty() {
            return Ok(());
        }
        let notices: Vec<Batch> = taken
            .dropped
            .iter()
            .map(|((group, stream), missing)| self.queue.number(group, stream, vec![self.dropped(*missing)]))
            .collect();
        let mut streams: HashMap<Name, Vec<Entry>> = HashMap::new();
        for batch in taken.batches.iter().chain(&notices) {
            streams.entry((batch.group.clone(), batch.stream.clone())).or_default().extend(entries(batch));
        }
        // No file is taken away meanwhile.
        let removals = self.removals.clone();
        let seen = removals.hold();
        if *seen != self.seen {
            self.known.clear();
            self.open.clear();
            self.seen = *seen;
        }
        let blocks = self.name(streams).map_err(failed)?;
        for (day, blocks) in blocks {
            let change = days::change(self.day(day)?).map_err(failed)?;
            for (group, stream, block) in &blocks {
                days::write(&change, *group, *stream, block).map_err(failed)?;
            }
            change.commit().map_err(failed)?;
        }
        Ok(())
    }

    /// Cuts into blocks what belongs to a stream, by day, and tells the catalogue.
    #[expect(clippy::type_complexity)]
    fn name(
        &mut self,
        streams: HashMap<Name, Vec<Entry>>,
    ) -> Result<BTreeMap<i64, Vec<(GroupId, StreamId, block::Block)>>, ChangeError> {
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        let lasting = streams.keys().any(|name| !self.known.contains_key(name));
        let change = catalogue::change(&mut self.catalogue, lasting)?;
        let now = millis(self.config.clock.wall());
        let mut blocks: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for (name, entries) in streams {
            let (group, stream) = match self.known.get(&name) {
                Some(ids) => *ids,
                None => {
                    let group = match catalogue::group(&change, &name.0)? {
                        Some(group) => group.id,
                        None => catalogue::create_group(&change, &name.0, now, &catalogue::GroupSettings::default())?,
                    };
                    let stream = match catalogue::stream(&change, group, name.1.as_str())? {
                        Some(stream) => stream.id,
                        None => catalogue::create_stream(&change, group, &name.1, now)?,
                    };
                    self.known.insert(name, (group, stream));
                    (group, stream)
                }
            };
            let of = |of: fn(&Entry) -> i64| entries.iter().map(of);
            let mut written = Written {
                group,
                stream,
                first: of(|entry| entry.at).min().unwrap_or(now),
                last: of(|entry| entry.at).max().unwrap_or(now),
                ingested: of(|entry| entry.ingested).max().unwrap_or(now),
                bytes: BTreeMap::new(),
            };
            let mut rest = &entries[..];
            while !rest.is_empty() {
                let (these, others) = rest.split_at(block::cut(rest));
                let block = block::pack(these);
                let day = block::day(block.from);
                *written.bytes.entry(day).or_default() += block.data.len() as u64;
                blocks.entry(day).or_default().push((group, stream, block));
                rest = others;
            }
            catalogue::wrote(&change, &written)?;
        }
        catalogue::numbered(&change, self.queue.last_number())?;
        change.commit()?;
        Ok(blocks)
    }

    fn day(&mut self, day: i64) -> Result<&mut Connection, LogsError> {
        let at = match self.open.iter().position(|(open, _)| *open == day) {
            Some(at) => at,
            None => {
                if self.open.len() == OPEN_MAX {
                    self.open.remove(0);
                }
                self.open.push((day, days::open(&self.folder, day)?));
                self.open.len() - 1
            }
        };
        Ok(&mut self.open[at].1)
    }

    /// The platform's event of what is missing.
    fn dropped(&self, missing: Missing) -> LogEvent {
        let at = self.config.clock.wall();
        let record = PlatformRecord::LogsDropped { records: missing.events, bytes: missing.bytes };
        let line = telemetry::json_line(LogLevel::Warn, at, &record).unwrap_or_default();
        LogEvent { at, message: line }
    }
}

fn entries(batch: &Batch) -> impl Iterator<Item = Entry> + '_ {
    let ingested = millis(batch.ingested);
    (batch.first..).zip(&batch.events).map(move |(number, event)| Entry {
        number,
        at: millis(event.at),
        ingested,
        message: event.message.clone(),
    })
}
