//! Terms: each must be in the message; with `-` none may be; with `?` one of them.

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::value::regex;
use super::{Cursor, PatternError};

#[derive(Clone, Debug)]
pub struct Terms {
    all: Vec<Term>,
    none: Vec<Term>,
    /// Of no effect beside others, as with AWS.
    any: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Text(Box<Finder<'static>>),
    Regex(Regex),
}

impl Term {
    fn is_in(&self, message: &[u8]) -> bool {
        match self {
            Term::Text(text) => text.find(message).is_some(),
            Term::Regex(regex) => regex.is_match(message),
        }
    }
}

impl Terms {
    pub fn is_match(&self, message: &[u8]) -> bool {
        let is_in = |term: &Term| term.is_in(message);
        if self.all.is_empty() && self.none.is_empty() {
            return self.any.is_empty() || self.any.iter().any(is_in);
        }
        self.all.iter().all(is_in) && !self.none.iter().any(is_in)
    }
}

pub fn parse(cursor: &mut Cursor<'_>) -> Result<Terms, PatternError> {
    let mut terms = Terms { all: Vec::new(), none: Vec::new(), any: Vec::new() };
    while let Some(first) = cursor.peek() {
        let kind = match first {
            '-' => &mut terms.none,
            '?' => &mut terms.any,
            _ => &mut terms.all,
        };
        if matches!(first, '-' | '?') {
            cursor.rest = &cursor.rest[1..];
        }
        kind.push(term(cursor)?);
    }
    Ok(terms)
}

fn term(cursor: &mut Cursor<'_>) -> Result<Term, PatternError> {
    let text = |text: &str| Term::Text(Box::new(Finder::new(text.as_bytes()).into_owned()));
    match cursor.rest.chars().next() {
        Some('"') => cursor.quoted().map(|quoted| text(&quoted)),
        Some('%') => regex(cursor).map(Term::Regex),
        _ => {
            let term = cursor.while_is(|c| !c.is_whitespace());
            // Anything else wants quotes.
            let plain = !term.is_empty() && term.chars().all(|c| c.is_alphanumeric() || c == '_');
            if plain { Ok(text(term)) } else { Err(PatternError::characters(term)) }
        }
    }
}
