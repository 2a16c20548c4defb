//! The environments of one function version, and the calls that wait for one: decisions only.
//!
//! Owns who is idle, who is busy, who waits, and in which order each is served. Knows no clock, lock, task or
//! channel, and nothing of the host's memory or the account's limit: those are [`crate::room`] and
//! [`crate::concurrency`].
//!
//! ```text
//!            started, arrive            answered               idle
//!   (new) ───────────────────► busy ───────────────► finishing ─────► idle ──┐
//!                               ▲ ▲                      │             │     │ retire
//!                               │ └── a waiting call ────┘             │     ▼
//!                               └───────────── arrive ◄────────────────┘   leaving ──► gone
//! ```
//!
//! `gone` may come in every state: processes die when they like. An environment that is finishing has given its
//! answer and is about to ask for more, so a call that finds only such ones waits a moment instead of starting
//! another.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant, SystemTime};

/// What a pool must know of an environment.
pub trait Member {
    type Id: Clone + Eq + Hash;

    fn id(&self) -> Self::Id;

    /// Bytes.
    fn memory(&self) -> u64;

    /// It is given no call later than this.
    fn usable_until(&self) -> SystemTime;
}

/// The time, by both clocks: how long something took is told by the one, what was agreed on with others by the other,
/// which goes on while a host sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub steady: Instant,
    pub wall: SystemTime,
}

/// The right to give one call to one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn<E> {
    pub environment: E,
    /// Tells this use of the environment from earlier and later ones.
    pub number: u64,
}

/// A call that waits. `permit` is its share of the account's concurrency, `seat` the way to reach it.
#[derive(Debug)]
pub struct Waiting<P, S> {
    pub ticket: u64,
    pub permit: P,
    pub seat: S,
}

/// What becomes of a call that found no idle environment.
#[derive(Debug)]
pub enum Line<E, P, S> {
    /// One became idle meanwhile.
    Assigned(Turn<E>),
    Waits,
    /// The line is full.
    Full(P, S),
}

/// What to do with an environment that became idle.
#[derive(Debug)]
pub enum Idled<E, S> {
    /// Give it to this call, which has left the line.
    Assign(Turn<E>, S),
    /// Keep it.
    Parked,
    /// Shut it down.
    Retire(E),
    /// It was not busy: an event that came late.
    Ignored,
}

/// In which state an environment was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    Busy,
    Idle,
    Leaving,
}

struct Busy<P> {
    turn: u64,
    /// Given back as soon as the caller has its whole answer.
    permit: Option<P>,
    finishing: bool,
}

struct Parked<E> {
    environment: E,
    since: Instant,
}

/// See the module.
pub struct Pool<E: Member, P, S> {
    /// Last used last.
    idle: Vec<Parked<E>>,
    busy: HashMap<E::Id, Busy<P>>,
    leaving: HashSet<E::Id>,
    /// Starts that were decided and not yet reported by [`Pool::started`].
    starting: usize,
    /// Environments that ended before their start was reported.
    early: HashSet<E::Id>,
    waiting: VecDeque<Waiting<P, S>>,
    finishing: usize,
    waiting_max: usize,
    turns: u64,
    last_used: Option<Instant>,
}

impl<E: Member + Clone, P, S> Pool<E, P, S> {
    /// A pool in which at most `waiting_max` calls wait.
    pub fn new(waiting_max: usize) -> Self {
        Pool {
            idle: Vec::new(),
            busy: HashMap::new(),
            leaving: HashSet::new(),
            starting: 0,
            early: HashSet::new(),
            waiting: VecDeque::new(),
            finishing: 0,
            waiting_max,
            turns: 0,
            last_used: None,
        }
    }

    /// A call arrived: the environment used last, if any is idle.
    pub fn arrive(&mut self, permit: P, now: Now) -> Result<Turn<E>, P> {
        self.last_used = Some(now.steady);
        match self.take_idle(now) {
            Some(environment) => Ok(self.occupy(environment, permit)),
            None => Err(permit),
        }
    }

    /// The one used last. Those whose time is over stay for [`Pool::retire_unused`].
    fn take_idle(&mut self, now: Now) -> Option<E> {
        let place = self.idle.iter().rposition(|parked| is_usable(&parked.environment, now))?;
        Some(self.idle.remove(place).environment)
    }

    /// True when more environments are idle, or about to be, than calls wait for one.
    pub fn one_is_at_hand(&self) -> bool {
        self.idle.len() + self.finishing > self.waiting.len()
    }

    /// Puts a call at the end of the line, unless it can be served at once.
    pub fn wait(&mut self, ticket: u64, permit: P, seat: S, now: Now) -> Line<E, P, S> {
        if let Some(environment) = self.take_idle(now) {
            return Line::Assigned(self.occupy(environment, permit));
        }
        if self.waiting.len() >= self.waiting_max {
            return Line::Full(permit, seat);
        }
        self.waiting.push_back(Waiting { ticket, permit, seat });
        Line::Waits
    }

