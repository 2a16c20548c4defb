//! Tags of functions and code signing configurations: the handlers of the group `tags` (spec 1.11).

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_model::{FunctionArn, ResourceArn};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::TagsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::types::*;

use crate::access::stored_resource;
use crate::control::{Control, revision};
use crate::coverage::COVERAGE;
use crate::record::{CODE_SIGNING, CodeSigningRecord};
use crate::{check, code_signing, names};

/// What bears tags.
enum Tagged {
    Function(FunctionArn),
    CodeSigning { id: String, arn: String },
}

#[async_trait]
impl TagsApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn list_tags(&self, cx: &Context, input: ListTagsRequest) -> Result<ListTagsResponse, Error> {
        let tags = match self.tagged(cx, input.resource.as_deref().unwrap_or_default(), "ListTags")? {
            Tagged::Function(arn) => self.function(&arn)?.record.tags.clone(),
            Tagged::CodeSigning { id, arn } => {
                let found = self.inner.state.code_signing(&names::owner(cx), &id);
                found.ok_or_else(|| code_signing::missing(&arn))?.record.tags.clone()
            }
        };
        Ok(ListTagsResponse { tags: Some(tags) })
    }

    async fn tag_resource(&self, cx: &Context, input: TagResourceRequest) -> Result<Nothing, Error> {
        let resource = self.tagged(cx, input.resource.as_deref().unwrap_or_default(), "TagResource")?;
        let given = input.tags.unwrap_or_default();
        if given.is_empty() {
            return Err(invalid("An error occurred and the request cannot be processed."));
        }
        let change = |tags: &mut BTreeMap<String, String>| {
            tags.extend(given.clone());
            check::tags(tags)
        };
        self.retag(cx, resource, &change).await
    }

    async fn untag_resource(&self, cx: &Context, input: UntagResourceRequest) -> Result<Nothing, Error> {
        let resource = self.tagged(cx, input.resource.as_deref().unwrap_or_default(), "UntagResource")?;
        let keys = input.tag_keys.unwrap_or_default();
        let change = |tags: &mut BTreeMap<String, String>| {
            tags.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        self.retag(cx, resource, &change).await
    }
}

type Change<'a> = &'a (dyn Fn(&mut BTreeMap<String, String>) -> Result<(), Error> + Sync);

impl Control {
    async fn retag(&self, cx: &Context, resource: Tagged, change: Change<'_>) -> Result<Nothing, Error> {
        match resource {
            Tagged::Function(arn) => {
                let _turn = self.turn(&arn).await;
                let function = self.function(&arn)?;
                let mut changes = function.changes();
                if let Some(root) = &mut changes.root {
                    change(&mut root.tags)?;
                    root.revision_id = revision();
                }
                self.commit(&function, changes).await?;
            }
            Tagged::CodeSigning { id, arn } => {
                let owner = names::owner(cx);
                let _turn = self.inner.state.turn(&owner, CODE_SIGNING, &id).await;
                let found = self.inner.state.code_signing(&owner, &id).ok_or_else(|| code_signing::missing(&arn))?;
                let mut record = CodeSigningRecord::clone(&found.record);
                change(&mut record.tags)?;
                let written = self.inner.state.commit_code_signing(&owner, &id, Some(record)).await;
                written.map_err(stored_resource)?;
            }
        }
        Ok(Nothing {})
    }

    /// The resource that an ARN names, if it is of a kind that bears tags.
    fn tagged(&self, cx: &Context, resource: &str, operation: &str) -> Result<Tagged, Error> {
        let Some(parsed) = ResourceArn::parse(resource) else {
            return Err(invalid(format!("Invalid resource ARN: {resource}")));
        };
        match parsed.kind {
            "function" => {
                let arn = self.asked(cx, Some(resource), None, operation)?;
                if arn.qualifier.is_some() {
                    return Err(invalid(
                        "Tags on function aliases and versions are not supported. Please specify a function ARN.",
                    ));
                }
                Ok(Tagged::Function(arn))
            }
            "code-signing-config" => {
                let id = names::code_signing(cx, resource)?.ok_or_else(|| code_signing::missing(resource))?;
                Ok(Tagged::CodeSigning { id: id.to_owned(), arn: resource.to_owned() })
            }
            "event-source-mapping" => Err(not_found(format!("Event source mapping not found: {resource}"))),
            "capacity-provider" => Err(not_found(format!("Capacity provider not found: {resource}"))),
            _ => Err(invalid(format!("Invalid resource ARN: {resource}"))),
        }
    }
}
