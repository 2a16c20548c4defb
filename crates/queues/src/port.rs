//! For other rooms: sending to a queue and polling it, on behalf of a service or of somebody whose rights are known. A queue's
//! policy decides, as for clients.

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::{Facts, Principal};
use hearth_wire::Error;

use crate::access::is_let;
use crate::handle;
use crate::live::Live;
use crate::names::Place;
use crate::queues::Queues;
use crate::receiving::{Want, system_attributes};
use crate::sending::{Outgoing, check};

/// On whose behalf.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// Such as `events.amazonaws.com`, for a resource of somebody's.
    Service { name: &'a str, source_arn: &'a str, source_account: &'a str },
    /// A role of an account, such as a function's.
    Role { account: &'a str, arn: &'a str },
}

/// A message to be sent.
#[derive(Clone, Default)]
pub struct Delivery {
    pub body: String,
    pub trace: Option<String>,
    pub attributes: Vec<Attribute>,
    /// For FIFO queues.
    pub group: Option<String>,
    pub deduplication: Option<String>,
}

/// A message attribute whose value is text.
#[derive(Clone)]
pub struct Attribute {
    pub name: &'static str,
    /// `String` or `Number`.
    pub kind: &'static str,
    pub value: String,
}

/// A message that was received.
#[derive(Clone)]
pub struct Received {
    pub id: String,
    pub handle: String,
    pub body: String,
    pub body_digest: String,
    /// System attributes, as clients are shown them.
    pub attributes: Vec<(&'static str, String)>,
    pub message_attributes: std::collections::BTreeMap<String, hearth_wire_sqs::types::MessageAttributeValue>,
    pub attributes_digest: Option<String>,
}

/// Code and text are AWS's, as clients would be told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct PortError {
    pub code: String,
    pub message: String,
    /// Whether it may go well another time.
    pub passes: bool,
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        PortError {
            code: hearth_wire_sqs::query_code(&error.code).to_owned(),
            message: error.message.unwrap_or_default(),
            passes: error.status >= 500,
        }
    }
}

impl Queues {
    /// Sends a message to a queue; answers its id once it is on disk.
    pub async fn deliver(&self, sender: Sender<'_>, arn: &str, delivery: Delivery) -> Result<String, PortError> {
        let live = self.reached(sender, arn, "SendMessage")?;
        let attribute = |Attribute { name, kind, value }: Attribute| {
            let value = hearth_wire_sqs::types::MessageAttributeValue {
                data_type: Some(kind.to_owned()),
                string_value: Some(value),
                ..Default::default()
            };
            (name.to_owned(), value)
        };
        let outgoing = Outgoing {
            body: Some(delivery.body),
            delay: None,
            attributes: Some(delivery.attributes.into_iter().map(attribute).collect()),
            system: None,
            deduplication: delivery.deduplication,
            group: delivery.group,
        };
        let by = match sender {
            Sender::Service { name, .. } => name,
            Sender::Role { account, .. } => account,
        };
        let mut checked = check(&live, outgoing, by.to_owned())?;
        checked.traced(delivery.trace);
        let mut sent = self.send(&live, vec![checked]).await?;
        Ok(sent.remove(0).into_id())
    }

    /// Waits for messages of a queue.
    pub async fn poll(
        &self,
        sender: Sender<'_>,
        arn: &str,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Received>, PortError> {
        let live = self.reached(sender, arn, "ReceiveMessage")?;
        let visibility = Duration::from_secs(live.kept().settings.visibility_s);
        let taken = self.await_messages(&live, Want { limit, visibility, wait }).await?;
        let received = taken.into_iter().map(|(held, message)| Received {
            id: held.id.clone(),
            handle: handle::write(&held.receipt()),
            body_digest: message.body_digest(),
            attributes: system_attributes(&live, &held, &message),
            attributes_digest: message.attributes_digest(),
            message_attributes: message.attributes,
            body: message.body,
        });
        Ok(received.collect())
    }

    /// Ends messages that were received. Those that others hold by now stay.
    pub async fn finish(&self, sender: Sender<'_>, arn: &str, handles: &[String]) -> Result<(), PortError> {
        let live = self.reached(sender, arn, "DeleteMessage")?;
        let read = handles.iter().map(|handle| Ok((handle.clone(), handle::read(&live.queue, handle)?)));
        let receipts = read.collect::<Result<Vec<_>, Error>>()?;
        self.delete(&live, receipts).await.map(drop).map_err(PortError::from)
    }

    fn reached(&self, sender: Sender<'_>, arn: &str, action: &str) -> Result<Arc<Live>, PortError> {
        let place = Place::of_arn(arn).ok_or_else(crate::refusals::no_queue)?;
        let live = self.at(&place)?;
        let is_allowed = match sender {
            Sender::Service { name, source_arn, source_account } => {
                let facts =
                    Facts::default().with("aws:SourceArn", source_arn).with("aws:SourceAccount", source_account);
                is_let(&live, Principal::Service(name), action, &facts, false)
            }
            Sender::Role { account, arn } => {
                let facts = Facts::default().with("aws:PrincipalAccount", account).with("aws:PrincipalArn", arn);
                let principal = Principal::Account { id: account, arns: &[arn] };
                is_let(&live, principal, action, &facts, account == live.place.account)
            }
        };
        if is_allowed {
            return Ok(live);
        }
        let message = format!("Access to the resource {} is denied.", live.place.arn());
        Err(PortError { code: "AccessDenied".to_owned(), message, passes: false })
    }
}
