//! A function's log as JSON lines: what is kept, then, for who follows, what comes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hearth_frontend::{Lines, LogsRequest, OperatorError};
use hearth_model::{Functions, LogGroup, RequestId};
use hearth_observe::{Followed, Follower, Logs, Query, Stored, platform};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::ServerOperator;
use crate::settings::Value;

/// Events of one read.
const PAGE: usize = 1000;
/// What a follower sees of the time before, unless it says since when.
const FOLLOWED_PAGE: usize = 10;
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
    let arn = ServerOperator::arn(&request.account, &request.region, &request.function)?;
    let found = operator.control.find(&arn).ok();
    let group = match &found {
        Some(target) => target.primary.log_group.clone(),
        // Deleted functions keep their log; its name was the usual one, most likely.
        None => LogGroup {
            account: arn.account.clone(),
            region: arn.region.clone(),
            name: format!("/aws/lambda/{}", arn.name).into(),
        },
    };
    let mut query = Query::latest(group.clone(), PAGE);
    query.since = request.since.as_deref().map(since).transpose()?;
    query.grep = request.grep;
    query.request = request.request.map(RequestId::new);
    let whole = query.since.is_some() || query.grep.is_some() || query.request.is_some();
    if whole {
        query.after = Some(0);
    } else if request.follow {
        query.limit = FOLLOWED_PAGE;
    }
    let follower = match request.follow {
        true => Some(operator.logs.follow(&group).map_err(|e| failed(&e))?),
        false => None,
    };
    let first = operator.logs.read(query.clone()).await.map_err(|e| failed(&e))?;
    if found.is_none() && first.is_empty() {
        return Err(OperatorError { status: 404, code: "NotFound", message: format!("no log of {}", arn.name) });
    }
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let reader = Reader { logs: operator.logs.clone(), query, sender };
    tokio::spawn(reader.run(first, follower, operator.ended.clone()));
    Ok(lines)
}

/// `10m` before now, or an RFC 3339 time.
fn since(text: &str) -> Result<SystemTime, OperatorError> {
    if let Ok(before) = Duration::parse(text) {
        return Ok(SystemTime::now().checked_sub(before).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let at: jiff::Timestamp = text.parse().map_err(|_| OperatorError {
        status: 400,
        code: "BadRequest",
        message: format!("since: {text:?} is neither a duration such as 10m nor an RFC 3339 time"),
    })?;
    Ok(at.into())
}

fn failed(error: &dyn std::fmt::Display) -> OperatorError {
    OperatorError { status: 500, code: "Internal", message: error.to_string() }
}

struct Reader {
    logs: Logs,
    query: Query,
    sender: mpsc::Sender<Bytes>,
}

/// The client went away.
struct Gone;

impl Reader {
    async fn run(mut self, first: Vec<Stored>, follower: Option<Follower>, mut ended: watch::Receiver<bool>) {
        let paged = self.query.after.is_some();
        let sent = async {
            self.send(&first).await?;
            if paged && !first.is_empty() {
                self.rest().await?;
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

    /// Every page after the last.
    async fn rest(&mut self) -> Result<(), Gone> {
        loop {
            let page = match self.logs.read(self.query.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "a log could not be read");
                    return Err(Gone);
                }
            };
            if page.is_empty() {
                return Ok(());
            }
            self.send(&page).await?;
        }
    }

    /// Events are read again rather than passed on, so that filters and gaps are the store's to deal with.
    async fn follow(&mut self, mut follower: Follower) -> Result<(), Gone> {
        let sender = self.sender.clone();
        loop {
            let next = tokio::select! {
                next = follower.next() => next,
                () = sender.closed() => return Err(Gone),
            };
            let Some(followed) = next else { return Ok(()) };
            self.query.after.get_or_insert(0);
            self.rest().await?;
            if let Followed::Events(events) = followed {
                let seen = events.iter().map(|event| event.number).max().unwrap_or_default();
                self.query.after = self.query.after.max(Some(seen));
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
            self.query.after = self.query.after.max(Some(event.number));
        }
        Ok(())
    }
}
