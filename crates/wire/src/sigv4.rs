//! Signatures of version 4, as the side checks them that receives them: in the header `Authorization` or in the query,
//! with the body's hash, without, or in signed chunks. Pure: request, secret and time are given.
//!
//! ```text
//!   head ──► Signature::presented ──► who signed, for what ──► verify(secret) ──► what it says of the body
//! ```
//!
//! - `canonical`: the one text that a request is signed as
//! - `chunked`: bodies in `aws-chunked`, and the signatures of their chunks
//!
//! Knows no credentials: whose secret it is checked with is the caller's to find out. Facts are from AWS's reference of
//! its API signatures; texts are as its services answer them.

mod canonical;
mod chunked;

use std::time::{Duration, SystemTime};

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use canonical::Query;

use crate::hex;
pub use chunked::{ChunkError, Chunks};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// How far the clocks of two hosts may be apart.
const SKEW: Duration = Duration::from_secs(5 * 60);
const SKEW_S3: Duration = Duration::from_secs(15 * 60);
/// Longest time that a presigned request may be good for.
const EXPIRES_MAX: u64 = 7 * 24 * 3600;
/// Longest header or value of the query that is looked at, bytes: session tokens are the longest.
const LENGTH_MAX: usize = 8192;

/// A request as it was sent, nothing decoded.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
}

/// What differs between services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Paths are signed without `.`, `..` and empty segments, and encoded once more than they are sent.
    pub normalizes: bool,
    /// A session token in the query is part of what is signed.
    pub signs_token: bool,
    /// The body may be read later, unsigned or in chunks; every `x-amz-` header must be signed.
    pub streams: bool,
}

impl Dialect {
    pub const S3: Self = Dialect { normalizes: false, signs_token: true, streams: true };
    /// Every other service.
    pub const SERVICE: Self = Dialect { normalizes: true, signs_token: true, streams: false };

    fn skew(self) -> Duration {
        if self.streams { SKEW_S3 } else { SKEW }
    }
}

/// `KEY/DATE/REGION/SERVICE/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub access_key: String,
    /// Eight digits.
    pub date: String,
    pub region: String,
    pub service: String,
}

impl Scope {
    pub fn parse(credential: &str) -> Option<Self> {
        let mut parts = credential.rsplitn(5, '/');
        let terminator = parts.next()?;
        let (service, region, date, key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let scope = Scope {
            access_key: key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        };
        (terminator == TERMINATOR && !key.is_empty() && !service.is_empty()).then_some(scope)
    }

    /// Without the key.
    fn text(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", self.date, self.region, self.service)
    }
}

/// A signature as it was presented; nothing about it is proven yet.
#[derive(Debug)]
pub struct Signature {
    pub scope: Scope,
    pub token: Option<String>,
    /// In lower case, in the order in which they are signed.
    signed: Vec<String>,
    signature: [u8; 32],
    time: Timestamp,
    /// How long it is good for; of those in a query.
    expires: Option<Duration>,
}

/// Whose secret and what time a signature is checked with.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    pub dialect: Dialect,
    pub secret: &'a str,
    pub now: SystemTime,
    /// SHA-256 of the body, where it is at hand. Else it is to be checked against what is answered as it is read.
    pub body: Option<[u8; 32]>,
}

/// What a good signature says of the body.
pub enum Payload {
    /// Its SHA-256.
    Whole([u8; 32]),
    /// Nothing.
    Unsigned,
    /// It is in `aws-chunked`.
    Chunked {
        /// Of the chunks, where they are signed.
        signing: Option<ChunkSigning>,
        /// Headers follow the body.
        trailer: bool,
    },
}

/// Signs chunks, each after the one before. No `Debug`: it holds a key.
pub struct ChunkSigning {
    key: [u8; 32],
    /// Time and scope, each a line.
    context: String,
    previous: [u8; 32],
}

