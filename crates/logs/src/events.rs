//! Events: the handlers of the group `events`.

use async_trait::async_trait;
use bytes::Bytes;
use hearth_model::{LogEvent, LogStreamName};
use hearth_observe::{Group, Page, Position, Scan, Stored, StreamOrder, Streams, Way};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::EventsApi;
use hearth_wire_logs::errors::{invalid_parameter_exception as invalid, service_unavailable_exception as unavailable};
use hearth_wire_logs::types::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cloudwatch::{CloudWatch, failed, no_group, no_stream};
use crate::coverage::COVERAGE;
use crate::pattern::Pattern;
use crate::streams::SEQUENCE_TOKEN;
use crate::{names, page};

/// Events of a page, unless the client says how many.
const USUAL: usize = 10_000;
/// Text of one request or one event, and what each event costs beside its text, bytes.
const BATCH_MAX: usize = 1_048_576;
const EVENT_COST: usize = 26;

const HOUR: i64 = 3_600_000;
/// How far ahead of the clock an event may be, how far behind, and how far apart those of a request, milliseconds.
const NEW_MAX: i64 = 2 * HOUR;
const OLD_MAX: i64 = 14 * 24 * HOUR;
const SPAN_MAX: i64 = 24 * HOUR;
/// 2024-01-01: before it, events are not returned backwards.
const BACKWARDS_SINCE: i64 = 1_704_067_200_000;

#[async_trait]
impl EventsApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn put_log_events(&self, cx: &Context, input: PutLogEventsRequest) -> Result<PutLogEventsResponse, Error> {
        let events = input.log_events.unwrap_or_default();
        check(&events)?;
        let name = names::group(cx, &input.log_group_name.unwrap_or_default());
        let stream = input.log_stream_name.unwrap_or_default();
        let group = self.logs.group(&name).await.map_err(failed)?.ok_or_else(no_group)?;
        self.logs.stream(group.id, &stream).await.map_err(failed)?.ok_or_else(no_stream)?;
        let times: Vec<i64> = events.iter().map(|event| event.timestamp.unwrap_or_default()).collect();
        let taken = Taken::of(&times, self.now(), self.logs.kept_since(&group.settings));
        let kept: Vec<LogEvent> = events.into_iter().take(taken.end).skip(taken.begin).map(event).collect();
        if !self.logs.append(&name, &LogStreamName::named(&stream), kept) {
            return Err(unavailable("Events come faster than they can be written."));
        }
        self.logs.flush().await.map_err(failed)?;
        Ok(PutLogEventsResponse {
            next_sequence_token: Some(SEQUENCE_TOKEN.to_owned()),
            rejected_log_events_info: taken.rejected,
            ..PutLogEventsResponse::default()
        })
    }

    async fn get_log_events(&self, cx: &Context, input: GetLogEventsRequest) -> Result<GetLogEventsResponse, Error> {
        let name = names::named(cx, input.log_group_name.as_deref(), input.log_group_identifier.as_deref())?;
        let asked = input.next_token.as_deref().map(page::way).transpose()?;
        let group = self.logs.group(&name).await.map_err(failed)?.ok_or_else(no_group)?;
        let stream = self.logs.stream(group.id, &input.log_stream_name.unwrap_or_default()).await;
        let stream = stream.map_err(failed)?.ok_or_else(no_stream)?;
        let way = asked.unwrap_or(match input.start_from_head {
            Some(true) => Way::After(Position::FIRST),
            _ => Way::Before(Position::LAST),
        });
        let scan = Scan {
            group: group.id,
            streams: Streams::One(stream.id),
            from: input.start_time.unwrap_or(0).max(self.logs.kept_since(&group.settings)),
            to: input.end_time.unwrap_or(i64::MAX),
            way,
            limit: page::size(input.limit, USUAL),
        };
        let page = self.logs.scan(scan, |_| true).await.map_err(failed)?;
        let (forward, backward) = turns(way, &page);
        let answered = |event: &Stored| OutputLogEvent {
            timestamp: Some(event.position().at),
            message: Some(text(&event.message)),
            ingestion_time: Some(millis(event.ingested)),
        };
        Ok(GetLogEventsResponse {
            events: Some(page.events.iter().map(answered).collect()),
            next_forward_token: Some(page::way_token(forward)),
            next_backward_token: Some(page::way_token(backward)),
        })
    }

    async fn filter_log_events(
        &self,
        cx: &Context,
        input: FilterLogEventsRequest,
    ) -> Result<FilterLogEventsResponse, Error> {
        let name = names::named(cx, input.log_group_name.as_deref(), input.log_group_identifier.as_deref())?;
        let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or_default())?;
        let asked = input.next_token.as_deref().map(page::way).transpose()?;
        let backwards = input.start_from_head == Some(false);
        if backwards && asked.is_none() && input.start_time.unwrap_or(0) < BACKWARDS_SINCE {
            return Err(invalid(
                "startFromHead can be false only when startTime is on or after Jan 1, 2024 00:00:00 UTC.",
            ));
        }
        let group = self.logs.group(&name).await.map_err(failed)?.ok_or_else(no_group)?;
        let streams = self.streams(&group, input.log_stream_names, input.log_stream_name_prefix).await?;
        let way = asked.unwrap_or(if backwards { Way::Before(Position::LAST) } else { Way::After(Position::FIRST) });
        let scan = Scan {
            group: group.id,
            streams,
            from: input.start_time.unwrap_or(0).max(self.logs.kept_since(&group.settings)),
            to: input.end_time.map_or(i64::MAX, |end| end.saturating_add(1)),
            way,
            limit: page::size(input.limit, USUAL),
        };
        let page = self.logs.scan(scan, move |candidate| pattern.is_match(candidate.message)).await.map_err(failed)?;
        let answered = |event: &Stored| FilteredLogEvent {
            log_stream_name: Some(event.stream.to_string()),
            timestamp: Some(event.position().at),
            message: Some(text(&event.message)),
            ingestion_time: Some(millis(event.ingested)),
            event_id: Some(page::digits(event.position())),
        };
        let mut events: Vec<FilteredLogEvent> = page.events.iter().map(answered).collect();
        let next_token = page.next.map(|next| match way {
            Way::After(_) => page::way_token(Way::After(next)),
            Way::Before(_) => page::way_token(Way::Before(next)),
        });
        if let Way::Before(_) = way {
            events.reverse();
        }
        // As AWS has answered it since 2020.
        Ok(FilterLogEventsResponse { events: Some(events), searched_log_streams: Some(Vec::new()), next_token })
    }
}

