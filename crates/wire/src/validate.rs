//! Constraints of the model, and AWS's collective text for what breaks them (spec 1.1; recorded).

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use regex::Regex;
use serde_json::Value;

use crate::shape::{Kind, Location, Member, Shape};

/// Broken constraints that one answer lists at most.
const LISTED_MAX: usize = 100;
/// Longest value that an answer repeats, characters.
const VALUE_MAX: usize = 2048;

/// Every broken constraint of a request, as one text; `None` when all hold. Types have been checked.
pub fn validate(shape: &Shape, value: &Value) -> Option<String> {
    let mut broken = Vec::new();
    structure(shape, value, "", &mut broken);
    if broken.is_empty() {
        return None;
    }
    let plural = if broken.len() == 1 { "" } else { "s" };
    Some(format!("{} validation error{plural} detected: {}", broken.len(), broken.join("; ")))
}

fn structure(shape: &Shape, value: &Value, path: &str, broken: &mut Vec<String>) {
    let Kind::Structure { members } = &shape.kind else { return };
    // Recorded: the qualifier is complained about before the function's name.
    let queries = members.iter().filter(|member| matches!(member.location, Location::Query(_)));
    let others = members.iter().filter(|member| !matches!(member.location, Location::Query(_)));
    for member in queries.chain(others) {
        let path = format!("{path}{}", camel(member.name));
        match value.get(member.name).filter(|value| !value.is_null()) {
            Some(value) => member_value(member, value, &path, broken),
            // A payload is the body itself, which is always there.
            None if member.required && member.location != Location::Payload => {
                report(&Value::Null, &path, "Member must not be null", broken)
            }
            None => {}
        }
    }
}

fn member_value(member: &Member, value: &Value, path: &str, broken: &mut Vec<String>) {
    match &member.shape.kind {
        Kind::Structure { .. } => structure(member.shape, value, &format!("{path}."), broken),
        Kind::List { member: element, min, max } => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            lengths(items.len() as u64, *min, *max).for_each(|text| report(value, path, &text, broken));
            if let Kind::Structure { .. } = element.kind {
                for (index, item) in items.iter().enumerate() {
                    structure(element, item, &format!("{path}.{}.member.", index + 1), broken);
                }
            } else if items.iter().any(|item| !broken_by(element, item).is_empty()) {
                let text = format!("Member must satisfy constraint: [{}]", every_constraint(element).join(", "));
                report(value, path, &text, broken);
            }
        }
        Kind::Map { key, value: of_values, min, max } => {
            let Some(entries) = value.as_object() else { return };
            lengths(entries.len() as u64, *min, *max).for_each(|text| report(value, path, &text, broken));
            if entries.keys().any(|name| !broken_by(key, &Value::from(name.as_str())).is_empty()) {
                let text = format!("Map keys must satisfy constraint: [{}]", every_constraint(key).join(", "));
                report(value, path, &text, broken);
            }
            if entries.values().any(|item| !broken_by(of_values, item).is_empty()) {
                let text = format!("Map value must satisfy constraint: [{}]", every_constraint(of_values).join(", "));
                report(value, path, &text, broken);
            }
        }
        _ => broken_by(member.shape, value).into_iter().for_each(|text| report(value, path, &text, broken)),
    }
}

/// Constraints of a plain shape that a value breaks: length first, then pattern (recorded), then the others.
fn broken_by(shape: &Shape, value: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    match &shape.kind {
        Kind::String { pattern, min, max, values } => {
            let text = value.as_str().unwrap_or_default();
            broken.extend(lengths(text.chars().count() as u64, *min, *max));
            broken.extend(pattern.filter(|pattern| !matches(pattern, text)).map(of_pattern));
            if !values.is_empty() && !values.contains(&text) {
                broken.push(of_values(values));
            }
        }
        Kind::Integer { min, max } => {
            let number = value.as_i64().unwrap_or(i64::MAX);
            broken.extend(min.filter(|min| number < *min).map(at_least));
            broken.extend(max.filter(|max| number > *max).map(at_most));
        }
        Kind::Double { min, max } => {
            let number = value.as_f64().unwrap_or(f64::MAX);
            broken.extend(min.filter(|min| number < *min).map(|min| at_least(format!("{min:?}"))));
            broken.extend(max.filter(|max| number > *max).map(|max| at_most(format!("{max:?}"))));
        }
        _ => {}
    }
    broken
}

