//! The end of processes in order (spec 3.3): the runtime is asked to end, external extensions are told why, and nobody
//! gets more time than there is.

use std::time::Instant;

use hearth_runtime_api::ShutdownReason;
use hearth_sandbox::Signal;
use tokio::time::sleep_until;

use super::Driver;
use super::processes::{Happened, Running, Who};
use crate::ending::Budget;

impl Driver {
    /// Does nothing when there are no extensions. What still runs afterwards is to be killed.
    pub(super) async fn end_in_order(&mut self, reason: ShutdownReason) {
        let Some(Budget { runtime, whole }) = self.shared.budget() else { return };
        let begun = Instant::now();
        if self.made.sandbox.thaw().is_err() {
            return;
        }
        self.signal(Signal::Terminate, |process| process.who == Who::Runtime).await;
        self.wait_for(begun + runtime, |process| process.who == Who::Runtime).await;
        self.signal(Signal::Kill, |process| process.who == Who::Runtime).await;
        let deadline = begun + whole;
        let left = deadline.saturating_duration_since(Instant::now());
        let ends_itself = self.shared.shut_down_extensions(self.made.extensions.len(), reason, left);
        let is_to_end = |process: &Running| match process.who {
            Who::Runtime => false,
            Who::Extension(at) => ends_itself.get(at) == Some(&true),
        };
        self.signal(Signal::Kill, |process| process.who != Who::Runtime && !is_to_end(process)).await;
        self.wait_for(deadline, is_to_end).await;
    }

    async fn signal(&mut self, signal: Signal, whom: impl Fn(&Running) -> bool) {
        let ids: Vec<u32> =
            self.processes.running().filter(|process| whom(process)).map(|process| process.id).collect();
        for id in ids {
            if let Err(error) = self.made.sandbox.signal(id, signal).await {
                tracing::debug!(%error, "a process could not be signalled");
            }
        }
    }

    /// Takes in output until these have ended, or their time is over.
    async fn wait_for(&mut self, deadline: Instant, whom: impl Fn(&Running) -> bool) {
        while self.processes.running().any(&whom) {
            tokio::select! {
                happened = self.processes.happens() => match happened {
                    Happened::Readable(place) => self.pump(place),
                    Happened::Exited(_, Ok(_)) => {}
                    Happened::Exited(_, Err(_)) => return,
                },
                () = sleep_until(deadline.into()) => return,
            }
        }
    }
}
