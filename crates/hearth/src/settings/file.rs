//! `hearth.toml`: tables and keys become texts by full key.

use super::load::SettingsError;

/// Every leaf of the document as (key, text); arrays become lists with commas.
pub fn leaves(path: &str, text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| SettingsError::File { path: path.to_owned(), reason: e.to_string() })?;
    let mut found = Vec::new();
    for (key, value) in table {
        collect(path, key, value, &mut found)?;
    }
    Ok(found)
}

fn collect(
    path: &str,
    key: String,
    value: toml::Value,
    found: &mut Vec<(String, String)>,
) -> Result<(), SettingsError> {
    if let toml::Value::Table(table) = value {
        for (name, value) in table {
            collect(path, format!("{key}.{name}"), value, found)?;
        }
        return Ok(());
    }
    let text = scalar(&value).or_else(|| match &value {
        toml::Value::Array(items) => Some(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(",")),
        _ => None,
    });
    match text {
        Some(text) => {
            found.push((key, text));
            Ok(())
        }
        None => Err(SettingsError::File {
            path: path.to_owned(),
            reason: format!("{key} is neither a text, a number, true, false nor a list of those"),
        }),
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}
