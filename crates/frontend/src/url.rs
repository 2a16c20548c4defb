//! Function URLs: HTTP in, an invocation, HTTP out (spec 7.1 to 7.4).
//!
//! ```text
//!   place ──► the URL ──► CORS, who may call ──► event ──► Invoke ──► answer
//! ```
//!
//! - `place`: which requests are for a URL; `cors`: preflights and headers of browsers
//! - `event`: a request as the function sees it; `answer`: what it returned, as HTTP
//!
//! Which URLs there are and whom they let is `control`'s to say.

mod answer;
mod cors;
mod event;
mod place;

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use hearth_control::{FunctionUrl, InvokeMode, NotLet, UrlAuth, url_id_was_given};
use hearth_identity::{Caller, Unproven, Wanted};
use hearth_model::{
    FunctionVersion, Functions, Invocation, InvokeError, RESPONSE_PAYLOAD_MAX, RequestId, Response as Invoked,
    ResponseMode, SYNC_PAYLOAD_MAX, Trace, draw,
};
use hearth_policy::Facts;
use hearth_wire::sigv4::Head;
use http::header::{CONNECTION, CONTENT_TYPE, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::{self, Answering, Arriving, Body, ReadError};
use crate::door::{self, Inside, Peer, Services};
use crate::guard;
use answer::{Answer, Malformed, Prelude, WITH_PRELUDE};
use event::{Iam, Received};
pub use place::Place;

const FORBIDDEN: &str = "Forbidden. For troubleshooting Function URL authorization issues, see: \
                         https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html";
/// What AWS serves.
const METHODS: &[Method] =
    &[Method::GET, Method::POST, Method::PUT, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::DELETE];

/// A request for a URL.
pub struct Asked<'a> {
    pub head: &'a request::Parts,
    pub place: Place<'a>,
    pub peer: Peer,
    pub request_id: &'a str,
}

