//! Sockets and connections: the server's own door, and one more inside each environment (decision 3).

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use hearth_worker::{Endpoint, EndpointIdentity};

use crate::body::Body;
use crate::dispatch;
use crate::operator::Operator;

#[derive(Clone, Debug)]
pub struct Config {
    /// Connections of the server's own door at a time.
    pub connections_max: usize,
    /// How long a client may take to send a request's head, or stay silent between requests.
    pub head_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { connections_max: 8192, head_timeout: Duration::from_secs(60) }
    }
}

/// Connections of one environment's endpoint at a time.
const INSIDE_CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;

/// Who answers.
pub struct Services {
    pub lambda: hearth_wire_lambda::Service,
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

    /// Serves until `shutdown`; then takes no more, and comes back when every request under way is answered.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
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
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others are about to be closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let connection = graceful.watch(self.connection(stream, None, self.inner.config.head_timeout));
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(permit);
            });
        }
        drop(listener);
        graceful.shutdown().await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        inside: Option<Arc<EndpointIdentity>>,
        head_timeout: Duration,
    ) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send + use<> {
        let _ = stream.set_nodelay(true);
        let inner = self.inner.clone();
        let service = service_fn(move |request| {
            let (inner, inside) = (inner.clone(), inside.clone());
            async move {
                Ok::<_, Infallible>(match inner.services.get() {
                    Some(services) => dispatch::answer(services, inside.as_deref(), request).await,
                    None => not_ready(),
                })
            }
        });
        http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .serve_connection(TokioIo::new(stream), service)
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
        let (frontend, identity) = (self.clone(), Arc::new(identity));
        let serving = tokio::spawn(async move {
            let permits = Arc::new(Semaphore::new(INSIDE_CONNECTIONS_MAX));
            let mut connections = JoinSet::new();
            // Ends with the sandbox, or when the guard is dropped; the connections then end with it.
            while let Ok(permit) = permits.clone().acquire_owned().await {
                let Ok((stream, _)) = listener.accept().await else { break };
                while connections.try_join_next().is_some() {}
                // A frozen function is silent for as long as it is frozen.
                let connection = frontend.connection(stream, Some(identity.clone()), Duration::from_secs(24 * 3600));
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
