//! Schedule expressions: `at(…)`, `rate(…)`, `cron(…)`.

use jiff::civil::DateTime;

use crate::cron::Cron;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Once, by the clock on the wall.
    At(DateTime),
    /// Every so many seconds: a day has 24 hours, whatever the clock on the wall does.
    Rate(u64),
    Cron(Cron),
}

impl Expression {
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('(')?;
        let inner = rest.strip_suffix(')')?;
        match kind {
            "at" => at(inner).map(Expression::At),
            "rate" => rate(inner).map(Expression::Rate),
            "cron" => Cron::parse(inner).map(Expression::Cron),
            _ => None,
        }
    }
}

/// `yyyy-mm-ddThh:mm:ss`, and no more.
fn at(text: &str) -> Option<DateTime> {
    const FORM: &str = "0000-00-00T00:00:00";
    let fits = |(found, wanted): (u8, u8)| if wanted == b'0' { found.is_ascii_digit() } else { found == wanted };
    let is_form = text.len() == FORM.len() && text.bytes().zip(FORM.bytes()).all(fits);
    // A leap second is no second here.
    is_form.then(|| text.parse().ok()).flatten().filter(|_| !text.ends_with("60"))
}

/// `value unit`.
fn rate(text: &str) -> Option<u64> {
    let mut parts = text.split_ascii_whitespace();
    let (value, unit, None) = (parts.next()?, parts.next()?, parts.next()) else { return None };
    let seconds = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    // Nine digits of days are more years than the calendar has.
    let is_number = (1..=9).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    let value: u64 = is_number.then(|| value.parse().ok()).flatten().filter(|value| *value > 0)?;
    Some(value * seconds)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        let at = Expression::At(date(2022, 11, 20).at(13, 0, 0, 0));
        assert_eq!(Expression::parse("at(2022-11-20T13:00:00)"), Some(at));
        for (text, seconds) in [
            ("rate(1 minute)", 60),
            ("rate(1 minutes)", 60),
            ("rate(5 minutes)", 300),
            ("rate(2  hours)", 7200),
            ("rate(1 day)", 86_400),
        ] {
            assert_eq!(Expression::parse(text), Some(Expression::Rate(seconds)), "{text}");
        }
        assert!(matches!(Expression::parse("cron(0 10 * * ? *)"), Some(Expression::Cron(_))));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for text in [
            "",
            "at",
            "at()",
            "at(2026-09-08T03:54:26.439)",
            "at(2026-09-08T03:54:26Z)",
            "at(2026-09-08 03:54:26)",
            "at(2026-02-30T00:00:00)",
            "at(2026-01-01T24:00:00)",
            "at(2026-01-01T00:00:60)",
            "at(2026-1-01T00:00:00)",
            "rate(0 minutes)",
            "rate(-1 minutes)",
            "rate(30 seconds)",
            "rate(1 week)",
            "rate(1.5 hours)",
            "rate(1)",
            "rate(9999999999 days)",
            "rate(1 minute) ",
            "rate(+1 minute)",
            "cron(* * * * *)",
            "RATE(1 minute)",
            "every(1 minute)",
            "rate(1 minute",
            "cron(0 3 * * *)",
            "rate(1 minute))",
        ] {
            assert_eq!(Expression::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn moments_are_read_as_they_are_written(seconds in 0..4_000_000_000i64) {
            let moment = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
            let text = format!("at({})", moment.strftime("%Y-%m-%dT%H:%M:%S"));
            prop_assert_eq!(Expression::parse(&text), Some(Expression::At(moment)));
        }

        #[test]
        fn rates_are_read_as_they_are_written(value in 1..1_000_000u64, unit in prop::sample::select(&["minute", "hours", "days"][..])) {
            let seconds = value * match unit { "minute" => 60, "hours" => 3600, _ => 86_400 };
            prop_assert_eq!(Expression::parse(&format!("rate({value} {unit})")), Some(Expression::Rate(seconds)));
        }

        #[test]
        fn no_text_is_trusted(text in "(at|rate|cron)\\(\\PC{0,40}\\)?") {
            let _ = Expression::parse(&text);
        }
    }
}