/// Why a request did not come to an answer of the function; each is answered as AWS does.
enum Refusal {
    /// Nobody may know more: who is asking is told no reason.
    Forbidden,
    /// There never was such a URL.
    Unknown,
    BadRequest(&'static str),
    TooSlow,
    TooLarge,
    Method,
    Throttled(String),
    /// The function failed, or returned what is no answer.
    Failed,
    /// It cannot run here; the reason is for whoever reads it.
    CannotRun(String),
    Unavailable(String),
    Internal,
}

pub async fn answer(services: &Services, inside: Option<&Inside>, asked: Asked<'_>, body: Arriving) -> Response<Body> {
    if let Some(text) = guard::foreign_host(&asked.head.headers) {
        return json_answer(StatusCode::FORBIDDEN, "AccessDeniedException", &json!({"Message": text}));
    }
    let is_here =
        |url: &FunctionUrl| asked.place.region.as_deref().is_none_or(|region| region == url.arn.region.as_str());
    let Some(url) = services.control.url(&asked.place.id).filter(is_here) else {
        let known = url_id_was_given(&asked.place.id);
        return if known { Refusal::Forbidden } else { Refusal::Unknown }.rendered(asked.head);
    };
    if let Some(rules) = url.cors()
        && cors::is_preflight(asked.head)
    {
        let mut response = Response::new(Body::whole(Bytes::new()));
        *response.headers_mut() = cors::preflight(rules, &asked.head.headers);
        return response;
    }
    let mut response = match called(services, inside, &url, &asked, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.rendered(asked.head),
    };
    if let Some(rules) = url.cors() {
        cors::apply(rules, &asked.head.headers, response.headers_mut());
    }
    response
}

async fn called(
    services: &Services,
    inside: Option<&Inside>,
    url: &FunctionUrl,
    asked: &Asked<'_>,
    body: Arriving,
) -> Result<Response<Body>, Refusal> {
    let head = asked.head;
    if !METHODS.contains(&head.method) {
        return Err(Refusal::Method);
    }
    if !event::is_text(head) {
        return Err(Refusal::BadRequest("A header of the request is not in UTF-8."));
    }
    let (body, _room) = door::read(inside, body, SYNC_PAYLOAD_MAX).await.map_err(|error| match error {
        ReadError::TooLarge => Refusal::TooLarge,
        ReadError::Broken => Refusal::BadRequest("The body of the request is not whole."),
        ReadError::TooSlow => Refusal::TooSlow,
    })?;
    let caller = match url.auth() {
        UrlAuth::None => None,
        UrlAuth::Iam => Some(signed(services, url, head, &body)?),
    };
    let now = services.clock.wall();
    let let_in = services.control.lets_call(url, caller.as_ref(), facts(asked, now)).await;
    let_in.map_err(|not_let| not_permitted(url, not_let))?;
    let random = uuid::Uuid::new_v4().as_u128();
    let found = services.control.find(&url.arn).and_then(|target| target.choose(draw(random)));
    let function = found.map_err(|error| {
        services.control.wake(&url.arn);
        Refusal::Unavailable(error.to_string())
    })?;
    let given = head.headers.get("x-amzn-trace-id").and_then(|value| value.to_str().ok());
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut trace = Trace::of(given, seconds, uuid::Uuid::new_v4().as_u128());
    // A URL is no service that loops are known of.
    trace.enter(&url.arn, false);
    let event = event::written(&Received {
        head,
        body: &body,
        path: asked.place.path,
        id: url.id(),
        domain: &format!("{}.lambda-url.{}.localhost", url.id(), url.arn.region),
        account: url.arn.account.as_str(),
        request_id: asked.request_id,
        trace: given.unwrap_or_else(|| trace.for_caller.split(';').next().unwrap_or_default()),
        client: asked.peer.client,
        is_secure: asked.peer.is_secure,
        at: now,
        iam: match &caller {
            Some(caller) => Some(iam(services, caller).await?),
            None => None,
        },
    });
    let event = event.map_err(|_| Refusal::Internal)?;
    if event.len() > SYNC_PAYLOAD_MAX {
        return Err(Refusal::TooLarge);
    }
    let invocation = Invocation {
        request_id: RequestId::new(asked.request_id),
        function: function.clone(),
        invoked_arn: url.arn.to_string(),
        payload: event,
        content_type: None,
        client_context: None,
        tenant: None,
        trace: Some(trace.for_runtime),
        wants_log_tail: false,
        mode: match url.mode() {
            InvokeMode::Buffered => ResponseMode::Buffered,
            InvokeMode::Streamed => ResponseMode::Streamed,
        },
    };
    let response = services.invoke.invoke(invocation).await.map_err(|error| not_run(error, &function))?;
    let mut response = match url.mode() {
        InvokeMode::Buffered => {
            let (head, result, _) = response.collect(RESPONSE_PAYLOAD_MAX).await.map_err(|_| Refusal::Failed)?;
            if head.function_error.is_some() {
                return Err(Refusal::Failed);
            }
            described(url, &head.content_type, &result)?
        }
        InvokeMode::Streamed => streamed(url, response).await?,
    };
    if let Ok(trace) = HeaderValue::from_str(&trace.for_caller) {
        response.headers_mut().insert("x-amzn-trace-id", trace);
    }
    Ok(response)
}

/// A whole result: a description, or one that comes before the body.
fn described(url: &FunctionUrl, content_type: &str, result: &Bytes) -> Result<Response<Body>, Refusal> {
    let answer = match content_type {
        WITH_PRELUDE => Prelude::default().take(result).and_then(|answer| answer.ok_or(Malformed::Prelude)),
        _ => Answer::of(result),
    };
    let Answer { status, headers, body } = answer.map_err(|error| no_answer(url, error))?;
    Ok(with_head(status, headers, Body::whole(body)))
}

/// A result as it comes. What is not preceded by a description is passed on as it is, also what a function returns at once.
async fn streamed(url: &FunctionUrl, response: Invoked) -> Result<Response<Body>, Refusal> {
    let Invoked { head, body: mut rest, .. } = response;
    if head.function_error.is_some() {
        return Err(Refusal::Failed);
    }
    let is_described = head.content_type == WITH_PRELUDE;
    let mut prelude = Prelude::default();
    loop {
        // Also where nothing describes the answer: a function may fail before its first byte.
        let piece = std::future::poll_fn(|cx| rest.as_mut().poll_next(cx)).await;
        let piece = piece.transpose().map_err(|_| Refusal::Failed)?;
        if !is_described {
            let mut headers = HeaderMap::new();
            headers.extend(HeaderValue::from_str(&head.content_type).map(|value| (CONTENT_TYPE, value)));
            return Ok(with_head(StatusCode::OK, headers, Body::Function(Answering::new(piece, rest))));
        }
        let Some(piece) = piece else { return Err(no_answer(url, Malformed::Prelude)) };
        if let Some(answer) = prelude.take(&piece).map_err(|error| no_answer(url, error))? {
            let Answer { status, headers, body } = answer;
            return Ok(with_head(status, headers, Body::Function(Answering::new(Some(body), rest))));
        }
    }
}

fn no_answer(url: &FunctionUrl, error: Malformed) -> Refusal {
    tracing::info!(function = %url.arn, %error, "what a function returned to its URL is no answer");
    Refusal::Failed
}

fn with_head(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

/// Who has signed. Why nobody has is for the operator to read.
fn signed(services: &Services, url: &FunctionUrl, head: &request::Parts, body: &Bytes) -> Result<Caller, Refusal> {
    let signed = Head {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
    };
    let wanted = Wanted { service: "lambda", region: &url.arn.region, body: Sha256::digest(body).into() };
    services.verifier.verify(&signed, wanted).map_err(|error: Unproven| {
        tracing::info!(function = %url.arn, %error, "a call of a function URL is not signed as it must be");
        Refusal::Forbidden
    })
}

fn not_permitted(url: &FunctionUrl, not_let: NotLet) -> Refusal {
    match not_let {
        NotLet::Lacks(action) => {
            tracing::info!(function = %url.arn, action, "no policy permits a call of a function URL");
            Refusal::Forbidden
        }
        NotLet::Failed(error) => {
            tracing::error!(function = %url.arn, ?error, "the policies of a caller could not be read");
            Refusal::Internal
        }
    }
}

async fn iam(services: &Services, caller: &Caller) -> Result<Iam, Refusal> {
    let names = caller.names();
    let user_id = services.identity.user_id(&names).await.map_err(|_| Refusal::Internal)?;
    Ok(Iam {
        access_key: caller.access_key.clone().unwrap_or_default(),
        account_id: names.account,
        caller_id: user_id.clone(),
        cognito_identity: None,
        principal_org_id: None,
        user_arn: names.arn,
        user_id,
    })
}

/// What policies may ask of a request.
fn facts(asked: &Asked<'_>, now: std::time::SystemTime) -> Facts {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    let facts = Facts::default()
        .with("aws:SourceIp", asked.peer.client.to_string())
        .with("aws:SecureTransport", asked.peer.is_secure.to_string())
        .with("aws:CurrentTime", format!("{now:.0}"))
        .with("aws:EpochTime", now.as_second().to_string());
    let header = |name: HeaderName| asked.head.headers.get(name).and_then(|value| value.to_str().ok());
    let said = [("aws:UserAgent", header(USER_AGENT)), ("aws:Referer", header(REFERER))];
    said.into_iter().fold(facts, |facts, (key, value)| match value {
        Some(value) => facts.with(key, value),
        None => facts,
    })
}

fn not_run(error: InvokeError, function: &FunctionVersion) -> Refusal {
    match error {
        InvokeError::Throttled(_) => Refusal::Throttled("Rate Exceeded.".to_owned()),
        InvokeError::HostFull { budget_mb } => {
            Refusal::Throttled(format!("Rate Exceeded. The host's memory budget of {budget_mb} MB is in use."))
        }
        InvokeError::Tenancy(error) => Refusal::CannotRun(error.to_string()),
        InvokeError::RuntimeMissing(runtime) => {
            Refusal::CannotRun(format!("Runtime {runtime} is not installed on this host; see hearth runtimes."))
        }
        error @ InvokeError::RuntimeVersionMissing { .. } => {
            Refusal::CannotRun(format!("The {error}; see hearth runtimes."))
        }
        InvokeError::OtherArchitecture(architecture) => Refusal::CannotRun(format!(
            "Functions for {architecture} cannot run on this host, which is {}.",
            std::env::consts::ARCH
        )),
        InvokeError::Unconfined { reason } => {
            Refusal::CannotRun(format!("Functions cannot run confined on this host ({reason}); see hearth doctor."))
        }
        InvokeError::ShuttingDown => Refusal::Unavailable("Hearth is shutting down.".to_owned()),
        InvokeError::Internal(cause) => {
            tracing::error!(function = %function.key.name, %cause, "an invocation failed in the platform");
            Refusal::Internal
        }
    }
}

impl Refusal {
    fn rendered(self, head: &request::Parts) -> Response<Body> {
        let message = |text: &str| json!({"Message": text});
        let mut response = match &self {
            Refusal::Forbidden => json_answer(StatusCode::FORBIDDEN, "AccessDeniedException", &message(FORBIDDEN)),
            Refusal::Unknown => {
                json_answer(StatusCode::FORBIDDEN, "AccessDeniedException", &json!({"Message": Value::Null}))
            }
            Refusal::BadRequest(text) => {
                json_answer(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message(text))
            }
            Refusal::TooSlow => json_answer(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", &message(body::TOO_SLOW)),
            Refusal::TooLarge => {
                let text =
                    format!("Request must be smaller than {SYNC_PAYLOAD_MAX} bytes for the InvokeFunction operation");
                json_answer(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", &message(&text))
            }
            Refusal::Method => {
                json_answer(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedException", &message("Method Not Allowed"))
            }
            Refusal::Throttled(text) => {
                json_answer(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", &message(text))
            }
            Refusal::Failed => internal(StatusCode::BAD_GATEWAY),
            Refusal::CannotRun(text) => json_answer(StatusCode::BAD_GATEWAY, "InvalidRuntimeException", &message(text)),
            Refusal::Unavailable(text) => {
                json_answer(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", &message(text))
            }
            Refusal::Internal => internal(StatusCode::INTERNAL_SERVER_ERROR),
        };
        // Who sends what is no request gets no second try on the same connection; HTTP/2 has no such header.
        if matches!(self, Refusal::BadRequest(_) | Refusal::TooSlow) && head.version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// AWS's answer for whatever fails behind it.
fn internal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole("Internal Server Error"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static("InternalServerErrorException"));
    response
}

fn json_answer(status: StatusCode, error_type: &'static str, document: &Value) -> Response<Body> {
    let mut response = Response::new(Body::whole(document.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(error_type));
    response
}
