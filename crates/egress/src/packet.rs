//! Packets of the tunnel: what they ask for, and what is answered beside TCP. Pure; what comes in is hostile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket, UdpRepr,
};

/// Longest packet of the tunnel, bytes: none has to be cut into pieces.
pub const MTU: usize = 65_535;
/// Where functions find the resolver (`/etc/resolv.conf`). What is refused is refused from here.
pub const DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 78, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6865, 0x6172, 0x7468, 0, 0, 0, 2);

const HOPS: u8 = 64;
/// Of a packet that is refused, so many bytes after its header are sent back: ports, and where in its stream it stood.
const QUOTE: usize = 64;

/// Both ends of what a packet belongs to, as the function sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// The first packet of a connection, maybe not for the first time.
    Opening(Flow),
    /// Another one.
    Segment,
    Datagram(Flow, &'a [u8]),
}

/// Why something cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Prohibited,
    NoRoute,
    NoHost,
    NoPort,
}

/// What a packet is; `None` for all that is not answered: pieces, other protocols, what the kernel says to itself.
pub fn see(packet: &[u8]) -> Option<Seen<'_>> {
    let (from, to, protocol, payload) = open(packet)?;
    match protocol {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(payload).ok()?;
            let flow = flow(from, segment.src_port(), to, segment.dst_port())?;
            Some(if segment.syn() && !segment.ack() && !segment.rst() { Seen::Opening(flow) } else { Seen::Segment })
        }
        IpProtocol::Udp => {
            let datagram = UdpPacket::new_checked(payload).ok()?;
            let flow = flow(from, datagram.src_port(), to, datagram.dst_port())?;
            Some(Seen::Datagram(flow, datagram.payload()))
        }
        _ => None,
    }
}

fn flow(from: IpAddr, source: u16, to: IpAddr, destination: u16) -> Option<Flow> {
    let flow = Flow { from: SocketAddr::new(from, source), to: SocketAddr::new(to, destination) };
    (source != 0 && destination != 0).then_some(flow)
}

fn open(packet: &[u8]) -> Option<(IpAddr, IpAddr, IpProtocol, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            let whole = !packet.more_frags() && packet.frag_offset() == 0;
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            whole.then(|| (from, to, packet.next_header(), packet.payload()))
        }
        6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            Some((packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), packet.payload()))
        }
        _ => None,
    }
}

/// What stays undone for what the kernel sends, and is done for what it receives.
pub fn checksums() -> ChecksumCapabilities {
    let mut sums = ChecksumCapabilities::default();
    (sums.ipv4, sums.tcp, sums.udp) = (Checksum::Tx, Checksum::Tx, Checksum::Tx);
    sums
}

/// A datagram to the function. `None` when it is too long for one packet.
pub fn datagram(flow: Flow, payload: &[u8]) -> Option<Vec<u8>> {
    let Flow { from: to, to: from } = flow;
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let ip = IpRepr::new(from.ip().into(), to.ip().into(), IpProtocol::Udp, udp.header_len() + payload.len(), HOPS);
    let (header, whole) = (ip.header_len(), ip.buffer_len());
    if whole > MTU {
        return None;
    }
    let mut packet = vec![0; whole];
    ip.emit(&mut packet[..], &checksums());
    let copy = |place: &mut [u8]| place.copy_from_slice(payload);
    let mut inner = UdpPacket::new_unchecked(&mut packet[header..]);
    udp.emit(&mut inner, &from.ip().into(), &to.ip().into(), payload.len(), copy, &checksums());
    Some(packet)
}

/// Tells the function's kernel that the packet leads nowhere.
pub fn refuse(packet: &[u8], why: Refusal) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => refuse_v4(&Ipv4Packet::new_checked(packet).ok()?, why),
        6 => refuse_v6(&Ipv6Packet::new_checked(packet).ok()?, why),
        _ => None,
    }
}

