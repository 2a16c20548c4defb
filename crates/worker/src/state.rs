//! What an environment holds, behind one short lock, and what is done with it at once.
//!
//! Whoever brings an input (the caller with an invocation, a connection of the Runtime API, the driver task) lets the
//! machine decide under the lock and does what it says there and then; no step waits. What takes time is left as
//! [`Work`] for the driver task. The owner is told of idleness after the lock is given up.

mod act;
mod attached;
mod line;
mod timeline;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use hearth_identity::Credentials;
use hearth_model::{
    Body, BodyError, Clock, ErrorType, FunctionVersion, InitStart, Initialization, Invocation, InvokeError,
    LogStreamId, Outcome, PlatformRecord, Replaced, RequestId, ResponseMode,
};
use hearth_runtime_api::{Answer, Event, Notice, Protocol, ShutdownReason, StreamEnd, StreamWriter, stream};
use hearth_sandbox::{Exit, Sandbox};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ending::Budget;
use crate::environment::{Environment, Refused, Start};
use crate::explain::{ColdStarts, Explanation, Notes, Phase, StartKind, Steps};
use crate::failure::{Cause, cut_off};
use crate::machine::{Effect, Input, Machine};
use crate::meter::Running;
use crate::output::{Log, Output, Pumped};
use crate::ports::{Config, EnvironmentEvents};

use attached::Attached;
pub(crate) use line::Line;
use timeline::Timeline;

pub(crate) struct Shared {
    pub id: LogStreamId,
    pub function: Arc<FunctionVersion>,
    pub events: Arc<dyn EnvironmentEvents>,
    pub clock: Arc<dyn Clock>,
    pub isolation: Option<&'static str>,
    pub initialization: Initialization,
    /// Of the function's role.
    pub credentials: Credentials,
    /// Wakes the driver task.
    pub wake: Notify,
    cold_starts: ColdStarts,
    /// Of the runtime that it follows.
    replaced: OnceLock<Replaced>,
    /// Cancelled when the environment holds nothing more.
    gone: CancellationToken,
    state: Mutex<State>,
}

/// What the driver task is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Start,
    StartRuntime,
    Reset(ShutdownReason),
    End(Option<ShutdownReason>),
}

/// A call that was taken.
pub(crate) struct Call {
    request_id: RequestId,
    mode: ResponseMode,
    /// Until it is delivered.
    invocation: Option<Invocation>,
    caller: Caller,
    outcome: oneshot::Sender<Outcome>,
    running: Running,
    /// START is in the log.
    begun: bool,
    /// It came before init was done.
    cold: bool,
    /// When init began within it.
    init_since: Option<Instant>,
}

/// Who waits for an answer. One that has gone away misses nothing.
enum Caller {
    Waits(oneshot::Sender<Result<Answered, Refused>>),
    /// The answer is a stream that has begun.
    Reads(StreamEnd),
    Answered,
}

/// What a caller gets.
pub(crate) enum Answered {
    Whole(Answer),
    Streams { content_type: String, body: Body },
}

impl Call {
    pub fn new(
        invocation: Invocation,
        running: Running,
        answer: oneshot::Sender<Result<Answered, Refused>>,
        outcome: oneshot::Sender<Outcome>,
    ) -> Self {
        let (request_id, mode) = (invocation.request_id.clone(), invocation.mode);
        let (invocation, caller) = (Some(invocation), Caller::Waits(answer));
        Call { request_id, mode, invocation, caller, outcome, running, begun: false, cold: false, init_since: None }
    }

    /// Unless it has its answer. What ends a stream that has begun is its error.
    fn answer(&mut self, answer: Answer) {
        match std::mem::replace(&mut self.caller, Caller::Answered) {
            Caller::Waits(caller) => {
                let _ = caller.send(Ok(Answered::Whole(answer)));
            }
            Caller::Reads(end) => end.end(Err(cut_off(answer))),
            Caller::Answered => {}
        }
    }

    fn refuse(self, error: InvokeError) {
        if let Caller::Waits(caller) = self.caller {
            let _ = caller.send(Err(Refused { error, invocation: self.invocation }));
        }
    }

