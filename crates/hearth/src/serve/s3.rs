//! Another S3 than the embedded one, as its client: each request on a connection of its own, signed, by path, with bodies
//! that are read and sent as they come.
//!
//! - `packages`: code of functions and layers from buckets there (`endpoints.s3`)
//! - `blobs`: an engine of blobs in a bucket there (`store.packages`)

pub mod blobs;
pub mod packages;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hearth_model::Clock;
use hearth_wire::hex;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::http::response::Parts;
use hyper::{Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinHandle;

use super::signer::{Asked, Signer};
use crate::settings::ServiceEndpoint;

/// How long the endpoint may take to begin its answer, once it has the request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How slowly a body may go there, bytes a second.
const PACE: u64 = 1 << 20;
/// Longest error or list that is read, bytes.
const TEXT_MAX: usize = 1 << 20;
/// Bytes of a body that are read from its file at once.
const PIECE: u64 = 256 * 1024;
/// The hash of no body.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// What a name in a path, and a value in a query, leave as they are.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

#[derive(Clone)]
pub struct Client {
    pub endpoint: ServiceEndpoint,
    pub clock: Arc<dyn Clock>,
}

/// One request.
pub struct Ask<'a> {
    pub method: Method,
    pub region: &'a str,
    pub bucket: &'a str,
    /// Empty for the bucket itself.
    pub key: &'a str,
    /// In the order of the names.
    pub query: &'a [(&'a str, &'a str)],
    /// `BUCKET/KEY` of what is copied.
    pub source: Option<&'a str>,
    pub content: Option<&'a Content>,
}

/// A body that is sent.
#[derive(Clone)]
pub struct Content {
    pub file: Arc<File>,
    pub size: u64,
    pub sha256: [u8; 32],
}

/// An answer that is no error, whose body comes.
pub struct Answer {
    pub head: Parts,
    body: Incoming,
    _connection: Connection,
}

#[derive(Debug)]
pub enum Error {
    /// The endpoint said no.
    Refused { status: StatusCode, code: String, message: String },
    /// It said nothing that can be used.
    Unusable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused { code, message, .. } => write!(f, "{code}: {message}"),
            Error::Unusable(reason) => f.write_str(reason),
        }
    }
}

fn unusable(reason: impl fmt::Display) -> Error {
    Error::Unusable(reason.to_string())
}

impl Client {
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let patience = PATIENCE + Duration::from_secs(ask.content.map_or(0, |content| content.size / PACE));
        let late = |_| unusable(format!("it did not answer within {} s", patience.as_secs()));
        tokio::time::timeout(patience, self.exchange(ask)).await.map_err(late)?
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let slash = if ask.key.is_empty() { "" } else { "/" };
        let bucket = utf8_percent_encode(ask.bucket, PATH);
        let path = format!("/{bucket}{slash}{}", utf8_percent_encode(ask.key, PATH));
        let query = query_of(ask.query);
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let host = self.endpoint.address.authority();
        let hash = ask.content.map_or_else(|| NO_BODY.to_owned(), |content| hex(&content.sha256));
        let source = ask.source.map(|source| format!("/{}", utf8_percent_encode(source, PATH)));
        let (mut sender, connection) = self.endpoint.address.connect().await.map_err(unusable)?;
        let connection = Connection(connection);
        let mut request = Request::builder().method(ask.method.clone()).uri(target);
        request = request.header(header::HOST, &host).header("x-amz-content-sha256", &hash);
        if let Some(content) = ask.content {
            request = request.header(header::CONTENT_LENGTH, content.size);
        }
        if let Some(source) = &source {
            request = request.header("x-amz-copy-source", source);
        }
        if let Some((key, secret)) = &self.endpoint.credentials {
            let signer = Signer { region: ask.region, key, secret: secret.reveal(), at: self.clock.wall() };
            let mut headers = vec![("host", host.as_str()), ("x-amz-content-sha256", &hash)];
            headers.extend(source.as_ref().map(|source| ("x-amz-copy-source", source.as_str())));
            let (method, path, query) = (ask.method.as_str(), &path, &query);
            let asked = Asked { service: "s3", method, path, query, headers: &headers, body: &hash };
            request = request.header(header::AUTHORIZATION, signer.authorization(&asked));
            request = request.header("x-amz-date", signer.date());
        }
        let body = Sending { content: ask.content.cloned(), sent: 0, reading: None };
        let request = request.body(body).map_err(unusable)?;
        let (head, body) = sender.send_request(request).await.map_err(unusable)?.into_parts();
        let answer = Answer { head, body, _connection: connection };
        if answer.head.status.is_success() {
            return Ok(answer);
        }
        let status = answer.head.status;
        Err(refusal(status, &answer.text().await.unwrap_or_default()))
    }
}

impl Answer {
    /// As far as the endpoint says it.
    pub fn size(&self) -> Option<u64> {
        Body::size_hint(&self.body).exact()
    }

    /// The next piece of the body; `None` at its end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(io::Error::other(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    Err(_) => continue,
                },
            });
        }
    }

    pub async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        let next = std::future::poll_fn(|cx| self.poll_piece(cx));
        let late = |_| Some(Err(io::ErrorKind::TimedOut.into()));
        tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(late)
    }

    /// The whole body, where it is short.
    pub async fn text(self) -> Result<String, Error> {
        let read = tokio::time::timeout(PATIENCE, Limited::new(self.body, TEXT_MAX).collect()).await;
        let read = read.map_err(|_| unusable("its answer did not come to an end"))?.map_err(unusable)?;
        Ok(String::from_utf8_lossy(&read.to_bytes()).into_owned())
    }
}

/// What an error in XML says.
pub fn refusal(status: StatusCode, said: &str) -> Error {
    let reason = status.canonical_reason().unwrap_or("no reason was given");
    let code = elements(said, "Code").next().unwrap_or_else(|| status.as_u16().to_string());
    let message = elements(said, "Message").next().unwrap_or_else(|| reason.to_owned());
    Error::Refused { status, code, message }
}

/// Texts of the elements of one name, in S3's XML: no attributes, no comments.
fn elements<'a>(mut said: &'a str, name: &str) -> impl Iterator<Item = String> + 'a {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    std::iter::from_fn(move || {
        let (text, rest) = said.split_once(&begin)?.1.split_once(&end)?;
        said = rest;
        let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
        Some(plain.into_iter().fold(text.to_owned(), |text, (spelled, plain)| text.replace(spelled, plain)))
    })
}

/// Ends with the value.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body on its way out, read from its file piece by piece.
struct Sending {
    content: Option<Content>,
    sent: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(Content { file, size, .. }) = self.content.clone() else { return Poll::Ready(None) };
        let (at, left) = (self.sent, size - self.sent);
        if left == 0 {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or_default()];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece.into())
            })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let piece = read.map_err(io::Error::other)??;
        self.sent += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(|content| self.sent == content.size)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.as_ref().map_or(0, |content| content.size - self.sent))
    }
}

fn query_of(parts: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, QUERY));
    parts.iter().map(part).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_xml_are_read() {
        let said = "<Error><Code>NoSuchKey</Code><Message>no &lt;key&gt;</Message></Error>";
        let said_of = |error: Error| match error {
            Error::Refused { code, message, .. } => (code, message),
            Error::Unusable(reason) => panic!("{reason}"),
        };
        let expected = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        assert_eq!(said_of(refusal(StatusCode::NOT_FOUND, said)), expected("NoSuchKey", "no <key>"));
        assert_eq!(said_of(refusal(StatusCode::BAD_GATEWAY, "<html>")), expected("502", "Bad Gateway"));
    }
}
