//! Dead letters on their way back: tasks that move messages out of a dead-letter queue. A task is a record, so that it goes
//! on where it was when the server starts again; each message is moved in one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hearth_store::queue::Change;
use hearth_store::{Expect, Write};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_sqs::MovesApi;
use hearth_wire_sqs::errors::{resource_not_found_exception, unsupported_operation};
use hearth_wire_sqs::types::{
    CancelMessageMoveTaskRequest, CancelMessageMoveTaskResult, ListDeadLetterSourceQueuesRequest,
    ListDeadLetterSourceQueuesResult, ListMessageMoveTasksRequest, ListMessageMoveTasksResult,
    ListMessageMoveTasksResultEntry, StartMessageMoveTaskRequest, StartMessageMoveTaskResult,
};
use tokio::task::JoinSet;

use crate::access;
use crate::live::Live;
use crate::making::page;
use crate::names::Place;
use crate::queues::{Outcome, Queues};
use crate::receiving::{BYTES_MAX, Want};
use crate::record::{MOVE, MoveRecord, Status, key};
use crate::refusals::{given, invalid_value, unstored};
use crate::sending::change;

/// Tasks of a queue that a list knows.
const LISTED_MAX: usize = 10;
/// Tasks that are read: of all queues of an account and region.
const TASKS_MAX: usize = 1000;
const RATE_MAX: i64 = 500;
/// How long what is being moved is hidden.
const HIDDEN: Duration = Duration::from_secs(30);

#[async_trait]
impl MovesApi for Queues {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn list_dead_letter_source_queues(
        &self,
        cx: &Context,
        input: ListDeadLetterSourceQueuesRequest,
    ) -> Result<ListDeadLetterSourceQueuesResult, Error> {
        let live = self.asked(cx, input.queue_url, "ListDeadLetterSourceQueues")?;
        let (page, next_token) = page(self.sources(&live), input.max_results, input.next_token)?;
        let urls = page.iter().map(|live| live.place.url(cx)).collect();
        Ok(ListDeadLetterSourceQueuesResult { queue_urls: Some(urls), next_token })
    }

    async fn start_message_move_task(
        &self,
        cx: &Context,
        input: StartMessageMoveTaskRequest,
    ) -> Result<StartMessageMoveTaskResult, Error> {
        let source = self.by_arn(cx, input.source_arn, "SourceArn", "StartMessageMoveTask")?;
        if self.sources(&source).is_empty() {
            let reason = "Source queue must be configured as a Dead Letter Queue.";
            return Err(invalid_value(source.place.arn(), "SourceArn", reason));
        }
        let destination = match input.destination_arn {
            None => None,
            Some(arn) => Some(self.by_arn(cx, Some(arn), "DestinationArn", "SendMessage")?),
        };
        if destination.as_ref().is_some_and(|destination| destination.is_fifo != source.is_fifo) {
            let reason = "Destination queue must be same type of queue as the source.";
            return Err(invalid_value("", "DestinationArn", reason));
        }
        let rate = match input.max_number_of_messages_per_second {
            None => None,
            Some(rate) if (1..=RATE_MAX).contains(&rate) => u32::try_from(rate).ok(),
            Some(rate) => {
                let reason = "Must be between 1 and 500, if provided.";
                return Err(invalid_value(rate, "MaxNumberOfMessagesPerSecond", reason));
            }
        };
        let _turn = self.inner.turn.lock().await;
        let tasks = self.tasks(&source.place).await?;
        if tasks.iter().any(|task| task.status == Status::Running) {
            return Err(unsupported_operation(
                "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
            ));
        }
        let now = self.now();
        let counts = self.inner.ports.messages.counts((*source.queue).clone(), now).await.map_err(unstored)?;
        let arn = source.place.arn();
        let handle = STANDARD.encode(format!("{} {arn}", uuid::Uuid::new_v4()));
        let record = MoveRecord {
            handle: handle.clone(),
            source: arn,
            destination: destination.map(|destination| destination.place.arn()),
            rate,
            started: now,
            status: Status::Running,
            moved: 0,
            to_move: counts.due,
            failure: None,
        };
        self.put(&source.place, MOVE, &record.handle, &record).await?;
        // No list goes further back.
        let old: Vec<Write> = tasks.iter().skip(LISTED_MAX - 1).map(|task| forgotten(&source.place, task)).collect();
        if !old.is_empty() {
            self.inner.ports.records.commit(old).await.map_err(unstored)?;
        }
        self.inner.moves.notify_one();
        Ok(StartMessageMoveTaskResult { task_handle: Some(handle) })
    }

