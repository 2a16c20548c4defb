//! A runtime that was started ahead of need, in a sandbox that is nobody's: it has done all that does not depend on a
//! function, and waits at a socket to be told whose it is.
//!
//! ```text
//!   server                            bootstrap
//!                  ◄── READY          interpreter started, client connected, paths exercised; it blocks
//!   variables, working directory ──►
//!                  ◄── TAKEN          the socket is closed: from here on all is as if it had been started now
//! ```

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hearth_sandbox::{Command, Error, Prepared, Process, Sandbox, Signal, TOLD_FD};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::ahead::Recipe;
use crate::output::Pipe;

/// How long an interpreter may take to get ready, on a host that has much else to do.
const READY_MAX: Duration = Duration::from_secs(20);
/// How long one that waits may take to say that it was told. No function has to wait for this: what answers goes on at
/// once, and what does not is replaced.
const TAKEN_MAX: Duration = Duration::from_secs(3);
const READY: u8 = b'R';
const TAKEN: u8 = b'T';
/// Names the descriptor to the bootstrap.
const TOLD: &str = "_HEARTH_TOLD_FD";

pub(crate) struct Parked {
    pub process: Process,
    /// What it writes to descriptors 1 and 2.
    pub output: Arc<Pipe>,
    /// Its log records.
    pub frames: Arc<Pipe>,
    told: UnixStream,
}

impl Parked {
    /// Starts one. It is ready when this comes back.
    pub async fn start(prepared: &dyn Prepared, recipe: &Recipe) -> Result<Self, Error> {
        match timeout(READY_MAX, Self::begin(prepared, recipe)).await {
            Ok(started) => started,
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn begin(prepared: &dyn Prepared, recipe: &Recipe) -> Result<Self, Error> {
        let ((output, output_end), (frames, frames_end)) = (Pipe::new().map_err(failed)?, Pipe::new().map_err(failed)?);
        let (mut told, told_end) = pair().map_err(failed)?;
        let mut command = recipe.command.iter().cloned();
        let mut environment = recipe.environment.clone();
        environment.push((TOLD.to_owned(), TOLD_FD.to_string()));
        let command = Command {
            program: command.next().unwrap_or_default(),
            arguments: command.collect(),
            environment,
            working_directory: "/".to_owned(),
            output: output_end,
            log: Some(frames_end),
            told: Some(told_end),
        };
        let process = prepared.spawn(command).await?;
        match told.read_u8().await {
            Ok(READY) => {}
            Ok(_) => return Err(failed(io::ErrorKind::InvalidData.into())),
            Err(error) => return Err(failed(error)),
        }
        Ok(Parked { process, output: Arc::new(output), frames: Arc::new(frames), told })
    }

    /// Whether it still waits. One that has died meanwhile is of no use.
    pub fn is_alive(&mut self) -> bool {
        let exit = pin!(&mut self.process.exit);
        matches!(exit.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }

    /// Tells it whose it is. An error when it does not answer: then it was ended. Its pipes are to be read by now.
    pub async fn tell(
        mut self,
        sandbox: &dyn Sandbox,
        environment: &[(String, String)],
        directory: &str,
    ) -> Result<Process, Error> {
        let told = timeout(TAKEN_MAX, self.say(environment, directory)).await;
        let error = match told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => return Ok(self.process),
            Err(error) => error,
        };
        sandbox.signal(self.process.id, Signal::Kill).await?;
        // Nothing that it may have begun goes on beside its replacement.
        let _ = timeout(TAKEN_MAX, &mut self.process.exit).await;
        Err(failed(error))
    }

    async fn say(&mut self, environment: &[(String, String)], directory: &str) -> io::Result<()> {
        let text = serde_json::to_vec(&serde_json::json!({ "environment": environment, "directory": directory }))?;
        self.told.write_all(&text).await?;
        self.told.shutdown().await?;
        match self.told.read_u8().await? {
            TAKEN => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn failed(source: io::Error) -> Error {
    Error::Step { step: "start a runtime ahead of need".into(), source }
}

/// Ours, and the one that is inherited.
fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}
