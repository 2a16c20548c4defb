//! What of each operation works, parameter by parameter. Routing refuses what is not listed here.

use hearth_wire::{Coverage, Parameter, ParameterStatus};

const fn kept(name: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Kept, note: "stored and answered, without effect" }
}

const fn kept_as(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Kept, note }
}

const fn refused(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Refused, note }
}

const fn works(operation: &'static str) -> Coverage {
    Coverage { operation, parameters: &[] }
}

const COPIED: &str = "answered as given; the package is copied all the same";

/// The operations of this crate, for all its groups.
pub const COVERAGE: &[Coverage] = &[
    Coverage {
        operation: "CreateFunction",
        parameters: &[
            kept("VpcConfig"),
            kept("DeadLetterConfig"),
            kept("KMSKeyArn"),
            kept("TracingConfig"),
            kept("FileSystemConfigs"),
            kept("SnapStart"),
            kept("TenancyConfig"),
            kept_as("Code.S3ObjectStorageMode", COPIED),
            refused("Code.SourceKMSKeyArn", ""),
            refused("PublishTo", ""),
            refused("CapacityProviderConfig", ""),
            refused("DurableConfig", ""),
            refused("RuntimeConfig", ""),
            refused("AcceleratorConfig", ""),
        ],
    },
    works("GetFunction"),
    works("GetFunctionConfiguration"),
    works("ListFunctions"),
    Coverage {
        operation: "UpdateFunctionConfiguration",
        parameters: &[
            kept("VpcConfig"),
            kept("DeadLetterConfig"),
            kept("KMSKeyArn"),
            kept("TracingConfig"),
            kept("FileSystemConfigs"),
            kept("SnapStart"),
            refused("CapacityProviderConfig", ""),
            refused("DurableConfig", ""),
            refused("RuntimeConfig", ""),
            refused("AcceleratorConfig", ""),
        ],
    },
    works("DeleteFunction"),
    Coverage {
        operation: "UpdateFunctionCode",
        parameters: &[kept_as("S3ObjectStorageMode", COPIED), refused("PublishTo", ""), refused("SourceKMSKeyArn", "")],
    },
    works("GetAccountSettings"),
    Coverage { operation: "PublishVersion", parameters: &[refused("PublishTo", "")] },
    works("ListVersionsByFunction"),
    works("CreateAlias"),
    works("UpdateAlias"),
    works("GetAlias"),
    works("ListAliases"),
    works("DeleteAlias"),
    works("PutFunctionConcurrency"),
    works("GetFunctionConcurrency"),
    works("DeleteFunctionConcurrency"),
    Coverage {
        operation: "PutFunctionRecursionConfig",
        parameters: &[kept_as("RecursiveLoop", "loops are not detected yet")],
    },
    works("GetFunctionRecursionConfig"),
    Coverage {
        operation: "PutRuntimeManagementConfig",
        parameters: &[
            kept_as("UpdateRuntimeOn", "functions run on the runtime that the host has"),
            kept_as("RuntimeVersionArn", "functions run on the runtime that the host has"),
        ],
    },
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
    Coverage { operation: "PublishLayerVersion", parameters: &[kept_as("Content.S3ObjectStorageMode", COPIED)] },
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
        parameters: &[kept_as("AllowedPublishers", "every package counts as unsigned")],
    },
    Coverage {
        operation: "UpdateCodeSigningConfig",
        parameters: &[kept_as("AllowedPublishers", "every package counts as unsigned")],
    },
    works("GetCodeSigningConfig"),
    works("DeleteCodeSigningConfig"),
    works("ListCodeSigningConfigs"),
    works("ListFunctionsByCodeSigningConfig"),
    works("PutFunctionCodeSigningConfig"),
    works("GetFunctionCodeSigningConfig"),
    works("DeleteFunctionCodeSigningConfig"),
];
