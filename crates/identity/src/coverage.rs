//! What works of IAM and STS.

use hearth_wire::{Coverage, Parameter, ParameterStatus};

/// Service and its operations.
pub const COVERAGE: &[(&str, &[Coverage])] = &[("iam", IAM), ("sts", STS)];

const fn works(operation: &'static str) -> Coverage {
    Coverage { operation, parameters: &[] }
}

const fn refused(name: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Refused, note: "" }
}

pub(crate) const IAM: &[Coverage] = &[
    works("AttachRolePolicy"),
    works("CreatePolicy"),
    works("CreatePolicyVersion"),
    Coverage {
        operation: "CreateRole",
        parameters: &[Parameter {
            name: "PermissionsBoundary",
            status: ParameterStatus::Kept,
            note: "what identities may do is not enforced yet",
        }],
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
            refused("PolicyArns"),
            refused("Policy"),
            refused("Tags"),
            refused("TransitiveTagKeys"),
            refused("SerialNumber"),
            refused("TokenCode"),
            refused("SourceIdentity"),
            refused("ProvidedContexts"),
            refused("MinimumSessionTokenSize"),
        ],
    },
    works("GetCallerIdentity"),
    Coverage {
        operation: "GetSessionToken",
        parameters: &[refused("SerialNumber"), refused("TokenCode"), refused("MinimumSessionTokenSize")],
    },
];
