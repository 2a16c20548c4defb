//! Events of a group in the order of their times, forwards or backwards, page by page.
//!
//! Blocks come in the order in which they begin, and are short. Going forwards, whatever was found before the begin of the
//! next block is final; going backwards, whatever is later than its latest possible end.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::block::{self, Entry, SPAN};
use super::catalogue::{self, GroupId, StreamId};
use super::{LogsError, Stored, days, failed, time};

/// Text that one page may hold, bytes.
const PAGE_MAX: usize = 1 << 20;
/// Text that is looked through for one page, bytes: some hundred milliseconds. A page that ends for it may be empty. Where
/// there is more of one moment, a page goes on to the next, so that there is an end.
const SCANNED_MAX: u64 = if cfg!(test) { 16 << 20 } else { 256 << 20 };
/// What a found event costs beside its text, bytes.
const EVENT_COST: usize = 64;
/// Text of events that are found and may yet have some before them, bytes. Of more, those stay that a page can hold.
const PENDING_MAX: usize = 16 * PAGE_MAX;

/// Where an event stands among those of its group: by its time, then by when it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Milliseconds since 1970.
    pub at: i64,
    pub number: u64,
}

impl Position {
    pub const FIRST: Position = Position { at: i64::MIN, number: 0 };
    pub const LAST: Position = Position { at: i64::MAX, number: u64::MAX };
}

/// Which streams of a group.
#[derive(Clone, Debug)]
pub enum Streams {
    All,
    One(StreamId),
    These(HashSet<StreamId>),
}

/// Where a page begins, and which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    After(Position),
    Before(Position),
}

/// What is looked through.
#[derive(Clone, Debug)]
pub struct Scan {
    pub group: GroupId,
    pub streams: Streams,
    /// Milliseconds since 1970.
    pub from: i64,
    /// Exclusive.
    pub to: i64,
    pub way: Way,
    pub limit: usize,
}

/// An event that is looked at.
pub struct Candidate<'a> {
    pub stream: StreamId,
    pub position: Position,
    /// Milliseconds since 1970.
    pub ingested: i64,
    pub message: &'a [u8],
}

/// Events, ascending, whichever way was gone.
#[derive(Debug, Default)]
pub struct Page {
    pub events: Vec<Stored>,
    /// Where the next page goes on, the same way; none when there is no more. The events may be fewer than asked for, or none.
    pub next: Option<Position>,
    /// Of all that was looked at.
    pub scanned_events: u64,
    pub scanned_bytes: u64,
}

