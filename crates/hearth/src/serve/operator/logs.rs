//! A function's log as JSON lines: what is kept, then, for who follows, what comes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hearth_frontend::{Lines, LogsRequest, OperatorError};
use hearth_model::{Functions, LogGroup, RequestId};
use hearth_observe::{Followed, Follower, Logs, Page, Position, Query, Stored, platform};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::ServerOperator;
use super::asked::{function, moment};

/// Events of one read.
const PAGE: usize = 1000;
/// What a follower sees of the time before, unless it says since when.
const FOLLOWED_PAGE: usize = 10;
/// How far back a follower reads again that was too slow: no invocation lasts longer.
const MISSED: Duration = Duration::from_secs(960);
/// Lines that may wait for a slow client.
const LINES_MAX: usize = 256;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: String,
    log_stream: &'a str,
    message: std::borrow::Cow<'a, str>,
}

pub async fn answer(operator: &ServerOperator, request: LogsRequest) -> Result<Lines, OperatorError> {
    let arn = function(&request.account, &request.region, &request.function)?;
    let found = operator.control.known(&arn).ok();
    let group = match &found {
        Some(function) => function.log_group.clone(),
        // Deleted functions keep their log; its name was the usual one, most likely.
        None => LogGroup {
            account: arn.account.clone(),
            region: arn.region.clone(),
            name: format!("/aws/lambda/{}", arn.name).into(),
        },
    };
    let mut query = Query::latest(group.clone(), PAGE);
    query.since = request.since.as_deref().map(|text| moment("since", text)).transpose()?;
    query.grep = request.grep;
    query.request = request.request.map(RequestId::new);
    let whole = query.since.is_some() || query.grep.is_some() || query.request.is_some();
    if whole {
        query.after = Some(Position::FIRST);
    } else if request.follow {
        query.limit = FOLLOWED_PAGE;
    }
    let follower = match request.follow {
        true => Some(operator.logs.follow(&group).map_err(|e| failed(&e))?),
        false => None,
    };
    let first = operator.logs.read(&query).await.map_err(|e| failed(&e))?;
    if found.is_none() && first.events.is_empty() && first.next.is_none() {
        return Err(OperatorError { status: 404, code: "NotFound", message: format!("no log of {}", arn.name) });
    }
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let reader = Reader { logs: operator.logs.clone(), query, seen: 0, sender };
    tokio::spawn(reader.run(first, follower, operator.ended.clone()));
    Ok(lines)
}

fn failed(error: &dyn std::fmt::Display) -> OperatorError {
    OperatorError { status: 500, code: "Internal", message: error.to_string() }
}

struct Reader {
    logs: Logs,
    query: Query,
    /// The largest number that was sent.
    seen: u64,
    sender: mpsc::Sender<Bytes>,
}

/// The client went away.
struct Gone;

impl Reader {
    async fn run(mut self, first: Page, follower: Option<Follower>, mut ended: watch::Receiver<bool>) {
        let sent = async {
            self.send(&first.events).await?;
            if self.query.after.is_some() {
                self.query.after = first.next;
                self.rest(0).await?;
            }
            self.query.limit = PAGE;
            match follower {
                Some(follower) => self.follow(follower).await,
                None => Ok::<(), Gone>(()),
            }
        };
        tokio::select! {
            _ = sent => {}
            _ = ended.wait_for(|ended| *ended) => {}
        }
    }

    /// Every page that is left, of what was appended after the event of this number.
    async fn rest(&mut self, seen: u64) -> Result<(), Gone> {
        while self.query.after.is_some() {
            let page = match self.logs.read(&self.query).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "a log could not be read");
                    return Err(Gone);
                }
            };
            let events: Vec<Stored> = page.events.into_iter().filter(|event| event.number > seen).collect();
            self.send(&events).await?;
            self.query.after = page.next;
        }
        Ok(())
    }

    /// Where an invocation is asked for, and where events were missed, they are read again: which they are and what is
    /// missing is the store's to say.
    async fn follow(&mut self, mut follower: Follower) -> Result<(), Gone> {
        let sender = self.sender.clone();
        loop {
            let next = tokio::select! {
                next = follower.next() => next,
                () = sender.closed() => return Err(Gone),
            };
            match next {
                None => return Ok(()),
                Some(Followed::Events(events)) if self.query.request.is_none() => {
                    let holds = |event: &Stored, text: &str| String::from_utf8_lossy(&event.message).contains(text);
                    let wanted = |event: &&Stored| {
                        event.number > self.seen && self.query.grep.as_ref().is_none_or(|text| holds(event, text))
                    };
                    let events: Vec<Stored> = events.iter().filter(wanted).cloned().collect();
                    self.send(&events).await?;
                }
                Some(_) => {
                    let (since, seen) = (self.query.since, self.seen);
                    self.query.since = since.max(SystemTime::now().checked_sub(MISSED));
                    self.query.after = Some(Position::FIRST);
                    self.rest(seen).await?;
                    self.query.since = since;
                }
            }
        }
    }

    async fn send(&mut self, events: &[Stored]) -> Result<(), Gone> {
        for event in events {
            let line = Line {
                time: platform::timestamp(event.at),
                log_stream: &event.stream,
                message: String::from_utf8_lossy(&event.message),
            };
            let mut bytes = serde_json::to_vec(&line).map_err(|_| Gone)?;
            bytes.push(b'\n');
            self.sender.send(bytes.into()).await.map_err(|_| Gone)?;
            self.seen = self.seen.max(event.number);
        }
        Ok(())
    }
}
