//! Hearth's own documents: `/_hearth/health`, `/_hearth/ready`, and under `/_hearth/v1`. What they say is the
//! composition root's to know: it implements [`Operator`].

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::body::Body;

/// Bytes of one piece of a download.
const PIECE: usize = 256 * 1024;

/// What the program knows of itself.
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    /// `Ok` when a function could be created and run now; else the reasons why not.
    async fn ready(&self) -> Result<(), Vec<String>>;

    /// `runtimes`, `coverage`, `doctor` as `--json` documents; `None` for a name that there is not.
    async fn document(&self, name: &str) -> Option<Value>;

    /// A function's log.
    async fn logs(&self, request: LogsRequest) -> Result<Lines, OperatorError>;

    /// Changes what a runtime is made of: lines of progress, then one that says how it ended.
    async fn change_runtime(&self, change: RuntimeChange) -> Result<Lines, OperatorError>;

    /// Asynchronous events, and what became of them: a document.
    async fn events(&self, request: EventsRequest) -> Result<Value, OperatorError>;

    /// In Prometheus's text form.
    fn metrics(&self) -> String;

    /// What becomes of a function's connections to a place.
    async fn network(&self, request: NetworkRequest) -> Result<Value, OperatorError>;

    /// How an invocation began, and where its time went; `None` when it is not known (any more).
    async fn invocation(&self, account: &str, request_id: &str) -> Option<Value>;

    /// The package that a token of `Code.Location` leads to.
    async fn code(&self, token: &str) -> Result<Code, OperatorError>;
}

/// What is to become of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeChange {
    /// It is made of what this name means: an image, or packages.
    Add {
        runtime: String,
        from: String,
    },
    /// It is made anew of what that name means now.
    Update {
        runtime: String,
    },
    Remove {
        runtime: String,
    },
}

/// Longest request to change something, bytes.
pub const CHANGE_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct NewRuntime {
    runtime: String,
    from: String,
}

/// `functions/NAME/logs?since=&grep=&request=&follow=true`.
#[derive(Clone, Debug, Default)]
pub struct LogsRequest {
    /// Twelve digits; of the caller.
    pub account: String,
    pub region: String,
    pub function: String,
    /// A duration before now (`10m`) or an RFC 3339 time.
    pub since: Option<String>,
    pub grep: Option<String>,
    pub request: Option<String>,
    pub follow: bool,
}

/// `events…`, of the caller's account and region.
#[derive(Clone, Debug)]
pub struct EventsRequest {
    /// Twelve digits.
    pub account: String,
    pub region: String,
    pub asked: EventsAsked,
}

#[derive(Clone, Debug)]
pub enum EventsAsked {
    /// `?function=&state=&since=&until=&limit=`; times as in [`LogsRequest::since`].
    List(EventsFilter),
    Show(String),
    Audit,
    /// A `POST`.
    Retry(String),
    /// A `POST`; `?function=`, else all functions.
    Purge(Option<String>),
}

#[derive(Clone, Debug, Default)]
pub struct EventsFilter {
    pub function: Option<String>,
    pub state: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub limit: Option<String>,
}

/// `functions/NAME/network?to=HOST:PORT`.
#[derive(Clone, Debug)]
pub struct NetworkRequest {
    /// Twelve digits; of the caller.
    pub account: String,
    pub region: String,
    pub function: String,
    /// As the caller wrote it.
    pub to: String,
}

/// One JSON object a line, newline included. Ends when the sender does.
pub type Lines = mpsc::Receiver<Bytes>;

/// A package and its size.
pub struct Code {
    pub file: File,
    pub size: u64,
}

