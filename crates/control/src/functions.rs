//! The handlers of the group `functions`.

use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::FunctionName;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::FunctionsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_conflict_exception as conflict,
};
use hearth_wire_lambda::page::{MOST, Page, bad_marker};
use hearth_wire_lambda::types::*;

use crate::access::{Found, Source, no_function, stored, tell_of_kept};
use crate::control::{Control, revision};
use crate::coverage::COVERAGE;
use crate::parameters::Parameters;
use crate::record::{CODE_SIGNING, Definition, FunctionRecord, Owner, Readiness, RuntimeManagement, Update};
use crate::state::WriteError;
use crate::state::function::{Changes, Function, number};
use crate::{check, names, present, versions};

#[async_trait]
impl FunctionsApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_function(
        &self,
        cx: &Context,
        mut input: CreateFunctionRequest,
    ) -> Result<FunctionConfiguration, Error> {
        let code = input.code.take().unwrap_or_default();
        refuse_creation(&input)?;
        let arn = names::created(cx, input.function_name.as_deref())?;
        let owner = Owner::of(&arn);
        let parameters = Parameters::of_creation(&mut input);
        let layers = parameters.layers().map(|layers| self.layers_in_use(cx, layers)).transpose()?;
        let content = match input.package_type.as_deref() {
            Some("Image") => Parameters::image(),
            _ => parameters.zip()?,
        };
        let mut definition = parameters.define(content, layers)?;
        let tags = input.tags.unwrap_or_default();
        check::tags(&tags)?;
        let exists = || conflict(format!("Function already exist: {}", arn.name));
        if self.inner.state.function(&owner, &arn.name).is_some() {
            return Err(exists());
        }
        self.passes_role(&arn, &definition.role).await?;
        let code_signing = input.code_signing_config_arn.as_deref().map(|arn| self.attachable(cx, arn)).transpose()?;
        let publish = input.publish == Some(true);
        definition.architecture = check::architecture(input.architectures.as_ref()).unwrap_or(definition.architecture);
        let copies = if publish { 2 } else { 1 };
        let mut arrival = self.arrive(&owner, &definition, source_of(code), code_signing.as_deref(), copies).await?;
        definition.generation = self.first_generation();
        arrival.define(&mut definition);
        tell_of_kept(cx, &arn.name, &definition);
        self.within_unzipped(&definition)?;
        let _in_use = self.inner.packages_in_use.read().await;
        arrival.keep().await?;
        let record = FunctionRecord {
            intent: Arc::new(definition),
            update: Update::Creating,
            rest: None,
            revision_id: revision(),
            last_modified: self.now(),
            last_version: 0,
            tags,
            reserved_concurrency: None,
            provisioned: Default::default(),
            recursion_allowed: false,
            runtime_management: RuntimeManagement::Auto,
            code_signing,
        };
        let mut changes = Changes::to(record);
        if publish {
            versions::publish(self.runtimes(), &mut changes, None, Readiness::Pending);
        }
        let _account = match &input.code_signing_config_arn {
            // It is not deleted meanwhile.
            Some(config) => {
                let turn = self.inner.state.turn(&owner, CODE_SIGNING, "").await;
                self.attachable(cx, config)?;
                Some(turn)
            }
            None => None,
        };
        let _turn = self.turn(&arn).await;
        let written = self.inner.state.commit(&owner, &arn.name, None, changes).await;
        let function = written.map_err(|error| match error {
            WriteError::Conflict => exists(),
            other => stored(other, &arn),
        })?;
        let function = function.ok_or_else(|| no_function(&arn))?;
        self.bring_about(&function).await;
        Ok(match function.newest() {
            // Recorded: its version, but an unqualified ARN.
            Some((number, published)) => present::published(self.runtimes(), &function, number, published, None),
            None => present::latest(self.runtimes(), &function, None),
        })
    }

    async fn get_function(&self, cx: &Context, input: GetFunctionRequest) -> Result<GetFunctionResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), input.qualifier.as_deref(), "GetFunction")?;
        let function = self.function(&arn)?;
        let record = &function.record;
        let qualifier = arn.qualifier.as_ref().map(hearth_model::Qualifier::as_str);
        let (configuration, definition) = match function.found(qualifier).ok_or_else(|| no_function(&arn))? {
            Found::Latest => (present::latest(self.runtimes(), &function, qualifier), &record.intent),
            Found::Published(number, version) => {
                (present::published(self.runtimes(), &function, number, version, qualifier), &version.record.definition)
            }
        };
        Ok(GetFunctionResponse {
            configuration: Some(configuration),
            code: Some(present::location(&definition.content, |code| self.location(&cx.origin, code))),
            tags: Some(record.tags.clone()).filter(|tags| !tags.is_empty()),
            concurrency: record
                .reserved_concurrency
                .map(|reserved| Concurrency { reserved_concurrent_executions: Some(i64::from(reserved)) }),
            ..GetFunctionResponse::default()
        })
    }

    async fn get_function_configuration(
        &self,
        cx: &Context,
        input: GetFunctionConfigurationRequest,
    ) -> Result<FunctionConfiguration, Error> {
        let (name, qualifier) = (input.function_name.as_deref(), input.qualifier.as_deref());
        let arn = self.asked(cx, name, qualifier, "GetFunctionConfiguration")?;
        let function = self.function(&arn)?;
        let qualifier = arn.qualifier.as_ref().map(hearth_model::Qualifier::as_str);
        Ok(match function.found(qualifier).ok_or_else(|| no_function(&arn))? {
            Found::Latest => present::latest(self.runtimes(), &function, qualifier),
            Found::Published(number, version) => {
                present::published(self.runtimes(), &function, number, version, qualifier)
            }
        })
    }

    async fn list_functions(&self, cx: &Context, input: ListFunctionsRequest) -> Result<ListFunctionsResponse, Error> {
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        // Replicas of other regions' functions are all that another value can mean, and there are none.
        if input.master_region.as_deref().is_some_and(|region| region != "ALL") {
            return Ok(ListFunctionsResponse { functions: Some(Vec::new()), next_marker: None });
        }
        let after = page.after.as_deref().map(listed_position).transpose()?;
        let from = after.as_ref().map(|(name, _)| name);
        let functions = self.inner.state.list(&names::owner(cx), from, page.size + 2);
        let rows = functions.iter().flat_map(|function| {
            let published = function.versions.iter().filter(|_| input.function_version.is_some());
            let numbered = published.map(|(number, version)| (*number, Some(version)));
            std::iter::once((0, None)).chain(numbered).map(move |(number, version)| (function, number, version))
        });
        let rows = rows.filter(|(function, number, _)| {
            after.as_ref().is_none_or(|(name, last)| function.name != *name || number > last)
        });
        let (rows, next_marker) = page.take(rows, |(function, number, _)| format!("{}/{number}", function.name));
        let functions = rows.into_iter().map(|(function, number, version)| match version {
            None => present::listed_latest(function, input.function_version.is_some()),
            Some(version) => present::listed_published(function, number, version),
        });
        Ok(ListFunctionsResponse { functions: Some(functions.collect()), next_marker })
    }

    async fn update_function_configuration(
        &self,
        cx: &Context,
        mut input: UpdateFunctionConfigurationRequest,
    ) -> Result<FunctionConfiguration, Error> {
        check::refuse(
            "UpdateFunctionConfiguration",
            &[
                (input.capacity_provider_config.is_some(), "CapacityProviderConfig"),
                (input.durable_config.is_some(), "DurableConfig"),
                (input.runtime_config.is_some(), "RuntimeConfig"),
                (input.accelerator_config.is_some(), "AcceleratorConfig"),
            ],
        )?;
        let arn = names::unqualified(cx, input.function_name.as_deref())?;
        let revision_id = input.revision_id.take();
        let parameters = Parameters::of_update(input);
        // Nothing may remove the packages of these layers before the record names them.
        let _in_use = self.inner.packages_in_use.read().await;
        let _turn = self.turn(&arn).await;
        let function = self.to_update(&arn, revision_id.as_deref())?;
        if let Some(role) = parameters.role() {
            self.passes_role(&arn, role).await?;
        }
        let layers = parameters.layers().map(|layers| self.layers_in_use(cx, layers)).transpose()?;
        let definition = parameters.change(&function.record.intent, layers)?;
        self.within_unzipped(&definition)?;
        tell_of_kept(cx, &arn.name, &definition);
        let changes = self.updated(&function, definition);
        let function = self.commit(&function, changes).await?;
        self.bring_about(&function).await;
        Ok(present::latest(self.runtimes(), &function, None))
    }

    async fn delete_function(
        &self,
        cx: &Context,
        input: DeleteFunctionRequest,
    ) -> Result<DeleteFunctionResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), input.qualifier.as_deref(), "DeleteFunction")?;
        let turn = self.turn(&arn).await;
        let function = self.function(&arn.unqualified())?;
        let (changes, codes) = match arn.qualifier.as_ref() {
            None => (Some(function.removal()), crate::state::function::codes(&function).collect()),
            Some(qualifier) if qualifier.is_latest() => {
                return Err(invalid("$LATEST version cannot be deleted without deleting the function."));
            }
            Some(qualifier) => match number(qualifier.as_str()) {
                Some(number) => versions::removal(&function, number)?,
                None => return Err(invalid("Deletion of aliases is not currently supported.")),
            },
        };
        if let Some(mut changes) = changes {
            changes.beside = self.inner.ports.dependents.removal(&arn);
            self.commit(&function, changes).await?;
            self.inner.ports.dependents.removed(&arn);
        }
        drop(turn);
        self.inner.remove_unused_packages(Some(codes)).await;
        Ok(DeleteFunctionResponse { status_code: Some(204) })
    }
}

