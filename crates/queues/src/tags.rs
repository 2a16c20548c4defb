//! Tags of queues.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_sqs::TagsApi;
use hearth_wire_sqs::types::{ListQueueTagsRequest, ListQueueTagsResult, TagQueueRequest, UntagQueueRequest};

use crate::queues::Queues;
use crate::refusals::{invalid, missing};

const TAGS_MAX: usize = 50;

#[async_trait]
impl TagsApi for Queues {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn list_queue_tags(&self, cx: &Context, input: ListQueueTagsRequest) -> Result<ListQueueTagsResult, Error> {
        let live = self.asked(cx, input.queue_url, "ListQueueTags")?;
        let tags = live.kept().record.tags.clone();
        Ok(ListQueueTagsResult { tags: (!tags.is_empty()).then_some(tags) })
    }

    async fn tag_queue(&self, cx: &Context, input: TagQueueRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "TagQueue")?;
        let tags = input.tags.filter(|tags| !tags.is_empty()).ok_or_else(|| missing("Tags"))?;
        let _turn = self.inner.turn.lock().await;
        let mut record = live.kept().record.clone();
        record.tags.extend(tags);
        check(&record.tags)?;
        self.keep(&live, record).await
    }

    async fn untag_queue(&self, cx: &Context, input: UntagQueueRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "UntagQueue")?;
        let keys = input.tag_keys.filter(|keys| !keys.is_empty()).ok_or_else(|| missing("TagKeys"))?;
        let _turn = self.inner.turn.lock().await;
        let mut record = live.kept().record.clone();
        record.tags.retain(|key, _| !keys.contains(key));
        self.keep(&live, record).await
    }
}

pub fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("Too many tags added for queue: {TAGS_MAX} at most.")));
    }
    let is_good = |(key, value): (&String, &String)| {
        (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256 && !key.starts_with("aws:")
    };
    match tags.iter().find(|tag| !is_good(*tag)) {
        Some((key, _)) => {
            let shown: String = key.chars().take(128).collect();
            Err(invalid(format!(
                "The tag {shown} is invalid: keys have 1 to 128 characters, values up to 256, and aws: is reserved."
            )))
        }
        None => Ok(()),
    }
}
