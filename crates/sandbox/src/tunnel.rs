//! The server's end of a sandbox's way out.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Packets of IP, one at a time, as the kernel of the sandbox's network sends and takes them.
pub struct Tunnel {
    device: AsyncFd<OwnedFd>,
}

impl Tunnel {
    /// Needs a running async runtime.
    pub(crate) fn new(device: OwnedFd) -> io::Result<Self> {
        Ok(Tunnel { device: crate::sys::watch(device)? })
    }

    /// Ready when there may be a packet.
    pub async fn readable(&self) -> io::Result<()> {
        self.device.readable().await.map(|mut ready| ready.retain_ready())
    }

    /// The next packet; `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.try_io(Interest::READABLE, |device| Ok(rustix::io::read(device, &mut *buffer)?))
    }

    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(self.device.get_ref(), packet)?;
        Ok(())
    }
}
