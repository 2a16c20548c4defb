//! Registries, by the API that Docker's registry has and all others copied (`/v2/`): HTTPS, or HTTP on loopback. What
//! they say is believed only as far as its digest goes; where they redirect to gets no credential.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hearth_model::CodeHash;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::{self, Basic};
use super::intake::Intake;
use super::manifest::{ACCEPT, DOCUMENT_MAX};
use super::source::Fault;

/// Longest way to a connection, and to the head of an answer.
const CONNECT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the next piece of a body may take.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Tries of a request in a row that bring nothing, and the pause after the first; each next one is twice as long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);
/// Downloads of one layer that broke off, also where each brought something.
const BREAKS_MAX: u32 = 100;
const REDIRECTS_MAX: u32 = 5;
/// Longest token, and what is said with it, bytes.
const TOKEN_MAX: usize = 64 * 1024;
/// Idle connections that are kept to one registry.
const IDLE_MAX: usize = 4;

type Http = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// All registries.
pub struct Registries {
    /// As `docker login` writes it.
    credentials: Option<PathBuf>,
    http: OnceLock<Http>,
}

impl Registries {
    pub fn new(credentials: Option<PathBuf>) -> Self {
        Registries { credentials, http: OnceLock::new() }
    }

    pub fn repository(&self, host: &str, repository: &str) -> Result<Repository, Fault> {
        let basic = match &self.credentials {
            Some(file) => credentials::find(file, host).map_err(Fault::Denied)?,
            None => None,
        };
        let http = match self.http.get() {
            Some(http) => http.clone(),
            None => {
                let made = client()?;
                self.http.get_or_init(|| made).clone()
            }
        };
        // The one registry whose name is not its host.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if is_loopback(host) { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{repository}");
        Ok(Repository { http, base, repository: repository.to_owned(), basic, authorization: Mutex::default() })
    }
}

/// Trusted is who every connection out trusts.
fn client() -> io::Result<Http> {
    let tls = (*hearth_tls::client().map_err(io::Error::other)?).clone();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector))
}

/// Whether whoever answers there is this host, so that nobody is between.
fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// One repository of a registry, while one image is fetched.
pub struct Repository {
    http: Http,
    /// `https://HOST/v2/NAME`.
    base: String,
    repository: String,
    basic: Option<Basic>,
    /// What it asked for last.
    authorization: Mutex<Option<HeaderValue>>,
}

/// What to do with the answer of one try.
enum Tried<T> {
    Done(T),
    /// It may be different next time.
    Again(Fault),
}

impl Repository {
    /// A manifest or index, by tag or digest.
    pub async fn manifest(&self, which: &str) -> Result<Bytes, Fault> {
        self.document(&format!("{}/manifests/{which}", self.base), Some(ACCEPT), DOCUMENT_MAX).await
    }

    /// A small blob.
    pub async fn small(&self, digest: CodeHash, size: u64) -> Result<Bytes, Fault> {
        self.document(&self.blob(digest), None, size).await
    }

    fn blob(&self, digest: CodeHash) -> String {
        format!("{}/blobs/sha256:{}", self.base, digest.to_hex())
    }

