//! The process environment of a runtime (spec 3.2).

use std::collections::BTreeMap;

use hearth_model::{Family, FunctionVersion, LogStreamName, Runtime, RuntimeTree};

/// Platform values that a function's own configuration may replace.
const OVERRIDABLE: &[(&str, &str)] = &[
    ("LANG", "en_US.UTF-8"),
    ("TZ", ":UTC"),
    ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
    ("AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1:2000"),
];

/// Later wins: platform values that may be replaced, the function's, credentials, the runtime's, the platform's.
pub(crate) fn of_process(
    function: &FunctionVersion,
    runtime: &RuntimeTree,
    stream: &LogStreamName,
    endpoint_port: u16,
) -> Vec<(String, String)> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |key: &str, value: &str| drop(variables.insert(key.to_owned(), value.to_owned()));
    OVERRIDABLE.iter().for_each(|(key, value)| set(key, value));
    set("PATH", path(function.runtime));
    set("LD_LIBRARY_PATH", library_path(function.runtime));
    for (key, value) in function.environment.iter().filter(|(key, _)| !key.starts_with('_')) {
        set(key, value.reveal());
    }
    credentials(function, stream, &mut set);
    runtime.variables.iter().for_each(|(key, value)| set(key, value));
    platform(function, stream, endpoint_port, &mut set);
    variables.into_iter().collect()
}

fn path(runtime: Runtime) -> &'static str {
    match runtime.as_str() {
        "provided.al2" => "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        _ => "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    }
}

fn library_path(runtime: Runtime) -> &'static str {
    match runtime.as_str() {
        "provided.al2" => "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        _ => "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    }
}

/// Made-up keys of AWS's shape: the endpoint inside the environment knows its caller by the socket, not by these.
fn credentials(function: &FunctionVersion, stream: &LogStreamName, set: &mut impl FnMut(&str, &str)) {
    let id: String = stream.as_str().chars().rev().take(16).collect::<String>().to_uppercase();
    set("AWS_ACCESS_KEY_ID", &format!("ASIA{id}"));
    set("AWS_SECRET_ACCESS_KEY", &format!("hearth/{id}/{}", function.key.name));
    set("AWS_SESSION_TOKEN", &format!("hearth.{id}"));
}

fn platform(function: &FunctionVersion, stream: &LogStreamName, endpoint: u16, set: &mut impl FnMut(&str, &str)) {
    let region = function.key.region.as_str();
    set("AWS_REGION", region);
    set("AWS_DEFAULT_REGION", region);
    set("AWS_LAMBDA_FUNCTION_NAME", function.key.name.as_str());
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &function.memory.as_mib().to_string());
    set("AWS_LAMBDA_FUNCTION_VERSION", &function.key.version.to_string());
    set("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand");
    set("AWS_LAMBDA_LOG_GROUP_NAME", &function.log_group.name);
    set("AWS_LAMBDA_LOG_STREAM_NAME", stream.as_str());
    set("AWS_LAMBDA_RUNTIME_API", function.runtime.runtime_api_address());
    set("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{endpoint}"));
    set("LAMBDA_TASK_ROOT", "/var/task");
    set("LAMBDA_RUNTIME_DIR", "/var/runtime");
    set("_HANDLER", &function.handler);
    set("_AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1");
    set("_AWS_XRAY_DAEMON_PORT", "2000");
    if function.runtime.family() != Family::Provided {
        set("AWS_EXECUTION_ENV", &format!("AWS_Lambda_{}", function.runtime));
    }
}
