//! What of each operation works, parameter by parameter. Routing refuses what is not listed here.

use hearth_wire::coverage::{Coverage, Parameter, beyond, kept, works};

/// Members that are kept until what they ask for is built (decision 36).
const VPC: Parameter =
    kept("VpcConfig", "there is no VPC: egress decides what functions reach; idle ones become inactive");
const KMS_KEY: Parameter = kept("KMSKeyArn", KEYS);
const TRACING: Parameter = kept("TracingConfig", "trace headers are passed on; nothing is sampled or sent");
const FILE_SYSTEMS: Parameter = kept("FileSystemConfigs", "there is no EFS: nothing is mounted");
const SNAP_START: Parameter = kept("SnapStart", "no snapshot is made: versions start as they do without it");
const KEYS: &str = "there is no KMS: Hearth's own keys encrypt what it keeps";

const MANAGED: &str = "managed instances";
const DURABLE: &str = "durable functions";
const PUBLISH_TO: Parameter = beyond("PublishTo", MANAGED);
const CAPACITY: Parameter = beyond("CapacityProviderConfig", MANAGED);
const ACCELERATOR: Parameter = beyond("AcceleratorConfig", MANAGED);
const DURABLE_CONFIG: Parameter = beyond("DurableConfig", DURABLE);
const RUNTIME_CONFIG: Parameter = beyond("RuntimeConfig", "customer-managed runtimes");

const REFERRED: &str = "REFERENCE asks for a version of the object and does not count in the code storage; Hearth keeps a \
                        copy beside it, so that the function goes on when the object goes";

/// The operations of this crate, for all its groups.
pub const COVERAGE: &[Coverage] = &[
    Coverage {
        operation: "CreateFunction",
        parameters: &[
            VPC,
            KMS_KEY,
            TRACING,
            FILE_SYSTEMS,
            SNAP_START,
            kept("Code.S3ObjectStorageMode", REFERRED),
            kept("Code.SourceKMSKeyArn", KEYS),
            PUBLISH_TO,
            CAPACITY,
            DURABLE_CONFIG,
            RUNTIME_CONFIG,
            ACCELERATOR,
        ],
    },
    works("GetFunction"),
    works("GetFunctionConfiguration"),
    works("ListFunctions"),
    Coverage {
        operation: "UpdateFunctionConfiguration",
        parameters: &[
            VPC,
            KMS_KEY,
            TRACING,
            FILE_SYSTEMS,
            SNAP_START,
            CAPACITY,
            DURABLE_CONFIG,
            RUNTIME_CONFIG,
            ACCELERATOR,
        ],
    },
    works("DeleteFunction"),
    Coverage {
        operation: "UpdateFunctionCode",
        parameters: &[kept("S3ObjectStorageMode", REFERRED), PUBLISH_TO, kept("SourceKMSKeyArn", KEYS)],
    },
    works("GetAccountSettings"),
    Coverage { operation: "PublishVersion", parameters: &[PUBLISH_TO] },
    works("ListVersionsByFunction"),
    works("CreateAlias"),
    works("UpdateAlias"),
    works("GetAlias"),
    works("ListAliases"),
    works("DeleteAlias"),
    works("PutFunctionConcurrency"),
    works("GetFunctionConcurrency"),
    works("DeleteFunctionConcurrency"),
    works("PutProvisionedConcurrencyConfig"),
    works("GetProvisionedConcurrencyConfig"),
    works("ListProvisionedConcurrencyConfigs"),
    works("DeleteProvisionedConcurrencyConfig"),
    works("PutFunctionRecursionConfig"),
    works("GetFunctionRecursionConfig"),
    works("PutRuntimeManagementConfig"),
    works("GetRuntimeManagementConfig"),
    works("ListTags"),
    works("TagResource"),
    works("UntagResource"),
    works("AddPermission"),
    works("RemovePermission"),
    works("GetPolicy"),
    works("GetResourcePolicy"),
    works("PutResourcePolicy"),
    works("DeleteResourcePolicy"),
    works("CreateFunctionUrlConfig"),
    works("GetFunctionUrlConfig"),
    works("UpdateFunctionUrlConfig"),
    works("DeleteFunctionUrlConfig"),
    works("ListFunctionUrlConfigs"),
    Coverage { operation: "PublishLayerVersion", parameters: &[kept("Content.S3ObjectStorageMode", REFERRED)] },
    works("GetLayerVersion"),
    works("GetLayerVersionByArn"),
    works("ListLayerVersions"),
    works("ListLayers"),
    works("DeleteLayerVersion"),
    works("AddLayerVersionPermission"),
    works("RemoveLayerVersionPermission"),
    works("GetLayerVersionPolicy"),
    Coverage {
        operation: "CreateCodeSigningConfig",
        parameters: &[kept("AllowedPublishers", "every package counts as unsigned")],
    },
    Coverage {
        operation: "UpdateCodeSigningConfig",
        parameters: &[kept("AllowedPublishers", "every package counts as unsigned")],
    },
    works("GetCodeSigningConfig"),
    works("DeleteCodeSigningConfig"),
    works("ListCodeSigningConfigs"),
    works("ListFunctionsByCodeSigningConfig"),
    works("PutFunctionCodeSigningConfig"),
    works("GetFunctionCodeSigningConfig"),
    works("DeleteFunctionCodeSigningConfig"),
];
