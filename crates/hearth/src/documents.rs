//! Hearth's own documents, as `--json` prints them and `/_hearth/v1` answers them: members in lowerCamelCase, what is
//! not known is absent.

use hearth_images::{InstalledRuntime, Source};
use hearth_model::Runtime;
use hearth_sandbox::Promise;
use hearth_wire::{Coverage, Kind, Member, Shape};
use hearth_worker::{Explanation, Phase};
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
    pub from: Option<String>,
    /// Digests of what it was before, which functions can still run on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
}

pub fn runtimes(installed: Vec<InstalledRuntime>) -> Runtimes {
    Runtimes { runtimes: installed.into_iter().map(runtime).collect() }
}

pub fn runtime(installed: InstalledRuntime) -> RuntimeRow {
    let InstalledRuntime { runtime, version, source, digest, from, kept, sdk } = installed;
    RuntimeRow { runtime: Runtime::as_str(runtime), version, source: Source::as_str(source), digest, from, kept, sdk }
}

/// `explain REQUEST_ID`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    pub request_id: String,
    pub function_arn: String,
    /// `cold`, `warm` or `provisioned`.
    pub start: &'static str,
    pub reason: String,
    pub phases: Vec<ExplainedPhase>,
}

#[derive(Serialize)]
pub struct ExplainedPhase {
    pub name: &'static str,
    pub ms: f64,
}

pub fn explanation(explanation: Explanation) -> Explained {
    let Explanation { request_id, function, start, reason, phases } = explanation;
    let phase = |(phase, took): (Phase, std::time::Duration)| {
        // To the microsecond.
        ExplainedPhase { name: phase.as_str(), ms: took.as_micros() as f64 / 1000.0 }
    };
    Explained {
        request_id: request_id.as_str().to_owned(),
        function_arn: function.to_string(),
        start: start.as_str(),
        reason: reason.into_owned(),
        phases: phases.into_iter().map(phase).collect(),
    }
}

/// `explain network FUNCTION HOST:PORT`.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    pub function_arn: String,
    pub destination: String,
    /// All of it, whichever address is taken.
    pub allowed: bool,
    /// What decides before addresses do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub addresses: Vec<NetworkAddress>,
}

#[derive(Serialize)]
pub struct NetworkAddress {
    pub address: String,
    pub allowed: bool,
    /// What decides about it.
    pub rule: String,
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
    /// Nothing of its own is missing: what does not work is kept for a reason, or a part of another feature.
    pub complete: bool,
    pub parameters: Vec<Parameter>,
}

#[derive(Serialize)]
pub struct Parameter {
    /// Path of the member: `Code.ZipFile`.
    pub name: String,
    /// `works`, `kept` or `refused`.
    pub status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}

/// Every operation of every service, from the tables that the router consults.
pub fn coverage() -> CoverageList {
    let lambda = hearth_wire_lambda::OPERATIONS.iter().map(|info| (info.name, info.input));
    let iam = hearth_wire_iam::OPERATIONS.iter().map(|info| (info.name, info.input));
    let logs = hearth_wire_logs::OPERATIONS.iter().map(|info| (info.name, info.input));
    let scheduler = hearth_wire_scheduler::OPERATIONS.iter().map(|info| (info.name, info.input));
    let sqs = hearth_wire_sqs::OPERATIONS.iter().map(|info| (info.name, info.input));
    let sts = hearth_wire_sts::OPERATIONS.iter().map(|info| (info.name, info.input));
    let services = vec![
        service("lambda", lambda, &[]),
        service("iam", iam, &hearth_wire_iam::REFUSED),
        service("logs", logs, &hearth_wire_logs::REFUSED),
        Service { service: "s3", operations: s3() },
        service("scheduler", scheduler, &[]),
        service("sqs", sqs, &hearth_wire_sqs::REFUSED),
        service("sts", sts, &hearth_wire_sts::REFUSED),
    ];
    CoverageList { services }
}

/// What is implemented of a service.
fn implemented(service: &str) -> Vec<&'static Coverage> {
    let own = [
        ("lambda", hearth_control::COVERAGE),
        ("lambda", hearth_events::COVERAGE),
        ("lambda", hearth_mappings::COVERAGE),
        ("lambda", hearth_placement::COVERAGE),
        ("logs", hearth_logs::COVERAGE),
        ("scheduler", hearth_schedules::COVERAGE),
        ("sqs", hearth_queues::COVERAGE),
    ];
    let all = own.iter().chain(hearth_identity::COVERAGE).filter(|(of, _)| *of == service);
    all.flat_map(|(_, covered)| covered.iter()).collect()
}

