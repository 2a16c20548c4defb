//! A line of a log as people read it on a terminal: coloured by its level, and JSON as one line of time, level, message and
//! what else it says.

use std::fmt::Write;

use hearth_model::LogLevel;
use serde_json::Value;

const RESET: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";
/// Members of JSON that have a place of their own in the line, or tell nothing new.
const PLACED: &[&str] = &["level", "log_level", "message", "errorMessage", "timestamp", "time", "type"];
/// Longest value that is shown of what else there is, characters.
const VALUE_MAX: usize = 80;

/// `time` is RFC 3339 with milliseconds.
pub fn line(time: &str, message: &str) -> String {
    // The date is told by the stream; a terminal's line is short.
    let clock = time.get(11..23).unwrap_or(time);
    let painted = match object(message) {
        Some(json) => of_json(&json),
        None => of_text(message),
    };
    format!("{DIM}{clock}{RESET} {painted}")
}

fn object(message: &str) -> Option<serde_json::Map<String, Value>> {
    if message.trim_start().starts_with('{') { serde_json::from_str(message).ok() } else { None }
}

fn of_text(message: &str) -> String {
    let platform =
        ["INIT_START ", "START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "EXTENSION\t", "TELEMETRY\t"];
    let message = printable(message);
    if platform.iter().any(|begin| message.starts_with(begin)) {
        return format!("{DIM}{message}{RESET}");
    }
    match level(&message).map(colour) {
        Some(colour) => format!("{colour}{message}{RESET}"),
        None => message,
    }
}

/// As runtimes write it: `[ERROR]`, or a column of its own.
fn level(message: &str) -> Option<LogLevel> {
    if let Some(rest) = message.strip_prefix('[') {
        return LogLevel::parse(rest.split(']').next()?);
    }
    if message.contains(" Task timed out after ") || message.contains(" Error: Runtime exited ") {
        return Some(LogLevel::Error);
    }
    message.split('\t').skip(1).take(2).find_map(LogLevel::parse)
}

fn of_json(json: &serde_json::Map<String, Value>) -> String {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    if let Some(kind) = text("type").filter(|kind| kind.starts_with("platform.")) {
        let record = json.get("record").map(Value::to_string).unwrap_or_default();
        return format!("{DIM}{kind} {}{RESET}", printable(&record));
    }
    let said = text("level").or_else(|| text("log_level"));
    let colour = said.and_then(LogLevel::parse).map_or("", colour);
    let message = text("message").or_else(|| text("errorMessage")).map(printable);
    let mut line =
        format!("{colour}{:<5}{RESET} {}", said.map(printable).unwrap_or_default(), message.unwrap_or_default());
    for (name, value) in json.iter().filter(|(name, _)| !PLACED.contains(&name.as_str())) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut value = printable(&value);
        if value.chars().count() > VALUE_MAX {
            value = value.chars().take(VALUE_MAX).chain(['…']).collect();
        }
        let _ = write!(line, " {DIM}{}={value}{RESET}", printable(name));
    }
    line
}

fn colour(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace | LogLevel::Debug => "\x1b[2m",
        LogLevel::Info => "\x1b[32m",
        LogLevel::Warn => "\x1b[33m",
        LogLevel::Error => "\x1b[31m",
        LogLevel::Fatal => "\x1b[1;31m",
    }
}

/// What a function wrote does not drive the terminal; newlines and tabs stay.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-31T12:00:00.123Z";

    #[test]
    fn levels_have_colours() {
        for (message, colour) in [
            ("[ERROR] ValueError: x", "\x1b[31m"),
            ("[WARNING]\t2026\tid\thello", "\x1b[33m"),
            ("2026-01-31T12:00:00.123Z\tid\tINFO\thello", "\x1b[32m"),
            ("2026 id Task timed out after 3.00 seconds", "\x1b[31m"),
            ("START RequestId: x Version: 1", "\x1b[2m"),
        ] {
            assert_eq!(
                line(TIME, message),
                format!("\x1b[2m12:00:00.123\x1b[0m {colour}{message}\x1b[0m"),
                "{message}"
            );
        }
        assert_eq!(line(TIME, "plain"), "\x1b[2m12:00:00.123\x1b[0m plain");
    }

    #[test]
    fn json_is_one_line_with_what_else_it_says() {
        let said =
            line(TIME, r#"{"timestamp": "t", "level": "ERROR", "message": "no", "user": {"id": 1}, "path": "/a"}"#);
        assert!(
            said.contains("\x1b[31mERROR\x1b[0m no \x1b[2muser={\"id\":1}\x1b[0m \x1b[2mpath=/a\x1b[0m"),
            "{said:?}"
        );
        let platform = line(TIME, r#"{"time": "t", "type": "platform.start", "record": {"requestId": "r"}}"#);
        assert!(platform.contains(r#"platform.start {"requestId":"r"}"#), "{platform}");
    }

    #[test]
    fn what_is_written_does_not_drive_the_terminal() {
        assert!(!line(TIME, "a\x1b]0;title\x07b").contains('\x07'));
        assert!(!line(TIME, r#"{"message": "\u001b[2J", "x": "\u001b[2J"}"#).contains("\x1b[2J"));
    }
}
