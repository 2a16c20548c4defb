//! Environments that are kept initialised: the handlers of the group `provisioned concurrency` (spec 8.4). What is
//! written here is intent; placement brings it about, and says how far.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::{FunctionArn, Provision, Provisioned, Qualifier};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::ProvisionedConcurrencyApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, provisioned_concurrency_config_not_found_exception as none_found,
    resource_conflict_exception as conflict,
};
use hearth_wire_lambda::page::{MOST, Page};
use hearth_wire_lambda::types::*;

use crate::access::no_function;
use crate::aliases::no_alias;
use crate::concurrency::UNRESERVED_MIN;
use crate::control::{Control, revision};
use crate::coverage::COVERAGE;
use crate::idle::IDLE_CODE;
use crate::names;
use crate::record::{FUNCTION, FunctionRecord, Owner, ProvisionedRecord, Rest};
use crate::state::function::{Function, number};

/// Of an alias that is provisioned, or is to be.
pub(crate) const NO_WEIGHTS: &str = "Alias with weights can not be used with Provisioned Concurrency";
pub(crate) const PUBLISHED_ONLY: &str =
    "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
const VERSION_IS_PROVISIONED: &str =
    "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";

#[async_trait]
impl ProvisionedConcurrencyApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn put_provisioned_concurrency_config(
        &self,
        cx: &Context,
        input: PutProvisionedConcurrencyConfigRequest,
    ) -> Result<PutProvisionedConcurrencyConfigResponse, Error> {
        let (name, qualifier) = (input.function_name.as_deref(), input.qualifier.as_deref());
        let (arn, qualifier) = self.provisionable(cx, name, qualifier, "Put", PUBLISHED_ONLY)?;
        let requested = input.provisioned_concurrent_executions.unwrap_or(0);
        let requested = u32::try_from(requested).unwrap_or(u32::MAX);
        // The sum over the account is decided on: one after another.
        let _account = self.inner.state.turn(&Owner::of(&arn), FUNCTION, "").await;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        coverable(&function, &qualifier)?;
        self.affordable(&function, &qualifier, requested)?;
        let last_modified = whole_seconds(&self.now());
        let record = ProvisionedRecord { requested, last_modified, decision: revision() };
        let mut changes = function.changes();
        if let Some(root) = &mut changes.root {
            root.provisioned.insert(qualifier.clone(), record.clone());
        }
        self.commit(&function, changes).await?;
        self.inner.wakes.ask(&function.qualified(&qualifier));
        self.provisions_changed();
        Ok(PutProvisionedConcurrencyConfigResponse {
            requested_provisioned_concurrent_executions: Some(i64::from(requested)),
            allocated_provisioned_concurrent_executions: Some(0),
            available_provisioned_concurrent_executions: Some(0),
            status: Some("IN_PROGRESS".to_owned()),
            status_reason: None,
            last_modified: Some(record.last_modified),
        })
    }

    async fn get_provisioned_concurrency_config(
        &self,
        cx: &Context,
        input: GetProvisionedConcurrencyConfigRequest,
    ) -> Result<GetProvisionedConcurrencyConfigResponse, Error> {
        let (name, qualifier) = (input.function_name.as_deref(), input.qualifier.as_deref());
        let (arn, qualifier) = self.provisionable(cx, name, qualifier, "Get", NOT_PUBLISHED)?;
        let function = self.function(&arn)?;
        covered(&function, &qualifier)?;
        let missing = || none_found("No Provisioned Concurrency Config found for this function");
        let record = function.record.provisioned.get(&qualifier).ok_or_else(missing)?;
        let item = self.item(&function, &qualifier, record);
        Ok(GetProvisionedConcurrencyConfigResponse {
            requested_provisioned_concurrent_executions: item.requested_provisioned_concurrent_executions,
            available_provisioned_concurrent_executions: item.available_provisioned_concurrent_executions,
            allocated_provisioned_concurrent_executions: item.allocated_provisioned_concurrent_executions,
            status: item.status,
            status_reason: item.status_reason,
            last_modified: item.last_modified,
        })
    }

    async fn list_provisioned_concurrency_configs(
        &self,
        cx: &Context,
        input: ListProvisionedConcurrencyConfigsRequest,
    ) -> Result<ListProvisionedConcurrencyConfigsResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), None, "ListProvisionedConcurrencyConfigs")?;
        let function = self.function(&names::of_latest(&arn)?)?;
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        let from = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let records = function.record.provisioned.range((from, Bound::Unbounded));
        let (records, next_marker) = page.take(records, |(qualifier, _)| (*qualifier).clone());
        let items = records.into_iter().map(|(qualifier, record)| self.item(&function, qualifier, record));
        Ok(ListProvisionedConcurrencyConfigsResponse {
            provisioned_concurrency_configs: Some(items.collect()),
            next_marker,
        })
    }

    async fn delete_provisioned_concurrency_config(
        &self,
        cx: &Context,
        input: DeleteProvisionedConcurrencyConfigRequest,
    ) -> Result<Nothing, Error> {
        let (name, qualifier) = (input.function_name.as_deref(), input.qualifier.as_deref());
        let (arn, qualifier) = self.provisionable(cx, name, qualifier, "Delete", NOT_PUBLISHED)?;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        covered(&function, &qualifier)?;
        // Idempotent (recorded).
        if function.record.provisioned.contains_key(&qualifier) {
            let mut changes = function.changes();
            if let Some(root) = &mut changes.root {
                root.provisioned.remove(&qualifier);
            }
            self.commit(&function, changes).await?;
            self.provisions_changed();
        }
        Ok(Nothing {})
    }
}

