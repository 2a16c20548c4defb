//! What of each operation works, parameter by parameter.

use hearth_wire::coverage::{Coverage, Parameter, kept, refused, works};

const OTHERS: &str = "of sources that are refused: queues of SQS and streams of Kinesis work";

const ASKED: &[Parameter] = &[
    refused(
        "EventSourceArn",
        "streams of DynamoDB, consumers of enhanced fan-out, brokers and clusters; queues of SQS and streams of Kinesis work",
    ),
    kept("KMSKeyArn", "stored and answered, without effect"),
    refused("LoggingConfig", OTHERS),
    refused(
        "DestinationConfig",
        "of queues, which have dead letters of their own, and topics without an endpoint; queues, buckets and topics work for streams",
    ),
    refused("Topics", OTHERS),
    refused("Queues", OTHERS),
    refused("SourceAccessConfigurations", OTHERS),
    refused("SelfManagedEventSource", OTHERS),
    refused("AmazonManagedKafkaEventSourceConfig", OTHERS),
    refused("SelfManagedKafkaEventSourceConfig", OTHERS),
    refused("DocumentDBEventSourceConfig", OTHERS),
];

const CHANGED: &[Parameter] = &[
    kept("KMSKeyArn", "stored and answered, without effect"),
    refused("LoggingConfig", OTHERS),
    refused(
        "DestinationConfig",
        "of queues, which have dead letters of their own, and topics without an endpoint; queues, buckets and topics work for streams",
    ),
    refused("SourceAccessConfigurations", OTHERS),
    refused("AmazonManagedKafkaEventSourceConfig", OTHERS),
    refused("SelfManagedKafkaEventSourceConfig", OTHERS),
    refused("DocumentDBEventSourceConfig", OTHERS),
];

/// The operations of this crate.
pub const COVERAGE: &[Coverage] = &[
    Coverage { operation: "CreateEventSourceMapping", parameters: ASKED },
    Coverage { operation: "UpdateEventSourceMapping", parameters: CHANGED },
    works("GetEventSourceMapping"),
    works("ListEventSourceMappings"),
    works("DeleteEventSourceMapping"),
];
