//! The handlers of the groups `functions`, `code` and `account`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use hearth_model::{
    AccountId, AdmitError, Admitted, Architecture, FunctionArn, FunctionName, FunctionRef, Memory, RefError, Region,
    Secret,
};
use hearth_wire::{Blob, Context, Coverage, Error, MessageKey, Parameter, ParameterStatus};
use hearth_wire_lambda::errors::{
    code_storage_exceeded_exception, invalid_parameter_value_exception as invalid, precondition_failed_exception,
    resource_conflict_exception, resource_not_found_exception, service_exception,
};
use hearth_wire_lambda::types::{self, *};
use hearth_wire_lambda::{AccountApi, CodeApi, FunctionsApi};

use crate::check;
use crate::control::{Control, Entry, WriteError};
use crate::present;
use crate::record::{Definition, FunctionRecord, Kept, Owner, Update};

const DEFAULT_TIMEOUT_S: u32 = 3;
const DEFAULT_MEMORY: Memory = Memory::mib(128);
const DEFAULT_EPHEMERAL_STORAGE: Memory = Memory::mib(512);
const PAGE_MAX: usize = 50;

const fn kept(name: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Kept, note: "stored and answered, without effect" }
}

const fn refused(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Refused, note }
}

/// The operations of this crate, for all three groups.
pub const COVERAGE: &[Coverage] = &[
    Coverage {
        operation: "CreateFunction",
        parameters: &[
            kept("VpcConfig"),
            kept("DeadLetterConfig"),
            kept("KMSKeyArn"),
            kept("TracingConfig"),
            kept("FileSystemConfigs"),
            kept("SnapStart"),
            kept("TenancyConfig"),
            refused("Code.S3Bucket", "give Code.ZipFile"),
            refused("Code.ImageUri", ""),
            refused("PackageType", "Zip works"),
            refused("Publish", "false works"),
            refused("PublishTo", ""),
            refused("Layers", ""),
            refused("CodeSigningConfigArn", ""),
            refused("ImageConfig", ""),
            refused("LoggingConfig.LogFormat", "Text works"),
            refused("CapacityProviderConfig", ""),
            refused("DurableConfig", ""),
            refused("RuntimeConfig", ""),
            refused("AcceleratorConfig", ""),
        ],
    },
    Coverage { operation: "GetFunction", parameters: &[] },
    Coverage { operation: "GetFunctionConfiguration", parameters: &[] },
    Coverage { operation: "ListFunctions", parameters: &[] },
    Coverage {
        operation: "UpdateFunctionConfiguration",
        parameters: &[
            kept("VpcConfig"),
            kept("DeadLetterConfig"),
            kept("KMSKeyArn"),
            kept("TracingConfig"),
            kept("FileSystemConfigs"),
            kept("SnapStart"),
            refused("Layers", ""),
            refused("ImageConfig", ""),
            refused("LoggingConfig.LogFormat", "Text works"),
            refused("CapacityProviderConfig", ""),
            refused("DurableConfig", ""),
            refused("RuntimeConfig", ""),
            refused("AcceleratorConfig", ""),
        ],
    },
    Coverage { operation: "DeleteFunction", parameters: &[] },
    Coverage {
        operation: "UpdateFunctionCode",
        parameters: &[
            refused("S3Bucket", "give ZipFile"),
            refused("ImageUri", ""),
            refused("Publish", "false works"),
            refused("PublishTo", ""),
            refused("SourceKMSKeyArn", ""),
        ],
    },
    Coverage { operation: "GetAccountSettings", parameters: &[] },
];

fn owner(cx: &Context) -> Owner {
    Owner {
        account: AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account),
        region: Region::parse(&cx.region).unwrap_or_else(Region::default_region),
    }
}

