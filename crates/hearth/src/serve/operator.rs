//! Hearth's own documents, for `/_hearth`.

mod logs;

use async_trait::async_trait;
use hearth_control::{Control, DownloadError};
use hearth_frontend::{Code, Lines, LogsRequest, Operator, OperatorError};
use hearth_images::Images;
use hearth_observe::Logs;
use serde_json::Value;
use tokio::sync::watch;

use super::probe::Probe;
use crate::{doctor, documents};
use hearth_sandbox::Isolation;

pub struct ServerOperator {
    pub images: Images,
    pub control: Control,
    pub logs: Logs,
    pub isolation: Isolation,
    pub probe: Probe,
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
            "doctor" => serde_json::to_value(self.doctor().await?),
            _ => return None,
        };
        document.ok()
    }

    async fn logs(&self, request: LogsRequest) -> Result<Lines, OperatorError> {
        logs::answer(self, request).await
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
    async fn doctor(&self) -> Option<documents::Doctor> {
        let isolation = self.isolation;
        tokio::task::spawn_blocking(move || doctor::examine(isolation)).await.ok()?.ok()
    }
}
