//! The gateway with a made-up tunnel: packets as a function's kernel would send them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, IpProtocol, IpRepr, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixDatagram};

use super::*;
use crate::egress::Config;

const INSIDE: Ipv4Addr = Ipv4Addr::new(169, 254, 76, 1);
/// Kept from functions.
const PRIVATE: &str = "10.0.0.5:80";

impl Link for UnixDatagram {
    fn readable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.readable())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_recv(buffer)
    }

    fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.try_send(packet).map(drop)
    }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Witness for Told {
    fn refused(&self, refused: &Refused) {
        self.0.lock().unwrap().push(refused.to_string());
    }
}

struct World {
    tunnel: UnixDatagram,
    told: Told,
    _gateway: Gateway,
}

impl World {
    fn new() -> Self {
        World::asking(Vec::new())
    }

    /// With these in the place of the host's resolvers.
    fn asking(resolvers: Vec<SocketAddr>) -> Self {
        let (tunnel, other) = UnixDatagram::pair().unwrap();
        let told = Told::default();
        let egress = Egress::new(Config { resolvers: resolvers.into(), ..Config::default() });
        World { tunnel, _gateway: Gateway::open(egress, other, told.clone()), told }
    }

    async fn next(&self) -> Vec<u8> {
        let mut buffer = vec![0; MTU];
        let receiving = self.tunnel.recv(&mut buffer);
        let length = tokio::time::timeout(Duration::from_secs(20), receiving).await.expect("a packet").unwrap();
        buffer.truncate(length);
        buffer
    }

    /// The next packet, which is a segment of this flow.
    async fn segment(&self, flow: Flow) -> Segment {
        let packet = self.next().await;
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert_eq!(ip.next_header(), IpProtocol::Tcp, "{packet:02x?}");
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((tcp.src_port(), tcp.dst_port()), (flow.to.port(), flow.from.port()));
        Segment { seq: tcp.seq_number(), ack: tcp.ack_number(), flags: flags(&tcp), payload: tcp.payload().to_owned() }
    }

    async fn is_prohibited(&self) -> bool {
        let packet = self.next().await;
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        // "Communication administratively prohibited".
        icmp.verify_checksum() && icmp.msg_type() == Icmpv4Message::DstUnreachable && icmp.msg_code() == 13
    }
}

#[derive(Debug)]
struct Segment {
    seq: TcpSeqNumber,
    ack: TcpSeqNumber,
    flags: String,
    payload: Vec<u8>,
}

fn flags(segment: &TcpPacket<&[u8]>) -> String {
    let set = [(segment.syn(), 'S'), (segment.ack(), 'A'), (segment.fin(), 'F'), (segment.rst(), 'R')];
    set.into_iter().filter_map(|(set, letter)| set.then_some(letter)).collect()
}

fn a_flow(to: &str, port: u16) -> Flow {
    Flow { from: SocketAddr::new(IpAddr::V4(INSIDE), port), to: to.parse().unwrap() }
}

fn names() -> Flow {
    Flow { from: (INSIDE, 40_000).into(), to: (DNS, 53).into() }
}

fn sent(flow: Flow, control: TcpControl, seq: TcpSeqNumber, ack: Option<TcpSeqNumber>, payload: &[u8]) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: flow.from.port(),
        dst_port: flow.to.port(),
        control,
        seq_number: seq,
        ack_number: ack,
        window_len: 60_000,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let ip = IpRepr::new(flow.from.ip().into(), flow.to.ip().into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    let sums = ChecksumCapabilities::default();
    ip.emit(&mut packet[..], &sums);
    let mut inner = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    tcp.emit(&mut inner, &flow.from.ip().into(), &flow.to.ip().into(), &sums);
    packet
}

fn opening(flow: Flow) -> Vec<u8> {
    sent(flow, TcpControl::Syn, TcpSeqNumber(1000), None, &[])
}

#[tokio::test]
async fn what_the_rules_forbid_is_refused_and_told() {
    let world = World::new();
    world.tunnel.send(&opening(a_flow(PRIVATE, 40_000))).await.unwrap();
    assert!(world.is_prohibited().await);
    let flow = a_flow(PRIVATE, 40_000);
    let datagram = packet::datagram(Flow { from: flow.to, to: flow.from }, b"x").unwrap();
    world.tunnel.send(&datagram).await.unwrap();
    assert!(world.is_prohibited().await);
    let told = world.told.0.lock().unwrap().join("\n");
    assert_eq!(
        told,
        "Blocked: TCP to 10.0.0.5:80 (a private range, 10.0.0.0/8); functions reach it when egress.allow names it\n\
         Blocked: UDP to 10.0.0.5:80 (a private range, 10.0.0.0/8); functions reach it when egress.allow names it"
    );
}

#[tokio::test]
async fn of_many_refusals_few_are_told() {
    let world = World::new();
    for port in 0..100 {
        world.tunnel.send(&opening(a_flow(PRIVATE, 40_000 + port))).await.unwrap();
        assert!(world.is_prohibited().await);
    }
    let told = world.told.0.lock().unwrap().len();
    assert!((10..60).contains(&told), "{told}");
}

