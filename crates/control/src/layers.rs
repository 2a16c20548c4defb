//! Layers and their versions: the handlers of the group `layers` (spec 1.10).

use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::LayerArn;
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::LayersApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::page::{MOST, Page, bad_marker};
use hearth_wire_lambda::types::*;

use crate::access::{Source, denied, same_revision, stored_resource};
use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::record::{LAYER, LayerRecord, LayerUse, LayerVersionRecord, Owner, PolicyRecord};
use crate::state::account::Layer;
use crate::{names, present, statements};

/// Layers of one function (spec 11.1).
const LAYERS_MAX: usize = 5;
const USE: &str = "lambda:GetLayerVersion";

#[async_trait]
impl LayersApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn publish_layer_version(
        &self,
        cx: &Context,
        input: PublishLayerVersionRequest,
    ) -> Result<PublishLayerVersionResponse, Error> {
        let content = input.content.unwrap_or_default();
        let mut arn = names::own_layer(cx, input.layer_name.as_deref())?;
        let owner = names::owner(cx);
        let source = Source {
            zip: content.zip_file,
            bucket: content.s3_bucket,
            key: content.s3_key,
            version: content.s3_object_version,
            mode: content.s3_object_storage_mode,
            image: None,
            kms_key: None,
        };
        let incoming = self.package(&owner, source).await?;
        let _room = self.room(&owner, incoming.stored_size())?;
        let checked = self.check(incoming.package).await?;
        let admitted = checked.admitted.clone();
        let _in_use = self.inner.packages_in_use.read().await;
        self.keep(checked).await?;
        let record = LayerVersionRecord {
            description: input.description.unwrap_or_default(),
            license_info: input.license_info,
            compatible_runtimes: input.compatible_runtimes,
            compatible_architectures: input.compatible_architectures,
            created: self.now(),
            code: admitted.code,
            code_size: admitted.zipped,
            unzipped: admitted.unzipped,
            reference: incoming.reference,
            policy: None,
        };
        let _turn = self.inner.state.turn(&owner, LAYER, &arn.name).await;
        // Always a new number, which no version has had before.
        let last = self.inner.state.layer(&owner, &arn.name).map_or(0, |layer| layer.record.last_version);
        let number = last + 1;
        let root = LayerRecord { last_version: number };
        let written = self.inner.state.commit_layer(&owner, &arn.name, root, number, Some(record.clone())).await;
        written.map_err(stored_resource)?;
        arn.version = Some(number);
        let shown = self.shown(cx, &arn, number, &record);
        Ok(PublishLayerVersionResponse {
            content: shown.content,
            layer_arn: shown.layer_arn,
            layer_version_arn: shown.layer_version_arn,
            description: shown.description,
            created_date: shown.created_date,
            version: shown.version,
            compatible_architectures: shown.compatible_architectures,
            compatible_runtimes: shown.compatible_runtimes,
            license_info: shown.license_info,
        })
    }

    async fn get_layer_version(
        &self,
        cx: &Context,
        input: GetLayerVersionRequest,
    ) -> Result<GetLayerVersionResponse, Error> {
        let arn = version_arn(names::layer(cx, input.layer_name.as_deref())?, input.version_number)?;
        self.read_layer(cx, &arn)
    }

    async fn get_layer_version_by_arn(
        &self,
        cx: &Context,
        input: GetLayerVersionByArnRequest,
    ) -> Result<GetLayerVersionResponse, Error> {
        let text = input.arn.unwrap_or_default();
        let arn = LayerArn::parse(&text).filter(|arn| arn.version.is_some());
        self.read_layer(cx, &arn.ok_or_else(no_resource)?)
    }

    async fn list_layer_versions(
        &self,
        cx: &Context,
        input: ListLayerVersionsRequest,
    ) -> Result<ListLayerVersionsResponse, Error> {
        let arn = names::own_layer(cx, input.layer_name.as_deref())?;
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        let after = page.after.as_deref().map(str::parse::<u64>).transpose().map_err(|_| bad_marker())?;
        let wanted = Wanted { runtime: input.compatible_runtime, architecture: input.compatible_architecture };
        let layer = self.inner.state.layer(&names::owner(cx), &arn.name);
        let versions = layer.iter().flat_map(|layer| layer.versions.range(..after.unwrap_or(u64::MAX)).rev());
        let versions = versions.filter(|(_, version)| wanted.is_met_by(version));
        let (versions, next_marker) = page.take(versions, |(number, _)| number.to_string());
        let versions = versions.into_iter().map(|(number, version)| listed(&arn, *number, version)).collect();
        Ok(ListLayerVersionsResponse { next_marker, layer_versions: Some(versions) })
    }

    async fn list_layers(&self, cx: &Context, input: ListLayersRequest) -> Result<ListLayersResponse, Error> {
        let owner = names::owner(cx);
        let page = Page::of(input.marker.as_deref(), input.max_items, MOST)?;
        let wanted = Wanted { runtime: input.compatible_runtime, architecture: input.compatible_architecture };
        let (layers, next_marker) = self.inner.state.account(&owner, |account| {
            use std::ops::Bound;
            let from = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let found = account.layers.range((from, Bound::Unbounded)).filter_map(|(name, layer)| {
                let (number, version) = layer.versions.iter().rev().find(|(_, version)| wanted.is_met_by(version))?;
                Some((name.clone(), *number, version.clone()))
            });
            page.take(found, |(name, _, _)| name.clone())
        });
        let layers = layers.into_iter().map(|(name, number, version)| {
            let arn = LayerArn::of(&owner.region, &owner.account, &name, None);
            LayersListItem {
                layer_arn: Some(arn.to_string()),
                latest_matching_version: Some(listed(&arn, number, &version)),
                layer_name: Some(name),
            }
        });
        Ok(ListLayersResponse { next_marker, layers: Some(layers.collect()) })
    }

    async fn delete_layer_version(&self, cx: &Context, input: DeleteLayerVersionRequest) -> Result<Nothing, Error> {
        let arn = version_arn(names::own_layer(cx, input.layer_name.as_deref())?, input.version_number)?;
        let (owner, number) = (names::owner(cx), arn.version.unwrap_or_default());
        let turn = self.inner.state.turn(&owner, LAYER, &arn.name).await;
        let Some(layer) = self.inner.state.layer(&owner, &arn.name) else { return Ok(Nothing {}) };
        let Some(version) = layer.versions.get(&number) else { return Ok(Nothing {}) };
        let written = self.inner.state.commit_layer(&owner, &arn.name, layer.record.clone(), number, None).await;
        written.map_err(stored_resource)?;
        drop(turn);
        // Functions that use it go on.
        self.inner.remove_unused_packages(Some(vec![version.code])).await;
        Ok(Nothing {})
    }

    async fn add_layer_version_permission(
        &self,
        cx: &Context,
        input: AddLayerVersionPermissionRequest,
    ) -> Result<AddLayerVersionPermissionResponse, Error> {
        let arn = version_arn(names::own_layer(cx, input.layer_name.as_deref())?, input.version_number)?;
        let (sid, who) = (input.statement_id.unwrap_or_default(), input.principal.unwrap_or_default());
        if input.organization_id.is_some() && who != "*" {
            return Err(invalid("Principal must be * when OrganizationId is specified."));
        }
        let principal = statements::principal(&who, arn.region.partition())?;
        let conditions: Vec<_> =
            input.organization_id.map(|id| ("StringEquals", "aws:PrincipalOrgID", id)).into_iter().collect();
        let action = input.action.unwrap_or_default();
        let statement = statements::allowing(&sid, principal, &action, &arn.to_string(), &conditions);
        let change = |policy: Option<&PolicyRecord>| statements::with(policy, &sid, &statement).map(Some);
        let policy = self.change_layer_policy(cx, &arn, input.revision_id.as_deref(), change).await?;
        let revision_id = policy.map(|policy| policy.revision_id);
        Ok(AddLayerVersionPermissionResponse { statement: Some(statement.to_string()), revision_id })
    }

    async fn remove_layer_version_permission(
        &self,
        cx: &Context,
        input: RemoveLayerVersionPermissionRequest,
    ) -> Result<Nothing, Error> {
        let arn = version_arn(names::own_layer(cx, input.layer_name.as_deref())?, input.version_number)?;
        let sid = input.statement_id.unwrap_or_default();
        let change = |policy: Option<&PolicyRecord>| statements::without(policy, &sid);
        self.change_layer_policy(cx, &arn, input.revision_id.as_deref(), change).await?;
        Ok(Nothing {})
    }

    async fn get_layer_version_policy(
        &self,
        cx: &Context,
        input: GetLayerVersionPolicyRequest,
    ) -> Result<GetLayerVersionPolicyResponse, Error> {
        let arn = version_arn(names::own_layer(cx, input.layer_name.as_deref())?, input.version_number)?;
        let version = self.layer_version(&arn).ok_or_else(|| no_version(&arn))?;
        let policy = version.policy.as_ref().ok_or_else(statements::no_policy)?;
        Ok(GetLayerVersionPolicyResponse {
            policy: Some(policy.document.to_string()),
            revision_id: Some(policy.revision_id.clone()),
        })
    }
}

