//! What the machine says, done at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{
    ErrorType, InitPhase, InitReport, InvokeError, Labels, Memory, Outcome, PlatformRecord, Report, Status,
};
use hearth_runtime_api::{Event, Protocol};
use hearth_sandbox::{Exit, Sandbox};

use super::{Shared, State, Work};
use crate::failure::{Cause, timed_out};
use crate::machine::Effect;

impl State {
    pub(super) fn act(&mut self, shared: &Shared, effect: Effect) {
        match effect {
            Effect::Start(phase) => {
                if self.notes.steps.runtime.is_some() {
                    self.notes.steps = self.notes.steps.again(shared.clock.now());
                }
                self.init_begins(phase);
                if let (InitPhase::Invoke, Some(call)) = (phase, &mut self.call) {
                    call.init_since.get_or_insert(shared.clock.now());
                }
                self.work = Some(Work::Start);
            }
            Effect::StartRuntime => self.work = Some(Work::StartRuntime),
            Effect::Reset(reason) => self.forget_runtime(Work::Reset(reason)),
            Effect::End(reason) => self.forget_runtime(Work::End(reason)),
            Effect::Thaw => {
                self.with_sandbox("thaw an environment", |sandbox| sandbox.thaw());
                self.log.telemetry.pause(false);
            }
            Effect::Freeze => {
                self.log.telemetry.pause(true);
                self.with_sandbox("freeze an environment", |sandbox| sandbox.freeze());
            }
            Effect::LimitCpu => self.with_sandbox("limit CPU", |sandbox| sandbox.limit_cpu()),
            Effect::Sample { end } => self.sample(end),
            Effect::InitEnded { duration, phase, status, error_type } => {
                let initialization = self.initialization;
                self.init_ended(InitReport { initialization, duration, phase, status, error_type });
            }
            Effect::Deliver { deadline } => self.deliver(shared, deadline),
            Effect::Fail => self.fail(shared),
            Effect::TimedOut => self.time_out(shared),
            Effect::Finish { status, error_type, duration, init_duration } => {
                self.finish(shared, status, error_type, duration, init_duration);
            }
            Effect::Refuse => {
                let refusal = self.refusal();
                if let Some(call) = self.call.take() {
                    call.refuse(refusal);
                }
            }
            Effect::Idle => {}
        }
    }

    pub(super) fn refusal(&self) -> InvokeError {
        let gone = || InvokeError::Internal("the environment ended before the invocation reached it".into());
        self.refusal.clone().unwrap_or_else(gone)
    }

    fn forget_runtime(&mut self, work: Work) {
        if self.closing.is_none() && !self.attached.protocol.is_empty() {
            self.closing = Some(self.generation);
        }
        self.generation += 1;
        self.protocol = Protocol::default();
        if self.closing.is_none() {
            self.parked = None;
        }
        self.work = Some(work);
    }

    fn with_sandbox(&self, what: &'static str, verb: impl FnOnce(&dyn Sandbox) -> Result<(), hearth_sandbox::Error>) {
        if let Some(Err(error)) = self.sandbox.as_deref().map(verb) {
            tracing::error!(%error, what, "a sandbox did not do as told");
        }
    }

    /// Max Memory Used is the highest sample since the environment began: anonymous, shared and kernel memory, not page
    /// cache. Samples are taken at the end of init, every 50 ms while init or an invocation runs, and at the end of an
    /// invocation unless it took less than 10 ms and the last sample is younger than 50 ms.
    fn sample(&mut self, end: bool) {
        let Some(Ok(usage)) = self.sandbox.as_ref().map(|sandbox| sandbox.usage()) else { return };
        self.memory_peak = self.memory_peak.max(usage.memory);
        if end {
            self.oom_kills = usage.oom_kills;
        }
    }

    pub(super) fn drain(&mut self) {
        self.outputs.iter_mut().for_each(|output| output.drain(&mut self.log));
    }

    /// Ends of processes for want of memory are told apart, also when a whole function died of it.
    pub(super) fn out_of_memory(&mut self, shared: &Shared, exit: Exit) -> Option<ErrorType> {
        let usage = self.sandbox.as_ref().and_then(|sandbox| sandbox.usage().ok());
        let killed = usage.is_some_and(|usage| usage.oom_kills > self.oom_kills) && exit == Exit::Signal(9);
        killed.then(|| {
            self.memory_peak = shared.function.memory.as_bytes();
            ErrorType::OUT_OF_MEMORY
        })
    }

    fn init_ended(&mut self, report: InitReport) {
        self.drain();
        self.runtime_initialised(report.status, report.error_type.clone());
        self.attached.records().for_each(|record| self.log.platform(&record));
        self.log.platform(&PlatformRecord::InitReport(report));
        self.log.telemetry.close();
    }

