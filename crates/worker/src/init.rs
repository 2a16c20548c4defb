//! Init: from starting the runtime's process until it asks for its first event.
//!
//! In the init phase it has 10 s. When it fails there, nobody is told but the log (INIT_REPORT); the environment stays,
//! and its next invocation initialises again, inside the function's timeout. What fails then is the caller's answer.

use std::time::Duration;

use hearth_model::{ErrorType, Family, InitPhase, InitReport, PlatformRecord, Status};
use hearth_runtime_api::{Answer, Said};
use hearth_sandbox::{Command, Error};
use tokio::time::Instant;

use crate::live::{Happening, Live, Readiness, Running, exit_message, platform_error};
use crate::output::Output;

/// Why init failed. Without an answer it was the time.
pub(crate) enum InitFailure {
    /// What a caller is to see; its message lacks the request id where the platform wrote it.
    Failed(FailedInit),
    TimedOut,
    /// The sandbox is lost.
    Lost,
}

pub(crate) enum FailedInit {
    /// The runtime's own words.
    Posted(Answer),
    /// The platform's: error type and the message after `RequestId: … Error: `.
    Platform(ErrorType, String),
}

impl FailedInit {
    pub fn error_type(&self) -> ErrorType {
        match self {
            FailedInit::Posted(answer) => answer.error.clone().unwrap_or(ErrorType::RUNTIME_UNKNOWN),
            FailedInit::Platform(error_type, _) => error_type.clone(),
        }
    }

    pub fn into_answer(self, request_id: &hearth_model::RequestId) -> Answer {
        match self {
            FailedInit::Posted(answer) => answer,
            FailedInit::Platform(error_type, message) => {
                platform_error(error_type, &format!("RequestId: {request_id} Error: {message}"))
            }
        }
    }
}

impl Live {
    /// Initialises. On failure the process is gone, the environment ready for another try, and INIT_REPORT written.
    pub async fn init(&mut self, deadline: Instant, phase: InitPhase) -> Result<Duration, InitFailure> {
        let began = Instant::now();
        let initialised = match self.start_process().await {
            Ok(()) => self.until_ready(deadline).await,
            Err(failure) => Err(failure),
        };
        let duration = began.elapsed();
        self.sample();
        let Err(failure) = initialised else { return Ok(duration) };
        if self.reset().await.is_err() {
            return Err(InitFailure::Lost);
        }
        let (status, error_type) = match &failure {
            InitFailure::Failed(failed) => (Status::Error, Some(failed.error_type())),
            InitFailure::TimedOut => (Status::Timeout, None),
            InitFailure::Lost => return Err(failure),
        };
        self.log.platform(&PlatformRecord::InitReport(InitReport { duration, phase, status, error_type }));
        Err(failure)
    }

    async fn until_ready(&mut self, deadline: Instant) -> Result<(), InitFailure> {
        let happening = tokio::time::timeout_at(deadline, self.happening()).await;
        match happening.map_err(|_| InitFailure::TimedOut)? {
            Happening::Said(Said::Ready) => {
                self.readiness = Readiness::Ready { init: None };
                self.drain_output();
                Ok(())
            }
            Happening::Said(Said::InitError(answer)) => Err(InitFailure::Failed(FailedInit::Posted(answer))),
            Happening::Exited(exit) => match self.last_words().await {
                // It posted its error and ended before that was read.
                Some(Said::InitError(answer)) => Err(InitFailure::Failed(FailedInit::Posted(answer))),
                _ => Err(InitFailure::Failed(FailedInit::Platform(ErrorType::RUNTIME_EXIT, exit_message(exit)))),
            },
            Happening::Said(Said::Answered(_)) | Happening::Lost => Err(InitFailure::Lost),
        }
    }

    async fn start_process(&mut self) -> Result<(), InitFailure> {
        let mut missing = None;
        for command in self.commands() {
            let (output, writer) = Output::new().map_err(|_| InitFailure::Lost)?;
            let program = command.clone();
            let started = self.sandbox.spawn(self.command(command, writer)).await;
            match started {
                Ok(process) => {
                    self.process = Some(Running { exit: process.exit, output });
                    return Ok(());
                }
                Err(Error::Exec { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    missing = missing.or(Some(program));
                }
                Err(error @ Error::Exec { .. }) => {
                    let failed = FailedInit::Platform(ErrorType::INVALID_ENTRYPOINT, exec_message(&error));
                    return Err(InitFailure::Failed(failed));
                }
                Err(error) => {
                    tracing::error!(%error, "a runtime process could not be started");
                    return Err(InitFailure::Lost);
                }
            }
        }
        let message = match self.function.runtime.family() {
            Family::Provided => "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]".to_owned(),
            _ => format!("Couldn't find valid bootstrap(s): {:?}", missing.unwrap_or_default()),
        };
        Err(InitFailure::Failed(FailedInit::Platform(ErrorType::INVALID_ENTRYPOINT, message)))
    }

    /// Commands to try, in order, while the program is not there.
    fn commands(&self) -> Vec<Vec<String>> {
        match self.function.runtime.family() {
            Family::Provided => vec![vec!["/var/task/bootstrap".to_owned()], vec!["/opt/bootstrap".to_owned()]],
            _ => {
                let mut command = self.runtime.command.clone();
                let wrapper = self.variables.iter().find(|(key, _)| key == "AWS_LAMBDA_EXEC_WRAPPER");
                if let Some((_, wrapper)) = wrapper {
                    command.insert(0, wrapper.clone());
                }
                vec![command]
            }
        }
    }

    fn command(&self, mut command: Vec<String>, output: std::os::fd::OwnedFd) -> Command {
        let arguments = command.split_off(command.len().min(1));
        Command {
            program: command.pop().unwrap_or_default(),
            arguments,
            environment: self.variables.clone(),
            working_directory: "/var/task".to_owned(),
            output,
        }
    }
}

/// `fork/exec /var/task/bootstrap: permission denied`.
fn exec_message(error: &Error) -> String {
    match error {
        Error::Exec { program, source } => {
            let text = source.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            format!("fork/exec {program}: {text}")
        }
        other => other.to_string(),
    }
}
