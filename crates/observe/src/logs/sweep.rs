//! The thread that makes room, after it took over what a former version left: days beyond a group's retention, what was deleted, and, when the disk's share is used up,
//! what is oldest. It works in short steps, so that the writer waits for none of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::block;
use super::catalogue;
use super::days::{self, Removals};
use super::former;
use super::queue::Queue;
use super::{Config, LogsError, failed, millis};

/// How often the size of the files is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often retention is.
const EXPIRE: Duration = Duration::from_secs(600);

pub(super) struct Sweeper {
    pub folder: PathBuf,
    pub config: Config,
    pub removals: Arc<Removals>,
    pub queue: Arc<Queue>,
    /// Something was deleted. Ends when every sender is gone.
    pub told: Receiver<()>,
}

impl Sweeper {
    pub fn run(self) {
        if let Err(error) = former::take_over(&self.folder, &self.queue) {
            tracing::error!(%error, "events of a former version were not all taken over; the next start goes on");
        }
        let mut expired: Option<Instant> = None;
        loop {
            let retention = expired.is_none_or(|expired| expired.elapsed() >= EXPIRE);
            if retention {
                expired = Some(Instant::now());
            }
            if let Err(error) = self.sweep(retention) {
                tracing::warn!(%error, "old logs could not be deleted");
            }
            match self.told.recv_timeout(LOOK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn sweep(&self, retention: bool) -> Result<(), LogsError> {
        let mut catalogue = catalogue::open(&self.folder).map_err(failed)?;
        let now = millis(self.config.clock.wall());
        if retention {
            let change = catalogue::change(&mut catalogue, false).map_err(failed)?;
            catalogue::expire(&change, now, self.config.retention).map_err(failed)?;
            change.commit().map_err(failed)?;
            // Streams may have gone that the writer remembers.
            *self.removals.hold() += 1;
        }
        let doomed = catalogue::doomed(&catalogue).map_err(failed)?;
        for doomed in &doomed {
            // A day that nobody has events of goes as a whole, but for today's, which may be being written.
            if catalogue::is_empty(&catalogue, doomed.day).map_err(failed)? && doomed.day < block::day(now) {
                days::remove(&self.folder, doomed.day, &self.removals)?;
            } else {
                while days::delete(&self.folder, doomed)? {}
            }
            let change = catalogue::change(&mut catalogue, false).map_err(failed)?;
            catalogue::spared(&change, doomed).map_err(failed)?;
            change.commit().map_err(failed)?;
        }
        self.bound(&mut catalogue)
    }

    /// Deletes whole days, the oldest first, and of the last one its oldest blocks.
    fn bound(&self, catalogue: &mut rusqlite::Connection) -> Result<(), LogsError> {
        let mut before = u64::MAX;
        loop {
            let days = days::sizes(&self.folder)?;
            let bytes: u64 = days.iter().map(|(_, bytes)| bytes).sum();
            // Who reads may hold back what was deleted: it is looked at again later.
            if bytes <= self.config.bytes_max || bytes >= before {
                return Ok(());
            }
            before = bytes;
            match days.as_slice() {
                [] => return Ok(()),
                [(day, _)] => {
                    if !days::delete_oldest(&self.folder, *day)? {
                        return Ok(());
                    }
                }
                [(day, bytes), ..] => {
                    tracing::warn!(
                        day,
                        bytes,
                        "the oldest day of logs is deleted: they take more of the disk than they may"
                    );
                    let change = catalogue::change(catalogue, false).map_err(failed)?;
                    catalogue::forget(&change, *day).map_err(failed)?;
                    change.commit().map_err(failed)?;
                    days::remove(&self.folder, *day, &self.removals)?;
                }
            }
        }
    }
}
