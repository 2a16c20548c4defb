//! `hearth explain`.

use serde_json::Value;

use super::{Failure, Global, output};
use crate::client::{Client, segment};

/// What is to be explained.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct ExplainArguments {
    /// Id of an invocation: why it was cold, and where its time went
    #[arg(value_name = "REQUEST_ID")]
    request_id: Option<String>,
    #[command(subcommand)]
    command: Option<ExplainCommand>,
}

#[derive(clap::Subcommand)]
pub enum ExplainCommand {
    /// Say which rule decides about a function's connections to a place
    Network {
        /// Name or ARN of the function
        function: String,
        /// HOST:PORT; the host is a name or an address
        #[arg(value_name = "HOST:PORT")]
        to: String,
    },
}

pub async fn run(global: &Global, client: &Client, arguments: ExplainArguments) -> Result<(), Failure> {
    match (arguments.command, arguments.request_id) {
        (Some(ExplainCommand::Network { function, to }), _) => network(global, client, &function, &to).await,
        (None, request_id) => invocation(global, client, &request_id.unwrap_or_default()).await,
    }
}

async fn invocation(global: &Global, client: &Client, request_id: &str) -> Result<(), Failure> {
    let document: Value = client.get(&format!("/_hearth/v1/invocations/{}", segment(request_id))).await?.json()?;
    if global.json {
        return output::document(&document);
    }
    let text = |part: &Value, name: &str| part[name].as_str().unwrap_or_default().to_owned();
    output::line(&format!("{} start: {}", text(&document, "start"), text(&document, "reason")))?;
    for phase in document["phases"].as_array().into_iter().flatten() {
        let ms = phase["ms"].as_f64().unwrap_or_default();
        output::line(&format!("{:<10} {ms:>8.2} ms", text(phase, "name")))?;
    }
    Ok(())
}

async fn network(global: &Global, client: &Client, function: &str, to: &str) -> Result<(), Failure> {
    let path = format!("/_hearth/v1/functions/{}/network?to={}", segment(function), segment(to));
    let document: Value = client.get(&path).await?.json()?;
    if global.json {
        output::document(&document)?;
    } else {
        say(&document)?;
    }
    match document["allowed"].as_bool() {
        Some(true) => Ok(()),
        // All was said.
        _ => Err(Failure::No(String::new())),
    }
}

fn say(document: &Value) -> Result<(), Failure> {
    let verdict = |part: &Value| if part["allowed"] == true { "allowed" } else { "blocked" };
    let text = |part: &Value, name: &str| part[name].as_str().unwrap_or_default().to_owned();
    if document["rule"].is_string() {
        output::line(&format!("{}: {}", verdict(document), text(document, "rule")))?;
    }
    for address in document["addresses"].as_array().into_iter().flatten() {
        output::line(&format!("{} {}: {}", text(address, "address"), verdict(address), text(address, "rule")))?;
    }
    Ok(())
}
