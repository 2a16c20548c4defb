//! Sockets and connections: the server's own door, and one more inside each environment (decision 3).

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_control::Control;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use hearth_identity::{Identity, Sessions, Verifier};
use hearth_model::{Bucket, Clock, Invoke};
use hearth_tls::{Accepted, Certificate};
use hearth_worker::{Endpoint, EndpointIdentity};

use crate::body::{self, Arriving, Body, ReadError};
use crate::dispatch;
use crate::framing::Watched;
use crate::operator::Operator;
use crate::stalled::Flowing;

#[derive(Clone, Debug)]
pub struct Config {
    /// Connections of the server's own door at a time.
    pub connections_max: usize,
    /// How long a client may be silent between requests, take to send a request's head, take for a body before its rate
    /// counts, and leave its answer unread.
    pub client_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { connections_max: 8192, client_timeout: Duration::from_secs(60) }
    }
}

/// Connections of one environment's endpoint at a time.
const INSIDE_CONNECTIONS_MAX: usize = 64;
/// Requests and connections of one environment's endpoint, for long and in a burst; who makes more waits.
const INSIDE_RATE: f64 = 1000.0;
const INSIDE_BURST: f64 = 2000.0;
/// Bytes of requests of one environment that are in memory at a time, as far as its clients announce them; the largest
/// request fits. Further ones wait in their sockets.
const INSIDE_BYTES_MAX: usize = 96 << 20;
/// Longest silence of a function that is frozen.
const FROZEN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 100;
/// How long a handshake of TLS may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long one is given to hear what [`PLAIN`] says.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// What a client is told that does not speak TLS where it must.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\
                       Connection: close\r\n\r\nThis port speaks HTTPS only: use https://.\n";
/// Requests of one connection of HTTP/2 at a time.
const STREAMS_MAX: u32 = 200;
/// How often a silent client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Who answers.
pub struct Services {
    pub lambda: hearth_wire_lambda::Service,
    /// None where the embedded S3 is not served.
    pub objects: Option<hearth_objects::Objects>,
    pub iam: hearth_wire_iam::Service,
    pub sts: hearth_wire_sts::Service,
    pub logs: hearth_wire_logs::Service,
    /// None where schedules are not served.
    pub scheduler: Option<hearth_wire_scheduler::Service>,
    /// None where queues are not served.
    pub sqs: Option<hearth_wire_sqs::Service>,
    /// Recognises callers by credentials of Hearth's own.
    pub sessions: Sessions,
    /// Function URLs, and whom they let.
    pub control: Control,
    pub identity: Identity,
    pub verifier: Verifier,
    pub invoke: Arc<dyn Invoke>,
    pub clock: Arc<dyn Clock>,
    pub operator: Arc<dyn Operator>,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Frontend {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    services: OnceLock<Services>,
}

impl Frontend {
    pub fn new(config: Config) -> Self {
        Frontend { inner: Arc::new(Inner { config, services: OnceLock::new() }) }
    }

    /// Says who answers, once: they themselves need this door, for environments. Before, requests are refused with 503.
    pub fn open(&self, services: Services) {
        let _ = self.inner.services.set(services);
    }

    /// Serves until `shutdown`; then takes no more, and comes back when every request under way is answered. With a
    /// certificate, TLS alone is spoken.
    pub async fn serve(
        &self,
        listener: TcpListener,
        certificate: Option<Certificate>,
        shutdown: impl Future<Output = ()>,
    ) {
        let permits = Arc::new(Semaphore::new(self.inner.config.connections_max));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            let (stream, client) = match accepted {
                Ok((stream, client)) => (stream, client.ip()),
                Err(error) => {
                    // Out of descriptors, most likely: others are about to be closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let _ = stream.set_nodelay(true);
            let (frontend, watcher, certificate) = (self.clone(), graceful.watcher(), certificate.clone());
            connections.spawn(async move {
                match certificate {
                    None => frontend.outside(stream.into_split(), Peer { client, is_secure: false }, watcher).await,
                    Some(certificate) => {
                        if let Some(stream) = secured(&certificate, stream).await {
                            let peer = Peer { client, is_secure: true };
                            frontend.outside(tokio::io::split(stream), peer, watcher).await;
                        }
                    }
                }
                drop(permit);
            });
        }
        drop(listener);
        graceful.shutdown().await;
    }

    /// A connection of the server's own door, until it ends.
    async fn outside<R, W>(&self, halves: (R, W), peer: Peer, watcher: Watcher)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let heard = Arc::new(Heard::default());
        let connection = watcher.watch(self.connection(halves, peer, None, heard.clone()));
        tokio::select! {
            ended = connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
            }
            () = heard.nothing_for(self.inner.config.client_timeout) => {}
        }
    }