impl Control {
    fn layer_version(&self, arn: &LayerArn) -> Option<Arc<LayerVersionRecord>> {
        let owner = Owner { account: arn.account.clone(), region: arn.region.clone() };
        let layer: Arc<Layer> = self.inner.state.layer(&owner, &arn.name)?;
        layer.versions.get(&arn.version?).cloned()
    }

    /// A layer version that the caller may read: its own, or one whose policy lets it.
    fn readable(&self, cx: &Context, arn: &LayerArn) -> Result<Option<Arc<LayerVersionRecord>>, Error> {
        let (caller, found) = (names::owner(cx).account, self.layer_version(arn));
        if arn.account == caller {
            return Ok(found);
        }
        // What is not there is not told from what is not allowed.
        let policy = found.as_ref().and_then(|version| version.policy.as_ref());
        if statements::allows(policy, caller.as_str(), USE, &arn.to_string()) {
            return Ok(found);
        }
        Err(denied(&caller, USE, &arn.to_string(), arn.region.partition()))
    }

    fn read_layer(&self, cx: &Context, arn: &LayerArn) -> Result<GetLayerVersionResponse, Error> {
        let version = self.readable(cx, arn)?.filter(|_| arn.region == names::owner(cx).region);
        let version = version.ok_or_else(no_resource)?;
        Ok(self.shown(cx, arn, arn.version.unwrap_or_default(), &version))
    }