    /// Takes a call out of the line; `None` when it has been served already.
    pub fn withdraw(&mut self, ticket: u64) -> Option<Waiting<P, S>> {
        let place = self.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        self.waiting.remove(place)
    }

    /// An environment is about to be started; [`Pool::started`] must follow.
    pub fn start(&mut self) {
        self.starting += 1;
    }

    /// The environment that [`Pool::start`] announced exists, and serves the call that holds `permit`. When it has ended
    /// already, it tells the call so itself.
    pub fn started(&mut self, environment: E, permit: P) -> Turn<E> {
        self.starting = self.starting.saturating_sub(1);
        let ended = self.early.remove(&environment.id());
        if self.starting == 0 {
            self.early.clear();
        }
        let turn = self.occupy(environment, permit);
        if ended {
            self.vacate(&turn.environment.id());
        }
        turn
    }

    /// The caller of `turn` has its whole answer; the permit is given back.
    pub fn answered(&mut self, id: &E::Id, turn: u64) -> Option<P> {
        let busy = self.busy.get_mut(id).filter(|busy| busy.turn == turn && !busy.finishing)?;
        busy.finishing = true;
        self.finishing += 1;
        busy.permit.take()
    }

    /// An environment can take a call: the one that waits longest, else it is kept while `keep`. One whose time is over
    /// takes none; who waits is served by another.
    pub fn idle(&mut self, environment: E, keep: bool, now: Now) -> Idled<E, S> {
        let id = environment.id();
        if !self.vacate(&id) {
            return Idled::Ignored;
        }
        self.last_used = Some(now.steady);
        if !is_usable(&environment, now) {
            self.leaving.insert(id);
            return Idled::Retire(environment);
        }
        if let Some(Waiting { permit, seat, .. }) = self.waiting.pop_front() {
            return Idled::Assign(self.occupy(environment, permit), seat);
        }
        if !keep {
            self.leaving.insert(id);
            return Idled::Retire(environment);
        }
        self.idle.push(Parked { environment, since: now.steady });
        Idled::Parked
    }

    /// An environment has ended. `None` when this pool never had it, or not yet.
    pub fn gone(&mut self, id: &E::Id) -> Option<Was> {
        if self.vacate(id) {
            return Some(Was::Busy);
        }
        if self.leaving.remove(id) {
            return Some(Was::Leaving);
        }
        if let Some(place) = self.idle.iter().position(|parked| parked.environment.id() == *id) {
            self.idle.remove(place);
            return Some(Was::Idle);
        }
        if self.starting > 0 {
            self.early.insert(id.clone());
        }
        None
    }

    /// Takes up to `count` idle environments out of service, the one unused for longest first; the caller shuts them
    /// down.
    pub fn retire(&mut self, count: usize) -> Vec<E> {
        let count = count.min(self.idle.len());
        let retired: Vec<E> = self.idle.drain(..count).map(|parked| parked.environment).collect();
        self.leaving.extend(retired.iter().map(Member::id));
        retired
    }

    /// Takes idle environments out of service that have been idle for `timeout`, and those whose time is over.
    pub fn retire_unused(&mut self, timeout: Duration, now: Now) -> Vec<E> {
        let stays = |parked: &Parked<E>| {
            now.steady.saturating_duration_since(parked.since) < timeout && is_usable(&parked.environment, now)
        };
        let retired: Vec<E> =
            self.idle.extract_if(.., |parked| !stays(parked)).map(|parked| parked.environment).collect();
        self.leaving.extend(retired.iter().map(Member::id));
        retired
    }

    /// Bytes that each idle environment holds; `None` when there is none.
    pub fn idle_memory(&self) -> Option<u64> {
        self.idle.first().map(|parked| parked.environment.memory())
    }

    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// Environments of any state.
    pub fn environments(&self) -> usize {
        self.idle.len() + self.busy.len() + self.leaving.len() + self.starting
    }

    /// Nothing is here and nothing will come back.
    pub fn is_empty(&self) -> bool {
        self.environments() == 0 && self.waiting.is_empty()
    }

    /// When a call last arrived or ended.
    pub fn last_used(&self) -> Option<Instant> {
        self.last_used
    }

    fn occupy(&mut self, environment: E, permit: P) -> Turn<E> {
        self.turns += 1;
        let busy = Busy { turn: self.turns, permit: Some(permit), finishing: false };
        self.busy.insert(environment.id(), busy);
        Turn { environment, number: self.turns }
    }

    fn vacate(&mut self, id: &E::Id) -> bool {
        let Some(busy) = self.busy.remove(id) else { return false };
        self.finishing -= usize::from(busy.finishing);
        true
    }
}

fn is_usable<E: Member>(environment: &E, now: Now) -> bool {
    now.wall < environment.usable_until()
}

#[cfg(test)]
mod tests;