    fn connection<R, W>(
        &self,
        (reader, writer): (R, W),
        peer: Peer,
        inside: Option<Arc<Inside>>,
        heard: Arc<Heard>,
    ) -> impl GracefulConnection<Error = ConnectionError> + Send + use<R, W>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let inner = self.inner.clone();
        // A frozen function is silent for as long as it is frozen.
        let patience = inside.is_none().then_some(inner.config.client_timeout);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let mut http1 = builder.http1();
        http1
            .max_buf_size(HEAD_MAX)
            .max_headers(HEADERS_MAX)
            .timer(TokioTimer::new())
            .header_read_timeout(patience.unwrap_or(FROZEN_MAX));
        let mut http2 = builder.http2();
        http2.max_header_list_size(HEAD_MAX as u32).max_concurrent_streams(STREAMS_MAX).timer(TokioTimer::new());
        if patience.is_some() {
            http2.keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIMEOUT);
        }
        let service = service_fn(move |request: Request<Incoming>| {
            heard.request();
            let (inner, inside) = (inner.clone(), inside.clone());
            async move {
                Ok::<_, Infallible>(match inner.services.get() {
                    Some(services) => {
                        if let Some(inside) = &inside {
                            inside.turn().await;
                        }
                        let request = request.map(|body| Arriving { body, patience });
                        dispatch::answer(services, inside.as_deref(), peer, request).await
                    }
                    None => not_ready(),
                })
            }
        });
        let writer = Flowing::new(writer, patience);
        builder.serve_connection(TokioIo::new(tokio::io::join(Watched::new(reader), writer)), service).into_owned()
    }
}

/// The connection once it is secure; `None` when it will not be.
async fn secured(certificate: &Certificate, stream: TcpStream) -> Option<impl AsyncRead + AsyncWrite + Send + 'static> {
    match tokio::time::timeout(HANDSHAKE_MAX, certificate.accept(stream)).await {
        Ok(Ok(Accepted::Secure(stream))) => return Some(stream),
        Ok(Ok(Accepted::Plain(mut stream))) => {
            let _ = tokio::time::timeout(GOODBYE_MAX, goodbye(&mut stream)).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
    None
}

/// What is left unread when a connection is closed takes the answer with it.
async fn goodbye(stream: &mut TcpStream) -> io::Result<u64> {
    stream.write_all(PLAIN).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(HEAD_MAX as u64), &mut tokio::io::sink()).await
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub client: IpAddr,
    pub is_secure: bool,
}

/// Whether a connection has had a request: a client that says nothing of which version it speaks is let go.
#[derive(Default)]
struct Heard(AtomicBool);

impl Heard {
    fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Ready when nothing was heard for so long; never, once anything was.
    async fn nothing_for(&self, patience: Duration) {
        tokio::time::sleep(patience).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

/// What a body takes of its environment's room, until it is dropped. Outside of environments nothing is counted.
pub type Room = Option<OwnedSemaphorePermit>;

/// The whole body of a request, and its room.
pub async fn read(inside: Option<&Inside>, body: Arriving, limit: usize) -> Result<(Bytes, Room), ReadError> {
    let room = room(inside, &body.body, limit).await;
    Ok((body::read(body, limit).await?, room))
}

/// Room for a body. One that does not say how long it is may be as long as it can be.
pub async fn room(inside: Option<&Inside>, body: &Incoming, limit: usize) -> Room {
    let announced = body.size_hint().exact();
    let bytes = announced.and_then(|bytes| usize::try_from(bytes).ok()).map_or(limit, |bytes| bytes.min(limit));
    let bytes = u32::try_from(bytes.min(INSIDE_BYTES_MAX)).unwrap_or(u32::MAX);
    // The semaphore is never closed.
    inside?.bytes.clone().acquire_many_owned(bytes).await.ok()
}

/// A door inside an environment: who calls through it, and what it may ask for.
pub struct Inside {
    pub identity: EndpointIdentity,
    requests: Mutex<Bucket>,
    bytes: Arc<Semaphore>,
}

impl Inside {
    fn new(identity: EndpointIdentity) -> Self {
        let requests = Mutex::new(Bucket::new(INSIDE_RATE, INSIDE_BURST, Instant::now()));
        Inside { identity, requests, bytes: Arc::new(Semaphore::new(INSIDE_BYTES_MAX)) }
    }

    /// Counts a request or connection, and waits when there were too many.
    async fn turn(&self) {
        let wait = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.level(Instant::now());
            requests.take(1.0);
            requests.until(0.0)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

fn not_ready() -> Response<Body> {
    let mut response = Response::new(Body::whole(r#"{"code":"NotReady","message":"Hearth is starting."}"#));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

impl Endpoint for Frontend {
    fn serve(
        &self,
        listener: std::net::TcpListener,
        identity: EndpointIdentity,
    ) -> io::Result<Box<dyn Any + Send + Sync>> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (frontend, inside) = (self.clone(), Arc::new(Inside::new(identity)));
        let serving = tokio::spawn(async move {
            let permits = Arc::new(Semaphore::new(INSIDE_CONNECTIONS_MAX));
            let mut connections = JoinSet::new();
            // Ends with the sandbox, or when the guard is dropped; the connections then end with it.
            while let Ok(permit) = permits.clone().acquire_owned().await {
                let Ok((stream, client)) = listener.accept().await else { break };
                while connections.try_join_next().is_some() {}
                inside.turn().await;
                let peer = Peer { client: client.ip(), is_secure: false };
                let _ = stream.set_nodelay(true);
                let connection = frontend.connection(stream.into_split(), peer, Some(inside.clone()), Arc::default());
                connections.spawn(async move {
                    let _ = connection.await;
                    drop(permit);
                });
            }
        });
        Ok(Box::new(Guard(serving)))
    }
}

/// Ends a door inside an environment.
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
