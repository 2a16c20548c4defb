//! The services that are generated. Groups are Hearth's own: the crates that own the records implement their traits.

use super::{Protocol, Service};

pub const SERVICES: &[Service] = &[
    Service { name: "lambda", version: "2015-03-31", protocol: Protocol::RestJson, whole: true, groups: LAMBDA },
    Service { name: "logs", version: "2014-03-28", protocol: LOGS_JSON, whole: false, groups: LOGS },
    Service { name: "iam", version: "2010-05-08", protocol: Protocol::Query, whole: false, groups: IAM },
    Service { name: "scheduler", version: "2021-06-30", protocol: Protocol::RestJson, whole: true, groups: SCHEDULER },
    Service { name: "sqs", version: "2012-11-05", protocol: SQS_JSON, whole: true, groups: SQS },
    Service { name: "sts", version: "2011-06-15", protocol: Protocol::Query, whole: false, groups: STS },
];

const LOGS_JSON: Protocol = Protocol::AwsJson { invalid: "InvalidParameterException" };

const SQS_JSON: Protocol = Protocol::AwsJsonAndQuery { invalid: "InvalidParameterValue" };

/// The trait of `account` is `AccountApi`.
#[rustfmt::skip]
const LAMBDA: &[(&str, &[&str])] = &[
    ("account", &["GetAccountSettings"]),
    ("aliases", &["CreateAlias", "DeleteAlias", "GetAlias", "ListAliases", "UpdateAlias"]),
    ("event_invoke_configs", &["DeleteFunctionEventInvokeConfig", "GetFunctionEventInvokeConfig",
        "ListFunctionEventInvokeConfigs", "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig"]),
    ("capacity_providers", &["CreateCapacityProvider", "DeleteCapacityProvider", "GetCapacityProvider",
        "GetFunctionScalingConfig", "ListCapacityProviders", "ListFunctionVersionsByCapacityProvider",
        "PutFunctionScalingConfig", "UpdateCapacityProvider"]),
    ("code", &["UpdateFunctionCode"]),
    ("code_signing", &["CreateCodeSigningConfig", "DeleteCodeSigningConfig", "DeleteFunctionCodeSigningConfig",
        "GetCodeSigningConfig", "GetFunctionCodeSigningConfig", "ListCodeSigningConfigs",
        "ListFunctionsByCodeSigningConfig", "PutFunctionCodeSigningConfig", "UpdateCodeSigningConfig"]),
    ("durable_executions", &["CheckpointDurableExecution", "DeleteDurableExecution", "GetDurableExecution",
        "GetDurableExecutionHistory", "GetDurableExecutionState", "ListDurableExecutionsByFunction",
        "PauseDurableExecution", "ResumeDurableExecution", "SendDurableExecutionCallbackFailure",
        "SendDurableExecutionCallbackHeartbeat", "SendDurableExecutionCallbackSuccess", "StopDurableExecution"]),
    ("event_source_mappings", &["CreateEventSourceMapping", "DeleteEventSourceMapping", "GetEventSourceMapping",
        "ListEventSourceMappings", "UpdateEventSourceMapping"]),
    ("function_urls", &["CreateFunctionUrlConfig", "DeleteFunctionUrlConfig", "GetFunctionUrlConfig",
        "ListFunctionUrlConfigs", "UpdateFunctionUrlConfig"]),
    ("functions", &["CreateFunction", "DeleteFunction", "GetFunction", "GetFunctionConfiguration", "ListFunctions",
        "UpdateFunctionConfiguration"]),
    ("invoke", &["Invoke", "InvokeAsync", "InvokeWithResponseStream"]),
    ("layers", &["AddLayerVersionPermission", "DeleteLayerVersion", "GetLayerVersion", "GetLayerVersionByArn",
        "GetLayerVersionPolicy", "ListLayerVersions", "ListLayers", "PublishLayerVersion",
        "RemoveLayerVersionPermission"]),
    ("provisioned_concurrency", &["DeleteProvisionedConcurrencyConfig", "GetProvisionedConcurrencyConfig",
        "ListProvisionedConcurrencyConfigs", "PutProvisionedConcurrencyConfig"]),
    ("recursion", &["GetFunctionRecursionConfig", "PutFunctionRecursionConfig"]),
    ("reserved_concurrency", &["DeleteFunctionConcurrency", "GetFunctionConcurrency", "PutFunctionConcurrency"]),
    ("policies", &["AddPermission", "DeleteResourcePolicy", "GetPolicy", "GetResourcePolicy", "PutResourcePolicy",
        "RemovePermission"]),
    ("runtime_management", &["GetRuntimeManagementConfig", "PutRuntimeManagementConfig"]),
    ("tags", &["ListTags", "TagResource", "UntagResource"]),
    ("versions", &["ListVersionsByFunction", "PublishVersion"]),
];