    fn shown(
        &self,
        cx: &Context,
        arn: &LayerArn,
        number: u64,
        version: &LayerVersionRecord,
    ) -> GetLayerVersionResponse {
        let item = listed(arn, number, version);
        GetLayerVersionResponse {
            content: Some(LayerVersionContentOutput {
                location: Some(self.location(&cx.origin, version.code)),
                code_sha256: Some(present::sha256_of_zip(version.code)),
                code_size: i64::try_from(version.code_size).ok(),
                resolved_s3_object: version.reference.as_ref().map(|reference| reference.shown()),
                ..LayerVersionContentOutput::default()
            }),
            layer_arn: Some(LayerArn { version: None, ..arn.clone() }.to_string()),
            layer_version_arn: item.layer_version_arn,
            description: item.description,
            created_date: item.created_date,
            version: item.version,
            compatible_architectures: item.compatible_architectures,
            compatible_runtimes: item.compatible_runtimes,
            license_info: item.license_info,
        }
    }

    async fn change_layer_policy(
        &self,
        cx: &Context,
        arn: &LayerArn,
        revision: Option<&str>,
        change: impl FnOnce(Option<&PolicyRecord>) -> Result<Option<PolicyRecord>, Error>,
    ) -> Result<Option<PolicyRecord>, Error> {
        let owner = names::owner(cx);
        let _turn = self.inner.state.turn(&owner, LAYER, &arn.name).await;
        let missing = || no_version(arn);
        let layer = self.inner.state.layer(&owner, &arn.name).ok_or_else(missing)?;
        let number = arn.version.unwrap_or_default();
        let mut version = LayerVersionRecord::clone(layer.versions.get(&number).ok_or_else(missing)?);
        let latest = version.policy.as_ref().map_or("", |policy| &policy.revision_id);
        same_revision(revision, latest, "GetLayerPolicy")?;
        version.policy = change(version.policy.as_ref())?;
        let policy = version.policy.clone();
        let written =
            self.inner.state.commit_layer(&owner, &arn.name, layer.record.clone(), number, Some(version)).await;
        written.map_err(stored_resource)?;
        Ok(policy)
    }

