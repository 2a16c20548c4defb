//! Receipt handles: which taking of which message of which queue, as text that clients do not look into.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_store::queue::{QueueName, Receipt};
use hearth_wire::Error;
use hearth_wire_sqs::errors::receipt_handle_is_invalid;

/// Longest handle that an answer repeats, characters.
const SHOWN_MAX: usize = 200;

pub fn write(receipt: &Receipt) -> String {
    STANDARD.encode(format!("{} {} {}", receipt.queue.name, receipt.id, receipt.turn))
}

/// Handles of other queues are none of this one's.
pub fn read(queue: &Arc<QueueName>, handle: &str) -> Result<Receipt, Error> {
    parse(queue, handle).ok_or_else(|| {
        let shown: String = handle.chars().take(SHOWN_MAX).collect();
        receipt_handle_is_invalid(format!("The input receipt handle \"{shown}\" is not a valid receipt handle."))
    })
}

fn parse(queue: &Arc<QueueName>, handle: &str) -> Option<Receipt> {
    let text = String::from_utf8(STANDARD.decode(handle).ok()?).ok()?;
    let mut parts = text.split(' ');
    let (name, id, turn) = (parts.next()?, parts.next()?, parts.next()?);
    let turn = turn.parse().ok()?;
    (name == queue.name && parts.next().is_none()).then(|| Receipt { queue: queue.clone(), id: id.to_owned(), turn })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(name: &str) -> Arc<QueueName> {
        Arc::new(QueueName { partition: "p".to_owned(), kind: "sqs", name: name.to_owned() })
    }

    proptest! {
        #[test]
        fn a_handle_reads_as_what_was_written_in_its_queue_alone(id in "[a-f0-9-]{1,36}", turn in any::<u32>(), other in "\\PC{0,40}") {
            let receipt = Receipt { queue: queue("a"), id, turn };
            let handle = write(&receipt);
            prop_assert_eq!(read(&queue("a"), &handle).ok(), Some(receipt));
            prop_assert!(read(&queue("b"), &handle).is_err());
            prop_assert!(read(&queue("a"), &other).is_err());
        }
    }
}