    async fn cancel_message_move_task(
        &self,
        cx: &Context,
        input: CancelMessageMoveTaskRequest,
    ) -> Result<CancelMessageMoveTaskResult, Error> {
        let handle = given(input.task_handle, "TaskHandle")?;
        let absent = || resource_not_found_exception("Task does not exist.");
        let text = STANDARD.decode(&handle).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(absent)?;
        let place = text.split_once(' ').and_then(|(_, arn)| Place::of_arn(arn)).ok_or_else(absent)?;
        let live = self.inner.all.find(&place).ok_or_else(absent)?;
        access::check(cx, &live, "CancelMessageMoveTask")?;
        let _turn = self.inner.turn.lock().await;
        let task: Option<MoveRecord> = self.get(&place, MOVE, &handle).await?;
        let mut task = task.ok_or_else(absent)?;
        if task.status != Status::Running {
            return Err(resource_not_found_exception("Only active tasks can be cancelled."));
        }
        task.status = Status::Cancelled;
        self.put(&place, MOVE, &handle, &task).await?;
        Ok(CancelMessageMoveTaskResult { approximate_number_of_messages_moved: i64::try_from(task.moved).ok() })
    }

    async fn list_message_move_tasks(
        &self,
        cx: &Context,
        input: ListMessageMoveTasksRequest,
    ) -> Result<ListMessageMoveTasksResult, Error> {
        let source = self.by_arn(cx, input.source_arn, "SourceArn", "ListMessageMoveTasks")?;
        let limit = match input.max_results {
            None => 1,
            Some(limit) => {
                usize::try_from(limit).ok().filter(|limit| (1..=LISTED_MAX).contains(limit)).ok_or_else(|| {
                    invalid_value(limit, "MaxResults", "Value for parameter MaxResults must be between 1 and 10.")
                })?
            }
        };
        let mut tasks = self.tasks(&source.place).await?;
        tasks.truncate(limit);
        Ok(ListMessageMoveTasksResult { results: Some(tasks.into_iter().map(shown).collect()) })
    }
}

pub fn forgotten(source: &Place, task: &MoveRecord) -> Write {
    Write::Delete { key: key(source, MOVE, &task.handle), expect: Expect::Anything }
}

fn shown(task: MoveRecord) -> ListMessageMoveTasksResultEntry {
    let number = |number: u64| i64::try_from(number).ok();
    let is_running = task.status == Status::Running;
    ListMessageMoveTasksResultEntry {
        // Only what can be cancelled has one.
        task_handle: is_running.then_some(task.handle),
        status: Some(task.status.as_str().to_owned()),
        source_arn: Some(task.source),
        destination_arn: task.destination,
        max_number_of_messages_per_second: task.rate.map(i64::from),
        approximate_number_of_messages_moved: number(task.moved),
        approximate_number_of_messages_to_move: number(task.to_move),
        failure_reason: task.failure,
        started_timestamp: number(task.started),
    }
}

impl Queues {
    fn by_arn(&self, cx: &Context, arn: Option<String>, parameter: &str, action: &str) -> Result<Arc<Live>, Error> {
        let arn = given(arn, parameter)?;
        let absent = || {
            resource_not_found_exception(format!(
                "The resource that you specified for the {parameter} parameter doesn't exist."
            ))
        };
        let place = Place::of_arn(&arn).ok_or_else(|| {
            invalid_value(arn.chars().take(200).collect::<String>(), parameter, "It is no ARN of a queue.")
        })?;
        let live = self.inner.all.find(&place).ok_or_else(absent)?;
        access::check(cx, &live, action)?;
        Ok(live)
    }

    /// Queues whose dead letters come here.
    fn sources(&self, live: &Live) -> Vec<Arc<Live>> {
        let mut all = self.inner.all.of(&live.place.account, &live.place.region);
        all.retain(|other| other.kept().settings.redrive.as_ref().is_some_and(|redrive| redrive.target == live.place));
        all
    }

    /// Of a source, the latest first.
    pub(crate) async fn tasks(&self, source: &Place) -> Result<Vec<MoveRecord>, Error> {
        let list = self.inner.ports.records.list(source.partition(), MOVE, None, TASKS_MAX);
        let arn = source.arn();
        let read = list.await.map_err(unstored)?.into_iter().map(|record| serde_json::from_slice(&record.value));
        let mut tasks: Vec<MoveRecord> = read.collect::<Result<_, _>>().map_err(unstored)?;
        tasks.retain(|task| task.source == arn);
        tasks.sort_by_key(|task| std::cmp::Reverse(task.started));
        Ok(tasks)
    }

