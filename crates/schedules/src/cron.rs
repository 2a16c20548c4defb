//! Cron expressions of EventBridge Scheduler: `minutes hours day-of-month month day-of-week year`, and when they fire next
//! by the clock on the wall. Knows nothing of time zones.
//!
//! | field | values | beside `, - * /` |
//! |---|---|---|
//! | minutes | 0–59 | |
//! | hours | 0–23 | |
//! | day of month | 1–31 | `?`; alone: `L` the last day, `LW` the last weekday, `15W` the weekday nearest to the 15th |
//! | month | 1–12, `JAN`–`DEC` | |
//! | day of week | 1–7, `SUN`–`SAT` | `?`; alone: `L` Saturday, `6L` the last Friday, `6#3` the third Friday |
//! | year | 1970–2199 | |
//!
//! One of the two fields of days says `?`, and only one.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};

const YEAR_FIRST: i16 = 1970;
const YEAR_LAST: i16 = 2199;
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const MINUTE: Field = Field { first: 0, last: 59, names: &[], wraps: true };
const HOUR: Field = Field { first: 0, last: 23, names: &[], wraps: true };
const DAY: Field = Field { first: 1, last: 31, names: &[], wraps: true };
const MONTH: Field = Field { first: 1, last: 12, names: &MONTHS, wraps: true };
const WEEKDAY: Field = Field { first: 1, last: 7, names: &WEEKDAYS, wraps: true };
const YEAR: Field = Field { first: YEAR_FIRST as u16, last: YEAR_LAST as u16, names: &[], wraps: false };

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
    years: Set,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Set),
    Last,
    LastWeekday,
    NearestWeekday(u16),
    OfWeek(Set),
    LastOf(u16),
    Nth { weekday: u16, nth: u16 },
}

impl Cron {
    /// The six fields, without what is around them.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, of_month, months, of_week, years] = fields[..] else { return None };
        let days = match (of_month, of_week) {
            ("?", "?") => return None,
            (of_month, "?") => days_of_month(of_month)?,
            ("?", of_week) => days_of_week(of_week)?,
            _ => return None,
        };
        let (minutes, hours) = (MINUTE.parse(minutes)?, HOUR.parse(hours)?);
        Some(Cron { minutes, hours, days, months: MONTH.parse(months)?, years: YEAR.parse(years)? })
    }

    /// The first minute at or after a moment by the clock on the wall.
    pub fn first(&self, from: DateTime) -> Option<DateTime> {
        let whole = from.date().at(from.hour(), from.minute(), 0, 0);
        let from = if whole < from { whole.checked_add(1.minute()).ok()? } else { whole };
        let (mut date, mut earliest) = (from.date(), from.time());
        while date.year() <= YEAR_LAST {
            let next = if !self.years.has(u16::try_from(date.year()).ok()?) {
                Date::new(date.year() + 1, 1, 1).ok()?
            } else if !self.months.has(date.month().cast_unsigned().into()) {
                next_month(date)?
            } else {
                let days = self.days.of(date);
                match (date.day()..=date.days_in_month()).find(|day| days.has(day.cast_unsigned().into())) {
                    None => next_month(date)?,
                    Some(day) if day == date.day() => match self.time(earliest) {
                        Some(time) => return Some(date.to_datetime(time)),
                        None => date.tomorrow().ok()?,
                    },
                    Some(day) => Date::new(date.year(), date.month(), day).ok()?,
                }
            };
            (date, earliest) = (next, Time::midnight());
        }
        None
    }

    /// The first time of a day at or after one of its minutes.
    fn time(&self, from: Time) -> Option<Time> {
        let (hour, minute) = (u16::try_from(from.hour()).ok()?, u16::try_from(from.minute()).ok()?);
        let in_this_hour = self.hours.has(hour).then(|| self.minutes.first(minute)).flatten().map(|at| (hour, at));
        let (hour, minute) = in_this_hour.or_else(|| Some((self.hours.first(hour + 1)?, self.minutes.first(0)?)))?;
        Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0).ok()
    }
}

fn next_month(date: Date) -> Option<Date> {
    date.last_of_month().tomorrow().ok()
}

