//! The thread that puts queued events into the file of the day, and deletes days that are too old.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hearth_model::LogEvent;
use rusqlite::Connection;

use super::queue::{Queue, Taken};
use super::{Config, LogsError, days};

/// How often an idle writer looks for days to delete.
const IDLE: Duration = Duration::from_secs(600);
/// Pause after a failed write, before the next.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    folder: PathBuf,
    config: Config,
    queue: Arc<Queue>,
    open: Option<(String, Connection)>,
}

impl Writer {
    pub fn new(folder: PathBuf, config: Config, queue: Arc<Queue>) -> Self {
        Writer { folder, config, queue, open: None }
    }

    /// Until the queue is closed and empty, or closed and the disk takes nothing.
    pub fn run(mut self) {
        self.delete_old();
        while let Some(mut taken) = self.queue.take(IDLE) {
            if taken.is_empty() {
                self.delete_old();
                continue;
            }
            let flushes = std::mem::take(&mut taken.flushes);
            if let Err(error) = self.write(&taken) {
                tracing::error!(%error, batches = taken.batches.len(), "log events could not be written");
                self.open = None;
                self.queue.give_back(taken);
                drop(flushes);
                if self.queue.is_closed() {
                    return;
                }
                self.queue.pause(RETRY);
            }
        }
    }

    fn write(&mut self, taken: &Taken) -> Result<(), LogsError> {
        if taken.dropped_elsewhere > 0 {
            tracing::warn!(events = taken.dropped_elsewhere, "log events were dropped in very many streams");
        }
        if taken.batches.is_empty() && taken.dropped.is_empty() {
            return Ok(());
        }
        let now = self.config.clock.wall();
        let notices: Vec<_> = taken
            .dropped
            .iter()
            .map(|((group, stream), count)| self.queue.number(group, stream, vec![dropped(now, *count)]))
            .collect();
        let today = days::name(now);
        if self.open.as_ref().is_none_or(|(day, _)| *day != today) {
            self.open = None;
            self.delete_old();
            self.open = Some((today.clone(), days::open(&self.folder, &today)?));
        }
        match &mut self.open {
            Some((_, connection)) => days::write(connection, taken.batches.iter().chain(&notices)),
            None => Ok(()),
        }
    }

    fn delete_old(&self) {
        let oldest = self.config.clock.wall().checked_sub(self.config.retention).unwrap_or(SystemTime::UNIX_EPOCH);
        if let Err(error) = days::delete_before(&self.folder, &days::name(oldest)) {
            tracing::warn!(%error, "old logs could not be deleted");
        }
    }
}

fn dropped(at: SystemTime, count: u64) -> LogEvent {
    let message = format!("hearth: {count} log events are missing here: they came faster than they could be written");
    LogEvent { at, message: message.into() }
}
