//! `hearth events`: what became of asynchronous events.

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{Failure, Global, output};
use crate::client::{Client, segment};

const PATH: &str = "/_hearth/v1/events";

#[derive(clap::Subcommand)]
pub enum EventsCommand {
    /// List events, the newest first
    List(ListOptions),
    /// Show an event and its attempts
    Show {
        /// The id of the request that sent it
        id: String,
    },
    /// Send the payload of an event that is over again, as a new event
    Retry {
        /// The id of the request that sent it
        id: String,
    },
    /// End the events that wait; those that run go on
    Purge {
        /// Only of this function: name or ARN
        #[arg(long, value_name = "NAME")]
        function: Option<String>,
    },
    /// Prove that every event that was ever accepted has one outcome, or is still to get it
    Audit,
}

#[derive(clap::Args)]
pub struct ListOptions {
    /// Only of this function: name or ARN
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only those that are queued, running, succeeded, delivered, dropped or purged
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only accepted from this time on: RFC 3339, or a duration before now such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only accepted before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
}

pub async fn run(global: &Global, client: &Client, command: EventsCommand) -> Result<(), Failure> {
    match command {
        EventsCommand::List(options) => list(global, client, options).await,
        EventsCommand::Show { id } => show(global, client, &id).await,
        EventsCommand::Retry { id } => {
            let answer = post(client, &format!("{PATH}/{}/retry", segment(&id))).await?;
            if global.json { output::document(&answer) } else { output::line(&text(&answer, "id")) }
        }
        EventsCommand::Purge { function } => {
            let query = query(&[("function", function)]);
            let answer = post(client, &format!("{PATH}/purge{query}")).await?;
            if global.json { output::document(&answer) } else { output::line(&format!("{} purged", answer["purged"])) }
        }
        EventsCommand::Audit => audit(global, client).await,
    }
}

async fn list(global: &Global, client: &Client, options: ListOptions) -> Result<(), Failure> {
    let ListOptions { function, state, since, until, limit } = options;
    let wanted = [
        ("function", function),
        ("state", state),
        ("since", since),
        ("until", until),
        ("limit", Some(limit.to_string())),
    ];
    let answer: Value = client.get(&format!("{PATH}{}", query(&wanted))).await?.json()?;
    if global.json {
        return output::document(&answer);
    }
    let events = answer["events"].as_array().cloned().unwrap_or_default();
    if events.is_empty() {
        eprintln!("no events");
        return Ok(());
    }
    let rows = events.iter().map(|event| {
        let attempts = event["attempts"].as_array().map_or(0, Vec::len);
        let became = [text(event, "reason"), text(event, "destination")].into_iter().filter(|part| part != "-");
        [
            text(event, "id"),
            text(event, "state"),
            text(event, "acceptedAt"),
            attempts.to_string(),
            text(event, "functionArn"),
            became.collect::<Vec<_>>().join(" → "),
        ]
    });
    output::table(["ID", "STATE", "ACCEPTED", "ATTEMPTS", "FUNCTION", "BECAUSE"], rows)
}

async fn show(global: &Global, client: &Client, id: &str) -> Result<(), Failure> {
    let answer: Value = client.get(&format!("{PATH}/{}", segment(id))).await?.json()?;
    if global.json {
        return output::document(&answer);
    }
    let event = &answer["events"][0];
    let names =
        ["id", "functionArn", "state", "acceptedAt", "dueAt", "reason", "destination", "detail", "retryOf", "origin"];
    for name in names {
        if let Some(value) = event[name].as_str() {
            output::line(&format!("{name:<12} {value}"))?;
        }
    }
    let attempts = event["attempts"].as_array().cloned().unwrap_or_default();
    if attempts.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let row = |attempt: &Value| ["startedAt", "outcome", "errorType", "errorMessage"].map(|name| text(attempt, name));
    output::table(["STARTED", "OUTCOME", "ERROR", "MESSAGE"], attempts.iter().map(row))
}

async fn audit(global: &Global, client: &Client) -> Result<(), Failure> {
    let audit: Value = client.get(&format!("{PATH}/audit")).await?.json()?;
    if global.json {
        output::document(&audit)?;
    } else {
        for name in ["accepted", "succeeded", "delivered", "dropped", "purged", "queued", "running"] {
            output::line(&format!("{name:<10} {:>12}", audit[name]))?;
        }
        for (reason, count) in audit["reasons"].as_object().into_iter().flatten() {
            output::line(&format!("  {reason} {count}"))?;
        }
    }
    match audit["balanced"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(Failure::No("the audit does not balance: an event is lost, or has two outcomes".to_owned())),
    }
}

async fn post(client: &Client, path: &str) -> Result<Value, Failure> {
    Ok(client.send(Method::POST, path, &[], Bytes::new()).await?.json()?)
}

fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(value.as_deref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    if query.is_empty() { query } else { format!("?{query}") }
}

fn text(document: &Value, name: &str) -> String {
    document[name].as_str().unwrap_or("-").to_owned()
}
