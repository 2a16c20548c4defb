//! What fields and expressions are: everything may be a text, and a text may be a number.

use std::cmp::Ordering;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Nothing,
    Boolean(bool),
    Number(f64),
    Text(String),
    /// Milliseconds since 1970.
    Time(i64),
}

impl Value {
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Time(millis) => Some(*millis as f64),
            Value::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Value::Nothing | Value::Boolean(_) => None,
        }
    }

    /// As it is answered.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Nothing => None,
            Value::Boolean(boolean) => Some(if *boolean { "1" } else { "0" }.to_owned()),
            Value::Number(number) => Some(shown(*number)),
            Value::Text(text) => Some(text.clone()),
            Value::Time(millis) => Some(moment(*millis)),
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Value::Boolean(boolean) => *boolean,
            Value::Number(number) => *number != 0.0,
            _ => false,
        }
    }

    pub fn of_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Value::Nothing,
            serde_json::Value::Bool(boolean) => Value::Boolean(*boolean),
            serde_json::Value::Number(number) => number.as_f64().map_or(Value::Nothing, Value::Number),
            serde_json::Value::String(text) => Value::Text(text.clone()),
            other => Value::Text(other.to_string()),
        }
    }

    /// For conditions: as numbers when both are, else as texts. What is not there compares with nothing.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        if let (Some(one), Some(other)) = (self.number(), other.number()) {
            return one.partial_cmp(&other);
        }
        match (self, other) {
            (Value::Boolean(one), Value::Boolean(other)) => Some(one.cmp(other)),
            // As JSON and people write it.
            (Value::Boolean(one), Value::Text(other)) => Some(one.to_string().as_str().cmp(&other.to_lowercase())),
            (Value::Text(one), Value::Boolean(other)) => Some(one.to_lowercase().as_str().cmp(&other.to_string())),
            _ => Some(self.text()?.cmp(&other.text()?)),
        }
    }

    /// For sorting: nothing, then texts, then numbers.
    pub fn order(&self, other: &Value) -> Ordering {
        match (self.number(), other.number()) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (None, None) => self.text().cmp(&other.text()),
        }
    }

    pub fn size(&self) -> usize {
        size_of::<Value>() + if let Value::Text(text) = self { text.len() } else { 0 }
    }
}

/// Four places at most.
fn shown(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return format!("{number:.0}");
    }
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `2026-01-31 12:00:00.000`.
fn moment(millis: i64) -> String {
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(at) => format!("{:.3}", at.to_zoned(jiff::tz::TimeZone::UTC).datetime()).replace('T', " "),
        Err(_) => millis.to_string(),
    }
}
