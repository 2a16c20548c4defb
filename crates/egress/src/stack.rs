//! The server's end of the connections in one tunnel: TCP as the function's kernel speaks it. Knows no descriptor and no
//! clock but the one it is shown.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{self, RecvError};
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint};

use crate::packet::{self, Flow};

/// Connections of a function at once. It can have 1,024 descriptors in each process.
pub const CONNECTIONS_MAX: usize = 512;
/// Bytes on their way in a connection, each way. With the limit above 32 MiB in all. More would make nothing faster: the
/// other end is a few microseconds away.
const BUFFER: usize = 32 * 1024;
/// Longest packet to the function, bytes; half a buffer, so that one is under way while another is read.
const PACKET: usize = 16 * 1024;
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    device: Queue,
    began: Instant,
    flows: HashMap<Flow, State>,
    /// When its driver wakes by itself.
    pub planned: Option<Instant>,
}

/// Names one connection to its own stack.
pub type Connection = SocketHandle;

enum State {
    /// The function has asked, with this packet, and waits to hear whether there is somebody.
    Waiting(Vec<u8>),
    Answered(Connection),
}

/// What an opening came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It waits for [`Stack::accept`] or a refusal.
    Waiting,
    /// Asked again.
    Known,
    /// There are as many as there may be.
    Full,
}

impl Stack {
    /// `seed` makes what is to be hard to guess.
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut device = Queue::default();
        let mut config = iface::Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|own| {
            let _ = own.push(IpCidr::new(packet::DNS.into(), 32));
        });
        // Whatever address the function asks for ends here.
        interface.set_any_ip(true);
        Stack {
            interface,
            sockets: SocketSet::new(Vec::new()),
            device,
            began: now,
            flows: HashMap::new(),
            planned: None,
        }
    }

    /// Takes a first packet.
    pub fn open(&mut self, flow: Flow, packet: &[u8]) -> Opened {
        if self.flows.contains_key(&flow) {
            return Opened::Known;
        }
        if self.flows.len() >= CONNECTIONS_MAX {
            return Opened::Full;
        }
        self.flows.insert(flow, State::Waiting(packet.to_owned()));
        Opened::Waiting
    }

    /// There is somebody. `None` when the packet was none that can be answered.
    pub fn accept(&mut self, now: Instant, flow: &Flow) -> Option<Connection> {
        let State::Waiting(packet) = self.flows.remove(flow)? else { return None };
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.listen(IpListenEndpoint { addr: Some(flow.to.ip().into()), port: flow.to.port() }).ok()?;
        let connection = self.sockets.add(socket);
        self.receive(now, packet);
        if self.socket(connection).remote_endpoint() != Some(flow.from.into()) {
            self.sockets.remove(connection);
            return None;
        }
        self.flows.insert(*flow, State::Answered(connection));
        Some(connection)
    }

    /// There is nobody who listens: a reset.
    pub fn refuse(&mut self, now: Instant, flow: &Flow) {
        if let Some(packet) = self.withdraw(flow) {
            // No socket takes it.
            self.receive(now, packet);
        }
    }

    /// Forgets who waits; with which packet it asked.
    pub fn withdraw(&mut self, flow: &Flow) -> Option<Vec<u8>> {
        match self.flows.remove(flow)? {
            State::Waiting(packet) => Some(packet),
            State::Answered(connection) => {
                self.sockets.remove(connection);
                None
            }
        }
    }

    /// Takes a packet of a connection.
    pub fn receive(&mut self, now: Instant, packet: Vec<u8>) {
        self.device.received.push_back(packet);
        let now = self.at(now);
        while !matches!(
            self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets),
            iface::PollIngressSingleResult::None
        ) {}
    }

    /// Makes what is to be sent; how long until there may be more to do.
    pub fn settle(&mut self, now: Instant) -> Option<Duration> {
        let now = self.at(now);
        // One packet of each connection at a time, until none has more that fits its window.
        while self.interface.poll_egress(now, &mut self.device, &mut self.sockets) != iface::PollResult::None {}
        self.interface.poll_delay(now, &self.sockets).map(Into::into)
    }

    /// A packet for the function.
    pub fn next_sent(&mut self) -> Option<Vec<u8>> {
        self.device.sent.pop_front()
    }

    /// Ends it with a reset, once that is sent.
    pub fn reset(&mut self, connection: Connection) {
        self.socket(connection).abort();
    }

    /// What the function sends; nothing at its end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        connection: Connection,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket(connection);
        match socket.recv_slice(buffer) {
            Ok(0) => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Ok(read) => Poll::Ready(Ok(read)),
            Err(RecvError::Finished) => Poll::Ready(Ok(0)),
            // Not yet accepted by the function, or no more.
            Err(RecvError::InvalidState) if socket.state() == tcp::State::SynReceived => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Err(RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        connection: Connection,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket(connection);
        match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(written) => Poll::Ready(Ok(written)),
            Err(_) if socket.state() == tcp::State::SynReceived => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// Nothing more comes for the function.
    pub fn close(&mut self, connection: Connection) {
        self.socket(connection).close();
    }

    /// Ready when both ends have said all and heard it.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>, connection: Connection) -> Poll<()> {
        let socket = self.socket(connection);
        if matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait | tcp::State::Listen) {
            return Poll::Ready(());
        }
        socket.register_recv_waker(cx.waker());
        Poll::Pending
    }

    fn socket(&mut self, connection: Connection) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(connection)
    }

    fn at(&self, now: Instant) -> smoltcp::time::Instant {
        let micros = now.saturating_duration_since(self.began).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// The tunnel as the stack sees it.
#[derive(Default)]
struct Queue {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sent<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl phy::Device for Queue {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sent<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = PACKET;
        capabilities.checksum = packet::checksums();
        capabilities
    }
}
