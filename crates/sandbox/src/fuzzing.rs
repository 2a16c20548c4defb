//! What `fuzz` reaches of this crate: who reads packets, with what was understood.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

use crate::init::command::Command;
use crate::launcher::request::{self, Create, Request, Scratch};
use crate::packet::{Packet, Writer};

pub use crate::packet::{DESCRIPTORS_MAX, MAX as PACKET_MAX, pair};

/// Takes one packet as the launcher does. A request is sent back as it was understood, without its tag; whether it was
/// one.
pub fn echo_request(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut packet = match Packet::receive(socket, RecvFlags::DONTWAIT)? {
        Some(packet) => packet,
        None => return Ok(false),
    };
    let tag = packet.u32()?;
    let request = Request::read(packet)?;
    let (packet, descriptors) = written(tag, &request);
    packet.send(socket, &descriptors, SendFlags::DONTWAIT)?;
    Ok(true)
}

fn written(tag: u32, request: &Request) -> (Writer, Vec<BorrowedFd<'_>>) {
    let packet = |kind| Writer::new(kind).u32(tag);
    match request {
        Request::Settle(instance) => (packet(request::SETTLE).bytes(instance.as_bytes()), Vec::new()),
        Request::Compose { skeleton, binds } => {
            let targets = binds.iter().fold(packet(request::COMPOSE), |packet, (_, target)| packet.bytes(target));
            let sources = binds.iter().map(|(source, _)| source.as_fd());
            (targets, [skeleton.as_fd()].into_iter().chain(sources).collect())
        }
        Request::Create(Create { root, control, scratch, unified, groups }) => {
            let (Scratch::Image(scratch) | Scratch::Folder(scratch)) = scratch;
            let descriptors = [control, scratch].into_iter().chain(unified).chain(groups).map(AsFd::as_fd);
            (packet(request::CREATE).u32(*root).u32(unified.is_some().into()), descriptors.collect())
        }
        Request::Mount { pid, directory } => (packet(request::MOUNT).u32(pid.cast_unsigned()), vec![directory.as_fd()]),
        Request::Kill(pid) => (packet(request::KILL).u32(pid.cast_unsigned()), Vec::new()),
        Request::Clear(folder) => (packet(request::CLEAR), vec![folder.as_fd()]),
    }
}

/// Reads a command as an init does; whether it is one.
pub fn is_command(file: OwnedFd) -> bool {
    Command::read(file).is_ok()
}
