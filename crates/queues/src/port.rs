//! For other rooms: sending to a queue and polling it, on behalf of a service or of somebody whose rights are known. A queue's
//! policy decides, as for clients.

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::Principal;
use hearth_store::queue::{Ms, State};
use hearth_wire::Error;
use tokio_util::sync::CancellationToken;

use crate::access::is_let;
use crate::handle;
use crate::holding::Hold;
use crate::live::Live;
use crate::names::Place;
use crate::queues::Queues;
use crate::receiving::{BYTES_MAX, Want, system_attributes};
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

/// What is wanted of a queue.
pub struct Poll {
    pub limit: usize,
    /// Bodies together, but for the first.
    pub bytes_max: u64,
    /// How long nobody else is given what is received.
    pub visibility: Duration,
    /// Longest wait for the first message.
    pub wait: Duration,
    /// Ends the wait.
    pub quit: CancellationToken,
}

/// What a poller must know of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub is_fifo: bool,
    pub visibility: Duration,
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
    /// When it can be received again.
    pub expires: Ms,
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

    /// What a poller must know of a queue, if it may do all that it needs: else what it may not.
    pub fn facts(&self, sender: Sender<'_>, arn: &str) -> Result<Facts, (&'static str, PortError)> {
        let mut live = None;
        for action in ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes"] {
            live = Some(self.reached(sender, arn, action).map_err(|error| (action, error))?);
        }
        let live = live.ok_or_else(|| ("ReceiveMessage", crate::refusals::no_queue().into()))?;
        let visibility = Duration::from_secs(live.kept().settings.visibility_s);
        Ok(Facts { is_fifo: live.is_fifo, visibility })
    }

    /// Waits for messages of a queue.
    pub async fn poll(&self, sender: Sender<'_>, arn: &str, poll: Poll) -> Result<Vec<Received>, PortError> {
        let live = self.reached(sender, arn, "ReceiveMessage")?;
        let Poll { limit, bytes_max, visibility, wait, quit } = poll;
        let want = Want { limit, bytes_max: bytes_max.min(BYTES_MAX), visibility, wait };
        let taken = self.await_messages(&live, want, quit.cancelled()).await?;
        let received = taken.into_iter().map(|(held, message)| Received {
            id: held.id.clone(),
            handle: handle::write(&held.receipt()),
            body_digest: message.body_digest(),
            attributes: system_attributes(&live, &held, &message),
            attributes_digest: message.attributes_digest(),
            message_attributes: message.attributes,
            body: message.body,
            expires: if let State::Taken(until) = held.state { until } else { 0 },
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

    /// Gives messages that were received back, to be received again at once.
    pub async fn give_back(&self, sender: Sender<'_>, arn: &str, handles: &[String]) -> Result<(), PortError> {
        let live = self.reached(sender, arn, "ChangeMessageVisibility")?;
        let holds = handles.iter().map(|handle| Hold::released(&live, handle)).collect::<Result<Vec<_>, Error>>()?;
        self.hold(&live, holds).await.map(drop).map_err(PortError::from)
    }

    fn reached(&self, sender: Sender<'_>, arn: &str, action: &str) -> Result<Arc<Live>, PortError> {
        let place = Place::of_arn(arn).ok_or_else(crate::refusals::no_queue)?;
        let live = self.at(&place)?;
        let is_allowed = match sender {
            Sender::Service { name, source_arn, source_account } => {
                let facts = hearth_policy::Facts::default()
                    .with("aws:SourceArn", source_arn)
                    .with("aws:SourceAccount", source_account);
                is_let(&live, Principal::Service(name), action, &facts, false)
            }
            Sender::Role { account, arn } => {
                let facts =
                    hearth_policy::Facts::default().with("aws:PrincipalAccount", account).with("aws:PrincipalArn", arn);
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