fn refuse_v4(packet: &Ipv4Packet<&[u8]>, why: Refusal) -> Option<Vec<u8>> {
    let header = Ipv4Repr::parse(packet, &ChecksumCapabilities::ignored()).ok()?;
    let payload = packet.payload();
    let reason = match why {
        Refusal::Prohibited => Icmpv4DstUnreachable::CommProhibited,
        Refusal::NoRoute => Icmpv4DstUnreachable::NetUnreachable,
        Refusal::NoHost => Icmpv4DstUnreachable::HostUnreachable,
        Refusal::NoPort => Icmpv4DstUnreachable::PortUnreachable,
    };
    let icmp = Icmpv4Repr::DstUnreachable { reason, header, data: &payload[..payload.len().min(QUOTE)] };
    let ip = IpRepr::new(DNS.into(), header.src_addr.into(), IpProtocol::Icmp, icmp.buffer_len(), HOPS);
    let mut answer = vec![0; ip.buffer_len()];
    ip.emit(&mut answer[..], &checksums());
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut answer[ip.header_len()..]), &checksums());
    Some(answer)
}

fn refuse_v6(packet: &Ipv6Packet<&[u8]>, why: Refusal) -> Option<Vec<u8>> {
    let header = Ipv6Repr::parse(packet).ok()?;
    let payload = packet.payload();
    let reason = match why {
        Refusal::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
        Refusal::NoRoute => Icmpv6DstUnreachable::NoRoute,
        Refusal::NoHost => Icmpv6DstUnreachable::AddrUnreachable,
        Refusal::NoPort => Icmpv6DstUnreachable::PortUnreachable,
    };
    let icmp = Icmpv6Repr::DstUnreachable { reason, header, data: &payload[..payload.len().min(QUOTE)] };
    let ip = IpRepr::new(GATEWAY_V6.into(), header.src_addr.into(), IpProtocol::Icmpv6, icmp.buffer_len(), HOPS);
    let mut answer = vec![0; ip.buffer_len()];
    ip.emit(&mut answer[..], &checksums());
    let mut inner = Icmpv6Packet::new_unchecked(&mut answer[ip.header_len()..]);
    icmp.emit(&GATEWAY_V6, &header.src_addr, &mut inner, &checksums());
    Some(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INSIDE: Ipv4Addr = Ipv4Addr::new(169, 254, 76, 1);
    const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6865, 0x6172, 0x7468, 0, 0, 0, 1);

    fn a_flow(to: &str) -> Flow {
        let to: SocketAddr = to.parse().unwrap();
        let from = if to.is_ipv4() { IpAddr::V4(INSIDE) } else { IpAddr::V6(INSIDE_V6) };
        Flow { from: SocketAddr::new(from, 40_000), to }
    }

    /// As the function would send it.
    fn outward(flow: Flow, payload: &[u8]) -> Vec<u8> {
        datagram(Flow { from: flow.to, to: flow.from }, payload).unwrap()
    }

    #[test]
    fn a_datagram_is_seen_as_it_was_made() {
        for to in ["203.0.113.7:53", "[2001:db8::7]:53"] {
            let packet = outward(a_flow(to), b"question");
            assert_eq!(see(&packet), Some(Seen::Datagram(a_flow(to), b"question")));
        }
    }

    #[test]
    fn a_refusal_quotes_what_it_refuses() {
        for (to, icmp) in [("203.0.113.7:53", 1), ("[2001:db8::7]:53", 58)] {
            let packet = outward(a_flow(to), &[7; 1000]);
            let answer = refuse(&packet, Refusal::Prohibited).unwrap();
            let (_, back, protocol, payload) = open(&answer).unwrap();
            assert_eq!((back, u8::from(protocol)), (a_flow(to).from.ip(), icmp));
            // The ports stand behind the quoted header.
            let header = if icmp == 1 { 20 } else { 40 };
            assert_eq!(payload[8 + header..][..4], packet[header..][..4]);
        }
    }

    #[test]
    fn what_is_too_long_for_a_packet_is_not_sent() {
        assert!(datagram(a_flow("203.0.113.7:53"), &vec![0; 65_507]).is_some());
        assert!(datagram(a_flow("203.0.113.7:53"), &vec![0; 65_508]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in prop::sample::select(vec![0x45u8, 0x60])) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _ = see(&bytes);
            for why in [Refusal::Prohibited, Refusal::NoPort] {
                let _ = refuse(&bytes, why);
            }
        }
    }
}
