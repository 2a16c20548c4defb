//! A group's log for people: the latest events, or all since a moment, or those of one invocation.

use std::time::SystemTime;

use hearth_model::{LogGroup, RequestId};
use memchr::memmem::Finder;

use super::catalogue::StreamId;
use super::scan::{Candidate, Page, Position, Scan, Streams, Way};
use super::{Logs, LogsError, millis};

/// Which events of a group to read.
#[derive(Clone, Debug)]
pub struct Query {
    pub group: LogGroup,
    pub since: Option<SystemTime>,
    /// Exclusive.
    pub until: Option<SystemTime>,
    /// Only what was logged between the begin and the REPORT of this invocation.
    pub request: Option<RequestId>,
    /// Only messages that hold this text.
    pub grep: Option<String>,
    /// Where the last page ended. With it the answer holds the first `limit` events that follow, else the latest.
    pub after: Option<Position>,
    pub limit: usize,
}

impl Query {
    /// The latest `limit` events of a group.
    pub fn latest(group: LogGroup, limit: usize) -> Self {
        Query { group, since: None, until: None, request: None, grep: None, after: None, limit }
    }
}

/// Part of a stream: an invocation's, both ends included.
struct Span {
    stream: StreamId,
    from: Position,
    to: Position,
}

/// What a line says of the invocation that is looked for.
enum Mark {
    Begins,
    Ends,
}

impl Logs {
    /// Events ascending, with everything that was appended before this call. An answer may hold fewer than `limit`, or
    /// none, and yet not be the last: [`Page::next`] says so.
    pub async fn read(&self, query: &Query) -> Result<Page, LogsError> {
        let Some(group) = self.group(&query.group).await? else { return Ok(Page::default()) };
        let from = query.since.map_or(i64::MIN, millis).max(self.kept_since(&group.settings));
        let to = query.until.map_or(i64::MAX, millis);
        let way = query.after.map_or(Way::Before(Position::LAST), Way::After);
        let mut scan = Scan { group: group.id, streams: Streams::All, from, to, way, limit: query.limit };
        let grep = query.grep.as_ref().map(|text| Finder::new(text.as_bytes()).into_owned());
        let grep = move |message: &[u8]| grep.as_ref().is_none_or(|grep| grep.find(message).is_some());
        let Some(request) = &query.request else {
            return self.scan(scan, move |candidate| grep(candidate.message)).await;
        };
        let spans = self.spans(&scan, request).await?;
        let (Some(first), Some(last)) =
            (spans.iter().map(|span| span.from.at).min(), spans.iter().map(|span| span.to.at).max())
        else {
            return Ok(Page::default());
        };
        (scan.from, scan.to) = (from.max(first), to.min(last.saturating_add(1)));
        scan.streams = Streams::These(spans.iter().map(|span| span.stream).collect());
        let within = move |candidate: &Candidate<'_>| {
            let inside =
                |span: &Span| candidate.stream == span.stream && (span.from..=span.to).contains(&candidate.position);
            spans.iter().any(inside)
        };
        self.scan(scan, move |candidate| within(candidate) && grep(candidate.message)).await
    }

    /// Where the invocation stands in its streams. A stream is one environment's, and that serves one invocation at a time.
    async fn spans(&self, scan: &Scan, request: &RequestId) -> Result<Vec<Span>, LogsError> {
        let mut marks: Vec<(StreamId, Position, Mark)> = Vec::new();
        let (sender, found) = std::sync::mpsc::channel();
        let mut after = Position::FIRST;
        loop {
            let (sender, id) = (sender.clone(), request.as_str().to_owned());
            let finder = Finder::new(request.as_str().as_bytes()).into_owned();
            let page = Scan { streams: Streams::All, way: Way::After(after), ..scan.clone() };
            let page = self.scan(page, move |candidate| {
                if finder.find(candidate.message).is_some()
                    && let Some(mark) = mark(candidate.message, &id)
                {
                    let _ = sender.send((candidate.stream, candidate.position, mark));
                }
                false
            });
            let page = page.await?;
            marks.extend(found.try_iter());
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        marks.sort_by_key(|(_, position, _)| *position);
        let mut spans: Vec<Span> = Vec::new();
        for (stream, position, mark) in marks {
            match mark {
                Mark::Begins => spans.push(Span { stream, from: position, to: Position::LAST }),
                Mark::Ends => {
                    if let Some(span) = spans.iter_mut().rev().find(|span| span.stream == stream) {
                        span.to = span.to.min(position);
                    }
                }
            }
        }
        Ok(spans)
    }
}

/// The platform's own lines, in either format, of a log that has them.
fn mark(message: &[u8], request: &str) -> Option<Mark> {
    let text = std::str::from_utf8(message).ok()?;
    let is = |kind: &str, after: char| {
        text.strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(" RequestId: "))
            .and_then(|rest| rest.strip_prefix(request))
            .is_some_and(|rest| rest.starts_with(after))
    };
    let says = |kind: &str| {
        text.starts_with('{')
            && text.contains(&format!(r#""type":"platform.{kind}""#))
            && text.contains(&format!(r#""requestId":"{request}""#))
    };
    if is("START", ' ') || says("start") {
        Some(Mark::Begins)
    } else {
        (is("REPORT", '\t') || says("report")).then_some(Mark::Ends)
    }
}
