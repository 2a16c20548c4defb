//! Why invocations were cold, and where their time went.
//!
//! An environment notes when each step of its start was done, and of its latest invocations how long they took to their
//! first byte: in what it holds anyway, under the lock that it has at that moment. Only a cold start is told to all, once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_model::{FunctionArn, RequestId};

use crate::pools::Origin;

/// Cold starts that are remembered: the last ones of the host, about half a kilobyte each.
const COLD_MAX: usize = 4096;
/// Invocations that each environment remembers beside.
const WARM_MAX: usize = 32;

/// How an invocation began.
#[derive(Clone, Debug)]
pub struct Explanation {
    pub request_id: RequestId,
    pub function: FunctionArn,
    pub start: StartKind,
    pub reason: Cow<'static, str>,
    /// One after the other, up to the first byte of the answer.
    pub phases: Vec<(Phase, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    Cold,
    Warm,
    /// In an environment that was kept initialised.
    Provisioned,
}

impl StartKind {
    pub fn as_str(self) -> &'static str {
        match self {
            StartKind::Cold => "cold",
            StartKind::Warm => "warm",
            StartKind::Provisioned => "provisioned",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Until there was room for an environment.
    Queue,
    /// Making a sandbox, or taking one, and giving it what is the function's.
    Sandbox,
    /// Until its process ran, or knew whose it is; extensions come before it.
    Runtime,
    /// Until package, layers and runtime were at hand.
    Code,
    /// Until the runtime asked for its first event.
    Init,
    /// From then to the beginning of the answer.
    FirstByte,
}

impl Phase {
    pub const ALL: [Phase; 6] =
        [Phase::Queue, Phase::Sandbox, Phase::Runtime, Phase::Code, Phase::Init, Phase::FirstByte];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Queue => "queue",
            Phase::Sandbox => "sandbox",
            Phase::Runtime => "runtime",
            Phase::Code => "code",
            Phase::Init => "init",
            Phase::FirstByte => "first byte",
        }
    }
}

/// How many cold starts there were, and what they took.
#[derive(Clone, Debug, Default)]
pub struct ColdCounts {
    /// By what they were given, in the order of [`Origin::ALL`].
    pub starts: [u64; 3],
    /// In the order of [`Phase::ALL`].
    pub phases: [Duration; 6],
}

/// The cold starts of this host. A cheap handle.
#[derive(Clone, Default)]
pub(crate) struct ColdStarts {
    inner: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    recent: VecDeque<Explanation>,
    counts: ColdCounts,
}

impl ColdStarts {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, origin: Option<Origin>, explanation: Explanation) {
        let mut told = self.told();
        if let Some(count) = origin.and_then(|origin| told.counts.starts.get_mut(origin as usize)) {
            *count += 1;
        }
        for (phase, took) in &explanation.phases {
            told.counts.phases[*phase as usize] += *took;
        }
        if told.recent.len() == COLD_MAX {
            told.recent.pop_front();
        }
        told.recent.push_back(explanation);
    }

    pub fn find(&self, request_id: &str) -> Option<Explanation> {
        self.told().recent.iter().rev().find(|one| one.request_id.as_str() == request_id).cloned()
    }

    pub fn counts(&self) -> ColdCounts {
        self.told().counts.clone()
    }
}

/// When the steps of one start were done.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    /// When the call came for which the environment was started.
    pub asked: Option<Instant>,
    pub began: Instant,
    pub code: Option<Instant>,
    pub sandbox: Option<Instant>,
    pub runtime: Option<Instant>,
    pub ready: Option<Instant>,
    /// What its sandbox and runtime came from; `None` when an environment begins again.
    pub origin: Option<Origin>,
    pub reason: Cow<'static, str>,
}

impl Steps {
    pub fn new(asked: Option<Instant>, began: Instant) -> Self {
        let reason = "its environment was not ready in time".into();
        Steps { asked, began, code: None, sandbox: None, runtime: None, ready: None, origin: None, reason }
    }

    /// In the same sandbox.
    pub fn again(&self, began: Instant) -> Self {
        let reason = match self.ready {
            Some(_) => "its environment had to be initialised again".into(),
            None => format!("{}; init failed, and was done again", self.reason).into(),
        };
        Steps { reason, ..Steps::new(None, began) }
    }

