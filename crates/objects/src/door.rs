//! The room's front: one request of a known caller in, one answer out.
//!
//! Any signature is accepted so far, so what `s3s` sees is unsigned: signatures, and what else says who asks, are taken
//! off here, and bodies that are chunked for their signatures' sake are put together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hearth_model::{AccountId, Clock, Region};
use hearth_store::{Blobs, BlobsError, Records};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3Result};

use crate::checksum::Algorithm;
use crate::chunked::{Chunked, Trailers};
use crate::coverage::COVERAGE;
use crate::error;
use crate::handlers::Handlers;
use crate::record::Owner;
use crate::state::State;
use crate::sweep::{self, Sweep};

/// Largest document of a request, bytes: the list of 10,000 parts, or of 1,000 keys to delete.
const DOCUMENT_MAX: usize = 4 << 20;
/// How far ahead a client's clock may be.
const SKEW: Duration = Duration::from_secs(15 * 60);
/// A presigned URL is good for a week at most.
const EXPIRES_MAX: u64 = 7 * 24 * 3600;
/// Parameters of a presigned URL that say who asks.
const SIGNATURE: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
];
const SIGNATURE_V2: &[&str] = &["awsaccesskeyid", "signature", "expires"];

/// Of requests and answers.
pub type Body = s3s::Body;

#[derive(Clone)]
pub struct Ports {
    pub records: Arc<dyn Records>,
    /// Of contents only: what no record here names is deleted.
    pub contents: Arc<dyn Blobs>,
    pub clock: Arc<dyn Clock>,
}

/// Who asks, as the door before this one found out.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: AccountId,
    pub region: Region,
    /// Whether anybody signed.
    pub is_signed: bool,
    /// Scheme and host by which they reached the door.
    pub origin: String,
}

/// What the operations need to know of a request beside their input.
#[derive(Clone)]
pub struct Asked {
    pub owner: Owner,
    pub origin: String,
    /// Of a body that came in chunks.
    pub decoded_length: Option<u64>,
    pub sha256: Option<[u8; 32]>,
    /// A checksum that comes behind the body.
    pub trailing: Option<Algorithm>,
    pub trailers: Option<Trailers>,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Objects {
    pub(crate) state: Arc<State>,
    clock: Arc<dyn Clock>,
    service: S3Service,
    sweep: Arc<std::sync::Mutex<Option<Sweep>>>,
}

impl Objects {
    /// Looks at which contents there are, before any request.
    pub async fn open(ports: Ports) -> Result<Self, BlobsError> {
        let state = Arc::new(State::new(ports.records, ports.contents));
        let sweep = sweep::begin(&state).await?;
        state.name_buckets().await.map_err(|error| BlobsError::Io(error.to_string().into()))?;
        let clock = ports.clock;
        let mut service = S3ServiceBuilder::new(Handlers { state: state.clone(), clock: clock.clone() });
        let mut config = S3Config::default();
        config.xml_max_body_size = DOCUMENT_MAX;
        service.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        service.set_host(LocalHost);
        service.set_auth(Nobody);
        service.set_access(Built);
        let service = service.build();
        Ok(Objects { state, clock, service, sweep: Arc::new(std::sync::Mutex::new(Some(sweep))) })
    }

    /// What goes on by itself: contents that a former process left behind are deleted.
    pub async fn run(self) {
        let sweep = self.sweep.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(sweep) = sweep {
            sweep::run(&self.state, sweep).await;
        }
    }

    pub async fn answer<B>(&self, caller: &Caller, request: Request<B>, request_id: &str) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let bucket = asked_of(&request);
        let mut response = match self.prepare(caller, request) {
            Ok(request) => match self.service.call(request).await {
                Ok(response) => response,
                Err(error) => {
                    let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                    rendered(error::damaged(&error))
                }
            },
            Err(error) => rendered(error),
        };
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(CONTENT_LENGTH);
            response.headers_mut().remove(CONTENT_TYPE);
        }
        if let (StatusCode::MOVED_PERMANENTLY, Some(bucket)) = (status, bucket) {
            *response.body_mut() = Body::from(moved(caller, &bucket));
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            response.headers_mut().insert("x-amz-request-id", id.clone());
            response.headers_mut().insert("x-amz-id-2", id);
        }
        response
    }

    /// The request as `s3s` takes it.
    fn prepare<B>(&self, caller: &Caller, request: Request<B>) -> S3Result<Request<Body>>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        if !caller.is_signed {
            return Err(error::denied());
        }
        if head.method == Method::POST && starts_with(&head.headers, &CONTENT_TYPE, "multipart/form-data") {
            return Err(error::not_supported("PostObject"));
        }
        head.headers.remove(AUTHORIZATION);
        let query = Query::parse(head.uri.query().unwrap_or_default());
        query.check_time(self.clock.wall())?;
        query.hoisted(&mut head.headers);
        head.uri = query.without_signature(&head.uri)?;
        let mut asked = Asked {
            owner: Owner { account: caller.account.clone(), region: caller.region.clone() },
            origin: caller.origin.clone(),
            decoded_length: None,
            sha256: None,
            trailing: None,
            trailers: None,
        };
        let body = match text(&head.headers, &HeaderName::from_static("x-amz-content-sha256")) {
            Some(kind) if kind.starts_with("STREAMING-") => {
                let (body, trailers, length) = unchunked(&mut head.headers, body)?;
                asked.decoded_length = Some(length);
                asked.trailing = trailing(&head.headers);
                asked.trailers = Some(trailers);
                body
            }
            kind => {
                asked.sha256 = kind.and_then(hearth_model::CodeHash::from_hex).map(|hash| hash.0);
                Body::http_body_unsync(body.map_err(Failed::of))
            }
        };
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(asked);
        Ok(request)
    }
}

