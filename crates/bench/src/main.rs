//! Measures latency and throughput of HTTP servers, for `script/bench`.
//!
//! - `bench echo`: the calibration: a bare hyper server that answers with the body; prints its address.
//! - `bench load URL PAYLOAD CONCURRENCY SECONDS [NAME:VALUE...]`: one connection a caller, each asks again when it has
//!   been answered; with these headers.
//! - `bench once URL PAYLOAD`: one request on a new connection; its time and request id.
//!
//! Results are one JSON object on stdout; times are microseconds.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Requests of each caller that are not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// What a plot of a distribution is drawn from.
const QUANTILES: [f64; 11] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["echo"] => echo().await,
        ["load", url, payload, concurrency, seconds, headers @ ..] => {
            load(url, payload, concurrency.parse()?, Duration::from_secs_f64(seconds.parse()?), headers).await
        }
        ["once", url, payload] => once(url, payload).await,
        _ => bail!("usage: bench echo | load URL PAYLOAD CONCURRENCY SECONDS [NAME:VALUE...] | once URL PAYLOAD"),
    }
}

async fn echo() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                Ok::<_, Infallible>(Response::new(Full::new(body)))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct Caller {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    payload: Bytes,
}

impl Caller {
    async fn connect(url: &str, payload: &str, more: &[&str]) -> Result<Self> {
        let uri: Uri = url.parse()?;
        let host = uri.authority().context("the URL has no host")?.as_str();
        let mut headers = HeaderMap::from_iter([
            (HOST, HeaderValue::from_str(host)?),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        for header in more {
            let (name, value) = header.split_once(':').context("a header is NAME:VALUE")?;
            headers.insert(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
        let sender = connected(&uri).await?;
        Ok(Caller { sender, uri, headers, payload: Bytes::from(payload.to_owned()) })
    }

    /// The same, on a new connection.
    async fn again(&self) -> Result<Self> {
        let (uri, headers, payload) = (self.uri.clone(), self.headers.clone(), self.payload.clone());
        Ok(Caller { sender: connected(&uri).await?, uri, headers, payload })
    }

    /// Asks once; the time until the whole answer was there, and its request id, which is empty where it has none.
    async fn ask(&mut self) -> Result<(Duration, String)> {
        let mut request = Request::post(self.uri.path()).body(Full::new(self.payload.clone()))?;
        *request.headers_mut() = self.headers.clone();
        let began = Instant::now();
        let response = self.sender.send_request(request).await?;
        let (status, failed) = (response.status(), response.headers().contains_key("x-amz-function-error"));
        let id =
            response.headers().get("x-amzn-requestid").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let body = response.into_body().collect().await?.to_bytes();
        let took = began.elapsed();
        if !status.is_success() || failed {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok((took, id))
    }
}

async fn connected(uri: &Uri) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(uri.authority().context("the URL has no host")?.as_str()).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn once(url: &str, payload: &str) -> Result<()> {
    let (took, id) = Caller::connect(url, payload, &[]).await?.ask().await?;
    println!("{}", serde_json::json!({ "us": took.as_micros() as u64, "requestId": id }));
    Ok(())
}

async fn load(url: &str, payload: &str, concurrency: usize, seconds: Duration, headers: &[&str]) -> Result<()> {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let mut caller = Caller::connect(url, payload, headers).await?;
        callers.spawn(async move {
            let mut times = Vec::new();
            let (mut failed, began) = (0u64, Instant::now());
            while began.elapsed() < WARM_UP + seconds {
                // Some servers close their connections after each answer.
                if caller.sender.ready().await.is_err() {
                    match caller.again().await {
                        Ok(connected) => caller = connected,
                        Err(_) => {
                            failed += 1;
                            break;
                        }
                    }
                }
                match caller.ask().await {
                    Ok((took, _)) if began.elapsed() > WARM_UP => times.push(took.as_micros() as u64),
                    Ok(_) => {}
                    Err(_) => failed += 1,
                }
            }
            (times, failed)
        });
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(done) = callers.join_next().await {
        let (of_caller, failed_of_caller) = done?;
        times.extend(of_caller);
        failed += failed_of_caller;
    }
    times.sort_unstable();
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied();
    let quantiles: Vec<_> = QUANTILES.iter().map(|&part| at(part)).collect();
    let result = serde_json::json!({
        "requests": times.len(),
        "failed": failed,
        "perSecond": (times.len() as f64 / seconds.as_secs_f64()).round(),
        "p50Us": at(0.5),
        "p90Us": at(0.9),
        "p99Us": at(0.99),
        "quantilesUs": quantiles,
    });
    println!("{result}");
    Ok(())
}
