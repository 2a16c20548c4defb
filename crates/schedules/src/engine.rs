//! Fires what is due: the driver of `machine` and `agenda`.

use std::sync::Arc;
use std::time::Duration;

use hearth_store::queue::{Change, Ms, NewMessage};
use hearth_store::{Key, QueueError, Record, RecordsError, Write};

use crate::delivery::{self, KIND};
use crate::ids;
use crate::machine::{self, Fired};
use crate::record::{Firing, GONE, GoneRecord, Note, Place, ScheduleRecord};
use crate::schedules::{Shared, delete, put};
use crate::targets::told;

/// Schedules that fire in one transaction: their inputs, of up to 256 KB each, are in memory for it.
const BATCH: usize = 64;
/// Longest wait, whatever is due when: clocks are set, and hosts sleep.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Before what could not be written is written again.
const AGAIN: Duration = Duration::from_secs(1);
/// Between looks for what has become of occurrences longer ago than is kept.
const SWEEP_EVERY: Ms = 60_000;
/// Messages that one step of a sweep looks at.
const SWEEP_STEP: usize = 1_000;
/// How long it is remembered which request made a schedule that is completed and gone: longer than any SDK tries again.
const GONE_FOR: Ms = 3_600_000;

#[derive(Debug, thiserror::Error)]
enum FireError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is to be written of one schedule.
struct Step {
    place: Place,
    /// As it was read.
    record: ScheduleRecord,
    fired: Fired,
}

pub async fn run(shared: Arc<Shared>) {
    let (mut swept, mut sweeping) = (0, None);
    while !shared.stopping.is_cancelled() {
        let fired = shared.fire().await;
        if shared.now() >= swept + SWEEP_EVERY {
            swept = shared.now();
            sweeping = Some(0);
            shared.forget_gone().await;
        }
        // A step at a time, so that nothing waits for the whole of it.
        if let Some(after) = sweeping {
            sweeping = shared.sweep(after).await;
        }
        match fired {
            // There may be more.
            Ok(true) => continue,
            Ok(false) if sweeping.is_some() => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "schedules could not fire; it is tried again");
                pause(&shared, AGAIN).await;
                continue;
            }
        }
        let next = shared.agenda().next();
        let wait = next.map_or(WAIT_MAX, |next| Duration::from_millis(next.saturating_sub(shared.now())));
        pause(&shared, wait.min(WAIT_MAX)).await;
    }
}

async fn pause(shared: &Shared, wait: Duration) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = shared.changed.notified() => {}
        () = shared.stopping.cancelled() => {}
    }
}

impl Shared {
    /// Fires a batch of what is due. `false` when there was nothing.
    async fn fire(self: &Arc<Self>) -> Result<bool, FireError> {
        if self.agenda().next().is_none_or(|next| next > self.now()) {
            return Ok(false);
        }
        let _turn = self.all.write().await;
        let now = self.now();
        let due = self.agenda().take(now, BATCH);
        let (mut steps, mut over): (Vec<Step>, Vec<Place>) = (Vec::with_capacity(due.len()), Vec::new());
        let mut writes = Vec::new();
        for place in &due {
            let Some(found) = self.ports.records.get(place.key()).await? else {
                self.plan(place, None);
                continue;
            };
            let Ok(record) = serde_json::from_slice::<ScheduleRecord>(&found.value) else {
                self.set_aside(place);
                continue;
            };
            if machine::goes(&record).is_some_and(|goes| goes <= now) {
                writes.extend(gone(place, &record, now));
                over.push(place.clone());
                continue;
            }
            steps.extend(self.step(place, record, now));
        }
        self.send(&mut steps, now).await?;
        steps.iter().for_each(|step| self.wake(&step.place.partition));
        writes.extend(steps.iter().flat_map(|step| after(step, now)));
        self.write(writes).await?;
        over.iter().for_each(|place| self.forget(place));
        steps.into_iter().for_each(|step| self.note(step));
        Ok(!due.is_empty())
    }

    fn step(&self, place: &Place, record: ScheduleRecord, now: Ms) -> Option<Step> {
        let timetable = record.definition.timetable(record.anchor);
        let fired = timetable.and_then(|timetable| machine::fire(&record, &timetable, now, self.up_since));
        match fired {
            Some(fired) => Some(Step { place: place.clone(), record, fired }),
            None => {
                self.plan(place, Some(&record));
                None
            }
        }
    }

