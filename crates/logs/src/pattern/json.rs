//! Members of JSON: comparisons, combined by `&&` and `||`.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::value::Value;
use super::{Cursor, PatternError};
use crate::comparison::Comparison;

/// How deep parentheses may be.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug)]
pub enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Compare(Selector, Comparison, Value),
    Null(Selector),
    Boolean(Selector, bool),
    Exists(Selector, bool),
}

/// `$.a.b[0]`.
#[derive(Clone, Debug)]
pub struct Selector {
    said: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Member(String),
    Element(usize),
    /// `[*]`: any element.
    Elements,
}

pub fn parse(cursor: &mut Cursor<'_>) -> Result<Expression, PatternError> {
    cursor.expect("{")?;
    let expression = any(cursor, 0)?;
    cursor.expect("}")?;
    if cursor.peek().is_some() { Err(cursor.unexpected()) } else { Ok(expression) }
}

fn any(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expression, PatternError> {
    let mut parts = vec![all(cursor, depth)?];
    while cursor.take("||") {
        parts.push(all(cursor, depth)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
}

fn all(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expression, PatternError> {
    let mut parts = vec![one(cursor, depth)?];
    while cursor.take("&&") {
        parts.push(one(cursor, depth)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
}

fn one(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expression, PatternError> {
    if cursor.take("(") {
        if depth == DEPTH_MAX {
            return Err(cursor.unexpected());
        }
        let inner = any(cursor, depth + 1)?;
        cursor.expect(")")?;
        return Ok(inner);
    }
    let selector = selector(cursor)?;
    if cursor.keyword("NOT") {
        return if cursor.keyword("EXISTS") {
            Ok(Expression::Exists(selector, false))
        } else {
            Err(cursor.unexpected())
        };
    }
    if cursor.keyword("EXISTS") {
        return Ok(Expression::Exists(selector, true));
    }
    if cursor.keyword("IS") {
        return match () {
            () if cursor.keyword("NULL") => Ok(Expression::Null(selector)),
            () if cursor.keyword("TRUE") => Ok(Expression::Boolean(selector, true)),
            () if cursor.keyword("FALSE") => Ok(Expression::Boolean(selector, false)),
            () => Err(cursor.unexpected()),
        };
    }
    let comparison = Comparison::read(|text| cursor.take(text)).ok_or_else(|| cursor.unexpected())?;
    let value = Value::parse(cursor, comparison)?;
    Ok(Expression::Compare(selector, comparison, value))
}

/// A text that is a selector and nothing else.
pub fn whole_selector(said: &str) -> Option<Selector> {
    let mut cursor = Cursor { rest: said, regexes: 0 };
    selector(&mut cursor).ok().filter(|_| cursor.rest.is_empty())
}

fn selector(cursor: &mut Cursor<'_>) -> Result<Selector, PatternError> {
    cursor.skip_space();
    let whole = cursor.rest;
    cursor.expect("$")?;
    let mut steps = Vec::new();
    loop {
        if cursor.rest.starts_with(".[") {
            cursor.rest = &cursor.rest[1..];
        }
        if let Some(rest) = cursor.rest.strip_prefix('.') {
            cursor.rest = rest;
            let name = cursor.while_is(|c| c.is_alphanumeric() || "_-@#$:/".contains(c));
            if name.is_empty() {
                return Err(PatternError::characters(whole.split_whitespace().next().unwrap_or_default()));
            }
            steps.push(Step::Member(name.to_owned()));
        } else if let Some(rest) = cursor.rest.strip_prefix('[') {
            cursor.rest = rest;
            steps.push(bracket(cursor)?);
        } else {
            break;
        }
    }
    if steps.is_empty() {
        return Err(cursor.unexpected());
    }
    Ok(Selector { said: whole[..whole.len() - cursor.rest.len()].to_owned(), steps })
}

/// What stands between brackets: an index, `*`, or a name in quotes.
fn bracket(cursor: &mut Cursor<'_>) -> Result<Step, PatternError> {
    let step = match cursor.peek() {
        Some('*') => {
            cursor.rest = &cursor.rest[1..];
            Step::Elements
        }
        Some('"') => Step::Member(cursor.quoted()?),
        Some('\'') => {
            let rest = &cursor.rest[1..];
            let end = rest.find('\'').ok_or_else(|| cursor.unexpected())?;
            cursor.rest = &rest[end + 1..];
            Step::Member(rest[..end].to_owned())
        }
        _ => {
            let digits = cursor.while_is(|c| c.is_ascii_digit());
            Step::Element(digits.parse().map_err(|_| cursor.unexpected())?)
        }
    };
    cursor.expect("]")?;
    Ok(step)
}

impl Expression {
    pub fn is_match(&self, message: &[u8]) -> bool {
        self.matched(message).is_some()
    }

    /// A message that it matches, as JSON.
    pub fn matched(&self, message: &[u8]) -> Option<Json> {
        read(message).filter(|json| self.holds(json))
    }

    fn holds(&self, json: &Json) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(json)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(json)),
            Expression::Null(selector) => selector.any(json, &|found| found.is_null()),
            Expression::Boolean(selector, wanted) => selector.any(json, &|found| found.as_bool() == Some(*wanted)),
            Expression::Exists(selector, wanted) => selector.any(json, &|_| true) == *wanted,
            Expression::Compare(selector, comparison, value) => selector.any(json, &|found| match found {
                Json::String(text) => value.compare(*comparison, text.as_bytes(), text.trim().parse().ok()),
                Json::Number(number) => value.compare(*comparison, number.to_string().as_bytes(), number.as_f64()),
                Json::Bool(boolean) => value.compare(*comparison, boolean.to_string().as_bytes(), None),
                _ => false,
            }),
        }
    }

    pub fn extract(&self, message: &[u8]) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        if let Some(json) = read(message) {
            self.each_selector(&mut |selector| {
                if let Some(found) = selector.first(&json) {
                    let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                    values.insert(selector.said.clone(), text);
                }
            });
        }
        values
    }

    fn each_selector(&self, told: &mut impl FnMut(&Selector)) {
        match self {
            Expression::All(parts) | Expression::Any(parts) => parts.iter().for_each(|part| part.each_selector(told)),
            Expression::Compare(selector, ..)
            | Expression::Null(selector)
            | Expression::Boolean(selector, _)
            | Expression::Exists(selector, _) => told(selector),
        }
    }
}

/// What is no JSON object matches nothing.
fn read(message: &[u8]) -> Option<Json> {
    let begins = message.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins == Some(&b'{') { serde_json::from_slice(message).ok() } else { None }
}

impl Selector {
    fn any(&self, json: &Json, wanted: &dyn Fn(&Json) -> bool) -> bool {
        any_of(&self.steps, json, wanted)
    }

    /// A text or a number.
    pub fn text(&self, json: &Json) -> Option<String> {
        match self.first(json)? {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn first<'a>(&self, json: &'a Json) -> Option<&'a Json> {
        self.steps.iter().try_fold(json, |json, step| match step {
            Step::Member(name) => json.get(name),
            Step::Element(index) => json.get(index),
            Step::Elements => json.get(0),
        })
    }
}

fn any_of(steps: &[Step], json: &Json, wanted: &dyn Fn(&Json) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return wanted(json) };
    match step {
        Step::Member(name) => json.get(name).is_some_and(|found| any_of(rest, found, wanted)),
        Step::Element(index) => json.get(index).is_some_and(|found| any_of(rest, found, wanted)),
        Step::Elements => json.as_array().is_some_and(|all| all.iter().any(|found| any_of(rest, found, wanted))),
    }
}
