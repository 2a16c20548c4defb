//! The HTTP/1.1 server in front of a [`Runtime`].

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{ErrorType, RESPONSE_PAYLOAD_MAX};
use http::Request;
use http::request::Parts;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::posted::{self, Unread};
use crate::protocol::{Answer, Event, Refusal};
use crate::reply::{self, Reply};
use crate::route::Route;

/// Connections of one environment at a time; further ones wait in the kernel's queue, which has its own limit.
const CONNECTIONS_MAX: usize = 64;
/// Bodies of one environment that are kept in memory at a time; further ones wait in their sockets.
const BODIES_MAX: usize = 1;
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;
/// Pause after a failed accept: it may be for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// `to` of a `response`, as AWS names it.
const RESPONSE: &str = "InvocationResponse";
/// `to` of an `error`.
const ERROR: &str = "InvocationErrorResponse";

/// What `next` is answered with.
pub enum Next {
    Now(Arc<Event>),
    /// When there is an event. Closed without one when the runtime is to be refused.
    Later(oneshot::Receiver<Arc<Event>>),
}

/// The environment behind the API. Called from the tasks of connections; must not block.
pub trait Runtime: Send + Sync + 'static {
    fn next(&self) -> Result<Next, Refusal>;

    /// Asked before a body is read.
    fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal>;

    fn answer(&self, id: &str, to: &'static str, answer: Answer) -> Result<(), Refusal>;

    fn init_error(&self, answer: Answer) -> Result<(), Refusal>;
}

/// Serves until it is dropped; its connections are closed then.
pub struct Server {
    permits: Arc<Semaphore>,
    accepting: JoinSet<()>,
}

impl Server {
    /// Waits until every connection is closed: of an ended process, all it said has then been heard.
    pub async fn quiet(&self) {
        // The semaphore is never closed.
        let _ = self.permits.acquire_many(CONNECTIONS_MAX as u32).await;
    }

    /// Ends it; afterwards its listeners are closed and their addresses free.
    pub async fn close(mut self) {
        self.accepting.shutdown().await;
    }
}

/// Serves the Runtime API on these non-blocking listeners. Needs a running async runtime.
pub fn serve(listeners: Vec<std::net::TcpListener>, runtime: Arc<dyn Runtime>) -> io::Result<Server> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let door = Arc::new(Door { runtime, bodies: Semaphore::new(BODIES_MAX) });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(TcpListener::from_std(listener)?, door.clone(), permits.clone()));
    }
    Ok(Server { permits, accepting })
}

/// What the connections of one environment share.
struct Door {
    runtime: Arc<dyn Runtime>,
    bodies: Semaphore,
}

async fn accept(listener: TcpListener, door: Arc<Door>, permits: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                while connections.try_join_next().is_some() {}
                connections.spawn(connection(stream, door.clone(), permit));
            }
            Err(error) => {
                tracing::debug!(%error, "a Runtime API connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, door: Arc<Door>, _permit: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(answer(&door, request).await) }
    });
    let served = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a Runtime API connection ended");
    }
}

async fn answer(door: &Door, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    match Route::of(&head.method, head.uri.path()) {
        Route::Next => next(&*door.runtime).await,
        Route::Response(id) => response(door, id, &head, body).await,
        Route::Error(id) => error(door, id, &head, body).await,
        Route::InitError => init_error(door, &head, body).await,
        Route::Ping => reply::pong(),
        Route::Missing(api) => after(body, reply::missing(api)).await,
        Route::WrongMethod => after(body, reply::wrong_method()).await,
        Route::Unknown => after(body, reply::unknown_route()).await,
    }
}

async fn next(runtime: &dyn Runtime) -> Reply {
    match runtime.next() {
        Ok(Next::Now(event)) => reply::event(&event),
        Ok(Next::Later(later)) => match later.await {
            Ok(event) => reply::event(&event),
            Err(_) => reply::refused(Refusal::Ended),
        },
        Err(refusal) => reply::refused(refusal),
    }
}

async fn response(door: &Door, id: &str, head: &Parts, mut body: Incoming) -> Reply {
    let turn = door.bodies.acquire().await;
    if let Err(refusal) = door.runtime.may_answer(id, RESPONSE) {
        drop(turn);
        return after(body, reply::refused(refusal)).await;
    }
    let mode = head.headers.get("lambda-runtime-function-response-mode");
    let (answer, told) = if mode.is_some_and(|mode| mode != "streaming") {
        (posted::replaced(ErrorType::INVALID_RESPONSE_MODE, None), reply::invalid_response_mode())
    } else {
        match posted::read(&mut body).await {
            Ok(whole) => (posted::response(posted::content_type(&head.headers), whole), reply::accepted()),
            Err(Unread::TooLarge) => (too_large(), reply::too_large()),
            Err(Unread::Truncated) => (posted::replaced(ErrorType::TRUNCATED_RESPONSE, None), reply::truncated()),
        }
    };
    let told = door.runtime.answer(id, RESPONSE, answer).map_or_else(reply::refused, |()| told);
    drop(turn);
    after(body, told).await
}

fn too_large() -> Answer {
    let message =
        format!("Response payload size exceeded maximum allowed payload size ({RESPONSE_PAYLOAD_MAX} bytes).");
    posted::replaced(ErrorType::RESPONSE_TOO_LARGE, Some(&message))
}

async fn error(door: &Door, id: &str, head: &Parts, mut body: Incoming) -> Reply {
    let turn = door.bodies.acquire().await;
    if let Err(refusal) = door.runtime.may_answer(id, ERROR) {
        drop(turn);
        return after(body, reply::refused(refusal)).await;
    }
    let told = match posted::read(&mut body).await {
        Ok(whole) => {
            let answered = door.runtime.answer(id, ERROR, posted::error(&head.headers, whole));
            answered.map_or_else(reply::refused, |()| reply::accepted())
        }
        Err(unread) => refuse_unread(&unread),
    };
    drop(turn);
    after(body, told).await
}

async fn init_error(door: &Door, head: &Parts, mut body: Incoming) -> Reply {
    let turn = door.bodies.acquire().await;
    let told = match posted::read(&mut body).await {
        Ok(whole) => {
            let answered = door.runtime.init_error(posted::init_error(&head.headers, whole));
            answered.map_or_else(reply::refused, |()| reply::accepted())
        }
        Err(unread) => refuse_unread(&unread),
    };
    drop(turn);
    after(body, told).await
}

/// Errors that are themselves too large or cut off are not taken; the runtime may try again.
fn refuse_unread(unread: &Unread) -> Reply {
    match unread {
        Unread::TooLarge => reply::too_large(),
        Unread::Truncated => reply::truncated(),
    }
}

/// What is left of the body is read and thrown away first: many clients read no reply before they have written all.
async fn after(body: Incoming, reply: Reply) -> Reply {
    if !body.is_end_stream() {
        posted::discard(body).await;
    }
    reply
}
