//! What works of SQS.

use hearth_wire::coverage::{Coverage, Parameter, kept, works};

const ATTRIBUTES: Parameter = kept(
    "Attributes",
    "all work but: KmsMasterKeyId is refused, for there is no KMS; KmsDataKeyReusePeriodSeconds and SqsManagedSseEnabled are \
     kept, as every message is sealed either way; FifoThroughputLimit is kept, as no queue is limited in its rate",
);

pub const COVERAGE: &[Coverage] = &[
    works("AddPermission"),
    works("CancelMessageMoveTask"),
    works("ChangeMessageVisibility"),
    works("ChangeMessageVisibilityBatch"),
    Coverage { operation: "CreateQueue", parameters: &[ATTRIBUTES] },
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
    Coverage { operation: "SetQueueAttributes", parameters: &[ATTRIBUTES] },
    works("StartMessageMoveTask"),
    works("TagQueue"),
    works("UntagQueue"),
];
