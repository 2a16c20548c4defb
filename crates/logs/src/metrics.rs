//! What metric filters make of events: values, kept by their series as count and sum since the server's start.
//!
//! - [`Meter`]: one filter at work; [`Minutes`] decides when it says its default
//! - [`Metrics`]: every series, bounded, and what filters of either kind missed

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hearth_model::LogGroup;
use hearth_observe::{MetricFilter, Stored};

use crate::events::millis;
use crate::pattern::{Pattern, PatternError, Place};

/// Series of all filters together.
const SERIES_MAX: usize = 10_000;
/// Series that one filter may begin in an hour, as with AWS. It goes on with those that there are.
const BEGUN_MAX: usize = 1000;
/// How long a series is kept without a value when others need its place, milliseconds.
const IDLE: i64 = HOUR;
/// Longest value of a dimension, characters, as CloudWatch has it.
const DIMENSION_MAX: usize = 1024;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Names a metric of one combination of values of its dimensions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    pub account: String,
    pub region: String,
    pub namespace: String,
    pub metric: String,
    pub unit: Option<String>,
    /// Values by name.
    pub dimensions: BTreeMap<String, String>,
}

/// Values of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    pub count: u64,
    pub sum: f64,
    /// Milliseconds since 1970.
    last: i64,
}

/// Everything that filters of log groups have counted since the server's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    pub series: Vec<(Series, Total)>,
    /// Values without a place for their series.
    pub refused: u64,
    /// Batches of events that filters did not see.
    pub missed: u64,
    /// Events that matched a subscription filter and were not sent.
    pub unsent: u64,
}

#[derive(Default)]
pub struct Metrics {
    series: Mutex<HashMap<Series, Total>>,
    refused: AtomicU64,
    missed: AtomicU64,
    unsent: AtomicU64,
}

impl Metrics {
    pub fn missed(&self, batches: u64) {
        self.missed.fetch_add(batches, Ordering::Relaxed);
    }