impl CloudWatch {
    /// The streams that are looked through: those named, those that begin so, or all.
    pub(crate) async fn streams(
        &self,
        group: &Group,
        named: Option<Vec<String>>,
        prefix: Option<String>,
    ) -> Result<Streams, Error> {
        match (named, prefix) {
            (Some(_), Some(_)) => {
                Err(invalid("logStreamNamePrefix and logStreamNames are mutually exclusive parameters."))
            }
            (None, None) => Ok(Streams::All),
            (Some(named), None) => {
                let mut found = Vec::new();
                for name in named {
                    let stream = self.logs.stream(group.id, &name).await.map_err(failed)?;
                    found.push(stream.ok_or_else(no_stream)?.id);
                }
                Ok(match found.as_slice() {
                    [one] => Streams::One(*one),
                    _ => Streams::These(found.into_iter().collect()),
                })
            }
            (None, Some(prefix)) => {
                let order = StreamOrder::Name { descending: false };
                let found = self.logs.streams(group.id, prefix, order, None, usize::MAX).await.map_err(failed)?;
                Ok(Streams::These(found.into_iter().map(|stream| stream.id).collect()))
            }
        }
    }
}

/// Where a stream goes on from a page, forwards and backwards. At either end the way that was gone stays where it was, so
/// that clients see that there is no more, and later that there is.
fn turns(way: Way, page: &Page) -> (Way, Way) {
    if let (Some(first), Some(last)) = (page.events.first(), page.events.last()) {
        return (Way::After(last.position()), Way::Before(first.position()));
    }
    // Nothing was found in what was looked at, but there may be more.
    match way {
        Way::After(at) => {
            let here = page.next.unwrap_or(at);
            (Way::After(here), Way::Before(Position { number: here.number.saturating_add(1), ..here }))
        }
        Way::Before(Position::LAST) if page.next.is_none() => (Way::After(NOWHERE), Way::Before(NOWHERE)),
        Way::Before(at) => {
            let here = page.next.unwrap_or(at);
            (Way::After(Position { number: here.number.saturating_sub(1), ..here }), Way::Before(here))
        }
    }
}

/// Before every event.
const NOWHERE: Position = Position { at: 0, number: 0 };

/// What is answered is text, whatever a function wrote.
pub(crate) fn text(message: &Bytes) -> String {
    String::from_utf8_lossy(message).into_owned()
}

