//! What may be asked for of a mapping, beyond the model's constraints (spec 6.1). Texts are AWS's where they are
//! known.

use hearth_queues::Facts;
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types::*;

use crate::filter;
use crate::record::{Pollers, Settings, Stream};
use crate::shard::Position;

const BATCH_SIZE: u32 = 10;
/// Above it a window is needed; of FIFO queues it is the most.
const BATCH_SIZE_SMALL: u32 = 10;
/// Of streams.
const BATCH_SIZE_OF_STREAMS: u32 = 100;
const AGE_MAX_S: std::ops::RangeInclusive<i64> = 60..=604_800;
const CONCURRENCY: std::ops::RangeInclusive<i64> = 2..=1000;
/// Of provisioned pollers: what the fewest, and the most, may be.
const POLLERS_MIN: (i64, i64) = (2, 200);
const POLLERS_MAX: (i64, i64) = (2, 10_000);
const POLLERS: Pollers = Pollers { min: 2, max: 200 };

/// What a request says of the settings; what it does not say stays.
pub struct Asked {
    pub batch_size: Option<i64>,
    pub window_s: Option<i64>,
    pub filters: Option<FilterCriteria>,
    pub response_types: Option<Vec<String>>,
    pub scaling: Option<ScalingConfig>,
    pub pollers: Option<ProvisionedPollerConfig>,
    pub metrics: Option<EventSourceMappingMetricsConfig>,
    pub kms_key: Option<String>,
    pub stream: AskedOfStream,
}

/// What a request says that only streams have. The destination was looked at before.
#[derive(Default)]
pub struct AskedOfStream {
    pub factor: Option<i64>,
    pub bisect: Option<bool>,
    pub retries: Option<i64>,
    pub age_max_s: Option<i64>,
    pub tumbling_s: Option<i64>,
    pub on_failure: Option<Option<String>>,
}

impl Asked {
    pub fn is_empty(&self) -> bool {
        self.batch_size.is_none()
            && self.window_s.is_none()
            && self.filters.is_none()
            && self.response_types.is_none()
            && self.scaling.is_none()
            && self.pollers.is_none()
            && self.metrics.is_none()
            && self.kms_key.is_none()
            && self.stream.is_empty()
    }
}

impl AskedOfStream {
    fn is_empty(&self) -> bool {
        self.factor.is_none()
            && self.bisect.is_none()
            && self.retries.is_none()
            && self.age_max_s.is_none()
            && self.tumbling_s.is_none()
            && self.on_failure.is_none()
    }
}

/// Of a mapping of a stream that begins there.
pub fn fresh_of_stream(start: Position) -> Settings {
    let stream = Some(Stream { start, ..Stream::default() });
    Settings { batch_size: BATCH_SIZE_OF_STREAMS, stream, ..fresh() }
}

/// Where a new mapping begins. What is wrong with moments is said in Hearth's words.
pub fn start(position: Option<&str>, at: Option<f64>) -> Result<Position, Error> {
    let Some(position) = position else {
        return Err(invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not \
             be null.",
        ));
    };
    match (position, at) {
        ("AT_TIMESTAMP", Some(at)) if at >= 0.0 => Ok(Position::Moment((at * 1000.0).round() as u64)),
        ("AT_TIMESTAMP", _) => {
            Err(invalid("StartingPositionTimestamp is required with StartingPosition AT_TIMESTAMP."))
        }
        (_, Some(_)) => Err(invalid("StartingPositionTimestamp is valid only with StartingPosition AT_TIMESTAMP.")),
        ("LATEST", None) => Ok(Position::Latest),
        _ => Ok(Position::Horizon),
    }
}

/// The settings of a stream as they are to be; the ranges of most are the model's.
fn apply_to_stream(before: &Stream, asked: AskedOfStream) -> Result<Stream, Error> {
    let number = |given: Option<i64>, before: u32| given.and_then(|given| u32::try_from(given).ok()).unwrap_or(before);
    // -1 is no limit.
    let limit = |given: Option<i64>, before: Option<u32>| given.map_or(before, |given| u32::try_from(given).ok());
    if asked.age_max_s.is_some_and(|age| age != -1 && !AGE_MAX_S.contains(&age)) {
        return Err(invalid(format!(
            "MaximumRecordAgeInSeconds must be -1 or between {} and {}.",
            AGE_MAX_S.start(),
            AGE_MAX_S.end()
        )));
    }
    Ok(Stream {
        start: before.start.clone(),
        factor: number(asked.factor, before.factor),
        bisect: asked.bisect.unwrap_or(before.bisect),
        retries: limit(asked.retries, before.retries),
        age_max_s: limit(asked.age_max_s, before.age_max_s),
        tumbling_s: number(asked.tumbling_s, before.tumbling_s),
        on_failure: asked.on_failure.unwrap_or_else(|| before.on_failure.clone()),
    })
}

