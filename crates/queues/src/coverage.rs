//! What works of SQS.

<<<<<<< HEAD
use hearth_wire::coverage::{Coverage, kept, refused, works};

const WITHOUT_KMS: &str = "there is no KMS; every message is sealed by the server's own key";
const NO_RATES: &str = "no queue is limited in its rate";
=======
use hearth_wire::coverage::{Coverage, Parameter, kept, works};

const ATTRIBUTES: Parameter = kept(
    "Attributes",
    "all work but: KmsMasterKeyId is refused, for there is no KMS; KmsDataKeyReusePeriodSeconds and SqsManagedSseEnabled are \
     kept, as every message is sealed either way; FifoThroughputLimit is kept, as no queue is limited in its rate",
);
>>>>>>> w-sqs

pub const COVERAGE: &[Coverage] = &[
    works("AddPermission"),
    works("CancelMessageMoveTask"),
    works("ChangeMessageVisibility"),
    works("ChangeMessageVisibilityBatch"),
<<<<<<< HEAD
    Coverage {
        operation: "CreateQueue",
        parameters: &[
            refused("Attributes.KmsMasterKeyId", WITHOUT_KMS),
            kept("Attributes.KmsDataKeyReusePeriodSeconds", "there is no KMS"),
            kept("Attributes.SqsManagedSseEnabled", "every message is sealed either way"),
            kept("Attributes.FifoThroughputLimit", NO_RATES),
        ],
    },
=======
    Coverage { operation: "CreateQueue", parameters: &[ATTRIBUTES] },
>>>>>>> w-sqs
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
<<<<<<< HEAD
    Coverage {
        operation: "SetQueueAttributes",
        parameters: &[
            refused("Attributes.KmsMasterKeyId", WITHOUT_KMS),
            kept("Attributes.KmsDataKeyReusePeriodSeconds", "there is no KMS"),
            kept("Attributes.SqsManagedSseEnabled", "every message is sealed either way"),
            kept("Attributes.FifoThroughputLimit", NO_RATES),
        ],
    },
=======
    Coverage { operation: "SetQueueAttributes", parameters: &[ATTRIBUTES] },
>>>>>>> w-sqs
    works("StartMessageMoveTask"),
    works("TagQueue"),
    works("UntagQueue"),
];