    /// The answer begins and goes to the caller as it comes, if it wants that.
    fn stream(&mut self, content_type: &str) -> Option<StreamWriter> {
        if self.mode != ResponseMode::Streamed || !matches!(self.caller, Caller::Waits(_)) {
            return None;
        }
        let (writer, end, body) = stream();
        if let Caller::Waits(caller) = std::mem::replace(&mut self.caller, Caller::Reads(end)) {
            let _ = caller.send(Ok(Answered::Streams { content_type: content_type.to_owned(), body }));
        }
        Some(writer)
    }

    /// The stream is over.
    fn end_stream(&mut self, how: Result<(), BodyError>) {
        if let Caller::Reads(end) = std::mem::replace(&mut self.caller, Caller::Answered) {
            end.end(how);
        }
    }
}

struct State {
    initialization: Initialization,
    machine: Machine,
    effects: Vec<Effect>,
    /// Grows when processes are ended: what their connections still say counts no more.
    generation: u64,
    /// The generation before, while its extensions end in order: they alone are still heard.
    closing: Option<u64>,
    protocol: Protocol,
    attached: Attached,
    /// The runtime's call for the next event.
    parked: Option<oneshot::Sender<Arc<Event>>>,
    call: Option<Call>,
    /// What went wrong, when something has.
    cause: Option<Cause>,
    /// What a call that was never begun is told.
    refusal: Option<InvokeError>,
    log: Log,
    timeline: Timeline,
    notes: Notes,
    /// What is said when init begins.
    init_start: Option<InitStart>,
    /// Of each process.
    outputs: Vec<Output>,
    sandbox: Option<Arc<dyn Sandbox>>,
    /// Highest of the samples, bytes.
    memory_peak: u64,
    /// Processes killed for want of memory until the end of init or of the last invocation that was sampled.
    oom_kills: u64,
    work: Option<Work>,
    /// When the driver task wakes by itself.
    planned: Option<Instant>,
}

