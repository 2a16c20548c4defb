//! Errors that several operations answer, in AWS's words.

use hearth_store::{QueueError, RecordsError};
use hearth_wire::Error;
use hearth_wire_sqs::errors::queue_does_not_exist;

pub fn missing(parameter: &str) -> Error {
    Error::new(400, "MissingParameter", format!("The request must contain the parameter {parameter}."))
}

pub fn invalid(text: impl Into<String>) -> Error {
    Error::new(400, "InvalidParameterValue", text)
}

/// `Value … for parameter … is invalid. Reason: …`
pub fn invalid_value(value: impl std::fmt::Display, parameter: &str, reason: &str) -> Error {
    invalid(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
}

pub fn no_queue() -> Error {
    queue_does_not_exist("The specified queue does not exist.")
}

pub fn given(value: Option<String>, parameter: &str) -> Result<String, Error> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| missing(parameter))
}

pub fn unstored(error: impl Into<StoreError>) -> Error {
    let StoreError(text) = error.into();
    tracing::error!(error = text, "the queues could not be used");
    Error::new(500, "InternalFailure", "The request could not be stored; Hearth's log says more.")
}

pub struct StoreError(String);

impl From<QueueError> for StoreError {
    fn from(error: QueueError) -> Self {
        StoreError(error.to_string())
    }
}

impl From<RecordsError> for StoreError {
    fn from(error: RecordsError) -> Self {
        StoreError(error.to_string())
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        StoreError(error.to_string())
    }
}
