//! Named pointers to versions, maybe weighted: the handlers of the group `aliases` (spec 1.7).

use std::ops::Bound;

use async_trait::async_trait;
use hearth_model::{FunctionArn, Qualifier};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::AliasesApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_conflict_exception as conflict,
    resource_not_found_exception as not_found,
};
use hearth_wire_lambda::page::{MANY, Page};
use hearth_wire_lambda::types::*;

use crate::access::same_revision;
use crate::control::{Control, revision};
use crate::coverage::COVERAGE;
use crate::names;
use crate::provisioned::{NO_WEIGHTS, PUBLISHED_ONLY, alias_may_cover};
use crate::record::AliasRecord;
use crate::state::function::{Function, number};

#[async_trait]
impl AliasesApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_alias(&self, cx: &Context, input: CreateAliasRequest) -> Result<AliasConfiguration, Error> {
        let (arn, name) = self.alias(cx, input.function_name.as_deref(), input.name, "CreateAlias")?;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        let version = target(&function, &input.function_version.unwrap_or_default())?;
        let additional = weights(&function, input.routing_config.as_ref())?;
        let record = AliasRecord {
            version,
            additional: additional.flatten(),
            description: input.description.unwrap_or_default(),
            revision_id: revision(),
        };
        compatible(&function, &record)?;
        if function.aliases.contains_key(&name) {
            return Err(conflict(format!("Alias already exists: {}", function.qualified(&name))));
        }
        let answer = presented(&function, &name, &record);
        let mut changes = function.changes();
        changes.aliases.insert(name, Some(record));
        self.commit(&function, changes).await?;
        Ok(answer)
    }

    async fn update_alias(&self, cx: &Context, input: UpdateAliasRequest) -> Result<AliasConfiguration, Error> {
        let (arn, name) = self.alias(cx, input.function_name.as_deref(), input.name, "UpdateAlias")?;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        let missing = || not_found(format!("Alias not found: {}", function.qualified(&name)));
        let mut record = AliasRecord::clone(function.aliases.get(&name).ok_or_else(missing)?);
        same_revision(input.revision_id.as_deref(), &record.revision_id, "GetFunction/GetAlias")?;
        if let Some(version) = &input.function_version {
            record.version = target(&function, version)?;
        }
        if let Some(additional) = weights(&function, input.routing_config.as_ref())? {
            record.additional = additional;
        }
        compatible(&function, &record)?;
        let is_provisioned = function.record.provisioned.contains_key(&name);
        if is_provisioned {
            provisioned(&function, &name, &record)?;
        }
        record.description = input.description.unwrap_or(record.description);
        record.revision_id = revision();
        let answer = presented(&function, &name, &record);
        let mut changes = function.changes();
        changes.aliases.insert(name.clone(), Some(record));
        self.commit(&function, changes).await?;
        if is_provisioned {
            self.inner.wakes.ask(&function.qualified(&name));
        }
        Ok(answer)
    }

    async fn get_alias(&self, cx: &Context, input: GetAliasRequest) -> Result<AliasConfiguration, Error> {
        let (arn, name) = self.alias(cx, input.function_name.as_deref(), input.name, "GetAlias")?;
        let function = self.function(&arn)?;
        let record = function.aliases.get(&name).ok_or_else(|| no_alias(&function.qualified(&name)))?;
        Ok(presented(&function, &name, record))
    }

    async fn list_aliases(&self, cx: &Context, input: ListAliasesRequest) -> Result<ListAliasesResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), None, "ListAliases")?;
        let function = self.function(&names::of_latest(&arn)?)?;
        let page = Page::of(input.marker.as_deref(), input.max_items, MANY)?;
        let from = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = input.function_version.as_deref();
        let aliases = function.aliases.range((from, Bound::Unbounded)).filter(|(_, alias)| {
            wanted.is_none_or(|wanted| match number(wanted) {
                Some(number) => alias.points_at(number),
                None => alias.version.is_none(),
            })
        });
        let (aliases, next_marker) = page.take(aliases, |(name, _)| (*name).clone());
        let aliases = aliases.into_iter().map(|(name, record)| presented(&function, name, record)).collect();
        Ok(ListAliasesResponse { next_marker, aliases: Some(aliases) })
    }

    async fn delete_alias(&self, cx: &Context, input: DeleteAliasRequest) -> Result<Nothing, Error> {
        let (arn, name) = self.alias(cx, input.function_name.as_deref(), input.name, "DeleteAlias")?;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        // Idempotent (recorded).
        if function.aliases.contains_key(&name) {
            let mut changes = function.changes();
            if function.policies.contains_key(&name) {
                changes.policies.insert(name.clone(), None);
            }
            if let Some(root) = &mut changes.root {
                root.provisioned.remove(&name);
            }
            if function.urls.contains_key(&name) {
                changes.urls.insert(name.clone(), None);
            }
            let alias = function.qualified(&name);
            changes.aliases.insert(name, None);
            changes.beside = self.inner.ports.dependents.removal(&alias);
            self.commit(&function, changes).await?;
            self.inner.ports.dependents.removed(&alias);
        }
        Ok(Nothing {})
    }
}