    async fn document(&self, url: &str, accept: Option<&'static str>, max: u64) -> Result<Bytes, Fault> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.document_once(url, accept, max).await? {
                Tried::Done(bytes) => return Ok(bytes),
                Tried::Again(fault) => tracing::info!(?fault, "a registry is asked again"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        match self.document_once(url, accept, max).await? {
            Tried::Done(bytes) => Ok(bytes),
            Tried::Again(fault) => Err(fault),
        }
    }

    async fn document_once(&self, url: &str, accept: Option<&'static str>, max: u64) -> Result<Tried<Bytes>, Fault> {
        let response = match self.send(url, accept, None).await? {
            Tried::Done(response) => response,
            Tried::Again(fault) => return Ok(Tried::Again(fault)),
        };
        let body = Limited::new(response.into_body(), usize::try_from(max).unwrap_or(usize::MAX)).collect();
        Ok(match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => Tried::Done(body.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Fault::Damaged(format!("a document is longer than {max} bytes")));
            }
            Ok(Err(error)) => Tried::Again(Fault::Unavailable(error.to_string())),
            Err(_) => Tried::Again(late()),
        })
    }

    /// A large blob. Where it breaks off it goes on.
    pub async fn download(&self, digest: CodeHash, to: &mut Intake<'_>) -> Result<(), Fault> {
        let url = self.blob(digest);
        let (mut fruitless, mut pause) = (0, PAUSE);
        for _ in 0..BREAKS_MAX {
            let before = to.taken();
            let fault = match self.download_once(&url, to).await? {
                Tried::Done(()) => return Ok(()),
                Tried::Again(fault) => fault,
            };
            if to.taken() > before {
                (fruitless, pause) = (0, PAUSE);
            }
            fruitless += 1;
            if fruitless == TRIES {
                return Err(fault);
            }
            tracing::info!(?fault, taken = to.taken(), "a download broke off and goes on");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Fault::Unavailable("a download broke off too often".to_owned()))
    }

    async fn download_once(&self, url: &str, to: &mut Intake<'_>) -> Result<Tried<()>, Fault> {
        if to.is_whole() {
            return Ok(Tried::Done(()));
        }
        let range = (to.taken() > 0).then(|| format!("bytes={}-", to.taken()));
        let response = match self.send(url, None, range.as_deref()).await? {
            Tried::Done(response) => response,
            Tried::Again(fault) => return Ok(Tried::Again(fault)),
        };
        if to.taken() > 0 && !continues(&response, to.taken()) {
            to.restart()?;
        }
        let mut body = response.into_body();
        loop {
            let frame = match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
                Err(_) => return Ok(Tried::Again(late())),
                Ok(Some(Err(error))) => return Ok(Tried::Again(Fault::Unavailable(error.to_string()))),
                Ok(Some(Ok(frame))) => frame,
                Ok(None) if to.is_whole() => return Ok(Tried::Done(())),
                Ok(None) => return Ok(Tried::Again(Fault::Unavailable("the answer ended too early".to_owned()))),
            };
            if let Ok(piece) = frame.into_data() {
                to.take(&piece)?;
            }
        }
    }

    /// Asks, and proves who asks where that is asked for.
    async fn send(
        &self,
        url: &str,
        accept: Option<&'static str>,
        range: Option<&str>,
    ) -> Result<Tried<Response<Incoming>>, Fault> {
        let mut is_proven = false;
        loop {
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let response = match self.follow(url, accept, range, authorization).await? {
                Tried::Done(response) => response,
                Tried::Again(fault) => return Ok(Tried::Again(fault)),
            };
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(Tried::Done(response)),
                StatusCode::UNAUTHORIZED if !is_proven => {
                    let asked = response.headers().get(header::WWW_AUTHENTICATE).and_then(|asked| asked.to_str().ok());
                    let Some(challenge) = asked.and_then(Challenge::parse) else { return Err(self.denied(status)) };
                    let authorization = match self.prove(challenge).await? {
                        Tried::Done(authorization) => authorization,
                        Tried::Again(fault) => return Ok(Tried::Again(fault)),
                    };
                    *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
                    is_proven = true;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied(status)),
                StatusCode::NOT_FOUND => return Err(Fault::Missing),
                status => return Ok(refusal(status)),
            }
        }
    }

    fn denied(&self, status: StatusCode) -> Fault {
        Fault::Denied(match &self.basic {
            Some(_) => format!("the registry does not accept the credentials that there are for it ({status})"),
            None => format!("the registry asks for credentials, and there are none for it ({status})"),
        })
    }

    /// Asks, and goes where the answer leads.
    async fn follow(
        &self,
        url: &str,
        accept: Option<&'static str>,
        range: Option<&str>,
        mut authorization: Option<HeaderValue>,
    ) -> Result<Tried<Response<Incoming>>, Fault> {
        let mut uri: Uri =
            url.parse().map_err(|_| Fault::Unavailable("its registry has no such address".to_owned()))?;
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::get(uri.clone()).header(header::USER_AGENT, AGENT);
            for (name, value) in [(header::ACCEPT, accept), (header::RANGE, range)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            if let Some(authorization) = &authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request.body(Empty::new()).map_err(|e| Fault::Unavailable(e.to_string()))?;
            let response = match tokio::time::timeout(PATIENCE, self.http.request(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Ok(Tried::Again(Fault::Unavailable(causes(&error)))),
                Err(_) => return Ok(Tried::Again(late())),
            };
            if !response.status().is_redirection() {
                return Ok(Tried::Done(response));
            }
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| redirected(&uri, location));
            let next =
                next.ok_or_else(|| Fault::Unavailable("the registry leads to no address that is safe".to_owned()))?;
            if next.authority() != uri.authority() {
                authorization = None;
            }
            uri = next;
        }
        Err(Fault::Unavailable("the registry leads in circles".to_owned()))
    }

    async fn prove(&self, challenge: Challenge) -> Result<Tried<HeaderValue>, Fault> {
        let basic = self.basic.as_ref().map(|basic| format!("Basic {}", basic.0));
        let (realm, service, scope) = match challenge {
            Challenge::Basic => {
                let basic = basic.ok_or_else(|| self.denied(StatusCode::UNAUTHORIZED))?;
                return Ok(Tried::Done(secret(&basic)?));
            }
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let realm_uri: Option<Uri> = realm.parse().ok();
        if !realm_uri.as_ref().is_some_and(is_safe) {
            return Err(Fault::Denied("the registry sends to an address for tokens that is not safe".to_owned()));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let pairs = service.into_iter().map(|service| ("service", service)).chain([("scope", scope)]);
        let query: Vec<String> =
            pairs.map(|(key, value)| format!("{key}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC))).collect();
        let url = format!("{realm}{}{}", if realm.contains('?') { '&' } else { '?' }, query.join("&"));
        let basic = basic.as_deref().map(secret).transpose()?;
        let response = match self.follow(&url, None, None, basic).await? {
            Tried::Done(response) => response,
            Tried::Again(fault) => return Ok(Tried::Again(fault)),
        };
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => return Err(self.denied(status)),
            status => return Ok(refusal(status)),
        }
        let body = tokio::time::timeout(PATIENCE, Limited::new(response.into_body(), TOKEN_MAX).collect()).await;
        let Ok(Ok(body)) = body else { return Ok(Tried::Again(Fault::Unavailable("no token came".to_owned()))) };
        let token: Option<Token> = serde_json::from_slice(&body.to_bytes()).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let token = token.ok_or_else(|| Fault::Denied("the registry's tokens are none".to_owned()))?;
        Ok(Tried::Done(secret(&format!("Bearer {token}"))?))
    }
}

const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn secret(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Fault::Denied("a credential has characters that none has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn late() -> Fault {
    Fault::Unavailable(format!("the registry was silent for {} s", PATIENCE.as_secs()))
}

fn refusal<T>(status: StatusCode) -> Tried<T> {
    let said = match status {
        StatusCode::TOO_MANY_REQUESTS => "the registry has had too many requests (429)".to_owned(),
        other => format!("the registry answers {other}"),
    };
    Tried::Again(Fault::Unavailable(said))
}

/// Whether an answer begins where it was asked to.
fn continues(response: &Response<Incoming>, at: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let begins = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && begins == Some(at)
}

fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    let absolute = match location.starts_with('/') {
        true => format!("{}://{}{location}", from.scheme_str()?, from.authority()?),
        false => location.to_owned(),
    };
    absolute.parse().ok().filter(is_safe)
}

fn is_safe(uri: &Uri) -> bool {
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(authority)) => is_loopback(authority.as_str()),
        _ => false,
    }
}

/// An error with what is behind it: the client's own says hardly more than that it failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_without_tls() {
        for (authority, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("127.9.9.9:1", true),
            ("[::1]:5000", true),
            ("registry.example", false),
            ("127.0.0.1.example:5000", false),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_loopback(authority), expected, "{authority}");
        }
        let from: Uri = "https://registry.example/v2/a/blobs/x".parse().unwrap();
        let to = |location: &str| redirected(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("https://cdn.example/x?y=z").as_deref(), Some("https://cdn.example/x?y=z"));
        assert_eq!(to("/elsewhere").as_deref(), Some("https://registry.example/elsewhere"));
        assert_eq!([to("http://cdn.example/x"), to("ftp://cdn.example/x"), to("relative")], [None, None, None]);
    }
}
