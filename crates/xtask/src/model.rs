//! The published API model of a service: fetched from PyPI at a pinned version, read, never kept in the repository.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The version of the package that carries the models. Raising it is one change with the generated files and with
/// `e2e/requirements.txt`, whose suites compare the two.
const VERSION: &str = "1.44.5";

#[derive(Deserialize)]
pub struct Model {
    pub metadata: Metadata,
    pub operations: BTreeMap<String, Operation>,
    pub shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub api_version: String,
    /// Of the Query protocol.
    #[serde(default)]
    pub xml_namespace: String,
    /// Of AWS-JSON.
    #[serde(default)]
    pub target_prefix: String,
}

#[derive(Deserialize)]
pub struct Operation {
    pub http: Http,
    pub input: Option<Reference>,
    pub output: Option<Reference>,
    #[serde(default)]
    pub errors: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    pub method: String,
    pub request_uri: String,
    pub response_code: Option<u16>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    pub shape: String,
    pub location: Option<String>,
    pub location_name: Option<String>,
    /// The member is its event's whole payload.
    #[serde(default)]
    pub eventpayload: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    #[serde(rename = "type")]
    pub kind: String,
    /// In the order of the model, which error texts follow.
    #[serde(default)]
    pub members: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub required: Vec<String>,
    pub payload: Option<String>,
    pub member: Option<Reference>,
    pub key: Option<Reference>,
    pub value: Option<Reference>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub pattern: Option<String>,
    #[serde(default, rename = "enum")]
    pub values: Vec<String>,
    #[serde(default)]
    pub exception: bool,
    pub error: Option<ErrorTrait>,
    /// An error that is the service's.
    #[serde(default)]
    pub fault: bool,
    #[serde(default)]
    pub eventstream: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorTrait {
    /// Where it is not the shape's name.
    pub code: Option<String>,
    pub http_status_code: u16,
}

impl Shape {
    pub fn members(&self) -> Result<Vec<(&str, Reference)>> {
        let read = |(name, value): (_, &serde_json::Value)| Ok((name, Reference::deserialize(value)?));
        self.members.iter().map(|(name, value)| read((name.as_str(), value))).collect()
    }
}

/// Reads the model of `service` at `api` (`2015-03-31`).
pub fn fetch(service: &str, api: &str) -> Result<Model> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), Into::into);
    let cache = target.join("codegen");
    let wheel = cache.join(format!("botocore-{VERSION}-py3-none-any.whl"));
    if !wheel.exists() {
        std::fs::create_dir_all(&cache)?;
        let venv = cache.join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"];
        run(Command::new(venv.join("bin/python")).args(download).arg(&cache).arg(format!("botocore=={VERSION}")))?;
    }
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&wheel)?)?;
    let name = format!("botocore/data/{service}/{api}/service-2.json.gz");
    let mut packed = Vec::new();
    archive.by_name(&name).with_context(|| name.clone())?.read_to_end(&mut packed)?;
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut json)?;
    serde_json::from_slice(&json).context("the model does not read")
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?}: {status}") }
}