/// Why a signature is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Authorization header requires '{0}' parameter.")]
    Missing(&'static str),
    #[error("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")]
    NoDate,
    #[error("AWS query-string parameters must include '{0}'.")]
    MissingInQuery(&'static str),
    #[error("The value of '{0}' does not read.")]
    Malformed(&'static str),
    #[error("Unsupported AWS 'algorithm': '{0}'.")]
    Algorithm(String),
    #[error("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{0}'")]
    Scope(String),
    #[error("Only one way of signing a request is allowed.")]
    Twice,
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != '{date}'."
    )]
    OtherDate { scope: String, date: String },
    #[error("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")]
    HostUnsigned,
    #[error("There were headers present in the request which were not signed: {0}")]
    HeaderUnsigned(String),
    #[error("Signature expired: {time} is now earlier than {bound}.")]
    Expired { time: String, bound: String },
    #[error("Signature not yet current: {time} is still later than {bound}.")]
    NotYet { time: String, bound: String },
    #[error("x-amz-content-sha256 is missing, or is not what this service accepts.")]
    Payload,
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    OtherPayload,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
         signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl Signature {
    /// The signature of a request; `None` when it has none of this version.
    pub fn presented(head: &Head<'_>) -> Result<Option<Self>, Refusal> {
        let mut given = head.headers.get_all(AUTHORIZATION).iter();
        let authorization =
            given.next().and_then(|value| value.to_str().ok()).filter(|value| value.starts_with("AWS4-"));
        let query = Query::parse(head.query);
        let in_query = query.given("X-Amz-Algorithm");
        match (authorization, in_query) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Refusal::Twice),
            (Some(_), None) if given.next().is_some() => Err(Refusal::Twice),
            (Some(authorization), None) => Self::of_header(authorization, head.headers).map(Some),
            (None, Some(algorithm)) => Self::of_query(&algorithm, &query).map(Some),
        }
    }

    fn of_header(authorization: &str, headers: &HeaderMap) -> Result<Self, Refusal> {
        let (algorithm, rest) = authorization.split_once(' ').unwrap_or((authorization, ""));
        known(algorithm)?;
        let parameter = |name: &'static str| {
            let mut all = rest.split(',').filter_map(|parameter| parameter.trim().split_once('='));
            all.find(|(found, _)| *found == name).map(|(_, value)| value).ok_or(Refusal::Missing(name))
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let time = match text("x-amz-date") {
            Some(date) => instant(date).ok_or(Refusal::Malformed("X-Amz-Date"))?,
            None => {
                let date = text(DATE.as_str()).ok_or(Refusal::NoDate)?;
                let date = jiff::fmt::rfc2822::parse(date).map(|date| date.timestamp());
                date.ok().or_else(|| instant(text(DATE.as_str())?)).ok_or(Refusal::Malformed("Date"))?
            }
        };
        Ok(Signature {
            scope: scope(parameter("Credential")?, time)?,
            token: text("x-amz-security-token").map(str::to_owned),
            signed: names(parameter("SignedHeaders")?)?,
            signature: bytes(parameter("Signature")?)?,
            time,
            expires: None,
        })
    }

    fn of_query(algorithm: &str, query: &Query<'_>) -> Result<Self, Refusal> {
        known(algorithm)?;
        let parameter = |name: &'static str| query.once(name)?.ok_or(Refusal::MissingInQuery(name));
        let time = instant(&parameter("X-Amz-Date")?).ok_or(Refusal::Malformed("X-Amz-Date"))?;
        let expires = match query.once("X-Amz-Expires")? {
            // Services other than S3 give it a meaning only where it is there.
            None => None,
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| (1..=EXPIRES_MAX).contains(seconds));
                Some(Duration::from_secs(seconds.ok_or(Refusal::Malformed("X-Amz-Expires"))?))
            }
        };
        Ok(Signature {
            scope: scope(&parameter("X-Amz-Credential")?, time)?,
            token: query.once("X-Amz-Security-Token")?,
            signed: names(&parameter("X-Amz-SignedHeaders")?)?,
            signature: bytes(&parameter("X-Amz-Signature")?)?,
            time,
            expires: Some(expires.unwrap_or(SKEW)),
        })
    }

    /// Whether the holder of the secret has signed this very request, now.
    pub fn verify(&self, head: &Head<'_>, check: &Check<'_>) -> Result<Payload, Refusal> {
        self.is_current(check)?;
        self.covers(head, check.dialect)?;
        let (payload, said) = self.payload(head, check)?;
        let key = signing_key(check.secret, &self.scope);
        let canonical = self.canonical(head, check.dialect, &said);
        let text = format!("{ALGORITHM}\n{}{}", self.context(), hex(&Sha256::digest(canonical)));
        // Compares in constant time.
        mac(&key, text.as_bytes()).verify_slice(&self.signature).map_err(|_| Refusal::Mismatch)?;
        Ok(match payload {
            Said::Hash(hash) => Payload::Whole(hash),
            Said::Unsigned => Payload::Unsigned,
            Said::Chunked { signed, trailer } => Payload::Chunked {
                signing: signed.then(|| ChunkSigning { key, context: self.context(), previous: self.signature }),
                trailer,
            },
        })
    }

    fn is_current(&self, check: &Check<'_>) -> Result<(), Refusal> {
        let skew = check.dialect.skew();
        let now = Timestamp::try_from(check.now).unwrap_or(Timestamp::MAX);
        let shifted = |earlier: bool, by: Duration| {
            let moved = if earlier { now.checked_sub(by) } else { now.checked_add(by) };
            moved.unwrap_or(now)
        };
        let latest = shifted(false, skew);
        if self.time > latest {
            let bound = format!("{} ({} + {} min.)", basic(latest), basic(now), skew.as_secs() / 60);
            return Err(Refusal::NotYet { time: basic(self.time), bound });
        }
        let age = self.expires.unwrap_or(skew);
        let earliest = shifted(true, age);
        if self.time < earliest {
            let bound = format!("{} ({} - {} min.)", basic(earliest), basic(now), age.as_secs().div_ceil(60));
            return Err(Refusal::Expired { time: basic(self.time), bound });
        }
        Ok(())
    }

    /// Whether all is signed that must be.
    fn covers(&self, head: &Head<'_>, dialect: Dialect) -> Result<(), Refusal> {
        let is_signed = |name: &str| self.signed.iter().any(|signed| signed == name);
        if !is_signed("host") {
            return Err(Refusal::HostUnsigned);
        }
        let mut names = head.headers.keys().map(http::HeaderName::as_str);
        match names.find(|name| dialect.streams && name.starts_with("x-amz-") && !is_signed(name)) {
            Some(name) => Err(Refusal::HeaderUnsigned(name.to_owned())),
            None => Ok(()),
        }
    }

    /// What is said of the body, and how that is spelled in what is signed.
    fn payload(&self, head: &Head<'_>, check: &Check<'_>) -> Result<(Said, String), Refusal> {
        let header = head.headers.get("x-amz-content-sha256");
        let header = header.map(|value| value.to_str().map_err(|_| Refusal::Payload)).transpose()?;
        let in_query =
            if check.dialect.streams { Query::parse(head.query).given("X-Amz-Content-Sha256") } else { None };
        let said = match header.map(str::to_owned).or(in_query) {
            Some(said) => said,
            None if check.dialect.streams && self.expires.is_some() => UNSIGNED.to_owned(),
            None => hex(&check.body.ok_or(Refusal::Payload)?),
        };
        let payload = Said::parse(&said).ok_or(Refusal::Payload)?;
        match (payload, check.body) {
            (Said::Hash(hash), Some(body)) if hash != body => Err(Refusal::OtherPayload),
            (Said::Hash(_), _) => Ok((payload, said)),
            _ if check.dialect.streams => Ok((payload, said)),
            _ => Err(Refusal::Payload),
        }
    }

    fn canonical(&self, head: &Head<'_>, dialect: Dialect, payload: &str) -> String {
        let path =
            if dialect.normalizes { canonical::service_path(head.path) } else { canonical::plain_path(head.path) };
        let query = Query::parse(head.query)
            .canonical(|name| name == "X-Amz-Signature" || (name == "X-Amz-Security-Token" && !dialect.signs_token));
        let headers = canonical::headers(head.headers, &self.signed);
        format!("{}\n{path}\n{query}\n{headers}\n{}\n{payload}", head.method, self.signed.join(";"))
    }

    /// Time and scope, each a line.
    fn context(&self) -> String {
        format!("{}\n{}\n", basic(self.time), self.scope.text())
    }
}

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// [`Payload`] before the signature is proven.
#[derive(Clone, Copy)]
enum Said {
    Hash([u8; 32]),
    Unsigned,
    Chunked { signed: bool, trailer: bool },
}