pub fn fresh() -> Settings {
    Settings {
        batch_size: BATCH_SIZE,
        window_s: 0,
        filters: Vec::new(),
        reports: false,
        concurrency_max: None,
        pollers: None,
        metrics: None,
        kms_key: None,
        stream: None,
    }
}

/// The settings as they are to be.
/// `queue`: where it is one.
pub fn apply(before: &Settings, asked: Asked, queue: Option<Facts>) -> Result<Settings, Error> {
    let number = |given: Option<i64>, before: u32| given.and_then(|given| u32::try_from(given).ok()).unwrap_or(before);
    let mut settings = Settings {
        batch_size: number(asked.batch_size, before.batch_size),
        window_s: number(asked.window_s, before.window_s),
        ..before.clone()
    };
    if let Some(criteria) = asked.filters {
        settings.filters = filter::asked(criteria)?;
    }
    if let Some(types) = asked.response_types {
        settings.reports = types.iter().any(|kind| kind == "ReportBatchItemFailures");
    }
    if let Some(scaling) = asked.scaling {
        settings.concurrency_max = scaling.maximum_concurrency.map(concurrency).transpose()?;
    }
    if let Some(config) = asked.pollers {
        settings.pollers = pollers(config)?;
    }
    if let Some(metrics) = asked.metrics {
        settings.metrics = metrics.metrics.filter(|metrics| !metrics.is_empty());
        if settings.metrics.iter().flatten().any(|metric| metric != "EventCount") {
            return Err(unsupported("MetricsConfig"));
        }
    }
    settings.kms_key = asked.kms_key.or(settings.kms_key).filter(|key| !key.is_empty());
    if let Some(stream) = &before.stream {
        settings.stream = Some(apply_to_stream(stream, asked.stream)?);
        refuse(&[
            (settings.concurrency_max.is_some(), "ScalingConfig"),
            (settings.pollers.is_some(), "ProvisionedPollerConfig"),
        ])?;
        // Data of records is told apart by what is in it, not as a text (spec 6.9).
        if filter::compiled(&settings.filters).iter().any(|filter| filter.asks_inside("data") == Some(false)) {
            return Err(invalid("Invalid filter pattern definition."));
        }
    }
    if let Some(queue) = queue {
        check(&settings, queue)?;
    }
    Ok(settings)
}

fn check(settings: &Settings, queue: Facts) -> Result<(), Error> {
    if queue.is_fifo && settings.window_s > 0 {
        return Err(invalid("Batching window is not supported for FIFO queues"));
    }
    if queue.is_fifo && settings.batch_size > BATCH_SIZE_SMALL {
        return Err(invalid(format!("Maximum batch size for FIFO queues is {BATCH_SIZE_SMALL}")));
    }
    if settings.batch_size > BATCH_SIZE_SMALL && settings.window_s == 0 {
        return Err(invalid(format!(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than \
             {BATCH_SIZE_SMALL}"
        )));
    }
    if settings.concurrency_max.is_some() && settings.pollers.is_some() {
        return Err(invalid("ScalingConfig and ProvisionedPollerConfig cannot be used together."));
    }
    Ok(())
}

fn concurrency(asked: i64) -> Result<u32, Error> {
    let within = CONCURRENCY.contains(&asked).then(|| u32::try_from(asked).ok()).flatten();
    within.ok_or_else(|| {
        invalid(format!("MaximumConcurrency must be between {} and {}.", CONCURRENCY.start(), CONCURRENCY.end()))
    })
}

/// None at all of an empty configuration.
fn pollers(config: ProvisionedPollerConfig) -> Result<Option<Pollers>, Error> {
    let ProvisionedPollerConfig { minimum_pollers, maximum_pollers, poller_group_name } = config;
    if poller_group_name.is_some() {
        return Err(unsupported("PollerGroupName"));
    }
    if minimum_pollers.is_none() && maximum_pollers.is_none() {
        return Ok(None);
    }
    let within = |name: &str, given: Option<i64>, (from, to): (i64, i64), otherwise: u32| match given {
        None => Ok(otherwise),
        Some(given) if (from..=to).contains(&given) => Ok(u32::try_from(given).unwrap_or(otherwise)),
        Some(_) => Err(invalid(format!("{name} must be between {from} and {to}."))),
    };
    let min = within("MinimumPollers", minimum_pollers, POLLERS_MIN, POLLERS.min)?;
    let max = within("MaximumPollers", maximum_pollers, POLLERS_MAX, POLLERS.max.max(min))?;
    match min <= max {
        true => Ok(Some(Pollers { min, max })),
        false => Err(invalid("MinimumPollers must not be greater than MaximumPollers.")),
    }
}

pub fn unsupported(parameter: &str) -> Error {
    invalid(format!("Unsupported {parameter} parameter for given event source mapping type."))
}

