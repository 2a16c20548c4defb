//! An environment's own task: what takes time. It makes the sandbox, starts and ends processes, keeps deadlines, and
//! takes in output; what to do, and when, the machine says.

mod ending;
mod processes;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{ErrorType, InvokeError, LogStreamName, Source};
use hearth_runtime_api::{EXTENSIONS_MAX, Server, ShutdownReason};
use hearth_sandbox::{Command, Error, Exit};
use tokio::time::{sleep_until, timeout};

use crate::environment::Worker;
use crate::extension::{self, EXTENSIONS};
use crate::failure::Cause;
use crate::machine::Input;
use crate::make::{self, Made, internal};
use crate::output::{Output, Pipe, Pumped};
use crate::state::{Shared, Work};
use crate::variables;

use processes::{Happened, Processes, Running, Tap, Who};

/// Longest making of a sandbox; a package may have to be unpacked first.
const MAKE_MAX: Duration = Duration::from_secs(60);
/// Longest start of a process, from asking to its first instruction.
const START_MAX: Duration = Duration::from_secs(10);
/// Longest RESET (spec 3.3).
const RESET_MAX: Duration = Duration::from_secs(2);
/// After a process has ended, how long what it said last may take to arrive: its connections are closed by then, unless
/// its children hold them.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Chunks of output taken before other things are looked at.
const CHUNKS_MAX: usize = 4;

const LATE: &str = "a process did not start in time";

pub(crate) async fn drive(worker: Worker, shared: Arc<Shared>, stream: LogStreamName) {
    let made = tokio::select! {
        made = timeout(MAKE_MAX, make::make(&worker, &shared, &stream)) => made,
        () = shared.ended() => Ok(Err(InvokeError::ShuttingDown)),
    };
    match made.unwrap_or_else(|_| Err(internal("the sandbox was not ready in time"))) {
        Ok(made) => {
            let start = make::init_start(&shared, &made, &stream);
            shared.made(made.sandbox.clone(), made.entry.substituted(), start);
            let (address, processes) = (None, Processes::default());
            let mut driver = Driver { shared: shared.clone(), made, server: None, address, processes };
            driver.run().await;
        }
        Err(error) => {
            if !matches!(error, InvokeError::ShuttingDown) {
                tracing::warn!(function = %shared.function.key.name, %error, "an environment could not be made");
            }
            shared.lost(error);
        }
    }
    shared.release();
}

struct Driver {
    shared: Arc<Shared>,
    made: Made,
    server: Option<Server>,
    /// Of the server, when that is not where every sandbox has it.
    address: Option<SocketAddr>,
    processes: Processes,
}

impl Driver {
    async fn run(&mut self) {
        loop {
            match self.shared.plan() {
                Ok(Work::Start) => self.start().await,
                Ok(Work::StartRuntime) => self.start_runtime().await,
                Ok(Work::Reset(reason)) => self.reset(reason).await,
                Ok(Work::End(None)) => return,
                Ok(Work::End(Some(reason))) => return self.end_in_order(reason).await,
                Err(planned) => self.wait(planned).await,
            }
        }
    }