impl Control {
    /// Larger than any generation of a deleted function of the same name: environments of it may still be there.
    fn first_generation(&self) -> u64 {
        let since = self.inner.ports.clock.wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2)
    }

    /// The changes of an accepted update: what served goes on serving until the new definition is ready.
    pub(crate) fn updated(&self, function: &Function, mut definition: Definition) -> Changes {
        definition.generation = function.record.intent.generation + 1;
        let mut record = (*function.record).clone();
        self.renew_runtime(&mut record, &mut definition);
        record.update = match function.record.serving() {
            Some(serving) => Update::InProgress { serving: serving.clone() },
            None => Update::Creating,
        };
        record.intent = Arc::new(definition);
        record.rest = None;
        record.revision_id = revision();
        record.last_modified = self.now();
        Changes::to(record)
    }
}

fn source_of(code: FunctionCode) -> Source {
    Source {
        zip: code.zip_file,
        bucket: code.s3_bucket,
        key: code.s3_key,
        version: code.s3_object_version,
        mode: code.s3_object_storage_mode,
        image: code.image_uri,
        kms_key: code.source_kms_key_arn,
    }
}

/// Where a page of functions ended: a name, and 0 or the number of a version.
fn listed_position(text: &str) -> Result<(FunctionName, u64), Error> {
    let parts =
        text.split_once('/').and_then(|(name, number)| Some((FunctionName::parse(name)?, number.parse().ok()?)));
    parts.ok_or_else(bad_marker)
}

fn refuse_creation(input: &CreateFunctionRequest) -> Result<(), Error> {
    check::refuse(
        "CreateFunction",
        &[
            (input.publish_to.is_some(), "PublishTo"),
            (input.capacity_provider_config.is_some(), "CapacityProviderConfig"),
            (input.durable_config.is_some(), "DurableConfig"),
            (input.runtime_config.is_some(), "RuntimeConfig"),
            (input.accelerator_config.is_some(), "AcceleratorConfig"),
        ],
    )
}
