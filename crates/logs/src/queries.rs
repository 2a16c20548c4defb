//! Queries of CloudWatch Logs Insights: the handlers of the group `queries`. What they find is kept in memory, of the latest
//! queries, and lost with the server, as results are on AWS after some days.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hearth_observe::{Group, LogsError, Position, Scan, Streams, Way};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::QueriesApi;
use hearth_wire_logs::errors::{
    invalid_parameter_exception as invalid, limit_exceeded_exception, malformed_query_exception,
    resource_not_found_exception as not_found,
};
use hearth_wire_logs::types::*;
use tokio::sync::Semaphore;

use crate::cloudwatch::{CloudWatch, failed, no_group};
use crate::coverage::COVERAGE;
use crate::insights::{Event, Fed, Pointer, Query, QueryError, Run, Value};
use crate::{events, names, page};

/// Queries that look through logs at once; others are `Scheduled`.
const RUNNING_MAX: usize = 2;
/// Queries that are scheduled or running, as with AWS.
const UNFINISHED_MAX: usize = 30;
/// Queries whose results are kept, and the bytes of all those results.
const KEPT_MAX: usize = 1000;
const KEPT_BYTES_MAX: usize = 256 << 20;
/// Rows of an answer, unless the query or the client says how many.
const USUAL: usize = 10_000;
/// Groups of one query.
const GROUPS_MAX: usize = 50;
/// How late a block of events may be in the order of times, milliseconds.
const DISORDER: i64 = 2000;

const SCHEDULED: &str = "Scheduled";
const RUNNING: &str = "Running";
const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";
const CANCELLED: &str = "Cancelled";

pub(crate) struct Queries {
    /// The oldest first.
    all: Mutex<VecDeque<Arc<Started>>>,
    running: Arc<Semaphore>,
}

/// A query that was started.
struct Started {
    id: String,
    owner: (String, String),
    text: String,
    groups: Vec<String>,
    created: i64,
    cancelled: AtomicBool,
    outcome: Mutex<Outcome>,
}

struct Outcome {
    status: &'static str,
    rows: Vec<Vec<(String, String)>>,
    bytes: usize,
    matched: u64,
    scanned_events: u64,
    scanned_bytes: u64,
    ended: Option<i64>,
}

impl Default for Queries {
    fn default() -> Self {
        Queries { all: Mutex::default(), running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }
}

impl Queries {
    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<Started>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is beyond the limits.
    fn add(&self, started: Arc<Started>) -> Result<(), Error> {
        let mut all = self.all();
        let unfinished = all.iter().filter(|query| query.outcome().ended.is_none()).count();
        if unfinished >= UNFINISHED_MAX {
            return Err(limit_exceeded_exception(format!(
                "Account maximum query concurrency limit of [{UNFINISHED_MAX}] reached."
            )));
        }
        all.push_back(started);
        let mut bytes: usize = all.iter().map(|query| query.outcome().bytes).sum();
        while all.len() > KEPT_MAX || bytes > KEPT_BYTES_MAX {
            let Some(at) = all.iter().position(|query| query.outcome().ended.is_some()) else { break };
            if let Some(forgotten) = all.remove(at) {
                bytes -= forgotten.outcome().bytes;
            }
        }
        Ok(())
    }

    fn find(&self, cx: &Context, id: &str) -> Result<Arc<Started>, Error> {
        let found = self.all().iter().find(|query| query.id == id && query.is_of(cx)).cloned();
        found.ok_or_else(|| not_found("The specified query does not exist."))
    }
}

impl Started {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_of(&self, cx: &Context) -> bool {
        self.owner == (cx.account.clone(), cx.region.clone())
    }
}

#[async_trait]
impl QueriesApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn start_query(&self, cx: &Context, input: StartQueryRequest) -> Result<StartQueryResponse, Error> {
        if let Some(language) = input.query_language.as_deref().filter(|language| *language != "CWLI") {
            return Err(Error::not_supported(format_args!("the query language {language}")));
        }
        let named = [input.log_group_name.map(|name| vec![name]), input.log_group_names, input.log_group_identifiers];
        let mut named = named.into_iter().flatten();
        let (Some(identifiers), None) = (named.next(), named.next()) else {
            return Err(invalid(
                "Exactly one of logGroupName, logGroupNames and logGroupIdentifiers must be specified.",
            ));
        };
        if identifiers.is_empty() || identifiers.len() > GROUPS_MAX {
            return Err(invalid(format!("A query can have between 1 and {GROUPS_MAX} log groups.")));
        }
        let text = input.query_string.unwrap_or_default();
        let query = Query::parse(&text).map_err(told)?;
        // Both ends are part of the range, in seconds.
        let from = input.start_time.unwrap_or_default().saturating_mul(1000);
        let to = input.end_time.unwrap_or_default().saturating_add(1).saturating_mul(1000);
        if from >= to {
            return Err(invalid("Start time should not be greater than end time."));
        }
        let mut groups = Vec::new();
        for identifier in &identifiers {
            let name = names::identified(cx, identifier)?;
            groups.push(self.logs.group(&name).await.map_err(failed)?.ok_or_else(no_group)?);
        }
        let started = Arc::new(Started {
            id: uuid::Uuid::new_v4().to_string(),
            owner: (cx.account.clone(), cx.region.clone()),
            text,
            groups: groups.iter().map(|group| group.name.name.to_string()).collect(),
            created: self.now(),
            cancelled: AtomicBool::new(false),
            outcome: Mutex::new(Outcome {
                status: SCHEDULED,
                rows: Vec::new(),
                bytes: 0,
                matched: 0,
                scanned_events: 0,
                scanned_bytes: 0,
                ended: None,
            }),
        });
        self.queries.add(started.clone())?;
        let query_id = Some(started.id.clone());
        let limit = page::size(input.limit, USUAL);
        tokio::spawn(self.clone().answer(started, query, groups, (from, to), limit));
        Ok(StartQueryResponse { query_id })
    }