    async fn wait(&mut self, planned: Option<Instant>) {
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = at(planned) => self.shared.tell(Input::Tick),
            happened = self.processes.happens() => match happened {
                Happened::Exited(who, exit) => self.exited(who, exit).await,
                Happened::Readable(place) => self.pump(place),
            },
        }
    }

    /// Output that is there, in the pipe at this place.
    fn pump(&mut self, place: usize) {
        let Some(tap) = self.processes.taps.get_mut(place) else { return };
        tap.paused = None;
        for _ in 0..CHUNKS_MAX {
            match self.shared.pump(tap.output, self.shared.clock.now()) {
                Pumped::Some => {}
                Pumped::Empty => return,
                Pumped::Closed => return tap.pipe = None,
                Pumped::NotBefore(at) => return tap.paused = Some(at),
            }
        }
    }

    async fn exited(&mut self, who: Who, exit: Result<Exit, Error>) {
        if let Some(server) = &self.server {
            let _ = timeout(LAST_WORDS, server.quiet()).await;
        }
        match exit {
            Ok(exit) => match who {
                Who::Runtime => self.shared.exited(exit),
                Who::Extension(at) => self.shared.extension_exited(at, exit),
            },
            Err(error) => self.lost(error),
        }
    }

    fn lost(&self, error: impl std::fmt::Display) {
        tracing::error!(function = %self.shared.function.key.name, %error, "an environment is lost");
        self.shared.lost(internal(error));
    }

    async fn start(&mut self) {
        match timeout(START_MAX, self.serve()).await {
            Ok(Ok(())) if self.made.extensions.is_empty() => self.start_runtime().await,
            Ok(Ok(())) => self.start_extensions().await,
            Ok(Err(error)) => self.lost(error),
            Err(_) => self.lost(LATE),
        }
    }

    async fn serve(&mut self) -> Result<(), InvokeError> {
        let line = self.shared.line(&self.made.extensions);
        let (server, address) = make::serve_runtime_api(&*self.made.sandbox, line).await?;
        (self.server, self.address) = (Some(server), address);
        Ok(())
    }

    /// One after the other; the runtime follows when all have registered.
    async fn start_extensions(&mut self) {
        for (at, name) in self.made.extensions.clone().iter().enumerate() {
            if at == EXTENSIONS_MAX {
                let message = format!("Extension limit ({EXTENSIONS_MAX}) reached");
                let cause = Cause::platform(ErrorType::EXTENSION_LAUNCH, message);
                return self.shared.extension_not_launched(at, cause);
            }
            let program = format!("{EXTENSIONS}/{name}");
            let environment = extension::variables(&self.made);
            match timeout(START_MAX, self.spawn(Who::Extension(at), vec![program], environment, "/")).await {
                Ok(Ok(())) => {}
                Ok(Err(Error::Exec { program, source })) => {
                    let cause = Cause::not_executable(ErrorType::EXTENSION_LAUNCH, &program, &source);
                    return self.shared.extension_not_launched(at, cause);
                }
                Ok(Err(error)) => return self.lost(error),
                Err(_) => return self.lost(LATE),
            }
        }
    }

    async fn start_runtime(&mut self) {
        match timeout(START_MAX, self.start_bootstrap()).await {
            Ok(Ok(())) => self.shared.note(|steps, now| steps.runtime = Some(now)),
            Ok(Err(Unstarted::Function(cause))) => self.shared.fail(cause),
            Ok(Err(Unstarted::Sandbox(error))) => self.lost(error),
            Err(_) => self.lost(LATE),
        }
    }

    async fn start_bootstrap(&mut self) -> Result<(), Unstarted> {
        if self.tell_parked().await {
            return Ok(());
        }
        let commands = self.made.entry.commands(&self.made.variables);
        let directory = self.made.entry.working_directory().into_owned();
        for command in &commands {
            let environment = self.made.variables.clone();
            match self.spawn(Who::Runtime, command.clone(), environment, &directory).await {
                Ok(()) => return Ok(()),
                Err(Error::Exec { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(Error::Exec { program, source }) => {
                    let cause = Cause::not_executable(ErrorType::INVALID_ENTRYPOINT, &program, &source);
                    return Err(Unstarted::Function(cause));
                }
                Err(error) => return Err(Unstarted::Sandbox(internal(error))),
            }
        }
        Err(Unstarted::Function(self.made.entry.nothing_to_execute(&commands, &self.made.variables)))
    }

    /// Tells a runtime that waits whose it is. One that does not answer has ended, and another is started in its place.
    async fn tell_parked(&mut self) -> bool {
        let Some(parked) = self.made.parked.take() else { return false };
        let directory = self.made.entry.working_directory().into_owned();
        let tapped = self.tap(parked.output.clone(), Some(parked.frames.clone()), Source::Function);
        match parked.tell(&*self.made.sandbox, &self.made.variables, &directory).await {
            Ok(process) => {
                self.processes.all.push(Running { who: Who::Runtime, id: process.id, exit: Some(process.exit) });
                true
            }
            Err(error) => {
                self.untap(tapped);
                tracing::warn!(%error, "a runtime that was started ahead of need is of no use");
                false
            }
        }
    }

    /// Starts a process; its output is known to the environment before it can have written any.
    async fn spawn(
        &mut self,
        who: Who,
        command: Vec<String>,
        mut environment: Vec<(String, String)>,
        working_directory: &str,
    ) -> Result<(), Error> {
        let (pipe, output) = pipe()?;
        // Runtimes of Hearth's own frame their records; whatever a custom one does, it is not told of the pipe.
        let framed = who == Who::Runtime && variables::frames_logs(&self.shared.function.program);
        let (frames, log) = if framed { Some(self::pipe()?) } else { None }.unzip();
        if let Some(address) = self.address {
            let told = environment.iter_mut().find(|(key, _)| key == "AWS_LAMBDA_RUNTIME_API");
            told.into_iter().for_each(|(_, value)| *value = address.to_string());
        }
        let mut command = command.into_iter();
        let command = Command {
            program: command.next().unwrap_or_default(),
            arguments: command.collect(),
            environment,
            working_directory: working_directory.to_owned(),
            output,
            log,
            told: None,
        };
        let source = match who {
            Who::Runtime => Source::Function,
            Who::Extension(_) => Source::Extension,
        };
        let tapped = self.tap(pipe, frames, source);
        match self.made.sandbox.spawn(command).await {
            Ok(process) => {
                self.processes.all.push(Running { who, id: process.id, exit: Some(process.exit) });
                Ok(())
            }
            Err(error) => {
                self.untap(tapped);
                Err(error)
            }
        }
    }

    /// Takes in what is written to these pipes. Answers where they begin among the outputs and among the taps.
    fn tap(&mut self, pipe: Arc<Pipe>, frames: Option<Arc<Pipe>>, source: Source) -> (usize, usize) {
        let (now, taps) = (self.shared.clock.now(), &mut self.processes.taps);
        let first = (self.shared.add_output(Output::lines(pipe.clone(), source, now)), taps.len());
        taps.push(Tap { pipe: Some(pipe), output: first.0, paused: None });
        if let Some(frames) = frames {
            let output = self.shared.add_output(Output::frames(frames.clone(), now));
            taps.push(Tap { pipe: Some(frames), output, paused: None });
        }
        first
    }

    /// Nobody writes to these pipes after all.
    fn untap(&mut self, (output, tap): (usize, usize)) {
        self.shared.drop_outputs(output);
        self.processes.taps.truncate(tap);
    }

    /// RESET: every process ends, `/tmp` stays.
    async fn reset(&mut self, reason: ShutdownReason) {
        self.end_in_order(reason).await;
        let killed = timeout(RESET_MAX, self.made.sandbox.kill_processes()).await;
        self.processes = Processes::default();
        if let Some(server) = self.server.take() {
            server.close().await;
        }
        self.shared.end_outputs();
        self.shared.processes_ended();
        match killed {
            Ok(Ok(())) => self.shared.tell(Input::ResetDone),
            Ok(Err(error)) => self.lost(error),
            Err(_) => self.lost("processes could not be ended in time"),
        }
    }
}

/// Why there is no process.
enum Unstarted {
    /// The function's own fault.
    Function(Cause),
    Sandbox(InvokeError),
}

fn pipe() -> Result<(Arc<Pipe>, OwnedFd), Error> {
    let made = Pipe::new().map_err(|source| Error::Step { step: "make a pipe".into(), source });
    made.map(|(reader, writer)| (Arc::new(reader), writer))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
