//! A small HTTP client for the server's public APIs: AWS's Lambda API and `/_hearth/v1`.
//!
//! One connection a request, HTTP/1.1 over TCP. Requests carry a signature's scope, so that the server knows service,
//! region and account, but no true signature: the server's first mode accepts any.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest answer that is kept in memory: a code package, encoded, and room.
const ANSWER_MAX: usize = 100 << 20;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Endpoint(String),
    #[error("no Hearth answers at {endpoint} ({reason}); start one with: hearth serve")]
    Unreachable { endpoint: String, reason: String },
    /// The server said no.
    #[error("{code}: {message}")]
    Refused { status: u16, code: String, message: String },
    #[error("the answer cannot be read: {0}")]
    Answer(String),
}

impl ClientError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Refused { status: 404, .. })
    }
}

/// `http://HOST:PORT` or `https://HOST:PORT`, as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    is_secure: bool,
    host: String,
    port: u16,
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let bad = |why: &str| ClientError::Endpoint(format!("{text:?} is not an endpoint: {why}"));
        let uri: hyper::Uri = text.parse().map_err(|_| bad("not a URL such as http://127.0.0.1:4566"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it does not begin with http:// or https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no host"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("it has a path"));
        }
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Endpoint { is_secure, host: host.to_owned(), port })
    }

    /// As the header `Host` has it: without the port that follows from the scheme.
    pub fn authority(&self) -> String {
        match (self.is_secure, self.port) {
            (false, 80) | (true, 443) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// A connection for one request.
    pub async fn connect<B>(&self) -> Result<(SendRequest<B>, JoinHandle<()>), ClientError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let unreachable = |reason: String| ClientError::Unreachable { endpoint: self.to_string(), reason };
        let host = self.host.trim_matches(['[', ']']);
        let connecting = async {
            let stream = TcpStream::connect((host, self.port)).await?;
            Ok::<_, std::io::Error>(if self.is_secure {
                Stream::Secure(Box::new(hearth_tls::connect(host, stream).await?))
            } else {
                Stream::Plain(stream)
            })
        };
        let stream = tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| unreachable("no connection within 5 s".to_owned()))?
            .map_err(|e| unreachable(e.to_string()))?;
        let (sender, connection) = match stream {
            Stream::Secure(stream) => begin(stream).await,
            Stream::Plain(stream) => begin(stream).await,
        }
        .map_err(|e| unreachable(e.to_string()))?;
        Ok((sender, connection))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.is_secure { "https" } else { "http" }, self.host, self.port)
    }
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<hearth_tls::Outgoing<TcpStream>>),
}

/// HTTP over a connection, which goes on in a task of its own.
async fn begin<B>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> hyper::Result<(SendRequest<B>, JoinHandle<()>)>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // An error here shows itself in the answer.
        let _ = connection.await;
    });
    Ok((sender, connection))
}

/// Who asks, and where.
#[derive(Clone, Debug)]
pub struct Client {
    pub endpoint: Endpoint,
    pub region: String,
    pub access_key: String,
}

