//! `hearth runtimes`.

use serde_json::Value;

use super::{Failure, Global, output};
use crate::client::Client;

pub async fn run(global: &Global, client: &Client) -> Result<(), Failure> {
    let document: Value = client.get("/_hearth/v1/runtimes").await?.json()?;
    if global.json {
        return output::document(&document);
    }
    let rows =
        document["runtimes"].as_array().into_iter().flatten().map(|runtime| {
            ["runtime", "version", "source"].map(|name| runtime[name].as_str().unwrap_or("-").to_owned())
        });
    output::table(["RUNTIME", "VERSION", "SOURCE"], rows)
}
