//! Proxies, as `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name them, in either case. This host itself is
//! never reached by one.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::is_loopback;

/// Which proxy is for whom.
#[derive(Clone)]
pub struct Proxies {
    matcher: Arc<Matcher>,
}

impl Proxies {
    pub fn of_environment() -> Self {
        Proxies { matcher: Arc::new(Matcher::from_env()) }
    }

    fn to(&self, destination: &Uri) -> Option<Intercept> {
        let is_near = destination.authority().is_some_and(|authority| is_loopback(authority.as_str()));
        if is_near { None } else { self.matcher.intercept(destination) }
    }

    /// What a proxy is told of who asks, in a request that goes through it readable. Others tell it when they connect.
    pub fn proof_of_plain(&self, destination: &Uri) -> Option<HeaderValue> {
        let proxy = (destination.scheme_str() == Some("http")).then(|| self.to(destination)).flatten()?;
        proxy.basic_auth().cloned()
    }
}

/// Connects to a host, or to the proxy that leads there.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    proxies: Proxies,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Connector {
    pub fn new(tcp: HttpConnector, proxies: Proxies) -> Self {
        Connector { tcp, proxies }
    }
}

impl Service<Uri> for Connector {
    type Response = Way;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Way, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let (mut tcp, proxy) = (self.tcp.clone(), self.proxies.to(&destination));
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(Way { stream: tcp.call(destination).await?, reads_requests: false });
            };
            let said = |error: Failure| format!("the proxy {}: {error}", proxy.uri());
            if proxy.uri().scheme_str() != Some("http") {
                return Err(said("only proxies of http:// are built".into()).into());
            }
            if destination.scheme_str() == Some("http") {
                let stream = tcp.call(proxy.uri().clone()).await.map_err(|e| said(e.into()))?;
                return Ok(Way { stream, reads_requests: true });
            }
            let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            if let Some(proof) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(proof.clone());
            }
            let stream = tunnel.call(destination).await.map_err(|e| said(e.into()))?;
            Ok(Way { stream, reads_requests: false })
        })
    }
}

/// A connection.
pub struct Way {
    stream: TokioIo<TcpStream>,
    /// At its other end is a proxy that reads requests, which say the whole address.
    reads_requests: bool,
}

impl Connection for Way {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.reads_requests)
    }
}

impl Read for Way {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Way {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
