//! Queues of the embedded SQS.

use hearth_events::{Delivery, Parcel};
use hearth_model::BoxFuture;
use hearth_queues::{Attribute, Delivery as Message, Sender};

use super::Destination;

pub struct Queues(pub hearth_queues::Queues);

impl Destination for Queues {
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.send(delivery))
    }
}

impl Queues {
    /// On behalf of the function's account.
    async fn send(&self, delivery: Delivery) -> Result<(), String> {
        let arn = format!("arn:aws:iam::{}:root", delivery.account);
        let sender = Sender::Role { account: &delivery.account, arn: &arn };
        let (body, attributes) = match delivery.parcel {
            Parcel::Record { json, .. } | Parcel::Batch { json, .. } => (json, Vec::new()),
            // Recorded names and types (spec 5.6).
            Parcel::DeadLetter { body, request_id, error_code, error_message } => {
                let attribute = |name, kind, value| Attribute { name, kind, value };
                let attributes = vec![
                    attribute("RequestID", "String", request_id),
                    attribute("ErrorCode", "Number", error_code),
                    attribute("ErrorMessage", "String", error_message),
                ];
                (body, attributes)
            }
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        let message = Message { body, trace: delivery.trace, attributes, ..Message::default() };
        self.0.deliver(sender, &delivery.target.arn, message).await.map(drop).map_err(|error| error.to_string())
    }
}