impl Shared {
    pub fn new(
        id: LogStreamId,
        start: Start,
        clock: Arc<dyn Clock>,
        credentials: Credentials,
        log: Log,
        config: &Config,
        cold_starts: ColdStarts,
    ) -> Self {
        let Start { function, initialization, asked, events } = start;
        let init_timeout = match initialization {
            Initialization::OnDemand => config.init_timeout,
            // Nobody waits for it (spec 3.3).
            Initialization::Provisioned => config.provisioned_init_timeout.max(function.timeout),
        };
        let state = State {
            initialization,
            machine: Machine::new(init_timeout, function.timeout),
            effects: Vec::new(),
            generation: 0,
            closing: None,
            protocol: Protocol::default(),
            attached: Attached::default(),
            parked: None,
            call: None,
            cause: None,
            refusal: None,
            log,
            timeline: Timeline::default(),
            notes: Notes::new(Steps::new(asked, clock.now())),
            init_start: None,
            outputs: Vec::new(),
            sandbox: None,
            memory_peak: 0,
            oom_kills: 0,
            work: None,
            planned: None,
        };
        Shared {
            id,
            function,
            events,
            clock,
            isolation: config.isolation,
            initialization,
            credentials,
            wake: Notify::new(),
            cold_starts,
            replaced: OnceLock::new(),
            gone: CancellationToken::new(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a call, or tells it at once why not.
    pub fn invoke(self: &Arc<Self>, mut call: Call) {
        let mut state = self.lock();
        if !state.machine.accepts() {
            let refusal = if state.machine.has_ended() { state.refusal() } else { busy() };
            return call.refuse(refusal);
        }
        call.cold = !state.machine.is_initialised();
        state.call = Some(call);
        self.step(state, Input::Invoke);
    }

    /// It runs on a runtime, and is to run on whatever that becomes.
    pub fn follows(&self, replaced: Replaced) {
        let _ = self.replaced.set(replaced);
    }

    pub fn is_outdated(&self) -> bool {
        self.replaced.get().is_some_and(Replaced::get)
    }

    /// A step of its start is done.
    pub fn note(&self, note: impl FnOnce(&mut Steps, Instant)) {
        let now = self.clock.now();
        note(&mut self.lock().notes.steps, now);
    }

    /// Of an invocation that runs, or was not cold.
    pub fn explain(&self, request_id: &str) -> Option<Explanation> {
        let state = self.lock();
        let running = state.call.as_ref().filter(|call| call.request_id.as_str() == request_id);
        let (request_id, took) = match running {
            Some(call) if call.cold => {
                return Some(state.notes.explain_cold(call.request_id.clone(), self.function.arn()));
            }
            Some(call) => (call.request_id.clone(), state.notes.first_byte_after(self.clock.now())?),
            None => state.notes.find(request_id)?,
        };
        drop(state);
        let (start, reason) = match self.initialization {
            Initialization::OnDemand => (StartKind::Warm, "an environment was idle"),
            Initialization::Provisioned => (StartKind::Provisioned, "its environment was kept initialised"),
        };
        let phases = vec![(Phase::FirstByte, took)];
        Some(Explanation { request_id, function: self.function.arn(), start, reason: reason.into(), phases })
    }

    pub fn is_initialised(&self) -> bool {
        self.lock().machine.is_initialised()
    }

    /// What the environment was lost for, when it was not its function's end.
    pub fn loss(&self) -> Option<InvokeError> {
        self.lock().refusal.clone()
    }

    /// An input from the driver task.
    pub fn tell(self: &Arc<Self>, input: Input) {
        self.step(self.lock(), input);
    }

    pub fn fail(self: &Arc<Self>, cause: Cause) {
        let mut state = self.lock();
        let error_type = cause.error_type();
        state.cause = Some(cause);
        self.step(state, Input::Failed(error_type));
    }

    /// The runtime's process ended by itself.
    pub fn exited(self: &Arc<Self>, exit: Exit) {
        let mut state = self.lock();
        let cause = Cause::exit(exit).under(state.attached.fatal.take());
        let error_type = state.out_of_memory(self, exit).unwrap_or(cause.error_type());
        state.cause = Some(cause);
        let input = if is_fault(exit) { Input::Crashed(error_type) } else { Input::Exited(error_type) };
        self.step(state, input);
    }

    /// The process of an external extension, by its place, ended by itself.
    pub fn extension_exited(self: &Arc<Self>, at: usize, exit: Exit) {
        let mut state = self.lock();
        let (cause, error_type) = match state.out_of_memory(self, exit) {
            // A function dies as one, whoever is heard of first.
            Some(error_type) => (Cause::exit(exit), error_type),
            None => {
                let cause = Cause::extension_exit(exit).under(state.attached.fatal.take());
                let error_type = cause.error_type();
                (cause, error_type)
            }
        };
        state.attached.protocol.exited(at, error_type.as_str());
        state.cause = Some(cause);
        self.step(state, Input::Exited(error_type));
    }

    /// The process of an external extension could not be started.
    pub fn extension_not_launched(self: &Arc<Self>, at: usize, cause: Cause) {
        self.lock().attached.protocol.not_launched(at, cause.error_type().as_str());
        self.fail(cause);
    }

    /// The sandbox cannot be made or used.
    pub fn lost(self: &Arc<Self>, refusal: InvokeError) {
        let mut state = self.lock();
        state.refusal.get_or_insert(refusal);
        state.cause = Some(Cause::platform(ErrorType::SANDBOX_FAILURE, "The execution environment was lost"));
        self.step(state, Input::Lost);
    }

    pub fn shutdown(self: &Arc<Self>) {
        let mut state = self.lock();
        state.refusal.get_or_insert(InvokeError::ShuttingDown);
        state.cause = Some(Cause::platform(ErrorType::SANDBOX_FAILURE, "The execution environment was shut down"));
        self.step(state, Input::Shutdown);
    }

    pub fn made(
        self: &Arc<Self>,
        sandbox: Arc<dyn Sandbox>,
        substituted: Option<PlatformRecord>,
        init_start: InitStart,
    ) {
        let mut state = self.lock();
        state.sandbox = Some(sandbox);
        substituted.iter().for_each(|record| state.log.write(record));
        if self.function.json_logs.is_none() {
            // A log of JSON has it for every init.
            state.log.write(&PlatformRecord::InitStart(init_start.clone()));
        }
        state.init_start = Some(init_start);
        self.step(state, Input::Made);
    }

    /// A line of the platform's own, at any time.
    pub fn write(&self, record: &PlatformRecord) {
        let mut state = self.lock();
        state.log.write(record);
        state.log.flush();
    }

    /// An output of a new process. Answers its place.
    pub fn add_output(&self, output: Output) -> usize {
        let mut state = self.lock();
        state.outputs.push(output);
        state.outputs.len() - 1
    }

    /// The process of these last ones was not started after all.
    pub fn drop_outputs(&self, from: usize) {
        self.lock().outputs.truncate(from);
    }

    /// Every process has ended; what they wrote last is taken.
    pub fn end_outputs(&self) {
        let State { outputs, log, .. } = &mut *self.lock();
        outputs.drain(..).for_each(|mut output| output.end(log));
    }

    pub fn pump(&self, output: usize, now: Instant) -> Pumped {
        let State { outputs, log, .. } = &mut *self.lock();
        let pumped = outputs.get_mut(output).map_or(Pumped::Closed, |output| output.pump(log, now));
        log.flush();
        pumped
    }

    /// How long the processes have to end in order; none when they have no extensions.
    pub fn budget(&self) -> Option<Budget> {
        let state = self.lock();
        state.closing.and_then(|_| Budget::of(&state.attached.protocol))
    }

    /// Tells external extensions of the end. Answers which of so many are to end by themselves.
    pub fn shut_down_extensions(&self, count: usize, reason: ShutdownReason, left: Duration) -> Vec<bool> {
        let mut state = self.lock();
        state.drain();
        state.log.telemetry.pause(false);
        state.log.telemetry.hurry();
        let deadline_ms = self.epoch_ms(left);
        state.attached.shut_down(&Notice::Shutdown { deadline_ms, reason });
        (0..count).map(|at| state.attached.protocol.ends_itself(at)).collect()
    }

    /// The last processes have ended.
    pub fn processes_ended(&self) {
        let mut state = self.lock();
        (state.closing, state.parked) = (None, None);
        state.attached = Attached::default();
        state.log.telemetry.end();
    }

    /// So long from now, in milliseconds since the epoch.
    fn epoch_ms(&self, left: Duration) -> u64 {
        let then = (self.clock.wall() + left).duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(then.as_millis()).unwrap_or(u64::MAX)
    }

    /// What the driver task is to do, else when it must wake.
    pub fn plan(&self) -> Result<Work, Option<Instant>> {
        let mut state = self.lock();
        state.log.flush();
        if let Some(work) = state.work.take() {
            return Ok(work);
        }
        state.planned = state.machine.wake_at();
        Err(state.planned)
    }

    /// Gives up what is held; the sandbox ends with its last holder.
    pub fn release(self: &Arc<Self>) {
        self.end_outputs();
        let mut state = self.lock();
        state.log.flush();
        state.log.telemetry.end();
        (state.sandbox, state.parked) = (None, None);
        drop(state);
        self.gone.cancel();
        self.events.gone(&Environment::of(self.clone()));
    }

    /// Waits until `release`.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Waits until nothing but `End` is left to do.
    pub async fn ended(&self) {
        while !self.lock().machine.has_ended() {
            self.wake.notified().await;
        }
    }

    /// For the connections of the processes that are started next, with these external extensions.
    pub fn line(self: &Arc<Self>, external: &[String]) -> Arc<Line> {
        let mut state = self.lock();
        state.attached = Attached::new(external);
        Arc::new(Line::new(state.generation, self.clone()))
    }

    fn step(self: &Arc<Self>, mut state: MutexGuard<'_, State>, input: Input) {
        let mut effects = std::mem::take(&mut state.effects);
        state.machine.step(self.clock.now(), input, &mut effects);
        let sooner = state.machine.wake_at().is_some_and(|at| state.planned.is_none_or(|planned| at < planned));
        let works = effects
            .iter()
            .any(|e| matches!(e, Effect::Start(_) | Effect::StartRuntime | Effect::Reset(_) | Effect::End(_)));
        if sooner || works {
            // Before the effects: of the tasks that are woken, the last one runs first, and that is to be the
            // connection that waits for the event.
            self.wake.notify_one();
        }
        let idle = effects.contains(&Effect::Idle);
        for effect in effects.drain(..) {
            state.act(self, effect);
        }
        state.effects = effects;
        drop(state);
        if idle {
            self.events.idle(&Environment::of(self.clone()));
        }
    }
}

/// Whether the kernel ended a program for what it did: illegal instruction, bus error, floating point, wrong address.
fn is_fault(exit: Exit) -> bool {
    matches!(exit, Exit::Signal(4 | 7 | 8 | 11))
}

fn busy() -> InvokeError {
    InvokeError::Internal("the environment is serving another invocation".into())
}

#[cfg(test)]
mod tests;
