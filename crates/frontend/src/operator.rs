//! Hearth's own documents: `/_hearth/health`, `/_hearth/ready`, and under `/_hearth/v1`. What they say is the
//! composition root's to know: it implements [`Operator`].

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
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

    /// What becomes of a function's connections to a place.
    async fn network(&self, request: NetworkRequest) -> Result<Value, OperatorError>;

    /// The package that a token of `Code.Location` leads to.
    async fn code(&self, token: &str) -> Result<Code, OperatorError>;
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
pub async fn answer(operator: &Arc<dyn Operator>, path: &str, query: &str, mut logs: LogsRequest) -> Response<Body> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').skip(1).collect();
    match parts.as_slice() {
        ["health"] => json_reply(StatusCode::OK, &json!({"status": "ok"})),
        ["ready"] => match operator.ready().await {
            Ok(()) => json_reply(StatusCode::OK, &json!({"ready": true})),
            Err(reasons) => json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"ready": false, "reasons": reasons})),
        },
        ["v1", "code", token] => match operator.code(token).await {
            Ok(code) => download(code),
            Err(error) => failure(&error),
        },
        ["v1", "functions", name, "logs"] => {
            logs.function = percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned();
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
        ["v1", "functions", name, "network"] => {
            let mut query = form_urlencoded::parse(query.as_bytes());
            let request = NetworkRequest {
                account: logs.account,
                region: logs.region,
                function: percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned(),
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