/// As `{"code", "message"}`.
#[derive(Clone, Debug)]
pub struct OperatorError {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

/// Answers a path below `/_hearth/`.
pub async fn answer(
    operator: &Arc<dyn Operator>,
    method: &Method,
    path: &str,
    query: &str,
    mut logs: LogsRequest,
) -> Response<Body> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').skip(1).collect();
    match parts.as_slice() {
        ["health"] => json_reply(StatusCode::OK, &json!({"status": "ok"})),
        ["ready"] => match operator.ready().await {
            Ok(()) => json_reply(StatusCode::OK, &json!({"ready": true})),
            Err(reasons) => json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"ready": false, "reasons": reasons})),
        },
        ["metrics"] => {
            let mut reply = Response::new(Body::whole(operator.metrics()));
            reply.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; version=0.0.4"));
            reply
        }
        ["v1", "code", token] => match operator.code(token).await {
            Ok(code) => download(code),
            Err(error) => failure(&error),
        },
        ["v1", "functions", name, "logs"] => {
            logs.function = decoded(name);
            for (key, value) in form_urlencoded::parse(query.as_bytes()) {
                match &*key {
                    "since" => logs.since = Some(value.into_owned()),
                    "grep" => logs.grep = Some(value.into_owned()),
                    "request" => logs.request = Some(value.into_owned()),
                    "follow" => logs.follow = value == "true",
                    _ => {}
                }
            }
            match operator.logs(logs).await {
                Ok(lines) => pieces("application/x-ndjson", lines),
                Err(error) => failure(&error),
            }
        }
        ["v1", "events", rest @ ..] => {
            let asked = match events_asked(method, rest, query) {
                Ok(asked) => asked,
                Err(error) => return failure(&error),
            };
            let request = EventsRequest { account: logs.account, region: logs.region, asked };
            match operator.events(request).await {
                Ok(document) => json_reply(StatusCode::OK, &document),
                Err(error) => failure(&error),
            }
        }
        ["v1", "invocations", id] => match operator.invocation(&logs.account, &decoded(id)).await {
            Some(document) => json_reply(StatusCode::OK, &document),
            None => {
                let message = format!("no invocation {} is remembered: it is none of the latest", decoded(id));
                failure(&OperatorError { status: 404, code: "NotFound", message })
            }
        },
        ["v1", "functions", name, "network"] => {
            let mut query = form_urlencoded::parse(query.as_bytes());
            let request = NetworkRequest {
                account: logs.account,
                region: logs.region,
                function: decoded(name),
                to: query.find(|(key, _)| key == "to").map(|(_, to)| to.into_owned()).unwrap_or_default(),
            };
            match operator.network(request).await {
                Ok(document) => json_reply(StatusCode::OK, &document),
                Err(error) => failure(&error),
            }
        }
        ["v1", name] => match operator.document(name).await {
            Some(document) => json_reply(StatusCode::OK, &document),
            None => not_found(path),
        },
        _ => not_found(path),
    }
}

/// Whether a request is one for [`change`].
pub fn changes_runtimes(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) && path.starts_with("/_hearth/v1/runtimes")
}

/// Answers a request that changes what a runtime is made of.
pub async fn change(operator: &Arc<dyn Operator>, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').skip(1).collect();
    let change = match (method, parts.as_slice()) {
        (&Method::POST, ["v1", "runtimes"]) => match serde_json::from_slice(body) {
            Ok(NewRuntime { runtime, from }) => RuntimeChange::Add { runtime, from },
            Err(error) => {
                let message = format!("The request is not {{\"runtime\", \"from\"}}: {error}.");
                return failure(&OperatorError { status: 400, code: "BadRequest", message });
            }
        },
        (&Method::POST, ["v1", "runtimes", runtime, "update"]) => RuntimeChange::Update { runtime: decoded(runtime) },
        (&Method::DELETE, ["v1", "runtimes", runtime]) => RuntimeChange::Remove { runtime: decoded(runtime) },
        _ => return not_found(path),
    };
    match operator.change_runtime(change).await {
        Ok(lines) => pieces("application/x-ndjson", lines),
        Err(error) => failure(&error),
    }
}

/// A request that is refused as a whole.
pub fn refused(status: u16, code: &'static str, message: &str) -> Response<Body> {
    failure(&OperatorError { status, code, message: message.to_owned() })
}

fn events_asked(method: &Method, rest: &[&str], query: &str) -> Result<EventsAsked, OperatorError> {
    let mut filter = EventsFilter::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Some(value.into_owned());
        match &*key {
            "function" => filter.function = value,
            "state" => filter.state = value,
            "since" => filter.since = value,
            "until" => filter.until = value,
            "limit" => filter.limit = value,
            _ => {}
        }
    }
    let (asked, changes) = match rest {
        [] => (EventsAsked::List(filter), false),
        ["audit"] => (EventsAsked::Audit, false),
        ["purge"] => (EventsAsked::Purge(filter.function), true),
        [id] => (EventsAsked::Show(decoded(id)), false),
        [id, "retry"] => (EventsAsked::Retry(decoded(id)), true),
        _ => {
            let message = "There is nothing at this path below events.".to_owned();
            return Err(OperatorError { status: 404, code: "NotFound", message });
        }
    };
    let right = if changes { Method::POST } else { Method::GET };
    if *method == right {
        return Ok(asked);
    }
    let message = format!("This is asked for by {right}, not {method}.");
    Err(OperatorError { status: 405, code: "MethodNotAllowed", message })
}

/// A segment of a path.
fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn not_found(path: &str) -> Response<Body> {
    let message = format!("There is nothing at {}.", path.chars().take(200).collect::<String>());
    failure(&OperatorError { status: 404, code: "NotFound", message })
}

fn failure(error: &OperatorError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_reply(status, &json!({"code": error.code, "message": error.message}))
}

fn json_reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut reply = Response::new(Body::whole(value.to_string()));
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    reply
}

fn pieces(content_type: &'static str, pieces: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut reply = Response::new(Body::Pieces(pieces));
    reply.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    reply
}

fn download(mut code: Code) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            match code.file.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    piece.truncate(read);
                    if sender.blocking_send(piece.into()).is_err() {
                        break;
                    }
                }
            }
        }
    });
    let mut reply = pieces("application/octet-stream", receiver);
    reply.headers_mut().insert("content-length", HeaderValue::from(code.size));
    reply
}
