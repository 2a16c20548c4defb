//! The processes of an environment that run or have left output: what happens to any of them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use hearth_model::BoxFuture;
use hearth_sandbox::{Error, Exit};

use super::at;
use crate::output::Pipe;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Runtime,
    /// An external extension, by its place.
    Extension(usize),
}

pub(super) enum Happened {
    Exited(Who, Result<Exit, Error>),
    /// There may be something in the pipe at this place.
    Readable(usize),
}

pub(super) struct Running {
    pub who: Who,
    /// Names it to its sandbox.
    pub id: u32,
    /// Until it has ended.
    pub exit: Option<BoxFuture<'static, Result<Exit, Error>>>,
}

/// What a process writes to.
pub(super) struct Tap {
    /// Until it is closed.
    pub pipe: Option<Arc<Pipe>>,
    /// Where it is known to the environment.
    pub output: usize,
    /// Output is not taken before then.
    pub paused: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Processes {
    pub all: Vec<Running>,
    pub taps: Vec<Tap>,
}

impl Processes {
    /// Waits for the next thing that happens. Nothing is lost when it is dropped.
    pub async fn happens(&mut self) -> Happened {
        let mut outputs: Vec<(usize, BoxFuture<'static, ()>)> = Vec::new();
        for (place, tap) in self.taps.iter().enumerate() {
            if let Some(pipe) = tap.pipe.clone() {
                let paused = tap.paused;
                outputs.push((place, Box::pin(async move { readable(&pipe, paused).await })));
            }
        }
        poll_fn(|context| {
            for process in &mut self.all {
                let Some(exit) = &mut process.exit else { continue };
                if let Poll::Ready(exit) = exit.as_mut().poll(context) {
                    process.exit = None;
                    return Poll::Ready(Happened::Exited(process.who, exit));
                }
            }
            let ready = outputs.iter_mut().position(|(_, output)| output.as_mut().poll(context).is_ready());
            ready.map_or(Poll::Pending, |at| Poll::Ready(Happened::Readable(outputs[at].0)))
        })
        .await
    }

    /// Those that still run.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.all.iter().filter(|process| process.exit.is_some())
    }
}

async fn readable(pipe: &Pipe, paused: Option<Instant>) {
    if paused.is_some() {
        at(paused).await;
    }
    pipe.readable().await;
}
