//! The driver of one mapping: brings its transitions to their end, and while it is enabled does what the machine says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_model::{FunctionArn, LookupError};
use hearth_patterns::Pattern;
use hearth_store::queue::Ms;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::batch;
use crate::counts::add;
use crate::filter;
use crate::life::State;
use crate::machine::{Batch, Ended, Machine, Plan, Step};
use crate::mappings::{Live, Shared};
use crate::record::{MappingRecord, Settings};
use crate::scale::Rule;
use crate::shards;
use crate::source::{Polled, Reader, Source, SourceError, Want};

/// Longest wait of a poll, milliseconds (AWS: long polling of 20 s).
const POLL_WAIT: Ms = 20_000;

type Changes = watch::Receiver<Arc<MappingRecord>>;

/// Ready when the mapping is gone, or the server ends.
pub async fn run(shared: Arc<Shared>, live: Arc<Live>) {
    let mut changes = live.changes();
    while !shared.stopping.is_cancelled() {
        let state = changes.borrow_and_update().state;
        match state {
            State::Deleting => return shared.remove(&live).await,
            State::Enabled if live.record().settings.stream.is_some() => {
                shards::run(&shared, &live, &mut changes).await
            }
            State::Enabled => Poller::new(&shared, &live).run(&mut changes).await,
            State::Disabled => {
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = shared.stopping.cancelled() => {}
                }
            }
            State::Creating | State::Enabling | State::Disabling | State::Updating => shared.settle(&live, state).await,
        }
    }
}

struct Poller {
    shared: Arc<Shared>,
    live: Arc<Live>,
    source: Arc<dyn Source>,
    filters: Arc<[Pattern]>,
    machine: Machine,
    runs: JoinSet<(Batch, Ended)>,
    polls: JoinSet<Result<Polled, SourceError>>,
    /// Ends the wait of a poll.
    quit: CancellationToken,
    /// Of the function, as the last poll found it.
    timeout: Duration,
}

enum Heard {
    Ran(Result<(Batch, Ended), JoinError>),
    Polled(Result<Result<Polled, SourceError>, JoinError>),
    Changed,
    Stopping,
    Time,
}

impl Poller {
    fn new(shared: &Arc<Shared>, live: &Arc<Live>) -> Self {
        let record = live.record();
        Poller {
            source: shared.source(&record),
            filters: filter::compiled(&record.settings.filters),
            machine: Machine::new(plan(&record, Duration::ZERO), shared.now()),
            shared: shared.clone(),
            live: live.clone(),
            runs: JoinSet::new(),
            polls: JoinSet::new(),
            quit: CancellationToken::new(),
            timeout: Duration::ZERO,
        }
    }

    /// Until the mapping is no longer to be enabled, and nothing is under way.
    async fn run(&mut self, changes: &mut Changes) {
        let mut is_stopping = false;
        loop {
            let now = self.shared.now();
            self.live.numbers.pollers.store(u64::from(self.machine.pollers().unwrap_or_default()), Ordering::Relaxed);
            let until = match self.machine.next(now) {
                Step::Left => break,
                Step::Run(batch) => {
                    self.runs.spawn(batch::run(self.shared.clone(), self.live.clone(), self.source.clone(), batch));
                    continue;
                }
                Step::Poll { limit, bytes_max } => {
                    self.poll(limit, bytes_max, now);
                    continue;
                }
                Step::Wait(until) => until,
            };
            match self.hear(changes, until.map(|until| until.saturating_sub(now)), is_stopping).await {
                Heard::Ran(ran) => self.ran(ran),
                Heard::Polled(polled) => self.polled(polled, is_stopping).await,
                Heard::Changed => {
                    let record = changes.borrow_and_update().clone();
                    self.changed(&record).await;
                }
                Heard::Stopping => {
                    is_stopping = true;
                    self.quit.cancel();
                    let rest = self.machine.give_up().into_iter().map(|record| record.handle).collect();
                    self.give_back(rest).await;
                }
                Heard::Time => {}
            }
        }
        self.live.numbers.pollers.store(0, Ordering::Relaxed);
    }

    async fn hear(&mut self, changes: &mut Changes, sleep: Option<Ms>, is_stopping: bool) -> Heard {
        let stopping = self.shared.stopping.clone();
        tokio::select! {
            Some(ran) = self.runs.join_next() => Heard::Ran(ran),
            Some(polled) = self.polls.join_next() => Heard::Polled(polled),
            Ok(()) = changes.changed() => Heard::Changed,
            () = stopping.cancelled(), if !is_stopping => Heard::Stopping,
            () = tokio::time::sleep(Duration::from_millis(sleep.unwrap_or(Ms::MAX))), if sleep.is_some() => Heard::Time,
        }
    }