/// Blocking. `keep` is asked of every event of the range, in no particular order.
pub(super) fn scan(
    folder: &Path,
    catalogue: &Connection,
    scan: &Scan,
    keep: &mut dyn FnMut(&Candidate<'_>) -> bool,
) -> Result<Page, LogsError> {
    let mut page = Page::default();
    let mut found = Found::new(scan);
    let mut day = None;
    let mut names = Names::new(catalogue);
    blocks(folder, catalogue, scan, &mut names, &mut |block, _| {
        // Events of one day have no part in another's file.
        if day.replace(block::day(block.begins)).is_some_and(|before| before != block::day(block.begins)) {
            found.settle(None);
        }
        found.settle(Some(block.begins));
        if found.is_full() {
            return ControlFlow::Break(());
        }
        let reached = found.settled(block.begins);
        if page.scanned_bytes > SCANNED_MAX && scan.is_beyond(reached) {
            page.next = Some(reached);
            return ControlFlow::Break(());
        }
        page.scanned_bytes += block.data.len() as u64;
        for entry in block::unpack(block.begins, block.data) {
            page.scanned_events += 1;
            let candidate = candidate(block.stream, &entry);
            if scan.covers(candidate.position) && keep(&candidate) {
                found.push(block.stream, &entry);
            }
        }
        ControlFlow::Continue(())
    })?;
    if page.next.is_none() && !found.is_full() {
        found.settle(None);
    }
    let (taken, next) = found.finish();
    page.next = next.or(page.next);
    for (stream, entry) in taken {
        let (at, ingested) = (time(entry.at), time(entry.ingested));
        let stream = names.get(stream)?.unwrap_or_default();
        page.events.push(Stored { number: entry.number, at, ingested, stream, message: entry.message });
    }
    if let Way::Before(_) = scan.way {
        page.events.reverse();
    }
    Ok(page)
}

/// Blocking. Every event of the range, once, block by block: nearly in the order of their times, which [`SPAN`] bounds.
/// Each is told with its stream's name. `limit` means nothing here.
pub(super) fn each(
    folder: &Path,
    catalogue: &Connection,
    scan: &Scan,
    visit: &mut dyn FnMut(&Candidate<'_>, &Arc<str>) -> ControlFlow<()>,
) -> Result<Scanned, LogsError> {
    let mut scanned = Scanned::default();
    blocks(folder, catalogue, scan, &mut Names::new(catalogue), &mut |block, name| {
        scanned.bytes += block.data.len() as u64;
        for entry in block::unpack(block.begins, block.data) {
            scanned.events += 1;
            let candidate = candidate(block.stream, &entry);
            if scan.covers(candidate.position) {
                visit(&candidate, name)?;
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(scanned)
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    pub events: u64,
    pub bytes: u64,
}

struct Block<'a> {
    stream: StreamId,
    begins: i64,
    data: &'a [u8],
}

fn candidate<'a>(stream: StreamId, entry: &Entry<&'a [u8]>) -> Candidate<'a> {
    let position = Position { at: entry.at, number: entry.number };
    Candidate { stream, position, ingested: entry.ingested, message: entry.message }
}

/// Blocks that may hold events of the range, by when they begin, the way that is gone, with their streams' names. Those of
/// streams that were deleted are not there any more, even where the disk still has them.
fn blocks(
    folder: &Path,
    catalogue: &Connection,
    scan: &Scan,
    names: &mut Names<'_>,
    visit: &mut dyn FnMut(Block<'_>, &Arc<str>) -> ControlFlow<()>,
) -> Result<(), LogsError> {
    let (from, to) = scan.range();
    if from >= to {
        return Ok(());
    }
    let mut days = catalogue::days(catalogue, scan.group).map_err(failed)?;
    days.retain(|day| (block::day(from)..=block::day(to - 1)).contains(day));
    let direction = match scan.way {
        Way::After(_) => "ASC",
        Way::Before(_) => {
            days.reverse();
            "DESC"
        }
    };
    let (by, id) = match &scan.streams {
        Streams::One(stream) => ("stream", stream.0),
        _ => ("grp", scan.group.0),
    };
    let select = format!(
        "SELECT stream, begins, data FROM blocks WHERE {by} = ? AND begins > ? AND begins < ? ORDER BY begins {direction}"
    );
    for day in days {
        let Some(file) = days::open_to_read(folder, day)? else { continue };
        let mut select = file.prepare(&select).map_err(failed)?;
        let mut rows = select.query(params![id, from.saturating_sub(SPAN + 1), to]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let stream = StreamId(row.get(0).map_err(failed)?);
            let wanted = if let Streams::These(wanted) = &scan.streams { wanted.contains(&stream) } else { true };
            if !wanted {
                continue;
            }
            let Some(name) = names.get(stream)? else { continue };
            let data = row.get_ref(2).map_err(failed)?.as_blob().map_err(failed)?;
            let block = Block { stream, begins: row.get(1).map_err(failed)?, data };
            if visit(block, &name).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Scan {
    /// The moments that are left of it, the way that is gone; the end is exclusive.
    fn range(&self) -> (i64, i64) {
        let from = self.from.max(0);
        match self.way {
            Way::After(position) => (from.max(position.at), self.to),
            Way::Before(position) => (from, self.to.min(position.at.saturating_add(1))),
        }
    }

    fn covers(&self, position: Position) -> bool {
        self.is_beyond(position) && (self.from..self.to).contains(&position.at)
    }

    /// Whether this lies on the way from where the page begins.
    fn is_beyond(&self, position: Position) -> bool {
        match self.way {
            Way::After(start) => position > start,
            Way::Before(start) => position < start,
        }
    }
}

/// Names of streams, each looked up once; none of a stream that was deleted.
struct Names<'a> {
    catalogue: &'a Connection,
    known: HashMap<StreamId, Option<Arc<str>>>,
}

impl<'a> Names<'a> {
    fn new(catalogue: &'a Connection) -> Self {
        Names { catalogue, known: HashMap::new() }
    }

    fn get(&mut self, stream: StreamId) -> Result<Option<Arc<str>>, LogsError> {
        if let Some(name) = self.known.get(&stream) {
            return Ok(name.clone());
        }
        let name: Option<Arc<str>> = catalogue::stream_name(self.catalogue, stream).map_err(failed)?.map(Arc::from);
        self.known.insert(stream, name.clone());
        Ok(name)
    }
}

/// What was found: settled events in their order, and others that may yet have some before them.
struct Found<'a> {
    scan: &'a Scan,
    settled: Vec<(StreamId, Entry)>,
    bytes: usize,
    pending: Vec<(StreamId, Entry)>,
    pending_bytes: usize,
    /// Time of the pending event that comes first, the way that is gone.
    nearest: Option<i64>,
    /// There are more events than the page takes.
    over: bool,
}

impl<'a> Found<'a> {
    fn new(scan: &'a Scan) -> Self {
        Found { scan, settled: Vec::new(), bytes: 0, pending: Vec::new(), pending_bytes: 0, nearest: None, over: false }
    }

    fn push(&mut self, stream: StreamId, entry: &Entry<&[u8]>) {
        let Entry { number, at, ingested, message } = *entry;
        let nearest = self.nearest.get_or_insert(at);
        *nearest = if let Way::After(_) = self.scan.way { at.min(*nearest) } else { at.max(*nearest) };
        self.pending.push((stream, Entry { number, at, ingested, message: Bytes::copy_from_slice(message) }));
        self.pending_bytes += message.len() + EVENT_COST;
        if self.pending_bytes > PENDING_MAX {
            self.trim();
        }
    }

    /// Keeps what comes first and fills a page; the next page finds the rest.
    fn trim(&mut self) {
        self.sort();
        let (mut kept, mut bytes) = (0, 0);
        for (_, entry) in &self.pending {
            if kept > self.scan.limit || (bytes > PAGE_MAX && kept > 1) {
                break;
            }
            kept += 1;
            bytes += entry.message.len();
        }
        self.pending.truncate(kept);
        self.pending_bytes = bytes + kept * EVENT_COST;
    }

    fn sort(&mut self) {
        let position = |entry: &Entry| Position { at: entry.at, number: entry.number };
        let way = self.scan.way;
        self.pending.sort_unstable_by(|(_, one), (_, other)| match way {
            Way::After(_) => position(one).cmp(&position(other)),
            Way::Before(_) => position(other).cmp(&position(one)),
        });
    }

    /// Settles what no block that begins at `begins` or beyond can come before; without one, all.
    fn settle(&mut self, begins: Option<i64>) {
        let final_now = |at: i64| match (begins, self.scan.way) {
            (None, _) => true,
            (Some(begins), Way::After(_)) => at < begins,
            (Some(begins), Way::Before(_)) => at > begins + SPAN,
        };
        if !self.nearest.is_some_and(final_now) {
            return;
        }
        self.sort();
        let end = self.pending.partition_point(|(_, entry)| final_now(entry.at));
        for (stream, entry) in self.pending.drain(..end) {
            self.pending_bytes = self.pending_bytes.saturating_sub(entry.message.len() + EVENT_COST);
            self.bytes += entry.message.len();
            if self.settled.len() == self.scan.limit || (self.bytes > PAGE_MAX && !self.settled.is_empty()) {
                self.over = true;
                break;
            }
            self.settled.push((stream, entry));
        }
        self.nearest = self.pending.first().map(|(_, entry)| entry.at);
    }

    fn is_full(&self) -> bool {
        self.over
    }

    /// Everything before this, the way that is gone, is settled.
    fn settled(&self, begins: i64) -> Position {
        match self.scan.way {
            Way::After(_) => Position { at: begins - 1, number: u64::MAX },
            Way::Before(_) => Position { at: begins + SPAN + 1, number: 0 },
        }
    }

    fn finish(self) -> (Vec<(StreamId, Entry)>, Option<Position>) {
        let last = self.settled.last().map(|(_, entry)| Position { at: entry.at, number: entry.number });
        let next = if self.over { last } else { None };
        (self.settled, next)
    }
}
