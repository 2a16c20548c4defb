//! The handle to the room, and what handlers share.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use hearth_model::Clock;
use hearth_observe::{ChangeError, Logs, LogsError};
use hearth_wire::Error;
use hearth_wire_logs::errors::{
    resource_already_exists_exception as exists, resource_not_found_exception as not_found,
    service_unavailable_exception as unavailable, validation_exception,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{Counted, Metrics};
use crate::queries::Queries;
use crate::subscriptions::Destinations;
use crate::tail::SESSIONS_MAX;
use crate::watch::Watch;

/// A cheap handle.
#[derive(Clone)]
pub struct CloudWatch {
    pub(crate) logs: Logs,
    pub(crate) queries: Arc<Queries>,
    pub(crate) watch: Watch,
    /// Of Live Tail.
    pub(crate) sessions: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl CloudWatch {
    pub fn new(logs: Logs, destinations: Destinations, clock: Arc<dyn Clock>) -> Self {
        let sessions = Arc::new(Semaphore::new(SESSIONS_MAX));
        let watch = Watch {
            logs: logs.clone(),
            destinations,
            metrics: Arc::new(Metrics::default()),
            clock: clock.clone(),
            changes: watch::Sender::new(0),
            at_work: watch::Sender::new(0),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        CloudWatch { logs, queries: Arc::default(), watch, sessions, clock }
    }

    /// Shows filters what is logged, until [`CloudWatch::end`].
    pub async fn run(self) {
        self.watch.run().await;
    }

    /// Ready when subscribers will get what filters have seen. Filters see no more.
    pub async fn end(&self) {
        self.watch.end().await;
    }

    /// What filters have counted.
    pub fn counted(&self) -> Counted {
        self.watch.metrics.counted()
    }

    pub fn service(&self) -> hearth_wire_logs::Service {
        let own = Arc::new(self.clone());
        hearth_wire_logs::Service {
            events: Some(own.clone()),
            filters: Some(own.clone()),
            groups: Some(own.clone()),
            metric_filters: Some(own.clone()),
            queries: Some(own.clone()),
            streams: Some(own.clone()),
            tags: Some(own.clone()),
            tail: Some(own),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let since = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// What is there already.
pub(crate) enum Kind {
    Group,
    Stream,
}

impl Kind {
    fn as_str(&self) -> &'static str {
        match self {
            Kind::Group => "group",
            Kind::Stream => "stream",
        }
    }
}

pub(crate) fn no_group() -> Error {
    not_found("The specified log group does not exist.")
}

pub(crate) fn no_stream() -> Error {
    not_found("The specified log stream does not exist.")
}

/// Why a change of a group or stream failed, to a client.
pub(crate) fn refused(kind: Kind) -> impl FnOnce(ChangeError) -> Error {
    move |error| match error {
        ChangeError::Exists => exists(format!("The specified log {} already exists", kind.as_str())),
        ChangeError::NoGroup => no_group(),
        ChangeError::NoStream => no_stream(),
        ChangeError::Protected => validation_exception(format!(
            "The log {} cannot be deleted because deletion protection is enabled for the log group.",
            kind.as_str()
        )),
        ChangeError::Store(error) => failed(error),
    }
}

pub(crate) fn failed(error: LogsError) -> Error {
    tracing::error!(%error, "the log store could not be used");
    unavailable("The service cannot complete the request.")
}
