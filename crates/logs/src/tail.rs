//! Live Tail: the handler of the group `tail`. A session sees events as they are written, without a limit of time; a client
//! that reads too slowly misses some and is told so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::Stream;
use hearth_model::LogGroup;
use hearth_observe::{Followed, Follower, Stored};
use hearth_wire::event_stream::EventStream;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::TailApi;
use hearth_wire_logs::errors::{invalid_parameter_exception as invalid, limit_exceeded_exception as limit_exceeded};
use hearth_wire_logs::types::StartLiveTailResponseStream as Event;
use hearth_wire_logs::types::*;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::cloudwatch::{CloudWatch, failed, no_group};
use crate::coverage::COVERAGE;
use crate::events::{millis, text};
use crate::names;
use crate::pattern::Pattern;

/// Sessions at a time.
pub(crate) const SESSIONS_MAX: usize = 64;
/// Events of an update, and bytes of their messages.
const EVENTS_MAX: usize = 500;
const BYTES_MAX: usize = 1 << 20;
/// Updates that wait for a client. Beyond them it misses events.
const WAITING_MAX: usize = 4;
/// Without events a session says that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(1);

#[async_trait]
impl TailApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn start_live_tail(&self, cx: &Context, input: StartLiveTailRequest) -> Result<StartLiveTailResponse, Error> {
        let identifiers = input.log_group_identifiers.unwrap_or_default();
        let wanted = Wanted::of(
            input.log_stream_names.as_deref(),
            input.log_stream_name_prefixes.as_deref(),
            input.log_event_filter_pattern.as_deref(),
            identifiers.len(),
        )?;
        let wanted = Arc::new(wanted);
        let mut groups = Vec::new();
        for identifier in &identifiers {
            let group = names::identified(cx, identifier)?;
            self.logs.group(&group).await.map_err(failed)?.ok_or_else(no_group)?;
            groups.push(group);
        }
        let permit = self.sessions.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| limit_exceeded(format!("There are {SESSIONS_MAX} Live Tail sessions already.")))?;
        let (updates, waiting) = mpsc::channel(WAITING_MAX);
        let mut followers = JoinSet::new();
        for group in groups {
            let follower = self.logs.follow(&group).map_err(failed)?;
            followers.spawn(follow(group, follower, wanted.clone(), updates.clone()));
        }
        let start = LiveTailSessionStart {
            request_id: Some(cx.request_id.clone()),
            session_id: Some(uuid::Uuid::new_v4().to_string()),
            log_group_identifiers: Some(identifiers),
            log_stream_names: input.log_stream_names,
            log_stream_name_prefixes: input.log_stream_name_prefixes,
            log_event_filter_pattern: input.log_event_filter_pattern,
        };
        let mut silence = tokio::time::interval_at(Instant::now() + SILENCE_MAX, SILENCE_MAX);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session =
            Session { start: Some(start), updates: Some(waiting), silence, _followers: followers, _permit: permit };
        Ok(StartLiveTailResponse { response_stream: EventStream::new(session) })
    }
}

/// What a session is to see of its groups.
struct Wanted {
    pattern: Option<Pattern>,
    streams: Option<Vec<String>>,
    prefixes: Option<Vec<String>>,
}

impl Wanted {
    fn of(
        streams: Option<&[String]>,
        prefixes: Option<&[String]>,
        pattern: Option<&str>,
        groups: usize,
    ) -> Result<Self, Error> {
        if streams.is_some() && prefixes.is_some() {
            return Err(invalid("logStreamNames and logStreamNamePrefixes are mutually exclusive parameters."));
        }
        if groups > 1 && (streams.is_some() || prefixes.is_some()) {
            return Err(invalid("Log streams can be named when there is one log group only."));
        }
        let pattern = pattern.filter(|pattern| !pattern.is_empty()).map(Pattern::parse).transpose()?;
        Ok(Wanted { pattern, streams: streams.map(<[_]>::to_vec), prefixes: prefixes.map(<[_]>::to_vec) })
    }

    fn is_met(&self, event: &Stored) -> bool {
        let named = |names: &Vec<String>| names.iter().any(|name| **name == *event.stream);
        let begun = |prefixes: &Vec<String>| prefixes.iter().any(|prefix| event.stream.starts_with(prefix));
        self.streams.as_ref().is_none_or(named)
            && self.prefixes.as_ref().is_none_or(begun)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&event.message))
    }
}

/// Until the session or the log ends.
async fn follow(
    group: LogGroup,
    mut follower: Follower,
    wanted: Arc<Wanted>,
    updates: mpsc::Sender<LiveTailSessionUpdate>,
) {
    let identifier = format!("{}:{}", group.account, group.name);
    let mut has_missed = false;
    while let Some(followed) = follower.next().await {
        let events = match followed {
            Followed::Events(events) => events,
            Followed::Missed { .. } => {
                has_missed = true;
                continue;
            }
        };
        let mut left = &*events;
        loop {
            let results = taken(&mut left, &wanted, &identifier);
            if results.is_empty() {
                break;
            }
            if updates.send(update(results, std::mem::take(&mut has_missed))).await.is_err() {
                return;
            }
        }
    }
}

/// As many of the events as one update may have, from their front.
fn taken(left: &mut &[Stored], wanted: &Wanted, identifier: &str) -> Vec<LiveTailSessionLogEvent> {
    let (mut results, mut bytes) = (Vec::new(), 0);
    while results.len() < EVENTS_MAX && bytes < BYTES_MAX {
        let Some((event, rest)) = left.split_first() else { break };
        *left = rest;
        if wanted.is_met(event) {
            bytes += event.message.len();
            results.push(result(identifier, event));
        }
    }
    results
}

fn result(identifier: &str, event: &Stored) -> LiveTailSessionLogEvent {
    let position = event.position();
    LiveTailSessionLogEvent {
        log_stream_name: Some(event.stream.to_string()),
        log_group_identifier: Some(identifier.to_owned()),
        message: Some(text(&event.message)),
        timestamp: Some(position.at),
        ingestion_time: Some(millis(event.ingested)),
    }
}

fn update(results: Vec<LiveTailSessionLogEvent>, sampled: bool) -> LiveTailSessionUpdate {
    LiveTailSessionUpdate {
        session_metadata: Some(LiveTailSessionMetadata { sampled: Some(sampled) }),
        session_results: Some(results),
    }
}

/// The events of one session. Ends with the client, or with the log.
struct Session {
    start: Option<LiveTailSessionStart>,
    /// Until the log has ended.
    updates: Option<mpsc::Receiver<LiveTailSessionUpdate>>,
    silence: Interval,
    _followers: JoinSet<()>,
    _permit: OwnedSemaphorePermit,
}

impl Stream for Session {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Event>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(Event::SessionStart(start)));
        }
        let Some(updates) = &mut self.updates else { return Poll::Ready(None) };
        match updates.poll_recv(cx) {
            Poll::Ready(Some(update)) => {
                self.silence.reset();
                Poll::Ready(Some(Event::SessionUpdate(update)))
            }
            Poll::Ready(None) => {
                self.updates = None;
                let message = Some("The log has ended: Hearth is shutting down.".to_owned());
                Poll::Ready(Some(Event::SessionStreamingException(SessionStreamingException { message })))
            }
            Poll::Pending => {
                ready!(self.silence.poll_tick(cx));
                Poll::Ready(Some(Event::SessionUpdate(update(Vec::new(), false))))
            }
        }
    }
}
