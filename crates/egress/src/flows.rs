//! One connection, one flow of datagrams, one question: each from the function's first packet to its end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::egress::unbound;
use crate::gateway::{Wire, asks_for_names};
use crate::packet::{self, Flow, MTU, Refusal};
use crate::rules::Verdict;
use crate::stack::Connection;

/// Longest wait for somebody to answer; the function's own kernel gives up after 127 s.
const CONNECT_MAX: Duration = Duration::from_secs(130);
/// How long the function's kernel may take to hear of an end.
const END_MAX: Duration = Duration::from_secs(60);
/// Bytes copied in one go, each way.
const COPY: usize = 16 * 1024;
/// A flow of datagrams without any for this long is forgotten (RFC 4787 asks for two minutes at least).
const SILENCE: Duration = Duration::from_secs(120);
/// Datagrams taken in one go.
const BATCH: usize = 64;

pub async fn connection(wire: Arc<Wire>, flow: Flow) {
    let upstream = match reach(&wire, flow).await {
        Ok(upstream) => upstream,
        Err(failure) => return fail(&wire, flow, failure),
    };
    let _ = upstream.set_nodelay(true);
    let accepted = wire.stack().accept(Instant::now(), &flow);
    if let Some(connection) = accepted {
        wire.settle();
        carry(Inside { wire: wire.clone(), connection }, upstream).await;
        wire.stack().withdraw(&flow);
    }
}

/// Why there is no connection.
enum Failure {
    Refused(Refusal),
    /// Nobody listens there.
    Reset,
    /// The function's kernel will find out by itself.
    Silence,
}

async fn reach(wire: &Wire, flow: Flow) -> Result<TcpStream, Failure> {
    let to = if asks_for_names(flow) {
        wire.egress.resolvers().list().await.first().copied().ok_or(Failure::Reset)?
    } else {
        permitted(wire, "TCP", flow.to).await.map_err(Failure::Refused)?
    };
    match timeout(CONNECT_MAX, TcpStream::connect(to)).await {
        Ok(Ok(upstream)) => Ok(upstream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Failure::Reset),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(Failure::Silence),
        Ok(Err(error)) => Err(Failure::Refused(refusal(&error))),
        Err(_) => Err(Failure::Silence),
    }
}

/// Where the function may go; whatever it may not is told to its log.
async fn permitted(wire: &Wire, protocol: &'static str, to: SocketAddr) -> Result<SocketAddr, Refusal> {
    match wire.egress.decide(to).await {
        Verdict::Open | Verdict::Allowed(..) => Ok(to),
        Verdict::Blocked(reason) => {
            wire.blocked(protocol, to, reason);
            Err(Refusal::Prohibited)
        }
    }
}

/// As the function would have heard it on the host's own network.
fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable => Refusal::NoRoute,
        io::ErrorKind::PermissionDenied => Refusal::Prohibited,
        io::ErrorKind::ConnectionRefused => Refusal::NoPort,
        _ => Refusal::NoHost,
    }
}

fn fail(wire: &Wire, flow: Flow, failure: Failure) {
    match failure {
        Failure::Reset => {
            wire.stack().refuse(Instant::now(), &flow);
            wire.settle();
        }
        Failure::Silence => drop(wire.stack().withdraw(&flow)),
        Failure::Refused(why) => {
            let packet = wire.stack().withdraw(&flow);
            if let Some(packet) = packet {
                wire.refuse(&packet, why);
            }
        }
    }
}

/// Both ways, until both have ended.
async fn carry(mut inside: Inside, mut upstream: TcpStream) {
    match copy_bidirectional_with_sizes(&mut inside, &mut upstream, COPY, COPY).await {
        Ok(_) => {
            let _ = timeout(END_MAX, inside.ended()).await;
        }
        Err(_) => {
            // One side was cut off: so is the other.
            let _ = upstream.set_zero_linger();
            inside.reset();
        }
    }
}

/// The function's side of a connection.
struct Inside {
    wire: Arc<Wire>,
    connection: Connection,
}

impl Inside {
    fn reset(&self) {
        self.wire.stack().reset(self.connection);
        self.wire.settle();
    }

    async fn ended(&self) {
        std::future::poll_fn(|cx| self.wire.stack().poll_ended(cx, self.connection)).await;
        // The last acknowledgement.
        self.wire.settle();
    }
}

impl AsyncRead for Inside {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.wire.stack().poll_read(cx, self.connection, buffer.initialize_unfilled());
        let read = ready!(read)?;
        buffer.advance(read);
        // There is room again.
        self.wire.settle();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Inside {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.wire.stack().poll_write(cx, self.connection, bytes);
        let written = ready!(written)?;
        self.wire.settle();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.stack().close(self.connection);
        self.wire.settle();
        Poll::Ready(Ok(()))
    }
}

pub async fn question(wire: Arc<Wire>, flow: Flow, question: Vec<u8>, _place: OwnedSemaphorePermit) {
    let Some(answer) = wire.egress.resolvers().answer(&question).await else { return };
    if let Some(packet) = packet::datagram(flow, &answer) {
        wire.send(&packet);
    }
}

pub async fn datagrams(wire: Arc<Wire>, flow: Flow, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let ended = exchange(&wire, flow, &mut waiting).await;
    wire.forget_datagrams(&flow);
    if let Err(why) = ended {
        refuse(&wire, flow, why);
    }
}

async fn exchange(wire: &Wire, flow: Flow, waiting: &mut mpsc::Receiver<Vec<u8>>) -> Result<(), Refusal> {
    let to = permitted(wire, "UDP", flow.to).await?;
    let socket = open(to).await.map_err(|error| refusal(&error))?;
    loop {
        tokio::select! {
            payload = waiting.recv() => {
                let Some(payload) = payload else { return Ok(()) };
                let _ = socket.send(&payload).await;
            }
            ready = socket.ready(Interest::READABLE | Interest::ERROR) => match ready.and_then(|_| take_in(wire, flow, &socket)) {
                Ok(()) => {}
                // The flow goes on: somebody may listen there later.
                Err(error) => refuse(wire, flow, refusal(&error)),
            },
            () = tokio::time::sleep(SILENCE) => return Ok(()),
        }
    }
}

async fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(unbound(to)).await?;
    // From nobody else is anything taken.
    socket.connect(to).await?;
    Ok(socket)
}

/// What is there; an error when the network has said that nobody is.
fn take_in(wire: &Wire, flow: Flow, socket: &UdpSocket) -> io::Result<()> {
    let error = socket.try_io(Interest::ERROR, || socket.take_error()?.ok_or_else(|| io::ErrorKind::WouldBlock.into()));
    if let Ok(error) = error {
        return Err(error);
    }
    let mut buffer = [0; MTU];
    for _ in 0..BATCH {
        match socket.try_recv(&mut buffer) {
            Ok(length) => {
                if let Some(packet) = packet::datagram(flow, &buffer[..length]) {
                    wire.send(&packet);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// An error for the function's socket, which knows it by its addresses.
fn refuse(wire: &Wire, flow: Flow, why: Refusal) {
    if let Some(sent) = packet::datagram(Flow { from: flow.to, to: flow.from }, &[]) {
        wire.refuse(&sent, why);
    }
}