    /// Asks the source, if there is a function to ask for. What no filter wants is settled before the rest is answered.
    fn poll(&mut self, limit: usize, bytes_max: u64, now: Ms) {
        let record = self.live.record();
        let function = FunctionArn::parse(&record.function).map(|arn| self.shared.ports.functions.known(&arn));
        let function = match function {
            Some(Ok(function)) => function,
            Some(Err(LookupError::NotReady(_) | LookupError::Idle(_))) => return self.machine.poll_failed(now),
            _ => {
                self.live.has_problem(Some("PROBLEM: Function does not exist".to_owned()));
                return self.machine.poll_failed(now);
            }
        };
        self.timeout = function.timeout;
        self.machine.change(plan(&record, self.timeout));
        let reader = Reader { account: function.key.account.to_string(), role: function.role.clone() };
        let want = Want {
            limit,
            bytes_max,
            hold: Duration::from_secs(u64::from(record.settings.window_s)) + self.timeout,
            wait: Duration::from_millis(self.machine.patience(POLL_WAIT, now)),
            quit: self.quit.child_token(),
        };
        let (source, filters, live) = (self.source.clone(), self.filters.clone(), self.live.clone());
        self.polls.spawn(async move {
            let polled = source.poll(reader.clone(), want, filters).await?;
            add(&live.numbers.polled, polled.wanted.len() + polled.unwanted.len());
            add(&live.numbers.filtered_out, polled.unwanted.len());
            if !polled.unwanted.is_empty() {
                let count = polled.unwanted.len();
                // What is not settled comes again, and is not wanted again.
                match source.settle(reader, polled.unwanted).await {
                    Ok(()) => add(&live.numbers.deleted, count),
                    Err(error) => tracing::warn!(mapping = %live.uuid, %error, "unwanted records stay"),
                }
            }
            Ok(Polled { wanted: polled.wanted, unwanted: Vec::new() })
        });
    }

    async fn polled(&mut self, polled: Result<Result<Polled, SourceError>, JoinError>, is_stopping: bool) {
        let now = self.shared.now();
        match polled {
            Ok(Ok(polled)) if is_stopping => {
                self.machine.polled(Vec::new(), now);
                self.give_back(polled.wanted.into_iter().map(|record| record.handle).collect()).await;
            }
            Ok(Ok(polled)) => {
                self.live.has_problem(None);
                self.machine.polled(polled.wanted, now);
            }
            Ok(Err(error)) => {
                self.live.has_problem(Some(format!("PROBLEM: {error}")));
                self.machine.poll_failed(now);
            }
            Err(error) => {
                tracing::error!(mapping = %self.live.uuid, %error, "a poll broke off");
                self.machine.poll_failed(now);
            }
        }
    }

    fn ran(&mut self, ran: Result<(Batch, Ended), JoinError>) {
        match ran {
            Ok((batch, ended)) => {
                if self.machine.ended(batch, ended, self.shared.now()).is_some() {
                    tracing::debug!(mapping = %self.live.uuid, "a batch that found no room goes back to its source");
                }
            }
            Err(error) => {
                tracing::error!(mapping = %self.live.uuid, %error, "a run broke off");
                self.machine.broke();
            }
        }
    }

    async fn changed(&mut self, record: &MappingRecord) {
        match record.state {
            State::Updating if record.enabled => {
                self.filters = filter::compiled(&record.settings.filters);
                // A poll that waits goes by what was asked for before.
                self.quit.cancel();
                self.quit = CancellationToken::new();
                self.machine.change(plan(record, self.timeout));
                self.shared.settle(&self.live, State::Updating).await;
            }
            State::Enabled | State::Enabling | State::Creating => {}
            State::Updating | State::Disabling | State::Disabled | State::Deleting => {
                self.machine.leave();
                self.quit.cancel();
            }
        }
    }

    async fn give_back(&self, handles: Vec<String>) {
        if handles.is_empty() {
            return;
        }
        if let Err(error) = self.source.give_back(batch::reader(&self.shared, &self.live), handles).await {
            tracing::warn!(mapping = %self.live.uuid, %error, "records come again only after their timeout");
        }
    }
}

/// `timeout`: of the function.
fn plan(record: &MappingRecord, timeout: Duration) -> Plan {
    let Settings { batch_size, window_s, concurrency_max: max, pollers, .. } = record.settings;
    let is_fifo = record.is_fifo();
    let rule = match pollers {
        Some(pollers) => Rule::Provisioned { min: pollers.min, max: pollers.max },
        None if is_fifo => Rule::Fifo { max },
        None => Rule::Standard { max },
    };
    // The order of a group holds only while a run ends before its records are somebody else's.
    let run = if is_fifo { Ms::try_from(timeout.as_millis()).unwrap_or(Ms::MAX) } else { 0 };
    Plan { batch_size: batch_size as usize, window: u64::from(window_s) * 1000, rule, run }
}
