//! What requests for Hearth's own documents mean by names and times.

use std::time::{Duration, SystemTime};

use hearth_frontend::OperatorError;
use hearth_model::{AccountId, FunctionArn, FunctionRef, Region};

use crate::settings::Value;

pub fn bad_request(message: String) -> OperatorError {
    OperatorError { status: 400, code: "BadRequest", message }
}

/// A function of the caller's, by its name or ARN.
pub fn function(account: &str, region: &str, name: &str) -> Result<FunctionArn, OperatorError> {
    let account = AccountId::parse(account).ok_or_else(|| bad_request("bad account".to_owned()))?;
    let region = Region::parse(region).ok_or_else(|| bad_request("bad region".to_owned()))?;
    FunctionRef::parse(name)
        .and_then(|function| function.resolve(&account, &region, None))
        .map_err(|e| bad_request(e.to_string()))
}

/// `10m` before now, or an RFC 3339 time. `name` is the parameter's.
pub fn moment(name: &str, text: &str) -> Result<SystemTime, OperatorError> {
    if let Ok(before) = Duration::parse(text) {
        return Ok(SystemTime::now().checked_sub(before).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let neither = || format!("{name}: {text:?} is neither a duration such as 10m nor an RFC 3339 time");
    let at: jiff::Timestamp = text.parse().map_err(|_| bad_request(neither()))?;
    Ok(at.into())
}
