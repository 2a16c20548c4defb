//! Hearth's own documents, as `--json` prints them and `/_hearth/v1` answers them: members in lowerCamelCase, what is
//! not known is absent.

use hearth_images::{InstalledRuntime, Source};
use hearth_model::Runtime;
use hearth_sandbox::Promise;
use hearth_wire::Coverage;
use serde::Serialize;

#[derive(Serialize)]
pub struct Runtimes {
    pub runtimes: Vec<RuntimeRow>,
}

#[derive(Serialize)]
pub struct RuntimeRow {
    pub runtime: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    pub source: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
}

pub fn runtimes(installed: Vec<InstalledRuntime>) -> Runtimes {
    let row = |InstalledRuntime { runtime, version, source, digest, sdk }| RuntimeRow {
        runtime: Runtime::as_str(runtime),
        version,
        source: Source::as_str(source),
        digest,
        sdk,
    };
    Runtimes { runtimes: installed.into_iter().map(row).collect() }
}

#[derive(Serialize)]
pub struct CoverageList {
    pub services: Vec<Service>,
}

#[derive(Serialize)]
pub struct Service {
    pub service: &'static str,
    pub operations: Vec<Operation>,
}

#[derive(Serialize)]
pub struct Operation {
    pub operation: &'static str,
    /// `works`, `partial` or `refused`.
    pub status: &'static str,
    pub parameters: Vec<Parameter>,
}

/// A parameter that does less than AWS's; those that are not named work.
#[derive(Serialize)]
pub struct Parameter {
    pub name: &'static str,
    /// `kept` or `refused`.
    pub status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}

/// Every operation of AWS Lambda, from the tables that the router consults.
pub fn coverage() -> CoverageList {
    let implemented: Vec<&Coverage> =
        [hearth_control::COVERAGE, hearth_placement::COVERAGE].into_iter().flatten().collect();
    let lambda = hearth_wire_lambda::OPERATIONS.iter().map(|info| {
        let covered = implemented.iter().find(|covered| covered.operation == info.name);
        let parameters: Vec<Parameter> = covered.map(|covered| parameters(covered)).unwrap_or_default();
        let status = match covered {
            None => "refused",
            Some(_) if parameters.is_empty() => "works",
            Some(_) => "partial",
        };
        Operation { operation: info.name, status, parameters }
    });
    let identity = Operation { operation: "GetCallerIdentity", status: "works", parameters: Vec::new() };
    CoverageList {
        services: vec![
            Service { service: "lambda", operations: lambda.collect() },
            Service { service: "sts", operations: vec![identity] },
        ],
    }
}

fn parameters(covered: &Coverage) -> Vec<Parameter> {
    let parameter = |parameter: &hearth_wire::Parameter| Parameter {
        name: parameter.name,
        status: parameter.status.as_str(),
        note: parameter.note,
    };
    covered.parameters.iter().map(parameter).collect()
}

#[derive(Serialize)]
pub struct Doctor {
    /// `root`, `user-delegated` or `user`.
    pub way: &'static str,
    pub isolation: String,
    /// `v1`, `v2` or `hybrid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    pub promises: Vec<PromiseRow>,
    #[serde(skip)]
    pub runs_confined: bool,
}

#[derive(Serialize)]
pub struct PromiseRow {
    pub name: &'static str,
    pub held: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl From<Promise> for PromiseRow {
    fn from(promise: Promise) -> Self {
        let Promise { name, held, by, why, fix } = promise;
        PromiseRow { name, held, by, why, fix }
    }
}
