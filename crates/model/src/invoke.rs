//! Running a function: the `Invoke` port, shaped for streaming (decision 1).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use crate::{CodeHash, FunctionVersion, Report, RequestId, Runtime, TenancyError, TenantId, Version};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One accepted call of one function version.
pub struct Invocation {
    pub request_id: RequestId,
    pub function: Arc<FunctionVersion>,
    /// The ARN exactly as invoked: with the caller's qualifier or without (spec 2.7).
    pub invoked_arn: String,
    pub payload: Bytes,
    /// `Content-Type` of the call; the runtime sees `application/json` when there is none.
    pub content_type: Option<String>,
    /// Decoded JSON text of `X-Amz-Client-Context`.
    pub client_context: Option<String>,
    /// `X-Amzn-Trace-Id`.
    pub trace: Option<String>,
    /// Keep the last 4,096 bytes of this invocation's log for [`Outcome::log_tail`].
    pub wants_log_tail: bool,
    /// Whom it is for. Only environments that have served nobody else may run it.
    pub tenant: Option<TenantId>,
    pub mode: ResponseMode,
}

/// How a caller takes the answer, whatever the runtime does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// Whole: at most [`RESPONSE_PAYLOAD_MAX`](crate::RESPONSE_PAYLOAD_MAX) bytes, and an error in place of it.
    Buffered,
    /// As it comes: at most [`STREAM_MAX`](crate::STREAM_MAX) bytes, and an error after what came before it.
    Streamed,
}

/// Runs functions. Synchronous calls, and everything later that runs one, go through it.
pub trait Invoke: Send + Sync + 'static {
    /// Ends with `Ok` as soon as the response's head is known; the body and the outcome follow in their own time.
    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Response, InvokeError>>;
}

/// A function's answer: what it is, its bytes, and how the invocation ended.
pub struct Response {
    pub head: Head,
    pub body: Body,
    /// Ready when the invocation is over and its log is complete (decision 17). Dropping it changes nothing.
    pub outcome: BoxFuture<'static, Outcome>,
}

/// The first word of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub executed_version: Version,
    /// As the runtime says it: `application/vnd.awslambda.http-integration-response` when a prelude of JSON and eight
    /// zero bytes precede the body.
    pub content_type: String,
    /// Set when the function failed before it answered: the body is the error. Status 200 and `X-Amz-Function-Error`.
    pub function_error: Option<FunctionError>,
}

/// AWS's values of `X-Amz-Function-Error`. `Unhandled` is the only one in current recordings (spec 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionError {
    Unhandled,
}

impl FunctionError {
    pub fn as_str(self) -> &'static str {
        match self {
            FunctionError::Unhandled => "Unhandled",
        }
    }
}

/// Response bytes in bounded pieces. Whoever drops it is told no more; the invocation goes on.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// The function failed after its answer had begun. No `Debug`: a function's own words are in it.
#[derive(Clone)]
pub struct BodyError {
    /// As the runtime told it, or of AWS's vocabulary.
    pub error_type: String,
    /// The error as JSON.
    pub details: Bytes,
}

/// More was answered than the caller takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response is larger than {limit} bytes")]
pub struct TooLarge {
    pub limit: usize,
}

/// How an invocation ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub report: Report,
    /// The last 4,096 bytes of the invocation's log, START to REPORT, when asked for.
    pub log_tail: Option<Bytes>,
}

/// AWS's `Reason` values of a throttle (spec 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThrottleReason {
    ConcurrentInvocationLimitExceeded,
    ReservedFunctionConcurrentInvocationLimitExceeded,
    FunctionInvocationRateLimitExceeded,
}

impl ThrottleReason {
    pub fn as_str(self) -> &'static str {
        match self {
            ThrottleReason::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
            ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded => {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
            ThrottleReason::FunctionInvocationRateLimitExceeded => "FunctionInvocationRateLimitExceeded",
        }
    }
}

/// Why an invocation did not run. The function has seen nothing of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvokeError {
    #[error("throttled: {}", .0.as_str())]
    Throttled(ThrottleReason),
    /// No room within `environments.wait`. Retryable.
    #[error("the host's memory budget of {budget_mb} MB is in use")]
    HostFull { budget_mb: u64 },
    #[error("runtime {0} is not installed on this host")]
    RuntimeMissing(Runtime),
    #[error("version {} of runtime {runtime} is not kept on this host", .version.to_hex())]
    RuntimeVersionMissing { runtime: Runtime, version: CodeHash },
    #[error(transparent)]
    Tenancy(#[from] TenancyError),
    /// The function's architecture is not the host's.
    #[error("functions for {0} cannot run on this host")]
    OtherArchitecture(&'static str),
    /// The host lets nothing be confined, and functions do not run otherwise.
    #[error("functions cannot run confined on this host: {reason}")]
    Unconfined { reason: Arc<str> },
    /// The server is shutting down. Retryable.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The platform failed; the operator finds the cause in the server's log.
    #[error("internal error: {0}")]
    Internal(Arc<str>),
}

impl Response {
    /// The buffered answer: the whole body, at most `limit` bytes; an error that came after its beginning takes its
    /// place.
    pub async fn collect(self, limit: usize) -> Result<(Head, Bytes, BoxFuture<'static, Outcome>), TooLarge> {
        let Response { mut head, mut body, outcome } = self;
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(piece) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(BodyError { details, .. }) => {
                    head.function_error = Some(FunctionError::Unhandled);
                    head.content_type = "application/json".to_owned();
                    return Ok((head, details, outcome));
                }
            };
            if first.as_ref().map_or(0, Bytes::len) + rest.len() + piece.len() > limit {
                return Err(TooLarge { limit });
            }
            // One piece is the common case and is passed on without a copy.
            match &first {
                None => first = Some(piece),
                Some(_) => rest.extend_from_slice(&piece),
            }
        }
        let whole = match first {
            Some(first) if rest.is_empty() => first,
            Some(first) => [first.as_ref(), rest.as_ref()].concat().into(),
            None => Bytes::new(),
        };
        Ok((head, whole, outcome))
    }
}
