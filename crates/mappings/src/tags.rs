//! Tags of mappings. Those of everything else are another room's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::ResourceArn;
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::TagsApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::other_account;
use hearth_wire_lambda::types::*;

use crate::mappings::{Live, Mappings};

/// The operations of the group, of mappings and of whatever `rest` knows.
pub struct Tags {
    mappings: Mappings,
    rest: Arc<dyn TagsApi>,
}

impl Tags {
    pub fn new(mappings: Mappings, rest: Arc<dyn TagsApi>) -> Self {
        Tags { mappings, rest }
    }

    /// The mapping that an ARN names; `None` of what is no mapping's.
    fn tagged(&self, cx: &Context, resource: Option<&str>) -> Result<Option<Arc<Live>>, Error> {
        let resource = resource.unwrap_or_default();
        let Some(arn) = ResourceArn::parse(resource).filter(|arn| arn.kind == "event-source-mapping") else {
            return Ok(None);
        };
        if arn.account.as_str() != cx.account {
            return Err(other_account());
        }
        let partition = format!("{}/{}", arn.account, arn.region);
        let found = self.mappings.shared.find(&partition, arn.name);
        found.map(Some).ok_or_else(|| not_found(format!("Event source mapping not found: {resource}")))
    }

    async fn retag(
        &self,
        live: &Live,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Error> + Send,
    ) -> Result<Nothing, Error> {
        let _turn = self.mappings.shared.turn.lock().await;
        let mut record = (*live.record()).clone();
        change(&mut record.tags)?;
        self.mappings.shared.keep(live, record).await?;
        Ok(Nothing {})
    }
}

#[async_trait]
impl TagsApi for Tags {
    fn coverage(&self) -> &'static [Coverage] {
        self.rest.coverage()
    }

    async fn list_tags(&self, cx: &Context, input: ListTagsRequest) -> Result<ListTagsResponse, Error> {
        match self.tagged(cx, input.resource.as_deref())? {
            Some(live) => Ok(ListTagsResponse { tags: Some(live.record().tags.clone()) }),
            None => self.rest.list_tags(cx, input).await,
        }
    }

    async fn tag_resource(&self, cx: &Context, input: TagResourceRequest) -> Result<Nothing, Error> {
        let Some(live) = self.tagged(cx, input.resource.as_deref())? else {
            return self.rest.tag_resource(cx, input).await;
        };
        let given = input.tags.unwrap_or_default();
        if given.is_empty() {
            return Err(invalid("An error occurred and the request cannot be processed."));
        }
        let change = |tags: &mut BTreeMap<String, String>| {
            tags.extend(given);
            hearth_control::check_tags(tags)
        };
        self.retag(&live, change).await
    }

    async fn untag_resource(&self, cx: &Context, input: UntagResourceRequest) -> Result<Nothing, Error> {
        let Some(live) = self.tagged(cx, input.resource.as_deref())? else {
            return self.rest.untag_resource(cx, input).await;
        };
        let keys = input.tag_keys.unwrap_or_default();
        let change = |tags: &mut BTreeMap<String, String>| {
            tags.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        self.retag(&live, change).await
    }
}
