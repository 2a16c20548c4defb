//! Packages from another S3 than the embedded one (`endpoints.s3`): one signed GET each, by path, read as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use hearth_model::{BoxFuture, Clock, StoredPackage, StoredPackageError, StoredPackageRef, StoredPackages};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinHandle;

use super::signer::{Asked, Signer};
use crate::settings::ServiceEndpoint;

/// How long the endpoint may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest error that is read, bytes.
const ERROR_MAX: usize = 64 * 1024;
/// The hash of no body.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// What a name in a path, and a value in a query, leave as they are.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

pub struct OtherBuckets {
    pub endpoint: ServiceEndpoint,
    pub clock: Arc<dyn Clock>,
}

impl StoredPackages for OtherBuckets {
    fn open(&self, at: StoredPackageRef) -> BoxFuture<'_, Result<StoredPackage, StoredPackageError>> {
        Box::pin(async move {
            tokio::time::timeout(PATIENCE, self.get(at))
                .await
                .unwrap_or_else(|_| Err(self.unavailable(format!("it did not answer within {} s", PATIENCE.as_secs()))))
        })
    }
}

impl OtherBuckets {
    async fn get(&self, at: StoredPackageRef) -> Result<StoredPackage, StoredPackageError> {
        let path = format!("/{}/{}", utf8_percent_encode(&at.bucket, PATH), utf8_percent_encode(&at.key, PATH));
        let query = at.version.map(|version| format!("versionId={}", utf8_percent_encode(&version, QUERY)));
        let query = query.unwrap_or_default();
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let host = self.endpoint.address.authority();
        let (mut sender, connection) =
            self.endpoint.address.connect().await.map_err(|error| self.unavailable(error.to_string()))?;
        let connection = Connection(connection);
        let mut request = Request::get(target).header(header::HOST, &host).header("x-amz-content-sha256", NO_BODY);
        if let Some((key, secret)) = &self.endpoint.credentials {
            let signer = Signer { region: at.region.as_str(), key, secret: secret.reveal(), at: self.clock.wall() };
            let headers = &[("host", &*host), ("x-amz-content-sha256", NO_BODY)];
            let asked = Asked { service: "s3", method: "GET", path: &path, query: &query, headers, body: NO_BODY };
            request = request.header(header::AUTHORIZATION, signer.authorization(&asked));
            request = request.header("x-amz-date", signer.date());
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.unavailable(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| self.unavailable(error.to_string()))?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let said = Limited::new(body, ERROR_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(refusal(head.status, &String::from_utf8_lossy(&said)));
        }
        let size = Body::size_hint(&body)
            .exact()
            .ok_or_else(|| self.unavailable("it does not say how long the object is".to_owned()))?;
        let version = head.headers.get("x-amz-version-id").and_then(|version| version.to_str().ok());
        let version = version.filter(|version| *version != "null").map(str::to_owned);
        Ok(StoredPackage { size, version, pieces: Box::pin(Pieces { body, _connection: connection }) })
    }

    fn unavailable(&self, reason: String) -> StoredPackageError {
        tracing::warn!(endpoint = %self.endpoint.address, %reason, "a package could not be read from another S3");
        let message = format!("The endpoint {} cannot be used: {reason}", self.endpoint.address);
        StoredPackageError { code: "ServiceUnavailable".to_owned(), message }
    }
}

/// What an error in XML says.
pub fn refusal(status: StatusCode, said: &str) -> StoredPackageError {
    let part = |name: &str| {
        let (_, rest) = said.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
        Some(plain.into_iter().fold(text.to_owned(), |text, (spelled, plain)| text.replace(spelled, plain)))
    };
    let reason = status.canonical_reason().unwrap_or("no reason was given");
    StoredPackageError {
        code: part("Code").unwrap_or_else(|| status.as_u16().to_string()),
        message: part("Message").unwrap_or_else(|| reason.to_owned()),
    }
}

/// Ends with the value.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Pieces {
    body: Incoming,
    _connection: Connection,
}

impl Stream for Pieces {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(std::io::Error::other(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    Err(_) => continue,
                },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_xml_are_read() {
        let said = "<Error><Code>NoSuchKey</Code><Message>no &lt;key&gt;</Message></Error>";
        let error = refusal(StatusCode::NOT_FOUND, said);
        assert_eq!((error.code.as_str(), error.message.as_str()), ("NoSuchKey", "no <key>"));
        let error = refusal(StatusCode::BAD_GATEWAY, "<html>");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("502", "Bad Gateway"));
    }
}
