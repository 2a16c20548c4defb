//! Which service and which operation a request means, so that services can live side by side on one port.

use http::header::{AUTHORIZATION, HOST};
use http::request;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use hearth_identity::{Caller, Identified, IdentifyError, Presented, identify};
use hearth_model::SYNC_PAYLOAD_MAX;
use hearth_wire::query::{self, Form};
use hearth_wire::rest_json::Parts;
use hearth_wire::{Context, Error, MessageKey, Reply, RoleSession};
use hearth_wire_lambda::{Info, Operation};

use crate::absent;
use crate::body::{self, Body, ReadError};
use crate::door::{Inside, Services};
use crate::guard;
use crate::operator::{self, LogsRequest};

/// Largest request of an operation that is not an invocation, bytes (recorded).
const REQUEST_MAX: usize = 70_167_211;
/// Largest form of the Query protocol, bytes.
const FORM_MAX: usize = 1024 * 1024;
/// Most memory that a request of S3 takes, bytes: objects go in pieces, documents are read whole.
const S3_ROOM: usize = 4 << 20;

/// Answers one request. `inside` is set for requests of functions.
pub async fn answer(services: &Services, inside: Option<&Inside>, request: Request<Incoming>) -> Response<Body> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let (head, body) = request.into_parts();
    let reply = match who(services, &head, inside, &request_id) {
        Err(refusal) => refusal,
        Ok(caller) if is_s3(&caller, &head) => {
            let request = Request::from_parts(head, body);
            let mut response = answer_s3(services, inside, &caller, request, &request_id).await;
            stamp(&mut response, &request_id);
            return response;
        }
        Ok(caller) if head.uri.path().starts_with("/_hearth/") => {
            let request = LogsRequest {
                account: caller.account.to_string(),
                region: caller.region.to_string(),
                ..LogsRequest::default()
            };
            let mut response = match head.method {
                Method::GET | Method::HEAD => {
                    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
                    operator::answer(&services.operator, path, query, request).await
                }
                _ => change(services, inside, &head, body).await,
            };
            stamp(&mut response, &request_id);
            return response;
        }
        Ok(caller) => serve(services, inside, &caller, &head, body, &request_id).await,
    };
    let mut response = render(reply);
    stamp(&mut response, &request_id);
    response
}

/// What Hearth itself is to do otherwise: nothing for functions, whoever they say they are.
async fn change(services: &Services, inside: Option<&Inside>, head: &request::Parts, body: Incoming) -> Response<Body> {
    if inside.is_some() {
        return operator::refused(403, "AccessDenied", "Functions change nothing here.");
    }
    match body::read(body, operator::CHANGE_MAX).await {
        Ok(body) => operator::change(&services.operator, &head.method, head.uri.path(), &body).await,
        Err(_) => operator::refused(400, "BadRequest", "The request is too long, or not whole."),
    }
}

