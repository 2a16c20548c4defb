//! HTTP to those who have what Hearth fetches: registries of images, mirrors of distributions. Redirects are followed,
//! what breaks off goes on, and proxies are as the environment names them.

mod proxy;

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use hearth_model::CodeHash;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Handle;

use crate::fault::Fault;
use crate::intake::Intake;
use proxy::{Connector, Proxies};

/// Longest way to a connection, and to the head of an answer.
const CONNECT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the next piece of a body may take.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long something large may take: 10 GB over a slow line.
const WHOLE_MAX: Duration = Duration::from_secs(3600);
/// Tries of a request in a row that bring nothing, and the pause after the first; each next one is twice as long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);
/// Downloads of one part that broke off, also where each brought something.
const BREAKS_MAX: u32 = 100;
const REDIRECTS_MAX: u32 = 5;
/// Idle connections that are kept to one host.
const IDLE_MAX: usize = 4;
const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));

type Http = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// The one client, made when it is needed first.
#[derive(Default)]
pub struct Web {
    http: OnceLock<(Http, Proxies)>,
}

/// What to do with the answer of one try.
pub enum Tried<T> {
    Done(T),
    /// It may be different next time.
    Again(Fault),
}

/// What is asked for beside the address.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub accept: Option<&'static str>,
    pub range: Option<&'a str>,
    /// Fields of a form, which is posted, and to nobody else than who was meant.
    pub form: Option<&'a str>,
}

/// Whoever answers questions by address; how a question becomes an answer of success is its own.
pub trait Ask {
    fn ask(
        &self,
        url: &str,
        wanted: Wanted<'_>,
    ) -> impl Future<Output = Result<Tried<Response<Incoming>>, Fault>> + Send;
}

impl Web {
    fn http(&self) -> Result<&(Http, Proxies), Fault> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let made = client()?;
        Ok(self.http.get_or_init(|| made))
    }

    /// Asks, and goes where the answer leads, as far as `may` allows it. Who asks is told to the host that was asked only.
    pub async fn follow(
        &self,
        url: &str,
        wanted: Wanted<'_>,
        mut authorization: Option<HeaderValue>,
        may: fn(&Uri) -> bool,
    ) -> Result<Tried<Response<Incoming>>, Fault> {
        let (http, proxies) = self.http()?;
        let mut uri: Uri = url.parse().map_err(|_| Fault::Unavailable("there is no such address".to_owned()))?;
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::get(uri.clone()).header(header::USER_AGENT, AGENT);
            if wanted.form.is_some() {
                request =
                    request.method(Method::POST).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            }
            for (name, value) in [(header::ACCEPT, wanted.accept), (header::RANGE, wanted.range)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            if let Some(authorization) = &authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            if let Some(proof) = proxies.proof_of_plain(&uri) {
                request = request.header(header::PROXY_AUTHORIZATION, proof);
            }
            let body = Bytes::from(wanted.form.unwrap_or_default().to_owned());
            let request = request.body(Full::new(body)).map_err(|e| Fault::Unavailable(e.to_string()))?;
            let response = match tokio::time::timeout(PATIENCE, http.request(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Ok(Tried::Again(Fault::Unavailable(causes(&error)))),
                Err(_) => return Ok(Tried::Again(late())),
            };
            if !response.status().is_redirection() || wanted.form.is_some() {
                return Ok(Tried::Done(response));
            }
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| redirected(&uri, location)).filter(may);
            let next = next
                .ok_or_else(|| Fault::Unavailable("its answer leads to no address that may be gone to".to_owned()))?;
            if next.authority() != uri.authority() {
                authorization = None;
            }
            uri = next;
        }
        Err(Fault::Unavailable("its answers lead in circles".to_owned()))
    }
}

/// Trusted is who every connection out trusts.
fn client() -> io::Result<(Http, Proxies)> {
    let tls = (*hearth_tls::client().map_err(io::Error::other)?).clone();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    let proxies = Proxies::of_environment();
    let connector = Connector::new(tcp, proxies.clone());
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
    Ok((Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector), proxies))
}

/// A small document, whole.
pub async fn document(from: &impl Ask, url: &str, accept: Option<&'static str>, max: u64) -> Result<Bytes, Fault> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match document_once(from, url, accept, max).await? {
            Tried::Done(bytes) => return Ok(bytes),
            Tried::Again(fault) => tracing::info!(?fault, "a document is asked for again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    match document_once(from, url, accept, max).await? {
        Tried::Done(bytes) => Ok(bytes),
        Tried::Again(fault) => Err(fault),
    }
}