/// The bucket of a request whose answer may have a body.
fn asked_of<B>(request: &Request<B>) -> Option<String> {
    if request.method() == Method::HEAD {
        return None;
    }
    let host = request.uri().host().or_else(|| text(request.headers(), &HOST)).unwrap_or_default();
    let in_path = || Some(request.uri().path().trim_start_matches('/').split('/').next()?.to_owned());
    bucket_of(host.rsplit_once(':').map_or(host, |(name, _)| name)).or_else(in_path)
}

/// What S3 says where a bucket is in another region. The endpoint is the one that was asked: it serves every region, and
/// what has to change is the region that the request is signed for.
fn moved(caller: &Caller, bucket: &str) -> String {
    let endpoint = caller.origin.split_once("://").map_or(&*caller.origin, |(_, authority)| authority);
    let (code, message) = (error::MOVED.0, error::MOVED.1);
    // Of a bucket that is there: its name has nothing to escape.
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message>\
         <Endpoint>{endpoint}</Endpoint><Bucket>{bucket}</Bucket></Error>"
    )
}

/// The bytes inside of chunks, and headers that tell of them alone.
fn unchunked<B>(headers: &mut HeaderMap, body: B) -> S3Result<(Body, Trailers, u64)>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let decoded = text(headers, &HeaderName::from_static("x-amz-decoded-content-length"));
    let length: u64 = decoded.and_then(|length| length.parse().ok()).ok_or_else(error::no_length)?;
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let rest = text(headers, &CONTENT_ENCODING).map(|encodings| {
        let kept = encodings.split(',').map(str::trim).filter(|encoding| *encoding != "aws-chunked");
        kept.collect::<Vec<_>>().join(",")
    });
    match rest.filter(|rest| !rest.is_empty()).and_then(|rest| HeaderValue::from_str(&rest).ok()) {
        Some(rest) => drop(headers.insert(CONTENT_ENCODING, rest)),
        None => drop(headers.remove(CONTENT_ENCODING)),
    }
    let (body, trailers) = Chunked::new(body, length);
    Ok((Body::http_body_unsync(body), trailers, length))
}

fn trailing(headers: &HeaderMap) -> Option<Algorithm> {
    let names = text(headers, &HeaderName::from_static("x-amz-trailer"))?;
    names
        .split(',')
        .find_map(|name| Algorithm::parse(name.trim().to_ascii_lowercase().strip_prefix("x-amz-checksum-")?))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn starts_with(headers: &HeaderMap, name: &HeaderName, begin: &str) -> bool {
    text(headers, name).is_some_and(|value| value.to_ascii_lowercase().starts_with(begin))
}

/// The query of a request, as far as its signature is in it.
struct Query<'a>(Vec<(&'a str, String, String)>);

impl<'a> Query<'a> {
    /// Each pair as it came, and its parts decoded.
    fn parse(query: &'a str) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (pair, decode(name).to_ascii_lowercase(), decode(value))
        });
        Query(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(_, found, _)| found == name).map(|(_, _, value)| &**value)
    }

    fn is_v2(&self) -> bool {
        self.get("awsaccesskeyid").is_some() && self.get("signature").is_some()
    }

    /// A presigned URL is good until it says.
    fn check_time(&self, now: SystemTime) -> S3Result<()> {
        if self.get("x-amz-signature").is_some() {
            let missing = || {
                s3s::S3Error::with_message(
                    s3s::S3ErrorCode::AuthorizationQueryParametersError,
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
                     X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                )
            };
            let from = self.get("x-amz-date").and_then(signed_at).ok_or_else(missing)?;
            let seconds: u64 = self.get("x-amz-expires").and_then(|text| text.parse().ok()).ok_or_else(missing)?;
            if seconds > EXPIRES_MAX {
                return Err(s3s::S3Error::with_message(
                    s3s::S3ErrorCode::AuthorizationQueryParametersError,
                    "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
                     604800 seconds",
                ));
            }
            if now + SKEW < from {
                return Err(S3Error::with_message(s3s::S3ErrorCode::AccessDenied, "Request is not yet valid"));
            }
            return if now > from + Duration::from_secs(seconds) { Err(error::expired()) } else { Ok(()) };
        }
        if self.is_v2() {
            let until = self.get("expires").and_then(|text| text.parse().ok()).ok_or_else(error::denied)?;
            let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until)).ok_or_else(error::denied)?;
            return if now > end { Err(error::expired()) } else { Ok(()) };
        }
        Ok(())
    }

    fn is_of_signature(&self, name: &str) -> bool {
        SIGNATURE.contains(&name) || (self.is_v2() && SIGNATURE_V2.contains(&name))
    }

    /// Some clients write headers of a presigned request into its query.
    fn hoisted(&self, headers: &mut HeaderMap) {
        for (_, name, value) in self.0.iter().filter(|(_, name, _)| name.starts_with("x-amz-")) {
            if let (false, Ok(name), Ok(value)) =
                (self.is_of_signature(name), HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
                && !headers.contains_key(&name)
            {
                headers.insert(name, value);
            }
        }
    }

    fn without_signature(&self, uri: &Uri) -> S3Result<Uri> {
        let kept: Vec<&str> =
            self.0.iter().filter(|(_, name, _)| !self.is_of_signature(name)).map(|(pair, _, _)| *pair).collect();
        let (path, query) = (uri.path(), kept.join("&"));
        let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        text.parse().map_err(|_| error::invalid_request("The request's URI does not read."))
    }
}

