//! Queues: made, told, looked at, listed and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_store::{Expect, Write};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_sqs::QueuesApi;
use hearth_wire_sqs::errors::{queue_deleted_recently, queue_name_exists};
use hearth_wire_sqs::types::{
    CreateQueueRequest, CreateQueueResult, DeleteQueueRequest, GetQueueAttributesRequest, GetQueueAttributesResult,
    GetQueueUrlRequest, GetQueueUrlResult, ListQueuesRequest, ListQueuesResult, SetQueueAttributesRequest,
};

use crate::access;
use crate::attributes::{self, Settings};
use crate::live::Live;
use crate::moves;
use crate::names::{self, FIFO, Place};
use crate::queues::Queues;
use crate::record::{GONE, GoneRecord, QUEUE, QueueRecord, key};
use crate::refusals::{given, invalid, invalid_value, missing, unstored};

/// How long a name cannot be used again.
pub const GONE_MS: u64 = 60_000;
/// Queues that a list answers at most.
const LISTED_MAX: usize = 1000;

#[async_trait]
impl QueuesApi for Queues {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn create_queue(&self, cx: &Context, input: CreateQueueRequest) -> Result<CreateQueueResult, Error> {
        let name = given(input.queue_name, "QueueName")?;
        let asked = input.attributes.unwrap_or_default();
        let is_fifo = match asked.get("FifoQueue").map(String::as_str) {
            Some("true") => true,
            None if name.ends_with(FIFO) => return Err(fifo_without_saying()),
            None => false,
            Some(_) => return Err(attributes::unknown("FifoQueue")),
        };
        names::check(&name, is_fifo)?;
        let place = Place::own(cx, &name);
        let _turn = self.inner.turn.lock().await;
        let attributes = attributes::apply(&BTreeMap::new(), &asked, is_fifo)?;
        if let Some(live) = self.inner.all.find(&place) {
            same(&live, &asked)?;
            return Ok(CreateQueueResult { queue_url: Some(place.url(cx)) });
        }
        let gone: Option<GoneRecord> = self.get(&place, GONE, &name).await?;
        if gone.is_some_and(|gone| self.now() < gone.deleted + GONE_MS) {
            return Err(queue_deleted_recently(
                "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
            ));
        }
        self.may_redrive(&place, &attributes)?;
        let tags = input.tags.unwrap_or_default();
        crate::tags::check(&tags)?;
        let created = self.now() / 1000;
        let id = uuid::Uuid::new_v4().to_string();
        let record = QueueRecord { id, created, modified: created, attributes, tags, purged: None };
        self.put(&place, QUEUE, &name, &record).await?;
        self.inner.all.add(Arc::new(Live::new(place.clone(), record)));
        Ok(CreateQueueResult { queue_url: Some(place.url(cx)) })
    }

    async fn delete_queue(&self, cx: &Context, input: DeleteQueueRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "DeleteQueue")?;
        let _turn = self.inner.turn.lock().await;
        let place = &live.place;
        let gone = serde_json::to_vec(&GoneRecord { deleted: self.now() }).map_err(unstored)?.into();
        let mut writes = vec![
            Write::Delete { key: key(place, QUEUE, &place.name), expect: Expect::Anything },
            Write::Put { key: key(place, GONE, &place.name), expect: Expect::Anything, value: gone },
        ];
        writes.extend(self.tasks(place).await?.iter().map(|task| moves::forgotten(place, task)));
        self.inner.ports.records.commit(writes).await.map_err(unstored)?;
        self.inner.all.remove(place);
        drop(_turn);
        // What is not removed now is when the server starts next.
        self.clear(&live, u64::MAX).await;
        Ok(())
    }

    async fn get_queue_attributes(
        &self,
        cx: &Context,
        input: GetQueueAttributesRequest,
    ) -> Result<GetQueueAttributesResult, Error> {
        let live = self.asked(cx, input.queue_url, "GetQueueAttributes")?;
        let names = input.attribute_names.unwrap_or_default();
        let all = names.iter().any(|name| name == "All");
        if let Some(name) = names.iter().find(|name| *name != "All" && !attributes::is_known(name)) {
            return Err(attributes::unknown(name));
        }
        let is_asked = |name: &str| all || names.iter().any(|asked| asked == name);
        let record = &live.kept().record;
        let mut shown = attributes::shown(&record.attributes, live.is_fifo);
        shown.insert("QueueArn".to_owned(), live.place.arn());
        shown.insert("CreatedTimestamp".to_owned(), record.created.to_string());
        shown.insert("LastModifiedTimestamp".to_owned(), record.modified.to_string());
        if attributes::MEASURED.iter().any(|name| name.starts_with("Approximate") && is_asked(name)) {
            let counts = self.inner.ports.messages.counts((*live.queue).clone(), self.now()).await;
            let counts = counts.map_err(unstored)?;
            shown.insert("ApproximateNumberOfMessages".to_owned(), counts.due.to_string());
            shown.insert("ApproximateNumberOfMessagesDelayed".to_owned(), counts.delayed.to_string());
            shown.insert("ApproximateNumberOfMessagesNotVisible".to_owned(), counts.held.to_string());
        }
        shown.retain(|name, _| is_asked(name));
        Ok(GetQueueAttributesResult { attributes: (!shown.is_empty()).then_some(shown) })
    }

    async fn get_queue_url(&self, cx: &Context, input: GetQueueUrlRequest) -> Result<GetQueueUrlResult, Error> {
        let name = given(input.queue_name, "QueueName")?;
        let live = self.by_name(cx, &name, input.queue_owner_aws_account_id.as_deref())?;
        access::check(cx, &live, "GetQueueUrl")?;
        Ok(GetQueueUrlResult { queue_url: Some(live.place.url(cx)) })
    }

    async fn list_queues(&self, cx: &Context, input: ListQueuesRequest) -> Result<ListQueuesResult, Error> {
        let prefix = input.queue_name_prefix.unwrap_or_default();
        let mut names: Vec<Arc<Live>> = self.inner.all.of(&cx.account, &cx.region);
        names.retain(|live| live.place.name.starts_with(&prefix));
        let (page, next_token) = page(names, input.max_results, input.next_token)?;
        let urls: Vec<String> = page.iter().map(|live| live.place.url(cx)).collect();
        Ok(ListQueuesResult { queue_urls: (!urls.is_empty()).then_some(urls), next_token })
    }

    async fn set_queue_attributes(&self, cx: &Context, input: SetQueueAttributesRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "SetQueueAttributes")?;
        let asked = input.attributes.ok_or_else(|| missing("Attribute.Name"))?;
        let _turn = self.inner.turn.lock().await;
        let mut record = live.kept().record.clone();
        if asked.contains_key("FifoQueue") && !live.is_fifo {
            return Err(attributes::unknown("FifoQueue"));
        }
        record.attributes = attributes::apply(&record.attributes, &asked, live.is_fifo)?;
        if asked.contains_key("RedrivePolicy") {
            self.may_redrive(&live.place, &record.attributes)?;
        }
        record.modified = self.now() / 1000;
        self.keep(&live, record).await?;
        live.wake(1);
        Ok(())
    }
}