    async fn stop_query(&self, cx: &Context, input: StopQueryRequest) -> Result<StopQueryResponse, Error> {
        let started = self.queries.find(cx, &input.query_id.unwrap_or_default())?;
        let mut outcome = started.outcome();
        if outcome.ended.is_some() {
            return Err(invalid("Query cannot be stopped because it is not running."));
        }
        started.cancelled.store(true, Ordering::Relaxed);
        (outcome.status, outcome.ended) = (CANCELLED, Some(self.now()));
        Ok(StopQueryResponse { success: Some(true) })
    }

    async fn get_query_results(
        &self,
        cx: &Context,
        input: GetQueryResultsRequest,
    ) -> Result<GetQueryResultsResponse, Error> {
        let started = self.queries.find(cx, &input.query_id.unwrap_or_default())?;
        let after: usize = input.next_token.as_deref().map(page::mark).transpose()?.unwrap_or_default();
        let outcome = started.outcome();
        let size = page::size(input.max_items.filter(|size| *size > 0), USUAL);
        let rows = outcome.rows.iter().skip(after).take(size);
        let field =
            |(name, value): &(String, String)| ResultField { field: Some(name.clone()), value: Some(value.clone()) };
        let results: Vec<Vec<ResultField>> = rows.map(|row| row.iter().map(field).collect()).collect();
        let end = after + results.len();
        let statistics = QueryStatistics {
            records_matched: Some(outcome.matched as f64),
            records_scanned: Some(outcome.scanned_events as f64),
            estimated_records_skipped: Some(0.0),
            bytes_scanned: Some(outcome.scanned_bytes as f64),
            estimated_bytes_skipped: Some(0.0),
            log_groups_scanned: Some(started.groups.len() as f64),
            result_count: Some(outcome.rows.len() as f64),
        };
        Ok(GetQueryResultsResponse {
            query_language: Some("CWLI".to_owned()),
            results: Some(results),
            statistics: Some(statistics),
            status: Some(outcome.status.to_owned()),
            next_token: (end < outcome.rows.len()).then(|| page::token(&end)),
            ..GetQueryResultsResponse::default()
        })
    }

    async fn describe_queries(
        &self,
        cx: &Context,
        input: DescribeQueriesRequest,
    ) -> Result<DescribeQueriesResponse, Error> {
        let after: usize = input.next_token.as_deref().map(page::mark).transpose()?.unwrap_or_default();
        let size = page::size(input.max_results, 1000);
        let wanted = |query: &&Arc<Started>| {
            query.is_of(cx)
                && input.log_group_name.as_ref().is_none_or(|name| query.groups.contains(name))
                && input.status.as_ref().is_none_or(|status| query.outcome().status == status)
                && input.query_language.as_ref().is_none_or(|language| language == "CWLI")
        };
        let all = self.queries.all();
        let found: Vec<&Arc<Started>> = all.iter().rev().filter(wanted).skip(after).take(size + 1).collect();
        let described = |query: &&Arc<Started>| {
            let outcome = query.outcome();
            QueryInfo {
                query_language: Some("CWLI".to_owned()),
                query_id: Some(query.id.clone()),
                query_string: Some(query.text.clone()),
                status: Some(outcome.status.to_owned()),
                create_time: Some(query.created),
                log_group_name: query.groups.first().cloned(),
                query_duration: outcome.ended.map(|ended| ended - query.created),
                bytes_scanned: Some(outcome.scanned_bytes as f64),
                ..QueryInfo::default()
            }
        };
        let next_token = (found.len() > size).then(|| page::token(&(after + size)));
        Ok(DescribeQueriesResponse { queries: Some(found.iter().take(size).map(described).collect()), next_token })
    }

