//! The HTTP/1.1 server in front of a [`Runtime`].

mod extensions;
mod streaming;
mod telemetry;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hearth_model::{BodyError, Bucket, ErrorType, RESPONSE_PAYLOAD_MAX};
use http::request::Parts;
use http::{Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::extensions::{Failing, Notice, Refused};
use crate::posted::{self, Unread};
use crate::protocol::{Answer, Event, Refusal};
use crate::reply::{self, Reply};
use crate::route::Route;
use crate::stream::StreamWriter;
use crate::subscriptions::Unsubscribed;
use crate::telemetry::Subscription;

/// Connections of one environment at a time; further ones wait in the kernel's queue, which has its own limit.
const CONNECTIONS_MAX: usize = 64;
/// Bodies of one environment that are kept in memory at a time; further ones wait in their sockets.
const BODIES_MAX: usize = 1;
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;
/// What an environment may do for long, and in a burst, that leads to nothing: a connection, a request that is refused,
/// an event given again, each counted once and again for each so many bytes that are read or written for it. Who does
/// more waits. A runtime that does its work, over connections that it keeps, is never held up.
const WASTE_RATE: f64 = 500.0;
const WASTE_BURST: f64 = 2000.0;
const WASTE_BYTES: f64 = 64.0 * 1024.0;
/// Pause after a failed accept: it may be for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// `to` of a `response`, as AWS names it.
const RESPONSE: &str = "InvocationResponse";
/// `to` of an `error`.
const ERROR: &str = "InvocationErrorResponse";

/// What `next` is answered with.
pub enum Next {
    /// The event that is out already.
    Again(Arc<Event>),
    /// When there is an event. Closed without one when the runtime is to be refused.
    Later(oneshot::Receiver<Arc<Event>>),
}

/// What became of a response that was streamed.
pub struct Streamed {
    pub bytes: usize,
    /// The error that it ended with, for the caller and for the report.
    pub error: Option<(BodyError, ErrorType)>,
    /// The caller went away before its end.
    pub unread: bool,
}

/// What an extension's call for the next event is answered with.
pub enum NextNotice {
    Now(Notice),
    /// When there is something to be told. Closed without it when the extension is to be refused.
    Later(oneshot::Receiver<Notice>),
}

/// What an extension is told when it registers.
pub struct Welcome {
    pub id: Uuid,
    pub function_name: String,
    pub function_version: String,
    pub handler: String,
    pub account_id: String,
}

/// The environment behind the API. Called from the tasks of connections; must not block.
pub trait Runtime: Send + Sync + 'static {
    fn next(&self) -> Result<Next, Refusal>;

    /// A response begins: where it goes piece by piece, else its body is to be read and answered with.
    fn respond(&self, id: &str, content_type: &str) -> Result<Option<StreamWriter>, Refusal>;

    /// A response that went piece by piece is over.
    fn streamed(&self, id: &str, streamed: Streamed) -> Result<(), Refusal>;

    /// Asked before a body is read.
    fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal>;

    fn answer(&self, id: &str, to: &'static str, answer: Answer) -> Result<(), Refusal>;

    fn init_error(&self, answer: Answer) -> Result<(), Refusal>;

    /// `events` as they came.
    fn register(&self, name: &str, events: &[String]) -> Result<Welcome, Refused>;

    fn next_notice(&self, extension: Uuid) -> Result<NextNotice, Refused>;

    fn extension_error(&self, extension: Uuid, failing: Failing, error_type: &str) -> Result<(), Refused>;

    fn subscribe(&self, extension: Uuid, subscription: Subscription) -> Result<(), Unsubscribed>;
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
    let door = Arc::new(Door::new(runtime));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let listening = Listening(TcpListener::from_std(listener)?);
        accepting.spawn(accept(listening, door.clone(), permits.clone()));
    }
    Ok(Server { permits, accepting })
}

/// What the connections of one environment share.
struct Door {
    runtime: Arc<dyn Runtime>,
    bodies: Semaphore,
    waste: Mutex<Bucket>,
}

impl Door {
    fn new(runtime: Arc<dyn Runtime>) -> Self {
        let waste = Mutex::new(Bucket::new(WASTE_RATE, WASTE_BURST, Instant::now()));
        Door { runtime, bodies: Semaphore::new(BODIES_MAX), waste }
    }