pub(crate) fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn event(event: InputLogEvent) -> LogEvent {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(event.timestamp.unwrap_or_default()).unwrap_or(0));
    LogEvent { at, message: event.message.unwrap_or_default().into() }
}

/// What a request may hold beyond the model's constraints.
fn check(events: &[InputLogEvent]) -> Result<(), Error> {
    let size = |event: &InputLogEvent| event.message.as_ref().map_or(0, String::len) + EVENT_COST;
    if let Some(large) = events.iter().map(size).find(|size| *size > BATCH_MAX) {
        return Err(invalid(format!("Log event too large: {large} bytes exceeds limit of {BATCH_MAX}")));
    }
    let all: usize = events.iter().map(size).sum();
    if all > BATCH_MAX {
        return Err(invalid(format!("Upload too large: {all} bytes exceeds limit of {BATCH_MAX}")));
    }
    if !events.is_sorted_by_key(|event| event.timestamp) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    let at = |event: Option<&InputLogEvent>| event.and_then(|event| event.timestamp).unwrap_or_default();
    if at(events.last()) - at(events.first()) > SPAN_MAX {
        return Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    Ok(())
}

/// Which events of a request are taken, and what is said of the others.
#[derive(Default)]
struct Taken {
    begin: usize,
    end: usize,
    rejected: Option<RejectedLogEventsInfo>,
}

impl Taken {
    /// `times` ascend.
    fn of(times: &[i64], now: i64, kept_since: i64) -> Self {
        let index = |end: usize| i64::try_from(end).ok();
        let expired = times.partition_point(|at| *at < kept_since);
        let old = times.partition_point(|at| *at < now - OLD_MAX);
        let end = times.partition_point(|at| *at <= now + NEW_MAX);
        let begin = expired.max(old).min(end);
        // Of the two reasons to be too late, the one that reaches further is told.
        let (expired, old) = if expired > old { (expired, 0) } else { (0, old) };
        let rejected = RejectedLogEventsInfo {
            too_new_log_event_start_index: Some(end).filter(|end| *end < times.len()).and_then(index),
            too_old_log_event_end_index: Some(old).filter(|old| *old > 0).and_then(index),
            expired_log_event_end_index: Some(expired).filter(|expired| *expired > 0).and_then(index),
        };
        let none = begin == 0 && end == times.len();
        Taken { begin, end, rejected: (!none).then_some(rejected) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn what_is_too_old_too_new_or_expired_is_told_and_the_rest_is_taken() {
        let times = [NOW - OLD_MAX - 1, NOW - OLD_MAX, NOW, NOW + NEW_MAX, NOW + NEW_MAX + 1];
        let taken = Taken::of(&times, NOW, 0);
        let rejected = taken.rejected.unwrap();
        assert_eq!((taken.begin, taken.end), (1, 4));
        assert_eq!(rejected.too_old_log_event_end_index, Some(1));
        assert_eq!(rejected.too_new_log_event_start_index, Some(4));
        assert_eq!(rejected.expired_log_event_end_index, None);
        let taken = Taken::of(&times, NOW, NOW - 1000);
        assert_eq!((taken.begin, taken.rejected.unwrap().expired_log_event_end_index), (2, Some(2)));
        let fine = Taken::of(&[NOW - 1, NOW], NOW, 0);
        assert!(fine.rejected.is_none() && (fine.begin, fine.end) == (0, 2));
        let none = Taken::of(&[NOW + NEW_MAX + 5], NOW, 0);
        assert_eq!((none.begin, none.end), (0, 0));
    }

    #[test]
    fn requests_are_checked_as_a_whole() {
        let event = |at: i64, size: usize| InputLogEvent { timestamp: Some(at), message: Some("x".repeat(size)) };
        let told = |events: &[InputLogEvent]| check(events).err().and_then(|error| error.message);
        assert_eq!(told(&[event(1, 5), event(1, 5), event(2, 5)]), None);
        assert!(told(&[event(2, 5), event(1, 5)]).unwrap().contains("chronological order"));
        assert!(told(&[event(0, 5), event(SPAN_MAX + 1, 5)]).unwrap().contains("24 hours"));
        assert!(told(&[event(0, BATCH_MAX)]).unwrap().starts_with("Log event too large: 1048602 bytes"));
        assert!(told(&vec![event(0, 600_000); 2]).unwrap().starts_with("Upload too large: 1200052 bytes"));
    }
}
