//! Conditions: an operator, the key of a fact, and values of which one must do.

use std::net::IpAddr;

use crate::evaluate::Facts;
use crate::glob;

#[derive(Clone, Debug)]
pub struct Condition {
    pub operator: Operator,
    /// In lower case: keys are the same whatever their case.
    pub key: String,
    pub values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub(crate) test: Test,
    negated: bool,
    /// `…IfExists`: holds when there is no such fact.
    if_exists: bool,
    over: Over,
}

/// How facts of several values are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// A fact of one value.
    One,
    /// `ForAllValues:`, also when there is none.
    All,
    /// `ForAnyValue:`.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Equals,
    EqualsAnyCase,
    Like,
    Number(Order),
    Date(Order),
    Bool,
    Ip,
    Arn,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, fact: T, value: T) -> bool {
        match self {
            Order::Equal => fact == value,
            Order::Less => fact < value,
            Order::LessOrEqual => fact <= value,
            Order::Greater => fact > value,
            Order::GreaterOrEqual => fact >= value,
        }
    }
}

impl Operator {
    pub fn parse(text: &str) -> Option<Self> {
        let (over, rest) = match text.split_once(':') {
            Some(("ForAllValues", rest)) => (Over::All, rest),
            Some(("ForAnyValue", rest)) => (Over::Any, rest),
            Some(_) => return None,
            None => (Over::One, text),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let (test, negated) = match name {
            "StringEquals" => (Test::Equals, false),
            "StringNotEquals" => (Test::Equals, true),
            "StringEqualsIgnoreCase" => (Test::EqualsAnyCase, false),
            "StringNotEqualsIgnoreCase" => (Test::EqualsAnyCase, true),
            "StringLike" => (Test::Like, false),
            "StringNotLike" => (Test::Like, true),
            "NumericEquals" => (Test::Number(Order::Equal), false),
            "NumericNotEquals" => (Test::Number(Order::Equal), true),
            "NumericLessThan" => (Test::Number(Order::Less), false),
            "NumericLessThanEquals" => (Test::Number(Order::LessOrEqual), false),
            "NumericGreaterThan" => (Test::Number(Order::Greater), false),
            "NumericGreaterThanEquals" => (Test::Number(Order::GreaterOrEqual), false),
            "DateEquals" => (Test::Date(Order::Equal), false),
            "DateNotEquals" => (Test::Date(Order::Equal), true),
            "DateLessThan" => (Test::Date(Order::Less), false),
            "DateLessThanEquals" => (Test::Date(Order::LessOrEqual), false),
            "DateGreaterThan" => (Test::Date(Order::Greater), false),
            "DateGreaterThanEquals" => (Test::Date(Order::GreaterOrEqual), false),
            "Bool" => (Test::Bool, false),
            "IpAddress" => (Test::Ip, false),
            "NotIpAddress" => (Test::Ip, true),
            "ArnEquals" | "ArnLike" => (Test::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
            "Null" if over == Over::One && !if_exists => (Test::Null, false),
            _ => return None,
        };
        Some(Operator { test, negated, if_exists, over })
    }

    /// Whether values are such as it can be about.
    pub fn reads(&self, values: &[String]) -> bool {
        let reads = |value: &String| match self.test {
            Test::Number(_) => value.parse::<f64>().is_ok(),
            Test::Date(_) => date(value).is_some(),
            Test::Bool | Test::Null => matches!(value.to_lowercase().as_str(), "true" | "false"),
            Test::Ip => network(value).is_some(),
            _ => true,
        };
        !values.is_empty() && values.iter().all(reads)
    }

    /// Whether one value of a fact is as one value of the condition says, before negation.
    fn is(&self, fact: &str, value: &str) -> bool {
        match self.test {
            Test::Equals => fact == value,
            Test::EqualsAnyCase => fact.to_lowercase() == value.to_lowercase(),
            Test::Like => glob::matches(value, fact),
            Test::Number(order) => {
                fact.parse::<f64>().ok().zip(value.parse::<f64>().ok()).is_some_and(|(f, v)| order.holds(f, v))
            }
            Test::Date(order) => date(fact).zip(date(value)).is_some_and(|(f, v)| order.holds(f, v)),
            Test::Bool | Test::Null => fact.to_lowercase() == value.to_lowercase(),
            Test::Ip => fact.parse().ok().zip(network(value)).is_some_and(|(fact, network)| network.has(fact)),
            Test::Arn => glob::matches_arn(value, fact),
        }
    }
}

impl Condition {
    pub fn holds(&self, facts: &Facts) -> bool {
        let found = facts.get(&self.key);
        let operator = &self.operator;
        if operator.test == Test::Null {
            let absent = found.is_none().to_string();
            return self.values.iter().any(|value| operator.is(&absent, value));
        }
        // Negated: none of the values.
        let one = |fact: &String| self.values.iter().any(|value| operator.is(fact, value)) != operator.negated;
        match (found, operator.over) {
            (None, Over::All) => true,
            // A fact that is not there is not as a negated operator says it must not be.
            (None, Over::One) => operator.if_exists || operator.negated,
            (None, Over::Any) => operator.if_exists,
            (Some(found), Over::One) => found.first().is_some_and(one) && found.len() == 1,
            (Some(found), Over::All) => found.iter().all(one),
            (Some(found), Over::Any) => found.iter().any(one),
        }
    }
}

/// ISO 8601, or seconds since 1970; in milliseconds.
fn date(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1000);
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let day = text.parse::<jiff::civil::Date>().ok()?;
    Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

struct Network {
    address: IpAddr,
    bits: u32,
}

fn network(text: &str) -> Option<Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse().ok()?)),
        None => (text.parse().ok()?, None),
    };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(whole);
    (bits <= whole).then_some(Network { address, bits })
}

impl Network {
    fn has(&self, other: IpAddr) -> bool {
        let same = |one: u128, other: u128, width: u32| {
            one.checked_shr(width - self.bits) == other.checked_shr(width - self.bits)
        };
        match (self.address, other) {
            (IpAddr::V4(one), IpAddr::V4(other)) => same(u32::from(one).into(), u32::from(other).into(), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => same(one.into(), other.into(), 128),
            _ => false,
        }
    }
}