    /// Counts something that leads to nothing, and waits when there was too much of it.
    async fn waste(&self, bytes: usize) {
        let wait = {
            let mut waste = self.waste.lock().unwrap_or_else(PoisonError::into_inner);
            waste.level(Instant::now());
            waste.take(1.0 + bytes as f64 / WASTE_BYTES);
            waste.until(0.0)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Answers a request whose body was read, which leads to nothing unless it was accepted.
    async fn end(&self, body: Incoming, reply: Reply) -> Reply {
        if reply.status() != StatusCode::ACCEPTED {
            return self.refuse(body, reply).await;
        }
        // The caller's connection, which was just woken, writes the answer before this one thanks the runtime for it.
        tokio::task::yield_now().await;
        reply
    }

    /// Answers a request that leads to nothing. What is left of its body is read and thrown away first: many clients
    /// read no reply before they have written all.
    async fn refuse(&self, body: Incoming, reply: Reply) -> Reply {
        let read = if body.is_end_stream() { 0 } else { posted::discard(body).await };
        self.waste(read).await;
        reply
    }
}

/// Its address is free once it is dropped.
struct Listening(TcpListener);

impl Drop for Listening {
    fn drop(&mut self) {
        // A process that the server is just starting has a copy of the descriptor until it executes: closing ours alone
        // would leave the socket listening. Shut down, it does so no more, whoever has it.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

async fn accept(listening: Listening, door: Arc<Door>, permits: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        match listening.0.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                while connections.try_join_next().is_some() {}
                door.waste(0).await;
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
    converse(stream, door).await;
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, door: Arc<Door>) {
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
        Route::Next => next(door, body).await,
        Route::Response(id) => response(door, id, &head, body).await,
        Route::Error(id) => error(door, id, &head, body).await,
        Route::InitError => init_error(door, &head, body).await,
        Route::Ping => door.refuse(body, reply::pong()).await,
        Route::Register => extensions::register(door, &head, body).await,
        Route::NextEvent => extensions::next(door, &head, body).await,
        Route::ExtensionError(failing) => extensions::error(door, failing, &head, body).await,
        Route::Subscribe(api) => telemetry::subscribe(door, api, &head, body).await,
        Route::WrongMethod => door.refuse(body, reply::wrong_method()).await,
        Route::Unknown => door.refuse(body, reply::unknown_route()).await,
    }
}

async fn next(door: &Door, body: Incoming) -> Reply {
    match door.runtime.next() {
        Ok(Next::Again(event)) => {
            door.waste(event.payload.len()).await;
            reply::event(&event)
        }
        Ok(Next::Later(later)) => match later.await {
            Ok(event) => reply::event(&event),
            Err(_) => door.refuse(body, reply::refused(Refusal::Ended)).await,
        },
        Err(refusal) => door.refuse(body, reply::refused(refusal)).await,
    }
}

async fn response(door: &Door, id: &str, head: &Parts, body: Incoming) -> Reply {
    let mode = head.headers.get("lambda-runtime-function-response-mode");
    if mode.is_some_and(|mode| mode != "streaming") {
        let answer = posted::replaced(ErrorType::INVALID_RESPONSE_MODE, None);
        let told = door.runtime.answer(id, RESPONSE, answer);
        return door.refuse(body, told.map_or_else(reply::refused, |()| reply::invalid_response_mode())).await;
    }
    let content_type = posted::content_type(&head.headers);
    match door.runtime.respond(id, &content_type) {
        Ok(Some(writer)) => streaming::stream(door, id, body, &writer).await,
        Ok(None) => whole(door, id, content_type, body).await,
        Err(refusal) => door.refuse(body, reply::refused(refusal)).await,
    }
}

async fn whole(door: &Door, id: &str, content_type: String, mut body: Incoming) -> Reply {
    let turn = door.bodies.acquire().await;
    // Another one may have been taken while this one waited.
    if let Err(refusal) = door.runtime.may_answer(id, RESPONSE) {
        drop(turn);
        return door.refuse(body, reply::refused(refusal)).await;
    }
    let (answer, told) = match posted::read(&mut body).await {
        Ok(whole) => (posted::response(content_type, whole), reply::accepted()),
        Err(Unread::TooLarge) => (posted::too_large(RESPONSE_PAYLOAD_MAX), reply::too_large(RESPONSE_PAYLOAD_MAX)),
        Err(Unread::Truncated) => (posted::truncated(), reply::truncated()),
    };
    let told = door.runtime.answer(id, RESPONSE, answer).map_or_else(reply::refused, |()| told);
    drop(turn);
    door.end(body, told).await
}

async fn error(door: &Door, id: &str, head: &Parts, mut body: Incoming) -> Reply {
    let turn = door.bodies.acquire().await;
    if let Err(refusal) = door.runtime.may_answer(id, ERROR) {
        drop(turn);
        return door.refuse(body, reply::refused(refusal)).await;
    }
    let told = match posted::read(&mut body).await {
        Ok(whole) => {
            let answered = door.runtime.answer(id, ERROR, posted::error(&head.headers, whole));
            answered.map_or_else(reply::refused, |()| reply::accepted())
        }
        Err(unread) => refuse_unread(&unread),
    };
    drop(turn);
    door.end(body, told).await
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
    door.end(body, told).await
}

/// Errors that are themselves too large or cut off are not taken; the runtime may try again.
fn refuse_unread(unread: &Unread) -> Reply {
    match unread {
        Unread::TooLarge => reply::too_large(RESPONSE_PAYLOAD_MAX),
        Unread::Truncated => reply::truncated(),
    }
}

/// The server without its sockets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    use super::*;

    /// What the connections of one environment share.
    #[derive(Clone)]
    pub struct Conversations(Arc<Door>);

    impl Conversations {
        pub fn new(runtime: Arc<dyn Runtime>) -> Self {
            Conversations(Arc::new(Door::new(runtime)))
        }

        /// One connection, until it ends.
        pub async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
            super::converse(stream, self.0).await;
        }
    }
}
