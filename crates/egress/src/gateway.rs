//! The server's end of one sandbox's tunnel.
//!
//! One task takes packets from the tunnel and lets the stack speak; each connection and each flow of datagrams has a task
//! of its own, which ends with it. None outlives the gateway.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_model::{BoxFuture, Bucket};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::egress::Egress;
use crate::flows;
use crate::packet::{self, DNS, Flow, MTU, Refusal, Seen};
use crate::rules::{Reason, SETTING};
use crate::stack::{CONNECTIONS_MAX, Opened, Stack};

/// Flows of datagrams of a function at once; each is a socket of the server.
const FLOWS_MAX: usize = 256;
/// Datagrams of a flow that wait for its socket. More are lost, as on any network.
const DATAGRAMS_MAX: usize = 64;
/// Questions to the resolver at once.
const QUESTIONS_MAX: usize = 64;
/// Packets taken in one go, before other things are looked at.
const BATCH: usize = 64;
/// What a function may send for long, and in a burst, in packets: full ones are 800 MB/s. What is above waits in the
/// tunnel, or is lost there.
const RATE: f64 = 50_000.0;
const BURST: f64 = 50_000.0;
/// Lines about refusals: so many at once, then one in a second.
const LINES: f64 = 10.0;
const PORT_OF_NAMES: u16 = 53;

/// Packets to and from the network of a sandbox, as a tunnel has them.
pub trait Link: Send + Sync + 'static {
    /// Ready when there may be a packet.
    fn readable(&self) -> BoxFuture<'_, io::Result<()>>;

    /// One packet; `WouldBlock` when there is none.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    fn send(&self, packet: &[u8]) -> io::Result<()>;
}

/// Who is told what a function was refused.
pub trait Witness: Send + Sync + 'static {
    fn refused(&self, refused: &Refused);
}

/// A connection that was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    protocol: &'static str,
    to: SocketAddr,
    why: Why,
    /// Others before it that nobody was told of.
    untold: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Rules(Reason),
    Full(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { protocol, to, why, untold } = self;
        match why {
            Why::Rules(reason) => {
                write!(f, "Blocked: {protocol} to {to} ({reason}); functions reach it when {SETTING} names it")?;
            }
            Why::Full(most) => {
                write!(f, "Blocked: {protocol} to {to}; an environment has at most {most} of these at once")?
            }
        }
        if *untold > 0 { write!(f, " ({untold} more were blocked before)") } else { Ok(()) }
    }
}

/// Serves a tunnel until it is dropped, and every connection in it.
pub struct Gateway {
    driver: AbortHandle,
}

