//! The server's end of a packet socket: requests with tags, their answers, and events that nobody asked for.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::driver::Error;
use crate::packet::{Packet, Writer, answer};

/// A cheap handle. When the last one is dropped the socket is shut down, which ends the other side.
#[derive(Clone)]
pub struct Conversation {
    inner: Arc<Inner>,
}

struct Inner {
    /// The listener's too: each sandbox has one, and a host's processes may hold only so many descriptors.
    socket: Arc<AsyncFd<OwnedFd>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u32,
    gone: bool,
    waiting: HashMap<u32, oneshot::Sender<Result<Answer, Error>>>,
    /// Who waits for the event of a pid.
    watching: HashMap<u32, oneshot::Sender<[u32; 2]>>,
    /// Events that came before anybody watched. Every pid is watched sooner or later, or the conversation ends.
    early: HashMap<u32, [u32; 2]>,
}

pub struct Answer {
    pub value: u32,
    pub descriptors: Vec<OwnedFd>,
}

impl Conversation {
    /// Begins to listen. Needs a running async runtime.
    pub fn begin(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = Arc::new(crate::sys::watch(socket)?);
        let inner = Arc::new(Inner { socket: socket.clone(), state: Mutex::default() });
        tokio::spawn(listen(socket, Arc::downgrade(&inner)));
        Ok(Conversation { inner })
    }

    /// Asks and waits for the answer.
    pub async fn ask(
        &self,
        kind: u8,
        descriptors: &[BorrowedFd<'_>],
        fill: impl FnOnce(Writer) -> Writer,
    ) -> Result<Answer, Error> {
        let (tag, answered) = self.inner.expect_answer();
        let packet = fill(Writer::new(kind).u32(tag));
        if let Err(source) = self.send(packet, descriptors).await {
            self.inner.state().waiting.remove(&tag);
            return match source.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(Error::Gone),
                _ => Err(Error::Step { step: "send a request".into(), source }),
            };
        }
        answered.await.map_err(|_| Error::Gone)?
    }

    /// Says something at once and does not wait for the answer. An error when too much is waiting to be read already.
    pub fn tell(&self, kind: u8) -> io::Result<()> {
        // Nobody waits for this tag.
        let packet = Writer::new(kind).u32(u32::MAX).seal()?;
        packet.send(self.inner.socket.get_ref().as_fd(), &[], SendFlags::DONTWAIT)
    }

    /// Waits for the answer with tag 0, which the other side sends first.
    pub fn greeting(&self) -> oneshot::Receiver<Result<Answer, Error>> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.inner.state();
        if !state.gone {
            state.waiting.insert(0, answer);
        }
        answered
    }

    /// Ready with the event of `pid`, or with an error when the conversation has ended.
    pub fn event(&self, pid: u32) -> oneshot::Receiver<[u32; 2]> {
        let (event, happened) = oneshot::channel();
        let mut state = self.inner.state();
        if let Some(early) = state.early.remove(&pid) {
            let _ = event.send(early);
        } else if !state.gone {
            state.watching.insert(pid, event);
        }
        happened
    }

    async fn send(&self, packet: Writer, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = packet.seal()?;
        loop {
            let mut ready = self.inner.socket.writable().await?;
            let sent = ready.try_io(|socket| packet.send(socket.as_fd(), descriptors, SendFlags::DONTWAIT));
            if let Ok(sent) = sent {
                return sent;
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect_answer(&self) -> (u32, oneshot::Receiver<Result<Answer, Error>>) {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state();
        // 0 is the greeting's, the highest nobody's.
        state.next = (state.next.wrapping_add(1) % u32::MAX).max(1);
        let tag = state.next;
        if !state.gone {
            state.waiting.insert(tag, answer);
        }
        (tag, answered)
    }

    fn take_in(&self, mut packet: Packet) -> io::Result<()> {
        let (tag, value) = (packet.u32()?, packet.u32()?);
        if packet.kind == answer::EVENT {
            let event = [value, packet.u32()?];
            let mut state = self.state();
            match state.watching.remove(&tag) {
                Some(watching) => drop(watching.send(event)),
                None => drop(state.early.insert(tag, event)),
            }
            return Ok(());
        }
        let answer = if packet.kind == answer::DONE {
            Ok(Answer { value, descriptors: packet.rest() })
        } else {
            let step = String::from_utf8_lossy(&packet.bytes()?).into_owned();
            Err(Error::Step { step: step.into(), source: io::Error::from_raw_os_error(value.cast_signed()) })
        };
        if let Some(waiting) = self.state().waiting.remove(&tag) {
            let _ = waiting.send(answer);
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}

/// Reads until either side is gone.
async fn listen(socket: Arc<AsyncFd<OwnedFd>>, inner: Weak<Inner>) {
    while let Ok(mut ready) = socket.readable().await {
        let received = ready.try_io(|socket| Packet::receive(socket.as_fd(), RecvFlags::DONTWAIT));
        let Ok(received) = received else { continue };
        let Some(inner) = inner.upgrade() else { return };
        let taken_in = match received {
            Ok(Some(packet)) => inner.take_in(packet).is_ok(),
            _ => false,
        };
        if !taken_in {
            let mut state = inner.state();
            state.gone = true;
            state.waiting.clear();
            state.watching.clear();
            return;
        }
    }
}
