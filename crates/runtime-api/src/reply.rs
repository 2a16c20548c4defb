//! What runtimes are told, with AWS's statuses and texts (spec 4.1 to 4.3).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::protocol::{Event, Refusal};

pub(crate) type Reply = Response<Full<Bytes>>;

pub(crate) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) fn accepted() -> Reply {
    reply(StatusCode::ACCEPTED, JSON, Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

pub(crate) fn pong() -> Reply {
    reply(StatusCode::OK, TEXT, Bytes::from_static(b"pong"))
}

pub(crate) fn unknown_route() -> Reply {
    reply(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"404 page not found\n"))
}

pub(crate) fn wrong_method() -> Reply {
    reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, Bytes::new())
}

pub(crate) fn invalid_response_mode() -> Reply {
    failure(StatusCode::BAD_REQUEST, "InvalidFunctionResponseMode", "Invalid function response mode")
}

pub(crate) fn truncated() -> Reply {
    failure(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

pub(crate) fn too_large(limit: usize) -> Reply {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

pub(crate) fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::InvalidRequestId => failure(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        Refusal::InvalidTransition { from, to } => {
            let message = format!(
                "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
            );
            failure(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
        }
        Refusal::Ended => failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error"),
    }
}

/// The answer to `next`.
pub(crate) fn event(event: &Event) -> Reply {
    let mut reply = Response::new(Full::new(event.payload.clone()));
    let headers = reply.headers_mut();
    headers.reserve(7);
    // What cannot stand in a header is left out; ids, ARNs and numbers always can.
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    put("content-type", event.content_type.as_deref().unwrap_or(JSON));
    put("lambda-runtime-aws-request-id", event.request_id.as_str());
    put("lambda-runtime-invoked-function-arn", &event.invoked_arn);
    if let Some(trace) = &event.trace {
        put("lambda-runtime-trace-id", trace);
    }
    if let Some(context) = &event.client_context {
        put("lambda-runtime-client-context", context);
    }
    if let Some(tenant) = &event.tenant {
        put("lambda-runtime-aws-tenant-id", tenant.as_str());
    }
    headers.insert("lambda-runtime-deadline-ms", HeaderValue::from(event.deadline_ms));
    reply
}

pub(crate) fn failure(status: StatusCode, error_type: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "errorMessage": message, "errorType": error_type });
    reply(status, JSON, body.to_string().into())
}

pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    reply
}
