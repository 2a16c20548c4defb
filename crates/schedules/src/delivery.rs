//! Takes what has fired to its target, again where that failed, and in the end to the dead-letter queue.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hearth_store::QueueError;
use hearth_store::queue::{Change, Message, Ms, QueueName, Take};
use serde::Serialize;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;

use crate::input::Attempt;
use crate::record::{Firing, Note};
use crate::retry::{self, Condition, Next, Policy};
use crate::schedules::Shared;
use crate::targets::{DeadLetter, Failure};

/// Whose queue it is, in `store`.
pub const KIND: &str = "schedule";

/// Attempts that are under way at once: each has an input of up to 256 KB in memory, and filled in once more.
pub const UNDER_WAY_MAX: usize = 64;
/// Of one account and region, so that none waits for another's targets.
const EACH_MAX: usize = 16;
/// Longest that one may take. Targets take what they are given, and do not run it.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// How long a message is held, which is longer than its attempt and its dead letter take.
const HOLD: Ms = 180_000;
/// Tries of a dead letter, one second apart and then two.
const BURIALS: u32 = 3;
/// Before what could not be read or written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How an occurrence rests.
const DELIVERED: &str = "delivered";
const BURIED: &str = "dead-letter";
const DROPPED: &str = "dropped";

/// Of an account and region: what is in it is sealed with the account's key.
pub fn queue(partition: &str) -> QueueName {
    QueueName { partition: partition.to_owned(), kind: KIND, name: "fired".to_owned() }
}

