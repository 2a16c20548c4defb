//! `hearth invoke`: the payload goes in and comes out as it is.

use std::io::{IsTerminal, Read};

use base64::Engine;
use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use super::{Failure, Global, Progress, output};
use crate::client::{Client, segment};

/// AWS's limit is 6 MB; one byte more is enough for the server to say so.
const PAYLOAD_MAX: u64 = hearth_model::SYNC_PAYLOAD_MAX as u64 + 1;

#[derive(clap::Args)]
pub struct InvokeOptions {
    /// Name or ARN of the function
    name: String,
    /// JSON text, @FILE, or - for stdin
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}", allow_hyphen_values = true)]
    payload: String,
    /// Queue it instead of waiting for the answer, and print the id of the event
    #[arg(long = "async")]
    asynchronous: bool,
    /// Print the end of the log on stderr
    #[arg(long)]
    tail: bool,
    /// Version or alias
    #[arg(long, value_name = "QUALIFIER")]
    qualifier: Option<String>,
}

pub async fn run(global: &Global, client: &Client, options: InvokeOptions) -> Result<(), Failure> {
    let payload = payload(&options.payload)?;
    let mut path = format!("/2015-03-31/functions/{}/invocations", segment(&options.name));
    if let Some(qualifier) = &options.qualifier {
        path = format!("{path}?Qualifier={}", segment(qualifier));
    }
    let invocation_type = if options.asynchronous { "Event" } else { "RequestResponse" };
    let log_type = if options.tail { "Tail" } else { "None" };
    let headers = [
        ("content-type", "application/json"),
        ("x-amz-invocation-type", invocation_type),
        ("x-amz-log-type", log_type),
    ];
    let progress = Progress::begin("the function is running");
    let answer = client.send(Method::POST, &path, &headers, payload).await;
    drop(progress);
    let answer = answer?;
    if options.asynchronous {
        let id = answer.header("x-amzn-requestid").unwrap_or_default();
        return if global.json { output::document(&json!({"id": id})) } else { output::line(id) };
    }
    if let Some(log) = answer.header("x-amz-log-result") {
        let log = base64::engine::general_purpose::STANDARD
            .decode(log)
            .map_err(|e| Failure::No(format!("the log cannot be read: {e}")))?;
        eprint!("{}", String::from_utf8_lossy(&log));
    }
    output::write(&answer.body)?;
    if std::io::stdout().is_terminal() && !answer.body.ends_with(b"\n") {
        output::write(b"\n")?;
    }
    match answer.header("x-amz-function-error") {
        Some(kind) => Err(Failure::No(format!("the function failed ({kind})"))),
        None => Ok(()),
    }
}

fn payload(text: &str) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    if text == "-" {
        std::io::stdin().take(PAYLOAD_MAX).read_to_end(&mut bytes)?;
    } else if let Some(path) = text.strip_prefix('@') {
        std::fs::File::open(path)
            .and_then(|file| file.take(PAYLOAD_MAX).read_to_end(&mut bytes))
            .map_err(|e| Failure::Usage(format!("{path}: {e}")))?;
    } else {
        bytes = text.as_bytes().to_vec();
    }
    Ok(bytes.into())
}
