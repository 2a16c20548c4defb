//! Parameters that are refused by name, and those that only one value of is served.

use hearth_model::AccountId;
use s3s::dto::{BucketCannedACL, ObjectCannedACL, ServerSideEncryption, StorageClass};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::error::{no_acls, not_supported};

/// Storage classes that say nothing of how an object is read.
const CLASSES: &[&str] = &[
    StorageClass::STANDARD,
    StorageClass::STANDARD_IA,
    StorageClass::ONEZONE_IA,
    StorageClass::INTELLIGENT_TIERING,
    StorageClass::REDUCED_REDUNDANCY,
    StorageClass::GLACIER_IR,
];

/// Refuses by name whichever parameter is given.
pub fn given(operation: &str, parameters: &[(bool, &str)]) -> S3Result<()> {
    match parameters.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(not_supported(&format!("{operation} with {name}"))),
        None => Ok(()),
    }
}

/// Buckets have an owner who owns whatever is in them, as AWS's have unless they are told otherwise: lists of grants
/// that say anything else are refused, as AWS does.
pub fn acl(acl: Option<&ObjectCannedACL>, grants: bool) -> S3Result<()> {
    match acl.map(ObjectCannedACL::as_str) {
        _ if grants => Err(no_acls()),
        None | Some(ObjectCannedACL::PRIVATE | ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL) => Ok(()),
        Some(_) => Err(no_acls()),
    }
}

pub fn bucket_acl(acl: Option<&BucketCannedACL>, grants: bool) -> S3Result<()> {
    match acl.map(BucketCannedACL::as_str) {
        _ if grants => Err(no_acls()),
        None | Some(BucketCannedACL::PRIVATE) => Ok(()),
        Some(_) => Err(no_acls()),
    }
}

/// Keys of the service are all there is.
pub fn encryption(operation: &str, asked: Option<&ServerSideEncryption>) -> S3Result<()> {
    match asked.map(ServerSideEncryption::as_str) {
        None | Some(ServerSideEncryption::AES256) => Ok(()),
        Some(_) => Err(not_supported(&format!("{operation} with ServerSideEncryption other than AES256"))),
    }
}

/// What is stored of a class: nothing of the usual one.
pub fn class(operation: &str, asked: Option<&StorageClass>) -> S3Result<Option<String>> {
    match asked.map(StorageClass::as_str) {
        None | Some(StorageClass::STANDARD) => Ok(None),
        Some(class) if CLASSES.contains(&class) => Ok(Some(class.to_owned())),
        Some(class) => Err(not_supported(&format!("{operation} with StorageClass {class}"))),
    }
}

/// `x-amz-expected-bucket-owner`.
pub fn owner(expected: Option<&str>, account: &AccountId) -> S3Result<()> {
    match expected {
        Some(expected) if expected != account.as_str() => {
            Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"))
        }
        _ => Ok(()),
    }
}
