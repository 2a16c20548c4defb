//! What a member or word is compared with: a number, a text with `*` in it, or a regular expression.

use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};

use super::{Cursor, PatternError};
use crate::comparison::Comparison;

/// Memory that a compiled expression may take, bytes.
const REGEX_MAX: usize = 1 << 20;
/// Symbols of expressions beside letters, digits, space and operators.
const SYMBOLS: &str = ":_#=@/;,-";
const OPERATORS: &str = "^$?[]{}|\\*+.";

#[derive(Clone, Debug)]
pub enum Value {
    Number(f64, Wild),
    Text(Wild),
    Regex(Regex),
}

/// A text; what was `*` outside of quotes, or in them at either end, stands for anything.
#[derive(Clone, Debug)]
pub struct Wild(Vec<Vec<u8>>);

impl Wild {
    pub fn new(text: &str) -> Self {
        Wild(text.split('*').map(|part| part.as_bytes().to_vec()).collect())
    }

    /// The whole of it.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_slice()) else { return false };
        for part in middle {
            match memmem::find(rest, part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Value {
    pub fn parse(cursor: &mut Cursor<'_>, comparison: Comparison) -> Result<Self, PatternError> {
        let value = match cursor.peek() {
            Some('"') => Value::Text(Wild::new(&cursor.quoted()?)),
            Some('%') => Value::Regex(regex(cursor)?),
            _ => {
                let bare = cursor.while_is(|c| !c.is_whitespace() && !"()[]{}&|,=<>!\"".contains(c));
                match bare.parse::<f64>() {
                    _ if bare.is_empty() => return Err(cursor.unexpected()),
                    Ok(number) if number.is_finite() => Value::Number(number, Wild::new(bare)),
                    _ => Value::Text(Wild::new(bare)),
                }
            }
        };
        let is_ordered = !matches!(comparison, Comparison::Is | Comparison::IsNot);
        match value {
            Value::Text(_) | Value::Regex(_) if is_ordered => {
                Err(PatternError("Numeric operators can be used with numbers only".to_owned()))
            }
            value => Ok(value),
        }
    }

    pub fn compare(&self, comparison: Comparison, text: &[u8], number: Option<f64>) -> bool {
        let equal = || match self {
            Value::Number(value, wild) => number.map_or_else(|| wild.is_match(text), |number| number == *value),
            Value::Text(wild) => wild.is_match(text),
            Value::Regex(regex) => regex.is_match(text),
        };
        match (comparison, self, number) {
            (Comparison::Is, ..) => equal(),
            (Comparison::IsNot, ..) => !equal(),
            (ordered, Value::Number(value, _), Some(number)) => ordered.holds(number.partial_cmp(value)),
            _ => false,
        }
    }
}

/// `%…%`: letters, digits, some symbols and operators; no groups.
pub fn regex(cursor: &mut Cursor<'_>) -> Result<Regex, PatternError> {
    let whole = cursor.rest;
    let body = &whole[1..];
    let mut escaped = false;
    let end = body.find(|character| {
        let ends = character == '%' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return Err(cursor.unexpected()) };
    let (text, term) = (&body[..end], &whole[..end + 2]);
    let mut after_escape = false;
    let allowed = |character: char| {
        let kept = after_escape && character.is_ascii_graphic();
        after_escape = character == '\\' && !after_escape;
        kept || character == ' '
            || character.is_ascii_alphanumeric()
            || SYMBOLS.contains(character)
            || OPERATORS.contains(character)
    };
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(PatternError::characters(term));
    }
    cursor.rest = &body[end + 1..];
    cursor.regexes += 1;
    let compiled = RegexBuilder::new(text).unicode(false).size_limit(REGEX_MAX).build();
    compiled.map_err(|_| PatternError::characters(term))
}
