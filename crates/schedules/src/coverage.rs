//! What of each operation works, parameter by parameter.

use hearth_wire::coverage::{Coverage, Parameter, kept, refused, works};

const TARGETS_ONLY: &str = "targets are functions and queues so far";

const ASKED: &[Parameter] = &[
    refused(
        "Target.Arn",
        "other targets; functions, queues of SQS, and as universal targets sqs:sendMessage and lambda:invoke work",
    ),
    kept("KmsKeyArn", "stored and answered, without effect: the data folder is sealed either way"),
    refused("Target.EcsParameters", TARGETS_ONLY),
    refused("Target.EventBridgeParameters", TARGETS_ONLY),
    refused("Target.EventBridgePutEventsV2Parameters", TARGETS_ONLY),
    refused("Target.EventBridgePutRawEventsParameters", TARGETS_ONLY),
    refused("Target.KinesisParameters", TARGETS_ONLY),
    refused("Target.SageMakerPipelineParameters", TARGETS_ONLY),
];

/// The operations of this crate.
pub const COVERAGE: &[Coverage] = &[
    Coverage { operation: "CreateSchedule", parameters: ASKED },
    works("CreateScheduleGroup"),
    works("DeleteSchedule"),
    works("DeleteScheduleGroup"),
    works("GetSchedule"),
    works("GetScheduleGroup"),
    works("ListScheduleGroups"),
    works("ListSchedules"),
    works("ListTagsForResource"),
    works("TagResource"),
    works("UntagResource"),
    Coverage { operation: "UpdateSchedule", parameters: ASKED },
];