/// The function that a caller means.
fn resolve(cx: &Context, name: Option<&str>, qualifier: Option<&str>) -> Result<FunctionArn, Error> {
    let owner = owner(cx);
    let reference = FunctionRef::parse(name.unwrap_or_default());
    let resolved = reference.and_then(|reference| reference.resolve(&owner.account, &owner.region, qualifier));
    resolved.map_err(|error| match error {
        RefError::OtherRegion { .. } => resource_not_found_exception(error.to_string()),
        RefError::OtherAccount => Error { message: None, ..Error::new(403, "AccessDeniedException", "") },
        RefError::NameTooLong { arn } => resource_not_found_exception(format!("Function not found: {arn}")),
        RefError::QualifierMismatch | RefError::Malformed => invalid(error.to_string()),
    })
}

fn stored(error: WriteError, arn: &FunctionArn) -> Error {
    match error {
        WriteError::Conflict => in_progress(arn),
        WriteError::Store(error) => {
            tracing::error!(%error, "a record could not be written");
            service_exception("The function could not be stored; Hearth's log says more.")
        }
    }
}

fn in_progress(arn: &FunctionArn) -> Error {
    resource_conflict_exception(format!(
        "The operation cannot be performed at this time. An update is in progress for resource: {}",
        arn.unqualified()
    ))
}

/// `2026-01-31T12:34:56.789+0000`.
fn now(control: &Control) -> String {
    match jiff::Timestamp::try_from(control.inner.ports.clock.wall()) {
        Ok(now) => format!("{now:.3}").replace('Z', "+0000"),
        Err(_) => String::new(),
    }
}

fn revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Control {
    /// The entry, for reading. A version that was not published does not exist.
    fn entry(&self, arn: &FunctionArn) -> Result<std::sync::Arc<Entry>, Error> {
        let owner = Owner { account: arn.account.clone(), region: arn.region.clone() };
        let known = arn.qualifier.as_ref().is_none_or(|qualifier| qualifier.is_latest());
        let entry = if known { self.inner.get(&owner, &arn.name) } else { None };
        entry.ok_or_else(|| resource_not_found_exception(format!("Function not found: {arn}")))
    }

    /// The entry, for an update.
    fn to_update(&self, arn: &FunctionArn, revision: Option<&str>) -> Result<std::sync::Arc<Entry>, Error> {
        let entry = self.entry(&arn.unqualified())?;
        if revision.is_some_and(|revision| revision != entry.record.revision_id) {
            return Err(precondition_failed_exception(
                "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to \
                 retrieve the latest Revision Id",
            ));
        }
        match (&entry.record.update, &entry.record.serving) {
            (Update::InProgress, None) => Err(resource_conflict_exception(
                "The operation cannot be performed at this time. The function is currently in the following state: Pending",
            )),
            (Update::InProgress, Some(_)) => Err(in_progress(arn)),
            _ => Ok(entry),
        }
    }

    fn admissible(&self, zip: Option<Blob>) -> Result<Bytes, Error> {
        let zip = zip.map(|zip| zip.0).unwrap_or_default();
        if zip.is_empty() {
            return Err(invalid("Uploaded file must be a non-empty zip"));
        }
        let max = self.inner.config.quotas.code_size_zipped;
        if zip.len() as u64 > max {
            let message = format!("Zipped size must be smaller than {max} bytes");
            return Err(Error { key: MessageKey::Upper, ..Error::new(413, "RequestEntityTooLargeException", message) });
        }
        Ok(zip)
    }

    fn within_storage(&self, owner: &Owner, more: u64) -> Result<(), Error> {
        let used: u64 =
            self.inner.list(owner, None, usize::MAX).iter().map(|entry| entry.record.intent.code_size).sum();
        if used + more > self.inner.config.quotas.code_storage {
            return Err(code_storage_exceeded_exception("Code storage limit exceeded."));
        }
        Ok(())
    }

    async fn update(
        &self,
        arn: &FunctionArn,
        entry: &Entry,
        record: FunctionRecord,
    ) -> Result<FunctionConfiguration, Error> {
        let entry = self.inner.put(record, Some(entry.change)).await.map_err(|e| stored(e, arn))?;
        self.inner.wake(&entry).await;
        Ok(present::configuration(&entry.record, false))
    }
}

