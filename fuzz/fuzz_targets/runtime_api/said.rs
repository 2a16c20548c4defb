//! Requests that look like requests, more or less.

use arbitrary::Arbitrary;

use crate::environment::Environment;

#[derive(Arbitrary, Debug)]
pub struct Request {
    method: Method,
    route: Route,
    headers: Vec<Header>,
    body: Body,
}

#[derive(Arbitrary, Debug)]
enum Method {
    /// The one that the route has.
    Right,
    Get,
    Post,
    Put,
    Head,
    Connect,
}

#[derive(Arbitrary, Debug)]
enum Route {
    Next,
    Response(Id),
    Error(Id),
    InitError,
    Ping,
    Register,
    NextEvent,
    ExtensionInitError,
    ExtensionExitError,
    Telemetry,
    Logs,
    Other(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Id {
    /// Of an event that was given out: the last, or one before it.
    Event(u8),
    Other(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Header {
    Streaming,
    ResponseMode(Vec<u8>),
    ContentType(Vec<u8>),
    Cause,
    ErrorType(Vec<u8>),
    ExtensionName(Vec<u8>),
    External(u8),
    Extension(u8),
    ExtensionId(Vec<u8>),
    ExtensionErrorType(Vec<u8>),
    AcceptFeature,
    Close,
    Expect,
    Upgrade,
    Length(u64),
    Chunked,
    Other(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Body {
    None,
    Whole(Content),
    /// With what its trailers say.
    Chunks(Vec<Vec<u8>>, Option<(Vec<u8>, Vec<u8>)>),
    /// Of so many bytes and more.
    Large(u8),
    Plain(Content),
}

#[derive(Arbitrary, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Registration { invoke: bool, shutdown: bool, other: Option<String> },
    Subscription { port: u16, items: Option<u64>, other: Option<String> },
    Failure { message: String, cause: bool },
}

impl Content {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Registration { invoke, shutdown, other } => {
                let names = [invoke.then_some("INVOKE"), shutdown.then_some("SHUTDOWN"), other.as_deref()];
                serde_json::json!({ "events": names.into_iter().flatten().collect::<Vec<_>>() }).to_string().into()
            }
            Content::Subscription { port, items, other } => {
                let destination = match other {
                    Some(uri) => serde_json::json!({ "protocol": "HTTP", "URI": uri }),
                    None => serde_json::json!({ "protocol": "TCP", "port": port }),
                };
                let buffering = serde_json::json!({ "maxItems": items });
                let types = ["platform", "function"];
                serde_json::json!({ "schemaVersion": "2022-07-01", "types": types, "buffering": buffering, "destination": destination })
                    .to_string()
                    .into()
            }
            Content::Failure { message, cause } => {
                let cause = cause.then_some(serde_json::json!({ "x": 1 }));
                serde_json::json!({ "errorMessage": message, "errorType": "T", "errorCause": cause }).to_string().into()
            }
        }
    }
}

impl Request {
    pub fn bytes(&self, environment: &Environment) -> Vec<u8> {
        let id = |id: &Id| match id {
            Id::Event(back) => environment.given_out(usize::from(*back)).into_bytes(),
            Id::Other(bytes) => bytes.clone(),
        };
        let invocation = |given: &Id, end: &[u8]| [&b"/2018-06-01/runtime/invocation/"[..], &id(given), end].concat();
        let (right, path) = match &self.route {
            Route::Next => ("GET", b"/2018-06-01/runtime/invocation/next".to_vec()),
            Route::Response(given) => ("POST", invocation(given, b"/response")),
            Route::Error(given) => ("POST", invocation(given, b"/error")),
            Route::InitError => ("POST", b"/2018-06-01/runtime/init/error".to_vec()),
            Route::Ping => ("GET", b"/2018-06-01/ping".to_vec()),
            Route::Register => ("POST", b"/2020-01-01/extension/register".to_vec()),
            Route::NextEvent => ("GET", b"/2020-01-01/extension/event/next".to_vec()),
            Route::ExtensionInitError => ("POST", b"/2020-01-01/extension/init/error".to_vec()),
            Route::ExtensionExitError => ("POST", b"/2020-01-01/extension/exit/error".to_vec()),
            Route::Telemetry => ("PUT", b"/2022-07-01/telemetry".to_vec()),
            Route::Logs => ("PUT", b"/2020-08-15/logs".to_vec()),
            Route::Other(bytes) => ("GET", bytes.clone()),
        };
        let method = match self.method {
            Method::Right => right,
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Head => "HEAD",
            Method::Connect => "CONNECT",
        };
        let mut said = [method.as_bytes(), b" ", &path, b" HTTP/1.1\r\nHost: x\r\n"].concat();
        for header in &self.headers {
            said.extend(header.line(environment));
            said.extend(b"\r\n");
        }
        self.body.end(&mut said);
        said
    }
}

impl Header {
    fn line(&self, environment: &Environment) -> Vec<u8> {
        let of = |name: &str, value: &[u8]| [name.as_bytes(), b": ", value].concat();
        match self {
            Header::Streaming => of("Lambda-Runtime-Function-Response-Mode", b"streaming"),
            Header::ResponseMode(value) => of("Lambda-Runtime-Function-Response-Mode", value),
            Header::ContentType(value) => of("Content-Type", value),
            Header::Cause => of("Content-Type", b"application/vnd.aws.lambda.error.cause+json"),
            Header::ErrorType(value) => of("Lambda-Runtime-Function-Error-Type", value),
            Header::ExtensionName(value) => of("Lambda-Extension-Name", value),
            Header::External(at) => of("Lambda-Extension-Name", Environment::external(usize::from(at % 3)).as_bytes()),
            Header::Extension(at) => {
                of("Lambda-Extension-Identifier", environment.extension(usize::from(*at)).as_bytes())
            }
            Header::ExtensionId(value) => of("Lambda-Extension-Identifier", value),
            Header::ExtensionErrorType(value) => of("Lambda-Extension-Function-Error-Type", value),
            Header::AcceptFeature => of("Lambda-Extension-Accept-Feature", b"accountId"),
            Header::Close => of("Connection", b"close"),
            Header::Expect => of("Expect", b"100-continue"),
            Header::Upgrade => of("Connection", b"upgrade\r\nUpgrade: h2c"),
            Header::Length(length) => of("Content-Length", length.to_string().as_bytes()),
            Header::Chunked => of("Transfer-Encoding", b"chunked"),
            Header::Other(line) => line.clone(),
        }
    }
}

impl Body {
    /// The last of the headers, and the body.
    fn end(&self, said: &mut Vec<u8>) {
        match self {
            Body::None => said.extend(b"\r\n"),
            Body::Plain(content) => {
                said.extend(b"\r\n");
                said.extend(content.bytes());
            }
            Body::Whole(content) => {
                let bytes = content.bytes();
                said.extend(format!("Content-Length: {}\r\n\r\n", bytes.len()).bytes());
                said.extend(bytes);
            }
            Body::Large(more) => {
                let bytes = vec![b'x'; 16 * 1024 + usize::from(*more)];
                said.extend(format!("Content-Length: {}\r\n\r\n", bytes.len()).bytes());
                said.extend(bytes);
            }
            Body::Chunks(chunks, trailers) => {
                said.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    said.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    said.extend(chunk);
                    said.extend(b"\r\n");
                }
                said.extend(b"0\r\n");
                if let Some((error_type, details)) = trailers {
                    said.extend(b"Lambda-Runtime-Function-Error-Type: ");
                    said.extend(error_type);
                    said.extend(b"\r\nLambda-Runtime-Function-Error-Body: ");
                    said.extend(details);
                    said.extend(b"\r\n");
                }
                said.extend(b"\r\n");
            }
        }
    }
}