#[rustfmt::skip]
const IAM: &[(&str, &[&str])] = &[
    ("policies", &["CreatePolicy", "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "GetPolicy",
        "GetPolicyVersion", "ListEntitiesForPolicy", "ListPolicies", "ListPolicyVersions", "SetDefaultPolicyVersion"]),
    ("role_policies", &["AttachRolePolicy", "DeleteRolePolicy", "DetachRolePolicy", "GetRolePolicy",
        "ListAttachedRolePolicies", "ListRolePolicies", "PutRolePolicy"]),
    ("roles", &["CreateRole", "DeleteRole", "GetRole", "ListInstanceProfilesForRole", "ListRoleTags", "ListRoles",
        "TagRole", "UntagRole", "UpdateAssumeRolePolicy", "UpdateRole", "UpdateRoleDescription"]),
];

#[rustfmt::skip]
const LOGS: &[(&str, &[&str])] = &[
    ("events", &["FilterLogEvents", "GetLogEvents", "PutLogEvents"]),
    ("filters", &["DeleteSubscriptionFilter", "DescribeSubscriptionFilters", "PutSubscriptionFilter"]),
    ("groups", &["CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy", "DescribeLogGroups", "ListLogGroups",
        "PutLogGroupDeletionProtection", "PutRetentionPolicy"]),
    ("metric_filters", &["DeleteMetricFilter", "DescribeMetricFilters", "PutMetricFilter", "TestMetricFilter"]),
    ("queries", &["DescribeQueries", "GetLogRecord", "GetQueryResults", "StartQuery", "StopQuery"]),
    ("streams", &["CreateLogStream", "DeleteLogStream", "DescribeLogStreams"]),
    ("tail", &["StartLiveTail"]),
    ("tags", &["ListTagsForResource", "ListTagsLogGroup", "TagLogGroup", "TagResource", "UntagLogGroup",
        "UntagResource"]),
];

#[rustfmt::skip]
const SCHEDULER: &[(&str, &[&str])] = &[
    ("groups", &["CreateScheduleGroup", "DeleteScheduleGroup", "GetScheduleGroup", "ListScheduleGroups"]),
    ("schedules", &["CreateSchedule", "DeleteSchedule", "GetSchedule", "ListSchedules", "UpdateSchedule"]),
    ("tags", &["ListTagsForResource", "TagResource", "UntagResource"]),
];

#[rustfmt::skip]
const SQS: &[(&str, &[&str])] = &[
    ("messages", &["ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "DeleteMessage", "DeleteMessageBatch",
        "PurgeQueue", "ReceiveMessage", "SendMessage", "SendMessageBatch"]),
    ("moves", &["CancelMessageMoveTask", "ListDeadLetterSourceQueues", "ListMessageMoveTasks",
        "StartMessageMoveTask"]),
    ("permissions", &["AddPermission", "RemovePermission"]),
    ("queues", &["CreateQueue", "DeleteQueue", "GetQueueAttributes", "GetQueueUrl", "ListQueues",
        "SetQueueAttributes"]),
    ("tags", &["ListQueueTags", "TagQueue", "UntagQueue"]),
];

const STS: &[(&str, &[&str])] = &[("sessions", &["AssumeRole", "GetCallerIdentity", "GetSessionToken"])];