/// `unknown` are operations that nothing but their names is known of.
fn service(
    service: &'static str,
    operations: impl Iterator<Item = (&'static str, Option<&'static Shape>)>,
    unknown: &[&'static str],
) -> Service {
    let implemented = implemented(service);
    let known = operations.map(|(name, input)| {
        let covered = implemented.iter().find(|covered| covered.operation == name).copied();
        let status = match covered {
            None => "refused",
            Some(covered) if covered.parameters.is_empty() => "works",
            Some(_) => "partial",
        };
        Operation { operation: name, status, complete: is_complete(covered), parameters: parameters(covered, input) }
    });
    let refused =
        |name: &&'static str| Operation { operation: name, status: "refused", complete: false, parameters: Vec::new() };
    let mut operations: Vec<Operation> = known.chain(unknown.iter().map(refused)).collect();
    operations.sort_by_key(|operation| operation.operation);
    Service { service, operations }
}

fn is_complete(covered: Option<&Coverage>) -> bool {
    covered.is_some_and(Coverage::is_complete)
}

/// Every operation of S3. Of its parameters only those are told that do less than AWS's.
fn s3() -> Vec<Operation> {
    let operations = hearth_objects::OPERATIONS.iter().map(|operation| {
        let covered = hearth_objects::COVERAGE.iter().find(|covered| covered.operation == *operation);
        let told = covered.into_iter().flat_map(|covered| covered.parameters).map(|parameter| Parameter {
            name: parameter.name.to_owned(),
            status: parameter.status.as_str(),
            note: parameter.note,
        });
        let parameters: Vec<Parameter> = told.collect();
        let status = match covered {
            None => "refused",
            Some(_) if parameters.is_empty() => "works",
            Some(_) => "partial",
        };
        Operation { operation, status, complete: is_complete(covered), parameters }
    });
    operations.collect()
}

/// Every parameter of the model: those that do less than AWS's as the table says, all others work.
fn parameters(covered: Option<&Coverage>, input: Option<&'static Shape>) -> Vec<Parameter> {
    let told = |name: &str| covered?.parameters.iter().find(|parameter| parameter.name == name);
    // A structure is told apart where the table tells its members apart.
    let inner = |prefix: &str| covered.is_some_and(|c| c.parameters.iter().any(|p| p.name.starts_with(prefix)));
    let row = |name: String| match (covered, told(&name)) {
        (None, _) => Parameter { name, status: "refused", note: "" },
        (_, Some(told)) => Parameter { name, status: told.status.as_str(), note: told.note },
        _ => Parameter { name, status: "works", note: "" },
    };
    let mut rows = Vec::new();
    for member in members(input) {
        let prefix = format!("{}.", member.name);
        match members(Some(member.shape)) {
            nested if inner(&prefix) && !nested.is_empty() => {
                rows.extend(nested.iter().map(|nested| row(format!("{prefix}{}", nested.name))));
            }
            _ => rows.push(row(member.name.to_owned())),
        }
    }
    rows
}

fn members(shape: Option<&'static Shape>) -> &'static [Member] {
    match shape.map(|shape| &shape.kind) {
        Some(Kind::Structure { members }) => members,
        _ => &[],
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tables_name_is_in_the_model() {
        for service in coverage().services {
            for covered in implemented(service.service) {
                let operation = service.operations.iter().find(|operation| operation.operation == covered.operation);
                let operation = operation.unwrap_or_else(|| panic!("{} is no operation", covered.operation));
                for told in covered.parameters {
                    let found = operation.parameters.iter().any(|parameter| parameter.name == told.name);
                    assert!(found, "{} is no parameter of {}", told.name, covered.operation);
                }
            }
        }
    }

    #[test]
    fn no_operation_and_no_parameter_is_named_twice() {
        for service in coverage().services {
            let mut names: Vec<String> = Vec::new();
            for operation in service.operations {
                names.push(operation.operation.to_owned());
                let own = |parameter: &Parameter| format!("{}.{}", operation.operation, parameter.name);
                names.extend(operation.parameters.iter().map(own));
            }
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