fn who(services: &Services, head: &request::Parts, inside: Option<&Inside>, request_id: &str) -> Result<Caller, Reply> {
    if let Some(text) = guard::refusal(&head.headers) {
        return Err(Error::new(403, "AccessDeniedException", text).rest_json());
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let presented = Presented {
        authorization: header(AUTHORIZATION.as_str()),
        token: header("x-amz-security-token"),
        query: head.uri.query().unwrap_or_default(),
    };
    let mut caller = identify(&services.sessions, presented).map_err(|error| unidentified(&error, request_id))?;
    if let (Some(Inside { identity, .. }), Identified::No) = (inside, &caller.identified) {
        // The socket says who calls, whatever the signature does; only Hearth's own credentials say it better.
        caller.account = identity.account.clone();
        let (role, name) = (identity.role.clone(), identity.function.name.to_string());
        caller.identified = Identified::As(Some(RoleSession { role, name }));
    }
    Ok(caller)
}

fn unidentified(error: &IdentifyError, request_id: &str) -> Reply {
    let text = error.to_string();
    match error {
        IdentifyError::NoCredential(_) | IdentifyError::Malformed(_) => {
            Error::new(403, "IncompleteSignatureException", text).rest_json()
        }
        IdentifyError::Expired(service) if is_query(service) => query::error(
            &Error::new(403, "ExpiredToken", text),
            &format!("https://{service}.amazonaws.com/"),
            request_id,
        ),
        IdentifyError::Expired(service) if service == "s3" => {
            Error::new(400, "ExpiredToken", "The provided token has expired.").rest_xml(request_id)
        }
        IdentifyError::Expired(_) => Error::new(403, "ExpiredTokenException", text).rest_json(),
    }
}

/// Services here that speak the Query protocol.
fn is_query(service: &str) -> bool {
    matches!(service, "iam" | "sts")
}

async fn serve(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    body: Incoming,
    request_id: &str,
) -> Reply {
    let (method, path, query) = (head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
    match caller.service.as_deref() {
        Some(service) if is_query(service) => answer_query(services, inside, caller, head, body, request_id).await,
        Some("lambda") | None => {
            if let (None, Some((service, _))) = (caller.service.as_deref(), absent::target(&head.headers)) {
                return absent::refuse(service, &head.headers, b"", request_id);
            }
            if let Some((info, labels)) = hearth_wire_lambda::route(method, path, query) {
                return answer_lambda(services, inside, caller, head, (info, labels), body, request_id).await;
            }
            if caller.service.is_none() && path == "/" {
                return answer_query(services, inside, caller, head, body, request_id).await;
            }
            let message = format!(
                "Unable to determine the operation of {method} {}.",
                path.chars().take(200).collect::<String>()
            );
            Error::new(404, "UnknownOperationException", message).rest_json()
        }
        Some(other) => {
            let read = if absent::has_form(&head.headers) { body::read(body, FORM_MAX).await.ok() } else { None };
            absent::refuse(other, &head.headers, &read.unwrap_or_default(), request_id)
        }
    }
}

/// Requests of S3 are signed for it; those that are not signed at all name it in their host.
fn is_s3(caller: &Caller, head: &request::Parts) -> bool {
    match caller.service.as_deref() {
        Some(service) => service == "s3",
        None => {
            let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            name.split('.').rev().skip(1).take(2).any(|label| label.eq_ignore_ascii_case("s3"))
        }
    }
}

async fn answer_s3(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    request: Request<Incoming>,
    request_id: &str,
) -> Response<Body> {
    let _room = match inside {
        Some(inside) => inside.room(http_body::Body::size_hint(request.body()).exact(), S3_ROOM).await,
        None => None,
    };
    let caller = hearth_objects::Caller {
        account: caller.account.clone(),
        region: caller.region.clone(),
        is_signed: caller.service.is_some(),
    };
    services.objects.answer(&caller, request, request_id).await.map(Body::Objects)
}

async fn answer_query(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    body: Incoming,
    request_id: &str,
) -> Reply {
    let _room = match inside {
        Some(inside) => inside.room(http_body::Body::size_hint(&body).exact(), FORM_MAX).await,
        None => None,
    };
    let form = match head.method {
        // As in presigned URLs.
        http::Method::GET => Form::parse(head.uri.query().unwrap_or_default().as_bytes()),
        _ => match body::read(body, FORM_MAX).await {
            Ok(form) => Form::parse(&form),
            Err(_) => return Error::new(413, "RequestEntityTooLarge", "The request is too large.").rest_json(),
        },
    };
    let cx = context(caller, head, request_id);
    let by_version = || form.version() == Some(hearth_wire_iam::VERSION);
    let reply = if caller.service.as_deref().map_or_else(by_version, |service| service == "iam") {
        services.iam.answer(&cx, &form).await
    } else {
        services.sts.answer(&cx, &form).await
    };
    told_ignored(reply, &cx)
}

fn context(caller: &Caller, head: &request::Parts, request_id: &str) -> Context {
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (account, region) = (caller.account.as_str(), caller.region.as_str());
    let mut cx = Context::new(account, region, request_id, host, caller.access_key.as_deref());
    if let Identified::As(session) = &caller.identified {
        cx.session.clone_from(session);
    }
    cx
}

/// Names what was accepted and ignored.
fn told_ignored(mut reply: Reply, cx: &Context) -> Reply {
    let ignored = cx.ignored();
    if !ignored.is_empty() {
        reply.header("x-hearth-ignored", &ignored);
    }
    reply
}

async fn answer_lambda(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    (info, labels): (&'static Info, hearth_wire::route::Labels),
    body: Incoming,
    request_id: &str,
) -> Reply {
    let invoke = info.operation == Operation::Invoke;
    let limit = if invoke { SYNC_PAYLOAD_MAX } else { REQUEST_MAX };
    let _room = match inside {
        Some(inside) => inside.room(http_body::Body::size_hint(&body).exact(), limit).await,
        None => None,
    };
    let body = match body::read(body, limit).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => {
            let name = if invoke { "InvokeFunction" } else { info.name };
            let message = format!("Request must be smaller than {limit} bytes for the {name} operation");
            let error = Error::new(413, "RequestEntityTooLargeException", message);
            return Error { key: MessageKey::Upper, ..error }.rest_json();
        }
        Err(ReadError::Broken) => return Error::serialization("The request ended early.").rest_json(),
    };
    let mut cx = context(caller, head, request_id);
    let header = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
    (cx.content_type, cx.trace) = (header("content-type"), header("x-amzn-trace-id"));
    let parts = Parts { labels, query: head.uri.query().unwrap_or_default(), headers: &head.headers, body };
    let mut reply = match services.lambda.call(&cx, info.operation, parts).await {
        Ok(reply) => reply,
        Err(error) => error.rest_json(),
    };
    for (name, value) in cx.take_answer_headers() {
        reply.header(name, &value);
    }
    told_ignored(reply, &cx)
}

fn render(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Body::whole(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let no_content = reply.status == 204;
    for (name, value) in reply.headers {
        if !(no_content && name == http::header::CONTENT_TYPE) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn stamp(response: &mut Response<Body>, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
}