const NOT_PUBLISHED: &str = "The function resource provided must be an alias or a published version.";

impl Control {
    /// The function, unqualified, and the version or alias of it that is meant; `unpublished` is said of `$LATEST`.
    fn provisionable(
        &self,
        cx: &Context,
        name: Option<&str>,
        qualifier: Option<&str>,
        verb: &str,
        unpublished: &str,
    ) -> Result<(FunctionArn, String), Error> {
        let arn = self.asked(cx, name, qualifier, &format!("{verb}ProvisionedConcurrencyConfig"))?;
        match &arn.qualifier {
            Some(qualifier) if !qualifier.is_latest() => Ok((arn.unqualified(), qualifier.as_str().to_owned())),
            _ => Err(invalid(unpublished)),
        }
    }

    /// Whether the account, and the function's reservation, have so much left.
    fn affordable(&self, function: &Function, qualifier: &str, requested: u32) -> Result<(), Error> {
        let record = &function.record;
        let old = record.provisioned.get(qualifier).map_or(0, |record| record.requested);
        let total = (record.total_provisioned() - old).saturating_add(requested);
        if let Some(reserved) = record.reserved_concurrency {
            if total > reserved {
                return Err(invalid(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for \
                     function",
                ));
            }
            return Ok(());
        }
        let others = function.totals.reserved() - record.set_aside();
        let left = self.inner.config.quotas.concurrent_executions.saturating_sub(others);
        if total > left {
            return Err(invalid(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}]."
            )));
        }
        if total > record.set_aside() && left - total < UNRESERVED_MIN {
            return Err(invalid(format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
                 minimum value of [{UNRESERVED_MIN}]."
            )));
        }
        Ok(())
    }

    fn item(
        &self,
        function: &Function,
        qualifier: &str,
        record: &ProvisionedRecord,
    ) -> ProvisionedConcurrencyConfigListItem {
        let version = function.provision(qualifier, record);
        let Provisioned { ready, failure } = version.map(|version| self.observed(&version)).unwrap_or_default();
        let asleep = match function.rest_of(qualifier) {
            Some(Rest::Inactive { reason, code }) if code != IDLE_CODE => Some(reason.clone()),
            _ => None,
        };
        let failure = failure.or(asleep);
        let there = i64::from(ready.min(record.requested));
        let status = match (ready >= record.requested, &failure) {
            (true, _) => "READY",
            (false, Some(_)) => "FAILED",
            (false, None) => "IN_PROGRESS",
        };
        ProvisionedConcurrencyConfigListItem {
            function_arn: Some(function.qualified(qualifier).to_string()),
            requested_provisioned_concurrent_executions: Some(i64::from(record.requested)),
            available_provisioned_concurrent_executions: Some(there),
            allocated_provisioned_concurrent_executions: Some(there),
            status: Some(status.to_owned()),
            status_reason: failure.filter(|_| status == "FAILED"),
            last_modified: Some(record.last_modified.clone()),
        }
    }

    fn observed(&self, provision: &Provision) -> Provisioned {
        let placement = self.inner.provisioning.get();
        placement.map(|placement| placement.observe(&provision.function.key)).unwrap_or_default()
    }

    fn provisions_changed(&self) {
        if let Some(placement) = self.inner.provisioning.get() {
            placement.changed();
        }
    }
}

