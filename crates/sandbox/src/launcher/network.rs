//! What a sandbox's network namespace holds: loopback, and a tunnel whose other end is the server's. Whatever is not the
//! sandbox's own goes into the tunnel, and nowhere else.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use super::serve::{Failure, at};
use crate::sys::{self, Device};

/// The address beside loopback on which AWS's newer runtimes see the Runtime API (spec 3.2).
const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 100, 1);
/// The function's own addresses in the tunnel. They are seen by nobody else: what the server sends on has the host's.
const INSIDE: Ipv4Addr = Ipv4Addr::new(169, 254, 76, 1);
const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6865, 0x6172, 0x7468, 0, 0, 0, 1);
/// As on AWS.
pub const TUNNEL: &[u8] = b"vinternal_1";
/// Longest packet, bytes: none has to be cut into pieces.
const MTU: u16 = u16::MAX;

/// Whether sandboxes can have a tunnel here.
pub fn has_tunnels() -> bool {
    sys::open_tunnel().is_ok()
}

/// Loopback alone.
pub fn close() -> Result<(), Failure> {
    sys::bring_loopback_up(LINK_LOCAL).map_err(at("bring loopback up"))
}

/// With a way out.
pub fn open(tunnel: &OwnedFd) -> Result<(), Failure> {
    close()?;
    let device = Device::named(TUNNEL).map_err(at("open a socket"))?;
    device.make(tunnel).map_err(at("make the tunnel"))?;
    device.limit(MTU).map_err(at("make the tunnel wide"))?;
    device.give(INSIDE).map_err(at("give the tunnel an address"))?;
    device.bring_up(0).map_err(at("bring the tunnel up"))?;
    device.route_all().map_err(at("make the tunnel the way out"))?;
    // Some kernels have no IPv6, or are told not to use it; then the function has none.
    let _ = device.give_v6(INSIDE_V6);
    Ok(())
}
