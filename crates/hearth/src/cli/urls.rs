//! URLs of a function, for people: a word more where there are any.

use serde_json::Value;

use crate::client::{Client, ClientError, segment};

/// The function's own first, then those of its aliases. None of a function that has gone meanwhile.
pub async fn of(client: &Client, function: &str) -> Result<Vec<String>, ClientError> {
    let path = format!("/2021-10-31/functions/{}/urls", segment(function));
    let found: Value = match client.get(&path).await {
        Ok(answer) => answer.json()?,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let configs = found["FunctionUrlConfigs"].as_array().into_iter().flatten();
    Ok(configs.filter_map(|config| config["FunctionUrl"].as_str().map(str::to_owned)).collect())
}
