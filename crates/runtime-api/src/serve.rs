//! The HTTP/1.1 server in front of a [`Session`].

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{ErrorType, RESPONSE_PAYLOAD_MAX};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::session::{Answer, Event, Next, Refusal, Session};

/// Connections of one environment at a time.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;

const VERSION: &str = "/2018-06-01/";

/// Serves the Runtime API on these listeners until it is dropped.
pub async fn serve(listeners: Vec<std::net::TcpListener>, session: Session) -> io::Result<Infallible> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(listener, session.clone(), permits.clone()));
    }
    loop {
        match accepting.join_next().await {
            Some(Ok(Err(e))) => return Err(e),
            Some(Err(e)) => return Err(io::Error::other(e)),
            None => std::future::pending::<()>().await,
        }
    }
}

async fn accept(listener: TcpListener, session: Session, permits: Arc<Semaphore>) -> io::Result<Infallible> {
    let mut connections = JoinSet::new();
    loop {
        // Further connections wait in the kernel's queue, which has its own limit.
        let Ok(permit) = permits.clone().acquire_owned().await else { std::future::pending().await };
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let session = session.clone();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let generation = session.generation();
            let service = service_fn(move |request| {
                let session = session.clone();
                async move { Ok::<_, Infallible>(answer(&session, generation, request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .max_buf_size(HEAD_MAX)
                .half_close(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a Runtime API connection ended");
            }
            drop(permit);
        });
    }
}

type Reply = Response<Full<Bytes>>;

async fn answer(session: &Session, generation: u64, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let Some(path) = path.strip_prefix(VERSION) else { return other(&path) };
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["runtime", "invocation", "next"]) => next(session, generation).await,
        (&Method::POST, ["runtime", "invocation", id, "response"]) => response(session, generation, id, request).await,
        (&Method::POST, ["runtime", "invocation", id, "error"]) => error(session, generation, id, request).await,
        (&Method::POST, ["runtime", "init", "error"]) => init_error(session, generation, request).await,
        (&Method::GET, ["ping"]) => reply(StatusCode::OK, "text/plain", Bytes::from_static(b"pong")),
        (_, ["runtime", "invocation", "next"] | ["runtime", "invocation", _, "response" | "error"])
        | (_, ["runtime", "init", "error"] | ["ping"]) => {
            reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", Bytes::new())
        }
        _ => reply(StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
    }
}

/// Routes beside the Runtime API: those that Hearth does not have yet say so.
fn other(path: &str) -> Reply {
    let (error_type, message) = if path.starts_with("/2020-01-01/extension/") {
        ("Extension.NotSupported", "Extensions API is not supported")
    } else if path.starts_with("/2020-08-15/logs") {
        ("Logs.NotSupported", "Logs API is not supported")
    } else if path.starts_with("/2022-07-01/telemetry") {
        ("Telemetry.NotSupported", "Telemetry API is not supported")
    } else {
        return reply(StatusCode::NOT_FOUND, "text/plain", Bytes::new());
    };
    let status = if path.starts_with("/2020-01-01/") { StatusCode::NOT_IMPLEMENTED } else { StatusCode::ACCEPTED };
    failure(status, error_type, message)
}

async fn next(session: &Session, generation: u64) -> Reply {
    match session.next(generation) {
        Ok(Next::Now(event)) => deliver(event),
        Ok(Next::Later(later)) => match later.await {
            Ok(event) => deliver(event),
            Err(_) => refuse(Refusal::Ended),
        },
        Err(refusal) => refuse(refusal),
    }
}

fn deliver(event: Event) -> Reply {
    let mut reply = Response::new(Full::new(event.payload));
    let headers = reply.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        // What cannot stand in a header was refused at the door, or is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("lambda-runtime-aws-request-id", event.request_id.as_str());
    put("lambda-runtime-deadline-ms", &event.deadline_ms.to_string());
    put("lambda-runtime-invoked-function-arn", &event.invoked_arn);
    put("content-type", event.content_type.as_deref().unwrap_or("application/json"));
    if let Some(trace) = &event.trace {
        put("lambda-runtime-trace-id", trace);
    }
    if let Some(context) = &event.client_context
        && let Ok(value) = HeaderValue::from_bytes(context.as_bytes())
    {
        reply.headers_mut().insert("lambda-runtime-client-context", value);
    }
    reply
}

async fn response(session: &Session, generation: u64, id: &str, request: Request<Incoming>) -> Reply {
    if let Err(refusal) = session.may_answer(generation, id, "InvocationResponse") {
        return refuse(refusal);
    }
    let mode = request.headers().get("lambda-runtime-function-response-mode");
    if mode.is_some_and(|mode| mode != "streaming") {
        let body = format!(r#"{{"errorType":"{}"}}"#, ErrorType::INVALID_RESPONSE_MODE.as_str());
        let _ = session.answer(generation, id, platform_answer(ErrorType::INVALID_RESPONSE_MODE, body));
        return failure(StatusCode::BAD_REQUEST, "InvalidFunctionResponseMode", "Invalid function response mode");
    }
    let content_type = content_type(request.headers());
    let (answer, told) = match Limited::new(request.into_body(), RESPONSE_PAYLOAD_MAX).collect().await {
        Ok(collected) => {
            let error = collected.trailers().and_then(trailer_error);
            let body = collected.to_bytes();
            (error.unwrap_or(Answer { error: None, content_type, body }), None)
        }
        Err(e) if e.is::<LengthLimitError>() => {
            let message = format!("Exceeded maximum allowed payload size ({RESPONSE_PAYLOAD_MAX} bytes).");
            let body = format!(
                r#"{{"errorMessage":"Response payload size exceeded maximum allowed payload size ({RESPONSE_PAYLOAD_MAX} bytes).","errorType":"{}"}}"#,
                ErrorType::RESPONSE_TOO_LARGE.as_str()
            );
            let told = failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message);
            (platform_answer(ErrorType::RESPONSE_TOO_LARGE, body), Some(told))
        }
        Err(_) => {
            let body = format!(r#"{{"errorType":"{}"}}"#, ErrorType::TRUNCATED_RESPONSE.as_str());
            let told = failure(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated");
            (platform_answer(ErrorType::TRUNCATED_RESPONSE, body), Some(told))
        }
    };
    match session.answer(generation, id, answer) {
        Ok(()) => told.unwrap_or_else(accepted),
        Err(refusal) => refuse(refusal),
    }
}

/// A streamed response that ended in an error says so after its body (spec 4.3).
fn trailer_error(trailers: &HeaderMap) -> Option<Answer> {
    use base64::Engine;
    let error_type = trailers.get("lambda-runtime-function-error-type")?.to_str().ok()?;
    let body = trailers.get("lambda-runtime-function-error-body").map(HeaderValue::as_bytes).unwrap_or_default();
    let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    Some(Answer {
        error: Some(ErrorType::posted(error_type)),
        content_type: "application/json".to_owned(),
        body: body.into(),
    })
}

async fn error(session: &Session, generation: u64, id: &str, request: Request<Incoming>) -> Reply {
    if let Err(refusal) = session.may_answer(generation, id, "InvocationErrorResponse") {
        return refuse(refusal);
    }
    match posted_error(request).await {
        Ok(answer) => match session.answer(generation, id, answer) {
            Ok(()) => accepted(),
            Err(refusal) => refuse(refusal),
        },
        Err(reply) => *reply,
    }
}

async fn init_error(session: &Session, generation: u64, request: Request<Incoming>) -> Reply {
    match posted_error(request).await {
        Ok(mut answer) => {
            let json = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
            answer.content_type = if json { "application/json" } else { "application/octet-stream" }.to_owned();
            match session.init_error(generation, answer) {
                Ok(()) => accepted(),
                Err(refusal) => refuse(refusal),
            }
        }
        Err(reply) => *reply,
    }
}

async fn posted_error(request: Request<Incoming>) -> Result<Answer, Box<Reply>> {
    let error_type = request.headers().get("lambda-runtime-function-error-type");
    let error_type = ErrorType::posted(error_type.and_then(|value| value.to_str().ok()).unwrap_or_default());
    let content_type = content_type(request.headers());
    let body = Limited::new(request.into_body(), RESPONSE_PAYLOAD_MAX).collect().await.map_err(|e| {
        Box::new(if e.is::<LengthLimitError>() {
            let message = format!("Exceeded maximum allowed payload size ({RESPONSE_PAYLOAD_MAX} bytes).");
            failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
        } else {
            failure(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated")
        })
    })?;
    let body = body.to_bytes();
    if content_type == "application/vnd.aws.lambda.error.cause+json" {
        return Ok(without_cause(error_type, &body));
    }
    Ok(Answer { error: Some(error_type), content_type, body })
}

/// The caller gets such an error without its `errorCause` (spec 4.4).
fn without_cause(error_type: ErrorType, body: &Bytes) -> Answer {
    #[derive(serde::Deserialize, serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Error<'a> {
        error_message: std::borrow::Cow<'a, str>,
        error_type: std::borrow::Cow<'a, str>,
        #[serde(borrow, skip_serializing_if = "Option::is_none")]
        stack_trace: Option<&'a serde_json::value::RawValue>,
    }
    let parsed = serde_json::from_slice::<Error<'_>>(body).and_then(|error| serde_json::to_vec(&error));
    let (content_type, body) = match parsed {
        Ok(body) => ("application/json", body.into()),
        Err(_) => ("application/octet-stream", Bytes::from_static(b"\"Invalid error body\"")),
    };
    Answer { error: Some(error_type), content_type: content_type.to_owned(), body }
}

fn platform_answer(error: ErrorType, body: String) -> Answer {
    Answer { error: Some(error), content_type: "application/json".to_owned(), body: body.into() }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get("content-type").and_then(|value| value.to_str().ok());
    value.unwrap_or("application/json").to_owned()
}

fn accepted() -> Reply {
    reply(StatusCode::ACCEPTED, "application/json", Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

fn refuse(refusal: Refusal) -> Reply {
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

fn failure(status: StatusCode, error_type: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "errorMessage": message, "errorType": error_type });
    reply(status, "application/json", body.to_string().into())
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    reply
}
