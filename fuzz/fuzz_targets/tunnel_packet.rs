//! Any bytes as a packet from a sandbox's network: what it is seen as is within it, and what is answered goes back to
//! where it came from.
#![no_main]

use hearth_egress::fuzzing::{Refusal, Seen, datagram, dns_failure, refuse, see};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    match see(packet) {
        Some(Seen::Datagram(flow, payload)) => {
            let within = packet.as_ptr_range();
            assert!(payload.is_empty() || within.contains(&payload.as_ptr()));
            assert!(flow.from.port() != 0 && flow.to.port() != 0 && flow.from.is_ipv4() == flow.to.is_ipv4());
            if let Some(answer) = dns_failure(payload) {
                assert!(answer.len() <= payload.len() && answer[..2] == payload[..2]);
            }
            // An echo is seen as what it is: the same bytes, the other way.
            if let Some(echo) = datagram(flow, payload) {
                let Some(Seen::Datagram(back, same)) = see(&echo) else { panic!("an echo that is no datagram") };
                assert_eq!((back.from, back.to, same), (flow.to, flow.from, payload));
            }
        }
        Some(Seen::Opening(flow)) => assert!(flow.from.port() != 0 && flow.to.port() != 0),
        Some(Seen::Segment) | None => {}
    }
    for why in [Refusal::Prohibited, Refusal::NoRoute, Refusal::NoHost, Refusal::NoPort] {
        // Refusals are not answered in turn: they carry no datagram and open nothing.
        if let Some(answer) = refuse(packet, why) {
            assert!(see(&answer).is_none() && answer.len() <= 40 + 8 + 60 + 64);
        }
    }
});
