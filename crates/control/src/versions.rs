//! Publications: the handlers of the group `versions` (spec 1.6).

use async_trait::async_trait;
use hearth_model::{CodeHash, RuntimeVersions};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::VersionsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_conflict_exception as conflict,
};
use hearth_wire_lambda::page::{MOST, Page, bad_marker};
use hearth_wire_lambda::types::*;

use crate::access::settled;
use crate::control::{Control, revision};
use crate::coverage::COVERAGE;
use crate::record::{Readiness, Update, VersionRecord};
use crate::state::function::{Changes, Function};
use crate::{check, names, present};

#[async_trait]
impl VersionsApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn publish_version(
        &self,
        cx: &Context,
        input: PublishVersionRequest,
    ) -> Result<FunctionConfiguration, Error> {
        check::refuse("PublishVersion", &[(input.publish_to.is_some(), "PublishTo")])?;
        let arn = self.asked(cx, input.function_name.as_deref(), None, "PublishVersion")?;
        let arn = names::of_latest(&arn)?;
        let _turn = self.turn(&arn).await;
        let function = self.to_update(&arn, input.revision_id.as_deref())?;
        publishable(&function)?;
        let current = present::sha256(&function.record.intent.content);
        if let Some(given) = input.code_sha256.filter(|given| *given != current) {
            return Err(invalid(format!(
                "CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({current}). Please try again with \
                 the CodeSHA256 in $LATEST."
            )));
        }
        let mut changes = function.changes();
        let function = if is_news(&function, &changes) {
            let _room = self.room(&function.owner, function.record.intent.content.stored_size())?;
            publish(self.runtimes(), &mut changes, input.description, Readiness::Ready);
            if let Some(root) = &mut changes.root {
                root.revision_id = revision();
            }
            self.commit(&function, changes).await?
        } else {
            function
        };
        let newest = function.newest();
        let (number, version) = newest.ok_or_else(|| conflict("The version was deleted at the same time."))?;
        Ok(present::published(self.runtimes(), &function, number, version, Some(&number.to_string())))
    }

    async fn list_versions_by_function(
        &self,
        cx: &Context,
        input: ListVersionsByFunctionRequest,
    ) -> Result<ListVersionsByFunctionResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), None, "ListVersionsByFunction")?;
        let function = self.function(&arn.unqualified())?;
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        // `$LATEST` comes first, as number 0.
        let from = page.after.as_deref().map_or(Ok(0), |after| after.parse::<u64>().map(|last| last.saturating_add(1)));
        let from = from.map_err(|_| bad_marker())?;
        let latest = (from == 0).then_some((0, None));
        let published = function.versions.range(from.max(1)..).map(|(number, version)| (*number, Some(version)));
        let (rows, next_marker) = page.take(latest.into_iter().chain(published), |(number, _)| number.to_string());
        let versions = rows.into_iter().map(|(number, version)| match version {
            None => present::listed_latest(&function, true),
            Some(version) => present::listed_published(&function, number, version),
        });
        Ok(ListVersionsByFunctionResponse { next_marker, versions: Some(versions.collect()) })
    }
}

/// A definition that could not be made ready is nothing to fix for good.
fn publishable(function: &Function) -> Result<(), Error> {
    settled(function)?;
    match &function.record.update {
        Update::Failed { .. } => Err(conflict(
            "The operation cannot be performed at this time. The function is currently in the following state: Failed",
        )),
        _ => Ok(()),
    }
}

/// Whether code or configuration differ from those of the version published last.
pub fn is_news(function: &Function, changes: &Changes) -> bool {
    match (function.newest(), &changes.root) {
        (Some((_, newest)), Some(root)) => !newest.record.definition.is_same(&root.intent),
        _ => true,
    }
}

/// Adds a version of what `changes` make `$LATEST`.
pub fn publish(
    runtimes: &dyn RuntimeVersions,
    changes: &mut Changes,
    description: Option<String>,
    readiness: Readiness,
) {
    let Some(root) = &mut changes.root else { return };
    root.last_version += 1;
    let record = VersionRecord {
        definition: crate::runtimes::fixed(runtimes, &root.intent),
        description: description.filter(|description| *description != root.intent.description),
        revision_id: revision(),
        last_modified: root.last_modified.clone(),
        readiness,
        rest: None,
        runtime_management: root.runtime_management.clone(),
    };
    changes.versions.insert(root.last_version, Some(record));
}

/// What removes one version, and the packages that may be free then. Nothing when there is no such version.
pub fn removal(function: &Function, number: u64) -> Result<(Option<Changes>, Vec<CodeHash>), Error> {
    let Some(published) = function.versions.get(&number) else { return Ok((None, Vec::new())) };
    let pointing: Vec<&str> =
        function.aliases.iter().filter(|(_, alias)| alias.points_at(number)).map(|(name, _)| name.as_str()).collect();
    if !pointing.is_empty() {
        return Err(conflict(format!(
            "Unable to delete version because the following aliases reference it: [{}]",
            pointing.join(", ")
        )));
    }
    if published.record.readiness == Readiness::Pending {
        settled(function)?;
    }
    let mut changes = function.changes();
    changes.versions.insert(number, None);
    let qualifier = number.to_string();
    if let Some(root) = &mut changes.root {
        root.provisioned.remove(&qualifier);
    }
    if function.policies.contains_key(&qualifier) {
        changes.policies.insert(qualifier, None);
    }
    Ok((Some(changes), published.record.definition.codes().collect()))
}
