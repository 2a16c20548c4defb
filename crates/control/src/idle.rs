//! Versions that nobody calls (spec 1.5): those of an image or a VPC become inactive, and active again when somebody wants
//! to call them.
//!
//! ```text
//!           nobody called for long            a call, which fails           made ready again
//!   active ───────────────────────► inactive ───────────────────► waking ───────────────────► active
//!                                      ▲                             │ it could not be
//!                                      └─────────────────────────────┘
//! ```
//!
//! When a version was called last is known in memory, and written now and then: a call itself writes nothing. What is
//! read may so be older than the truth by one [`grain`], and nothing becomes inactive before that has passed too.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_model::{FunctionArn, FunctionName, Idle, LastUsed};
use hearth_store::{Expect, RecordsError};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::control::{Inner, reason_code, revision};
use crate::record::{Content, Definition, FUNCTION, Owner, Readiness, Rest, USE, Update, VersionRecord, numbered};
use crate::state::WriteError;
use crate::state::function::{Changes, Function, Place, write};

/// Longest time between looks: a version may become inactive so much later.
const LOOK_MAX: Duration = Duration::from_secs(3600);
/// Longest time between writes of when a version was called.
const GRAIN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest of both: a setting of nothing must not keep a core busy.
const SHORTEST: Duration = Duration::from_millis(50);
/// Names that may wait to be woken; who calls again asks again.
const WAKE_MAX: usize = 256;
/// Versions that are woken at one time: each may fetch an image.
const WAKING_MAX: usize = 4;

/// After a wake that failed, before the same is tried again.
const WAKE_AGAIN: Duration = Duration::from_secs(3);

const IDLE: &str = "The function is currently idle.";
/// `StateReasonCode` of what nobody called; what could not be woken has another.
pub const IDLE_CODE: &str = "Idle";

/// When a version was called, as far as it is known here.
#[derive(Clone, Default)]
pub struct Uses {
    pub last: LastUsed,
    /// What is on disk, milliseconds since 1970; 0 until it was read.
    kept: Arc<AtomicU64>,
}

impl Uses {
    fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    fn keep(&self, ms: u64) {
        self.kept.fetch_max(ms, Ordering::Relaxed);
    }
}

#[derive(Serialize, Deserialize)]
struct UseRecord {
    last_ms: u64,
}

/// Who is to be woken.
pub struct Wakes {
    sender: mpsc::Sender<FunctionArn>,
    receiver: Mutex<Option<mpsc::Receiver<FunctionArn>>>,
    /// Asked for, and not done with.
    asked: Mutex<HashSet<FunctionArn>>,
}

impl Wakes {
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAKE_MAX);
        Wakes { sender, receiver: Mutex::new(Some(receiver)), asked: Mutex::default() }
    }

    /// Once, however often it is asked for meanwhile.
    pub fn ask(&self, arn: &FunctionArn) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.contains(arn) && self.sender.try_send(arn.clone()).is_ok() {
            asked.insert(arn.clone());
        }
    }

    fn done(&self, arn: &FunctionArn) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(arn);
    }
}

impl Definition {
    /// What it has that an idle version is without.
    pub fn idles(&self) -> Option<Idle> {
        let subnets = || self.kept.as_ref()?.vpc_config.as_ref()?.subnet_ids.as_ref();
        match &self.content {
            Content::Image(_) => Some(Idle::Image),
            Content::Zip(_) => subnets().is_some_and(|subnets| !subnets.is_empty()).then_some(Idle::Vpc),
        }
    }
}

impl Function {
    /// The name of a place.
    fn placed(&self, place: Place) -> FunctionArn {
        if place == 0 { self.arn() } else { self.qualified(&place.to_string()) }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        std::iter::once(0).chain(self.versions.keys().copied())
    }

    /// What could become inactive, and is not; with the time of its last change.
    fn idler(&self, place: Place) -> Option<(&Arc<Definition>, &Uses, &str)> {
        let (definition, uses, modified) = match place {
            0 if self.record.rest.is_none() && matches!(self.record.update, Update::Successful) => {
                (&self.record.intent, &self.uses, &self.record.last_modified)
            }
            0 => return None,
            _ => {
                let published = self.versions.get(&place)?;
                let record = &published.record;
                if record.rest.is_some() || record.readiness != Readiness::Ready {
                    return None;
                }
                (&record.definition, &published.uses, &record.last_modified)
            }
        };
        // What is kept initialised is in use.
        (definition.idles().is_some() && !self.is_provisioned(place)).then_some((definition, uses, modified))
    }

    /// Whether environments of it are to be kept initialised.
    fn is_provisioned(&self, place: Place) -> bool {
        let means = |name: &String| self.meant(Some(name)).is_some_and(|(primary, _)| primary == place);
        self.record.provisioned.keys().any(means)
    }

    /// What rests at a place.
    pub fn resting(&self, place: Place) -> Option<(&Arc<Definition>, &Rest, &Uses)> {
        match place {
            0 => Some((&self.record.intent, self.record.rest.as_ref()?, &self.uses)),
            _ => {
                let published = self.versions.get(&place)?;
                Some((&published.record.definition, published.record.rest.as_ref()?, &published.uses))
            }
        }
    }

