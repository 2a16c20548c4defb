//! What works of SQS.

use hearth_wire::coverage::{Coverage, kept, refused, works};

const WITHOUT_KMS: &str = "there is no KMS; every message is sealed by the server's own key";
const NO_RATES: &str = "no queue is limited in its rate";

pub const COVERAGE: &[Coverage] = &[
    works("AddPermission"),
    works("CancelMessageMoveTask"),
    works("ChangeMessageVisibility"),
    works("ChangeMessageVisibilityBatch"),
    Coverage {
        operation: "CreateQueue",
        parameters: &[
            refused("Attributes.KmsMasterKeyId", WITHOUT_KMS),
            kept("Attributes.KmsDataKeyReusePeriodSeconds", "there is no KMS"),
            kept("Attributes.SqsManagedSseEnabled", "every message is sealed either way"),
            kept("Attributes.FifoThroughputLimit", NO_RATES),
        ],
    },
    works("DeleteMessage"),
    works("DeleteMessageBatch"),
    works("DeleteQueue"),
    works("GetQueueAttributes"),
    works("GetQueueUrl"),
    works("ListDeadLetterSourceQueues"),
    works("ListMessageMoveTasks"),
    works("ListQueueTags"),
    works("ListQueues"),
    works("PurgeQueue"),
    Coverage {
        operation: "ReceiveMessage",
        parameters: &[kept("ReceiveRequestAttemptId", "an attempt that is made again receives what is there then")],
    },
    works("RemovePermission"),
    works("SendMessage"),
    works("SendMessageBatch"),
    Coverage {
        operation: "SetQueueAttributes",
        parameters: &[
            refused("Attributes.KmsMasterKeyId", WITHOUT_KMS),
            kept("Attributes.KmsDataKeyReusePeriodSeconds", "there is no KMS"),
            kept("Attributes.SqsManagedSseEnabled", "every message is sealed either way"),
            kept("Attributes.FifoThroughputLimit", NO_RATES),
        ],
    },
    works("StartMessageMoveTask"),
    works("TagQueue"),
    works("UntagQueue"),
];
