//! Packets between server, launcher and inits: one bounded message each, with descriptors beside it.
//!
//! Integers are little-endian, texts have a length byte pair before them. A packet that does not decode is an error of
//! the sender, never undefined.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Longest packet, bytes.
pub const MAX: usize = 4096;
/// Most descriptors beside one packet.
pub const DESCRIPTORS_MAX: usize = 64;

/// What launcher and inits say, by the first byte of a packet.
pub mod answer {
    /// Tag, value; descriptors.
    pub const DONE: u8 = 1;
    /// Tag, errno, step.
    pub const FAILED: u8 = 2;
    /// Pid, two values: something happened to a process.
    pub const EVENT: u8 = 3;
}

/// A connected pair that keeps message boundaries.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new(kind: u8) -> Self {
        Writer { bytes: vec![kind] }
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, value: &[u8]) -> Self {
        self = self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(value);
        self
    }

    /// Ready to be sent, and sent again where the socket was full.
    pub fn seal(self) -> io::Result<Sealed> {
        if self.bytes.len() > MAX { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(Sealed { bytes: self.bytes }) }
    }

    pub fn send(self, socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        self.seal()?.send(socket, descriptors, flags)
    }
}

/// A packet of allowed length.
pub struct Sealed {
    bytes: Vec<u8>,
}

impl Sealed {
    pub fn send(&self, socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let whole = [io::IoSlice::new(&self.bytes)];
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(socket, &whole, &mut ancillary, flags | SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }
}

/// A received packet, read from front to back.
pub struct Packet {
    pub kind: u8,
    bytes: Vec<u8>,
    at: usize,
    descriptors: std::vec::IntoIter<OwnedFd>,
}

impl Packet {
    /// The next packet; `None` when the other side is gone.
    pub fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = {
            let mut whole = [io::IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(socket, &mut whole, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)?
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(found) = message {
                descriptors.extend(found);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.truncate(received.bytes);
        Ok(Some(Packet { kind: bytes[0], bytes, at: 1, descriptors: descriptors.into_iter() }))
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.u32()? as usize;
        Ok(self.take(length)?.to_vec())
    }

    pub fn descriptor(&mut self) -> io::Result<OwnedFd> {
        self.descriptors.next().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    pub fn descriptors_left(&self) -> usize {
        self.descriptors.len()
    }

    /// An error unless everything was read.
    pub fn end(&self) -> io::Result<()> {
        let read = self.at == self.bytes.len() && self.descriptors.len() == 0;
        if read { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    pub fn rest(self) -> Vec<OwnedFd> {
        self.descriptors.collect()
    }

    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(io::ErrorKind::InvalidData)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_arrives_with_its_descriptors() {
        let (a, b) = pair().unwrap();
        let writer = Writer::new(7).u32(9).bytes(b"var/task");
        writer.send(a.as_fd(), &[a.as_fd(), b.as_fd()], SendFlags::empty()).unwrap();
        let mut packet = Packet::receive(b.as_fd(), RecvFlags::empty()).unwrap().unwrap();
        assert_eq!((packet.kind, packet.u32().unwrap(), packet.bytes().unwrap()), (7, 9, b"var/task".to_vec()));
        assert!(packet.u32().is_err());
        assert_eq!(packet.rest().len(), 2);
        drop(a);
        assert!(Packet::receive(b.as_fd(), RecvFlags::empty()).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_an_error(
            bytes in prop::collection::vec(any::<u8>(), 1..64),
            reads in prop::collection::vec(any::<bool>(), 0..8),
        ) {
            let mut packet = Packet { kind: bytes[0], bytes, at: 1, descriptors: Vec::new().into_iter() };
            for text in reads {
                let _ = if text { packet.bytes().map(drop) } else { packet.u32().map(drop) };
            }
        }
    }
}