async fn document_once(
    from: &impl Ask,
    url: &str,
    accept: Option<&'static str>,
    max: u64,
) -> Result<Tried<Bytes>, Fault> {
    match from.ask(url, Wanted { accept, ..Wanted::default() }).await? {
        Tried::Done(response) => whole(response, max).await,
        Tried::Again(fault) => Ok(Tried::Again(fault)),
    }
}

/// The body of an answer.
pub async fn whole(response: Response<Incoming>, max: u64) -> Result<Tried<Bytes>, Fault> {
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

/// Something large. Where it breaks off it goes on, but not for ever: a server may send a byte now and then.
pub async fn download(from: &impl Ask, url: &str, to: &mut Intake<'_>) -> Result<(), Fault> {
    let late = |_| Fault::Unavailable(format!("it did not come within {} s", WHOLE_MAX.as_secs()));
    tokio::time::timeout(WHOLE_MAX, to_its_end(from, url, to)).await.map_err(late)?
}

async fn to_its_end(from: &impl Ask, url: &str, to: &mut Intake<'_>) -> Result<(), Fault> {
    let (mut fruitless, mut pause) = (0, PAUSE);
    for _ in 0..BREAKS_MAX {
        let before = to.taken();
        let fault = match download_once(from, url, to).await? {
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

async fn download_once(from: &impl Ask, url: &str, to: &mut Intake<'_>) -> Result<Tried<()>, Fault> {
    if to.is_whole() {
        return Ok(Tried::Done(()));
    }
    let range = (to.taken() > 0).then(|| format!("bytes={}-", to.taken()));
    let response = match from.ask(url, Wanted { range: range.as_deref(), ..Wanted::default() }).await? {
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

/// Whoever may be asked by everybody, also readable: what comes is proven by its digest.
pub struct Open<'a> {
    pub web: &'a Web,
}

impl Ask for Open<'_> {
    async fn ask(&self, url: &str, wanted: Wanted<'_>) -> Result<Tried<Response<Incoming>>, Fault> {
        let may = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        let response = match self.web.follow(url, wanted, None, may).await? {
            Tried::Done(response) => response,
            Tried::Again(fault) => return Ok(Tried::Again(fault)),
        };
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Tried::Done(response)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(Fault::Missing),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Fault::Denied(format!("the answer is {status}")))
            }
            status => Ok(refusal(status)),
        }
    }
}

/// The bytes of one of several addresses, proven, in a file that is in the folder but not seen there. Blocking, in a thread
/// of the async runtime.
pub fn fetch(
    web: &Web,
    urls: &[String],
    size: u64,
    digest: CodeHash,
    folder: &Path,
    came: &(dyn Fn(u64) + Sync),
) -> Result<File, Fault> {
    let blob = folder.join("blob");
    let file = File::options().read(true).write(true).create_new(true).open(&blob)?;
    fs::remove_file(&blob)?;
    for url in urls {
        let mut intake = Intake::new(&file, size, came);
        match Handle::current().block_on(download(&Open { web }, url, &mut intake)) {
            Ok(()) if intake.finish()? == digest => return Ok(file),
            Ok(()) => return Err(Fault::Damaged(format!("what came for sha256:{} is another", digest.to_hex()))),
            Err(Fault::Missing) => {}
            Err(other) => return Err(other),
        }
    }
    Err(Fault::Missing)
}

/// Whether whoever answers there is this host, so that nobody is between.
pub fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether nobody can change what comes from there on its way.
pub fn is_safe(uri: &Uri) -> bool {
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(authority)) => is_loopback(authority.as_str()),
        _ => false,
    }
}

/// A status that may be another one next time.
pub fn refusal<T>(status: StatusCode) -> Tried<T> {
    let said = match status {
        StatusCode::TOO_MANY_REQUESTS => "there were too many requests (429)".to_owned(),
        other => format!("the answer is {other}"),
    };
    Tried::Again(Fault::Unavailable(said))
}

fn late() -> Fault {
    Fault::Unavailable(format!("nothing came for {} s", PATIENCE.as_secs()))
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
    absolute.parse().ok()
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
        let to = |location: &str| redirected(&from, location).filter(is_safe).map(|uri| uri.to_string());
        assert_eq!(to("https://cdn.example/x?y=z").as_deref(), Some("https://cdn.example/x?y=z"));
        assert_eq!(to("/elsewhere").as_deref(), Some("https://registry.example/elsewhere"));
        assert_eq!([to("http://cdn.example/x"), to("ftp://cdn.example/x"), to("relative")], [None, None, None]);
    }
}
