//! What works of IAM and STS.

use hearth_wire::coverage::{Coverage, kept, refused, works};

/// Service and its operations.
pub const COVERAGE: &[(&str, &[Coverage])] = &[("iam", IAM), ("sts", STS)];

pub(crate) const IAM: &[Coverage] = &[
    works("AttachRolePolicy"),
    works("CreatePolicy"),
    works("CreatePolicyVersion"),
    Coverage {
        operation: "CreateRole",
        parameters: &[kept("PermissionsBoundary", "what identities may do is not enforced yet")],
    },
    works("DeletePolicy"),
    works("DeletePolicyVersion"),
    works("DeleteRole"),
    works("DeleteRolePolicy"),
    works("DetachRolePolicy"),
    works("GetPolicy"),
    works("GetPolicyVersion"),
    works("GetRole"),
    works("GetRolePolicy"),
    works("ListAttachedRolePolicies"),
    works("ListEntitiesForPolicy"),
    works("ListInstanceProfilesForRole"),
    works("ListPolicies"),
    works("ListPolicyVersions"),
    works("ListRolePolicies"),
    works("ListRoleTags"),
    works("ListRoles"),
    works("PutRolePolicy"),
    works("SetDefaultPolicyVersion"),
    works("TagRole"),
    works("UntagRole"),
    works("UpdateAssumeRolePolicy"),
    works("UpdateRole"),
    works("UpdateRoleDescription"),
];

pub(crate) const STS: &[Coverage] = &[
    Coverage {
        operation: "AssumeRole",
        parameters: &[
            refused("PolicyArns", ""),
            refused("Policy", ""),
            refused("Tags", ""),
            refused("TransitiveTagKeys", ""),
            refused("SerialNumber", ""),
            refused("TokenCode", ""),
            refused("SourceIdentity", ""),
            refused("ProvidedContexts", ""),
            refused("MinimumSessionTokenSize", ""),
        ],
    },
    works("GetCallerIdentity"),
    Coverage {
        operation: "GetSessionToken",
        parameters: &[refused("SerialNumber", ""), refused("TokenCode", ""), refused("MinimumSessionTokenSize", "")],
    },
];