    /// Changes that give these places a rest, or take it from them.
    fn rested(&self, rests: &[(Place, Option<Rest>)]) -> Changes {
        let mut changes = self.changes();
        for (place, rest) in rests {
            match (place, &mut changes.root, self.versions.get(place)) {
                (0, Some(root), _) => {
                    if root.rest == Some(Rest::Waking) && rest.is_none() {
                        root.revision_id = revision();
                    }
                    root.rest.clone_from(rest);
                }
                (_, _, Some(published)) => {
                    let record = VersionRecord { rest: rest.clone(), ..published.record.clone() };
                    changes.versions.insert(*place, Some(record));
                }
                _ => {}
            }
        }
        changes
    }
}

impl Inner {
    /// Watches what is called and what is not. Runs until it is dropped.
    pub(crate) async fn watch_idle(self: Arc<Self>) {
        let Some(mut asked) = self.wakes.receiver.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut waking = JoinSet::new();
        let wake = async {
            loop {
                tokio::select! {
                    _ = waking.join_next(), if !waking.is_empty() => {}
                    Some(arn) = asked.recv(), if waking.len() < WAKING_MAX => {
                        waking.spawn(self.clone().wake_asked(arn));
                    }
                }
            }
        };
        let look = async {
            let mut look = tokio::time::interval(self.grain().min(LOOK_MAX));
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                self.look().await;
            }
        };
        tokio::join!(wake, look);
    }

    async fn wake_asked(self: Arc<Self>, arn: FunctionArn) {
        if self.wake(&arn).await {
            return self.wakes.done(&arn);
        }
        // Whoever calls meanwhile is answered as before; another try would fail as well.
        tokio::spawn(async move {
            tokio::time::sleep(WAKE_AGAIN).await;
            self.wakes.done(&arn);
        });
    }

    /// How exactly it is known on disk when a version was called.
    fn grain(&self) -> Duration {
        (self.config.idle_timeout / 8).clamp(SHORTEST, GRAIN_MAX)
    }

    /// Writes down who was called, and lets those rest whom nobody called for long.
    async fn look(&self) {
        for (owner, name) in self.state.names() {
            let Some(function) = self.state.function(&owner, &name) else { continue };
            let mut idle = Vec::new();
            for place in function.places() {
                // Somebody's wish that was cut off: by a restart, or by a change that came between.
                let is_wanted = |rest: &Rest| *rest == Rest::Waking || function.is_provisioned(place);
                if function.resting(place).is_some_and(|(_, rest, _)| is_wanted(rest)) {
                    self.wakes.ask(&function.placed(place));
                }
                match self.is_idle(&function, place).await {
                    Ok(true) => idle.push(place),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(function = %name, %error, "when a function was called last cannot be kept");
                        return;
                    }
                }
            }
            if !idle.is_empty() {
                self.let_rest(&owner, &name, &idle).await;
            }
        }
    }

    async fn is_idle(&self, function: &Function, place: Place) -> Result<bool, RecordsError> {
        let Some((_, uses, modified)) = function.idler(place) else { return Ok(false) };
        // Also for other servers: they see only what is written.
        if uses.last.is_running() {
            uses.last.note(self.ports.clock.wall());
        }
        let (grain, timeout) = (self.grain().as_millis() as u64, self.config.idle_timeout.as_millis() as u64);
        let modified = ms_of(modified);
        if uses.kept() == 0 {
            match self.kept_use(function, place).await? {
                // Its time begins when it is first seen: it may be older than its publication, or than this look.
                0 => {
                    uses.last.note(self.ports.clock.wall());
                    self.keep_use(function, place, uses).await?;
                }
                kept => uses.keep(kept),
            }
        }
        let last = uses.last.ms();
        if last > uses.kept() + grain {
            self.keep_use(function, place, uses).await?;
        }
        let is_over = |last: u64| self.ports.clock.epoch_ms().saturating_sub(last.max(modified)) > timeout + grain;
        if !is_over(last.max(uses.kept())) {
            return Ok(false);
        }
        // Another server may know better.
        let kept = self.kept_use(function, place).await?;
        uses.keep(kept);
        Ok(is_over(uses.kept()))
    }

    async fn kept_use(&self, function: &Function, place: Place) -> Result<u64, RecordsError> {
        let key = function.owner.key(USE, numbered(function.name.as_str(), place));
        let found = self.ports.records.get(key).await?;
        Ok(found
            .and_then(|found| serde_json::from_slice::<UseRecord>(&found.value).ok())
            .map_or(0, |found| found.last_ms))
    }

    async fn keep_use(&self, function: &Function, place: Place, uses: &Uses) -> Result<(), RecordsError> {
        let last_ms = uses.last.ms();
        let id = numbered(function.name.as_str(), place);
        let write = write(&function.owner, USE, id, Expect::Anything, Some(&UseRecord { last_ms }))
            .map_err(|e| RecordsError::Engine(e.to_string().into()))?;
        self.ports.records.commit(vec![write]).await?;
        uses.keep(last_ms);
        Ok(())
    }

    async fn let_rest(&self, owner: &Owner, name: &FunctionName, places: &[Place]) {
        let _turn = self.state.turn(owner, FUNCTION, name.as_str()).await;
        let Some(function) = self.state.function(owner, name) else { return };
        let inactive = || Rest::Inactive { reason: IDLE.to_owned(), code: IDLE_CODE.to_owned() };
        let (mut rests, timeout) = (Vec::new(), self.config.idle_timeout.as_millis() as u64);
        for place in places {
            // It may have been called or changed since.
            let Some((_, uses, modified)) = function.idler(*place) else { continue };
            let last = uses.last.ms().max(uses.kept()).max(ms_of(modified));
            if !uses.last.is_running() && self.ports.clock.epoch_ms().saturating_sub(last) > timeout {
                rests.push((*place, Some(inactive())));
            }
        }
        if rests.is_empty() {
            return;
        }
        match self.state.commit(owner, name, Some(&function), function.rested(&rests)).await {
            Ok(_) => tracing::info!(function = %function.arn(), versions = rests.len(), "nobody calls: inactive"),
            Err(WriteError::Conflict) => {}
            Err(WriteError::Store(error)) => tracing::warn!(function = %name, %error, "a state could not be written"),
        }
    }

    /// Makes what rests of a name ready again; `false` when that failed.
    async fn wake(&self, arn: &FunctionArn) -> bool {
        let owner = Owner::of(arn);
        let qualifier = arn.qualifier.as_ref().map(hearth_model::Qualifier::as_str);
        let Some(begun) = self.begin_to_wake(&owner, arn, qualifier).await else { return true };
        let mut rests = Vec::new();
        for (place, definition) in begun {
            let rest = match self.make_ready(&definition).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::error!(function = %arn, %error, "an inactive function could not be made ready again");
                    Some(Rest::Inactive { reason: error.to_string(), code: reason_code(&error).to_owned() })
                }
            };
            rests.push((place, definition.generation, rest));
        }
        let _turn = self.state.turn(&owner, FUNCTION, arn.name.as_str()).await;
        let all_well = rests.iter().all(|(_, _, rest)| rest.is_none());
        let Some(function) = self.state.function(&owner, &arn.name) else { return true };
        let still = |(place, generation, _): &(Place, u64, Option<Rest>)| {
            let resting = function.resting(*place);
            resting.is_some_and(|(definition, rest, _)| definition.generation == *generation && *rest == Rest::Waking)
        };
        let rests: Vec<_> = rests.into_iter().filter(still).map(|(place, _, rest)| (place, rest)).collect();
        self.write_rests(&owner, &function, &rests).await;
        if let Some(placement) = self.provisioning.get() {
            placement.changed();
        }
        all_well
    }

    /// That they are being woken is seen while they are. Being woken counts as a call.
    async fn begin_to_wake(
        &self,
        owner: &Owner,
        arn: &FunctionArn,
        qualifier: Option<&str>,
    ) -> Option<Vec<(Place, Arc<Definition>)>> {
        let _turn = self.state.turn(owner, FUNCTION, arn.name.as_str()).await;
        let function = self.state.function(owner, &arn.name)?;
        let mut begun = Vec::new();
        let (primary, additional) = function.meant(qualifier)?;
        // What is never drawn is not wanted either.
        let additional = additional.filter(|(_, weight)| *weight > 0.0).map(|(place, _)| place);
        for place in std::iter::once(primary).chain(additional) {
            let Some((definition, _, uses)) = function.resting(place) else { continue };
            uses.last.note(self.ports.clock.wall());
            if let Err(error) = self.keep_use(&function, place, uses).await {
                tracing::warn!(function = %arn, %error, "when a function was called last cannot be kept");
            }
            begun.push((place, definition.clone()));
        }
        let rests: Vec<_> = begun.iter().map(|(place, _)| (*place, Some(Rest::Waking))).collect();
        (!rests.is_empty() && self.write_rests(owner, &function, &rests).await).then_some(begun)
    }

    async fn write_rests(&self, owner: &Owner, function: &Arc<Function>, rests: &[(Place, Option<Rest>)]) -> bool {
        if rests.is_empty() {
            return false;
        }
        let written = self.state.commit(owner, &function.name, Some(function), function.rested(rests)).await;
        // A conflict is another server's, and who calls again asks again.
        if let Err(WriteError::Store(error)) = &written {
            tracing::error!(function = %function.name, %error, "a function's state could not be written");
        }
        written.is_ok()
    }
}

/// Of a time as AWS prints it: milliseconds since 1970.
fn ms_of(text: &str) -> u64 {
    let time = jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text).and_then(|time| time.to_timestamp());
    time.map_or(0, |time| u64::try_from(time.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_it_is_printed() {
        assert_eq!(ms_of("1970-01-02T00:00:01.234+0000"), 86_401_234);
        assert_eq!(ms_of("yesterday"), 0);
    }
}
