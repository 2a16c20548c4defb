//! The host's memory, shared by every pool: [`Room`] behind a short lock, and a way to each call that waits for it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::lock;
use crate::room::{Grant, Request, Room};

/// Ready with `Ok` when the memory is the call's.
pub type Granted = oneshot::Receiver<()>;

pub struct HostMemory {
    held: Mutex<Held>,
    /// Calls in line, to be looked at without the lock.
    waiting: AtomicUsize,
}

struct Held {
    room: Room,
    /// Calls that wait, by ticket.
    seats: HashMap<u64, oneshot::Sender<()>>,
}

/// Answer to a request for memory.
pub enum Asked {
    Granted,
    Waits(Granted),
    /// More than the whole budget.
    Never,
}

impl HostMemory {
    /// `budget` in bytes.
    pub fn new(budget: u64) -> Self {
        let held = Held { room: Room::new(budget), seats: HashMap::new() };
        HostMemory { held: Mutex::new(held), waiting: AtomicUsize::new(0) }
    }

    pub fn request(&self, ticket: u64, memory: u64) -> Asked {
        let mut held = lock(&self.held);
        match held.room.request(ticket, memory) {
            Request::Granted => Asked::Granted,
            Request::Never => Asked::Never,
            Request::Waits => {
                let (seat, granted) = oneshot::channel();
                held.seats.insert(ticket, seat);
                self.count(&held);
                Asked::Waits(granted)
            }
        }
    }

    /// A call stops waiting. True when it has been given the memory.
    pub fn withdraw(&self, ticket: u64) -> bool {
        let mut held = lock(&self.held);
        let granted = held.seats.remove(&ticket).is_none();
        if !granted {
            let grants = held.room.withdraw(ticket);
            self.grant(&mut held, grants);
        }
        granted
    }

    /// An environment that holds `memory` is being shut down.
    pub fn leave(&self, memory: u64) {
        lock(&self.held).room.leave(memory);
    }

    pub fn release(&self, memory: u64, was_leaving: bool) {
        let mut held = lock(&self.held);
        let grants = held.room.release(memory, was_leaving);
        self.grant(&mut held, grants);
    }

    /// What idle environments must give up so that every call in line can be served, bytes. Free of the lock when nobody
    /// is in line.
    pub fn shortage(&self) -> u64 {
        if self.waiting.load(Ordering::Acquire) == 0 { 0 } else { lock(&self.held).room.shortage() }
    }

    #[cfg(test)]
    pub fn used(&self) -> u64 {
        lock(&self.held).room.used()
    }

    fn grant(&self, held: &mut Held, grants: Vec<Grant>) {
        for Grant { ticket, .. } in grants {
            // Who waits stays until it has withdrawn.
            if let Some(seat) = held.seats.remove(&ticket) {
                let _ = seat.send(());
            }
        }
        self.count(held);
    }

    fn count(&self, held: &Held) {
        self.waiting.store(held.seats.len(), Ordering::Release);
    }
}
