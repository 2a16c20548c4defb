//! Asynchronous events as documents.

use std::time::{SystemTime, UNIX_EPOCH};

use hearth_events::{Events, Filter, OutcomeError};
use hearth_frontend::{EventsAsked, EventsFilter, EventsRequest, OperatorError};
use hearth_model::FunctionArn;
use serde_json::{Value, json};

use super::asked::{self, bad_request, moment};

pub async fn answer(events: &Events, request: EventsRequest) -> Result<Value, OperatorError> {
    let EventsRequest { account, region, asked } = request;
    let partition = format!("{account}/{region}");
    let function = |name: Option<String>| name.map(|name| asked::function(&account, &region, &name)).transpose();
    match asked {
        EventsAsked::List(wanted) => {
            let function = function(wanted.function.clone())?;
            let events = events.list(filter(partition, function, wanted)?).await.map_err(refused)?;
            Ok(json!({"events": events}))
        }
        EventsAsked::Show(id) => {
            let event = events.show(&partition, &id).await.map_err(refused)?;
            Ok(json!({"events": [event]}))
        }
        EventsAsked::Audit => document(&events.audit().await.map_err(refused)?),
        EventsAsked::Retry(id) => Ok(json!({"id": events.retry(&partition, &id).await.map_err(refused)?})),
        EventsAsked::Purge(name) => {
            let function = function(name)?;
            Ok(json!({"purged": events.purge(&partition, function.as_ref()).await.map_err(refused)?}))
        }
    }
}

fn filter(partition: String, function: Option<FunctionArn>, wanted: EventsFilter) -> Result<Filter, OperatorError> {
    let mut filter = Filter { function, state: wanted.state, ..Filter::everything(partition) };
    if let Some(text) = wanted.since {
        filter.since = milliseconds(moment("since", &text)?);
    }
    if let Some(text) = wanted.until {
        filter.until = milliseconds(moment("until", &text)?);
    }
    if let Some(text) = wanted.limit {
        let bad = || bad_request(format!("{text:?} is not a number of events"));
        filter.limit = text.parse().ok().filter(|limit| *limit > 0).ok_or_else(bad)?;
    }
    Ok(filter)
}

fn milliseconds(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn document(value: &impl serde::Serialize) -> Result<Value, OperatorError> {
    let failed = |error: serde_json::Error| OperatorError { status: 500, code: "Internal", message: error.to_string() };
    serde_json::to_value(value).map_err(failed)
}

fn refused(error: OutcomeError) -> OperatorError {
    let message = error.to_string();
    match error {
        OutcomeError::Missing(_) | OutcomeError::NoFunction(_) => {
            OperatorError { status: 404, code: "NotFound", message }
        }
        OutcomeError::NotOver(..) => OperatorError { status: 409, code: "Conflict", message },
        OutcomeError::NoState(_) => bad_request(message),
        OutcomeError::NotStored | OutcomeError::Store(_) => OperatorError { status: 500, code: "Internal", message },
    }
}
