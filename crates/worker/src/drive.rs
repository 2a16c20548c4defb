//! An environment's own task: what takes time. It makes the sandbox, starts and ends processes, keeps deadlines, and
//! takes in output; what to do, and when, the machine says.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{BoxFuture, Family, InvokeError, LogStreamName};
use hearth_runtime_api::Server;
use hearth_sandbox::{Command, Error, Exit};
use tokio::time::{sleep_until, timeout};

use crate::environment::Worker;
use crate::failure::Cause;
use crate::machine::Input;
use crate::make::{self, Made, internal};
use crate::output::{Output, Pipe, Pumped};
use crate::state::{Shared, Work};

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

const EXEC_WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";

pub(crate) async fn drive(worker: Worker, shared: Arc<Shared>, stream: LogStreamName) {
    let made = tokio::select! {
        made = timeout(MAKE_MAX, make::make(&worker, &shared, &stream)) => made,
        () = shared.ended() => Ok(Err(InvokeError::ShuttingDown)),
    };
    match made.unwrap_or_else(|_| Err(internal("the sandbox was not ready in time"))) {
        Ok(made) => {
            shared.made(made.sandbox.clone(), &make::records(&shared, &made));
            let mut driver =
                Driver { shared: shared.clone(), made, server: None, exit: None, pipe: None, paused: None };
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
    /// Of the runtime's process.
    exit: Option<BoxFuture<'static, Result<Exit, Error>>>,
    pipe: Option<Arc<Pipe>>,
    /// Output is not taken before then.
    paused: Option<Instant>,
}

impl Driver {
    async fn run(&mut self) {
        loop {
            match self.shared.plan() {
                Ok(Work::Start) => self.start().await,
                Ok(Work::Reset) => self.reset().await,
                Ok(Work::End) => return,
                Err(planned) => self.wait(planned).await,
            }
        }
    }

    async fn wait(&mut self, planned: Option<Instant>) {
        tokio::select! {
            () = self.shared.wake.notified() => {}
            () = at(planned) => self.shared.tell(Input::Tick),
            exit = ended(&mut self.exit) => self.exited(exit).await,
            () = readable(self.pipe.as_deref(), self.paused) => self.pump(),
        }
    }

    /// Output that is there.
    fn pump(&mut self) {
        self.paused = None;
        for _ in 0..CHUNKS_MAX {
            match self.shared.pump(self.shared.clock.now()) {
                Pumped::Some => {}
                Pumped::Empty => return,
                Pumped::Closed => self.pipe = None,
                Pumped::NotBefore(at) => self.paused = Some(at),
            }
            if self.pipe.is_none() || self.paused.is_some() {
                return;
            }
        }
    }

    async fn exited(&mut self, exit: Result<Exit, Error>) {
        self.exit = None;
        if let Some(server) = &self.server {
            let _ = timeout(LAST_WORDS, server.quiet()).await;
        }
        match exit {
            Ok(exit) => self.shared.exited(exit),
            Err(error) => self.lost(error),
        }
    }

    fn lost(&self, error: impl std::fmt::Display) {
        tracing::error!(function = %self.shared.function.key.name, %error, "an environment is lost");
        self.shared.lost(internal(error));
    }

    async fn start(&mut self) {
        match timeout(START_MAX, self.start_process()).await {
            Ok(Ok(())) => {}
            Ok(Err(Unstarted::Function(cause))) => self.shared.fail(cause),
            Ok(Err(Unstarted::Sandbox(error))) => self.lost(error),
            Err(_) => self.lost("a process did not start in time"),
        }
    }

    async fn start_process(&mut self) -> Result<(), Unstarted> {
        let sandbox = self.made.sandbox.clone();
        let line = self.shared.line();
        let (server, address) = make::serve_runtime_api(&*sandbox, line).await.map_err(unstarted)?;
        self.server = Some(server);
        let commands = self.commands();
        for command in &commands {
            let (pipe, writer) = Pipe::new().map_err(unstarted)?;
            let pipe = Arc::new(pipe);
            self.shared.set_output(Some(Output::new(pipe.clone(), self.shared.clock.now())));
            match sandbox.spawn(self.command(command, address, writer)).await {
                Ok(process) => {
                    (self.exit, self.pipe, self.paused) = (Some(process.exit), Some(pipe), None);
                    return Ok(());
                }
                Err(Error::Exec { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(Error::Exec { program, source }) => {
                    return Err(Unstarted::Function(Cause::not_executable(&program, &source)));
                }
                Err(error) => return Err(unstarted(error)),
            }
        }
        Err(Unstarted::Function(self.nothing_to_execute(&commands)))
    }

    /// Commands to try, in order, while the program is not there.
    fn commands(&self) -> Vec<Vec<String>> {
        if self.shared.function.runtime.family() == Family::Provided {
            return vec![vec!["/var/task/bootstrap".to_owned()], vec!["/opt/bootstrap".to_owned()]];
        }
        let wrapper = self.wrapper().map(str::to_owned);
        vec![wrapper.into_iter().chain(self.made.tree.command.iter().cloned()).collect()]
    }

    /// A managed runtime's command line is executed by this program, if there is one (spec 3.1).
    fn wrapper(&self) -> Option<&str> {
        let variable = self.made.variables.iter().find(|(key, _)| key == EXEC_WRAPPER);
        variable.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn nothing_to_execute(&self, tried: &[Vec<String>]) -> Cause {
        if self.shared.function.runtime.family() != Family::Provided && self.wrapper().is_some() {
            // AWS starts a wrapper from a shell, which ends like this.
            return Cause::exit(Exit::Code(127));
        }
        let programs: Vec<String> = tried.iter().filter_map(|command| command.first().cloned()).collect();
        Cause::no_bootstrap(&programs)
    }

    fn command(&self, command: &[String], address: Option<SocketAddr>, output: OwnedFd) -> Command {
        let (program, arguments) = command.split_first().map_or((String::new(), &[][..]), |(p, a)| (p.clone(), a));
        let mut environment = self.made.variables.clone();
        if let Some(address) = address {
            let told = environment.iter_mut().find(|(key, _)| key == "AWS_LAMBDA_RUNTIME_API");
            told.into_iter().for_each(|(_, value)| *value = address.to_string());
        }
        Command {
            program,
            arguments: arguments.to_vec(),
            environment,
            working_directory: "/var/task".to_owned(),
            output,
        }
    }

    /// RESET: every process ends, `/tmp` stays.
    async fn reset(&mut self) {
        let killed = timeout(RESET_MAX, self.made.sandbox.kill_processes()).await;
        (self.exit, self.pipe, self.paused) = (None, None, None);
        if let Some(server) = self.server.take() {
            server.close().await;
        }
        self.shared.set_output(None);
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

fn unstarted(error: impl std::fmt::Display) -> Unstarted {
    Unstarted::Sandbox(internal(error))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

async fn ended(exit: &mut Option<BoxFuture<'static, Result<Exit, Error>>>) -> Result<Exit, Error> {
    match exit {
        Some(exit) => exit.await,
        None => std::future::pending().await,
    }
}

async fn readable(pipe: Option<&Pipe>, paused: Option<Instant>) {
    let Some(pipe) = pipe else { return std::future::pending().await };
    if paused.is_some() {
        at(paused).await;
    }
    pipe.readable().await;
}
