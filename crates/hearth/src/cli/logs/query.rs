//! `hearth logs query`: starts a query, waits for it, and prints its rows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::super::{Failure, Global, Progress, output};
use crate::client::{Client, segment};
use crate::settings::Value as _;

/// Where functions log, unless their configuration says otherwise.
const FUNCTIONS: &str = "/aws/lambda/";
/// Groups that a query may have.
const GROUPS_MAX: usize = 50;
/// How often the outcome is asked for: soon at first, then less.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LAST_LOOK: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct QueryOptions {
    /// Such as 'fields @timestamp, @message | filter @message like /ERROR/ | sort @timestamp desc | limit 20'
    query: String,
    /// Only the log of this function; may be given again [default: every function's]
    #[arg(long, value_name = "NAME")]
    function: Vec<String>,
    /// Only this log group; may be given again
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// From this time on: RFC 3339, or a duration before now such as 10m
    #[arg(long, value_name = "TIME", default_value = "1h")]
    since: String,
    /// Up to this time, likewise [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Most rows, unless the query has a limit
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
}

pub async fn run(global: &Global, client: &Client, options: QueryOptions) -> Result<(), Failure> {
    let start = moment(&options.since)?;
    let end = options.until.as_deref().map_or_else(|| Ok(now()), moment)?;
    let groups = groups(client, &options).await?;
    let mut input = json!({
        "queryString": options.query,
        "startTime": start,
        "endTime": end,
        "logGroupIdentifiers": groups,
    });
    if let Some(limit) = options.limit {
        input["limit"] = limit.into();
    }
    let started = client.logs("StartQuery", &input).await?;
    let progress = Progress::begin("looking through the logs");
    let mut look = FIRST_LOOK;
    let mut found = loop {
        let answer = client.logs("GetQueryResults", &json!({ "queryId": started["queryId"] })).await?;
        match answer["status"].as_str() {
            Some("Scheduled" | "Running") => tokio::time::sleep(look).await,
            Some("Complete") => break answer,
            status => {
                let status = status.unwrap_or("Unknown");
                return Err(Failure::No(format!("the query ended as {status}: see the server's log")));
            }
        }
        look = (look * 2).min(LAST_LOOK);
    };
    let mut rows = rows(&found);
    while let Some(token) = found["nextToken"].as_str() {
        let next = json!({ "queryId": started["queryId"], "nextToken": token });
        let next = client.logs("GetQueryResults", &next).await?;
        rows.extend(self::rows(&next));
        found = next;
    }
    drop(progress);
    if global.json {
        return output::document(&json!({ "rows": rows, "statistics": found["statistics"] }));
    }
    let names: Vec<&String> = rows.iter().flat_map(Map::keys).fold(Vec::new(), |mut names, name| {
        if !names.contains(&name) {
            names.push(name);
        }
        names
    });
    if names.is_empty() {
        eprintln!("nothing found in {}", groups.join(", "));
        return Ok(());
    }
    let cell =
        |row: &Map<String, Value>, name: &String| shown(row.get(name).and_then(Value::as_str).unwrap_or_default());
    let cells = rows.iter().map(|row| names.iter().map(|name| cell(row, name)).collect::<Vec<_>>());
    output::table(names.iter().copied().cloned().collect::<Vec<_>>(), cells)
}

/// A value in a table does not drive the terminal; a message's newline at its end is none of it.
fn shown(value: &str) -> String {
    value.trim_end().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Each row's fields, without what only names the event.
fn rows(answer: &Value) -> Vec<Map<String, Value>> {
    let fields = |row: &Value| {
        let fields = row.as_array().into_iter().flatten().filter(|field| field["field"] != "@ptr");
        fields.map(|field| (field["field"].as_str().unwrap_or_default().to_owned(), field["value"].clone())).collect()
    };
    answer["results"].as_array().into_iter().flatten().map(fields).collect()
}

/// Those that are named; else every function's.
async fn groups(client: &Client, options: &QueryOptions) -> Result<Vec<String>, Failure> {
    let mut groups = options.group.clone();
    for function in &options.function {
        let path = format!("/2015-03-31/functions/{}/configuration", segment(function));
        let configuration: Value = client.get(&path).await?.json()?;
        let group = configuration["LoggingConfig"]["LogGroup"].as_str();
        groups.push(group.map_or_else(|| format!("{FUNCTIONS}{function}"), str::to_owned));
    }
    if !groups.is_empty() {
        return Ok(groups);
    }
    let all =
        client.logs("DescribeLogGroups", &json!({ "logGroupNamePrefix": FUNCTIONS, "limit": GROUPS_MAX })).await?;
    if all["nextToken"].is_string() {
        return Err(Failure::Usage(format!(
            "there are more than {GROUPS_MAX} logs: say which with --function or --group"
        )));
    }
    let name = |group: &Value| group["logGroupName"].as_str().map(str::to_owned);
    groups.extend(all["logGroups"].as_array().into_iter().flatten().filter_map(name));
    if groups.is_empty() { Err(Failure::No("no function has a log yet".to_owned())) } else { Ok(groups) }
}

/// Seconds since 1970 of `10m` before now, or of an RFC 3339 time.
fn moment(text: &str) -> Result<i64, Failure> {
    if let Ok(before) = Duration::parse(text) {
        return Ok(now() - i64::try_from(before.as_secs()).unwrap_or(0));
    }
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| Failure::Usage(format!("{text:?} is neither a duration such as 10m nor an RFC 3339 time")))?;
    Ok(at.as_second())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
