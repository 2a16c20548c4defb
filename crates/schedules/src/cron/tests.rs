use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn cron(text: &str) -> Cron {
    Cron::parse(text).unwrap_or_else(|| panic!("{text}"))
}

fn fires(text: &str, from: DateTime, times: usize) -> Vec<String> {
    let (cron, mut from) = (cron(text), from);
    let mut found = Vec::new();
    for _ in 0..times {
        let Some(at) = cron.first(from) else { break };
        found.push(at.strftime("%Y-%m-%d %H:%M").to_string());
        from = at.checked_add(1.minute()).unwrap();
    }
    found
}

#[test]
fn documented_expressions_fire_when_the_documentation_says() {
    let from = date(2022, 11, 1).at(0, 0, 0, 0);
    // "10:15 AM on the last Friday of each month during the years 2022 to 2023"
    let expected = ["2022-11-25 10:15", "2022-12-30 10:15", "2023-01-27 10:15"];
    assert_eq!(fires("15 10 ? * 6L 2022-2023", from, 3), expected);
    assert_eq!(fires("15 10 ? * FRIL 2022-2023", from, 100).len(), 14);
    assert_eq!(fires("0 10 * * ? *", from, 2), ["2022-11-01 10:00", "2022-11-02 10:00"]);
    assert_eq!(fires("0 18 ? * MON-FRI *", date(2022, 11, 4).at(19, 0, 0, 0), 1), ["2022-11-07 18:00"]);
    assert_eq!(fires("0 8 1 * ? *", from, 2), ["2022-11-01 08:00", "2022-12-01 08:00"]);
    assert_eq!(fires("0/10 * ? * MON-FRI *", from, 3), ["2022-11-01 00:00", "2022-11-01 00:10", "2022-11-01 00:20"]);
    let expected = ["2022-11-01 08:00", "2022-11-01 08:05"];
    assert_eq!(fires("0/5 8-17 ? * MON-FRI *", from, 2), expected);
    // "3#2" is the second Tuesday.
    assert_eq!(fires("0 9 ? * 3#2 *", from, 2), ["2022-11-08 09:00", "2022-12-13 09:00"]);
    assert_eq!(fires("0 0 L * ? *", date(2024, 2, 1).at(0, 0, 0, 0), 2), ["2024-02-29 00:00", "2024-03-31 00:00"]);
    assert_eq!(fires("0 0 ? * L *", from, 1), ["2022-11-05 00:00"]);
}

#[test]
fn the_nearest_weekday_stays_in_its_month() {
    // The first of October 2022 is a Saturday, the last of July 2022 a Sunday.
    assert_eq!(fires("0 0 1W 10 ? *", date(2022, 1, 1).at(0, 0, 0, 0), 1), ["2022-10-03 00:00"]);
    assert_eq!(fires("0 0 31W 7 ? *", date(2022, 1, 1).at(0, 0, 0, 0), 1), ["2022-07-29 00:00"]);
    assert_eq!(fires("0 0 15W * ? *", date(2022, 10, 1).at(0, 0, 0, 0), 2), ["2022-10-14 00:00", "2022-11-15 00:00"]);
    assert_eq!(fires("0 0 LW 7 ? *", date(2022, 1, 1).at(0, 0, 0, 0), 1), ["2022-07-29 00:00"]);
    assert_eq!(fires("0 0 31W 6 ? *", date(2022, 1, 1).at(0, 0, 0, 0), 1), [""; 0]);
}

#[test]
fn ranges_go_over_the_end_and_steps_begin_where_they_say() {
    let from = date(2026, 1, 1).at(0, 0, 0, 0);
    assert_eq!(fires("30 22-1 * * ? *", from, 4).last().unwrap(), "2026-01-01 23:30");
    assert_eq!(
        fires("0 0 ? * FRI-MON *", from, 4),
        ["2026-01-02 00:00", "2026-01-03 00:00", "2026-01-04 00:00", "2026-01-05 00:00"]
    );
    assert_eq!(fires("5/25 0 * * ? *", from, 3), ["2026-01-01 00:05", "2026-01-01 00:30", "2026-01-01 00:55"]);
    assert_eq!(fires("0-15/5 8-8 ? * 2,3,4,5,6,7 *", from, 4).last().unwrap(), "2026-01-01 08:15");
}

#[test]
fn what_never_fires_is_said_so_and_soon() {
    let from = date(2026, 1, 1).at(0, 0, 0, 0);
    for text in ["0 0 30 2 ? *", "0 0 1 1 ? 2025", "0 0 ? 2 1#5 2027"] {
        assert_eq!(cron(text).first(from), None, "{text}");
    }
    assert_eq!(cron("59 23 31 12 ? 2199").first(from).unwrap().year(), 2199);
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in [
        "",
        "* * * * *",
        "* * * * ? * *",
        "* * ? * ? *",
        "* * * * * *",
        "* * 1 * 1 *",
        "60 * * * ? *",
        "* 24 * * ? *",
        "* * 0 * ? *",
        "* * 32 * ? *",
        "* * * 13 ? *",
        "* * ? * 8 *",
        "* * ? * 0 *",
        "* * * * ? 1969",
        "* * * * ? 2200",
        "*/0 * * * ? *",
        "a * * * ? *",
        "-1 * * * ? *",
        "1- * * * ? *",
        "1,,2 * * * ? *",
        "* * L-3 * ? *",
        "* * 1W,2 * ? *",
        "* * ? * 3#1,6#3 *",
        "* * ? * 3#6 *",
        "? * * * ? *",
        "* * * * ? 2030-2020",
        "1/2/3 * * * ? *",
        "+1 * * * ? *",
        "* * W * ? *",
        "* * ? * #1 *",
        "00000 * * * ? *",
    ] {
        assert_eq!(Cron::parse(text), None, "{text}");
    }
}

