//! Hearth's own documents, for `/_hearth`.

mod asked;
mod events;
mod logs;
mod metrics;
mod network;
mod runtimes;

use std::sync::Arc;

use async_trait::async_trait;
use hearth_control::{Control, DownloadError};
use hearth_egress::Egress;
use hearth_events::Events;
use hearth_frontend::{
    Code, EventsRequest, Lines, LogsRequest, NetworkRequest, Operator, OperatorError, RuntimeChange,
};
use hearth_images::Images;
use hearth_logs::CloudWatch;
use hearth_mappings::Mappings;
use hearth_model::Guard;
use hearth_observe::Logs;
use hearth_schedules::Schedules;
use serde_json::Value;
use tokio::sync::{OnceCell, watch};

use super::probe::Probe;
use crate::{doctor, documents};
use hearth_placement::Placement;
use hearth_sandbox::{Driver, Isolation};
use hearth_worker::Worker;

pub struct ServerOperator {
    pub images: Images,
    pub control: Control,
    pub events: Events,
    pub mappings: Option<Mappings>,
    pub schedules: Option<Schedules>,
    pub guard: Arc<Guard>,
    pub logs: Logs,
    pub cloudwatch: CloudWatch,
    pub isolation: Isolation,
    /// How this server runs, as it was before it gave up privileges.
    pub way: &'static str,
    pub probe: Probe,
    pub driver: Arc<dyn Driver>,
    pub egress: Egress,
    pub placement: Placement,
    pub worker: Worker,
    /// What was found when it was first asked: a host stays what it is.
    pub doctor: OnceCell<Value>,
    /// Becomes true when the server ends: whoever follows a log is let go.
    pub ended: watch::Receiver<bool>,
}

#[async_trait]
impl Operator for ServerOperator {
    async fn ready(&self) -> Result<(), Vec<String>> {
        if *self.ended.borrow() {
            return Err(vec!["the server is ending".to_owned()]);
        }
        self.probe.ready().await.map_err(|reason| vec![reason])
    }

    async fn document(&self, name: &str) -> Option<Value> {
        let document = match name {
            "runtimes" => serde_json::to_value(documents::runtimes(self.images.installed())),
            "coverage" => serde_json::to_value(documents::coverage()),
            "doctor" => return self.doctor().await,
            _ => return None,
        };
        document.ok()
    }

    async fn logs(&self, request: LogsRequest) -> Result<Lines, OperatorError> {
        logs::answer(self, request).await
    }

    async fn change_runtime(&self, change: RuntimeChange) -> Result<Lines, OperatorError> {
        runtimes::answer(self, change)
    }

    async fn events(&self, request: EventsRequest) -> Result<Value, OperatorError> {
        events::answer(&self.events, request).await
    }

    fn metrics(&self) -> String {
        metrics::text(&metrics::Rooms {
            calls: self.placement.counted(),
            events: self.events.counted(),
            loops: self.guard.counted(),
            iterator_ages: self.mappings.as_ref().map(Mappings::ages).unwrap_or_default(),
            mappings: self.mappings.as_ref().map(Mappings::counted).unwrap_or_default(),
            schedules: self.schedules.as_ref().map(Schedules::counted).unwrap_or_default(),
            dropped: self.logs.dropped(),
            filters: self.cloudwatch.counted(),
            cold: self.worker.cold_starts(),
        })
    }

    async fn network(&self, request: NetworkRequest) -> Result<Value, OperatorError> {
        network::answer(self, request).await
    }

    async fn invocation(&self, account: &str, request_id: &str) -> Option<Value> {
        let explained = self.worker.explain(request_id)?;
        // Of others, nobody is told.
        (explained.function.account.as_str() == account).then_some(())?;
        serde_json::to_value(documents::explanation(explained)).ok()
    }

    async fn code(&self, token: &str) -> Result<Code, OperatorError> {
        let refused =
            |status, code, error: &dyn std::fmt::Display| OperatorError { status, code, message: error.to_string() };
        let file = self.control.download(token).await.map_err(|error| match error {
            DownloadError::Invalid => refused(403, "AccessDenied", &error),
            DownloadError::Expired => refused(403, "ExpiredToken", &error),
            DownloadError::Missing => refused(404, "NotFound", &error),
        })?;
        let size = file.metadata().map_err(|error| refused(500, "Internal", &error))?.len();
        Ok(Code { file, size })
    }
}

impl ServerOperator {
    async fn doctor(&self) -> Option<Value> {
        let tried = self.doctor.get_or_try_init(|| async {
            let doctor = doctor::examine(&*self.driver, self.isolation, self.way).await;
            serde_json::to_value(doctor)
        });
        tried.await.ok().cloned()
    }
}
