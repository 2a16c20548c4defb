//! Changes of runtimes as JSON lines: how far they have come, then how they ended. What was begun goes on when nobody
//! listens any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hearth_frontend::{Lines, OperatorError, RuntimeChange};
use hearth_images::{Fault, Images, InstalledRuntime, Progress, RuntimeError};
use hearth_model::{ImageError, Runtime};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::ServerOperator;
use crate::documents;

/// How often who waits is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// Lines that may wait for a slow client; further ones are left out, but for the last.
const LINES_MAX: usize = 16;

pub fn answer(operator: &ServerOperator, change: RuntimeChange) -> Result<Lines, OperatorError> {
    let (RuntimeChange::Add { runtime, .. } | RuntimeChange::Update { runtime } | RuntimeChange::Remove { runtime }) =
        &change;
    let known = Runtime::parse(runtime).map_err(|_| OperatorError {
        status: 400,
        code: "BadRequest",
        message: format!("There is no runtime {:?}.", runtime.chars().take(100).collect::<String>()),
    })?;
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let (images, progress) = (operator.images.clone(), Arc::new(Progress::default()));
    tokio::spawn(async move {
        let mut told = tokio::time::interval(TOLD_EVERY);
        let done = make(&images, known, change, progress.clone());
        tokio::pin!(done);
        let ended = loop {
            tokio::select! {
                ended = &mut done => break ended,
                _ = told.tick() => drop(sender.try_send(line(&shown(&progress)))),
            }
        };
        let last = match ended {
            Ok(Some(installed)) => json!({ "runtime": documents::runtime(installed) }),
            Ok(None) => json!({ "removed": known.as_str() }),
            Err(error) => json!({ "error": { "code": code(&error), "message": format!("{error}.") } }),
        };
        // Who went away does not need it.
        let _ = sender.send(line(&last)).await;
    });
    Ok(lines)
}

async fn make(
    images: &Images,
    runtime: Runtime,
    change: RuntimeChange,
    progress: Arc<Progress>,
) -> Result<Option<InstalledRuntime>, RuntimeError> {
    match change {
        RuntimeChange::Add { from, .. } => images.add(runtime, from, progress).await.map(Some),
        RuntimeChange::Update { .. } => images.update(runtime, progress).await.map(Some),
        RuntimeChange::Remove { .. } => images.remove(runtime).await.map(|()| None),
    }
}

fn shown(progress: &Progress) -> Value {
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    json!({ "progress": {
        "parts": count(&progress.parts), "partsTotal": count(&progress.parts_total),
        "sizeBytes": count(&progress.bytes), "sizeBytesTotal": count(&progress.bytes_total),
    }})
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn code(error: &RuntimeError) -> &'static str {
    match error {
        RuntimeError::Image(ImageError::Missing { .. }) | RuntimeError::NotAdded(_) => "NotFound",
        RuntimeError::Image(ImageError::Denied { .. }) => "AccessDenied",
        RuntimeError::Image(ImageError::Unavailable { .. }) => "Unavailable",
        RuntimeError::Image(_) | RuntimeError::NoBootstrap { .. } => "BadImage",
        RuntimeError::Packages { fault, .. } => match fault {
            Fault::Missing => "NotFound",
            Fault::Denied(_) => "AccessDenied",
            Fault::Unavailable(_) => "Unavailable",
            Fault::Damaged(_) | Fault::Unsupported(_) => "BadPackages",
        },
        RuntimeError::InUse { .. } => "InUse",
        RuntimeError::OtherHost | RuntimeError::Records(_) => "Internal",
    }
}
