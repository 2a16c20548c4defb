//! The process environment of a runtime (spec 3.2). `_X_AMZN_TRACE_ID` is not here: it belongs to one invocation, and
//! bootstraps take it from the event's header.

use std::collections::BTreeMap;

use hearth_identity::Credentials;
use hearth_model::{Family, FunctionVersion, LogStreamName, Runtime, RuntimeTree};
use hearth_sandbox::LOG_FD;

use crate::state::Shared;

const TASK_ROOT: &str = "/var/task";

/// What later layers may not replace is set later: values that a function may replace, the function's own, credentials,
/// the platform's.
pub(crate) fn of_process(
    environment: &Shared,
    tree: &RuntimeTree,
    stream: &LogStreamName,
    endpoint_port: Option<u16>,
) -> Vec<(String, String)> {
    let function = &environment.function;
    let mut variables = Variables::default();
    defaults(function.runtime, tree, endpoint_port, &mut variables);
    if let Some(logs) = function.json_logs {
        variables.set("AWS_LAMBDA_LOG_FORMAT", "JSON");
        variables.set("AWS_LAMBDA_LOG_LEVEL", logs.application.as_str());
    }
    for (key, value) in function.environment.iter().filter(|(key, _)| !key.starts_with('_')) {
        variables.set(key, value.reveal());
    }
    credentials(&environment.credentials, &mut variables);
    reserved(function, stream, &mut variables);
    variables.set("AWS_LAMBDA_INITIALIZATION_TYPE", environment.initialization.as_str());
    variables.0.into_iter().collect()
}

#[derive(Default)]
struct Variables(BTreeMap<String, String>);

impl Variables {
    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.insert(key.to_owned(), value.into());
    }
}

/// What a function's own configuration may replace.
fn defaults(runtime: Runtime, tree: &RuntimeTree, endpoint_port: Option<u16>, variables: &mut Variables) {
    // Only `provided.al2` does without the language's own folders.
    let (bin, lib) = match runtime.as_str() {
        "provided.al2" => ("", ""),
        _ => ("/var/lang/bin:", "/var/lang/lib:"),
    };
    variables.set("PATH", format!("{bin}/usr/local/bin:/usr/bin/:/bin:/opt/bin"));
    let libraries = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
    variables.set("LD_LIBRARY_PATH", format!("{lib}{libraries}"));
    variables.set("LANG", "en_US.UTF-8");
    variables.set("TZ", ":UTC");
    variables.set("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    variables.set("AWS_XRAY_DAEMON_ADDRESS", format!("{}:2000", xray_daemon(runtime)));
    if let Some(port) = endpoint_port {
        variables.set("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    }
    tree.variables.iter().for_each(|(key, value)| variables.set(key, value));
}

fn xray_daemon(runtime: Runtime) -> &'static str {
    match runtime.runtime_api_address() {
        "127.0.0.1:9001" => "169.254.79.129",
        _ => "169.254.100.1",
    }
}

/// Of the function's role, for as long as the environment may live.
fn credentials(own: &Credentials, variables: &mut Variables) {
    variables.set("AWS_ACCESS_KEY_ID", own.access_key.as_str());
    variables.set("AWS_SECRET_ACCESS_KEY", own.secret.reveal());
    variables.set("AWS_SESSION_TOKEN", own.token.reveal());
}

fn reserved(function: &FunctionVersion, stream: &LogStreamName, variables: &mut Variables) {
    let (region, runtime) = (function.key.region.as_str(), function.runtime);
    variables.set("AWS_REGION", region);
    variables.set("AWS_DEFAULT_REGION", region);
    variables.set("AWS_LAMBDA_FUNCTION_NAME", function.key.name.as_str());
    variables.set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.as_mib().to_string());
    variables.set("AWS_LAMBDA_FUNCTION_VERSION", function.key.version.to_string());
    variables.set("AWS_LAMBDA_LOG_GROUP_NAME", &*function.log_group.name);
    variables.set("AWS_LAMBDA_LOG_STREAM_NAME", stream.as_str());
    variables.set("AWS_LAMBDA_RUNTIME_API", runtime.runtime_api_address());
    variables.set("LAMBDA_TASK_ROOT", TASK_ROOT);
    variables.set("LAMBDA_RUNTIME_DIR", "/var/runtime");
    variables.set("_HANDLER", function.handler.as_str());
    variables.set("_AWS_XRAY_DAEMON_ADDRESS", xray_daemon(runtime));
    variables.set("_AWS_XRAY_DAEMON_PORT", "2000");
    if runtime.family() != Family::Provided {
        variables.set("AWS_EXECUTION_ENV", format!("AWS_Lambda_{runtime}"));
        variables.set("_LAMBDA_TELEMETRY_LOG_FD", LOG_FD.to_string());
    }
}
