//! `hearth explain network`.

use serde_json::Value;

use super::{Failure, Global, output};
use crate::client::{Client, segment};

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

pub async fn run(global: &Global, client: &Client, command: ExplainCommand) -> Result<(), Failure> {
    let ExplainCommand::Network { function, to } = command;
    let path = format!("/_hearth/v1/functions/{}/network?to={}", segment(&function), segment(&to));
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