impl Days {
    /// The days of a date's month.
    fn of(&self, date: Date) -> Set {
        let length = date.days_in_month().cast_unsigned().into();
        let first = u16::from(date.first_of_month().weekday().to_sunday_zero_offset().cast_unsigned());
        // 1 is Sunday.
        let weekday = |day: u16| (first + day - 1) % 7 + 1;
        let is_weekend = |day: u16| matches!(weekday(day), 1 | 7);
        let one = |day: u16| if (1..=length).contains(&day) { Set::of([day]) } else { Set::default() };
        match self {
            Days::OfMonth(days) => days.clone(),
            Days::Last => one(length),
            Days::LastWeekday => (1..=length).rev().find(|day| !is_weekend(*day)).map(one).unwrap_or_default(),
            Days::NearestWeekday(day) if *day > length => Set::default(),
            // No further than this month: the first goes on to Monday, the last back to Friday.
            Days::NearestWeekday(day) => match weekday(*day) {
                7 if *day == 1 => one(3),
                7 => one(day - 1),
                1 if *day == length => one(day - 2),
                1 => one(day + 1),
                _ => one(*day),
            },
            Days::OfWeek(weekdays) => Set::of((1..=length).filter(|day| weekdays.has(weekday(*day)))),
            Days::LastOf(wanted) => {
                (1..=length).rev().find(|day| weekday(*day) == *wanted).map(one).unwrap_or_default()
            }
            Days::Nth { weekday: wanted, nth } => {
                let found = (1..=length).filter(|day| weekday(*day) == *wanted).nth(usize::from(*nth) - 1);
                found.map(one).unwrap_or_default()
            }
        }
    }
}

fn days_of_month(text: &str) -> Option<Days> {
    if let Some(day) = text.strip_suffix(['W', 'w']) {
        return Some(match day {
            "L" | "l" => Days::LastWeekday,
            day => Days::NearestWeekday(DAY.value(day)?),
        });
    }
    Some(if text.eq_ignore_ascii_case("L") { Days::Last } else { Days::OfMonth(DAY.parse(text)?) })
}

fn days_of_week(text: &str) -> Option<Days> {
    if let Some((weekday, nth)) = text.split_once('#') {
        let nth = number(nth).filter(|nth| (1..=5).contains(nth))?;
        return Some(Days::Nth { weekday: WEEKDAY.value(weekday)?, nth });
    }
    if text.eq_ignore_ascii_case("L") {
        return Some(Days::OfWeek(Set::of([7])));
    }
    if let Some(weekday) = text.strip_suffix(['L', 'l']) {
        return Some(Days::LastOf(WEEKDAY.value(weekday)?));
    }
    Some(Days::OfWeek(WEEKDAY.parse(text)?))
}

/// What may stand in a field.
struct Field {
    first: u16,
    last: u16,
    /// Of the values, from the first.
    names: &'static [&'static str],
    /// A range may go over the end: `FRI-MON`.
    wraps: bool,
}

impl Field {
    /// A list of values, ranges and steps.
    fn parse(&self, text: &str) -> Option<Set> {
        let mut set = Set::default();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
                None => (part, None),
            };
            let (from, to) = match (range.split_once('-'), step) {
                _ if range == "*" => (self.first, self.last),
                (Some((from, to)), _) => (self.value(from)?, self.value(to)?),
                // From there on, to the end.
                (None, Some(_)) => (self.value(range)?, self.last),
                (None, None) => (self.value(range)?, self.value(range)?),
            };
            let span = self.last - self.first + 1;
            let length = match from <= to {
                true => to - from + 1,
                false if self.wraps => to + span - from + 1,
                false => return None,
            };
            let step = step.unwrap_or(1);
            (0..length).step_by(step.into()).for_each(|on| set.add((from - self.first + on) % span + self.first));
        }
        Some(set)
    }

    fn value(&self, text: &str) -> Option<u16> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(at) => self.first + u16::try_from(at).ok()?,
            None => number(text)?,
        };
        (self.first..=self.last).contains(&value).then_some(value)
    }
}

/// Digits alone, no more than four.
fn number(text: &str) -> Option<u16> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Small numbers, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set(Vec<u16>);

impl Set {
    fn of(values: impl IntoIterator<Item = u16>) -> Self {
        let mut set = Set::default();
        values.into_iter().for_each(|value| set.add(value));
        set
    }

    fn add(&mut self, value: u16) {
        if let Err(at) = self.0.binary_search(&value) {
            self.0.insert(at, value);
        }
    }

    fn has(&self, value: u16) -> bool {
        self.0.binary_search(&value).is_ok()
    }

    /// The first at or after a value.
    fn first(&self, from: u16) -> Option<u16> {
        self.0.get(self.0.partition_point(|value| *value < from)).copied()
    }
}

#[cfg(test)]
mod tests;