impl Said {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            UNSIGNED => Said::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Said::Chunked { signed: true, trailer: false },
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Said::Chunked { signed: true, trailer: true },
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Said::Chunked { signed: false, trailer: true },
            hash => Said::Hash(bytes(hash).ok()?),
        })
    }
}

impl ChunkSigning {
    /// Checks the signature of the next chunk, by the hash of its bytes.
    fn chunk(&mut self, hash: &[u8], signature: [u8; 32]) -> bool {
        let nothing = hex(&Sha256::digest(b""));
        self.next("PAYLOAD", &format!("{nothing}\n{}", hex(hash)), signature)
    }

    /// Likewise of what follows the body.
    fn trailer(&mut self, hash: &[u8], signature: [u8; 32]) -> bool {
        self.next("TRAILER", &hex(hash), signature)
    }

    fn next(&mut self, kind: &str, hashes: &str, signature: [u8; 32]) -> bool {
        let text = format!("{ALGORITHM}-{kind}\n{}{}\n{hashes}", self.context, hex(&self.previous));
        self.previous = signature;
        mac(&self.key, text.as_bytes()).verify_slice(&signature).is_ok()
    }
}

fn known(algorithm: &str) -> Result<(), Refusal> {
    if algorithm == ALGORITHM { Ok(()) } else { Err(Refusal::Algorithm(algorithm.chars().take(64).collect())) }
}