impl FunctionRecord {
    pub fn total_provisioned(&self) -> u32 {
        self.provisioned.values().map(|record| record.requested).sum()
    }

    /// What the account sets aside for the function.
    pub fn set_aside(&self) -> u32 {
        self.reserved_concurrency.unwrap_or_else(|| self.total_provisioned())
    }
}

impl Function {
    /// What placement is to keep, as soon as the version is ready.
    pub fn provision(&self, qualifier: &str, record: &ProvisionedRecord) -> Option<Provision> {
        let function = self.known(Some(&Qualifier::new(qualifier))).ok()?;
        let is_awake = self.rest_of(qualifier).is_none();
        Some(Provision { function, count: record.requested, is_awake, decision: record.decision.clone() })
    }

    fn rest_of(&self, qualifier: &str) -> Option<&Rest> {
        let (place, _) = self.meant(Some(qualifier))?;
        self.resting(place).map(|(_, rest, _)| rest)
    }
}

/// Whether the version or alias is there.
fn covered(function: &Function, qualifier: &str) -> Result<(), Error> {
    let arn = function.qualified(qualifier);
    match number(qualifier) {
        Some(number) if function.versions.contains_key(&number) => Ok(()),
        Some(_) => Err(no_function(&arn)),
        None if function.aliases.contains_key(qualifier) => Ok(()),
        None => Err(no_alias(&arn)),
    }
}

/// Whether it can be provisioned: it means one published version, which nothing else provisions.
fn coverable(function: &Function, qualifier: &str) -> Result<(), Error> {
    covered(function, qualifier)?;
    if function.record.intent.is_per_tenant() {
        return Err(invalid("Provisioned Concurrency is not supported for functions with tenancy configuration."));
    }
    let provisioned = &function.record.provisioned;
    match (number(qualifier), function.aliases.get(qualifier)) {
        (Some(number), _) => {
            let by_alias = |(name, alias): (&String, &Arc<crate::record::AliasRecord>)| {
                alias.points_at(number) && provisioned.contains_key(name)
            };
            if function.aliases.iter().any(by_alias) {
                return Err(conflict("Version is pointed by a Provisioned Concurrency alias"));
            }
        }
        (None, Some(alias)) => {
            if alias.additional.is_some() {
                return Err(invalid(NO_WEIGHTS));
            }
            let Some(version) = alias.version else { return Err(invalid(PUBLISHED_ONLY)) };
            alias_may_cover(function, qualifier, version)?;
        }
        (None, None) => {}
    }
    Ok(())
}

/// Whether a version is free to be provisioned by this alias.
pub(crate) fn alias_may_cover(function: &Function, alias: &str, version: u64) -> Result<(), Error> {
    let provisioned = &function.record.provisioned;
    let is_taken = provisioned.keys().any(|other| {
        other != alias
            && match number(other) {
                Some(number) => number == version,
                None => function.aliases.get(other).is_some_and(|alias| alias.version == Some(version)),
            }
    });
    if is_taken { Err(conflict(VERSION_IS_PROVISIONED)) } else { Ok(()) }
}

/// `2026-01-31T12:34:56+0000` of a time with milliseconds.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}+0000"),
        None => time.to_owned(),
    }
}
