//! `hearth deploy`: creates a function from a folder or zip, or updates it, and waits until it can be invoked.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use hearth_model::{Architecture, Family, Runtime};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{Failure, Global, Progress, output, urls};
use crate::client::{Answer, Client, ClientError, segment};
use crate::pack::{self, Inferred, Input, PackError, Target};

const FUNCTIONS: &str = "/2015-03-31/functions";
/// How long a function may take to become active.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct DeployOptions {
    /// Folder or zip
    path: PathBuf,
    /// Name of the function [default: the folder's or file's]
    #[arg(long)]
    name: Option<String>,
    /// Such as python3.11, nodejs20.x, provided.al2023 [default: the newest installed of the package's language]
    #[arg(long)]
    runtime: Option<String>,
    /// Such as app.handler [default: by the usual file names]
    #[arg(long)]
    handler: Option<String>,
    /// Memory in MB, 128 to 10240
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// Timeout in seconds, 1 to 900
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Size of /tmp in MB, 512 to 10240
    #[arg(long, value_name = "MB")]
    ephemeral_storage: Option<u32>,
    /// A variable of the function; may be given again
    #[arg(long = "env", value_name = "KEY=VALUE")]
    variables: Vec<String>,
    /// ARN of the execution role [default: arn:aws:iam::ACCOUNT:role/hearth]
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        Failure::No(error.to_string())
    }
}

/// What is to be deployed, decided.
struct Plan {
    name: String,
    runtime: Runtime,
    handler: String,
    zip: Vec<u8>,
}

pub async fn run(global: &Global, client: &Client, options: DeployOptions) -> Result<(), Failure> {
    let variables = variables(&options.variables)?;
    let progress = Progress::begin("deploying");
    let plan = plan(client, &options).await?;
    let there = match client.get(&format!("{FUNCTIONS}/{}", segment(&plan.name))).await {
        Ok(answer) => Some(answer.json::<Value>()?),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    match there {
        None => create(client, &plan, &options, variables).await?,
        Some(there) => update(client, &plan, &options, variables, &there["Configuration"]).await?,
    }
    let function = settled(client, &plan.name).await?;
    drop(progress);
    if global.json {
        return output::document(&function);
    }
    let text = |name: &str| function[name].as_str().unwrap_or("-").to_owned();
    let (runtime, handler, arn) = (text("Runtime"), text("Handler"), text("FunctionArn"));
    output::line(&format!("{} is active ({runtime}, {handler})\n{arn}", output::strong(&plan.name)))?;
    urls::of(client, &plan.name).await?.iter().try_for_each(|url| output::line(url))
}

async fn plan(client: &Client, options: &DeployOptions) -> Result<Plan, Failure> {
    let input = Input::open(&options.path)?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => input.name()?,
    };
    let asked = match &options.runtime {
        Some(text) => Some(Runtime::parse(text).map_err(|_| unknown_runtime(text))?),
        None => None,
    };
    let inferred = match (asked, &options.handler) {
        // Nothing is left to infer.
        (Some(runtime), Some(handler)) => Inferred { family: runtime.family(), handler: handler.clone() },
        (_, handler) => pack::infer(&input.entries()?, handler.as_deref())?,
    };
    let runtime = match asked {
        Some(runtime) => runtime,
        None => newest_installed(client, inferred.family).await?,
    };
    let zip = tokio::task::spawn_blocking(move || package(&input, runtime))
        .await
        .map_err(|e| Failure::No(e.to_string()))??;
    Ok(Plan { name, runtime, handler: inferred.handler, zip })
}

fn package(input: &Input, runtime: Runtime) -> Result<Vec<u8>, PackError> {
    let folder = match input {
        Input::Zip(path) => return pack::read_zip(path),
        Input::Folder(folder) => folder,
    };
    let target = Target {
        family: runtime.family(),
        language_version: runtime.language_version(),
        architecture: host_architecture(),
    };
    match pack::install(folder, &target)? {
        Some(stage) => pack::zip_folder(stage.path()),
        None => pack::zip_folder(folder),
    }
}

/// Functions are made for the architecture they are deployed from.
fn host_architecture() -> Architecture {
    Architecture::of_host().unwrap_or(Architecture::X86_64)
}

fn unknown_runtime(text: &str) -> Failure {
    let nearest = crate::settings::nearest(text, hearth_model::RUNTIMES.iter().copied()).unwrap_or_default();
    Failure::Usage(format!("{text:?} is no runtime of AWS Lambda; the nearest is {nearest}"))
}

/// The newest runtime of a language that the server can run.
async fn newest_installed(client: &Client, family: Family) -> Result<Runtime, Failure> {
    if family == Family::Provided {
        return Runtime::parse("provided.al2023").map_err(|e| Failure::No(e.to_string()));
    }
    let document: Value = client.get("/_hearth/v1/runtimes").await?.json()?;
    let installed = document["runtimes"].as_array().into_iter().flatten();
    installed
        .filter_map(|row| Runtime::parse(row["runtime"].as_str()?).ok())
        .filter(|runtime| runtime.family() == family)
        .max_by_key(|runtime| version_parts(runtime.language_version().unwrap_or_default()))
        .ok_or_else(|| {
            Failure::No(format!("the server has no runtime for {family:?} (hearth runtimes lists what it has)"))
        })
}