/// `20260131T123456Z`.
fn signed_at(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    if text.len() != 16 || text.as_bytes()[8] != b'T' || !text.ends_with('Z') {
        return None;
    }
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &text.get(..4)?,
        &text.get(4..6)?,
        &text.get(6..8)?,
        &text.get(9..11)?,
        &text.get(11..13)?,
        &text.get(13..15)?
    );
    number(0, 8)?;
    let parsed = s3s::dto::Timestamp::parse(s3s::dto::TimestampFormat::DateTime, &rfc3339).ok()?;
    let mut seconds = Vec::new();
    parsed.format(s3s::dto::TimestampFormat::EpochSeconds, &mut seconds).ok()?;
    let seconds: f64 = std::str::from_utf8(&seconds).ok()?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// `BUCKET.localhost`, `BUCKET.s3.localhost`, `BUCKET.s3.REGION.localhost`; without a bucket the path names it.
struct LocalHost;

impl S3Host for LocalHost {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        Ok(match bucket_of(name) {
            Some(bucket) => VirtualHost::new("localhost").with_bucket(bucket.to_owned()),
            None => VirtualHost::new("localhost"),
        })
    }
}

fn bucket_of(host: &str) -> Option<String> {
    let name = host.to_ascii_lowercase();
    let name = name.strip_suffix(".localhost")?;
    let labels: Vec<&str> = name.split('.').collect();
    let end = match labels.as_slice() {
        [.., "s3"] => labels.len() - 1,
        [.., "s3", _region] => labels.len() - 2,
        _ => labels.len(),
    };
    Some(labels[..end].join(".")).filter(|bucket| !bucket.is_empty())
}

/// Nothing that reaches `s3s` is signed.
struct Nobody;

#[async_trait::async_trait]
impl S3Auth for Nobody {
    async fn get_secret_key(&self, _: &str) -> S3Result<SecretKey> {
        Err(error::denied())
    }
}

/// Refuses by name what is not built.
struct Built;

#[async_trait::async_trait]
impl S3Access for Built {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let name = cx.s3_op().name();
        if COVERAGE.iter().any(|covered| covered.operation == name) { Ok(()) } else { Err(error::not_supported(name)) }
    }
}

/// An error outside of `s3s`, in its form.
fn rendered(error: S3Error) -> Response<Body> {
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the client went away: {0}")]
struct Failed(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Failed {
    fn of(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_name_a_bucket() {
        for (host, bucket) in [
            ("localhost", None),
            ("s3.localhost", None),
            ("s3.eu-west-1.localhost", None),
            ("b.localhost", Some("b")),
            ("b.s3.localhost", Some("b")),
            ("a.b.s3.us-east-1.localhost", Some("a.b")),
            ("A.localhost", Some("a")),
            ("127.0.0.1", None),
        ] {
            assert_eq!(bucket_of(host).as_deref(), bucket, "{host}");
        }
    }

    #[test]
    fn a_presigned_url_ends_when_it_says() {
        let query = Query::parse("X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=0&x-id=GetObject");
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert!(query.check_time(begin + Duration::from_secs(60)).is_ok());
        assert!(query.check_time(begin + Duration::from_secs(61)).is_err());
        assert!(query.check_time(begin - Duration::from_secs(3600)).is_err());
        let uri = query.without_signature(&Uri::from_static("/b/k?all")).unwrap();
        assert_eq!(uri, "/b/k?x-id=GetObject");
        let old = Query::parse("AWSAccessKeyId=a&Signature=b&Expires=100");
        assert!(old.check_time(SystemTime::UNIX_EPOCH + Duration::from_secs(100)).is_ok());
        assert!(old.check_time(SystemTime::UNIX_EPOCH + Duration::from_secs(101)).is_err());
    }
}