/// The constraints that a shape has: lists and maps name all of their members' (recorded).
fn every_constraint(shape: &Shape) -> Vec<String> {
    let mut all = Vec::new();
    match &shape.kind {
        Kind::String { pattern, min, max, values } => {
            all.extend(max.map(no_longer));
            all.extend(min.map(no_shorter));
            all.extend(pattern.map(of_pattern));
            if !values.is_empty() {
                all.push(of_values(values));
            }
        }
        Kind::Integer { min, max } => {
            all.extend(max.map(at_most));
            all.extend(min.map(at_least));
        }
        Kind::Double { min, max } => {
            all.extend(max.map(|max| at_most(format!("{max:?}"))));
            all.extend(min.map(|min| at_least(format!("{min:?}"))));
        }
        _ => {}
    }
    all
}

fn lengths(length: u64, min: Option<u64>, max: Option<u64>) -> impl Iterator<Item = String> {
    let short = min.filter(|min| length < *min).map(no_shorter);
    let long = max.filter(|max| length > *max).map(no_longer);
    short.into_iter().chain(long)
}

fn no_shorter(min: u64) -> String {
    format!("Member must have length greater than or equal to {min}")
}

fn no_longer(max: u64) -> String {
    format!("Member must have length less than or equal to {max}")
}

fn at_least(min: impl std::fmt::Display) -> String {
    format!("Member must have value greater than or equal to {min}")
}

fn at_most(max: impl std::fmt::Display) -> String {
    format!("Member must have value less than or equal to {max}")
}

fn of_pattern(pattern: &'static str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

fn of_values(values: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", values.join(", "))
}

fn report(value: &Value, path: &str, constraint: &str, broken: &mut Vec<String>) {
    if broken.len() < LISTED_MAX {
        broken.push(format!("Value {} at '{path}' failed to satisfy constraint: {constraint}", rendered(value)));
    }
}

/// As the service prints values: quoted text, `[a, b]`, `{k=v}`, and null without quotes.
fn rendered(value: &Value) -> String {
    if value.is_null() {
        return "null".to_owned();
    }
    let mut text = String::new();
    plain(value, &mut text);
    if text.len() > VALUE_MAX {
        text = text.chars().take(VALUE_MAX).collect();
    }
    format!("'{text}'")
}

fn plain(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => text.push_str(string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                plain(item, text);
            }
            text.push(']');
        }
        Value::Object(entries) => {
            text.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                text.push_str(key);
                text.push('=');
                plain(item, text);
            }
            text.push('}');
        }
        other => drop(write!(text, "{other}")),
    }
}