/// A field as text, and the values that it means.
fn field(first: u16, last: u16) -> impl Strategy<Value = (String, Vec<u16>)> {
    let part = prop_oneof![
        Just((String::from("*"), (first..=last).collect::<Vec<u16>>())),
        (first..=last).prop_map(|value| (value.to_string(), vec![value])),
        (first..=last, first..=last).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            (format!("{a}-{b}"), (a..=b).collect())
        }),
        (first..=last, 1..=last - first)
            .prop_map(move |(from, step)| { (format!("{from}/{step}"), (from..=last).step_by(step.into()).collect()) }),
        (1..=last - first).prop_map(move |step| (format!("*/{step}"), (first..=last).step_by(step.into()).collect())),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| {
        let text = parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
        (text, parts.into_iter().flat_map(|(_, values)| values).collect())
    })
}

/// The field of a day, its place (true: of the month), and whether it means a date.
#[derive(Clone, Debug)]
enum Day {
    OfMonth(String, Vec<u16>),
    OfWeek(String, Vec<u16>),
    Last,
    LastOf(u16),
    Nth(u16, u16),
}

impl Day {
    fn texts(&self) -> (String, String) {
        match self {
            Day::OfMonth(text, _) => (text.clone(), "?".to_owned()),
            Day::OfWeek(text, _) => ("?".to_owned(), text.clone()),
            Day::Last => ("L".to_owned(), "?".to_owned()),
            Day::LastOf(weekday) => ("?".to_owned(), format!("{weekday}L")),
            Day::Nth(weekday, nth) => ("?".to_owned(), format!("{weekday}#{nth}")),
        }
    }

    /// As a human reads a calendar.
    fn means(&self, date: Date) -> bool {
        let weekday = u16::try_from(date.weekday().to_sunday_one_offset()).unwrap();
        let day = u16::try_from(date.day()).unwrap();
        let is_last_week = date.checked_add(7.days()).unwrap().month() != date.month();
        match self {
            Day::OfMonth(_, days) => days.contains(&day),
            Day::OfWeek(_, weekdays) => weekdays.contains(&weekday),
            Day::Last => date.tomorrow().unwrap().day() == 1,
            Day::LastOf(wanted) => weekday == *wanted && is_last_week,
            Day::Nth(wanted, nth) => weekday == *wanted && (day - 1) / 7 + 1 == *nth,
        }
    }
}

fn day() -> impl Strategy<Value = Day> {
    prop_oneof![
        field(1, 31).prop_map(|(text, days)| Day::OfMonth(text, days)),
        field(1, 7).prop_map(|(text, weekdays)| Day::OfWeek(text, weekdays)),
        Just(Day::Last),
        (1..=7u16).prop_map(Day::LastOf),
        (1..=7u16, 1..=5u16).prop_map(|(weekday, nth)| Day::Nth(weekday, nth)),
    ]
}

proptest! {
    /// The oracle goes from minute to minute, over three days or to the first hit.
    #[test]
    fn what_fires_next_is_the_first_minute_that_the_fields_mean(
        (minute, minutes) in field(0, 59),
        (hour, hours) in field(0, 23),
        (month, months) in field(1, 12),
        day in day(),
        start in 0..500_000i64,
        second in 0..60i8,
    ) {
        let (of_month, of_week) = day.texts();
        let cron = cron(&format!("{minute} {hour} {of_month} {month} {of_week} *"));
        let from = date(2026, 1, 1).at(0, 0, second, 0).checked_add(start.minutes()).unwrap();
        let found = cron.first(from);
        let mut at = from.date().at(from.hour(), from.minute(), 0, 0);
        if second > 0 {
            at = at.checked_add(1.minute()).unwrap();
        }
        let means = |at: DateTime| {
            months.contains(&u16::try_from(at.month()).unwrap())
                && day.means(at.date())
                && hours.contains(&u16::try_from(at.hour()).unwrap())
                && minutes.contains(&u16::try_from(at.minute()).unwrap())
        };
        for _ in 0..3 * 24 * 60 {
            if means(at) {
                prop_assert_eq!(found, Some(at));
                return Ok(());
            }
            at = at.checked_add(1.minute()).unwrap();
        }
        // Later, or never: what is found is meant at least.
        prop_assert!(found.is_none_or(|found| found >= at && means(found)));
    }

    /// The same, by days and over years, for what fires rarely.
    #[test]
    fn no_day_is_left_out(day in day(), (month, months) in field(1, 12), start in 0..2000i64) {
        let (of_month, of_week) = day.texts();
        let cron = cron(&format!("0 0 {of_month} {month} {of_week} *"));
        let from = date(2023, 1, 1).checked_add(start.days()).unwrap();
        let expected = from.series(1.day()).take(366 * 9)
            .find(|date| months.contains(&u16::try_from(date.month()).unwrap()) && day.means(*date));
        let found = cron.first(from.at(0, 0, 0, 0));
        match expected {
            Some(expected) => prop_assert_eq!(found, Some(expected.at(0, 0, 0, 0))),
            None => prop_assert!(found.is_none_or(|found| found.date() > from.checked_add(3200.days()).unwrap())),
        }
    }

    #[test]
    fn no_text_is_trusted(text in "[0-9A-Za-z?*/,#-]{0,6}( [0-9LW?*/,#-]{1,5}){0,7}") {
        if let Some(cron) = Cron::parse(&text) {
            let _ = cron.first(date(2026, 6, 6).at(1, 2, 3, 0));
        }
    }
}
