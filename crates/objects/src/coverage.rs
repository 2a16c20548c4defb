//! What of S3 works, parameter by parameter. `door` refuses operations that are not listed here.

use hearth_wire::coverage::{Coverage, Parameter, kept, refused, works};

const ACL: Parameter =
    refused("ACL", "as AWS's buckets without ACLs: private and bucket-owner-full-control are accepted");
const ENCRYPTION: Parameter = kept("ServerSideEncryption", "AES256 is accepted, without effect; others are refused");
const CLASS: Parameter = kept("StorageClass", "answered as given; archives that must be restored are refused");
const CUSTOMER_KEY: Parameter = refused("SSECustomerAlgorithm", "");
const KMS_KEY: Parameter = refused("SSEKMSKeyId", "");
const LOCK_MODE: Parameter = refused("ObjectLockMode", "");
const LOCK_HOLD: Parameter = refused("ObjectLockLegalHoldStatus", "");
const LOCK_UNTIL: Parameter = refused("ObjectLockRetainUntilDate", "");
const REDIRECT: Parameter = refused("WebsiteRedirectLocation", "");
const MFA: Parameter = refused("MFA", "");
const GOVERNANCE: Parameter = refused("BypassGovernanceRetention", "");

const WRITING: &[Parameter] =
    &[ACL, ENCRYPTION, CLASS, CUSTOMER_KEY, KMS_KEY, LOCK_MODE, LOCK_HOLD, LOCK_UNTIL, REDIRECT];

/// The operations that are built. Parameters that are not named work.
pub const COVERAGE: &[Coverage] = &[
    works("ListBuckets"),
    Coverage {
        operation: "CreateBucket",
        parameters: &[
            refused("ACL", "private is accepted"),
            refused("ObjectLockEnabledForBucket", ""),
            refused("ObjectOwnership", "BucketOwnerEnforced is accepted"),
        ],
    },
    works("HeadBucket"),
    works("DeleteBucket"),
    works("GetBucketLocation"),
    works("GetBucketVersioning"),
    Coverage { operation: "PutBucketVersioning", parameters: &[refused("MFADelete", "")] },
    works("GetBucketTagging"),
    works("PutBucketTagging"),
    works("DeleteBucketTagging"),
    Coverage { operation: "PutObject", parameters: WRITING },
    Coverage { operation: "GetObject", parameters: &[CUSTOMER_KEY] },
    Coverage { operation: "HeadObject", parameters: &[CUSTOMER_KEY] },
    Coverage { operation: "GetObjectAttributes", parameters: &[CUSTOMER_KEY] },
    Coverage {
        operation: "DeleteObject",
        parameters: &[MFA, GOVERNANCE, refused("IfMatchSize", ""), refused("IfMatchLastModifiedTime", "")],
    },
    Coverage { operation: "DeleteObjects", parameters: &[MFA, GOVERNANCE] },
    Coverage { operation: "CopyObject", parameters: WRITING },
    works("GetObjectTagging"),
    works("PutObjectTagging"),
    works("DeleteObjectTagging"),
    works("ListObjects"),
    works("ListObjectsV2"),
    works("ListObjectVersions"),
    Coverage { operation: "CreateMultipartUpload", parameters: WRITING },
    Coverage { operation: "UploadPart", parameters: &[CUSTOMER_KEY] },
    Coverage { operation: "UploadPartCopy", parameters: &[CUSTOMER_KEY] },
    Coverage { operation: "CompleteMultipartUpload", parameters: &[CUSTOMER_KEY] },
    Coverage { operation: "AbortMultipartUpload", parameters: &[refused("IfMatchInitiatedTime", "")] },
    works("ListParts"),
    works("ListMultipartUploads"),
];

