//! What of each operation works, parameter by parameter. Routing refuses what is not listed here.

use hearth_wire::coverage::{Coverage, Parameter, kept, refused, works};

const fn stored(name: &'static str) -> Parameter {
    kept(name, "stored and answered, without effect")
}

const COPIED: &str = "answered as given; the package is copied all the same";

/// The operations of this crate, for all its groups.
pub const COVERAGE: &[Coverage] = &[
    Coverage {
        operation: "CreateFunction",
        parameters: &[
            stored("VpcConfig"),
            stored("KMSKeyArn"),
            stored("TracingConfig"),
            stored("FileSystemConfigs"),
            stored("SnapStart"),
            stored("TenancyConfig"),
            kept("Code.S3ObjectStorageMode", COPIED),
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
            stored("VpcConfig"),
            stored("KMSKeyArn"),
            stored("TracingConfig"),
            stored("FileSystemConfigs"),
            stored("SnapStart"),
            refused("CapacityProviderConfig", ""),
            refused("DurableConfig", ""),
            refused("RuntimeConfig", ""),
            refused("AcceleratorConfig", ""),
        ],
    },
    works("DeleteFunction"),
    Coverage {
        operation: "UpdateFunctionCode",
        parameters: &[kept("S3ObjectStorageMode", COPIED), refused("PublishTo", ""), refused("SourceKMSKeyArn", "")],
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
    works("PutProvisionedConcurrencyConfig"),
    works("GetProvisionedConcurrencyConfig"),
    works("ListProvisionedConcurrencyConfigs"),
    works("DeleteProvisionedConcurrencyConfig"),
    Coverage {
        operation: "PutFunctionRecursionConfig",
        parameters: &[kept("RecursiveLoop", "loops are not detected yet")],
    },
    works("GetFunctionRecursionConfig"),
    Coverage {
        operation: "PutRuntimeManagementConfig",
        parameters: &[
            kept("UpdateRuntimeOn", "functions run on the runtime that the host has"),
            kept("RuntimeVersionArn", "functions run on the runtime that the host has"),
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
    works("CreateFunctionUrlConfig"),
    works("GetFunctionUrlConfig"),
    works("UpdateFunctionUrlConfig"),
    works("DeleteFunctionUrlConfig"),
    works("ListFunctionUrlConfigs"),
    Coverage { operation: "PublishLayerVersion", parameters: &[kept("Content.S3ObjectStorageMode", COPIED)] },
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