fn version_parts(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn variables(given: &[String]) -> Result<Option<Value>, Failure> {
    let mut variables = Map::new();
    for pair in given {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::Usage("--env takes KEY=VALUE".to_owned()));
        };
        variables.insert(key.to_owned(), value.into());
    }
    Ok((!variables.is_empty()).then(|| json!({"Variables": variables})))
}

/// The members of a configuration that flags set.
fn flagged(options: &DeployOptions, variables: Option<Value>) -> Map<String, Value> {
    let members = [
        ("MemorySize", options.memory.map(Value::from)),
        ("Timeout", options.timeout.map(Value::from)),
        ("EphemeralStorage", options.ephemeral_storage.map(|size| json!({"Size": size}))),
        ("Environment", variables),
        ("Role", options.role.clone().map(Value::from)),
        ("Description", options.description.clone().map(Value::from)),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

async fn create(
    client: &Client,
    plan: &Plan,
    options: &DeployOptions,
    variables: Option<Value>,
) -> Result<(), ClientError> {
    let mut request = flagged(options, variables);
    request.insert("FunctionName".into(), plan.name.clone().into());
    request.insert("Runtime".into(), plan.runtime.as_str().into());
    request.insert("Handler".into(), plan.handler.clone().into());
    request.insert("Architectures".into(), json!([host_architecture().as_str()]));
    request.entry("Role").or_insert_with(|| format!("arn:aws:iam::{}:role/hearth", client.account()).into());
    request.insert("Code".into(), json!({"ZipFile": base64::engine::general_purpose::STANDARD.encode(&plan.zip)}));
    let answer = send(client, Method::POST, FUNCTIONS, request).await?;
    say_what_has_no_effect(&answer);
    Ok(())
}

async fn update(
    client: &Client,
    plan: &Plan,
    options: &DeployOptions,
    variables: Option<Value>,
    there: &Value,
) -> Result<(), Failure> {
    let path = format!("{FUNCTIONS}/{}", segment(&plan.name));
    settled(client, &plan.name).await?;
    let mut configuration = flagged(options, variables);
    let same_family = there["Runtime"].as_str().and_then(|text| Runtime::parse(text).ok()).map(Runtime::family)
        == Some(plan.runtime.family());
    if (options.runtime.is_some() || !same_family) && there["Runtime"] != plan.runtime.as_str() {
        configuration.insert("Runtime".into(), plan.runtime.as_str().into());
    }
    if there["Handler"] != plan.handler {
        configuration.insert("Handler".into(), plan.handler.clone().into());
    }
    if !configuration.is_empty() {
        let answer = send(client, Method::PUT, &format!("{path}/configuration"), configuration).await?;
        say_what_has_no_effect(&answer);
        settled(client, &plan.name).await?;
    }
    let mut code = Map::new();
    code.insert("ZipFile".into(), base64::engine::general_purpose::STANDARD.encode(&plan.zip).into());
    let answer = send(client, Method::PUT, &format!("{path}/code"), code).await?;
    say_what_has_no_effect(&answer);
    Ok(())
}

async fn send(client: &Client, method: Method, path: &str, body: Map<String, Value>) -> Result<Answer, ClientError> {
    let body = Bytes::from(Value::Object(body).to_string());
    client.send(method, path, &[("content-type", "application/json")], body).await
}

fn say_what_has_no_effect(answer: &Answer) {
    if let Some(ignored) = answer.header("x-hearth-ignored").filter(|ignored| !ignored.is_empty()) {
        eprintln!("hearth: kept without effect: {ignored}");
    }
}

/// The function's configuration once it is active and no update is under way.
async fn settled(client: &Client, name: &str) -> Result<Value, Failure> {
    let path = format!("{FUNCTIONS}/{}/configuration", segment(name));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let function: Value = client.get(&path).await?.json()?;
        let reason = |member: &str| function[member].as_str().unwrap_or("no reason was given").to_owned();
        match (function["State"].as_str(), function["LastUpdateStatus"].as_str()) {
            (Some("Failed"), _) => return Err(Failure::No(format!("{name} failed: {}", reason("StateReason")))),
            (_, Some("Failed")) => {
                let reason = reason("LastUpdateStatusReason");
                return Err(Failure::No(format!("the update of {name} failed: {reason}")));
            }
            (Some("Pending"), _) | (_, Some("InProgress")) => {}
            _ => return Ok(function),
        }
        if Instant::now() > deadline {
            return Err(Failure::No(format!("{name} did not become active within {} s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_are_later_by_number_not_by_text() {
        assert!(version_parts("3.11") > version_parts("3.9"));
        assert!(version_parts("20") > version_parts("9"));
    }

    #[test]
    fn variables_are_pairs() {
        let found = variables(&["A=1".into(), "B=x=y".into()]).unwrap_or_else(|_| panic!("refused")).unwrap();
        assert_eq!(found, json!({"Variables": {"A": "1", "B": "x=y"}}));
        assert!(variables(&["A".into()]).is_err());
        assert!(variables(&["=1".into()]).is_err());
    }
}
