//! One invocation: deliver, wait for the answer and for the runtime to be ready again, report.

use std::time::{Duration, UNIX_EPOCH};

use hearth_model::Clock;
use hearth_model::{ErrorType, InitPhase, Invocation, Outcome, PlatformRecord, Report, RequestId, Status, SystemClock};
use hearth_runtime_api::{Answer, Event, Said};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};

use crate::environment::Order;
use crate::init::InitFailure;
use crate::live::{Happening, Live, Readiness, exit_message, platform_error};

/// Between memory samples of a running invocation.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// How an invocation ended.
struct Ending {
    status: Status,
    error_type: Option<ErrorType>,
    /// The runtime waits for the next event.
    ready: bool,
}

impl Ending {
    fn failed(error_type: ErrorType) -> Self {
        Ending { status: Status::Error, error_type: Some(error_type), ready: false }
    }

    fn timed_out() -> Self {
        Ending { status: Status::Timeout, error_type: None, ready: false }
    }
}

/// The environment cannot go on.
pub(crate) struct Lost;

impl Live {
    /// Serves one invocation; it always ends in a report.
    pub async fn serve(&mut self, order: Order) -> Result<(), Lost> {
        let Order { invocation, answer, outcome } = order;
        if invocation.wants_log_tail {
            self.log.begin_tail();
        }
        let request_id = invocation.request_id.clone();
        let version = self.function.key.version;
        self.log.platform(&PlatformRecord::Start { request_id: request_id.clone(), version });
        let began = Instant::now();
        let deadline = began + self.function.timeout;
        let init_duration = match &mut self.readiness {
            Readiness::Ready { init } => init.take(),
            Readiness::Down => None,
        };
        let ending = self.run(invocation, answer, deadline).await;
        let duration = began.elapsed();
        self.sample();
        let lost = if ending.ready { false } else { self.reset().await.is_err() };
        self.drain_output();
        let report = Report {
            request_id: request_id.clone(),
            version,
            status: ending.status,
            error_type: ending.error_type,
            duration,
            init_duration,
            memory_size: self.function.memory,
            max_memory_used: self.max_memory_used(),
        };
        self.log.platform(&PlatformRecord::End { request_id });
        self.log.platform(&PlatformRecord::Report(report.clone()));
        let _ = outcome.send(Outcome { report, log_tail: self.log.end_tail() });
        if lost { Err(Lost) } else { Ok(()) }
    }

    async fn run(&mut self, invocation: Invocation, answer: oneshot::Sender<Answer>, deadline: Instant) -> Ending {
        let request_id = invocation.request_id.clone();
        if let Readiness::Down = self.readiness {
            match self.init(deadline, InitPhase::Invoke).await {
                Ok(_) => {}
                Err(InitFailure::Failed(failed)) => {
                    let error_type = failed.error_type();
                    let _ = answer.send(failed.into_answer(&request_id));
                    return Ending::failed(error_type);
                }
                Err(InitFailure::TimedOut) => {
                    self.time_out(&request_id, Some(answer));
                    return Ending::timed_out();
                }
                Err(InitFailure::Lost) => return Ending::failed(ErrorType::SANDBOX_FAILURE),
            }
        }
        if !self.cpu_limited {
            // Init is not held back; from the first invocation on CPU is in proportion to memory.
            if let Err(error) = self.sandbox.limit_cpu() {
                tracing::error!(%error, "CPU could not be limited");
            }
            self.cpu_limited = true;
        }
        self.session.deliver(event(invocation, deadline), answer);
        self.until_ready_again(&request_id, deadline).await
    }

    async fn until_ready_again(&mut self, request_id: &RequestId, deadline: Instant) -> Ending {
        let mut samples = tokio::time::interval_at(Instant::now() + SAMPLE_EVERY, SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answered: Option<Option<ErrorType>> = None;
        loop {
            let happening = tokio::select! {
                biased;
                happening = self.happening() => happening,
                _ = samples.tick() => {
                    self.sample();
                    continue;
                }
                () = tokio::time::sleep_until(deadline) => {
                    let answer = self.session.take_answer();
                    self.time_out(request_id, answer);
                    return Ending::timed_out();
                }
            };
            match happening {
                Happening::Said(Said::Answered(error)) => answered = Some(error),
                Happening::Said(Said::Ready) => return ended(answered, true),
                Happening::Said(Said::InitError(_)) => {}
                Happening::Exited(exit) => {
                    while let Some(said) = self.last_words().await {
                        if let Said::Answered(error) = said {
                            answered = Some(error);
                            break;
                        }
                    }
                    return self.exited(request_id, &exit_message(exit), answered);
                }
                Happening::Lost => return Ending::failed(ErrorType::SANDBOX_FAILURE),
            }
        }
    }

    /// The runtime's process ended: the caller's answer unless it had one, and a line in the log.
    fn exited(&mut self, request_id: &RequestId, message: &str, answered: Option<Option<ErrorType>>) -> Ending {
        let error_type = ErrorType::RUNTIME_EXIT;
        self.log.platform(&PlatformRecord::RuntimeExited {
            request_id: request_id.clone(),
            message: message.to_owned(),
            error_type: error_type.clone(),
        });
        if answered.is_none()
            && let Some(answer) = self.session.take_answer()
        {
            let message = format!("RequestId: {request_id} Error: {message}");
            let _ = answer.send(platform_error(error_type.clone(), &message));
        }
        Ending::failed(error_type)
    }

    fn time_out(&mut self, request_id: &RequestId, answer: Option<oneshot::Sender<Answer>>) {
        self.drain_output();
        let timeout = self.function.timeout;
        let at = SystemClock.wall();
        self.log.platform(&PlatformRecord::TimedOut { at, request_id: request_id.clone(), timeout });
        if let Some(answer) = answer {
            let seconds = timeout.as_secs_f64();
            let message = format!("RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds");
            let _ = answer.send(platform_error(ErrorType::SANDBOX_TIMEOUT, &message));
        }
    }
}

fn ended(answered: Option<Option<ErrorType>>, ready: bool) -> Ending {
    match answered.flatten() {
        None => Ending { status: Status::Success, error_type: None, ready },
        Some(error_type) => Ending { status: Status::Error, error_type: Some(error_type), ready },
    }
}

fn event(invocation: Invocation, deadline: Instant) -> Event {
    let left = deadline.saturating_duration_since(Instant::now());
    let deadline = (SystemClock.wall() + left).duration_since(UNIX_EPOCH).unwrap_or_default();
    Event {
        request_id: invocation.request_id,
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        invoked_arn: invocation.invoked_arn,
        trace: invocation.trace,
        client_context: invocation.client_context,
        content_type: invocation.content_type,
        payload: invocation.payload,
    }
}