    /// Begins every task that is running and that nobody is at: that of a server that ended, or a new one.
    pub(crate) async fn resume(&self, moving: &mut JoinSet<()>) {
        let tasks = match self.inner.ports.records.all(MOVE, None, TASKS_MAX).await {
            Ok(tasks) => tasks,
            Err(error) => return tracing::error!(%error, "tasks of moving messages could not be read"),
        };
        for record in tasks {
            let Ok(task) = serde_json::from_slice::<MoveRecord>(&record.value) else { continue };
            if task.status != Status::Running || !self.claim(&task.handle) {
                continue;
            }
            let own = self.clone();
            moving.spawn(async move {
                let handle = task.handle.clone();
                if let Err(error) = own.work(task).await {
                    tracing::error!(error = error.message, "a task of moving messages stopped");
                }
                own.release(&handle);
            });
        }
    }

    fn claim(&self, handle: &str) -> bool {
        self.inner.moving.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(handle.to_owned())
    }

    fn release(&self, handle: &str) {
        self.inner.moving.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(handle);
    }

    /// Moves what was in the queue when the task began, until it is told to stop.
    async fn work(&self, task: MoveRecord) -> Result<(), Error> {
        let Some(source) = Place::of_arn(&task.source).and_then(|place| self.inner.all.find(&place)) else {
            return Ok(());
        };
        loop {
            let begun = tokio::time::Instant::now();
            let (moved, end) = self.step(&task, &source).await?;
            let _turn = self.inner.turn.lock().await;
            let kept: Option<MoveRecord> = self.get(&source.place, MOVE, &task.handle).await?;
            let Some(mut kept) = kept else { return Ok(()) };
            kept.moved += moved;
            if let (Some((status, failure)), Status::Running) = (end, kept.status) {
                (kept.status, kept.failure) = (status, failure);
            }
            if kept.status == Status::Running && kept.moved >= kept.to_move {
                kept.status = Status::Completed;
            }
            self.put(&source.place, MOVE, &task.handle, &kept).await?;
            if kept.status != Status::Running {
                return Ok(());
            }
            drop(_turn);
            if let Some(rate) = task.rate {
                let pause = Duration::from_secs_f64(moved as f64 / f64::from(rate));
                tokio::time::sleep_until(begun + pause).await;
            }
        }
    }

    /// Moves a few messages. Answers how the task ends, where it does.
    async fn step(
        &self,
        task: &MoveRecord,
        source: &Arc<Live>,
    ) -> Result<(u64, Option<(Status, Option<String>)>), Error> {
        let limit = task.rate.map_or(10, |rate| rate.min(10)) as usize;
        let left = task.to_move.min(limit as u64).max(1);
        let limit = usize::try_from(left).unwrap_or(limit);
        let want = Want { limit, bytes_max: BYTES_MAX, visibility: HIDDEN, wait: Duration::ZERO };
        let (taken, _) = self.take(source, want).await?;
        if taken.is_empty() {
            return Ok((0, Some((Status::Completed, None))));
        }
        let now = self.now();
        let (mut parts, mut targets, mut failure) = (Vec::new(), Vec::new(), None);
        for (held, message) in taken {
            let arn = task.destination.as_ref().or(message.source.as_ref());
            let target = arn.and_then(|arn| Place::of_arn(arn)).and_then(|place| self.inner.all.find(&place));
            match target.filter(|target| target.is_fifo == source.is_fifo) {
                Some(target) => {
                    let message = crate::message::Message { source: None, ..message };
                    // AWS: a message that is moved is a new one, of that moment.
                    let send = change(&target, &held.id, &message, now, now, None);
                    parts.push((held.id.clone(), vec![Change::Delete(held.receipt()), send]));
                    targets.push(target);
                }
                None => {
                    failure = Some("CouldNotDetermineMessageSource".to_owned());
                    parts.push((held.id.clone(), vec![Change::Hold { receipt: held.receipt(), now, due: now }]));
                    targets.push(source.clone());
                }
            }
        }
        let outcomes = self.each(parts).await?;
        let mut moved = 0;
        for (target, outcome) in targets.iter().zip(&outcomes) {
            if *outcome == Outcome::Done && !Arc::ptr_eq(target, source) {
                target.wake(1);
                moved += 1;
            }
        }
        Ok((moved, failure.map(|failure| (Status::Failed, Some(failure)))))
    }
}