/// A whole answer with a good status.
pub struct Answer {
    pub headers: header::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|e| ClientError::Answer(e.to_string()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An answer that arrives piece by piece. Dropping it closes the connection.
pub struct Pieces {
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Pieces {
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(e) => return Some(Err(ClientError::Answer(e.to_string()))),
            }
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// Twelve digits: the access key id when it is an account id, as the server reads it.
    pub fn account(&self) -> &str {
        let is_account = self.access_key.len() == 12 && self.access_key.bytes().all(|b| b.is_ascii_digit());
        if is_account { &self.access_key } else { "000000000000" }
    }

    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.send_to("lambda", method, path, headers, body).await
    }

    async fn send_to(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let (response, connection) = self.open(service, method, path, headers, body).await?;
        let (parts, body) = response.into_parts();
        let whole = Limited::new(body, ANSWER_MAX).collect().await;
        connection.abort();
        let body = whole.map_err(|e| ClientError::Answer(e.to_string()))?.to_bytes();
        if parts.status.is_success() {
            Ok(Answer { headers: parts.headers, body })
        } else {
            Err(refusal(parts.status, &parts.headers, &body))
        }
    }

    /// An operation of CloudWatch Logs.
    pub async fn logs(&self, operation: &str, input: &serde_json::Value) -> Result<serde_json::Value, ClientError> {
        let target = format!("{}.{operation}", hearth_wire_logs::TARGET);
        let headers = [("x-amz-target", &*target), ("content-type", hearth_wire::aws_json::CONTENT_TYPE)];
        let sent = self.send_to("logs", Method::POST, "/", &headers, input.to_string().into()).await?;
        // Operations without output answer with nothing.
        if sent.body.is_empty() { Ok(serde_json::Value::Null) } else { sent.json() }
    }

    /// An answer to be read as it comes, for `--follow`.
    pub async fn stream(&self, path: &str) -> Result<Pieces, ClientError> {
        self.send_and_stream(Method::GET, path, Bytes::new()).await
    }

    pub async fn send_and_stream(&self, method: Method, path: &str, body: Bytes) -> Result<Pieces, ClientError> {
        let (response, connection) = self.open("lambda", method, path, &[], body).await?;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            return Ok(Pieces { body, connection });
        }
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|e| ClientError::Answer(e.to_string()))?;
        connection.abort();
        Err(refusal(parts.status, &parts.headers, &body.to_bytes()))
    }

    async fn open(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<(hyper::Response<Incoming>, JoinHandle<()>), ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { endpoint: self.endpoint.to_string(), reason };
        let (mut sender, connection) = self.endpoint.connect().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::AUTHORIZATION, self.scope(service))
            .header(header::USER_AGENT, concat!("hearth/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| ClientError::Endpoint(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(e.to_string()))?;
        Ok((response, connection))
    }

    fn scope(&self, service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{}/{service}/aws4_request, SignedHeaders=host, Signature={:064}",
            self.access_key, self.region, 0
        )
    }
}

/// AWS's errors and Hearth's own.
fn refusal(status: StatusCode, headers: &header::HeaderMap, body: &[u8]) -> ClientError {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: &[&str]| names.iter().find_map(|name| document.get(name)?.as_str()).map(str::to_owned);
    let named = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = named
        .map(|code| code.split(':').next().unwrap_or(code).to_owned())
        .or_else(|| text(&["code", "__type"]))
        .unwrap_or_else(|| format!("HTTP {}", status.as_u16()));
    let message = text(&["message", "Message"])
        .unwrap_or_else(|| status.canonical_reason().unwrap_or("the server gave no reason").to_owned());
    ClientError::Refused { status: status.as_u16(), code, message }
}

/// One segment of a path.
pub fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_http_with_a_host() {
        assert_eq!(Endpoint::parse("http://127.0.0.1:4566").unwrap().to_string(), "http://127.0.0.1:4566");
        assert_eq!(Endpoint::parse("http://localhost/").unwrap().to_string(), "http://localhost:80");
        assert_eq!(Endpoint::parse("http://[::1]:4566").unwrap().to_string(), "http://[::1]:4566");
        for bad in ["127.0.0.1:4566", "ftp://x", "http://", "http://x/y", ""] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_of_aws_and_of_hearth_are_read() {
        let mut headers = header::HeaderMap::new();
        let own = refusal(StatusCode::NOT_FOUND, &headers, br#"{"code": "NotFound", "message": "no such log"}"#);
        assert_eq!(own.to_string(), "NotFound: no such log");
        headers.insert("x-amzn-errortype", "ResourceNotFoundException:http://x".parse().unwrap());
        let aws = refusal(StatusCode::NOT_FOUND, &headers, br#"{"Type": "User", "Message": "Function not found"}"#);
        assert_eq!(aws.to_string(), "ResourceNotFoundException: Function not found");
        assert!(aws.is_not_found());
        let bare = refusal(StatusCode::BAD_GATEWAY, &header::HeaderMap::new(), b"<html>");
        assert_eq!(bare.to_string(), "HTTP 502: Bad Gateway");
    }

    #[test]
    fn the_account_is_the_access_key_when_that_is_one() {
        let mut client = Client {
            endpoint: Endpoint::parse("http://127.0.0.1:1").unwrap(),
            region: "us-east-1".into(),
            access_key: "123456789012".into(),
        };
        assert_eq!(client.account(), "123456789012");
        client.access_key = "test".into();
        assert_eq!(client.account(), "000000000000");
    }
}