    /// The layers that a function is to use, in order (spec 1.4).
    pub(crate) fn layers_in_use(&self, cx: &Context, texts: &[String]) -> Result<Vec<LayerUse>, Error> {
        if texts.len() > LAYERS_MAX {
            return Err(invalid(format!("Cannot reference more than {LAYERS_MAX} layers.")));
        }
        let region = names::owner(cx).region;
        let mut used: Vec<(LayerArn, LayerUse)> = Vec::new();
        for text in texts {
            let missing = || invalid(format!("Layer version {text} does not exist."));
            let arn = LayerArn::parse(text).filter(|arn| arn.version.is_some()).ok_or_else(missing)?;
            if arn.region != region {
                return Err(invalid(format!(
                    "Layers are not in the same region as the function. Layers are expected to be in region {region}."
                )));
            }
            if let Some((twin, _)) =
                used.iter().find(|(other, _)| (&other.account, &other.name) == (&arn.account, &arn.name))
            {
                return Err(invalid(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. {twin} \
                     and {arn} are versions of the same layer."
                )));
            }
            let version = self.readable(cx, &arn)?.ok_or_else(missing)?;
            let LayerVersionRecord { code, code_size, unzipped, .. } = *version;
            used.push((arn, LayerUse { arn: text.clone(), code, code_size, unzipped }));
        }
        Ok(used.into_iter().map(|(_, used)| used).collect())
    }
}

fn no_resource() -> Error {
    not_found("The resource you requested does not exist.")
}

fn no_version(arn: &LayerArn) -> Error {
    not_found(format!("Layer version {arn} does not exist."))
}

fn version_arn(arn: LayerArn, number: Option<i64>) -> Result<LayerArn, Error> {
    let number = number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    match number {
        Some(number) => Ok(LayerArn { version: Some(number), ..arn }),
        None => Err(invalid("Layer Version Cannot be less than 1")),
    }
}

/// A filter of lists.
struct Wanted {
    runtime: Option<String>,
    architecture: Option<String>,
}

impl Wanted {
    fn is_met_by(&self, version: &LayerVersionRecord) -> bool {
        let has = |wanted: &Option<String>, list: &Option<Vec<String>>| match wanted {
            Some(wanted) => list.as_ref().is_some_and(|list| list.contains(wanted)),
            None => true,
        };
        has(&self.runtime, &version.compatible_runtimes) && has(&self.architecture, &version.compatible_architectures)
    }
}

fn listed(arn: &LayerArn, number: u64, version: &LayerVersionRecord) -> LayerVersionsListItem {
    LayerVersionsListItem {
        layer_version_arn: Some(LayerArn { version: Some(number), ..arn.clone() }.to_string()),
        version: i64::try_from(number).ok(),
        description: Some(version.description.clone()),
        created_date: Some(version.created.clone()),
        compatible_architectures: version.compatible_architectures.clone(),
        compatible_runtimes: version.compatible_runtimes.clone(),
        license_info: version.license_info.clone(),
    }
}
