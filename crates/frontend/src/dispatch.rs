//! Which service and which operation a request means, so that services can live side by side on one port.

use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::request;
use http::{HeaderValue, Request, Response, StatusCode};

use hearth_identity::{Caller, Identified, IdentifyError, Presented, identify};
use hearth_model::SYNC_PAYLOAD_MAX;
use hearth_wire::aws_json;
use hearth_wire::query::{self, Form};
use hearth_wire::rest_json::Parts;
use hearth_wire::{Context, Error, MessageKey, Reply, ReplyBody, RoleSession};
use hearth_wire_lambda::{Info, Operation};

use crate::absent;
use crate::body::{self, Arriving, Body, ReadError};
use crate::door::{self, Inside, Peer, Services};
use crate::guard;
use crate::operator::{self, LogsRequest};
use crate::url::{self, Place};

/// Largest request of an operation that is not an invocation, bytes (recorded).
const REQUEST_MAX: usize = 70_167_211;
/// Largest request of CloudWatch Logs, bytes: a megabyte of events, escaped, and their frame.
const LOGS_MAX: usize = 8 * 1024 * 1024;
/// Largest request of SQS, bytes: a megabyte of messages, escaped, and their frame.
const SQS_MAX: usize = 8 * 1024 * 1024;
/// Largest request of EventBridge Scheduler, bytes: an input of 256 KB, escaped, and its frame.
const SCHEDULER_MAX: usize = 2 * 1024 * 1024;
/// Largest form of the Query protocol, bytes.
const FORM_MAX: usize = 1024 * 1024;
/// Most memory that a request of S3 takes, bytes: objects go in pieces, documents are read whole.
const S3_ROOM: usize = 4 << 20;

/// Answers one request. `inside` is set for requests of functions.
pub async fn answer(
    services: &Services,
    inside: Option<&Inside>,
    peer: Peer,
    request: Request<Arriving>,
) -> Response<Body> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let (mut head, body) = request.into_parts();
    head.extensions.insert(peer);
    if let Err(TwoHosts) = one_host(&mut head) {
        let mut response =
            render(Error::new(400, "InvalidRequestException", "The request names two hosts.").rest_json());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return stamped(response, &request_id);
    }
    if let Some(place) = Place::of(&head) {
        let asked = url::Asked { head: &head, place, peer, request_id: &request_id };
        return stamped(url::answer(services, inside, asked, body).await, &request_id);
    }
    let reply = match who(services, &head, inside, &request_id) {
        Err(refusal) => refusal,
        Ok(caller) if is_s3(&caller, &head) => {
            let request = Request::from_parts(head, body);
            return stamped(answer_s3(services, inside, &caller, request, &request_id).await, &request_id);
        }
        Ok(caller) if head.uri.path().starts_with("/_hearth/") => {
            let request = LogsRequest {
                account: caller.account.to_string(),
                region: caller.region.to_string(),
                ..LogsRequest::default()
            };
            let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
            let response = if operator::changes_runtimes(&head.method, path) {
                change(services, inside, &head, body).await
            } else {
                operator::answer(&services.operator, &head.method, path, query, request).await
            };
            return stamped(response, &request_id);
        }
        Ok(caller) => serve(services, inside, &caller, &head, body, &request_id).await,
    };
    stamped(render(reply), &request_id)
}

/// A request must not name two hosts (RFC 9112, 3.2).
struct TwoHosts;

