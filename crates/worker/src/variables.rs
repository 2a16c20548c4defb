//! The process environment of a runtime (spec 3.2). `_X_AMZN_TRACE_ID` is not here: it belongs to one invocation, and
//! bootstraps take it from the event's header.

use std::collections::BTreeMap;

use hearth_identity::Credentials;
use hearth_model::{Family, FunctionVersion, ImageProgram, LogStreamName, Program, Runtime, RuntimeTree};
use hearth_sandbox::LOG_FD;

use crate::entry::{Entry, PATH};

use crate::state::Shared;

const TASK_ROOT: &str = "/var/task";
const RUNTIME_DIR: &str = "/var/runtime";

/// What later layers may not replace is set later: values that a function may replace, the function's own, credentials,
/// the platform's.
pub(crate) fn of_process(
    environment: &Shared,
    entry: &Entry,
    stream: &LogStreamName,
    endpoint_port: Option<u16>,
) -> Vec<(String, String)> {
    let function = &environment.function;
    let mut variables = Variables::default();
    match entry {
        Entry::Runtime { asked, tree } => defaults(*asked, tree, &mut variables),
        Entry::Image { program, .. } => of_image(program, &mut variables),
    }
    variables.set("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    variables.set("AWS_XRAY_DAEMON_ADDRESS", format!("{}:2000", xray_daemon(&function.program)));
    if let Some(port) = endpoint_port {
        variables.set("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    }
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
fn defaults(runtime: Runtime, tree: &RuntimeTree, variables: &mut Variables) {
    tree.variables.iter().for_each(|(key, value)| variables.set(key, value));
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
}

/// What the image says, and what its process could not do without.
fn of_image(program: &ImageProgram, variables: &mut Variables) {
    variables.set("LAMBDA_TASK_ROOT", TASK_ROOT);
    variables.set("LAMBDA_RUNTIME_DIR", RUNTIME_DIR);
    variables.set("PATH", PATH);
    for (key, value) in &program.image.process.environment {
        variables.set(key, value.reveal());
    }
}

fn xray_daemon(program: &Program) -> &'static str {
    match program.runtime_api_address() {
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

/// Whether its runtime writes log records to a pipe of their own. A process of an image is told of none.
pub(crate) fn frames_logs(program: &Program) -> bool {
    matches!(program, Program::Zip(zip) if zip.runtime.family() != Family::Provided)
}

fn reserved(function: &FunctionVersion, stream: &LogStreamName, variables: &mut Variables) {
    let (region, program) = (function.key.region.as_str(), &function.program);
    variables.set("AWS_REGION", region);
    variables.set("AWS_DEFAULT_REGION", region);
    variables.set("AWS_LAMBDA_FUNCTION_NAME", function.key.name.as_str());
    variables.set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.as_mib().to_string());
    variables.set("AWS_LAMBDA_FUNCTION_VERSION", function.key.version.to_string());
    variables.set("AWS_LAMBDA_LOG_GROUP_NAME", &*function.log_group.name);
    variables.set("AWS_LAMBDA_LOG_STREAM_NAME", stream.as_str());
    variables.set("AWS_LAMBDA_RUNTIME_API", program.runtime_api_address());
    variables.set("_AWS_XRAY_DAEMON_ADDRESS", xray_daemon(program));
    variables.set("_AWS_XRAY_DAEMON_PORT", "2000");
    // An image's entry script says the handler, and whose runtime it is.
    if let Program::Zip(zip) = program {
        variables.set("LAMBDA_TASK_ROOT", TASK_ROOT);
        variables.set("LAMBDA_RUNTIME_DIR", RUNTIME_DIR);
        variables.set("_HANDLER", zip.handler.as_str());
        if zip.runtime.family() != Family::Provided {
            variables.set("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", zip.runtime));
        }
    }
    if frames_logs(program) {
        variables.set("_LAMBDA_TELEMETRY_LOG_FD", LOG_FD.to_string());
    }
}
