//! `hearth logs`: a function's log; `hearth logs query`: what CloudWatch Logs Insights finds.
//!
//! - `paint`: a line of a log on a terminal
//! - `query`: queries and their tables

mod paint;
mod query;

use bytes::BytesMut;
use serde_json::Value;

use super::{Failure, Global, output};
use crate::client::{Client, segment};

/// Longest line of the answer; a log line is at most 256 KiB, escaped six times that.
const LINE_MAX: usize = 2 << 20;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LogsCommand {
    #[command(subcommand)]
    search: Option<Search>,
    #[command(flatten)]
    log: LogsOptions,
}

#[derive(clap::Subcommand)]
enum Search {
    /// Search logs with a query of CloudWatch Logs Insights
    Query(query::QueryOptions),
}

#[derive(clap::Args)]
struct LogsOptions {
    /// Name or ARN of the function
    #[arg(required = true)]
    name: Option<String>,
    /// Go on with what comes, until interrupted
    #[arg(long)]
    follow: bool,
    /// Only from this time on: RFC 3339, or a duration before now such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only lines of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
}

pub async fn run(global: &Global, client: &Client, command: LogsCommand) -> Result<(), Failure> {
    if let Some(Search::Query(options)) = command.search {
        return query::run(global, client, options).await;
    }
    let mut pieces = client.stream(&path(&command.log)).await?;
    let mut pending = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        pending.extend_from_slice(&piece?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            print(global, &pending.split_to(end + 1))?;
        }
        if pending.len() > LINE_MAX {
            return Err(Failure::No("the answer cannot be read: a line is too long".to_owned()));
        }
    }
    Ok(())
}

fn path(options: &LogsOptions) -> String {
    let mut query = Vec::new();
    let mut add = |name: &str, text: &Option<String>| {
        if let Some(text) = text {
            query.push(format!("{name}={}", segment(text)));
        }
    };
    add("since", &options.since);
    add("grep", &options.grep);
    add("request", &options.request);
    if options.follow {
        query.push("follow=true".to_owned());
    }
    let mark = if query.is_empty() { "" } else { "?" };
    format!(
        "/_hearth/v1/functions/{}/logs{mark}{}",
        segment(options.name.as_deref().unwrap_or_default()),
        query.join("&")
    )
}

/// With `--json` the line as it came, else the message alone; on a terminal for people to read.
fn print(global: &Global, line: &[u8]) -> Result<(), Failure> {
    if global.json {
        return output::write(line);
    }
    let event: Value =
        serde_json::from_slice(line).map_err(|e| Failure::No(format!("the answer cannot be read: {e}")))?;
    let message = event["message"].as_str().unwrap_or_default().trim_end_matches('\n');
    match output::is_coloured() {
        true => output::line(&paint::line(event["time"].as_str().unwrap_or_default(), message)),
        false => output::line(message),
    }
}
