//! Functions and versions as AWS answers them (spec 1.4, 1.5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_model::{CodeHash, Family, ImageOverrides, Qualifier, RuntimeVersions, Secret};
use hearth_wire_lambda::types;

use crate::record::{Content, Definition, Kept, Readiness, Rest, Update, default_log_group};
use crate::runtimes::runtime_version_arn;
use crate::state::function::{Function, Published};

const CREATING: &str = "The function is being created.";
/// What AWS says here was never recorded.
const RESTORING: &str = "The function is being restored.";

/// One version, to be shown.
struct View<'a> {
    function: &'a Function,
    version: String,
    definition: &'a Definition,
    description: &'a str,
    revision_id: &'a str,
    last_modified: &'a str,
}

/// How a version stands.
struct Stand {
    state: &'static str,
    state_reason: Option<(String, String)>,
    last_update: Option<&'static str>,
    last_update_reason: Option<(String, String)>,
}

impl Stand {
    fn active(last_update: &'static str, last_update_reason: Option<(String, String)>) -> Self {
        Stand { state: "Active", state_reason: None, last_update: Some(last_update), last_update_reason }
    }

    fn not_active(state: &'static str, reason: &str, code: &str) -> Self {
        let state_reason = Some((reason.to_owned(), code.to_owned()));
        Stand { state, state_reason, last_update: None, last_update_reason: None }
    }

    /// Recorded: what became of the last update stays.
    fn at_rest(rest: &Rest) -> Self {
        let (state, reason, code) = match rest {
            Rest::Inactive { reason, code } => ("Inactive", reason.as_str(), code.as_str()),
            Rest::Waking => ("Pending", RESTORING, "Restoring"),
        };
        Stand { last_update: Some("Successful"), ..Stand::not_active(state, reason, code) }
    }

    fn of_latest(function: &Function) -> Self {
        if let Some(rest) = &function.record.rest {
            return Stand::at_rest(rest);
        }
        match &function.record.update {
            Update::Creating => Stand::not_active("Pending", CREATING, "Creating"),
            Update::InProgress { .. } => {
                Stand::active("InProgress", Some((CREATING.to_owned(), "Creating".to_owned())))
            }
            Update::Successful => Stand::active("Successful", None),
            Update::Failed { reason, code, serving: None } => Stand::not_active("Failed", reason, code),
            Update::Failed { reason, code, .. } => Stand::active("Failed", Some((reason.clone(), code.clone()))),
        }
    }

    fn of_published(published: &Published) -> Self {
        if let Some(rest) = &published.record.rest {
            return Stand::at_rest(rest);
        }
        match &published.record.readiness {
            Readiness::Pending => Stand::not_active("Pending", CREATING, "Creating"),
            Readiness::Ready => Stand::active("Successful", None),
            Readiness::Failed { reason, code } => Stand::not_active("Failed", reason, code),
        }
    }
}

fn of_latest(function: &Function) -> View<'_> {
    View {
        function,
        version: Qualifier::LATEST.to_owned(),
        definition: &function.record.intent,
        description: &function.record.intent.description,
        revision_id: &function.record.revision_id,
        last_modified: &function.record.last_modified,
    }
}

fn of_published<'a>(function: &'a Function, number: u64, published: &'a Published) -> View<'a> {
    let record = &published.record;
    View {
        function,
        version: number.to_string(),
        definition: &record.definition,
        description: record.description.as_ref().unwrap_or(&record.definition.description),
        revision_id: &record.revision_id,
        last_modified: &record.last_modified,
    }
}

/// `$LATEST` with its states. The ARN carries the qualifier that was asked for, if any.
pub fn latest(
    runtimes: &dyn RuntimeVersions,
    function: &Function,
    qualifier: Option<&str>,
) -> types::FunctionConfiguration {
    whole(runtimes, &of_latest(function), Stand::of_latest(function), qualifier)
}

/// A published version with its states.
pub fn published(
    runtimes: &dyn RuntimeVersions,
    function: &Function,
    number: u64,
    version: &Published,
    qualifier: Option<&str>,
) -> types::FunctionConfiguration {
    whole(runtimes, &of_published(function, number, version), Stand::of_published(version), qualifier)
}

/// `$LATEST` as lists show it: without states.
pub fn listed_latest(function: &Function, qualified: bool) -> types::FunctionConfiguration {
    listed(&of_latest(function), qualified.then_some(Qualifier::LATEST))
}

/// A published version as lists show it.
pub fn listed_published(function: &Function, number: u64, version: &Published) -> types::FunctionConfiguration {
    listed(&of_published(function, number, version), Some(&number.to_string()))
}

fn whole(
    runtimes: &dyn RuntimeVersions,
    view: &View<'_>,
    stand: Stand,
    qualifier: Option<&str>,
) -> types::FunctionConfiguration {
    let mut answer = listed(view, qualifier);
    answer.state = Some(stand.state.to_owned());
    (answer.state_reason, answer.state_reason_code) = stand.state_reason.unzip();
    answer.last_update_status = stand.last_update.map(str::to_owned);
    (answer.last_update_status_reason, answer.last_update_status_reason_code) = stand.last_update_reason.unzip();
    if let Content::Zip(zip) = &view.definition.content
        && zip.runtime.family() != Family::Provided
    {
        answer.runtime_version_config = Some(types::RuntimeVersionConfig {
            runtime_version_arn: Some(runtime_version_arn(runtimes, &view.function.owner.region, zip)),
            error: None,
        });
    }
    answer
}