fn admit_error(error: AdmitError) -> Error {
    match error {
        AdmitError::NotAZip(reason) => {
            tracing::info!(%reason, "an uploaded package was refused");
            invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")
        }
        AdmitError::TooLarge { limit } => invalid(format!("Unzipped size must be smaller than {limit} bytes")),
        AdmitError::Io(cause) => {
            tracing::error!(%cause, "a package could not be kept");
            service_exception("The package could not be stored; Hearth's log says more.")
        }
    }
}

fn secrets(environment: Option<types::Environment>) -> Result<Option<BTreeMap<String, Secret>>, Error> {
    let Some(variables) = environment.map(|environment| environment.variables.unwrap_or_default()) else {
        return Ok(None);
    };
    check::environment(&variables)?;
    Ok(Some(variables.into_iter().map(|(key, value)| (key, Secret::new(value))).collect()))
}

/// Members that have no effect are named in the log, once a request.
fn warn_of_kept(name: &FunctionName, kept: &Kept) {
    let given = [
        (kept.vpc_config.is_some(), "VpcConfig"),
        (kept.dead_letter_config.is_some(), "DeadLetterConfig"),
        (kept.kms_key_arn.is_some(), "KMSKeyArn"),
        (kept.tracing_config.is_some(), "TracingConfig"),
        (kept.file_system_configs.is_some(), "FileSystemConfigs"),
        (kept.snap_start.is_some(), "SnapStart"),
        (kept.tenancy_config.is_some(), "TenancyConfig"),
    ];
    let names: Vec<&str> = given.iter().filter(|(given, _)| *given).map(|(_, name)| *name).collect();
    if !names.is_empty() {
        tracing::warn!(function = %name, members = names.join(","), "members are kept without effect");
    }
}

fn refuse_creation(input: &CreateFunctionRequest, code: &FunctionCode) -> Result<(), Error> {
    check::refuse(
        "CreateFunction",
        &[
            (input.package_type.as_deref() == Some("Image") || code.image_uri.is_some(), "PackageType Image"),
            (code.s3_bucket.is_some() || code.s3_key.is_some(), "Code.S3Bucket"),
            (input.publish == Some(true), "Publish"),
            (input.publish_to.is_some(), "PublishTo"),
            (input.layers.as_ref().is_some_and(|layers| !layers.is_empty()), "Layers"),
            (input.code_signing_config_arn.is_some(), "CodeSigningConfigArn"),
            (input.image_config.is_some(), "ImageConfig"),
            (input.capacity_provider_config.is_some(), "CapacityProviderConfig"),
            (input.durable_config.is_some(), "DurableConfig"),
            (input.runtime_config.is_some(), "RuntimeConfig"),
            (input.accelerator_config.is_some(), "AcceleratorConfig"),
        ],
    )
}

