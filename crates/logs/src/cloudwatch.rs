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
use tokio::sync::{Notify, Semaphore};

use crate::queries::Queries;
use crate::subscriptions::{self, Destinations};
use crate::tail::SESSIONS_MAX;

/// A cheap handle.
#[derive(Clone)]
pub struct CloudWatch {
    pub(crate) logs: Logs,
    pub(crate) queries: Arc<Queries>,
    pub(crate) destinations: Destinations,
    /// Told when who is subscribed to what has changed.
    pub(crate) subscribed: Arc<Notify>,
    /// Of Live Tail.
    pub(crate) sessions: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl CloudWatch {
    pub fn new(logs: Logs, destinations: Destinations, clock: Arc<dyn Clock>) -> Self {
        let sessions = Arc::new(Semaphore::new(SESSIONS_MAX));
        CloudWatch { logs, queries: Arc::default(), destinations, subscribed: Arc::default(), sessions, clock }
    }

    /// Sends subscribers what they are subscribed to, for as long as it is polled.
    pub async fn run(self) {
        subscriptions::run(self.logs, self.destinations, self.subscribed).await;
    }

    pub fn service(&self) -> hearth_wire_logs::Service {
        let own = Arc::new(self.clone());
        hearth_wire_logs::Service {
            events: Some(own.clone()),
            filters: Some(own.clone()),
            groups: Some(own.clone()),
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