fn scope(credential: &str, time: Timestamp) -> Result<Scope, Refusal> {
    let shown = || credential.chars().take(200).collect();
    let scope = Some(credential).filter(|credential| credential.len() <= LENGTH_MAX).and_then(Scope::parse);
    let scope = scope.ok_or_else(|| Refusal::Scope(shown()))?;
    let date = basic(time)[..8].to_owned();
    if scope.date != date {
        return Err(Refusal::OtherDate { scope: scope.date, date });
    }
    Ok(scope)
}

/// `SignedHeaders`.
fn names(text: &str) -> Result<Vec<String>, Refusal> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let reads =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
    if text.len() <= LENGTH_MAX && names.iter().all(reads) && names.is_sorted_by(|one, other| one < other) {
        Ok(names)
    } else {
        Err(Refusal::Malformed("SignedHeaders"))
    }
}

/// 32 bytes in hexadecimal digits.
fn bytes(text: &str) -> Result<[u8; 32], Refusal> {
    let malformed = Refusal::Malformed("Signature");
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(malformed);
    }
    let mut found = [0; 32];
    for (byte, pair) in found.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        *byte = (nibble(pair[0]) << 4) | nibble(pair[1]);
    }
    Ok(found)
}

/// `20150830T123600Z`.
fn instant(text: &str) -> Option<Timestamp> {
    let shape = text.len() == 16 && text.as_bytes()[8] == b'T' && text.ends_with('Z');
    if !shape || !text.is_ascii() || !text[..8].bytes().chain(text[9..15].bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (day, time) = (&text[..8], &text[9..15]);
    let extended = format!("{}-{}-{}T{}:{}:{}Z", &day[..4], &day[4..6], &day[6..], &time[..2], &time[2..4], &time[4..]);
    extended.parse().ok()
}

/// Back from [`instant`].
fn basic(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn signing_key(secret: &str, scope: &Scope) -> [u8; 32] {
    let code = |key: &[u8], text: &str| <[u8; 32]>::from(mac(key, text.as_bytes()).finalize().into_bytes());
    let date = code(format!("AWS4{secret}").as_bytes(), &scope.date);
    code(&code(&code(&date, &scope.region), &scope.service), TERMINATOR)
}

fn mac(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    // A block holds the key, or its hash where it is longer (RFC 2104).
    let mut padded = [0; 64];
    if key.len() <= padded.len() {
        padded[..key.len()].copy_from_slice(key);
    } else {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&padded.into());
    mac.update(text);
    mac
}

#[cfg(test)]
mod tests;