pub fn written(value: &impl Serialize) -> Bytes {
    // Texts and numbers: it cannot fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Goes on with what a former process has left.
pub async fn begin(shared: Arc<Shared>) {
    while !shared.stopping.is_cancelled() {
        match shared.ports.queue.queues(KIND).await {
            Ok(queues) => return queues.iter().for_each(|(queue, _)| shared.wake(&queue.partition)),
            Err(error) => tracing::error!(%error, "what schedules have fired cannot be read"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes what has fired of one account and region.
async fn run(shared: Arc<Shared>, queue: QueueName, fired: Arc<Notify>) {
    let queue = Arc::new(queue);
    let mut under_way = JoinSet::new();
    while !shared.stopping.is_cancelled() {
        while under_way.try_join_next().is_some() {}
        let free = EACH_MAX - under_way.len();
        let room: Vec<_> = (0..free).map_while(|_| shared.room.clone().try_acquire_owned().ok()).collect();
        let is_crowded = free > 0 && room.is_empty();
        let mut wait = None;
        if !room.is_empty() {
            let now = shared.now();
            let bytes_max = u64::MAX >> 1;
            let take = Take { queue: queue.clone(), now, until: now + HOLD, limit: room.len(), bytes_max };
            match shared.ports.queue.take(take).await {
                Ok(taken) => {
                    for ((message, body), room) in taken.messages.into_iter().zip(room) {
                        under_way.spawn(attempt(shared.clone(), message, body, room));
                    }
                    wait = taken.next.map(|next| Duration::from_millis(next.saturating_sub(shared.now())));
                }
                Err(error) => {
                    tracing::error!(%error, "what schedules have fired cannot be read");
                    wait = Some(AGAIN);
                }
            }
        }
        let has_room = under_way.len() < EACH_MAX && !is_crowded;
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = fired.notified(), if has_room => {}
            _ = under_way.join_next(), if !under_way.is_empty() => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() && has_room => {}
            _ = shared.room.acquire(), if is_crowded => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// One try with one occurrence.
async fn attempt(shared: Arc<Shared>, message: Message, body: Bytes, _room: OwnedSemaphorePermit) {
    let (Ok(firing), Ok(mut note)) =
        (serde_json::from_slice::<Firing>(&body), serde_json::from_slice::<Note>(&message.note))
    else {
        tracing::error!(id = %message.id, "what a schedule has fired cannot be read, and is dropped");
        return shared.end(&message, DROPPED, &Note::default()).await;
    };
    let attempt = Attempt { id: &message.id, firing: &firing, number: note.failures + 1 };
    let reached = tokio::time::timeout(ATTEMPT_MAX, shared.ports.targets.reach(&attempt)).await;
    let late = || Failure { code: "Timeout".to_owned(), message: format!("No answer within {ATTEMPT_MAX:?}") };
    let reached = reached.unwrap_or_else(|_| Err(late()));
    shared.counts.count(&firing.partition, &firing.group, |numbers| {
        numbers.attempts += 1;
        numbers.failed += u64::from(reached.is_err());
    });
    let Err(failure) = reached else { return shared.end(&message, DELIVERED, &note).await };
    note.failures += 1;
    let policy = Policy { retries: firing.target.retries, age_max: u64::from(firing.target.age_max_s) * 1000 };
    match retry::next(policy, message.sent, note.failures, shared.now()) {
        Next::Again(due) => {
            tracing::debug!(schedule = %firing.place().arn(), attempt = attempt.number, %failure, "a target was not reached");
            let change = Change::Return { receipt: message.receipt(), due, note: written(&note) };
            shared.commit(vec![change]).await;
            // Perhaps sooner than what is waited for.
            shared.wake(&message.queue.partition);
        }
        Next::Over(condition) => {
            let state = shared.over(&attempt, &failure, condition).await;
            shared.end(&message, state, &note).await;
        }
    }
}

impl Shared {
    /// Something has fired: whoever takes it looks, from now on. There are as many as accounts and regions with schedules.
    pub fn wake(self: &Arc<Self>, partition: &str) {
        if self.stopping.is_cancelled() {
            return;
        }
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let fired = takers.entry(partition.to_owned()).or_insert_with(|| {
            let fired = Arc::new(Notify::new());
            self.tasks.spawn(run(self.clone(), queue(partition), fired.clone()));
            fired
        });
        fired.notify_one();
    }

    /// The end of an occurrence that did not reach its target. Its dead letter is there before it ends: a crash between the
    /// two brings another rather than none.
    async fn over(&self, attempt: &Attempt<'_>, failure: &Failure, condition: Condition) -> &'static str {
        let firing = attempt.firing;
        let (schedule, target) = (firing.place().arn(), &firing.target.arn);
        let tries = attempt.number;
        tracing::warn!(%schedule, %target, tries, condition = condition.as_str(), %failure, "a target was not reached");
        let count = |change: fn(&mut crate::counts::Numbers)| {
            self.counts.count(&firing.partition, &firing.group, change);
        };
        count(|numbers| numbers.dropped += 1);
        let Some(queue) = &firing.target.dead_letters else { return DROPPED };
        for again in 1..=BURIALS {
            let letter = DeadLetter { attempt, queue, failure, condition };
            let buried = tokio::time::timeout(ATTEMPT_MAX, self.ports.targets.bury(letter)).await;
            let Err(error) = buried.unwrap_or_else(|_| {
                let message = format!("No answer within {ATTEMPT_MAX:?}");
                Err(Failure { code: "Timeout".to_owned(), message })
            }) else {
                count(|numbers| numbers.dead_letters += 1);
                return BURIED;
            };
            tracing::warn!(%schedule, %queue, %error, "a dead letter was not delivered");
            if again < BURIALS {
                tokio::time::sleep(Duration::from_secs(u64::from(again))).await;
            }
        }
        count(|numbers| numbers.dead_letters_failed += 1);
        DROPPED
    }

    async fn end(&self, message: &Message, state: &'static str, note: &Note) {
        let mut changes = Vec::with_capacity(2);
        // It rests so that it is known by its id. What it was is where it has arrived.
        if state != DROPPED {
            changes.push(Change::Rewrite { receipt: message.receipt(), body: Bytes::new() });
        }
        changes.push(Change::Rest { receipt: message.receipt(), state, note: written(note) });
        self.commit(changes).await;
    }

    /// Writes what has happened; what cannot be written now is written later.
    async fn commit(&self, changes: Vec<Change>) {
        loop {
            match self.ports.queue.commit(changes.clone()).await {
                Ok(()) => return,
                Err(error @ (QueueError::Full | QueueError::Engine(_))) => {
                    tracing::error!(%error, "what became of a schedule cannot be written; it is tried again");
                }
                Err(error) => {
                    tracing::error!(%error, "an occurrence was ended twice");
                    return;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
