//! When what happened to an init or an invocation, for who gets telemetry. Kept only while somebody does.

use std::time::{Duration, Instant, SystemTime};

use hearth_model::{ErrorType, InitPhase, Labels, PlatformRecord, RuntimeDone, Span, Status};

use super::{Shared, State};

#[derive(Default)]
pub(super) struct Timeline {
    /// The init whose runtime is not done.
    init: Option<InitPhase>,
    pub labels: Labels,
    delivered: Option<Instant>,
    /// The head of the answer came.
    responding: Option<Instant>,
    /// The answer was there, of so many bytes.
    answered: Option<(Instant, usize, Option<ErrorType>)>,
    runtime_done: Option<Instant>,
}

impl Timeline {
    pub fn responds(&mut self, now: Instant) {
        self.responding.get_or_insert(now);
    }

    pub fn answered(&mut self, now: Instant, bytes: usize, error_type: Option<ErrorType>) {
        self.answered = Some((now, bytes, error_type));
    }
}

impl State {
    pub(super) fn init_begins(&mut self, phase: InitPhase) {
        self.log.telemetry.begin();
        self.timeline = Timeline { init: Some(phase), ..Timeline::default() };
        if let Some(mut start) = self.init_start.clone() {
            start.phase = phase;
            self.log.tell(&PlatformRecord::InitStart(start));
        }
    }

    /// The runtime is done with init, or could not be.
    pub(super) fn runtime_initialised(&mut self, status: Status, error_type: Option<ErrorType>) {
        if let Some(phase) = self.timeline.init.take() {
            self.drain();
            self.log.tell(&PlatformRecord::InitRuntimeDone {
                initialization: self.initialization,
                phase,
                status,
                error_type,
            });
        }
    }

    pub(super) fn invocation_begins(&mut self, now: Instant) {
        if self.log.wants_times() {
            let labels = std::mem::take(&mut self.timeline.labels);
            self.timeline = Timeline { labels, delivered: Some(now), ..Timeline::default() };
        }
    }

    /// Init within the invocation came to nothing: the runtime is done with both.
    pub(super) fn ends_before_it_was_delivered(&mut self) {
        if self.timeline.delivered.is_none() {
            self.timeline.delivered = self.call.as_ref().and_then(|call| call.init_since);
        }
    }

    /// The runtime asked for its next event.
    pub(super) fn runtime_asked(&mut self, shared: &Shared) {
        if !self.log.wants_times() {
            return;
        }
        self.runtime_initialised(Status::Success, None);
        let error_type = self.timeline.answered.as_ref().and_then(|(.., error_type)| error_type.clone());
        let status = if error_type.is_some() { Status::Error } else { Status::Success };
        self.runtime_done(shared, status, error_type);
    }

    /// The runtime is done with an invocation, or was ended.
    pub(super) fn runtime_done(&mut self, shared: &Shared, status: Status, error_type: Option<ErrorType>) {
        let Some(delivered) = self.timeline.delivered.filter(|_| self.log.wants_times()) else { return };
        let (Some(call), None) = (&self.call, self.timeline.runtime_done) else { return };
        let request_id = call.request_id.clone();
        let now = shared.clock.now();
        self.timeline.runtime_done = Some(now);
        self.drain();
        let mut spans = Vec::new();
        let mut produced = 0;
        if let Some((answered, bytes, _)) = self.timeline.answered {
            produced = bytes;
            let responding = self.timeline.responding.unwrap_or(answered);
            spans.push(span(shared, "responseLatency", delivered, responding));
            spans.push(span(shared, "responseDuration", responding, answered));
            spans.push(span(shared, "runtimeOverhead", answered, now));
        }
        let (labels, duration) = (self.timeline.labels.clone(), now.saturating_duration_since(delivered));
        let done = RuntimeDone { request_id, labels, status, error_type, duration, produced, spans };
        self.log.tell(&PlatformRecord::RuntimeDone(done));
    }

    /// What extensions did after the runtime was done.
    pub(super) fn overhead(&self, shared: &Shared) -> Option<Span> {
        let was_delivered = self.call.as_ref().is_some_and(|call| call.invocation.is_none());
        let done = self.timeline.runtime_done.filter(|_| was_delivered && !self.attached.protocol.is_empty())?;
        Some(span(shared, "extensionOverhead", done, shared.clock.now()))
    }
}

fn span(shared: &Shared, name: &'static str, from: Instant, to: Instant) -> Span {
    Span { name, start: wall(shared, from), duration: to.saturating_duration_since(from) }
}

fn wall(shared: &Shared, at: Instant) -> SystemTime {
    let ago: Duration = shared.clock.now().saturating_duration_since(at);
    shared.clock.wall() - ago
}
