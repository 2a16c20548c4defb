//! Filter patterns: which events of a log somebody means.
//!
//! ```text
//! ERROR -retry "not found"  ?a ?b  %4[0-9]+%     terms: `text`
//! { $.level = "ERROR" && $.size > 10 }           members of JSON: `json`
//! [ip, user, ..., status = 4*, bytes > 1000]     words: `space`
//! ```
//!
//! Pure: a pattern is parsed once and then asked of messages. Nothing in it is quadratic in a message; how long patterns are
//! is bounded by the model.

mod json;
mod space;
mod text;
mod value;

use std::collections::BTreeMap;

use hearth_wire::Error;
use hearth_wire_logs::errors::invalid_parameter_exception as invalid;

/// Regular expressions of one pattern.
const REGEXES_MAX: usize = 2;

/// What is wrong with a pattern, in AWS's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(pub String);

impl PatternError {
    fn characters(term: &str) -> Self {
        PatternError(format!("Invalid character(s) in term '{term}'"))
    }
}

/// As operations that search are answered.
impl From<PatternError> for Error {
    fn from(PatternError(text): PatternError) -> Self {
        if text.is_empty() {
            invalid("Invalid filter pattern")
        } else {
            invalid(format!("Invalid filter pattern: {text}"))
        }
    }
}

#[derive(Clone, Debug)]
pub struct Pattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Text(text::Terms),
    Json(json::Expression),
    Space(space::Fields),
}

/// Where a text stands in what a pattern matches: a member of JSON, or a word.
#[derive(Clone, Debug)]
pub enum Place {
    Member(json::Selector),
    Word(usize),
}

impl Pattern {
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let trimmed = pattern.trim();
        let mut cursor = Cursor { rest: trimmed, regexes: 0 };
        let kind = match trimmed.chars().next() {
            Some('{') if !trimmed.ends_with('}') => {
                return Err(PatternError("If a filter pattern starts with '{' it must end with '}'".to_owned()));
            }
            Some('[') if !trimmed.ends_with(']') => {
                return Err(PatternError("If a filter pattern starts with '[' it must end with ']'".to_owned()));
            }
            Some('{') => Kind::Json(json::parse(&mut cursor)?),
            Some('[') => Kind::Space(space::parse(&mut cursor)?),
            _ => Kind::Text(text::parse(&mut cursor)?),
        };
        if cursor.regexes > REGEXES_MAX {
            return Err(PatternError(format!("A filter pattern can have at most {REGEXES_MAX} regular expressions")));
        }
        Ok(Pattern(kind))
    }

    pub fn is_match(&self, message: &[u8]) -> bool {
        match &self.0 {
            Kind::Text(terms) => terms.is_match(message),
            Kind::Json(expression) => expression.is_match(message),
            Kind::Space(fields) => fields.is_match(message),
        }
    }

    /// Whether there are places in what it matches.
    pub fn has_places(&self) -> bool {
        !matches!(self.0, Kind::Text(_))
    }

    /// `$.a.b` of JSON, `$name` of words that the pattern names.
    pub fn place(&self, said: &str) -> Option<Place> {
        match &self.0 {
            Kind::Text(_) => None,
            Kind::Json(_) => json::whole_selector(said).map(Place::Member),
            Kind::Space(fields) => fields.place(said).map(Place::Word),
        }
    }

    /// What stands at places of this pattern, of a message that it matches.
    pub fn values<'a>(&self, message: &[u8], places: impl Iterator<Item = &'a Place>) -> Option<Vec<Option<String>>> {
        match &self.0 {
            Kind::Text(terms) => terms.is_match(message).then(|| places.map(|_| None).collect()),
            Kind::Json(expression) => {
                let json = expression.matched(message)?;
                let value = |place: &Place| match place {
                    Place::Member(selector) => selector.text(&json),
                    Place::Word(_) => None,
                };
                Some(places.map(value).collect())
            }
            Kind::Space(fields) => {
                let words = fields.matched(message)?;
                let value = |place: &Place| match place {
                    Place::Word(at) => words.get(*at).map(|word| String::from_utf8_lossy(word).into_owned()),
                    Place::Member(_) => None,
                };
                Some(places.map(value).collect())
            }
        }
    }

    /// What the pattern's names stand for in a message that it matches.
    pub fn extract(&self, message: &[u8]) -> BTreeMap<String, String> {
        match &self.0 {
            Kind::Text(_) => BTreeMap::new(),
            Kind::Json(expression) => expression.extract(message),
            Kind::Space(fields) => fields.extract(message),
        }
    }
}

/// What is left to read of a pattern.
struct Cursor<'a> {
    rest: &'a str,
    /// That were read.
    regexes: usize,
}

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// After space.
    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest.chars().next()
    }

    /// Takes `what` when it is next, after space.
    fn take(&mut self, what: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, what: &str) -> Result<(), PatternError> {
        if self.take(what) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// A word of letters, in any case, that ends where letters do.
    fn keyword(&mut self, word: &str) -> bool {
        self.skip_space();
        let Some(head) = self.rest.get(..word.len()) else { return false };
        let ends = self.rest[word.len()..].chars().next().is_none_or(|next| !next.is_ascii_alphanumeric());
        let found = ends && head.eq_ignore_ascii_case(word);
        if found {
            self.rest = &self.rest[word.len()..];
        }
        found
    }

    /// As long as `wanted`.
    fn while_is(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// What stands between double quotes; a backslash keeps what follows it.
    fn quoted(&mut self) -> Result<String, PatternError> {
        let whole = self.rest;
        let mut text = String::new();
        let mut characters = whole.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &whole[at + 1..];
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, kept @ ('"' | '\\'))) => text.push(kept),
                    Some((_, kept)) => text.extend(['\\', kept]),
                    None => break,
                },
                other => text.push(other),
            }
        }
        Err(PatternError::characters(whole))
    }

    fn unexpected(&self) -> PatternError {
        PatternError::characters(self.rest.split_whitespace().next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