/// The host is where the rest looks for it: HTTP/2 names it elsewhere, and HTTP/1 may do so, too.
fn one_host(head: &mut request::Parts) -> Result<(), TwoHosts> {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next(), authority) {
        (Some(_), Some(_), _) => Err(TwoHosts),
        (Some(host), None, Some(authority)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            Err(TwoHosts)
        }
        (None, _, Some(authority)) => {
            let host = HeaderValue::from_str(authority).map_err(|_| TwoHosts)?;
            head.headers.insert(HOST, host);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What Hearth itself is to do otherwise: nothing for functions, whoever they say they are.
async fn change(services: &Services, inside: Option<&Inside>, head: &request::Parts, body: Arriving) -> Response<Body> {
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
        IdentifyError::Expired(service) if service == "logs" => {
            Error::new(400, "ExpiredTokenException", text).aws_json(aws_json::CONTENT_TYPE)
        }
        IdentifyError::Expired(service) if service == "sqs" => {
            hearth_wire_sqs::in_json(Error::new(403, "ExpiredToken", text))
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
    body: Arriving,
    request_id: &str,
) -> Reply {
    let (method, path, query) = (head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
    match caller.service.as_deref() {
        Some(service) if is_query(service) => answer_query(services, inside, caller, head, body, request_id).await,
        Some("sqs") => answer_sqs(services, inside, caller, head, body, request_id).await,
        None if is_sqs(head) => answer_sqs(services, inside, caller, head, body, request_id).await,
        Some("logs") => answer_logs(services, inside, caller, head, body, request_id).await,
        Some("scheduler") => answer_scheduler(services, inside, caller, head, body, request_id).await,
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
            unknown_operation(method, path).rest_json()
        }
        Some(other) => {
            let read =
                if absent::has_form(&head.headers) { door::read(inside, body, FORM_MAX).await.ok() } else { None };
            let form = read.as_ref().map_or(&b""[..], |(form, _)| form);
            absent::refuse(other, &head.headers, form, request_id)
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
    request: Request<Arriving>,
    request_id: &str,
) -> Response<Body> {
    let _room = door::room(inside, &request.body().body, S3_ROOM).await;
    let Some(objects) = &services.objects else {
        let what = "s3 where servers share their records: use the S3 that keeps their packages";
        return render(Error::not_supported(what).rest_xml(request_id));
    };
    let origin = origin(request.headers(), request.extensions());
    let caller = hearth_objects::Caller {
        account: caller.account.clone(),
        region: caller.region.clone(),
        is_signed: caller.service.is_some(),
        origin,
    };
    objects.answer(&caller, request.map(|arriving| arriving.body), request_id).await.map(Body::Objects)
}

async fn answer_query(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    body: Arriving,
    request_id: &str,
) -> Reply {
    let (form, room) = match head.method {
        // As in presigned URLs.
        http::Method::GET => (Form::parse(head.uri.query().unwrap_or_default().as_bytes()), None),
        _ => match door::read(inside, body, FORM_MAX).await {
            Ok((form, room)) => (Form::parse(&form), room),
            Err(error) => return unread(error, || too_large("RequestEntityTooLarge")).rest_json(),
        },
    };
    let cx = context(caller, head, request_id);
    if caller.service.is_none() && form.version() == Some(hearth_wire_sqs::VERSION) {
        return answer_queues(services, cx, OfQueues::Form { path: String::new(), form }, room).await;
    }
    let by_version = || form.version() == Some(hearth_wire_iam::VERSION);
    let reply = if caller.service.as_deref().map_or_else(by_version, |service| service == "iam") {
        services.iam.answer(&cx, &form).await
    } else {
        services.sts.answer(&cx, &form).await
    };
    told_ignored(reply, &cx)
}

/// Requests of SQS that are not signed name it, or a queue, which is where their forms are sent.
fn is_sqs(head: &request::Parts) -> bool {
    if let Some((service, _)) = absent::target(&head.headers) {
        return service == hearth_wire_sqs::TARGET;
    }
    let mut parts = head.uri.path().trim_start_matches('/').splitn(2, '/');
    let account = parts.next().unwrap_or_default();
    let by_version = format!("Version={}", hearth_wire_sqs::VERSION);
    account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) && parts.next().is_some()
        || head.uri.path() == "/" && head.uri.query().is_some_and(|query| query.contains(&by_version))
}

async fn answer_sqs(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    body: Arriving,
    request_id: &str,
) -> Reply {
    let (body, room) = match door::read(inside, body, SQS_MAX).await {
        Ok(read) => read,
        Err(error) => return hearth_wire_sqs::in_json(unread(error, || too_large("RequestEntityTooLarge"))),
    };
    let cx = context(caller, head, request_id);
    let asked = match absent::target(&head.headers) {
        Some((_, name)) => OfQueues::Json { name: name.to_owned(), body },
        None => {
            let form = match head.method {
                http::Method::GET => Form::parse(head.uri.query().unwrap_or_default().as_bytes()),
                _ => Form::parse(&body),
            };
            OfQueues::Form { path: head.uri.path().to_owned(), form }
        }
    };
    answer_queues(services, cx, asked, room).await
}

/// What SQS is asked, in either of its protocols.
enum OfQueues {
    Json {
        name: String,
        body: bytes::Bytes,
    },
    /// Of a queue, by the path, or of none.
    Form {
        path: String,
        form: Form,
    },
}

const RECEIVE: &str = "ReceiveMessage";

/// What is received by nobody is not received: only that ends when its caller hangs up.
async fn answer_queues(services: &Services, cx: Context, asked: OfQueues, room: door::Room) -> Reply {
    let Some(sqs) = services.sqs.clone() else {
        return hearth_wire_sqs::in_json(Error::not_supported("sqs where servers share their records"));
    };
    let is_receiving = match &asked {
        OfQueues::Json { name, .. } => name == RECEIVE,
        OfQueues::Form { form, .. } => form.action().is_ok_and(|action| action == RECEIVE),
    };
    let answering = async move {
        let reply = match asked {
            OfQueues::Json { name, body } => sqs.answer(&cx, &name, &body).await,
            OfQueues::Form { path, form } => sqs.answer_form(&cx, &path, &form).await,
        };
        drop(room);
        told_ignored(reply, &cx)
    };
    if is_receiving {
        return answering.await;
    }
    let answered = to_its_end("of SQS", answering).await;
    answered.unwrap_or_else(|| hearth_wire_sqs::in_json(failed("InternalFailure")))
}

async fn answer_logs(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    body: Arriving,
    request_id: &str,
) -> Reply {
    let (body, _room) = match door::read(inside, body, LOGS_MAX).await {
        Ok(read) => read,
        Err(error) => {
            let error = unread(error, || too_large("RequestEntityTooLargeException"));
            return error.aws_json(aws_json::CONTENT_TYPE);
        }
    };
    let name = absent::target(&head.headers).filter(|(service, _)| *service == hearth_wire_logs::TARGET);
    let cx = context(caller, head, request_id);
    let reply = services.logs.answer(&cx, name.map_or("", |(_, name)| name), &body).await;
    told_ignored(reply, &cx)
}

async fn answer_scheduler(
    services: &Services,
    inside: Option<&Inside>,
    caller: &Caller,
    head: &request::Parts,
    body: Arriving,
    request_id: &str,
) -> Reply {
    let Some(scheduler) = services.scheduler.clone() else {
        return Error::not_supported("scheduler where servers share their records").rest_json();
    };
    let (method, path) = (head.method.as_str(), head.uri.path());
    let Some((info, labels)) = hearth_wire_scheduler::route(method, path) else {
        return unknown_operation(method, path).rest_json();
    };
    let (body, room) = match door::read(inside, body, SCHEDULER_MAX).await {
        Ok(read) => read,
        Err(error) => return unread(error, || too_large("RequestEntityTooLargeException")).rest_json(),
    };
    let cx = context(caller, head, request_id);
    let (headers, query) = (head.headers.clone(), head.uri.query().unwrap_or_default().to_owned());
    let calling = async move {
        let parts = Parts { labels, query: &query, headers: &headers, body };
        let answer = scheduler.call(&cx, info.operation, parts).await;
        drop(room);
        told_ignored(answer.unwrap_or_else(|error| error.rest_json()), &cx)
    };
    let answered = to_its_end(info.name, calling).await;
    answered.unwrap_or_else(|| failed("InternalServerException").rest_json())
}

fn unknown_operation(method: &str, path: &str) -> Error {
    let path: String = path.chars().take(200).collect();
    Error::new(404, "UnknownOperationException", format!("Unable to determine the operation of {method} {path}."))
}

/// What a client is told whose request was not read.
fn unread(error: ReadError, too_large: impl FnOnce() -> Error) -> Error {
    match error {
        ReadError::TooLarge => too_large(),
        ReadError::Broken => Error::serialization("The request ended early."),
        ReadError::TooSlow => Error::new(408, "RequestTimeout", body::TOO_SLOW),
    }
}

fn too_large(code: &'static str) -> Error {
    Error::new(413, code, "The request is too large.")
}

/// Scheme and host by which the client reached this door.
fn origin(headers: &http::HeaderMap, extensions: &http::Extensions) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_secure = extensions.get::<Peer>().is_some_and(|peer| peer.is_secure);
    format!("{}://{host}", if is_secure { "https" } else { "http" })
}

fn context(caller: &Caller, head: &request::Parts, request_id: &str) -> Context {
    let (account, region) = (caller.account.as_str(), caller.region.as_str());
    let mut cx = Context::new(
        account,
        region,
        request_id,
        &origin(&head.headers, &head.extensions),
        caller.access_key.as_deref(),
    );
    if let Identified::As(session) = &caller.identified {
        cx.session.clone_from(session);
    }
    let trace = head.headers.get("x-amzn-trace-id").and_then(|value| value.to_str().ok());
    cx.trace = trace.map(str::to_owned);
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
    body: Arriving,
    request_id: &str,
) -> Reply {
    let (limit, name) = match info.operation {
        Operation::Invoke => (SYNC_PAYLOAD_MAX, "InvokeFunction"),
        Operation::InvokeWithResponseStream => (SYNC_PAYLOAD_MAX, info.name),
        _ => (REQUEST_MAX, info.name),
    };
    let (body, room) = match door::read(inside, body, limit).await {
        Ok(read) => read,
        Err(error) => {
            let too_large = || {
                let message = format!("Request must be smaller than {limit} bytes for the {name} operation");
                let error = Error::new(413, "RequestEntityTooLargeException", message);
                Error { key: MessageKey::Upper, ..error }
            };
            return unread(error, too_large).rest_json();
        }
    };
    let mut cx = context(caller, head, request_id);
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    cx.content_type = content_type.map(str::to_owned);
    let query = head.uri.query().unwrap_or_default();
    let answer = if matches!(info.operation, Operation::Invoke | Operation::InvokeWithResponseStream) {
        services.lambda.call(&cx, info.operation, Parts { labels, query, headers: &head.headers, body }).await
    } else {
        let (lambda, headers, query) = (services.lambda.clone(), head.headers.clone(), query.to_owned());
        let operation = info.operation;
        let calling = async move {
            let answer = lambda.call(&cx, operation, Parts { labels, query: &query, headers: &headers, body }).await;
            drop(room);
            (cx, answer)
        };
        match to_its_end(info.name, calling).await {
            Some((returned, answer)) => {
                cx = returned;
                answer
            }
            None => return failed("ServiceException").rest_json(),
        }
    };
    let mut reply = answer.unwrap_or_else(|error| error.rest_json());
    for (name, value) in cx.take_answer_headers() {
        reply.header(name, &value);
    }
    told_ignored(reply, &cx)
}

/// What changes something is brought to its end also when its caller hangs up: cut off between disk and memory, it would be
/// known to the one and not to the other. `None` when it failed on its way.
async fn to_its_end<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let done = tokio::spawn(work).await;
    done.inspect_err(|error| tracing::error!(operation, %error, "an operation did not come to its end")).ok()
}

fn failed(code: &'static str) -> Error {
    Error::new(500, code, "Hearth failed; its log says more.")
}

fn render(reply: Reply) -> Response<Body> {
    let mut response = Response::new(match reply.body {
        ReplyBody::Whole(body) => Body::whole(body),
        ReplyBody::Frames(frames) => Body::Frames(frames),
    });
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let no_content = reply.status == 204;
    for (name, value) in reply.headers {
        if !(no_content && name == http::header::CONTENT_TYPE) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn stamped(mut response: Response<Body>, request_id: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
    response
}