/// Every operation of S3.
pub const OPERATIONS: &[&str] = &[
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateBucketMetadataConfiguration",
    "CreateBucketMetadataTableConfiguration",
    "CreateMultipartUpload",
    "CreateSession",
    "DeleteBucket",
    "DeleteBucketAnalyticsConfiguration",
    "DeleteBucketCors",
    "DeleteBucketEncryption",
    "DeleteBucketIntelligentTieringConfiguration",
    "DeleteBucketInventoryConfiguration",
    "DeleteBucketLifecycle",
    "DeleteBucketMetadataConfiguration",
    "DeleteBucketMetadataTableConfiguration",
    "DeleteBucketMetricsConfiguration",
    "DeleteBucketOwnershipControls",
    "DeleteBucketPolicy",
    "DeleteBucketReplication",
    "DeleteBucketTagging",
    "DeleteBucketWebsite",
    "DeleteObject",
    "DeleteObjectAnnotation",
    "DeleteObjectTagging",
    "DeleteObjects",
    "DeletePublicAccessBlock",
    "GetBucketAbac",
    "GetBucketAccelerateConfiguration",
    "GetBucketAcl",
    "GetBucketAnalyticsConfiguration",
    "GetBucketCors",
    "GetBucketEncryption",
    "GetBucketIntelligentTieringConfiguration",
    "GetBucketInventoryConfiguration",
    "GetBucketLifecycle",
    "GetBucketLifecycleConfiguration",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketMetadataConfiguration",
    "GetBucketMetadataTableConfiguration",
    "GetBucketMetricsConfiguration",
    "GetBucketNotification",
    "GetBucketNotificationConfiguration",
    "GetBucketOwnershipControls",
    "GetBucketPolicy",
    "GetBucketPolicyStatus",
    "GetBucketReplication",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetBucketWebsite",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAnnotation",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectLockConfiguration",
    "GetObjectRetention",
    "GetObjectTagging",
    "GetObjectTorrent",
    "GetPublicAccessBlock",
    "HeadBucket",
    "HeadObject",
    "ListBucketAnalyticsConfigurations",
    "ListBucketIntelligentTieringConfigurations",
    "ListBucketInventoryConfigurations",
    "ListBucketMetricsConfigurations",
    "ListBuckets",
    "ListDirectoryBuckets",
    "ListMultipartUploads",
    "ListObjectAnnotations",
    "ListObjectVersions",
    "ListObjects",
    "ListObjectsV2",
    "ListParts",
    "PutBucketAbac",
    "PutBucketAccelerateConfiguration",
    "PutBucketAcl",
    "PutBucketAnalyticsConfiguration",
    "PutBucketCors",
    "PutBucketEncryption",
    "PutBucketIntelligentTieringConfiguration",
    "PutBucketInventoryConfiguration",
    "PutBucketLifecycle",
    "PutBucketLifecycleConfiguration",
    "PutBucketLogging",
    "PutBucketMetricsConfiguration",
    "PutBucketNotification",
    "PutBucketNotificationConfiguration",
    "PutBucketOwnershipControls",
    "PutBucketPolicy",
    "PutBucketReplication",
    "PutBucketRequestPayment",
    "PutBucketTagging",
    "PutBucketVersioning",
    "PutBucketWebsite",
    "PutObject",
    "PutObjectAcl",
    "PutObjectAnnotation",
    "PutObjectLegalHold",
    "PutObjectLockConfiguration",
    "PutObjectRetention",
    "PutObjectTagging",
    "PutPublicAccessBlock",
    "RenameObject",
    "RestoreObject",
    "SelectObjectContent",
    "UpdateBucketMetadataAnnotationTableConfiguration",
    "UpdateBucketMetadataInventoryTableConfiguration",
    "UpdateBucketMetadataJournalTableConfiguration",
    "UpdateObjectEncryption",
    "UploadPart",
    "UploadPartCopy",
    "WriteGetObjectResponse",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered_is_an_operation() {
        assert!(OPERATIONS.is_sorted());
        for covered in COVERAGE {
            assert!(OPERATIONS.contains(&covered.operation), "{}", covered.operation);
        }
    }
}