#[async_trait]
impl FunctionsApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_function(
        &self,
        cx: &Context,
        input: CreateFunctionRequest,
    ) -> Result<FunctionConfiguration, Error> {
        let code = input.code.clone().unwrap_or_default();
        refuse_creation(&input, &code)?;
        let arn = resolve(cx, input.function_name.as_deref(), None).map_err(|error| too_long(error, &input))?;
        let (Some(runtime), Some(handler)) = (input.runtime.as_deref(), input.handler.clone()) else {
            return Err(invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            ));
        };
        let runtime = check::runtime(runtime)?;
        let owner = owner(cx);
        let environment = secrets(input.environment)?;
        let log_group = check::log_group("CreateFunction", input.logging_config.as_ref())?;
        let timeout_s = input.timeout.map(check::timeout).transpose()?.unwrap_or(DEFAULT_TIMEOUT_S);
        let memory = input.memory_size.map(check::memory).transpose()?.unwrap_or(DEFAULT_MEMORY);
        let ephemeral_storage = check::ephemeral_storage(input.ephemeral_storage.as_ref())?;
        if self.inner.get(&owner, &arn.name).is_some() {
            return Err(resource_conflict_exception(format!("Function already exist: {}", arn.name)));
        }
        let zip = self.admissible(code.zip_file)?;
        self.within_storage(&owner, zip.len() as u64)?;
        let kept = Kept {
            vpc_config: input.vpc_config,
            dead_letter_config: input.dead_letter_config,
            kms_key_arn: input.kms_key_arn,
            tracing_config: input.tracing_config,
            file_system_configs: input.file_system_configs,
            snap_start: input.snap_start,
            tenancy_config: input.tenancy_config,
        };
        warn_of_kept(&arn.name, &kept);
        let _in_use = self.inner.packages_in_use.read().await;
        let Admitted { code, zipped, .. } = self.inner.ports.packages.admit(zip).await.map_err(admit_error)?;
        let record = FunctionRecord {
            owner,
            name: arn.name.clone(),
            intent: Definition {
                generation: self.first_generation(),
                runtime,
                handler,
                role: input.role.unwrap_or_default(),
                timeout_s,
                memory,
                ephemeral_storage: ephemeral_storage.unwrap_or(DEFAULT_EPHEMERAL_STORAGE),
                architecture: check::architecture(input.architectures.as_ref()).unwrap_or(Architecture::X86_64),
                environment,
                log_group,
                code,
                code_size: zipped,
            },
            serving: None,
            update: Update::InProgress,
            description: input.description.unwrap_or_default(),
            tags: input.tags.unwrap_or_default(),
            revision_id: revision(),
            last_modified: now(self),
            kept,
        };
        let entry = self.inner.put(record, None).await.map_err(|error| match error {
            WriteError::Conflict => resource_conflict_exception(format!("Function already exist: {}", arn.name)),
            other => stored(other, &arn),
        })?;
        self.inner.wake(&entry).await;
        Ok(present::configuration(&entry.record, false))
    }

    async fn get_function(&self, cx: &Context, input: GetFunctionRequest) -> Result<GetFunctionResponse, Error> {
        let arn = resolve(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let entry = self.entry(&arn)?;
        let record = &entry.record;
        let token = self.inner.signer.token(record.intent.code, self.inner.ports.clock.wall());
        Ok(GetFunctionResponse {
            configuration: Some(present::configuration(record, arn.qualifier.is_some())),
            code: Some(FunctionCodeLocation {
                repository_type: Some("S3".to_owned()),
                location: Some(format!("http://{}/_hearth/v1/code/{token}", cx.host)),
                ..FunctionCodeLocation::default()
            }),
            tags: Some(record.tags.clone()).filter(|tags| !tags.is_empty()),
            ..GetFunctionResponse::default()
        })
    }

    async fn get_function_configuration(
        &self,
        cx: &Context,
        input: GetFunctionConfigurationRequest,
    ) -> Result<FunctionConfiguration, Error> {
        let arn = resolve(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        Ok(present::configuration(&self.entry(&arn)?.record, arn.qualifier.is_some()))
    }

    async fn list_functions(&self, cx: &Context, input: ListFunctionsRequest) -> Result<ListFunctionsResponse, Error> {
        let all_versions = input.function_version.is_some();
        let size =
            input.max_items.and_then(|max| usize::try_from(max).ok()).map_or(PAGE_MAX, |max| max.clamp(1, PAGE_MAX));
        let found = self.inner.list(&owner(cx), input.marker.as_deref(), size + 1);
        let next_marker = found.get(size).and_then(|_| found.get(size - 1)).map(|last| last.record.name.to_string());
        let functions = found.iter().take(size).map(|entry| {
            let mut listed = present::listed(&entry.record);
            if all_versions {
                listed.function_arn = listed.function_arn.map(|arn| format!("{arn}:$LATEST"));
            }
            listed
        });
        Ok(ListFunctionsResponse { functions: Some(functions.collect()), next_marker })
    }

    async fn update_function_configuration(
        &self,
        cx: &Context,
        input: UpdateFunctionConfigurationRequest,
    ) -> Result<FunctionConfiguration, Error> {
        check::refuse(
            "UpdateFunctionConfiguration",
            &[
                (input.layers.as_ref().is_some_and(|layers| !layers.is_empty()), "Layers"),
                (input.image_config.is_some(), "ImageConfig"),
                (input.capacity_provider_config.is_some(), "CapacityProviderConfig"),
                (input.durable_config.is_some(), "DurableConfig"),
                (input.runtime_config.is_some(), "RuntimeConfig"),
                (input.accelerator_config.is_some(), "AcceleratorConfig"),
            ],
        )?;
        let arn = resolve(cx, input.function_name.as_deref(), None)?;
        let entry = self.to_update(&arn, input.revision_id.as_deref())?;
        let mut record = entry.record.clone();
        let intent = &mut record.intent;
        if let Some(runtime) = &input.runtime {
            intent.runtime = check::runtime(runtime)?;
        }
        if let Some(timeout) = input.timeout {
            intent.timeout_s = check::timeout(timeout)?;
        }
        if let Some(memory) = input.memory_size {
            intent.memory = check::memory(memory)?;
        }
        if let Some(size) = check::ephemeral_storage(input.ephemeral_storage.as_ref())? {
            intent.ephemeral_storage = size;
        }
        if let Some(environment) = secrets(input.environment)? {
            intent.environment = Some(environment);
        }
        if input.logging_config.is_some() {
            let log_group = check::log_group("UpdateFunctionConfiguration", input.logging_config.as_ref())?;
            intent.log_group = log_group.or(intent.log_group.take());
        }
        intent.handler = input.handler.unwrap_or_else(|| intent.handler.clone());
        intent.role = input.role.unwrap_or_else(|| intent.role.clone());
        intent.generation += 1;
        record.description = input.description.unwrap_or(record.description);
        let given = Kept {
            vpc_config: input.vpc_config,
            dead_letter_config: input.dead_letter_config,
            kms_key_arn: input.kms_key_arn,
            tracing_config: input.tracing_config,
            file_system_configs: input.file_system_configs,
            snap_start: input.snap_start,
            tenancy_config: None,
        };
        warn_of_kept(&arn.name, &given);
        record.kept = merged(record.kept, given);
        record.update = Update::InProgress;
        record.revision_id = revision();
        record.last_modified = now(self);
        self.update(&arn, &entry, record).await
    }

    async fn delete_function(
        &self,
        cx: &Context,
        input: DeleteFunctionRequest,
    ) -> Result<DeleteFunctionResponse, Error> {
        let arn = resolve(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let entry = self.entry(&arn.unqualified())?;
        let deleted = DeleteFunctionResponse { status_code: Some(204) };
        match arn.qualifier.as_ref() {
            None => {}
            Some(qualifier) if qualifier.is_latest() => {
                return Err(invalid("$LATEST version cannot be deleted without deleting the function."));
            }
            // No version was ever published: its deletion is idempotent.
            Some(qualifier) if qualifier.as_str().bytes().all(|byte| byte.is_ascii_digit()) => return Ok(deleted),
            Some(_) => return Err(invalid("Deletion of aliases is not currently supported.")),
        }
        self.inner.delete(&entry).await.map_err(|e| stored(e, &arn))?;
        for code in entry.record.codes() {
            self.inner.remove_unused_packages(Some(code)).await;
        }
        Ok(deleted)
    }
}

impl Control {
    /// Larger than any generation of a deleted function of the same name: environments of it may still be there.
    fn first_generation(&self) -> u64 {
        let since = self.inner.ports.clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2)
    }
}

/// On creation a long name is an error of its own (recorded).
fn too_long(error: Error, input: &CreateFunctionRequest) -> Error {
    let name = input.function_name.as_deref().unwrap_or_default();
    if name.len() <= FunctionName::MAX || name.contains(':') {
        return error;
    }
    invalid(format!(
        "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: Member must have length \
         less than or equal to {}",
        FunctionName::MAX
    ))
}

fn merged(old: Kept, new: Kept) -> Kept {
    Kept {
        vpc_config: new.vpc_config.or(old.vpc_config),
        // An empty target clears it.
        dead_letter_config: new
            .dead_letter_config
            .or(old.dead_letter_config)
            .filter(|dead| dead.target_arn.as_deref().is_some_and(|target| !target.is_empty())),
        kms_key_arn: new.kms_key_arn.or(old.kms_key_arn).filter(|key| !key.is_empty()),
        tracing_config: new.tracing_config.or(old.tracing_config),
        file_system_configs: new.file_system_configs.or(old.file_system_configs),
        snap_start: new.snap_start.or(old.snap_start),
        tenancy_config: old.tenancy_config,
    }
}

#[async_trait]
impl CodeApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn update_function_code(
        &self,
        cx: &Context,
        input: UpdateFunctionCodeRequest,
    ) -> Result<FunctionConfiguration, Error> {
        if input.image_uri.is_some() {
            return Err(invalid("Please don't provide ImageUri when updating a function with packageType Zip."));
        }
        check::refuse(
            "UpdateFunctionCode",
            &[
                (input.s3_bucket.is_some() || input.s3_key.is_some(), "S3Bucket"),
                (input.publish == Some(true), "Publish"),
                (input.publish_to.is_some(), "PublishTo"),
                (input.source_kms_key_arn.is_some(), "SourceKMSKeyArn"),
            ],
        )?;
        let arn = resolve(cx, input.function_name.as_deref(), None)?;
        let entry = self.to_update(&arn, input.revision_id.as_deref())?;
        let zip = self.admissible(input.zip_file)?;
        let dry_run = input.dry_run == Some(true);
        let _in_use = self.inner.packages_in_use.read().await;
        let packages = &self.inner.ports.packages;
        let admitted = if dry_run { packages.check(zip).await } else { packages.admit(zip).await };
        let admitted = admitted.map_err(admit_error)?;
        let mut record = entry.record.clone();
        record.intent.code = admitted.code;
        record.intent.code_size = admitted.zipped;
        if let Some(architecture) = check::architecture(input.architectures.as_ref()) {
            record.intent.architecture = architecture;
        }
        if dry_run {
            return Ok(present::configuration(&record, false));
        }
        self.within_storage(&record.owner, admitted.zipped)?;
        record.intent.generation += 1;
        record.update = Update::InProgress;
        record.revision_id = revision();
        record.last_modified = now(self);
        self.update(&arn, &entry, record).await
    }
}

#[async_trait]
impl AccountApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn get_account_settings(
        &self,
        cx: &Context,
        _: GetAccountSettingsRequest,
    ) -> Result<GetAccountSettingsResponse, Error> {
        let quotas = &self.inner.config.quotas;
        let functions = self.inner.list(&owner(cx), None, usize::MAX);
        let whole = |number: u64| i64::try_from(number).ok();
        Ok(GetAccountSettingsResponse {
            account_limit: Some(AccountLimit {
                total_code_size: whole(quotas.code_storage),
                code_size_unzipped: whole(quotas.code_size_unzipped),
                code_size_zipped: whole(quotas.code_size_zipped),
                concurrent_executions: Some(i64::from(quotas.concurrent_executions)),
                unreserved_concurrent_executions: Some(i64::from(quotas.concurrent_executions)),
            }),
            account_usage: Some(AccountUsage {
                total_code_size: whole(functions.iter().map(|entry| entry.record.intent.code_size).sum()),
                function_count: whole(functions.len() as u64),
            }),
        })
    }
}
