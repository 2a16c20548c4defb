//! Words of a line, by their place: `[ip, ..., status = 4*]`. What stands in brackets or double quotes is one word.

use std::collections::BTreeMap;

use super::value::Value;
use super::{Cursor, PatternError};
use crate::comparison::Comparison;

#[derive(Clone, Debug)]
pub struct Fields {
    before: Vec<Field>,
    /// After `...`, where there is one: counted from the line's end.
    after: Option<Vec<Field>>,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    /// One of these groups must hold whole; empty when anything does.
    any: Vec<Vec<(Comparison, Value)>>,
}

pub fn parse(cursor: &mut Cursor<'_>) -> Result<Fields, PatternError> {
    cursor.expect("[")?;
    let mut fields = Fields { before: Vec::new(), after: None };
    loop {
        if cursor.take("...") {
            if fields.after.is_some() {
                return Err(PatternError("A filter pattern can have one ellipsis only".to_owned()));
            }
            fields.after = Some(Vec::new());
        } else {
            let field = field(cursor)?;
            fields.after.as_mut().unwrap_or(&mut fields.before).push(field);
        }
        if !cursor.take(",") {
            break;
        }
    }
    cursor.expect("]")?;
    if cursor.peek().is_some() { Err(cursor.unexpected()) } else { Ok(fields) }
}

/// `name`, or `name = a && name != b || name = c`, which may stand in parentheses.
fn field(cursor: &mut Cursor<'_>) -> Result<Field, PatternError> {
    let inside = cursor.take("(");
    let name = name(cursor)?;
    let mut field = Field { name: name.to_owned(), any: Vec::new() };
    if let Some(comparison) = Comparison::read(|text| cursor.take(text)) {
        field.any.push(vec![(comparison, Value::parse(cursor, comparison)?)]);
        loop {
            let alternative = cursor.take("||");
            if !alternative && !cursor.take("&&") {
                break;
            }
            let again = self::name(cursor)?;
            let comparison = comparison_of(cursor)?;
            if again != name {
                return Err(PatternError::characters(again));
            }
            let condition = (comparison, Value::parse(cursor, comparison)?);
            match field.any.last_mut() {
                Some(group) if !alternative => group.push(condition),
                _ => field.any.push(vec![condition]),
            }
        }
    }
    if inside {
        cursor.expect(")")?;
    }
    Ok(field)
}

fn comparison_of(cursor: &mut Cursor<'_>) -> Result<Comparison, PatternError> {
    Comparison::read(|text| cursor.take(text)).ok_or_else(|| cursor.unexpected())
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, PatternError> {
    cursor.skip_space();
    let name = cursor.while_is(|c| c.is_alphanumeric() || "_-.$@:".contains(c));
    if name.is_empty() { Err(cursor.unexpected()) } else { Ok(name) }
}

impl Fields {
    pub fn is_match(&self, message: &[u8]) -> bool {
        self.matched(message).is_some()
    }

    /// The fields' words in a message that it matches, in the order of the fields.
    pub fn matched<'a>(&'a self, message: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let placed = self.placed(message)?;
        let holds = placed.iter().all(|(field, word)| field.holds(word));
        holds.then(|| placed.into_iter().map(|(_, word)| word).collect())
    }

    /// Which field `$name` is.
    pub fn place(&self, said: &str) -> Option<usize> {
        let name = said.strip_prefix('$')?;
        let mut fields = self.before.iter().chain(self.after.iter().flatten());
        fields.position(|field| field.bare_name() == name)
    }

    pub fn extract(&self, message: &[u8]) -> BTreeMap<String, String> {
        let placed = self.placed(message).unwrap_or_default();
        let value = |(field, word): (&Field, &[u8])| {
            (format!("${}", field.bare_name()), String::from_utf8_lossy(word).into_owned())
        };
        placed.into_iter().map(value).collect()
    }

    /// Each field with its word; none when the line has too few words, or too many.
    fn placed<'a>(&'a self, message: &'a [u8]) -> Option<Vec<(&'a Field, &'a [u8])>> {
        let words = words(message);
        let after = self.after.as_deref().unwrap_or_default();
        let wanted = self.before.len() + after.len();
        let fits = if self.after.is_some() { words.len() >= wanted } else { words.len() == wanted };
        if !fits {
            return None;
        }
        let last = words[words.len() - after.len()..].iter();
        let first = words[..self.before.len()].iter();
        Some(self.before.iter().zip(first).chain(after.iter().zip(last)).map(|(field, word)| (field, *word)).collect())
    }
}

impl Field {
    fn bare_name(&self) -> &str {
        self.name.strip_prefix('$').unwrap_or(&self.name)
    }

    fn holds(&self, word: &[u8]) -> bool {
        let number = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
        let holds = |(comparison, value): &(Comparison, Value)| value.compare(*comparison, word, number);
        self.any.is_empty() || self.any.iter().any(|group| group.iter().all(holds))
    }
}

fn words(message: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut rest = message.trim_ascii();
    while let Some(first) = rest.first() {
        let closing = match first {
            b'[' => Some(b']'),
            b'"' => Some(b'"'),
            _ => None,
        };
        let enclosed = closing.and_then(|closing| {
            let end = rest[1..].iter().position(|byte| *byte == closing)?;
            Some((&rest[1..=end], &rest[end + 2..]))
        });
        let (word, left) = enclosed.unwrap_or_else(|| {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        });
        words.push(word);
        rest = left.trim_ascii_start();
    }
    words
}