fn listed(view: &View<'_>, qualifier: Option<&str>) -> types::FunctionConfiguration {
    let View { function, definition, .. } = view;
    let none = Kept::default();
    let kept = definition.kept.as_deref().unwrap_or(&none);
    let arn = qualifier.map_or_else(|| function.arn(), |qualifier| function.qualified(qualifier));
    let (zip, image) = match &definition.content {
        Content::Zip(zip) => (Some(zip), None),
        Content::Image(image) => (None, Some(image)),
    };
    types::FunctionConfiguration {
        function_name: Some(function.name.to_string()),
        function_arn: Some(arn.to_string()),
        runtime: zip.map(|zip| zip.runtime.to_string()),
        role: Some(definition.role.clone()),
        handler: zip.map(|zip| zip.handler.clone()),
        code_size: i64::try_from(definition.content.code_size()).ok(),
        description: Some(view.description.to_owned()),
        timeout: Some(i64::from(definition.timeout_s)),
        memory_size: Some(i64::from(definition.memory.as_mib())),
        last_modified: Some(view.last_modified.to_owned()),
        code_sha256: Some(sha256(&definition.content)),
        version: Some(view.version.clone()),
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
        revision_id: Some(view.revision_id.to_owned()),
        layers: Some(layers(definition)).filter(|layers| !layers.is_empty()),
        file_system_configs: kept.file_system_configs.clone(),
        package_type: Some(if image.is_some() { "Image" } else { "Zip" }.to_owned()),
        image_config_response: image.and_then(|content| image_config(&content.image_overrides)),
        architectures: Some(vec![definition.architecture.as_str().to_owned()]),
        ephemeral_storage: Some(types::EphemeralStorage {
            size: Some(i64::from(definition.ephemeral_storage.as_mib())),
        }),
        snap_start: Some(types::SnapStartResponse {
            apply_on: kept.snap_start.as_ref().and_then(|snap| snap.apply_on.clone()).or(Some("None".to_owned())),
            optimization_status: Some("Off".to_owned()),
        }),
        logging_config: Some(logging(function, definition)),
        tenancy_config: kept.tenancy_config.clone(),
        ..types::FunctionConfiguration::default()
    }
}

fn layers(definition: &Definition) -> Vec<types::Layer> {
    let layer = |layer: &crate::record::LayerUse| types::Layer {
        arn: Some(layer.arn.clone()),
        code_size: i64::try_from(layer.code_size).ok(),
        ..types::Layer::default()
    };
    definition.content.layers().iter().map(layer).collect()
}

fn logging(function: &Function, definition: &Definition) -> types::LoggingConfig {
    let logging = &definition.logging;
    types::LoggingConfig {
        log_format: Some(if logging.json.is_some() { "JSON" } else { "Text" }.to_owned()),
        application_log_level: logging.json.as_ref().map(|json| json.application_level.clone()),
        system_log_level: logging.json.as_ref().map(|json| json.system_level.clone()),
        log_group: Some(logging.group.clone().unwrap_or_else(|| default_log_group(&function.name))),
    }
}

/// What was replaced of what the image says; absent when nothing was.
fn image_config(overrides: &ImageOverrides) -> Option<types::ImageConfigResponse> {
    let image_config = types::ImageConfig {
        entry_point: overrides.entry_point.clone(),
        command: overrides.command.clone(),
        working_directory: overrides.working_directory.clone(),
    };
    let replaced = *overrides != ImageOverrides::default();
    replaced.then_some(types::ImageConfigResponse { image_config: Some(image_config), error: None })
}

/// Where the code is to be had.
pub fn location(content: &Content, location: impl FnOnce(CodeHash) -> String) -> types::FunctionCodeLocation {
    match content {
        Content::Zip(zip) => types::FunctionCodeLocation {
            repository_type: Some("S3".to_owned()),
            location: Some(location(zip.code)),
            resolved_s3_object: zip.reference.as_ref().map(|reference| reference.shown()),
            source_kms_key_arn: zip.source_kms_key_arn.clone(),
            ..types::FunctionCodeLocation::default()
        },
        Content::Image(content) => types::FunctionCodeLocation {
            // AWS takes images from nowhere else, and clients look for the word.
            repository_type: Some("ECR".to_owned()),
            image_uri: Some(content.image.uri.clone()),
            resolved_image_uri: Some(content.image.resolved_uri()),
            ..types::FunctionCodeLocation::default()
        },
    }
}

/// `CodeSha256`: of a zip in base64, of an image in hexadecimal digits.
pub fn sha256(content: &Content) -> String {
    match content {
        Content::Zip(zip) => sha256_of_zip(zip.code),
        Content::Image(content) => content.image.digest.to_hex(),
    }
}

pub fn sha256_of_zip(code: CodeHash) -> String {
    STANDARD.encode(code.0)
}

/// To its owner: the one place where a value leaves again.
fn reveal(value: &Secret) -> String {
    value.reveal().to_owned()
}
