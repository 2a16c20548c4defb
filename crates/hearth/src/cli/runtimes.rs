//! `hearth runtimes`.

use bytes::{Bytes, BytesMut};
use hyper::Method;
use serde_json::{Value, json};

use super::{Failure, Global, output};
use crate::client::{Client, ClientError, segment};

/// Longest line of an answer.
const LINE_MAX: usize = 1 << 20;

#[derive(Default, clap::Subcommand)]
pub enum RuntimesCommand {
    /// List the runtimes that can run here
    #[default]
    List,
    /// Make a runtime of Debian's packages or of a container image, in place of the host's own
    Add {
        /// Its name, such as python3.13
        runtime: String,
        /// debian or debian:SUITE; an image, such as AWS's base images: HOST/NAME:TAG, HOST/NAME@sha256:DIGEST, or
        /// oci:FOLDER[:TAG] for an OCI layout folder
        from: String,
    },
    /// Make runtimes anew of what the names that they were added by mean now
    Update {
        /// Only this one
        runtime: Option<String>,
    },
    /// Let a runtime be what it is without what it was added from
    Remove {
        /// Its name
        runtime: String,
    },
}

pub async fn run(global: &Global, client: &Client, command: RuntimesCommand) -> Result<(), Failure> {
    match command {
        RuntimesCommand::List => list(global, client).await,
        RuntimesCommand::Add { runtime, from } => {
            let body = json!({ "runtime": runtime, "from": absolute(from)? }).to_string();
            let made = change(client, Method::POST, "/_hearth/v1/runtimes", body.into()).await?;
            say(global, &[made])
        }
        RuntimesCommand::Update { runtime } => {
            let mut made = Vec::new();
            for name in runtime.map_or(added(client).await?, |only| vec![only]) {
                let path = format!("/_hearth/v1/runtimes/{}/update", segment(&name));
                made.push(change(client, Method::POST, &path, Bytes::new()).await?);
            }
            say(global, &made)
        }
        RuntimesCommand::Remove { runtime } => {
            let path = format!("/_hearth/v1/runtimes/{}", segment(&runtime));
            change(client, Method::DELETE, &path, Bytes::new()).await?;
            if global.json { output::document(&json!({ "removed": runtime })) } else { Ok(()) }
        }
    }
}

async fn list(global: &Global, client: &Client) -> Result<(), Failure> {
    let document: Value = client.get("/_hearth/v1/runtimes").await?.json()?;
    if global.json {
        return output::document(&document);
    }
    let rows = document["runtimes"].as_array().into_iter().flatten().map(|runtime| {
        let text = |name: &str| runtime[name].as_str().unwrap_or("-").to_owned();
        [text("runtime"), text("version"), text("source"), text("from")]
    });
    output::table(["RUNTIME", "VERSION", "SOURCE", "FROM"], rows)
}

/// Runtimes that were added.
async fn added(client: &Client) -> Result<Vec<String>, Failure> {
    let document: Value = client.get("/_hearth/v1/runtimes").await?.json()?;
    let all = document["runtimes"].as_array().into_iter().flatten();
    let added = all.filter(|runtime| runtime.get("from").is_some());
    Ok(added.filter_map(|runtime| runtime["runtime"].as_str().map(str::to_owned)).collect())
}

fn say(global: &Global, made: &[Value]) -> Result<(), Failure> {
    if global.json {
        return output::document(&json!({ "runtimes": made }));
    }
    for runtime in made {
        let text = |name: &str| runtime[name].as_str().unwrap_or_default();
        let version = Some(text("version")).filter(|version| !version.is_empty());
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        output::line(&format!("{} is {}{version} (sha256:{})", text("runtime"), text("from"), text("digest")))?;
    }
    Ok(())
}

/// The server has a working directory of its own.
fn absolute(from: String) -> Result<String, Failure> {
    match from.strip_prefix("oci:") {
        Some(folder) if !folder.starts_with('/') => {
            let place = std::path::absolute(folder)?;
            Ok(format!("oci:{}", place.to_string_lossy()))
        }
        _ => Ok(from),
    }
}

/// Follows a change to its end; answers the runtime as it is then.
async fn change(client: &Client, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
    let progress = output::Progress::begin("fetching");
    let mut pieces = client.send_and_stream(method, path, body).await?;
    let mut pending = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        pending.extend_from_slice(&piece?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Value =
                serde_json::from_slice(&pending.split_to(end + 1)).map_err(|e| ClientError::Answer(e.to_string()))?;
            if let Some(error) = line.get("error") {
                let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
                return Err(Failure::No(format!("{}: {}", text("code"), text("message"))));
            }
            if let Some(runtime) = line.get("runtime").or(line.get("removed")) {
                return Ok(runtime.clone());
            }
            let count = |name: &str| line["progress"][name].as_u64().unwrap_or_default();
            progress.say(format!(
                "fetching: {} of {} parts, {} of {} MB",
                count("parts"),
                count("partsTotal"),
                count("sizeBytes") >> 20,
                count("sizeBytesTotal") >> 20
            ));
        }
        if pending.len() > LINE_MAX {
            return Err(Failure::No("the answer cannot be read: a line is too long".to_owned()));
        }
    }
    Err(Failure::No("the server ended before it was done".to_owned()))
}
