//! `hearth list`.

use serde_json::{Value, json};

use super::{Failure, Global, output, urls};
use crate::client::{Client, ClientError, segment};

pub async fn run(global: &Global, client: &Client) -> Result<(), Failure> {
    let functions = all(client).await?;
    if global.json {
        return output::document(&json!({"functions": functions}));
    }
    if functions.is_empty() {
        eprintln!("no functions yet: hearth deploy PATH makes one");
        return Ok(());
    }
    let mut urls = Vec::with_capacity(functions.len());
    for function in &functions {
        urls.push(urls::of(client, function["FunctionName"].as_str().unwrap_or_default()).await?);
    }
    let rows = functions.iter().zip(urls).map(|(function, urls)| {
        let text = |name| function[name].as_str().unwrap_or("-").to_owned();
        let number = |name, unit| function[name].as_u64().map_or("-".to_owned(), |number| format!("{number} {unit}"));
        [
            text("FunctionName"),
            text("Runtime"),
            text("Handler"),
            number("MemorySize", "MB"),
            number("Timeout", "s"),
            number("CodeSize", "B"),
            text("LastModified"),
            if urls.is_empty() { "-".to_owned() } else { urls.join("\n") },
        ]
    });
    output::table(["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED", "URL"], rows)
}

/// Every page.
async fn all(client: &Client) -> Result<Vec<Value>, ClientError> {
    let mut functions = Vec::new();
    let mut path = "/2015-03-31/functions".to_owned();
    loop {
        let mut page: Value = client.get(&path).await?.json()?;
        if let Some(rows) = page["Functions"].as_array_mut() {
            functions.append(rows);
        }
        match page["NextMarker"].as_str().filter(|marker| !marker.is_empty()) {
            Some(marker) => path = format!("/2015-03-31/functions?Marker={}", segment(marker)),
            None => return Ok(functions),
        }
    }
}