impl Gateway {
    /// Needs a running async runtime.
    pub fn open(egress: Egress, link: impl Link, witness: impl Witness) -> Self {
        let now = Instant::now();
        let wire = Wire {
            link: Box::new(link),
            stack: Mutex::new(Stack::new(now, RandomState::new().hash_one(0))),
            nudge: Notify::new(),
            egress,
            witness: Box::new(witness),
            hush: Mutex::new(Hush { lines: Bucket::new(1.0, LINES, now), untold: 0 }),
            datagrams: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        };
        Gateway { driver: tokio::spawn(drive(Arc::new(wire))).abort_handle() }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What the tasks of a gateway share. Its locks are held for moments, and each of them alone.
pub struct Wire {
    link: Box<dyn Link>,
    stack: Mutex<Stack>,
    /// The stack has something to say, or another time to wake.
    nudge: Notify,
    pub egress: Egress,
    witness: Box<dyn Witness>,
    hush: Mutex<Hush>,
    datagrams: Mutex<HashMap<Flow, mpsc::Sender<Vec<u8>>>>,
    questions: Arc<Semaphore>,
}

struct Hush {
    lines: Bucket,
    untold: u64,
}

async fn drive(wire: Arc<Wire>) {
    let mut tasks = JoinSet::new();
    let mut share = Bucket::new(RATE, BURST, Instant::now());
    let mut paused = Duration::ZERO;
    loop {
        let wake = wire.plan();
        tokio::select! {
            ready = wire.link.readable(), if paused.is_zero() => {
                let Ok(taken) = ready.and_then(|()| wire.take_in(&mut tasks)) else { return };
                share.take(taken as f64);
                if share.level(Instant::now()) <= 0.0 {
                    // A tenth of the burst may come at once then.
                    paused = share.until(BURST / 10.0);
                }
            }
            () = tokio::time::sleep(paused), if !paused.is_zero() => paused = Duration::ZERO,
            () = wire.nudge.notified() => {}
            () = at(wake) => {}
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl Wire {
    pub fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn datagrams(&self) -> MutexGuard<'_, HashMap<Flow, mpsc::Sender<Vec<u8>>>> {
        self.datagrams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the stack has to say, there and then: nobody has to be woken for it. The driver is, where it would sleep
    /// too long.
    pub fn settle(&self) {
        let mut stack = self.stack();
        let wake = self.speak(&mut stack);
        let sooner = wake.is_some_and(|wake| stack.planned.is_none_or(|planned| wake < planned));
        drop(stack);
        if sooner {
            self.nudge.notify_one();
        }
    }

    /// Likewise, by the driver; until when it may sleep.
    fn plan(&self) -> Option<Instant> {
        let mut stack = self.stack();
        stack.planned = self.speak(&mut stack);
        stack.planned
    }

    fn speak(&self, stack: &mut Stack) -> Option<Instant> {
        let now = Instant::now();
        let wake = stack.settle(now);
        while let Some(packet) = stack.next_sent() {
            self.send(&packet);
        }
        wake.map(|wake| now + wake)
    }

    /// What the tunnel does not take is lost, as on any network; TCP says it again.
    pub fn send(&self, packet: &[u8]) {
        let _ = self.link.send(packet);
    }

    /// Takes what is there, up to a batch; how many packets that were.
    fn take_in(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> io::Result<usize> {
        let mut buffer = [0; MTU];
        for taken in 0..BATCH {
            match self.link.receive(&mut buffer) {
                Ok(length) => self.admit(&buffer[..length], tasks),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(BATCH)
    }

    fn admit(self: &Arc<Self>, packet: &[u8], tasks: &mut JoinSet<()>) {
        match packet::see(packet) {
            Some(Seen::Opening(flow)) => {
                // Not within the match: refusing takes the lock again.
                let opened = self.stack().open(flow, packet);
                match opened {
                    Opened::Waiting => drop(tasks.spawn(flows::connection(self.clone(), flow))),
                    Opened::Known => {}
                    Opened::Full => {
                        self.refuse(packet, Refusal::Prohibited);
                        self.tell("TCP", flow.to, Why::Full(CONNECTIONS_MAX));
                    }
                }
            }
            Some(Seen::Segment) => self.stack().receive(Instant::now(), packet.to_owned()),
            Some(Seen::Datagram(flow, payload)) if asks_for_names(flow) => {
                if let Ok(place) = self.questions.clone().try_acquire_owned() {
                    tasks.spawn(flows::question(self.clone(), flow, payload.to_owned(), place));
                }
            }
            Some(Seen::Datagram(flow, payload)) => self.datagram(flow, payload, packet, tasks),
            None => {}
        }
    }

    fn datagram(self: &Arc<Self>, flow: Flow, payload: &[u8], packet: &[u8], tasks: &mut JoinSet<()>) {
        let mut datagrams = self.datagrams();
        if let Some(sender) = datagrams.get(&flow).filter(|sender| !sender.is_closed()) {
            let _ = sender.try_send(payload.to_owned());
        } else if datagrams.len() >= FLOWS_MAX {
            drop(datagrams);
            self.refuse(packet, Refusal::Prohibited);
            self.tell("UDP", flow.to, Why::Full(FLOWS_MAX));
        } else {
            let (sender, waiting) = mpsc::channel(DATAGRAMS_MAX);
            let _ = sender.try_send(payload.to_owned());
            datagrams.insert(flow, sender);
            tasks.spawn(flows::datagrams(self.clone(), flow, waiting));
        }
    }

    /// No more of its datagrams are waited for.
    pub fn forget_datagrams(&self, flow: &Flow) {
        self.datagrams().remove(flow);
    }

    /// Answers a packet with an error.
    pub fn refuse(&self, packet: &[u8], why: Refusal) {
        if let Some(answer) = packet::refuse(packet, why) {
            self.send(&answer);
        }
    }

    pub fn blocked(&self, protocol: &'static str, to: SocketAddr, reason: Reason) {
        self.tell(protocol, to, Why::Rules(reason));
    }

    fn tell(&self, protocol: &'static str, to: SocketAddr, why: Why) {
        let mut hush = self.hush.lock().unwrap_or_else(PoisonError::into_inner);
        if hush.lines.level(Instant::now()) < 1.0 {
            hush.untold += 1;
            return;
        }
        hush.lines.take(1.0);
        let untold = std::mem::take(&mut hush.untold);
        drop(hush);
        self.witness.refused(&Refused { protocol, to, why, untold });
    }
}

/// Whether this is the resolver's address and port.
pub fn asks_for_names(flow: Flow) -> bool {
    flow.to == SocketAddr::from((DNS, PORT_OF_NAMES))
}

#[cfg(test)]
mod tests;
