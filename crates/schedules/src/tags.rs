//! Tags of groups: schedules have none.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_scheduler::TagsApi;
use hearth_wire_scheduler::errors::{resource_not_found_exception as not_found, validation_exception as invalid};
use hearth_wire_scheduler::types::*;

use crate::operations::partition;
use crate::record::{GroupRecord, group_arn, group_key};
use crate::schedules::{Schedules, put, unstored};

const TAGS_MAX: usize = 50;

pub fn given(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect()
}

pub fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("A schedule group has at most {TAGS_MAX} tags.")));
    }
    match tags.keys().find(|key| key.starts_with("aws:")) {
        Some(key) => Err(invalid(format!("The tag {key} is invalid: aws: is reserved."))),
        None => Ok(()),
    }
}

#[async_trait]
impl TagsApi for Schedules {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn list_tags_for_resource(
        &self,
        cx: &Context,
        input: ListTagsForResourceInput,
    ) -> Result<ListTagsForResourceOutput, Error> {
        let (partition, name) = self.tagged(cx, input.resource_arn)?;
        let tags = self.group(&partition, &name).await?.tags;
        let tags = tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) });
        Ok(ListTagsForResourceOutput { tags: Some(tags.collect()) })
    }

    async fn tag_resource(&self, cx: &Context, input: TagResourceInput) -> Result<TagResourceOutput, Error> {
        let (partition, name) = self.tagged(cx, input.resource_arn)?;
        let added = given(input.tags.unwrap_or_default());
        let _turn = self.shared.all.write().await;
        let mut record = self.group(&partition, &name).await?;
        record.tags.extend(added);
        check(&record.tags)?;
        self.retag(&partition, &name, &record).await?;
        Ok(TagResourceOutput {})
    }

    async fn untag_resource(&self, cx: &Context, input: UntagResourceInput) -> Result<UntagResourceOutput, Error> {
        let (partition, name) = self.tagged(cx, input.resource_arn)?;
        let keys = input.tag_keys.unwrap_or_default();
        let _turn = self.shared.all.write().await;
        let mut record = self.group(&partition, &name).await?;
        record.tags.retain(|key, _| !keys.contains(key));
        self.retag(&partition, &name, &record).await?;
        Ok(UntagResourceOutput {})
    }
}

impl Schedules {
    /// The group that an ARN names: one of the caller's own, where it asks.
    fn tagged(&self, cx: &Context, arn: Option<String>) -> Result<(String, String), Error> {
        let (partition, arn) = (partition(cx), arn.unwrap_or_default());
        let name = arn.rsplit_once('/').map_or("", |(_, name)| name);
        if arn != group_arn(&partition, name) {
            return Err(not_found(format!("Schedule group {arn} does not exist.")));
        }
        let name = name.to_owned();
        Ok((partition, name))
    }

    async fn retag(&self, partition: &str, name: &str, record: &GroupRecord) -> Result<(), Error> {
        self.shared.write(vec![put(group_key(partition, name), record)]).await.map_err(unstored)
    }
}