/// `functionName` of `FunctionName`.
fn camel(name: &str) -> String {
    let mut characters = name.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

/// A pattern, and what may not follow where it begins (`(?!…)`, which the engine of this crate does not know).
struct Compiled {
    wanted: Regex,
    forbidden: Option<Regex>,
}

impl Compiled {
    fn new(pattern: &str) -> Option<Self> {
        // A dash after a range is a plain dash in the service's dialect.
        let pattern = pattern.replace("0-9-_", "0-9_\\-").replace("Z-_", "Z_\\-");
        // Letters and digits are those of ASCII there.
        let pattern = pattern.replace("\\w", "[0-9A-Za-z_]").replace("\\d", "[0-9]");
        // Recorded: `name:$latest` passes where functions are only looked up, and is then not found.
        let pattern = pattern.replace(":(\\$LATEST(\\.PUBLISHED)?|", ":((?i:\\$LATEST)(\\.PUBLISHED)?|");
        let (forbidden, pattern) = split_look_ahead(&pattern);
        let forbidden = forbidden.map(|forbidden| Regex::new(&format!("^(?:{forbidden})"))).transpose().ok()?;
        let wanted = Regex::new(&format!("^(?:{pattern})$")).ok()?;
        Some(Compiled { wanted, forbidden })
    }

    fn is_match(&self, text: &str) -> bool {
        self.wanted.is_match(text) && !self.forbidden.as_ref().is_some_and(|forbidden| forbidden.is_match(text))
    }
}

/// A look-ahead at a pattern's begin, and the pattern without it.
fn split_look_ahead(pattern: &str) -> (Option<&str>, String) {
    let whole = || (None, pattern.to_owned());
    let Some((before, rest)) = pattern.split_once("(?!") else { return whole() };
    if !before.chars().all(|c| c == '(' || c == '^') {
        return whole();
    }
    let mut depth = 1;
    let end = rest.find(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    match end {
        Some(end) => (Some(&rest[..end]), format!("{before}{}", &rest[end + 1..])),
        None => whole(),
    }
}

/// Whether the whole text matches. Patterns with look-around in their midst are not ours to check: their operations do it
/// themselves.
fn matches(pattern: &'static str, text: &str) -> bool {
    type Patterns = HashMap<&'static str, Option<Arc<Compiled>>>;
    static COMPILED: LazyLock<Mutex<Patterns>> = LazyLock::new(Mutex::default);
    let compiled = COMPILED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(pattern)
        .or_insert_with(|| Compiled::new(pattern).map(Arc::new))
        .clone();
    compiled.is_none_or(|compiled| compiled.is_match(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static NAME: Shape = Shape {
        name: "Name",
        kind: Kind::String { pattern: Some("[a-zA-Z0-9-_]+"), min: Some(1), max: Some(4), values: &[] },
    };
    static ARCHITECTURE: Shape = Shape {
        name: "Architecture",
        kind: Kind::String { pattern: None, min: None, max: None, values: &["x86_64", "arm64"] },
    };
    static ARCHITECTURES: Shape =
        Shape { name: "Architectures", kind: Kind::List { member: &ARCHITECTURE, min: Some(1), max: Some(1) } };
    static SIZE: Shape = Shape { name: "Size", kind: Kind::Integer { min: Some(128), max: Some(10240) } };
    static REQUEST: Shape = Shape {
        name: "Request",
        kind: Kind::Structure {
            members: &[
                Member { name: "FunctionName", location: Location::Body, required: true, shape: &NAME },
                Member { name: "Architectures", location: Location::Body, required: false, shape: &ARCHITECTURES },
                Member { name: "MemorySize", location: Location::Body, required: false, shape: &SIZE },
            ],
        },
    };

    #[test]
    fn what_a_pattern_may_not_begin_with_is_looked_for() {
        let alias = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)";
        assert!(["live", "1a", "a-1_"].iter().all(|text| matches(alias, text)));
        assert!(["", "1", "42", "a b"].iter().all(|text| !matches(alias, text)));
        let qualifier = "((?!^\\d+$)^[0-9a-zA-Z-_]+$)";
        assert!(matches(qualifier, "live") && !matches(qualifier, "7") && !matches(qualifier, "$LATEST"));
        let log_group = "(^(?!(system\\x2e)))(^[_a-zA-Z0-9])([^$]*)";
        assert!(matches(log_group, "systems") && !matches(log_group, "system.x"));
    }

    #[test]
    fn texts_read_as_recorded() {
        let text = |value| validate(&REQUEST, &value).unwrap();
        assert_eq!(
            text(json!({"FunctionName": "a b c"})),
            "2 validation errors detected: Value 'a b c' at 'functionName' failed to satisfy constraint: Member must have \
             length less than or equal to 4; Value 'a b c' at 'functionName' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: [a-zA-Z0-9-_]+"
        );
        assert_eq!(
            text(json!({})),
            "1 validation error detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null"
        );
        assert_eq!(
            text(json!({"FunctionName": "a-_9", "Architectures": ["x"], "MemorySize": 1})),
            "2 validation errors detected: Value '[x]' at 'architectures' failed to satisfy constraint: Member must satisfy \
             constraint: [Member must satisfy enum value set: [x86_64, arm64]]; Value '1' at 'memorySize' failed to satisfy \
             constraint: Member must have value greater than or equal to 128"
        );
        assert_eq!(validate(&REQUEST, &json!({"FunctionName": "a", "MemorySize": 128})), None);
    }
}
