//! What a function's answer says of the records of its batch (spec 6.4).

use std::collections::BTreeSet;

use serde_json::Value;

/// Which of a batch have failed, by their place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failed,
    /// Some, and not others.
    Partly(BTreeSet<usize>),
}

/// `reports`: the mapping has `ReportBatchItemFailures`; else whatever is no error is success.
pub fn of(answer: &[u8], failed: bool, reports: bool, ids: &[&str]) -> Verdict {
    if failed {
        return Verdict::Failed;
    }
    if !reports || answer.is_empty() {
        return Verdict::Success;
    }
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return Verdict::Failed };
    let is_nothing = match &answer {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty() || members.get("batchItemFailures").is_some_and(Value::is_null),
        _ => false,
    };
    if is_nothing {
        return Verdict::Success;
    }
    let Some(failures) = answer.get("batchItemFailures").and_then(Value::as_array) else { return Verdict::Failed };
    if failures.is_empty() {
        return Verdict::Success;
    }
    let place = |failure: &Value| {
        let id = failure.get("itemIdentifier")?.as_str().filter(|id| !id.is_empty())?;
        ids.iter().position(|own| *own == id)
    };
    match failures.iter().map(place).collect::<Option<BTreeSet<usize>>>() {
        Some(all) if all.len() == ids.len() => Verdict::Failed,
        Some(some) => Verdict::Partly(some),
        None => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_they_are_recorded_to_say() {
        let of = |answer: &str| of(answer.as_bytes(), false, true, &["a", "b", "c"]);
        let nothing = ["", "\"\"", "null", "{}", "[]", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#];
        nothing.iter().for_each(|answer| assert_eq!(of(answer), Verdict::Success, "{answer}"));
        let some = r#"{"batchItemFailures":[{"itemIdentifier":"c"},{"itemIdentifier":"a"},{"itemIdentifier":"c"}]}"#;
        assert_eq!(of(some), Verdict::Partly(BTreeSet::from([0, 2])));
        for answer in [
            r#"{"batchItemFailures":[{"itemIdentifier":"z"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"z"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"foo":"a"}]}"#,
            r#"{"batchItemFailures":"a"}"#,
            r#"{"foo":"x"}"#,
            r#"{"foo":null}"#,
            "plain",
            "5",
            "[1]",
        ] {
            assert_eq!(of(answer), Verdict::Failed, "{answer}");
        }
    }

    #[test]
    fn without_reports_only_an_error_is_failure() {
        let some = br#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#;
        assert_eq!(of(some, false, false, &["a"]), Verdict::Success);
        assert_eq!(of(b"plain", false, false, &["a"]), Verdict::Success);
        assert_eq!(of(b"{}", true, false, &["a"]), Verdict::Failed);
        assert_eq!(of(b"{}", true, true, &["a"]), Verdict::Failed);
    }
}
