//! AWS's rules beyond the model's constraints, with its texts (spec 1.4; recorded), and what Hearth refuses by name.

use std::collections::BTreeMap;

use hearth_model::{Architecture, Memory, RUNTIMES, Runtime};
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types;

use crate::record::{JsonLogging, Kept, Logging};

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
/// Tags of one resource.
const TAGS_MAX: usize = 50;
const EPHEMERAL_STORAGE_MAX: i64 = 10_240;

pub fn runtime(text: &str) -> Result<Runtime, Error> {
    if Runtime::is_retired(text) {
        return Err(invalid(format!(
            "The runtime parameter of {text} is no longer supported for creating or updating AWS Lambda functions. We \
             recommend you use a supported runtime while creating or updating functions."
        )));
    }
    Runtime::parse(text).map_err(|_| {
        invalid(format!(
            "Value {text} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{}] or be a valid ARN",
            RUNTIMES.join(", ")
        ))
    })
}

/// Only some runtimes can be taken up from a snapshot.
pub fn snap_start(runtime: Runtime, given: Option<&types::SnapStart>) -> Result<(), Error> {
    let wanted = given.and_then(|given| given.apply_on.as_deref()) == Some("PublishedVersions");
    if wanted && !runtime.has_snap_start() {
        return Err(invalid(format!("{runtime} is not supported for SnapStart enabled functions.")));
    }
    Ok(())
}

/// Tenants share no snapshot.
pub fn tenancy(kept: &Kept) -> Result<(), Error> {
    if kept.tenancy_config.is_some() && kept.is_snapped() {
        return Err(invalid("SnapStart is not supported for functions with tenancy configuration."));
    }
    Ok(())
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

/// `LoggingConfig` merged into what there is (spec 1.4): levels come with JSON and go with it.
pub fn logging(old: &Logging, given: Option<&types::LoggingConfig>) -> Result<Logging, Error> {
    let Some(given) = given else { return Ok(old.clone()) };
    let group = given.log_group.clone().or_else(|| old.group.clone());
    let json = given.log_format.as_deref().map_or(old.json.is_some(), |format| format == "JSON");
    let levels = (given.application_log_level.clone(), given.system_log_level.clone());
    if !json {
        return match levels {
            (None, None) => Ok(Logging { group, json: None }),
            _ => Err(invalid(
                "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change \
                 the LogFormat to \"JSON\" and try again.",
            )),
        };
    }
    let level =
        |given: Option<String>, old: Option<&String>| given.or(old.cloned()).unwrap_or_else(|| "INFO".to_owned());
    let json = Some(JsonLogging {
        application_level: level(levels.0, old.json.as_ref().map(|json| &json.application_level)),
        system_level: level(levels.1, old.json.as_ref().map(|json| &json.system_level)),
    });
    Ok(Logging { group, json })
}

/// Tags of one resource.
pub fn tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    // Documented to be AWS's own; the text is that of other services (unverified).
    if tags.keys().any(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(invalid("aws: prefixed tag key names are not allowed for external use."));
    }
    if tags.len() > TAGS_MAX { Err(invalid("Number of tags exceeds resource tag limit.")) } else { Ok(()) }
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
    fn levels_come_and_go_with_the_json_format() {
        let given = |format: Option<&str>, level: Option<&str>| types::LoggingConfig {
            log_format: format.map(str::to_owned),
            application_log_level: level.map(str::to_owned),
            ..types::LoggingConfig::default()
        };
        let levels = |logging: &Logging| {
            logging.json.as_ref().map(|json| (json.application_level.clone(), json.system_level.clone()))
        };
        let pair = |application: &str, system: &str| Some((application.to_owned(), system.to_owned()));
        let json = logging(&Logging::default(), Some(&given(Some("JSON"), None))).ok().unwrap();
        assert_eq!(levels(&json), pair("INFO", "INFO"));
        let louder = logging(&json, Some(&given(None, Some("DEBUG")))).ok().unwrap();
        assert_eq!(levels(&louder), pair("DEBUG", "INFO"));
        let text = logging(&louder, Some(&given(Some("Text"), None))).ok().unwrap();
        assert_eq!(levels(&text), None);
        assert!(logging(&text, Some(&given(None, Some("DEBUG")))).is_err());
        assert!(logging(&louder, Some(&given(Some("Text"), Some("DEBUG")))).is_err());
    }

    #[test]
    fn an_unknown_runtime_reads_as_recorded() {
        let message = runtime("python9.9").unwrap_err().message.unwrap();
        assert!(
            message.starts_with("Value python9.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum")
        );
        assert!(message.ends_with("] or be a valid ARN"));
    }
}
