//! The launcher's own side: one thread, one socket, one request at a time.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use seccompiler::BpfProgram;

use super::compose::Roots;
use super::request;
use crate::packet::{Packet, Writer, answer};
use crate::sys;

/// A step that failed.
pub struct Failure {
    pub step: Cow<'static, str>,
    pub source: io::Error,
}

/// Names the step of an error.
pub fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure { step: step.into(), source: error.into() }
}

/// What a request is answered with.
#[derive(Default)]
pub struct Reply {
    pub value: u32,
    pub descriptor: Option<OwnedFd>,
}

pub struct State {
    pub roots: Roots,
    pub filters: Vec<BpfProgram>,
}

/// Serves until the server is gone.
pub fn run(socket: OwnedFd) -> io::Result<()> {
    sys::die_with_parent()?;
    sys::set_name(c"hearth-launcher")?;
    let children = sys::child_signals()?;
    let filters = crate::filter::compile().map_err(|e| io::Error::other(e.to_string()))?;
    let mut state = State { roots: Roots::default(), filters };
    loop {
        let mut ready = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
        let (asked, ended) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if ended {
            announce_endings(&socket, &children)?;
        }
        if asked {
            match Packet::receive(socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Some(packet)) => serve(&mut state, &socket, packet)?,
                Ok(None) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn announce_endings(socket: &OwnedFd, children: &OwnedFd) -> io::Result<()> {
    let mut information = [0; 1024];
    let _ = rustix::io::read(children, &mut information);
    while let Some((pid, _)) = sys::reap()? {
        Writer::new(answer::EVENT).u32(pid.cast_unsigned()).u32(0).u32(0).send(
            socket.as_fd(),
            &[],
            SendFlags::empty(),
        )?;
    }
    Ok(())
}

fn serve(state: &mut State, socket: &OwnedFd, mut packet: Packet) -> io::Result<()> {
    let tag = packet.u32()?;
    let done = match packet.kind {
        request::COMPOSE => super::compose::compose(&mut state.roots, packet),
        request::CREATE => super::create::create(state, packet),
        request::MOUNT => super::compose::mount(packet),
        request::KILL => packet
            .u32()
            .and_then(|pid| sys::kill(pid.cast_signed()))
            .map(|()| Reply::default())
            .map_err(at("kill the sandbox")),
        _ => Err(at("read the request")(io::Error::from(io::ErrorKind::InvalidData))),
    };
    match done {
        Ok(reply) => {
            let descriptors: Vec<_> = reply.descriptor.iter().map(AsFd::as_fd).collect();
            Writer::new(answer::DONE).u32(tag).u32(reply.value).send(socket.as_fd(), &descriptors, SendFlags::empty())
        }
        Err(failure) => Writer::new(answer::FAILED)
            .u32(tag)
            .u32(failure.source.raw_os_error().unwrap_or(0).cast_unsigned())
            .bytes(failure.step.as_bytes())
            .send(socket.as_fd(), &[], SendFlags::empty()),
    }
}
