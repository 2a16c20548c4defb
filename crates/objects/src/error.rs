//! Errors as S3 says them.

use hearth_model::Region;
use hearth_store::{BlobsError, RecordsError};
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::{S3Error, S3ErrorCode};

fn error(code: S3ErrorCode, message: &'static str) -> S3Error {
    S3Error::with_message(code, message)
}

macro_rules! said {
    ($($name:ident, $code:ident, $message:literal;)+) => {
        $(pub fn $name() -> S3Error { error(S3ErrorCode::$code, $message) })+
    };
}

said! {
    no_bucket, NoSuchBucket, "The specified bucket does not exist";
    no_key, NoSuchKey, "The specified key does not exist.";
    no_version, NoSuchVersion, "The specified version does not exist.";
    no_upload, NoSuchUpload, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    no_tags, NoSuchTagSet, "The TagSet does not exist";
    not_empty, BucketNotEmpty, "The bucket you tried to delete is not empty";
    already_owned, BucketAlreadyOwnedByYou, "Your previous request to create the named bucket succeeded and you already own it.";
    precondition, PreconditionFailed, "At least one of the pre-conditions you specified did not hold";
    conflict, OperationAborted, "A conflicting conditional operation is currently in progress against this resource. Please try again.";
    range, InvalidRange, "The requested range is not satisfiable";
    part, InvalidPart, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
    part_order, InvalidPartOrder, "The list of parts was not in ascending order. Parts must be ordered by part number.";
    too_small, EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size";
    too_large, EntityTooLarge, "Your proposed upload exceeds the maximum allowed size";
    bad_digest, BadDigest, "The Content-MD5 you specified did not match what we received.";
    invalid_digest, InvalidDigest, "The Content-MD5 you specified was invalid.";
    incomplete, IncompleteBody, "The request body terminated unexpectedly";
    no_length, MissingContentLength, "You must provide the Content-Length HTTP header.";
    silent, RequestTimeout, "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.";
    no_acls, AccessControlListNotSupported, "The bucket does not allow ACLs";
    denied, AccessDenied, "Access Denied";
    expired, AccessDenied, "Request has expired";
    malformed, MalformedXML, "The XML you provided was not well-formed or did not validate against our published schema";
    no_method, MethodNotAllowed, "The specified method is not allowed against this resource.";
}

pub fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}

pub fn invalid_request(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message)
}

pub fn invalid_tag(message: &'static str) -> S3Error {
    error(S3ErrorCode::InvalidTag, message)
}

pub fn sha256_mismatch() -> S3Error {
    let mut error = error(
        S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    );
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}

pub fn bad_checksum(algorithm: &str) -> S3Error {
    S3Error::with_message(
        S3ErrorCode::BadDigest,
        format!("The {algorithm} you specified did not match the calculated checksum."),
    )
}

/// What is not built.
pub fn not_supported(what: &str) -> S3Error {
    let code = S3ErrorCode::Custom("NotImplementedException".into());
    let mut error = S3Error::with_message(code, format!("Hearth does not support s3:{what}."));
    error.set_status_code(StatusCode::NOT_IMPLEMENTED);
    error
}

pub fn illegal_location(given: &str) -> S3Error {
    S3Error::with_message(
        S3ErrorCode::IllegalLocationConstraintException,
        format!(
            "The {given} location constraint is incompatible for the region specific endpoint this request was sent to."
        ),
    )
}

/// Of the region that a bucket is in.
pub const BUCKET_REGION: &str = "x-amz-bucket-region";

/// Code and message of an answer that says where a bucket is.
pub const MOVED: (&str, &str) = (
    "PermanentRedirect",
    "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future \
     requests to this endpoint.",
);

/// The bucket is in another region than the one that the request was signed for.
pub fn elsewhere(region: &Region) -> S3Error {
    let mut error = error(S3ErrorCode::PermanentRedirect, MOVED.1);
    let mut headers = HeaderMap::new();
    if let Ok(region) = HeaderValue::from_str(region.as_str()) {
        headers.insert(BUCKET_REGION, region);
    }
    error.set_headers(headers);
    error
}

/// The key's current version is a delete marker.
pub fn deleted(mut error: S3Error, version: &str) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(version) = HeaderValue::from_str(version) {
        headers.insert("x-amz-version-id", version);
    }
    error.set_headers(headers);
    error
}

pub fn not_modified(etag: &str) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        headers.insert(http::header::ETAG, etag);
    }
    error.set_headers(headers);
    error
}

fn internal() -> S3Error {
    error(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
}

fn full() -> S3Error {
    error(S3ErrorCode::InternalError, "The disk of this Hearth is full.")
}

/// What cannot be read back is damage, or a fault of this program.
pub fn damaged(what: &dyn std::fmt::Display) -> S3Error {
    tracing::error!(%what, "something stored of S3 could not be read");
    internal()
}

pub fn of_records(error: RecordsError) -> S3Error {
    match error {
        RecordsError::Conflict(_) => conflict(),
        RecordsError::Full => full(),
        RecordsError::Engine(cause) => {
            tracing::error!(%cause, "a record of S3 could not be read or written");
            internal()
        }
    }
}

pub fn of_blobs(error: BlobsError) -> S3Error {
    match error {
        BlobsError::Full => full(),
        error => {
            tracing::error!(%error, "the content of an object could not be read or written");
            internal()
        }
    }
}
