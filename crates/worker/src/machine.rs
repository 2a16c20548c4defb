//! The phases of an execution environment (spec 3.3): decisions only.
//!
//! ```text
//!            made           ready                 invoke                   answered, ready
//!   Making ───────► Init ──────────► Idle ──────────────────► Invoke ─────────────────────► Idle
//!                    │                │ frozen when it lasts    │  ▲
//!                    │ failed, 10 s   │ exited                  │  │ invoke: init inside the invocation
//!                    ▼                ▼                         ▼  │
//!                 Resetting ◄──────────────── failed, exited, timeout
//!                    └──────────────────── done ──────────► Down
//!
//!   lost, shutdown: from everywhere to Ended
//! ```
//!
//! Where the program itself is at fault (a wrong address, an illegal instruction), init within an invocation is tried again
//! until the invocation's time is over.
//!
//! Init is that of the runtime and of every extension. External extensions register before the runtime starts; an
//! invocation lasts until all have asked for the next event, though the caller has its answer as soon as the runtime
//! gave it.
//!
//! Knows no task, lock, socket or clock: an input and the time go in, effects come out, in the order in which they must
//! happen. Every call that was accepted ends in exactly one `Finish` (a report) or one `Refuse` (the function has seen
//! nothing of it).

use std::time::{Duration, Instant};

use hearth_model::{ErrorType, InitPhase, Status};
use hearth_runtime_api::ShutdownReason;

/// Between memory samples while code runs.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// An invocation that took less shares a sample with those around it: on the warm path a sample is a good part of the time.
const SHORT: Duration = Duration::from_millis(10);
/// An environment that has been idle for this long is frozen. A caller that comes back sooner pays for no freezing.
const FREEZE_AFTER: Duration = Duration::from_millis(2);
/// Inits within one invocation that may end by a fault of the program. AWS tries until the time is over (spec 2.2,
/// recorded); this often is enough to know, and then nothing runs until that.
const CRASHES_MAX: u32 = 3;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The sandbox stands; nothing runs in it yet.
    Made,
    /// A call; only when [`Machine::accepts`].
    Invoke,
    /// Every external extension has registered.
    Registered,
    /// The runtime and every extension have asked for the next event.
    Ready,
    /// The runtime answered its event; the caller has the answer. Holds the error type of a function error.
    Answered(Option<ErrorType>),
    /// Init ended in an error that the runtime posted, or a process could not be started.
    Failed(ErrorType),
    /// The process of the runtime or of an extension ended by itself.
    Exited(ErrorType),
    /// The runtime's process was ended by a fault of its program, such as a wrong address.
    Crashed(ErrorType),
    /// What `Reset` asked for is done.
    ResetDone,
    /// Time has passed.
    Tick,
    /// The sandbox cannot be made, or can be used no longer.
    Lost,
    Shutdown,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start the extensions' processes, or the runtime's when there are none.
    Start(InitPhase),
    /// Start the runtime's process.
    StartRuntime,
    /// End every process; what the runtime still says counts no more.
    Reset(ShutdownReason),
    /// Likewise, and give the sandbox back. Without a reason nothing can be said to anybody any more.
    End(Option<ShutdownReason>),
    Thaw,
    Freeze,
    LimitCpu,
    Sample {
        /// At the end of init or of an invocation, not in between.
        end: bool,
    },
    /// Init is over.
    InitEnded {
        duration: Duration,
        phase: InitPhase,
        status: Status,
        error_type: Option<ErrorType>,
    },
    /// Give the event to the runtime.
    Deliver {
        deadline: Instant,
    },
    /// Answer the caller in the runtime's place, with what went wrong, unless it has been answered.
    Fail,
    /// Likewise, with AWS's timeout.
    TimedOut,
    /// The call is over: END, REPORT, outcome.
    Finish {
        status: Status,
        error_type: Option<ErrorType>,
        duration: Duration,
        init_duration: Option<Duration>,
    },
    /// The call has not begun and will not.
    Refuse,
    /// Tell the owner that a call can be taken.
    Idle,
}