    /// START, once, after what was written before it.
    fn begin(&mut self, shared: &Shared) {
        if self.call.as_ref().is_none_or(|call| call.begun) {
            return;
        }
        self.drain();
        let Some(call) = &mut self.call else { return };
        call.begun = true;
        if call.invocation.as_ref().is_some_and(|invocation| invocation.wants_log_tail) {
            self.log.begin_tail();
        }
        let version = shared.function.key.version;
        let invocation = call.invocation.as_ref().filter(|_| self.log.wants_times());
        let labels = invocation.map_or_else(Labels::default, |invocation| Labels {
            trace: invocation.trace.clone(),
            tenant: invocation.tenant.clone(),
        });
        self.timeline.labels = labels.clone();
        self.log.platform(&PlatformRecord::Start { request_id: call.request_id.clone(), version, labels });
    }

    fn deliver(&mut self, shared: &Shared, deadline: Instant) {
        self.begin(shared);
        let Some(invocation) = self.call.as_mut().and_then(|call| call.invocation.take()) else { return };
        let left = deadline.saturating_duration_since(shared.clock.now());
        let event = Arc::new(Event {
            request_id: invocation.request_id,
            deadline_ms: shared.epoch_ms(left),
            invoked_arn: invocation.invoked_arn,
            trace: invocation.trace,
            client_context: invocation.client_context,
            tenant: invocation.tenant,
            content_type: invocation.content_type,
            payload: invocation.payload,
        });
        if self.protocol.deliver(event.clone()).is_err() {
            // The machine and the protocol would disagree on who is ready; the deadline ends the invocation.
            tracing::error!("an event was to be given to a runtime that is not ready");
            return;
        }
        let now = shared.clock.now();
        self.notes.delivered = Some(now);
        self.invocation_begins(now);
        self.attached.invoke(&event);
        if let Some(parked) = self.parked.take() {
            // When that connection is gone the runtime asks again and gets it then.
            let _ = parked.send(event);
        }
    }

    /// What went wrong, to log and caller.
    fn fail(&mut self, shared: &Shared) {
        self.drain();
        self.begin(shared);
        let unknown = || Cause::platform(ErrorType::SANDBOX_FAILURE, "The execution environment failed");
        let cause = self.cause.take().unwrap_or_else(unknown);
        self.ends_before_it_was_delivered();
        self.runtime_done(shared, cause.status(), Some(cause.error_type()));
        let Some(call) = &mut self.call else { return };
        if let Cause::Platform { error_type, message } = &cause {
            self.log.platform(&PlatformRecord::RuntimeExited {
                request_id: call.request_id.clone(),
                message: message.clone(),
                error_type: error_type.clone(),
            });
        }
        let answer = cause.answer(&call.request_id);
        call.answer(answer);
    }

    fn time_out(&mut self, shared: &Shared) {
        self.drain();
        self.begin(shared);
        self.ends_before_it_was_delivered();
        self.runtime_done(shared, Status::Timeout, None);
        let Some(call) = &mut self.call else { return };
        let timeout = shared.function.timeout;
        let (at, request_id) = (shared.clock.wall(), call.request_id.clone());
        let answer = timed_out(&request_id, timeout);
        self.log.platform(&PlatformRecord::TimedOut { at, request_id, timeout });
        call.answer(answer);
    }

    fn finish(
        &mut self,
        shared: &Shared,
        status: Status,
        error_type: Option<ErrorType>,
        duration: Duration,
        init_duration: Option<Duration>,
    ) {
        self.drain();
        let overhead = self.overhead(shared);
        let Some(call) = self.call.take() else { return };
        if call.cold {
            let explanation = self.notes.cold(call.request_id.clone(), shared.function.arn());
            shared.cold_starts.add(self.notes.steps.origin, explanation);
        } else {
            self.notes.warm(&call.request_id, shared.clock.now());
        }
        let memory_size = shared.function.memory;
        let report = Report {
            request_id: call.request_id.clone(),
            version: shared.function.key.version,
            status,
            error_type,
            duration,
            init_duration,
            initialization: self.initialization,
            memory_size,
            max_memory_used: Memory::from_bytes_ceil(self.memory_peak).min(memory_size),
            isolation: shared.isolation,
            labels: std::mem::take(&mut self.timeline.labels),
            overhead,
        };
        self.log.platform(&PlatformRecord::End { request_id: call.request_id });
        self.log.platform(&PlatformRecord::Report(report.clone()));
        let log_tail = self.log.end_tail();
        self.log.flush();
        call.running.ended(&report);
        let _ = call.outcome.send(Outcome { report, log_tail });
    }
}
