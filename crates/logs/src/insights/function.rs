//! What can be called.

use std::net::IpAddr;

use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::value::Value;

macro_rules! functions {
    ($($variant:ident = $name:literal, $least:literal, $most:expr;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function {
            $($variant,)+
        }

        impl Function {
            /// With how few and how many arguments it may be called.
            pub fn named(name: &str) -> Option<(Self, std::ops::RangeInclusive<usize>)> {
                $(if name.eq_ignore_ascii_case($name) {
                    return Some((Function::$variant, $least..=$most));
                })+
                None
            }
        }
    };
}

/// Arguments of functions that take any number of them.
const MANY: usize = 64;

functions! {
    Abs = "abs", 1, 1;
    Ceil = "ceil", 1, 1;
    Floor = "floor", 1, 1;
    Greatest = "greatest", 1, MANY;
    Least = "least", 1, MANY;
    Log = "log", 1, 1;
    Sqrt = "sqrt", 1, 1;
    Bin = "bin", 1, 2;
    DateFloor = "datefloor", 2, 2;
    DateCeil = "dateceil", 2, 2;
    FromMillis = "fromMillis", 1, 1;
    ToMillis = "toMillis", 1, 1;
    IsPresent = "ispresent", 1, 1;
    Coalesce = "coalesce", 1, MANY;
    If = "if", 3, 3;
    IsEmpty = "isempty", 1, 1;
    IsBlank = "isblank", 1, 1;
    Concat = "concat", 1, MANY;
    Ltrim = "ltrim", 1, 2;
    Rtrim = "rtrim", 1, 2;
    Trim = "trim", 1, 2;
    Strlen = "strlen", 1, 1;
    Toupper = "toupper", 1, 1;
    Tolower = "tolower", 1, 1;
    Substr = "substr", 2, 3;
    Replace = "replace", 3, 3;
    Strcontains = "strcontains", 2, 2;
    IsValidIp = "isValidIp", 1, 1;
    IsValidIpv4 = "isValidIpv4", 1, 1;
    IsValidIpv6 = "isValidIpv6", 1, 1;
    IsIpInSubnet = "isIpInSubnet", 2, 2;
    IsIpv4InSubnet = "isIpv4InSubnet", 2, 2;
    IsIpv6InSubnet = "isIpv6InSubnet", 2, 2;
}

impl Function {
    /// As many arguments as it may be called with. What makes no sense is nothing.
    pub fn call(self, arguments: &[Value]) -> Value {
        let [first, rest @ ..] = arguments else { return Value::Nothing };
        let number = |result: fn(f64) -> f64| {
            let result = first.number().map(result).filter(|result| result.is_finite());
            result.map_or(Value::Nothing, Value::Number)
        };
        let of_text = |result: &dyn Fn(String) -> Value| first.text().map_or(Value::Nothing, result);
        let second = || rest.first().and_then(Value::text);
        match self {
            Function::Abs => number(f64::abs),
            Function::Ceil => number(f64::ceil),
            Function::Floor => number(f64::floor),
            Function::Log => number(f64::ln),
            Function::Sqrt => number(f64::sqrt),
            Function::Greatest => extreme(arguments, f64::max),
            Function::Least => extreme(arguments, f64::min),
            // `bin(5m)` was given the event's time when it was parsed.
            Function::Bin | Function::DateFloor => dated(first, rest, Period::begin),
            Function::DateCeil => dated(first, rest, Period::end),
            Function::FromMillis => first.number().map_or(Value::Nothing, |millis| Value::Time(millis as i64)),
            Function::ToMillis => match first {
                Value::Time(millis) => Value::Number(*millis as f64),
                _ => Value::Nothing,
            },
            Function::IsPresent => Value::Boolean(*first != Value::Nothing),
            Function::Coalesce => arguments.iter().find(|value| **value != Value::Nothing).cloned().unwrap_or_default(),
            Function::If => rest.get(usize::from(!first.is_true())).cloned().unwrap_or_default(),
            Function::IsEmpty => Value::Boolean(first.text().is_none_or(|text| text.is_empty())),
            Function::IsBlank => Value::Boolean(first.text().is_none_or(|text| text.trim().is_empty())),
            Function::Concat => Value::Text(arguments.iter().filter_map(Value::text).collect()),
            Function::Ltrim => of_text(&|text| Value::Text(trimmed(&text, second(), true, false))),
            Function::Rtrim => of_text(&|text| Value::Text(trimmed(&text, second(), false, true))),
            Function::Trim => of_text(&|text| Value::Text(trimmed(&text, second(), true, true))),
            Function::Strlen => of_text(&|text| Value::Number(text.chars().count() as f64)),
            Function::Toupper => of_text(&|text| Value::Text(text.to_uppercase())),
            Function::Tolower => of_text(&|text| Value::Text(text.to_lowercase())),
            Function::Substr => {
                let index = |at: usize| rest.get(at).and_then(Value::number).map(|number| number.max(0.0) as usize);
                let length = index(1).unwrap_or(usize::MAX);
                of_text(&|text| Value::Text(text.chars().skip(index(0).unwrap_or(0)).take(length).collect()))
            }
            Function::Replace => {
                let with = rest.get(1).and_then(Value::text).unwrap_or_default();
                of_text(&|text| match second() {
                    Some(what) if !what.is_empty() => Value::Text(text.replace(&what, &with)),
                    _ => Value::Text(text),
                })
            }
            Function::Strcontains => {
                let holds = first.text().zip(second()).is_some_and(|(text, part)| text.contains(&part));
                Value::Number(f64::from(u8::from(holds)))
            }
            Function::IsValidIp => Value::Boolean(address(first).is_some()),
            Function::IsValidIpv4 => Value::Boolean(address(first).is_some_and(|address| address.is_ipv4())),
            Function::IsValidIpv6 => Value::Boolean(address(first).is_some_and(|address| address.is_ipv6())),
            Function::IsIpInSubnet => Value::Boolean(in_subnet(address(first), second())),
            Function::IsIpv4InSubnet => Value::Boolean(in_subnet(address(first).filter(IpAddr::is_ipv4), second())),
            Function::IsIpv6InSubnet => Value::Boolean(in_subnet(address(first).filter(IpAddr::is_ipv6), second())),
        }
    }
}

fn extreme(values: &[Value], of: fn(f64, f64) -> f64) -> Value {
    values.iter().filter_map(Value::number).reduce(of).map_or(Value::Nothing, Value::Number)
}

fn trimmed(text: &str, characters: Option<String>, left: bool, right: bool) -> String {
    let wanted = |c: char| characters.as_ref().map_or(c.is_whitespace(), |all| all.contains(c));
    let text = if left { text.trim_start_matches(wanted) } else { text };
    if right { text.trim_end_matches(wanted) } else { text }.to_owned()
}

fn address(value: &Value) -> Option<IpAddr> {
    value.text()?.parse().ok()
}

/// Of `10.0.0.0/8`.
fn in_subnet(address: Option<IpAddr>, subnet: Option<String>) -> bool {
    let within = || {
        let subnet = subnet?;
        let (base, length) = subnet.split_once('/')?;
        let (base, length): (IpAddr, u32) = (base.parse().ok()?, length.parse().ok()?);
        match (address?, base) {
            (IpAddr::V4(address), IpAddr::V4(base)) if length <= 32 => {
                let different = u32::from(address) ^ u32::from(base);
                Some(length == 0 || different >> (32 - length) == 0)
            }
            (IpAddr::V6(address), IpAddr::V6(base)) if length <= 128 => {
                let different = u128::from(address) ^ u128::from(base);
                Some(length == 0 || different >> (128 - length) == 0)
            }
            _ => None,
        }
    };
    within().unwrap_or(false)
}

/// What times are rounded to. Written as its text in a query, so that it is a value like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Millis(i64),
    Months(i64),
}