    async fn get_log_record(&self, cx: &Context, input: GetLogRecordRequest) -> Result<GetLogRecordResponse, Error> {
        let bad = || invalid("The specified logRecordPointer is invalid.");
        let pointer: Pointer = page::mark(&input.log_record_pointer.unwrap_or_default()).map_err(|_| bad())?;
        let group = self.logs.group(&names::group(cx, &pointer.group)).await.map_err(failed)?.ok_or_else(no_group)?;
        let scan = Scan {
            group: group.id,
            streams: Streams::All,
            from: pointer.at,
            to: pointer.at.saturating_add(1),
            way: Way::After(Position::FIRST),
            limit: 1,
        };
        let number = pointer.number;
        let found = self.logs.scan(scan, move |candidate| candidate.position.number == number).await;
        let found = found.map_err(failed)?.events.pop();
        let stored = found.ok_or_else(|| not_found("The specified log record does not exist."))?;
        let ingested = events::millis(stored.ingested);
        let names = (log_of(&group), stored.stream.clone());
        let event = Event::new(pointer, ingested, names, events::text(&stored.message));
        let text = |(name, value): (String, Value)| Some((name, value.text()?));
        let record: BTreeMap<String, String> = event.all().into_iter().filter_map(text).collect();
        Ok(GetLogRecordResponse { log_record: Some(record) })
    }
}

impl CloudWatch {
    /// From its start to its outcome.
    async fn answer(self, started: Arc<Started>, query: Query, groups: Vec<Group>, range: (i64, i64), limit: usize) {
        // The semaphore is never closed.
        let _turn = self.queries.running.clone().acquire_owned().await;
        {
            let mut outcome = started.outcome();
            if outcome.ended.is_some() {
                return;
            }
            outcome.status = RUNNING;
        }
        let found = self.look(&started, query, groups, range, limit).await;
        let mut outcome = started.outcome();
        if outcome.ended.is_some() {
            return;
        }
        outcome.ended = Some(self.now());
        match found {
            Ok(Some((rows, matched))) => {
                (outcome.status, outcome.matched) = (COMPLETE, matched);
                let size = |(name, value): &(String, String)| name.len() + value.len() + 64;
                outcome.bytes = rows.iter().flatten().map(size).sum();
                outcome.rows = rows;
            }
            Ok(None) => outcome.status = FAILED,
            Err(error) => {
                tracing::error!(%error, "a query could not read the logs");
                outcome.status = FAILED;
            }
        }
    }

    /// Its rows, and how many events matched; none when it wanted to keep too much.
    async fn look(
        &self,
        started: &Arc<Started>,
        query: Query,
        groups: Vec<Group>,
        (from, to): (i64, i64),
        limit: usize,
    ) -> Result<Option<(Vec<Vec<(String, String)>>, u64)>, LogsError> {
        let one_group = groups.len() == 1;
        let run = Arc::new(Mutex::new(Run::new(query, limit)));
        let overfull = Arc::new(AtomicBool::new(false));
        for group in groups {
            let scan = Scan {
                group: group.id,
                streams: Streams::All,
                from: from.max(self.logs.kept_since(&group.settings)),
                to,
                way: Way::Before(Position::LAST),
                limit,
            };
            let log = log_of(&group);
            let name = group.name.name.clone();
            let (run, overfull, query) = (run.clone(), overfull.clone(), started.clone());
            // What is earlier is of no use any more.
            let mut since = i64::MIN;
            let scanned = self.logs.each(scan, move |candidate, stream| {
                if query.cancelled.load(Ordering::Relaxed) || candidate.position.at < since {
                    return ControlFlow::Break(());
                }
                let Position { at, number } = candidate.position;
                let pointer = Pointer { group: name.clone(), at, number };
                let message = String::from_utf8_lossy(candidate.message).into_owned();
                let event = Event::new(pointer, candidate.ingested, (log.clone(), stream.clone()), message);
                let fed = run.lock().unwrap_or_else(PoisonError::into_inner).feed(event);
                match fed {
                    Ok(Fed::More) => {}
                    Ok(Fed::Since(last)) if one_group => since = last.saturating_sub(DISORDER),
                    Ok(Fed::Since(_)) => {}
                    Err(_) => {
                        overfull.store(true, Ordering::Relaxed);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            });
            let scanned = scanned.await?;
            let mut outcome = started.outcome();
            outcome.scanned_events += scanned.events;
            outcome.scanned_bytes += scanned.bytes;
        }
        if overfull.load(Ordering::Relaxed) || started.cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let finished = tokio::task::spawn_blocking(move || {
            let run = Arc::into_inner(run)?.into_inner().unwrap_or_else(PoisonError::into_inner);
            let matched = run.matched();
            Some((run.finish(), matched))
        });
        Ok(finished.await.ok().flatten())
    }
}

/// As `@log` says it.
fn log_of(group: &Group) -> Arc<str> {
    format!("{}:{}", group.name.account, group.name.name).into()
}

fn told(error: QueryError) -> Error {
    match error {
        QueryError::Unsupported(what) => Error::not_supported(what),
        QueryError::Malformed { message, start, end } => malformed_query_exception(message.clone()).with(
            "queryCompileError",
            serde_json::json!({ "location": { "startCharOffset": start, "endCharOffset": end }, "message": message }),
        ),
    }
}