impl Control {
    fn alias(
        &self,
        cx: &Context,
        function: Option<&str>,
        name: Option<String>,
        operation: &str,
    ) -> Result<(FunctionArn, String), Error> {
        let arn = self.asked(cx, function, None, operation)?;
        Ok((names::of_latest(&arn)?, name.unwrap_or_default()))
    }
}

pub fn no_alias(arn: &FunctionArn) -> Error {
    not_found(format!("Cannot find alias arn: {arn}"))
}

/// The version that an alias is to point at; `None` is `$LATEST`.
fn target(function: &Function, version: &str) -> Result<Option<u64>, Error> {
    if version == Qualifier::LATEST {
        return Ok(None);
    }
    let number = number(version).filter(|number| function.versions.contains_key(number));
    number.map(Some).ok_or_else(|| not_found(format!("Function not found: {}", function.qualified(version))))
}

/// What a request says of weights; `None` when nothing, `Some(None)` when it clears them.
fn weights(
    function: &Function,
    routing: Option<&AliasRoutingConfiguration>,
) -> Result<Option<Option<(u64, f64)>>, Error> {
    let Some(routing) = routing else { return Ok(None) };
    let none = Default::default();
    let weights = routing.additional_version_weights.as_ref().unwrap_or(&none);
    if weights.len() > 1 {
        return Err(invalid("Number of items in AdditionalVersionWeights cannot be greater than 1"));
    }
    let Some((version, weight)) = weights.first_key_value() else { return Ok(Some(None)) };
    let number = target(function, version)?.ok_or_else(latest_with_weights)?;
    Ok(Some(Some((number, *weight))))
}

fn latest_with_weights() -> Error {
    invalid("$LATEST is not supported for an alias pointing to more than 1 version")
}

/// What two versions behind one alias must have in common.
fn compatible(function: &Function, alias: &AliasRecord) -> Result<(), Error> {
    let Some((additional, _)) = alias.additional else { return Ok(()) };
    let Some(primary) = alias.version else { return Err(latest_with_weights()) };
    if primary == additional {
        return Err(invalid(format!(
            "Invalid function version {additional}. Function version {additional} is already included in routing \
             configuration."
        )));
    }
    let of = |number: u64| function.versions.get(&number).map(|published| &published.record.definition);
    let (Some(primary), Some(additional)) = (of(primary), of(additional)) else { return Ok(()) };
    if primary.role != additional.role {
        return Err(invalid("Alias with weights can not be used with versions that have different execution roles."));
    }
    if primary.dead_letters() != additional.dead_letters() {
        return Err(invalid(
            "Alias with weights can not be used with versions that have different dead-letter queues.",
        ));
    }
    Ok(())
}

/// Where an alias may lead whose version is kept initialised.
fn provisioned(function: &Function, name: &str, alias: &AliasRecord) -> Result<(), Error> {
    match (alias.additional, alias.version) {
        (Some(_), _) => Err(invalid(NO_WEIGHTS)),
        (None, None) => Err(invalid(PUBLISHED_ONLY)),
        (None, Some(version)) => alias_may_cover(function, name, version),
    }
}

fn presented(function: &Function, name: &str, record: &AliasRecord) -> AliasConfiguration {
    let version = record.version.map_or_else(|| Qualifier::LATEST.to_owned(), |number| number.to_string());
    AliasConfiguration {
        alias_arn: Some(function.qualified(name).to_string()),
        name: Some(name.to_owned()),
        function_version: Some(version),
        description: Some(record.description.clone()),
        routing_config: record.additional.map(|(number, weight)| AliasRoutingConfiguration {
            additional_version_weights: Some([(number.to_string(), weight)].into()),
        }),
        revision_id: Some(record.revision_id.clone()),
    }
}
