//! `hearth env`: lines for `eval "$(hearth env)"`.

use super::{Failure, Global, access_key, endpoint, output, region};

pub fn run(global: &Global) -> Result<(), Failure> {
    let region = region(global)?;
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint(global)?.to_string()),
        ("AWS_REGION", region.clone()),
        ("AWS_DEFAULT_REGION", region),
        ("AWS_ACCESS_KEY_ID", access_key()?),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ];
    if global.json {
        let document: serde_json::Map<String, serde_json::Value> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        return output::document(&document);
    }
    // No value needs quotes: each was checked where it came in.
    let lines: Vec<String> = variables.iter().map(|(name, value)| format!("export {name}={value}")).collect();
    output::line(&lines.join("\n"))
}