#[derive(Clone, Debug)]
enum Phase {
    Making {
        call: bool,
    },
    Init {
        since: Instant,
        call: bool,
    },
    Idle {
        since: Instant,
        frozen: bool,
        /// How long init took, until a report has said it.
        init: Option<Duration>,
    },
    /// The sandbox stands and no process runs: the next invocation initialises.
    Down,
    Invoke(Running),
    Resetting {
        call: bool,
    },
    Ended,
}

#[derive(Clone, Debug)]
struct Running {
    since: Instant,
    deadline: Instant,
    init: Option<Duration>,
    /// Inits of this invocation that crashed.
    crashes: u32,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Init again, within the invocation (suppressed init).
    Init {
        since: Instant,
    },
    /// It crashed, and its processes are ended.
    Restarting,
    /// It crashed too often: nothing runs, and the time passes.
    Over,
    Runs,
    Answered(Option<ErrorType>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Of the init phase.
    init_limit: Duration,
    /// Of an invocation.
    timeout: Duration,
    phase: Phase,
    sampled: Option<Instant>,
    /// When the next sample in between is due.
    sample_at: Option<Instant>,
    cpu_limited: bool,
    /// The owner has been told that a call can be taken, and has given none since.
    announced: bool,
}

impl Machine {
    pub fn new(init_limit: Duration, timeout: Duration) -> Self {
        let phase = Phase::Making { call: false };
        let (sampled, sample_at) = (None, None);
        Machine { init_limit, timeout, phase, sampled, sample_at, cpu_limited: false, announced: false }
    }

    /// Whether a call would be taken now.
    pub fn accepts(&self) -> bool {
        match self.phase {
            Phase::Making { call } | Phase::Init { call, .. } | Phase::Resetting { call } => !call,
            Phase::Idle { .. } | Phase::Down => true,
            Phase::Invoke(_) | Phase::Ended => false,
        }
    }

