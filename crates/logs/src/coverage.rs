//! What works of CloudWatch Logs.

use hearth_wire::coverage::{Coverage, kept, refused, works};

pub const COVERAGE: &[Coverage] = &[
    Coverage {
        operation: "CreateLogGroup",
        parameters: &[
            refused("kmsKeyId", "there is no KMS"),
            kept("logGroupClass", "every class can do what STANDARD can; DELIVERY is refused"),
        ],
    },
    works("CreateLogStream"),
    works("DeleteLogGroup"),
    works("DeleteLogStream"),
    works("DeleteMetricFilter"),
    works("DeleteRetentionPolicy"),
    works("DeleteSubscriptionFilter"),
    works("DescribeQueries"),
    Coverage { operation: "DescribeLogGroups", parameters: &[kept("includeLinkedAccounts", "no account is linked")] },
    works("DescribeLogStreams"),
    works("DescribeMetricFilters"),
    works("DescribeSubscriptionFilters"),
    works("FilterLogEvents"),
    works("GetLogEvents"),
    works("GetLogRecord"),
    works("GetQueryResults"),
    Coverage {
        operation: "ListLogGroups",
        parameters: &[
            kept("includeLinkedAccounts", "no account is linked"),
            refused("dataSources", ""),
            refused("fieldIndexNames", ""),
        ],
    },
    works("ListTagsForResource"),
    works("ListTagsLogGroup"),
    Coverage { operation: "PutLogEvents", parameters: &[kept("entity", "checked, without effect")] },
    works("PutLogGroupDeletionProtection"),
    Coverage {
        operation: "PutMetricFilter",
        parameters: &[
            refused("applyOnTransformedLogs", ""),
            refused("fieldSelectionCriteria", ""),
            refused("emitSystemFieldDimensions", ""),
        ],
    },
    works("PutRetentionPolicy"),
    Coverage { operation: "StartQuery", parameters: &[kept("queryLanguage", "CWLI; other languages are refused")] },
    works("StartLiveTail"),
    works("StopQuery"),
    Coverage {
        operation: "PutSubscriptionFilter",
        parameters: &[
            kept("destinationArn", "functions; their policies are not asked. Other destinations are refused"),
            kept("roleArn", "functions need none"),
            kept("distribution", "means nothing to functions"),
            refused("applyOnTransformedLogs", ""),
            refused("fieldSelectionCriteria", ""),
            refused("emitSystemFields", ""),
        ],
    },
    works("TagLogGroup"),
    works("TagResource"),
    works("TestMetricFilter"),
    works("UntagLogGroup"),
    works("UntagResource"),
];