impl Period {
    /// `5m`, `1h`; `mo`, `q` and `y` are of the calendar.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = text[..end].parse().ok().filter(|count| (1..=100_000).contains(count))?;
        Some(match &text[end..] {
            "ms" | "msec" => Period::Millis(count),
            "s" | "sec" => Period::Millis(count * 1000),
            "m" | "min" => Period::Millis(count * 60_000),
            "h" | "hr" => Period::Millis(count * 3_600_000),
            "d" => Period::Millis(count * 86_400_000),
            "w" => Period::Millis(count * 7 * 86_400_000),
            "mo" | "mon" => Period::Months(count),
            "q" | "qtr" => Period::Months(count * 3),
            "y" | "yr" => Period::Months(count * 12),
            _ => return None,
        })
    }

    fn begin(self, millis: i64) -> Option<i64> {
        match self {
            Period::Millis(size) => Some(millis.div_euclid(size) * size),
            Period::Months(count) => {
                let at = jiff::Timestamp::from_millisecond(millis).ok()?.to_zoned(TimeZone::UTC).datetime();
                let months = i64::from(at.year()) * 12 + i64::from(at.month()) - 1;
                month(months.div_euclid(count) * count)
            }
        }
    }

    fn end(self, millis: i64) -> Option<i64> {
        let begin = self.begin(millis)?;
        match self {
            _ if begin == millis => Some(begin),
            Period::Millis(size) => begin.checked_add(size),
            Period::Months(count) => {
                let at = jiff::Timestamp::from_millisecond(begin).ok()?.to_zoned(TimeZone::UTC).datetime();
                moment(at.checked_add(count.months()).ok()?)
            }
        }
    }
}

/// Of months since the year 0.
fn month(months: i64) -> Option<i64> {
    let year = i16::try_from(months.div_euclid(12)).ok()?;
    let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
    moment(DateTime::new(year, month, 1, 0, 0, 0, 0).ok()?)
}

fn moment(at: DateTime) -> Option<i64> {
    at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp().as_millisecond())
}

fn dated(at: &Value, rest: &[Value], round: fn(Period, i64) -> Option<i64>) -> Value {
    let Value::Time(millis) = at else { return Value::Nothing };
    let period = rest.first().and_then(Value::text).and_then(|text| Period::parse(&text));
    period.and_then(|period| round(period, *millis)).map_or(Value::Nothing, Value::Time)
}
