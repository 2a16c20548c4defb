//! `stats`: what many events come to.

use std::collections::{HashMap, HashSet};

use super::Column;
use super::expression::{Expression, Fields};
use super::run::TooMuch;
use super::value::Value;

/// Groups that one command may make.
const GROUPS_MAX: usize = 100_000;
/// Values that percentiles and distinct counts of one command may remember.
const REMEMBERED_MAX: usize = 8_000_000;

/// One call of an aggregating function.
#[derive(Clone, Debug)]
pub struct Aggregate {
    pub kind: Kind,
    /// None of `count(*)`.
    pub of: Option<Expression>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Count,
    CountDistinct,
    Sum,
    Average,
    Least,
    Greatest,
    Percentile(f64),
    Deviation,
    Earliest,
    Latest,
    SortsFirst,
    SortsLast,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        const ALL: [(&str, Kind); 13] = [
            ("count", Kind::Count),
            ("count_distinct", Kind::CountDistinct),
            ("sum", Kind::Sum),
            ("avg", Kind::Average),
            ("min", Kind::Least),
            ("max", Kind::Greatest),
            ("pct", Kind::Percentile(0.0)),
            ("median", Kind::Percentile(50.0)),
            ("stddev", Kind::Deviation),
            ("earliest", Kind::Earliest),
            ("latest", Kind::Latest),
            ("sortsFirst", Kind::SortsFirst),
            ("sortsLast", Kind::SortsLast),
        ];
        ALL.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| kind)
    }
}

/// What was seen of one group by one call.
#[derive(Debug)]
enum State {
    Count(u64),
    Distinct(HashSet<String>),
    /// Count, mean, and squares of distances from it; sum.
    Numbers {
        count: f64,
        mean: f64,
        squares: f64,
        sum: f64,
    },
    Extreme(Value),
    All(Vec<f64>),
    /// And when.
    Dated(Option<(f64, Value)>),
}

impl State {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Count => State::Count(0),
            Kind::CountDistinct => State::Distinct(HashSet::new()),
            Kind::Sum | Kind::Average | Kind::Deviation => {
                State::Numbers { count: 0.0, mean: 0.0, squares: 0.0, sum: 0.0 }
            }
            Kind::Least | Kind::Greatest | Kind::SortsFirst | Kind::SortsLast => State::Extreme(Value::Nothing),
            Kind::Percentile(_) => State::All(Vec::new()),
            Kind::Earliest | Kind::Latest => State::Dated(None),
        }
    }

    /// How much more is remembered.
    fn see(&mut self, kind: Kind, value: Value, at: impl FnOnce() -> Option<f64>) -> usize {
        if value == Value::Nothing {
            return 0;
        }
        match self {
            State::Count(count) => *count += 1,
            State::Distinct(seen) => return usize::from(seen.insert(value.text().unwrap_or_default())),
            State::Numbers { count, mean, squares, sum } => {
                if let Some(number) = value.number() {
                    *count += 1.0;
                    let distance = number - *mean;
                    *mean += distance / *count;
                    *squares += distance * (number - *mean);
                    *sum += number;
                }
            }
            State::Extreme(so_far) => {
                let by_number = matches!(kind, Kind::Least | Kind::Greatest);
                if by_number && value.number().is_none() {
                    return 0;
                }
                let first = matches!(kind, Kind::Least | Kind::SortsFirst);
                let order = value.order(so_far);
                if *so_far == Value::Nothing || if first { order.is_lt() } else { order.is_gt() } {
                    *so_far = value;
                }
            }
            State::All(all) => {
                if let Some(number) = value.number() {
                    all.push(number);
                    return 1;
                }
            }
            State::Dated(so_far) => {
                if let Some(at) = at() {
                    let better =
                        |(when, _): &(f64, Value)| if kind == Kind::Earliest { at < *when } else { at >= *when };
                    if so_far.as_ref().is_none_or(better) {
                        *so_far = Some((at, value));
                    }
                }
            }
        }
        0
    }

    fn result(self, kind: Kind) -> Value {
        match self {
            State::Count(count) => Value::Number(count as f64),
            State::Distinct(seen) => Value::Number(seen.len() as f64),
            State::Numbers { count: 0.0, .. } => Value::Nothing,
            State::Numbers { count, mean, squares, sum } => Value::Number(match kind {
                Kind::Sum => sum,
                Kind::Deviation => (squares / count).sqrt(),
                _ => mean,
            }),
            State::Extreme(value) => value,
            State::All(mut all) => {
                let Kind::Percentile(percent) = kind else { return Value::Nothing };
                if all.is_empty() {
                    return Value::Nothing;
                }
                all.sort_unstable_by(f64::total_cmp);
                // The nearest rank.
                let rank = (percent / 100.0 * all.len() as f64).ceil() as usize;
                Value::Number(all[rank.clamp(1, all.len()) - 1])
            }
            State::Dated(found) => found.map_or(Value::Nothing, |(_, value)| value),
        }
    }
}

/// A `stats` command at work: who asks says each time which one.
#[derive(Default)]
pub struct Aggregation {
    places: HashMap<Vec<Option<String>>, usize>,
    groups: Vec<(Vec<Value>, Vec<State>)>,
    remembered: usize,
}

impl Aggregation {
    pub fn see(&mut self, aggregates: &[Aggregate], by: &[Column], fields: &dyn Fields) -> Result<(), TooMuch> {
        let keys: Vec<Value> = by.iter().map(|column| column.value.value(fields, &[])).collect();
        let texts: Vec<Option<String>> = keys.iter().map(Value::text).collect();
        let place = match self.places.get(&texts) {
            Some(place) => *place,
            None if self.groups.len() == GROUPS_MAX => return Err(TooMuch),
            None => {
                self.groups.push((keys, states(aggregates)));
                self.places.insert(texts, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        for (aggregate, state) in aggregates.iter().zip(&mut self.groups[place].1) {
            // `count(*)` counts whatever there is.
            let value = aggregate.of.as_ref().map_or(Value::Boolean(true), |of| of.value(fields, &[]));
            self.remembered += state.see(aggregate.kind, value, || fields.get("@timestamp").number());
        }
        if self.remembered > REMEMBERED_MAX { Err(TooMuch) } else { Ok(()) }
    }

    /// Each group's keys and results. Without events and without groups there is one row, of nothing.
    pub fn finish(mut self, aggregates: &[Aggregate], by: &[Column]) -> impl Iterator<Item = (Vec<Value>, Vec<Value>)> {
        if self.groups.is_empty() && by.is_empty() {
            self.groups.push((Vec::new(), states(aggregates)));
        }
        self.groups.into_iter().map(move |(keys, states)| {
            let results = aggregates.iter().zip(states).map(|(aggregate, state)| state.result(aggregate.kind));
            (keys, results.collect())
        })
    }
}

fn states(aggregates: &[Aggregate]) -> Vec<State> {
    aggregates.iter().map(|aggregate| State::new(aggregate.kind)).collect()
}