    /// Up to the first byte, or as far as it came.
    fn phases(&self, first_byte: Option<Instant>) -> Vec<(Phase, Duration)> {
        let mut phases = Vec::with_capacity(Phase::ALL.len());
        if let Some(asked) = self.asked {
            phases.push((Phase::Queue, self.began.saturating_duration_since(asked)));
        }
        // A runtime that was told whose it is may be ready before it is seen that it knows.
        let runtime = self.runtime.map(|at| self.ready.map_or(at, |ready| at.min(ready)));
        let mut last = self.began;
        let steps = [
            (Phase::Code, self.code),
            (Phase::Sandbox, self.sandbox),
            (Phase::Runtime, runtime),
            (Phase::Init, self.ready),
            (Phase::FirstByte, first_byte),
        ];
        for (phase, at) in steps {
            let Some(at) = at else { continue };
            phases.push((phase, at.saturating_duration_since(last)));
            last = last.max(at);
        }
        phases.sort_by_key(|(phase, _)| *phase as usize);
        phases
    }
}

/// What one environment remembers of its invocations.
pub(crate) struct Notes {
    pub steps: Steps,
    /// Of the invocation that runs.
    pub delivered: Option<Instant>,
    pub first_byte: Option<Instant>,
    warm: VecDeque<(RequestId, Duration)>,
}

impl Notes {
    pub fn new(steps: Steps) -> Self {
        Notes { steps, delivered: None, first_byte: None, warm: VecDeque::new() }
    }

    /// A cold invocation has ended.
    pub fn cold(&mut self, request_id: RequestId, function: FunctionArn) -> Explanation {
        let explanation = self.explain_cold(request_id, function);
        (self.delivered, self.first_byte) = (None, None);
        explanation
    }

    /// As far as it is known.
    pub fn explain_cold(&self, request_id: RequestId, function: FunctionArn) -> Explanation {
        let (reason, phases) = (self.steps.reason.clone(), self.steps.phases(self.first_byte));
        Explanation { request_id, function, start: StartKind::Cold, reason, phases }
    }

    /// Another has ended.
    pub fn warm(&mut self, request_id: &RequestId, now: Instant) {
        let Some(took) = self.first_byte_after(now) else { return };
        (self.delivered, self.first_byte) = (None, None);
        if self.warm.len() == WARM_MAX {
            self.warm.pop_front();
        }
        self.warm.push_back((request_id.clone(), took));
    }

    /// Of the invocation that runs.
    pub fn first_byte_after(&self, now: Instant) -> Option<Duration> {
        let first_byte = self.first_byte.unwrap_or(now);
        self.delivered.map(|delivered| first_byte.saturating_duration_since(delivered))
    }

    pub fn find(&self, request_id: &str) -> Option<(RequestId, Duration)> {
        self.warm.iter().rev().find(|(id, _)| id.as_str() == request_id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn phases_follow_one_another_and_add_up() {
        let asked = Instant::now();
        let began = asked + MS;
        let steps = Steps {
            code: Some(began + MS * 2),
            sandbox: Some(began + MS * 5),
            // Seen after the runtime was ready.
            runtime: Some(began + MS * 20),
            ready: Some(began + MS * 9),
            ..Steps::new(Some(asked), began)
        };
        let phases = steps.phases(Some(began + MS * 14));
        assert_eq!(phases.iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), Phase::ALL);
        assert_eq!(phases.iter().map(|(_, took)| took.as_millis()).collect::<Vec<_>>(), [1, 3, 4, 2, 0, 5]);
        assert_eq!(phases.iter().map(|(_, took)| *took).sum::<Duration>(), MS * 15, "from the call to its first byte");
    }

    #[test]
    fn a_start_that_failed_is_told_as_far_as_it_came() {
        let began = Instant::now();
        let steps = Steps { code: Some(began + MS), ..Steps::new(None, began) };
        assert_eq!(steps.phases(None), [(Phase::Code, MS)]);
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let now = Instant::now();
        let mut notes = Notes::new(Steps::new(None, now));
        for number in 0..WARM_MAX + 1 {
            notes.delivered = Some(now);
            notes.warm(&RequestId::new(number.to_string()), now);
        }
        assert!(notes.find("0").is_none() && notes.find("1").is_some());
    }
}