/// A destination of what went well, and any of queues, which have their own dead letters.
pub fn refuse_destination(config: &Option<DestinationConfig>, is_stream: bool) -> Result<(), Error> {
    let config = config.as_ref();
    let success = config.and_then(|config| config.on_success.as_ref());
    let failure = config.and_then(|config| config.on_failure.as_ref()).and_then(|on| on.destination.as_ref());
    match success.is_some() || failure.is_some() && !is_stream {
        true => Err(unsupported("DestinationConfig")),
        false => Ok(()),
    }
}

/// Members that are other sources': whether each was given.
pub fn refuse(given: &[(bool, &str)]) -> Result<(), Error> {
    match given.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(unsupported(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn nothing() -> Asked {
        Asked {
            batch_size: None,
            window_s: None,
            filters: None,
            response_types: None,
            scaling: None,
            pollers: None,
            metrics: None,
            kms_key: None,
            stream: AskedOfStream::default(),
        }
    }

    fn applied(asked: Asked, is_fifo: bool) -> Result<Settings, String> {
        let queue = Facts { is_fifo, visibility: Duration::from_secs(30) };
        apply(&fresh(), asked, Some(queue)).map_err(|error| error.message.unwrap_or_default())
    }

    #[test]
    fn large_batches_need_a_window_and_fifo_has_neither() {
        let asked = |batch_size, window_s| Asked { batch_size, window_s, ..nothing() };
        let said = applied(asked(Some(11), None), false).unwrap_err();
        assert!(said.starts_with("Maximum batch window in seconds must be greater than 0 if"), "{said}");
        assert_eq!(applied(asked(Some(10_000), Some(1)), false).unwrap().batch_size, 10_000);
        assert!(applied(asked(Some(11), None), true).is_err() && applied(asked(None, Some(1)), true).is_err());
        assert_eq!(applied(nothing(), true).unwrap(), fresh());
        assert!(nothing().is_empty());
    }

    #[test]
    fn a_stream_has_settings_of_its_own() {
        let of = |stream| Asked { stream, ..nothing() };
        let before = fresh_of_stream(start(Some("LATEST"), None).ok().unwrap());
        let changed = |asked| apply(&before, asked, None).map_err(|error| error.message.unwrap_or_default());
        let some = AskedOfStream { retries: Some(2), age_max_s: Some(60), factor: Some(3), ..Default::default() };
        let stream = changed(of(some)).unwrap().stream.unwrap();
        assert_eq!((stream.retries, stream.age_max_s, stream.factor), (Some(2), Some(60), 3));
        let without = AskedOfStream { retries: Some(-1), age_max_s: Some(-1), ..Default::default() };
        assert_eq!(changed(of(without)).unwrap(), before);
        assert!(changed(of(AskedOfStream { age_max_s: Some(59), ..Default::default() })).is_err());
        let pattern = |pattern: &str| Some(vec![Filter { pattern: Some(pattern.to_owned()) }]);
        let filters = |text| Asked { filters: Some(FilterCriteria { filters: pattern(text) }), ..nothing() };
        assert!(
            changed(filters(r#"{"data":["plain"]}"#)).is_err() && changed(filters(r#"{"data":{"a":[1]}}"#)).is_ok()
        );
        let scaling = Some(ScalingConfig { maximum_concurrency: Some(2) });
        assert!(changed(Asked { scaling, ..nothing() }).is_err());
        assert!(start(None, None).is_err() && start(Some("AT_TIMESTAMP"), None).is_err());
        assert!(start(Some("LATEST"), Some(1.0)).is_err());
        assert_eq!(start(Some("AT_TIMESTAMP"), Some(1.5)).ok(), Some(Position::Moment(1_500)));
    }

    #[test]
    fn concurrency_and_pollers_exclude_each_other() {
        let scaling = |maximum_concurrency| Some(ScalingConfig { maximum_concurrency });
        let pollers = |minimum_pollers, maximum_pollers| {
            Some(ProvisionedPollerConfig { minimum_pollers, maximum_pollers, poller_group_name: None })
        };
        assert_eq!(applied(Asked { scaling: scaling(Some(2)), ..nothing() }, false).unwrap().concurrency_max, Some(2));
        assert!(applied(Asked { scaling: scaling(Some(1)), ..nothing() }, false).is_err());
        let some = applied(Asked { pollers: pollers(Some(5), None), ..nothing() }, false).unwrap().pollers;
        assert_eq!(some, Some(Pollers { min: 5, max: 200 }));
        assert!(applied(Asked { pollers: pollers(Some(9), Some(3)), ..nothing() }, false).is_err());
        assert!(applied(Asked { pollers: pollers(Some(1), None), ..nothing() }, false).is_err());
        let both = Asked { scaling: scaling(Some(2)), pollers: pollers(Some(5), None), ..nothing() };
        assert!(applied(both, false).is_err());
    }
}