#[tokio::test]
async fn a_connection_is_answered_when_there_is_somebody_and_carries_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::asking(vec![listener.local_addr().unwrap()]);
    let flow = names();
    world.tunnel.send(&opening(flow)).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let answer = world.segment(flow).await;
    assert_eq!((&*answer.flags, answer.ack), ("SA", TcpSeqNumber(1001)));
    let (mut seq, ack) = (TcpSeqNumber(1001), answer.seq + 1);
    world.tunnel.send(&sent(flow, TcpControl::Psh, seq, Some(ack), b"there")).await.unwrap();
    seq += 5;
    let mut there = [0; 5];
    upstream.read_exact(&mut there).await.unwrap();
    assert_eq!(&there, b"there");
    upstream.write_all(b"and back").await.unwrap();
    let back = loop {
        let segment = world.segment(flow).await;
        if !segment.payload.is_empty() {
            break segment;
        }
    };
    assert_eq!((&*back.payload, back.ack), (&b"and back"[..], seq));
    // One end, then the other.
    world.tunnel.send(&sent(flow, TcpControl::Fin, seq, Some(back.seq + 8), &[])).await.unwrap();
    assert_eq!(upstream.read(&mut there).await.unwrap(), 0);
    drop(upstream);
    while !world.segment(flow).await.flags.contains('F') {}
}

#[tokio::test]
async fn where_nobody_listens_there_is_a_reset() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::asking(vec![closed]);
    world.tunnel.send(&opening(names())).await.unwrap();
    let answer = world.segment(names()).await;
    assert_eq!((&*answer.flags, answer.ack), ("AR", TcpSeqNumber(1001)));
    // Nothing is remembered: it may be tried again.
    world.tunnel.send(&opening(names())).await.unwrap();
    assert!(world.segment(names()).await.flags.contains('R'));
}

#[tokio::test]
async fn a_peer_that_is_cut_off_cuts_off_the_function() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::asking(vec![listener.local_addr().unwrap()]);
    let flow = names();
    world.tunnel.send(&opening(flow)).await.unwrap();
    let (upstream, _) = listener.accept().await.unwrap();
    let answer = world.segment(flow).await;
    world.tunnel.send(&sent(flow, TcpControl::None, TcpSeqNumber(1001), Some(answer.seq + 1), &[])).await.unwrap();
    upstream.set_zero_linger().unwrap();
    drop(upstream);
    while !world.segment(flow).await.flags.contains('R') {}
}

#[tokio::test]
async fn a_function_that_cuts_off_cuts_off_its_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::asking(vec![listener.local_addr().unwrap()]);
    let flow = names();
    world.tunnel.send(&opening(flow)).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let answer = world.segment(flow).await;
    world.tunnel.send(&sent(flow, TcpControl::Rst, TcpSeqNumber(1001), Some(answer.seq + 1), &[])).await.unwrap();
    let error = upstream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_have_a_limit() {
    // Whoever is asked for names never accepts: connections wait.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::asking(vec![listener.local_addr().unwrap()]);
    let flow = |port: usize| Flow { from: (INSIDE, port as u16).into(), to: (DNS, 53).into() };
    for port in 0..CONNECTIONS_MAX {
        world.tunnel.send(&opening(flow(10_000 + port))).await.unwrap();
        // Some more answers than one come to nobody's harm: they are to be read.
        let _ = world.next().await;
    }
    world.tunnel.send(&opening(flow(9_000))).await.unwrap();
    while Ipv4Packet::new_checked(&world.next().await[..]).unwrap().next_header() != IpProtocol::Icmp {}
    let told = world.told.0.lock().unwrap().join("\n");
    assert!(told.ends_with("an environment has at most 512 of these at once"), "{told}");
}

#[tokio::test]
async fn a_question_is_answered() {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let world = World::asking(vec![resolver.local_addr().unwrap()]);
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";
    let back = Flow { from: names().to, to: names().from };
    world.tunnel.send(&packet::datagram(back, question).unwrap()).await.unwrap();
    let mut asked = [0; 64];
    let (length, from) = resolver.recv_from(&mut asked).await.unwrap();
    assert_eq!(&asked[..length], question);
    asked[2] |= 0x80;
    resolver.send_to(&asked[..length], from).await.unwrap();
    let answer = world.next().await;
    assert!(matches!(packet::see(&answer), Some(Seen::Datagram(_, payload)) if payload == &asked[..length]));
}

#[tokio::test]
async fn what_is_no_packet_changes_nothing() {
    let world = World::new();
    for bytes in [&b"\x45"[..], b"\x60\x00", &[0x45; 40], &[0x60; 80], &[0xff; 1500], b""] {
        world.tunnel.send(bytes).await.unwrap();
    }
    world.tunnel.send(&opening(a_flow(PRIVATE, 40_000))).await.unwrap();
    assert!(world.is_prohibited().await);
}
