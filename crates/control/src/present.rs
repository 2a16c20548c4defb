//! A record as AWS answers it (spec 1.4, 1.5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_model::{CodeHash, Family, FunctionArn, Qualifier, Secret};
use hearth_wire_lambda::types;
use sha2::{Digest, Sha256};

use crate::record::{FunctionRecord, Update, default_log_group};

const CREATING: &str = "The function is being created.";

/// `FunctionConfiguration` with its states. The ARN carries `$LATEST` only when it was asked for.
pub fn configuration(record: &FunctionRecord, qualified: bool) -> types::FunctionConfiguration {
    let mut answer = listed(record);
    if qualified {
        answer.function_arn = Some(arn(record).qualified(Qualifier::new(Qualifier::LATEST)).to_string());
    }
    if record.serving.is_some() {
        answer.state = Some("Active".to_owned());
        let (status, reason, code) = match &record.update {
            Update::InProgress => ("InProgress", Some(CREATING.to_owned()), Some("Creating".to_owned())),
            Update::Successful => ("Successful", None, None),
            Update::Failed { reason, code } => ("Failed", Some(reason.clone()), Some(code.clone())),
        };
        answer.last_update_status = Some(status.to_owned());
        answer.last_update_status_reason = reason;
        answer.last_update_status_reason_code = code;
    } else {
        let (state, reason, code) = match &record.update {
            Update::Failed { reason, code } => ("Failed", reason.as_str(), code.as_str()),
            _ => ("Pending", CREATING, "Creating"),
        };
        answer.state = Some(state.to_owned());
        answer.state_reason = Some(reason.to_owned());
        answer.state_reason_code = Some(code.to_owned());
    }
    if record.intent.runtime.family() != Family::Provided {
        let digest = CodeHash(Sha256::digest(record.intent.runtime.as_str()).into()).to_hex();
        let region = &record.owner.region;
        answer.runtime_version_config = Some(types::RuntimeVersionConfig {
            runtime_version_arn: Some(format!("arn:aws:lambda:{region}::runtime:{digest}")),
            error: None,
        });
    }
    answer
}

/// As lists show it: without states.
pub fn listed(record: &FunctionRecord) -> types::FunctionConfiguration {
    let definition = &record.intent;
    let kept = &record.kept;
    types::FunctionConfiguration {
        function_name: Some(record.name.to_string()),
        function_arn: Some(arn(record).to_string()),
        runtime: Some(definition.runtime.to_string()),
        role: Some(definition.role.clone()),
        handler: Some(definition.handler.clone()),
        code_size: i64::try_from(definition.code_size).ok(),
        description: Some(record.description.clone()),
        timeout: Some(i64::from(definition.timeout_s)),
        memory_size: Some(i64::from(definition.memory.as_mib())),
        last_modified: Some(record.last_modified.clone()),
        code_sha256: Some(STANDARD.encode(definition.code.0)),
        version: Some(Qualifier::LATEST.to_owned()),
        vpc_config: kept.vpc_config.as_ref().map(|vpc| types::VpcConfigResponse {
            subnet_ids: Some(vpc.subnet_ids.clone().unwrap_or_default()),
            security_group_ids: Some(vpc.security_group_ids.clone().unwrap_or_default()),
            vpc_id: Some(String::new()),
            ipv6_allowed_for_dual_stack: Some(vpc.ipv6_allowed_for_dual_stack.unwrap_or(false)),
        }),
        dead_letter_config: kept.dead_letter_config.clone(),
        environment: definition.environment.as_ref().map(|variables| types::EnvironmentResponse {
            variables: Some(variables.iter().map(|(key, value)| (key.clone(), reveal(value))).collect()),
            error: None,
        }),
        kms_key_arn: kept.kms_key_arn.clone(),
        tracing_config: Some(types::TracingConfigResponse {
            mode: kept
                .tracing_config
                .as_ref()
                .and_then(|tracing| tracing.mode.clone())
                .or(Some("PassThrough".to_owned())),
        }),
        revision_id: Some(record.revision_id.clone()),
        file_system_configs: kept.file_system_configs.clone(),
        package_type: Some("Zip".to_owned()),
        architectures: Some(vec![definition.architecture.as_str().to_owned()]),
        ephemeral_storage: Some(types::EphemeralStorage {
            size: Some(i64::from(definition.ephemeral_storage.as_mib())),
        }),
        snap_start: Some(types::SnapStartResponse {
            apply_on: kept.snap_start.as_ref().and_then(|snap| snap.apply_on.clone()).or(Some("None".to_owned())),
            optimization_status: Some("Off".to_owned()),
        }),
        logging_config: Some(types::LoggingConfig {
            log_format: Some("Text".to_owned()),
            log_group: Some(definition.log_group.clone().unwrap_or_else(|| default_log_group(&record.name))),
            ..types::LoggingConfig::default()
        }),
        tenancy_config: kept.tenancy_config.clone(),
        ..types::FunctionConfiguration::default()
    }
}

/// To its owner: the one place where a value leaves again.
fn reveal(value: &Secret) -> String {
    value.reveal().to_owned()
}

pub fn arn(record: &FunctionRecord) -> FunctionArn {
    FunctionArn {
        region: record.owner.region.clone(),
        account: record.owner.account.clone(),
        name: record.name.clone(),
        qualifier: None,
    }
}
