//! The command line: what can be asked, where answers go, and with which status the program ends.
//!
//! Commands use only public APIs: AWS's, and Hearth's own under `/_hearth/v1`. Answers go to stdout, all else to
//! stderr.

mod arguments;
mod coverage;
mod delete;
mod deploy;
mod doctor;
mod env;
mod events;
mod explain;
mod invoke;
mod keys;
mod list;
mod logs;
mod output;
mod runtimes;
mod urls;
mod version;

use std::process::ExitCode;

use clap::Parser;

pub use arguments::{Cli, Command, Global, ServeArguments};
pub use output::Progress;

use crate::client::{Client, ClientError, Endpoint};
use crate::settings::{self, Host, ProcessVariables, Settings, Sources};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// Something failed, or the answer is "no": status 1. The text may be empty when all was said already.
    No(String),
    /// Wrong usage: status 2.
    Usage(String),
    /// The server was not reached: status 3.
    NotReached(String),
}

impl Failure {
    /// Says it on stderr; answers the status.
    pub fn report(self) -> ExitCode {
        let (text, status) = match self {
            Failure::No(text) => (text, 1),
            Failure::Usage(text) => (text, 2),
            Failure::NotReached(text) => (text, 3),
        };
        if !text.is_empty() {
            eprintln!("hearth: {text}");
        }
        ExitCode::from(status)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } => Failure::NotReached(error.to_string()),
            ClientError::Endpoint(_) => Failure::Usage(error.to_string()),
            ClientError::Refused { .. } | ClientError::Answer(_) => Failure::No(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::No(error.to_string())
    }
}

/// Parses the arguments; ends the program where they are wrong or ask for help.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| arguments::end_with(error))
}

/// Runs every command but `serve`.
pub fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Coverage { markdown } => return coverage::run(global, markdown),
        Command::Doctor(options) => return doctor::run(global, &options),
        Command::Env => return env::run(global),
        Command::Keys(command) => return keys::run(global, command),
        Command::Version => return version::run(global),
        Command::Completions { shell } => return arguments::completions(shell),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client(global)?;
        match command {
            Command::Deploy(options) => deploy::run(global, &client, options).await,
            Command::Invoke(options) => invoke::run(global, &client, options).await,
            Command::Logs(command) => logs::run(global, &client, command).await,
            Command::List => list::run(global, &client).await,
            Command::Events(command) => events::run(global, &client, command).await,
            Command::Delete { name } => delete::run(global, &client, &name).await,
            Command::Explain(arguments) => explain::run(global, &client, arguments).await,
            Command::Runtimes { command } => runtimes::run(global, &client, command.unwrap_or_default()).await,
            Command::Serve(_)
            | Command::Coverage { .. }
            | Command::Doctor(_)
            | Command::Env
            | Command::Keys(_)
            | Command::Version
            | Command::Completions { .. } => Ok(()),
        }
    })
}

/// As a server that is started here with these flags would have them.
fn settings(flags: Vec<(&'static str, String)>) -> Result<Settings, Failure> {
    let host = Host::of(&ProcessVariables);
    let sources = Sources { flags, config: None, variables: &ProcessVariables, host };
    Ok(settings::load(sources).map_err(|e| Failure::Usage(e.to_string()))?.settings)
}

fn client(global: &Global) -> Result<Client, Failure> {
    Ok(Client { endpoint: endpoint(global)?, region: region(global)?, access_key: access_key()? })
}

/// `--endpoint`, `HEARTH_ENDPOINT`, `AWS_ENDPOINT_URL`, the default.
fn endpoint(global: &Global) -> Result<Endpoint, Failure> {
    let text = global
        .endpoint
        .clone()
        .or_else(|| variable("HEARTH_ENDPOINT"))
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .unwrap_or_else(|| "http://127.0.0.1:4566".to_owned());
    Ok(Endpoint::parse(&text)?)
}

fn region(global: &Global) -> Result<String, Failure> {
    let text = global
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    match hearth_model::Region::parse(&text) {
        Some(region) => Ok(region.to_string()),
        None => Err(Failure::Usage(format!("{text:?} is not a region such as us-east-1"))),
    }
}

fn access_key() -> Result<String, Failure> {
    let text = variable("AWS_ACCESS_KEY_ID").unwrap_or_else(|| "test".to_owned());
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(text)
    } else {
        Err(Failure::Usage("AWS_ACCESS_KEY_ID is not an access key id".to_owned()))
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
