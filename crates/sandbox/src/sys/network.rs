//! Devices and addresses of this network namespace, as the kernel's oldest calls set them.

use std::ffi::{c_int, c_long, c_short, c_ulong, c_ushort, c_void};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::check;

/// The kernel's way to tunnels.
const TUNNELS: &str = "/dev/net/tun";

/// One interface of this namespace.
pub struct Device {
    name: &'static [u8],
    /// Any socket; what is asked of it is about the namespace.
    socket: OwnedFd,
}

/// The kernel's `rtentry`: a route.
#[repr(C)]
struct Route {
    pad1: c_ulong,
    to: libc::sockaddr,
    gateway: libc::sockaddr,
    mask: libc::sockaddr,
    flags: c_ushort,
    pad2: c_short,
    pad3: c_ulong,
    pad4: *mut c_void,
    metric: c_short,
    device: *const libc::c_char,
    mtu: c_ulong,
    window: c_ulong,
    irtt: c_ushort,
}

/// The kernel's `in6_rtmsg`: a route of IPv6.
#[repr(C)]
#[derive(Default)]
struct Route6 {
    to: [u8; 16],
    from: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    to_bits: u16,
    from_bits: u16,
    metric: u32,
    information: c_ulong,
    flags: u32,
    device: c_int,
}

const UP: u16 = 1;

/// Brings the loopback interface up and gives it a second address.
pub fn bring_loopback_up(second: Ipv4Addr) -> io::Result<()> {
    Device::named(b"lo")?.bring_up(libc::IFF_RUNNING)?;
    Device::named(b"lo:0")?.give(second)
}

/// A tunnel that is not yet anybody's, of this namespace.
pub fn open_tunnel() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(TUNNELS, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

impl Device {
    pub fn named(name: &'static [u8]) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Device { name, socket })
    }

    /// Makes it the near end of a tunnel, for packets without frames. It goes with its namespace, not with the tunnel:
    /// whoever lets go of that would wait for every processor.
    pub fn make(&self, tunnel: &OwnedFd) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as _;
        // SAFETY: the first request reads and writes one valid ifreq, the second takes an integer.
        unsafe {
            check(c_long::from(libc::ioctl(tunnel.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request)))?;
            check(c_long::from(libc::ioctl(tunnel.as_raw_fd(), libc::TUNSETPERSIST as _, 1))).map(drop)
        }
    }

    pub fn bring_up(&self, flags: c_int) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | flags) as _;
        self.set(libc::SIOCSIFFLAGS as _, &request)
    }

    /// Longest packet, bytes.
    pub fn limit(&self, mtu: u16) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = mtu.into();
        self.set(libc::SIOCSIFMTU as _, &request)
    }

    /// This address alone, not the range that it lies in.
    pub fn give(&self, address: Ipv4Addr) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.set(libc::SIOCSIFADDR as _, &request)?;
        request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::BROADCAST);
        self.set(libc::SIOCSIFNETMASK as _, &request)
    }

    /// Whatever has no other way leaves here.
    pub fn route_all(&self) -> io::Result<()> {
        let any = socket_address(Ipv4Addr::UNSPECIFIED);
        let name = self.request().ifr_name;
        let route = Route {
            pad1: 0,
            to: any,
            gateway: any,
            mask: any,
            flags: UP,
            pad2: 0,
            pad3: 0,
            pad4: ptr::null_mut(),
            metric: 0,
            device: name.as_ptr(),
            mtu: 0,
            window: 0,
            irtt: 0,
        };
        // SAFETY: the request reads one valid route, and a name that ends with zero.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) };
        check(c_long::from(result)).map(drop)
    }

    /// An address of IPv6, and the way out for it. An error where the kernel has none.
    pub fn give_v6(&self, address: Ipv6Addr) -> io::Result<()> {
        let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let mut request = self.request();
        self.set(libc::SIOCGIFINDEX as _, &raw mut request)?;
        // SAFETY: the request before has written an index.
        let index = unsafe { request.ifr_ifru.ifru_ifindex };
        let own = libc::in6_ifreq {
            ifr6_addr: libc::in6_addr { s6_addr: address.octets() },
            ifr6_prefixlen: 128,
            ifr6_ifindex: index,
        };
        let route = Route6 { metric: 1, flags: UP.into(), device: index, ..Route6::default() };
        // SAFETY: each request reads one valid structure.
        unsafe {
            check(c_long::from(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR as _, &raw const own)))?;
            check(c_long::from(libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route))).map(drop)
        }
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name) {
            *to = *from as _;
        }
        request
    }

    fn set(&self, kind: c_ulong, request: *const libc::ifreq) -> io::Result<()> {
        // SAFETY: every caller passes one valid ifreq, and one that may be written to where the kernel writes.
        let result = unsafe { libc::ioctl(self.socket.as_fd().as_raw_fd(), kind as _, request) };
        check(c_long::from(result)).map(drop)
    }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of one size.
    unsafe { std::mem::transmute(address) }
}
