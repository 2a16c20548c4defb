//! Groups with filters are followed, a task each: it shows what is appended to the group's subscription filters and metric
//! filters.
//!
//! ```text
//! follower ─▶ subscriptions: gathered by stream (bounded in time and bytes) ─▶ queue (bounded) ─▶ events of functions
//!          └▶ metrics: values, by their series
//! ```
//!
//! Filters are an afterthought of logging: nobody waits for them. What comes faster than they see it is counted, and can be
//! read from the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{Clock, LogGroup};
use hearth_observe::{Followed, Follower, GroupSettings, Logs, LogsError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{Meter, Metrics};
use crate::subscriptions::{Destinations, Subscriber};

/// How often groups are looked for that nobody told of: those that failed to be followed.
const LOOK: Duration = Duration::from_secs(60);
/// Longest wait of who changes a filter until it is at work.
const CHANGE_WAIT: Duration = Duration::from_secs(5);
/// How long events are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(500);

/// A cheap handle to what follows groups.
#[derive(Clone)]
pub struct Watch {
    pub logs: Logs,
    pub destinations: Destinations,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    /// How often filters have changed, and up to which change they are at work.
    pub changes: watch::Sender<u64>,
    pub at_work: watch::Sender<u64>,
    pub ending: CancellationToken,
    pub tasks: TaskTracker,
}

/// Of a group that is followed: its settings as they change. Dropping it ends the task, which passes on what it has.
type Settings = watch::Sender<GroupSettings>;

impl Watch {
    /// Keeps every group with filters followed, until the end.
    pub async fn run(self) {
        let mut followed: HashMap<LogGroup, Settings> = HashMap::new();
        let mut changes = self.changes.subscribe();
        while !self.ending.is_cancelled() {
            let change = *changes.borrow_and_update();
            if let Err(error) = self.look(&mut followed).await {
                tracing::warn!(%error, "filters of log groups could not be read");
            }
            self.at_work.send_replace(change);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.ending.cancelled() => {}
            }
        }
    }

    /// Filters have changed: ready when they see what is appended from now on.
    pub async fn changed(&self) {
        let mut change = 0;
        self.changes.send_modify(|count| {
            *count += 1;
            change = *count;
        });
        let mut at_work = self.at_work.subscribe();
        // They are at work later, then.
        let _ = tokio::time::timeout(CHANGE_WAIT, at_work.wait_for(|count| *count >= change)).await;
    }

    /// Ready when everything that was seen so far has been passed on. Nothing is followed any more.
    pub async fn end(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn look(&self, followed: &mut HashMap<LogGroup, Settings>) -> Result<(), LogsError> {
        let wanted: HashMap<LogGroup, GroupSettings> =
            self.logs.filtered().await?.into_iter().map(|group| (group.name, group.settings)).collect();
        followed.retain(|group, settings| wanted.contains_key(group) && !settings.is_closed());
        for (group, settings) in wanted {
            if let Some(known) = followed.get(&group) {
                known.send_if_modified(|known| {
                    let is_new = *known != settings;
                    *known = settings;
                    is_new
                });
                continue;
            }
            match self.logs.follow(&group) {
                Err(error) => tracing::warn!(%error, group = &*group.name, "filters do not see their group"),
                Ok(follower) => {
                    let (sender, settings) = watch::channel(settings);
                    self.tasks.spawn(Followers::new(self, group.clone()).run(follower, settings));
                    followed.insert(group, sender);
                }
            }
        }
        Ok(())
    }
}

/// The filters of one group at work.
struct Followers {
    watch: Watch,
    group: LogGroup,
    subscribers: Vec<Subscriber>,
    meters: Vec<Meter>,
}

impl Followers {
    fn new(watch: &Watch, group: LogGroup) -> Self {
        Followers { watch: watch.clone(), group, subscribers: Vec::new(), meters: Vec::new() }
    }

    async fn run(mut self, mut follower: Follower, mut settings: watch::Receiver<GroupSettings>) {
        let set = settings.borrow_and_update().clone();
        self.set(&set);
        let mut gathered: Option<Instant> = None;
        loop {
            let due = gathered.into_iter().chain(self.minute_ends()).min();
            tokio::select! {
                biased;
                // Before what was appended after it.
                changed = settings.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let set = settings.borrow_and_update().clone();
                    self.set(&set);
                }
                next = follower.next() => match next {
                    None => break,
                    Some(Followed::Missed { batches }) => {
                        self.watch.metrics.missed(batches);
                        tracing::warn!(batches, group = &*self.group.name, "filters miss events: they came too fast");
                    }
                    Some(Followed::Events(events)) => {
                        self.subscribers.iter_mut().for_each(|subscriber| subscriber.gather(&events));
                        self.meters.iter_mut().for_each(|meter| meter.see(&events));
                    }
                },
                // After what was appended before it.
                () = self.watch.ending.cancelled() => break,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            let is_due = gathered.is_some_and(|due| due <= Instant::now());
            let all = self.subscribers.iter_mut();
            all.filter(|subscriber| is_due || subscriber.is_full()).for_each(Subscriber::pass_on);
            let any = self.subscribers.iter().any(|subscriber| !subscriber.is_empty());
            let later = gathered.filter(|_| !is_due).unwrap_or_else(|| Instant::now() + GATHER);
            gathered = any.then_some(later);
            let now = self.watch.clock.wall();
            self.meters.iter_mut().for_each(|meter| meter.tick(now));
        }
        self.subscribers.iter_mut().for_each(Subscriber::pass_on);
    }

    /// When the next minute ends of which a metric filter may say its default.
    fn minute_ends(&self) -> Option<Instant> {
        let now = self.watch.clock.wall();
        self.meters.iter().filter_map(|meter| meter.minute_ends_in(now)).min().map(|rest| Instant::now() + rest)
    }

    /// Filters that stay as they are keep what they have gathered; those that go pass it on.
    fn set(&mut self, settings: &GroupSettings) {
        let mut subscribers = std::mem::take(&mut self.subscribers);
        for wanted in &settings.subscriptions {
            let known = subscribers.iter().position(|known| known.subscription == *wanted);
            match known.map(|at| subscribers.swap_remove(at)) {
                Some(known) => self.subscribers.push(known),
                None => self.subscribers.extend(Subscriber::new(&self.watch, &self.group, wanted)),
            }
        }
        subscribers.iter_mut().for_each(Subscriber::pass_on);
        let mut meters = std::mem::take(&mut self.meters);
        for wanted in &settings.metric_filters {
            let known = meters.iter().position(|known| known.filter == *wanted);
            match known.map(|at| meters.swap_remove(at)) {
                Some(known) => self.meters.push(known),
                None => match Meter::new(&self.group, wanted.clone(), self.watch.metrics.clone()) {
                    Ok(meter) => self.meters.push(meter),
                    Err(error) => {
                        tracing::warn!(error = error.0, filter = wanted.name, "a metric filter cannot be used");
                    }
                },
            }
        }
    }
}
