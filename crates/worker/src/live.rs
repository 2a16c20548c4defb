//! The parts of a living environment, and what may happen in it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{BoxFuture, FunctionVersion, Memory, RuntimeTree};
use hearth_runtime_api::{Answer, Said, Session};
use hearth_sandbox::{Error, Exit, Sandbox};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::output::{Log, Output};

/// After a process has ended, how long what it said last may take to arrive: its connections are closed by then.
const LAST_WORDS: Duration = Duration::from_millis(100);

pub(crate) struct Live {
    pub function: Arc<FunctionVersion>,
    pub runtime: Arc<RuntimeTree>,
    pub sandbox: Box<dyn Sandbox>,
    pub session: Session,
    pub said: mpsc::Receiver<Said>,
    pub process: Option<Running>,
    pub log: Log,
    pub variables: Vec<(String, String)>,
    pub readiness: Readiness,
    pub cpu_limited: bool,
    /// Highest of the samples, bytes (see `sample`).
    pub memory_peak: u64,
    /// The Runtime API's server and the endpoints: they end with the environment.
    pub _serving: JoinSet<()>,
    pub _endpoints: Vec<Box<dyn Any + Send + Sync>>,
}

/// The runtime process.
pub(crate) struct Running {
    pub exit: BoxFuture<'static, Result<Exit, Error>>,
    pub output: Output,
}

/// Whether the runtime waits for an event.
pub(crate) enum Readiness {
    /// Yes. Holds how long init took until the first invocation has reported it.
    Ready { init: Option<Duration> },
    /// No process: the next invocation initialises again.
    Down,
}

/// What happens while something is waited for.
pub(crate) enum Happening {
    Said(Said),
    Exited(Exit),
    /// The sandbox itself is gone.
    Lost,
}

impl Live {
    /// The next thing that happens. Output is taken in meanwhile. Dropping the wait loses nothing.
    pub async fn happening(&mut self) -> Happening {
        loop {
            let Some(process) = &mut self.process else { return Happening::Lost };
            tokio::select! {
                biased;
                Some(said) = self.said.recv() => return Happening::Said(said),
                exit = &mut process.exit => {
                    let Some(mut ended) = self.process.take() else { return Happening::Lost };
                    ended.output.drain(&mut self.log);
                    return match exit {
                        Ok(exit) => Happening::Exited(exit),
                        Err(_) => Happening::Lost,
                    };
                }
                () = process.output.readable() => drop(process.output.take(&mut self.log)),
            }
        }
    }

    /// What an ended process had said before it ended, and was not heard yet.
    pub async fn last_words(&mut self) -> Option<Said> {
        tokio::time::timeout(LAST_WORDS, self.said.recv()).await.ok().flatten()
    }

    /// The log barrier.
    pub fn drain_output(&mut self) {
        if let Some(process) = &mut self.process {
            process.output.drain(&mut self.log);
        }
    }

    /// Ends the runtime; `/tmp` stays (RESET, spec 3.3).
    pub async fn reset(&mut self) -> Result<(), Error> {
        self.sandbox.kill_processes().await?;
        self.drain_output();
        self.process = None;
        self.session.reset();
        while self.said.try_recv().is_ok() {}
        self.readiness = Readiness::Down;
        Ok(())
    }

    /// Takes a memory sample: at the end of init, every 100 ms of an invocation and at its end. Max Memory Used is the
    /// highest since the environment began: anonymous, shared and kernel memory, not page cache.
    pub fn sample(&mut self) {
        if let Ok(usage) = self.sandbox.usage() {
            self.memory_peak = self.memory_peak.max(usage.memory);
        }
    }

    pub fn max_memory_used(&self) -> Memory {
        Memory::from_bytes_ceil(self.memory_peak).min(self.function.memory)
    }
}

/// An object as the platform writes it: `errorType`, then `errorMessage` (spec 2.2).
pub(crate) fn platform_error(error: hearth_model::ErrorType, message: &str) -> Answer {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        error_type: &'a str,
        error_message: &'a str,
    }
    let body = serde_json::to_vec(&Body { error_type: error.as_str(), error_message: message }).unwrap_or_default();
    Answer { error: Some(error), content_type: "application/json".to_owned(), body: body.into() }
}

/// `Runtime exited with error: exit status 1` and its like (recorded).
pub(crate) fn exit_message(exit: Exit) -> String {
    match exit {
        Exit::Code(0) => "Runtime exited without providing a reason".to_owned(),
        Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
        Exit::Signal(signal) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
    }
}

/// Signals as AWS's messages name them.
fn signal_name(signal: i32) -> String {
    match signal {
        4 => "illegal instruction".to_owned(),
        6 => "aborted".to_owned(),
        7 => "bus error".to_owned(),
        8 => "floating point exception".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_read_as_awss_do() {
        assert_eq!(exit_message(Exit::Code(0)), "Runtime exited without providing a reason");
        assert_eq!(exit_message(Exit::Code(3)), "Runtime exited with error: exit status 3");
        assert_eq!(exit_message(Exit::Signal(9)), "Runtime exited with error: signal: killed");
    }

    #[test]
    fn platform_errors_have_their_members_in_order() {
        let answer = platform_error(hearth_model::ErrorType::RUNTIME_EXIT, "a \"b\"");
        assert_eq!(answer.body, r#"{"errorType":"Runtime.ExitError","errorMessage":"a \"b\""}"#);
    }
}
