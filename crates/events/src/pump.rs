//! The driver of one function's queue: takes what is due, runs as much of it at once as its pace allows, and waits for the
//! rest. There is one while a function has events; no function's waits for another's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hearth_model::{AccountId, FunctionArn, FunctionName, Region};
use hearth_store::queue::{Message, Ms, NEVER, QueueName, Take, Taken};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;

use crate::attempt::{self, Done, Felt};
use crate::events::Shared;
use crate::note::Note;
use crate::pace::Pace;

/// Events that are taken in one step.
const TAKE_MAX: usize = 64;
/// Payloads that are taken in one step, KiB. The largest payload fits, with what sealing adds.
const TAKE_KIB: u32 = 1100;
/// A queue that has been empty for so long is no longer looked at until somebody asks.
const IDLE: Duration = Duration::from_secs(5);
/// Longest sleep: clocks are set, too.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Before a queue that could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// How a pump hears of news.
#[derive(Default)]
pub struct Signal {
    woken: AtomicU64,
    notify: Notify,
}

impl Signal {
    pub fn wake(&self) {
        self.woken.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// How often it was woken.
    pub fn seen(&self) -> u64 {
        self.woken.load(Ordering::Acquire)
    }
}

/// An event in memory, with its share of the room for payloads.
struct Held {
    message: Message,
    payload: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

struct Pump {
    shared: Arc<Shared>,
    queue: Arc<QueueName>,
    signal: Arc<Signal>,
    pace: Pace,
    /// Taken, and not begun.
    held: VecDeque<Held>,
    under_way: JoinSet<Done>,
    /// When the next one in the store is due, as far as was seen.
    next: Option<Ms>,
    /// News up to here are known.
    seen: u64,
}

pub async fn run(shared: Arc<Shared>, queue: Arc<QueueName>, signal: Arc<Signal>) {
    let now = shared.now();
    let most = most(&shared, &queue);
    let mut pump = Pump {
        pace: Pace::new(most, now),
        shared,
        queue,
        signal,
        held: VecDeque::new(),
        under_way: JoinSet::new(),
        // Whoever starts a pump has a reason.
        next: Some(now),
        seen: 0,
    };
    pump.run().await;
}

/// As many at once as leave room for others.
fn most(shared: &Shared, queue: &QueueName) -> usize {
    let memory = arn(queue).and_then(|arn| Some(shared.ports.functions.known(&arn).ok()?.memory.as_bytes()));
    let fits = memory.map_or(usize::MAX, |memory| (shared.config.memory_share / memory.max(1)) as usize);
    fits.min(shared.config.under_way_max)
}

fn arn(queue: &QueueName) -> Option<FunctionArn> {
    let (account, region) = queue.partition.split_once('/')?;
    let (account, region) = (AccountId::parse(account)?, Region::parse(region)?);
    Some(FunctionArn { account, region, name: FunctionName::parse(&queue.name)?, qualifier: None })
}

impl Pump {
    async fn run(&mut self) {
        let stopping = self.shared.stopping.clone();
        loop {
            self.begin();
            let now = self.shared.now();
            let sleep = match self.wait(now) {
                Wait::Until(sleep) => sleep,
                Wait::Take => {
                    let room = self.shared.room.clone();
                    tokio::select! {
                        biased;
                        () = stopping.cancelled() => break,
                        Some(done) = self.under_way.join_next() => self.ended(done),
                        room = room.acquire_many_owned(TAKE_KIB) => self.take(room.ok()).await,
                    }
                    continue;
                }
            };
            let idle = self.under_way.is_empty() && self.next.is_none();
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                Some(done) = self.under_way.join_next() => self.ended(done),
                () = self.signal.notify.notified() => {}
                () = tokio::time::sleep(sleep) => {
                    if idle && self.held.is_empty() && self.shared.let_go(&self.queue, self.seen) {
                        return;
                    }
                }
            }
        }
        self.stop().await;
    }

    /// Begins what may begin.
    fn begin(&mut self) {
        let now = self.shared.now();
        while !self.held.is_empty() && self.pace.free(self.under_way.len(), now) > 0 {
            let Some(Held { message, payload, room }) = self.held.pop_front() else { return };
            let shared = self.shared.clone();
            self.under_way.spawn(async move {
                let attempt = tokio::spawn(attempt::run(shared.clone(), message.clone(), payload));
                let done = match attempt.await {
                    Ok(done) => done,
                    Err(error) => {
                        tracing::error!(request_id = %message.id, %error, "the run of an event was cut off");
                        attempt::broken(&shared, message).await
                    }
                };
                drop(room);
                done
            });
        }
    }

    /// What comes next, when nothing happens.
    fn wait(&mut self, now: Ms) -> Wait {
        let news = self.signal.seen() != self.seen;
        let due = news || self.next.is_some_and(|next| next <= now);
        let more = due || !self.held.is_empty();
        if more && self.pace.free(self.under_way.len(), now) == 0 {
            return Wait::Until(Duration::from_millis(self.pace.full(self.under_way.len(), now)));
        }
        if due && self.held.is_empty() {
            return Wait::Take;
        }
        match self.next {
            Some(next) => Wait::Until(Duration::from_millis(next.saturating_sub(now)).min(SLEEP_MAX)),
            None => Wait::Until(IDLE),
        }
    }

    async fn take(&mut self, room: Option<OwnedSemaphorePermit>) {
        let now = self.shared.now();
        self.seen = self.signal.seen();
        let free = self.pace.free(self.under_way.len(), now);
        let take = Take {
            queue: self.queue.clone(),
            now,
            until: NEVER,
            // A second helping, so that the next step is not taken for each.
            limit: (2 * free).clamp(1, TAKE_MAX),
            bytes_max: u64::from(TAKE_KIB) * 1024 / 2,
        };
        match self.shared.ports.queue.take(take).await {
            Ok(Taken { messages, next }) => {
                self.next = next;
                let mut room = room;
                for (message, payload) in messages {
                    let share = payload.len().div_ceil(1024).max(1);
                    let room = room.as_mut().and_then(|room| room.split(share));
                    self.held.push_back(Held { message, payload, room });
                }
            }
            Err(error) => {
                tracing::error!(function = %self.queue.name, %error, "queued events cannot be taken");
                self.next = Some(now);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn ended(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.shared.now();
        // Nothing ends these tasks but the end of the program.
        let Ok(Done { felt, again }) = done else { return };
        match felt {
            Felt::Ran(took) => self.pace.ended(took, now),
            Felt::Throttled => self.pace.throttled(now),
            Felt::Nothing => {}
        }
        self.next = [self.next, again].into_iter().flatten().min();
    }

    /// Gives back what was not begun, and waits for what was.
    async fn stop(&mut self) {
        let now = self.shared.now();
        for Held { message, .. } in std::mem::take(&mut self.held) {
            if let Ok(note) = Note::read(&message.note) {
                attempt::give_back(&self.shared, &message, note, now).await;
            }
        }
        while self.under_way.join_next().await.is_some() {}
    }
}

enum Wait {
    Until(Duration),
    /// There is something to take, and somebody to do it.
    Take,
}