    /// Whether the next call finds init done. One that failed is tried again with it.
    pub fn is_initialised(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. } | Phase::Invoke(_))
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// When `Tick` is due, if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        let sample = |limit: Instant| self.sample_at.map_or(limit, |at| limit.min(at));
        match &self.phase {
            Phase::Init { since, .. } => Some(sample(*since + self.init_limit)),
            Phase::Invoke(running) => Some(sample(running.deadline)),
            Phase::Idle { since, frozen: false, .. } => Some(*since + FREEZE_AFTER),
            _ => None,
        }
    }

    /// Takes an input; what is to be done is added to `out`. Inputs that mean nothing in a phase change nothing.
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Effect>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        self.phase = match (phase, input) {
            (Phase::Ended, _) => Phase::Ended,
            (phase, Input::Lost) => self.end(now, phase, None, out),
            (phase, Input::Shutdown) => self.end(now, phase, Some(ShutdownReason::Spindown), out),
            (phase, Input::Invoke) => self.invoke(now, phase, out),
            (Phase::Making { call }, Input::Made) => {
                out.push(Effect::Start(InitPhase::Init));
                self.sample_at = Some(now + SAMPLE_EVERY);
                Phase::Init { since: now, call }
            }
            (Phase::Init { since, call }, input) => self.init(now, since, call, input, out),
            (Phase::Invoke(running), input) => self.running(now, running, input, out),
            (Phase::Idle { since, frozen: false, init }, Input::Tick) if now >= since + FREEZE_AFTER => {
                out.push(Effect::Freeze);
                Phase::Idle { since, frozen: true, init }
            }
            (Phase::Idle { frozen, .. }, Input::Exited(_) | Input::Crashed(_)) => {
                out.extend(frozen.then_some(Effect::Thaw));
                out.push(Effect::Reset(ShutdownReason::Failure));
                Phase::Resetting { call: false }
            }
            (Phase::Resetting { call: true }, Input::ResetDone) => self.init_within(now, out),
            (Phase::Resetting { call: false }, Input::ResetDone) => {
                self.announce(out);
                Phase::Down
            }
            (phase, _) => phase,
        };
    }

    fn invoke(&mut self, now: Instant, phase: Phase, out: &mut Vec<Effect>) -> Phase {
        self.announced = false;
        match phase {
            Phase::Making { .. } => Phase::Making { call: true },
            Phase::Init { since, .. } => Phase::Init { since, call: true },
            Phase::Resetting { .. } => Phase::Resetting { call: true },
            Phase::Idle { frozen, init, .. } => {
                out.extend(frozen.then_some(Effect::Thaw));
                self.deliver(now + self.timeout, out);
                self.sample_at = Some(now + SAMPLE_EVERY);
                Phase::Invoke(self.runs(now, init, Stage::Runs))
            }
            Phase::Down => self.init_within(now, out),
            phase @ (Phase::Invoke(_) | Phase::Ended) => phase,
        }
    }

    fn init_within(&mut self, now: Instant, out: &mut Vec<Effect>) -> Phase {
        out.push(Effect::Start(InitPhase::Invoke));
        self.sample_at = Some(now + SAMPLE_EVERY);
        Phase::Invoke(self.runs(now, None, Stage::Init { since: now }))
    }

    fn runs(&self, now: Instant, init: Option<Duration>, stage: Stage) -> Running {
        Running { since: now, deadline: now + self.timeout, init, crashes: 0, stage }
    }

    fn deliver(&mut self, deadline: Instant, out: &mut Vec<Effect>) {
        if !self.cpu_limited {
            self.cpu_limited = true;
            out.push(Effect::LimitCpu);
        }
        out.push(Effect::Deliver { deadline });
    }

    fn init(&mut self, now: Instant, since: Instant, call: bool, input: Input, out: &mut Vec<Effect>) -> Phase {
        let limit = self.init_limit;
        let (status, error_type, reason) = match input {
            Input::Registered => {
                out.push(Effect::StartRuntime);
                return Phase::Init { since, call };
            }
            Input::Ready => {
                self.sample(now, true, out);
                let duration = now - since;
                init_ended(duration, InitPhase::Init, Status::Success, None, out);
                let init = Some(duration);
                if call {
                    self.deliver(now + self.timeout, out);
                    return Phase::Invoke(self.runs(now, init, Stage::Runs));
                }
                self.announce(out);
                return Phase::Idle { since: now, frozen: false, init };
            }
            Input::Failed(error_type) | Input::Exited(error_type) | Input::Crashed(error_type) => {
                (Status::Error, Some(error_type), ShutdownReason::Failure)
            }
            Input::Tick if now >= since + limit => (Status::Timeout, None, ShutdownReason::Timeout),
            Input::Tick => {
                self.sample_if_due(now, out);
                return Phase::Init { since, call };
            }
            _ => return Phase::Init { since, call },
        };
        init_ended((now - since).min(limit), InitPhase::Init, status, error_type, out);
        out.push(Effect::Reset(reason));
        Phase::Resetting { call }
    }

    fn running(&mut self, now: Instant, mut running: Running, input: Input, out: &mut Vec<Effect>) -> Phase {
        match (&running.stage, input) {
            (_, Input::Tick) if now >= running.deadline => self.time_out(now, &running, out),
            (_, Input::Tick) => {
                self.sample_if_due(now, out);
                Phase::Invoke(running)
            }
            (Stage::Init { .. }, Input::Registered) => {
                out.push(Effect::StartRuntime);
                Phase::Invoke(running)
            }
            (Stage::Init { since }, Input::Ready) => {
                self.sample(now, true, out);
                init_within_ended(now, *since, &running, Status::Success, None, out);
                self.deliver(running.deadline, out);
                running.stage = Stage::Runs;
                Phase::Invoke(running)
            }
            (Stage::Init { since }, Input::Failed(error_type) | Input::Exited(error_type)) => {
                init_within_ended(now, *since, &running, Status::Error, Some(error_type.clone()), out);
                fail(now, &running, error_type, out)
            }
            (Stage::Init { since }, Input::Crashed(error_type)) => {
                init_within_ended(now, *since, &running, Status::Error, Some(error_type), out);
                out.push(Effect::Reset(ShutdownReason::Failure));
                running.crashes += 1;
                running.stage = Stage::Restarting;
                Phase::Invoke(running)
            }
            (Stage::Restarting, Input::ResetDone) if running.crashes < CRASHES_MAX => {
                out.push(Effect::Start(InitPhase::Invoke));
                running.stage = Stage::Init { since: now };
                Phase::Invoke(running)
            }
            (Stage::Restarting, Input::ResetDone) => {
                running.stage = Stage::Over;
                Phase::Invoke(running)
            }
            (Stage::Runs | Stage::Answered(_), Input::Exited(error_type) | Input::Crashed(error_type)) => {
                fail(now, &running, error_type, out)
            }
            (Stage::Runs, Input::Answered(error_type)) => {
                running.stage = Stage::Answered(error_type);
                Phase::Invoke(running)
            }
            (Stage::Answered(error_type), Input::Ready) => {
                if now - running.since >= SHORT || self.sampled.is_none_or(|at| now - at >= SAMPLE_EVERY) {
                    self.sample(now, true, out);
                }
                let status = if error_type.is_some() { Status::Error } else { Status::Success };
                finish(now, &running, status, error_type.clone(), out);
                self.announce(out);
                Phase::Idle { since: now, frozen: false, init: None }
            }
            _ => Phase::Invoke(running),
        }
    }

    fn time_out(&mut self, now: Instant, running: &Running, out: &mut Vec<Effect>) -> Phase {
        self.sample(now, true, out);
        if let Stage::Init { since } = running.stage {
            init_within_ended(now, since, running, Status::Timeout, None, out);
        }
        out.push(Effect::TimedOut);
        finish(running.deadline, running, Status::Timeout, None, out);
        match running.stage {
            Stage::Over => {
                self.announce(out);
                return Phase::Down;
            }
            // That is going on.
            Stage::Restarting => {}
            Stage::Init { .. } | Stage::Runs | Stage::Answered(_) => out.push(Effect::Reset(ShutdownReason::Timeout)),
        }
        Phase::Resetting { call: false }
    }

    fn end(&mut self, now: Instant, phase: Phase, reason: Option<ShutdownReason>, out: &mut Vec<Effect>) -> Phase {
        match phase {
            Phase::Making { call: true } | Phase::Init { call: true, .. } | Phase::Resetting { call: true } => {
                out.push(Effect::Refuse);
            }
            Phase::Invoke(running) => {
                out.push(Effect::Fail);
                finish(now, &running, Status::Failure, Some(ErrorType::SANDBOX_FAILURE), out);
            }
            _ => {}
        }
        out.push(Effect::End(reason));
        Phase::Ended
    }

    fn announce(&mut self, out: &mut Vec<Effect>) {
        if !self.announced {
            self.announced = true;
            out.push(Effect::Idle);
        }
    }

    fn sample(&mut self, now: Instant, end: bool, out: &mut Vec<Effect>) {
        self.sampled = Some(now);
        self.sample_at = Some(now + SAMPLE_EVERY);
        out.push(Effect::Sample { end });
    }

    fn sample_if_due(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.sample_at.is_none_or(|at| now >= at) {
            self.sample(now, false, out);
        }
    }
}

fn init_within_ended(
    now: Instant,
    since: Instant,
    running: &Running,
    status: Status,
    error_type: Option<ErrorType>,
    out: &mut Vec<Effect>,
) {
    init_ended(now.min(running.deadline).saturating_duration_since(since), InitPhase::Invoke, status, error_type, out);
}

fn init_ended(
    duration: Duration,
    phase: InitPhase,
    status: Status,
    error_type: Option<ErrorType>,
    out: &mut Vec<Effect>,
) {
    out.push(Effect::InitEnded { duration, phase, status, error_type });
}

fn fail(now: Instant, running: &Running, error_type: ErrorType, out: &mut Vec<Effect>) -> Phase {
    out.push(Effect::Fail);
    finish(now, running, Status::Error, Some(error_type), out);
    out.push(Effect::Reset(ShutdownReason::Failure));
    Phase::Resetting { call: false }
}

fn finish(end: Instant, running: &Running, status: Status, error_type: Option<ErrorType>, out: &mut Vec<Effect>) {
    let duration = end - running.since;
    out.push(Effect::Finish { status, error_type, duration, init_duration: running.init });
}

#[cfg(test)]
mod tests;