    pub fn unsent(&self, events: usize) {
        self.unsent.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// In the order of the series.
    pub fn counted(&self) -> Counted {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let mut series: Vec<_> = self.series().iter().map(|(series, total)| (series.clone(), *total)).collect();
        series.sort_by(|(one, _), (other, _)| one.cmp(other));
        Counted { series, refused: of(&self.refused), missed: of(&self.missed), unsent: of(&self.unsent) }
    }

    fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn add(&self, named: Series, value: f64, now: i64) {
        let mut all = self.series();
        if all.len() >= SERIES_MAX && !all.contains_key(&named) {
            all.retain(|_, total| total.last > now - IDLE);
            if all.len() >= SERIES_MAX {
                return self.refuse();
            }
        }
        let total = all.entry(named).or_default();
        *total = Total { count: total.count + 1, sum: total.sum + value, last: now };
    }

    fn series(&self) -> MutexGuard<'_, HashMap<Series, Total>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a value is taken from.
enum Source {
    Number(f64),
    Event(Place),
}

/// One metric filter at work.
pub struct Meter {
    pub filter: MetricFilter,
    pattern: Pattern,
    value: Source,
    dimensions: Vec<(String, Place)>,
    /// Without dimensions.
    series: Series,
    minutes: Minutes,
    /// Values of dimensions that were seen since the hour began.
    begun: HashSet<Vec<String>>,
    hour: i64,
    metrics: Arc<Metrics>,
}

impl Meter {
    /// An error says what of the filter cannot be, in AWS's words where they are known.
    pub fn new(group: &LogGroup, filter: MetricFilter, metrics: Arc<Metrics>) -> Result<Self, PatternError> {
        let invalid = |text: &str| PatternError(format!("Invalid metric transformation: {text}"));
        let pattern = Pattern::parse(&filter.pattern)?;
        if !filter.dimensions.is_empty() {
            if filter.default.is_some() {
                return Err(invalid("dimensions and default value are mutually exclusive properties"));
            }
            if !pattern.has_places() {
                return Err(PatternError("The specified filter pattern does not support dimensions".to_owned()));
            }
        }
        let value = match filter.value.parse::<f64>() {
            Ok(number) if number.is_finite() => Source::Number(number),
            _ => Source::Event(pattern.place(&filter.value).ok_or_else(|| {
                invalid("metric value must be a number, or a field that the filter pattern can take from an event")
            })?),
        };
        let place = |(name, said): (&String, &String)| {
            let place = pattern.place(said);
            place.map(|place| (name.clone(), place)).ok_or_else(|| {
                invalid("dimension values must be fields that the filter pattern can take from an event")
            })
        };
        let dimensions = filter.dimensions.iter().map(place).collect::<Result<_, _>>()?;
        let series = Series {
            account: group.account.to_string(),
            region: group.region.to_string(),
            namespace: filter.namespace.clone(),
            metric: filter.metric.clone(),
            unit: filter.unit.clone().filter(|unit| unit != "None"),
            dimensions: BTreeMap::new(),
        };
        let (minutes, begun) = (Minutes::default(), HashSet::new());
        Ok(Meter { filter, pattern, value, dimensions, series, minutes, begun, hour: 0, metrics })
    }

    pub fn see(&mut self, events: &[Stored]) {
        for event in events {
            let now = millis(event.ingested);
            let value = self.value(&event.message, now);
            if self.minutes.see(now, value.is_some()) {
                self.say_default(now);
            }
            let Some(Some((value, dimensions))) = value else { continue };
            let names = self.dimensions.iter().map(|(name, _)| name.clone());
            let dimensions = names.zip(dimensions).collect();
            self.metrics.add(Series { dimensions, ..self.series.clone() }, value, now);
        }
    }

    /// Time goes by.
    pub fn tick(&mut self, now: SystemTime) {
        let now = millis(now);
        if self.minutes.tick(now) {
            self.say_default(now);
        }
    }

    /// How long it is to the end of a minute for which the default may be due.
    pub fn minute_ends_in(&self, now: SystemTime) -> Option<Duration> {
        self.filter.default?;
        let rest = self.minutes.end()?.saturating_sub(millis(now));
        Some(Duration::from_millis(u64::try_from(rest).unwrap_or(0)))
    }

    fn say_default(&self, now: i64) {
        if let Some(value) = self.filter.default {
            self.metrics.add(self.series.clone(), value, now);
        }
    }

    /// None where the event does not match; nothing in it where it holds no number, or not every dimension.
    #[expect(clippy::option_option)]
    fn value(&mut self, message: &[u8], now: i64) -> Option<Option<(f64, Vec<String>)>> {
        let places = self.dimensions.iter().map(|(_, place)| place);
        let (value, dimensions) = match &self.value {
            Source::Number(number) => (Some(*number), self.pattern.values(message, places)?),
            Source::Event(place) => {
                let mut values = self.pattern.values(message, std::iter::once(place).chain(places))?;
                let number = values.remove(0).and_then(|text| text.trim().parse().ok());
                (number.filter(|number: &f64| number.is_finite()), values)
            }
        };
        let whole = |text: &String| !text.is_empty() && text.chars().count() <= DIMENSION_MAX;
        let dimensions: Option<Vec<String>> = dimensions.into_iter().map(|text| text.filter(whole)).collect();
        let (Some(value), Some(dimensions)) = (value, dimensions) else { return Some(None) };
        if !self.may_begin(&dimensions, now) {
            self.metrics.refuse();
            return Some(None);
        }
        Some(Some((value, dimensions)))
    }

    fn may_begin(&mut self, dimensions: &[String], now: i64) -> bool {
        if now / HOUR != self.hour {
            self.hour = now / HOUR;
            self.begun.clear();
        }
        if dimensions.is_empty() || self.begun.contains(dimensions) {
            return true;
        }
        self.begun.len() < BEGUN_MAX && self.begun.insert(dimensions.to_vec())
    }
}

/// Minutes with events, and whether one of them matched: of a minute in which none did, the default is said once it is
/// over. Of a minute without events nothing is said.
#[derive(Default)]
struct Minutes {
    /// The one with the latest events, while none of them matched.
    unmatched: Option<i64>,
    /// The latest in which one did.
    matched: Option<i64>,
}

impl Minutes {
    /// An event came; whether the default is due, of a minute before.
    fn see(&mut self, now: i64, matched: bool) -> bool {
        let due = self.tick(now);
        let minute = now / MINUTE;
        if matched {
            self.matched = Some(minute);
            self.unmatched = None;
        } else if self.matched != Some(minute) {
            self.unmatched = Some(minute);
        }
        due
    }

    /// Whether the default is due.
    fn tick(&mut self, now: i64) -> bool {
        self.unmatched.take_if(|minute| *minute < now / MINUTE).is_some()
    }

    /// Of the minute that may need the default; milliseconds since 1970.
    fn end(&self) -> Option<i64> {
        self.unmatched.map(|minute| (minute + 1) * MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hearth_model::{AccountId, Region};
    use proptest::prelude::*;

    use super::*;

    fn filter(pattern: &str, value: &str) -> MetricFilter {
        MetricFilter {
            name: "f".to_owned(),
            pattern: pattern.to_owned(),
            namespace: "n".to_owned(),
            metric: "m".to_owned(),
            value: value.to_owned(),
            ..MetricFilter::default()
        }
    }

    fn dimensioned(pattern: &str, value: &str, dimensions: &[(&str, &str)]) -> MetricFilter {
        let dimensions = dimensions.iter().map(|(name, place)| ((*name).to_owned(), (*place).to_owned())).collect();
        MetricFilter { dimensions, ..filter(pattern, value) }
    }

    fn meter(filter: MetricFilter) -> Result<Meter, PatternError> {
        let (account, region) = (AccountId::default_account(), Region::default_region());
        Meter::new(&LogGroup { account, region, name: "/g".into() }, filter, Arc::default())
    }

    fn event(at: u64, message: &str) -> Stored {
        let at = UNIX_EPOCH + Duration::from_millis(at);
        Stored { number: 1, at, ingested: at, stream: "s".into(), message: message.to_owned().into() }
    }

    /// Dimensions, count and sum of every series.
    fn counted(meter: &Meter) -> Vec<(String, u64, f64)> {
        let said = |(series, total): &(Series, Total)| {
            let dimensions: Vec<_> = series.dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (dimensions.join(","), total.count, total.sum)
        };
        meter.metrics.counted().series.iter().map(said).collect()
    }

    #[test]
    fn values_are_numbers_or_stand_in_the_event() {
        for (pattern, value, expected) in [
            ("ERROR", "1", (2, 2.0)),
            ("ERROR", "-2.5", (2, -5.0)),
            ("{ $.ms = * }", "$.ms", (3, 18.5)),
            ("{ $.ms >= 10 }", "$.ms", (1, 10.0)),
            ("{ $.ms = * }", "$.deep.er[1]", (1, 7.0)),
            ("[level, code = 5*, ...]", "$code", (1, 500.0)),
            ("[..., bytes]", "$bytes", (1, 12.0)),
        ] {
            let mut meter = meter(filter(pattern, value)).unwrap_or_else(|error| panic!("{pattern}: {}", error.0));
            let messages = [
                r#"{"ms": 5, "deep": {"er": [1, 7]}}"#,
                r#"{"ms": "3.5"}"#,
                r#"{"ms": 10, "x": "ERROR"}"#,
                r#"{"ms": "slow"}"#,
                r#"{"ms": true}"#,
                "ERROR 500 it failed 12",
            ];
            meter.see(&messages.map(|message| event(0, message)));
            assert_eq!(counted(&meter), [(String::new(), expected.0, expected.1)], "{pattern} {value}");
        }
    }

    #[test]
    fn each_combination_of_dimensions_is_a_series() {
        let by = [("Path", "$.path"), ("Status", "$.status")];
        let mut meter = meter(dimensioned("{ $.ms = * }", "$.ms", &by)).unwrap();
        let messages = [
            r#"{"ms": 1, "path": "/a", "status": 200}"#,
            r#"{"ms": 2, "path": "/a", "status": 200}"#,
            r#"{"ms": 4, "path": "/b", "status": 200}"#,
            r#"{"ms": 8, "path": "/b"}"#,
            r#"{"ms": 8, "path": "", "status": 200}"#,
            r#"{"ms": 8, "path": {}, "status": 200}"#,
        ];
        meter.see(&messages.map(|message| event(0, message)));
        let expected = [("Path=/a,Status=200".to_owned(), 2, 3.0), ("Path=/b,Status=200".to_owned(), 1, 4.0)];
        assert_eq!(counted(&meter), expected);
    }

    #[test]
    fn a_filter_that_begins_too_many_series_goes_on_with_those_that_there_are() {
        let mut meter = meter(dimensioned("[id]", "1", &[("Id", "$id")])).unwrap();
        let events: Vec<Stored> = (0..BEGUN_MAX + 5).map(|id| event(0, &id.to_string())).collect();
        meter.see(&events);
        meter.see(&events[..1]);
        assert_eq!((counted(&meter).len(), meter.metrics.counted().refused), (BEGUN_MAX, 5));
        assert_eq!(counted(&meter)[0], ("Id=0".to_owned(), 2, 2.0));
        meter.see(&[event(HOUR as u64, "another")]);
        assert_eq!(counted(&meter).len(), BEGUN_MAX + 1, "in the next hour there are others");
    }

    #[test]
    fn series_without_values_give_way_when_all_places_are_taken() {
        let metrics = Metrics::default();
        let named = |metric: usize| Series {
            account: String::new(),
            region: String::new(),
            namespace: String::new(),
            metric: metric.to_string(),
            unit: None,
            dimensions: BTreeMap::new(),
        };
        (0..SERIES_MAX).for_each(|metric| metrics.add(named(metric), 1.0, 0));
        metrics.add(named(0), 1.0, IDLE);
        metrics.add(named(SERIES_MAX), 1.0, IDLE - 1);
        assert_eq!((metrics.counted().series.len(), metrics.counted().refused), (SERIES_MAX, 1));
        metrics.add(named(SERIES_MAX), 1.0, IDLE);
        assert_eq!(metrics.counted().series.len(), 2);
    }

    #[test]
    fn the_default_is_said_of_minutes_with_events_of_which_none_matches() {
        let with_default = MetricFilter { default: Some(0.25), ..filter("ERROR", "1") };
        let mut meter = meter(with_default).unwrap();
        let minute = |number: u64| number * MINUTE as u64;
        // The first minute matches, the second does not, the third is silent, the fourth does not.
        meter.see(&[event(5, "fine"), event(10, "ERROR"), event(15, "fine")]);
        meter.see(&[event(minute(1), "fine"), event(minute(1) + 1, "fine")]);
        assert_eq!(counted(&meter), [(String::new(), 1, 1.0)]);
        let rest = meter.minute_ends_in(UNIX_EPOCH + Duration::from_millis(minute(1) + 59_000));
        assert_eq!(rest, Some(Duration::from_secs(1)));
        meter.tick(UNIX_EPOCH + Duration::from_millis(minute(2)));
        assert_eq!((counted(&meter), meter.minute_ends_in(UNIX_EPOCH)), (vec![(String::new(), 2, 1.25)], None));
        meter.see(&[event(minute(3), "fine")]);
        meter.see(&[event(minute(4), "ERROR")]);
        assert_eq!(counted(&meter), [(String::new(), 4, 2.5)]);
    }

    #[test]
    fn what_cannot_be_a_filter_is_refused() {
        let with_default = MetricFilter { default: Some(0.0), ..dimensioned("{ $.a = * }", "1", &[("A", "$.a")]) };
        for (filter, text) in [
            (
                with_default,
                "Invalid metric transformation: dimensions and default value are mutually exclusive properties",
            ),
            (dimensioned("ERROR", "1", &[("A", "$.a")]), "The specified filter pattern does not support dimensions"),
            (
                filter("ERROR", "$.a"),
                "Invalid metric transformation: metric value must be a number, or a field that the filter pattern can take \
                 from an event",
            ),
            (
                dimensioned("[a]", "1", &[("A", "$b")]),
                "Invalid metric transformation: dimension values must be fields that the filter pattern can take from an event",
            ),
        ] {
            assert_eq!(meter(filter).err().map(|error| error.0).as_deref(), Some(text));
        }
        for value in ["", "x", "NaN", "inf", "$.", "$", "$.a b", "$.a = 1"] {
            assert!(meter(filter("{ $.a = * }", value)).is_err(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn the_default_is_said_as_often_as_minutes_were_in_vain(
            mut events in proptest::collection::vec((0..20_i64, any::<bool>()), 0..60)
        ) {
            events.sort_by_key(|(minute, _)| *minute);
            let mut minutes = Minutes::default();
            let mut said = 0;
            for (minute, matched) in &events {
                said += usize::from(minutes.see(minute * MINUTE, *matched));
            }
            said += usize::from(minutes.tick(100 * MINUTE));
            let of = |matched: bool| -> HashSet<i64> {
                events.iter().filter(|event| event.1 == matched).map(|event| event.0).collect()
            };
            prop_assert_eq!(said, of(false).difference(&of(true)).count());
        }
    }
}
