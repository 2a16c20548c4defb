//! What is said of an object that is to be made: the same members in each of the shapes that make one.

/// Refuses by name what is not built. `$operation` with the shape by reference.
macro_rules! refuse_creating {
    ($operation:literal, $input:expr) => {{
        let input = $input;
        let grants = input.grant_full_control.is_some()
            || input.grant_read.is_some()
            || input.grant_read_acp.is_some()
            || input.grant_write_acp.is_some();
        $crate::refuse::acl(input.acl.as_ref(), grants)?;
        $crate::refuse::encryption($operation, input.server_side_encryption.as_ref())?;
        $crate::refuse::given(
            $operation,
            &[
                (input.sse_customer_algorithm.is_some(), "SSECustomerAlgorithm"),
                (input.ssekms_key_id.is_some(), "SSEKMSKeyId"),
                (input.object_lock_mode.is_some(), "ObjectLockMode"),
                (input.object_lock_legal_hold_status.is_some(), "ObjectLockLegalHoldStatus"),
                (input.object_lock_retain_until_date.is_some(), "ObjectLockRetainUntilDate"),
                (input.website_redirect_location.is_some(), "WebsiteRedirectLocation"),
            ],
        )?;
    }};
}
pub(super) use refuse_creating;

/// The headers that are kept with it.
macro_rules! headers_given {
    ($input:expr) => {
        $crate::record::Headers {
            content_type: $input.content_type.clone(),
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $crate::handlers::objects::content_encoding($input.content_encoding.as_deref()),
            content_language: $input.content_language.clone(),
            expires_ms: $input.expires.as_ref().and_then($crate::handlers::millis),
            metadata: $crate::handlers::objects::metadata($input.metadata.as_ref())?,
        }
    };
}
pub(super) use headers_given;