/// A page of queues, in the order of their names; the token is the name of the last one.
pub fn page(
    all: Vec<Arc<Live>>,
    limit: Option<i64>,
    token: Option<String>,
) -> Result<(Vec<Arc<Live>>, Option<String>), Error> {
    let most = match limit {
        None => LISTED_MAX,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=LISTED_MAX).contains(limit))
            .ok_or_else(|| invalid_value(limit, "MaxResults", "MaxResults must be an integer between 1 and 1000."))?,
    };
    let after = token.as_deref().map(token_read).transpose()?.unwrap_or_default();
    let mut rest = all.into_iter().skip_while(|live| live.place.name.as_str() <= after.as_str());
    let page: Vec<Arc<Live>> = rest.by_ref().take(most).collect();
    // Without a limit there are no pages.
    let next = page.last().filter(|_| limit.is_some() && rest.next().is_some()).map(|live| token_of(&live.place.name));
    Ok((page, next))
}

fn token_of(name: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(name)
}

fn token_read(token: &str) -> Result<String, Error> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(token).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| invalid("Invalid or expired next token."))
}

fn fifo_without_saying() -> Error {
    names::check(FIFO, false).err().unwrap_or_else(|| attributes::unknown("FifoQueue"))
}

/// Whether a queue is as it is asked for.
fn same(live: &Live, asked: &BTreeMap<String, String>) -> Result<(), Error> {
    let shown = attributes::shown(&live.kept().record.attributes, live.is_fifo);
    let differs = |(name, value): &(&String, &String)| match shown.get(*name) {
        Some(kept) => kept != *value && as_json(kept) != as_json(value),
        None => !value.is_empty(),
    };
    match asked.iter().find(differs) {
        Some((name, _)) => Err(queue_name_exists(format!(
            "A queue already exists with the same name and a different value for attribute {name}"
        ))),
        None => Ok(()),
    }
}

/// Documents are the same whatever their white space.
fn as_json(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text).ok().or_else(|| Some(text.into()))
}

impl Queues {
    /// Whether a queue may send its dead letters where it wants to.
    fn may_redrive(&self, place: &Place, attributes: &BTreeMap<String, String>) -> Result<(), Error> {
        let Some(redrive) = Settings::of(attributes).redrive else { return Ok(()) };
        let text = attributes.get("RedrivePolicy").map_or("", String::as_str);
        let refused = |reason: &str| invalid_value(text, "RedrivePolicy", reason);
        if (&redrive.target.account, &redrive.target.region) != (&place.account, &place.region) {
            return Err(refused("Dead letter target must be in the account and the region of its source."));
        }
        let target =
            self.inner.all.find(&redrive.target).ok_or_else(|| refused("Dead letter target does not exist."))?;
        if target.is_fifo != place.name.ends_with(FIFO) {
            return Err(refused("Dead-letter queue must be same type of queue as the source."));
        }
        if !target.kept().settings.allow.lets(&place.arn()) {
            return Err(refused("Dead letter target does not let this queue use it."));
        }
        Ok(())
    }
}
