//! Packages from another S3 than the embedded one (`endpoints.s3`): one signed GET each, by path, read as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_core::Stream;
use hearth_model::{BoxFuture, Clock, StoredPackage, StoredPackageError, StoredPackageRef, StoredPackages};
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::settings::S3Endpoint;

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
    pub endpoint: S3Endpoint,
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
            let signed = Signed { region: at.region.as_str(), key, secret: secret.reveal(), at: self.clock.wall() };
            let date = signed.date();
            request = request.header(header::AUTHORIZATION, signed.authorization(&host, &path, &query, &date));
            request = request.header("x-amz-date", date);
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
fn refusal(status: StatusCode, said: &str) -> StoredPackageError {
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

/// A signature of version 4 of a request without a body.
struct Signed<'a> {
    region: &'a str,
    key: &'a str,
    secret: &'a str,
    at: SystemTime,
}

impl Signed<'_> {
    /// `20260131T123456Z`.
    fn date(&self) -> String {
        let at = jiff::Timestamp::try_from(self.at).unwrap_or_default();
        at.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    fn authorization(&self, host: &str, path: &str, query: &str, date: &str) -> String {
        let day = date.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let names = "host;x-amz-content-sha256;x-amz-date";
        let headers = format!("host:{host}\nx-amz-content-sha256:{NO_BODY}\nx-amz-date:{date}\n");
        let canonical = format!("GET\n{path}\n{query}\n{headers}\n{names}\n{NO_BODY}");
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut key = mac(format!("AWS4{}", self.secret).as_bytes(), day);
        for part in [self.region, "s3", "aws4_request"] {
            key = mac(&key, part);
        }
        let signature = hex(&mac(&key, &to_sign));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.key)
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length will do.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_awss_own_client() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_862_896);
        let signed = Signed { region: "eu-west-1", key: "AKIDEXAMPLE", secret, at };
        assert_eq!(signed.date(), "20260131T123456Z");
        let path = format!("/code/{}", utf8_percent_encode("a b/é.zip", PATH));
        let query = format!("versionId={}", utf8_percent_encode("v+1", QUERY));
        let authorization = signed.authorization("s3.test:9000", &path, &query, &signed.date());
        let expected = "0faa4371acb1fa28d085b1242c89bc0a5032a583a641d196cdf90ad92700fc55";
        assert_eq!(authorization.rsplit_once("Signature=").unwrap().1, expected);
    }

    #[test]
    fn errors_in_xml_are_read() {
        let said = "<Error><Code>NoSuchKey</Code><Message>no &lt;key&gt;</Message></Error>";
        let error = refusal(StatusCode::NOT_FOUND, said);
        assert_eq!((error.code.as_str(), error.message.as_str()), ("NoSuchKey", "no <key>"));
        let error = refusal(StatusCode::BAD_GATEWAY, "<html>");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("502", "Bad Gateway"));
    }
}