    /// On disk, each once: what was sent before a crash is there still, and was in time then.
    async fn send(&self, steps: &mut [Step], now: Ms) -> Result<(), QueueError> {
        let mut changes: Vec<Change> = steps.iter().map(|step| Change::Send(message(step, now))).collect();
        loop {
            if changes.is_empty() {
                return Ok(());
            }
            match self.ports.queue.commit(changes.clone()).await {
                Err(QueueError::Duplicate(id)) => {
                    changes.retain(|change| !matches!(change, Change::Send(message) if message.id == id));
                    for step in steps.iter_mut().filter(|step| step.id() == id) {
                        step.fired = machine::fired_before(&step.record, step.fired.occurrence);
                    }
                }
                sent => return sent,
            }
        }
    }

    fn note(&self, Step { place, record, fired }: Step) {
        let Fired { occurrence, late, next } = fired;
        if let Some(late) = late {
            self.counts.count(&place.partition, &place.group, |numbers| numbers.late += 1);
            let (schedule, scheduled) = (place.arn(), crate::timetable::written(occurrence));
            tracing::warn!(%schedule, %scheduled, missed = %told(late), "a schedule was missed, and fires now");
        }
        match next {
            None if record.definition.goes => self.forget(&place),
            next => self.plan(&place, Some(&ScheduleRecord { next, ..record })),
        }
    }

    /// One step. Answers after which message the next begins.
    async fn sweep(&self, after: u64) -> Option<u64> {
        let retention = Ms::try_from(self.config.retention.as_millis()).unwrap_or(Ms::MAX);
        let before = self.now().saturating_sub(retention);
        // Only what nobody could send again is forgotten: it was sent before the first of what is still due was.
        let before = self.agenda().next().map_or(before, |next| next.min(before));
        let swept = self.ports.queue.sweep(KIND, before, after, SWEEP_STEP).await;
        swept.unwrap_or_else(|error| {
            tracing::error!(%error, "what became of schedules cannot be forgotten");
            None
        })
    }

    /// Forgets by which requests schedules were made that are gone long since.
    async fn forget_gone(&self) {
        let forgotten = async {
            let now = self.now();
            let mut after = None;
            loop {
                let page = self.ports.records.all(GONE, after, SWEEP_STEP).await?;
                let is_over = |found: &&Record| {
                    serde_json::from_slice::<GoneRecord>(&found.value).map_or(true, |gone| gone.until <= now)
                };
                let key =
                    |found: &Record| Key { partition: found.key_partition.clone(), kind: GONE, id: found.id.clone() };
                let over: Vec<Write> = page.iter().filter(is_over).map(|found| delete(key(found))).collect();
                if !over.is_empty() {
                    self.write(over).await?;
                }
                match page.last() {
                    Some(last) if page.len() == SWEEP_STEP => {
                        after = Some((last.key_partition.clone(), last.id.clone()));
                    }
                    _ => return Ok::<(), RecordsError>(()),
                }
            }
        };
        if let Err(error) = forgotten.await {
            tracing::error!(%error, "schedules that are gone cannot be forgotten");
        }
    }
}

impl Step {
    /// Of its message.
    fn id(&self) -> String {
        ids::message(&self.record.uuid, self.record.turn, self.fired.occurrence)
    }
}

fn message(step: &Step, now: Ms) -> NewMessage {
    let Step { place, record, fired } = step;
    let firing = Firing {
        partition: place.partition.clone(),
        group: place.group.clone(),
        name: place.name.clone(),
        target: record.definition.target.clone(),
        scheduled: fired.occurrence,
        late: fired.late,
    };
    NewMessage {
        queue: delivery::queue(&place.partition),
        id: step.id(),
        sent: now,
        due: now,
        note: delivery::written(&Note::default()),
        body: delivery::written(&firing),
    }
}

/// The schedule after it has fired: what is completed goes, where it is told to.
fn after(Step { place, record, fired }: &Step, now: Ms) -> Vec<Write> {
    if fired.next.is_none() && record.definition.goes {
        return gone(place, record, now);
    }
    vec![put(place.key(), &ScheduleRecord { next: fired.next, fired: Some(fired.occurrence), ..record.clone() })]
}

/// A completed schedule goes, and the request that made it is remembered for a while.
fn gone(place: &Place, record: &ScheduleRecord, now: Ms) -> Vec<Write> {
    let remembered = record.made_by.clone().map(|made_by| {
        let key = place.gone_key(&made_by.token);
        put(key, &GoneRecord { made_by, until: now.saturating_add(GONE_FOR) })
    });
    [delete(place.key())].into_iter().chain(remembered).collect()
}
