//! Tags of log groups: the handlers of the group `tags`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_model::LogGroup;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::TagsApi;
use hearth_wire_logs::errors::{
    invalid_parameter_exception as invalid, resource_not_found_exception as not_found, too_many_tags_exception,
};
use hearth_wire_logs::types::*;

use crate::cloudwatch::{CloudWatch, failed, no_group};
use crate::coverage::COVERAGE;
use crate::names;

/// Tags that a group may have.
const TAGS_MAX: usize = 50;

#[async_trait]
impl TagsApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn tag_log_group(&self, cx: &Context, input: TagLogGroupRequest) -> Result<(), Error> {
        self.tag(cx, &input.log_group_name.unwrap_or_default(), input.tags.unwrap_or_default()).await
    }

    async fn untag_log_group(&self, cx: &Context, input: UntagLogGroupRequest) -> Result<(), Error> {
        self.untag(cx, &input.log_group_name.unwrap_or_default(), input.tags.unwrap_or_default()).await
    }

    async fn list_tags_log_group(
        &self,
        cx: &Context,
        input: ListTagsLogGroupRequest,
    ) -> Result<ListTagsLogGroupResponse, Error> {
        let tags = self.tags(names::group(cx, &input.log_group_name.unwrap_or_default())).await?;
        Ok(ListTagsLogGroupResponse { tags: Some(tags) })
    }

    async fn tag_resource(&self, cx: &Context, input: TagResourceRequest) -> Result<(), Error> {
        let group = tagged(cx, &input.resource_arn.unwrap_or_default())?;
        self.tag(cx, &group.name, input.tags.unwrap_or_default()).await
    }

    async fn untag_resource(&self, cx: &Context, input: UntagResourceRequest) -> Result<(), Error> {
        let group = tagged(cx, &input.resource_arn.unwrap_or_default())?;
        self.untag(cx, &group.name, input.tag_keys.unwrap_or_default()).await
    }

    async fn list_tags_for_resource(
        &self,
        cx: &Context,
        input: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, Error> {
        let tags = self.tags(tagged(cx, &input.resource_arn.unwrap_or_default())?).await?;
        Ok(ListTagsForResourceResponse { tags: Some(tags) })
    }
}

impl CloudWatch {
    async fn tags(&self, group: LogGroup) -> Result<BTreeMap<String, String>, Error> {
        let found = self.logs.group(&group).await.map_err(failed)?;
        Ok(found.ok_or_else(no_group)?.settings.tags)
    }

    async fn tag(&self, cx: &Context, name: &str, tags: BTreeMap<String, String>) -> Result<(), Error> {
        let tags = checked(tags)?;
        let resource = names::arn(&names::group(cx, name));
        self.set(cx, name, move |settings| {
            settings.tags.extend(tags);
            if settings.tags.len() > TAGS_MAX {
                let text = format!("The resource can have no more than {TAGS_MAX} tags.");
                return Err(too_many_tags_exception(text).with("resourceName", resource));
            }
            Ok(())
        })
        .await
    }

    async fn untag(&self, cx: &Context, name: &str, keys: Vec<String>) -> Result<(), Error> {
        self.set(cx, name, move |settings| {
            settings.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }
}

/// Keys that begin so are AWS's own.
pub fn checked(tags: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    match tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        Some(key) => Err(invalid(format!("Tag keys starting with 'aws:' are reserved for system use: {key}"))),
        None => Ok(tags),
    }
}

/// The caller's group of that ARN, also of its older form.
fn tagged(cx: &Context, arn: &str) -> Result<LogGroup, Error> {
    let found = names::of_arn(arn.strip_suffix(":*").unwrap_or(arn));
    let found = found.ok_or_else(|| invalid(format!("Invalid resource ARN: {arn}")))?;
    let (account, region) = names::owner(cx);
    let own = found.account == account && found.region == region;
    if own { Ok(found) } else { Err(not_found("The specified resource does not exist.")) }
}
