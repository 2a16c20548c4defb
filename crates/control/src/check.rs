//! AWS's rules beyond the model's constraints, with its texts (spec 1.4; recorded), and what Hearth refuses by name.

use std::collections::BTreeMap;

use hearth_model::{Architecture, Memory, RUNTIMES, Runtime};
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types;

/// Variables that functions cannot set (spec 3.2).
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_LAMBDA_MAX_CONCURRENCY",
];

/// All variables as one JSON text, bytes.
const ENVIRONMENT_MAX: usize = 4096;
/// Of ordinary functions; the model's own limit is that of managed instances.
const TIMEOUT_MAX: i64 = 900;
const MEMORY_MAX: i64 = 10_240;
const EPHEMERAL_STORAGE_MAX: i64 = 10_240;

pub fn runtime(text: &str) -> Result<Runtime, Error> {
    Runtime::parse(text).map_err(|_| {
        invalid(format!(
            "Value {text} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
            RUNTIMES.join(", ")
        ))
    })
}

pub fn timeout(seconds: i64) -> Result<u32, Error> {
    at_most("timeout", seconds, TIMEOUT_MAX)
}

pub fn memory(megabytes: i64) -> Result<Memory, Error> {
    at_most("memorySize", megabytes, MEMORY_MAX).map(Memory::mib)
}

pub fn ephemeral_storage(size: Option<&types::EphemeralStorage>) -> Result<Option<Memory>, Error> {
    let size = size.and_then(|storage| storage.size);
    size.map(|size| at_most("ephemeralStorage.size", size, EPHEMERAL_STORAGE_MAX).map(Memory::mib)).transpose()
}

fn at_most(member: &str, value: i64, max: i64) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(value) if i64::from(value) <= max => Ok(value),
        _ => Err(Error::validation(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must have value \
             less than or equal to {max}"
        ))),
    }
}

pub fn architecture(list: Option<&Vec<String>>) -> Option<Architecture> {
    list.and_then(|list| list.first()).map(|name| match name.as_str() {
        "arm64" => Architecture::Arm64,
        _ => Architecture::X86_64,
    })
}

pub fn environment(variables: &BTreeMap<String, String>) -> Result<(), Error> {
    let reserved: Vec<&str> = variables.keys().map(String::as_str).filter(|key| RESERVED.contains(key)).collect();
    if !reserved.is_empty() {
        return Err(invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided \
             contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    let measured = serde_json::to_string(variables).unwrap_or_default();
    if measured.len() > ENVIRONMENT_MAX {
        return Err(invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided \
             exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    Ok(())
}

/// A log group that is not the default; `None` is the default.
pub fn log_group(operation: &str, logging: Option<&types::LoggingConfig>) -> Result<Option<String>, Error> {
    let Some(logging) = logging else { return Ok(None) };
    let levels = logging.application_log_level.is_some() || logging.system_log_level.is_some();
    match logging.log_format.as_deref() {
        Some("JSON") => Err(unsupported(operation, "LoggingConfig.LogFormat JSON")),
        _ if levels => Err(invalid(
            "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change the \
             LogFormat to \"JSON\" and try again.",
        )),
        _ => Ok(logging.log_group.clone()),
    }
}

/// Refuses by name the first parameter that was given and is not built.
pub fn refuse(operation: &str, parameters: &[(bool, &str)]) -> Result<(), Error> {
    match parameters.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(unsupported(operation, name)),
        None => Ok(()),
    }
}

fn unsupported(operation: &str, parameter: &str) -> Error {
    Error::not_supported(format_args!("lambda:{operation} with {parameter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_variables_are_named_and_four_kilobytes_are_the_limit() {
        let of = |pairs: &[(&str, &str)]| {
            let variables = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            environment(&variables).map_err(|e| e.message.unwrap())
        };
        assert!(of(&[("AWS_REGION", "x"), ("A", "b")]).unwrap_err().ends_with("in this request: AWS_REGION"));
        // Together with `{"A":""}` it is exactly the limit.
        assert!(of(&[("A", &"x".repeat(4096 - 8))]).is_ok());
        assert!(of(&[("A", &"x".repeat(4096 - 7))]).unwrap_err().contains("exceeded the 4KB limit"));
    }

    #[test]
    fn ordinary_functions_have_ordinary_limits() {
        assert!(timeout(900).is_ok() && timeout(901).is_err());
        assert!(memory(10_240).is_ok() && memory(10_241).is_err());
    }

    #[test]
    fn an_unknown_runtime_reads_as_recorded() {
        let message = runtime("python2.7").unwrap_err().message.unwrap();
        assert!(
            message.starts_with("Value python2.7 at 'runtime' failed to satisfy constraint: Member must satisfy enum")
        );
        assert!(message.ends_with("] or be a valid ARN"));
    }
}
