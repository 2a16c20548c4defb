//! Events: what functions are to run with nobody waiting for them.

use bytes::Bytes;

use crate::{BoxFuture, FunctionArn, RequestId, TenantId};

/// A call that was answered before it runs. Its payload is JSON, at most
/// [`ASYNC_PAYLOAD_MAX`](crate::ASYNC_PAYLOAD_MAX) bytes.
pub struct NewEvent {
    /// The same in every attempt.
    pub request_id: RequestId,
    /// As invoked: with the caller's qualifier or without. The function was there.
    pub arn: FunctionArn,
    pub payload: Bytes,
    pub content_type: Option<String>,
    /// Decoded JSON text of `X-Amz-Client-Context`.
    pub client_context: Option<String>,
    /// `X-Amzn-Trace-Id`, as the runtime sees it.
    pub trace: Option<String>,
    /// Whom it is for.
    pub tenant: Option<TenantId>,
    /// What it comes from, in words for operators; none when somebody called.
    pub origin: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The disk is full, or broken. Nothing was accepted.
    #[error("the event could not be stored")]
    NotStored,
    /// An event of that request id was accepted before.
    #[error("the event was accepted before")]
    Repeated,
}

/// Takes events in. `Ok` only once they are on disk.
pub trait AcceptEvents: Send + Sync + 'static {
    fn accept(&self, event: NewEvent) -> BoxFuture<'_, Result<(), AcceptError>>;
}
