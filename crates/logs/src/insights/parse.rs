//! From text to a query.

use regex::{Regex, RegexBuilder};

use super::aggregate::{Aggregate, Kind};
use super::expression::{Expression, Like, Operation};
use super::function::{Function, Period};
use super::value::Value;
use super::{Column, Command, Direction, Query, QueryError};
use crate::comparison::Comparison;

/// How deep expressions may be.
const DEPTH_MAX: usize = 64;
/// Commands of one query.
const COMMANDS_MAX: usize = 100;
/// Memory that a compiled expression may take, bytes.
const REGEX_MAX: usize = 1 << 20;
/// Rows that a query may ask for.
const LIMIT_MAX: usize = 100_000;
/// Commands that are not built.
const UNBUILT: &[&str] =
    &["anomaly", "diff", "filterIndex", "join", "lookup", "pattern", "SOURCE", "subqueries", "unmask", "unnest"];
/// Functions that are not built.
const UNBUILT_FUNCTIONS: &[&str] = &["jsonParse", "jsonStringify", "now", "case"];

pub fn parse(text: &str) -> Result<Query, QueryError> {
    let mut parser = Parser { text, at: 0, depth: 0, aggregates: None };
    let mut commands = Vec::new();
    parser.space();
    // A query may begin with the sign between commands.
    parser.take("|");
    loop {
        commands.push(parser.command()?);
        parser.space();
        if parser.is_at_end() {
            return Ok(Query { commands });
        }
        parser.expect("|")?;
        if commands.len() == COMMANDS_MAX {
            return Err(parser.malformed("too many commands", parser.at));
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Calls of aggregating functions, where they may be.
    aggregates: Option<Vec<Aggregate>>,
}

impl<'a> Parser<'a> {
    fn command(&mut self) -> Result<Command, QueryError> {
        self.space();
        let begin = self.at;
        let word = self.letters();
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("fields") {
            self.columns().map(Command::Fields)
        } else if is("display") {
            self.columns().map(Command::Display)
        } else if is("filter") || is("where") {
            self.expression().map(Command::Filter)
        } else if is("stats") {
            self.stats()
        } else if is("sort") || is("order") {
            self.keyword("by");
            self.list(Parser::sort_key).map(Command::Sort)
        } else if is("limit") || is("head") {
            self.limit()
        } else if is("dedup") {
            self.list(|parser| parser.name().map(Into::into)).map(Command::Dedup)
        } else if is("parse") {
            self.parse_command()
        } else if UNBUILT.iter().any(|name| is(name)) {
            Err(QueryError::Unsupported(format!("the query command {word}")))
        } else {
            self.at = begin;
            Err(self.unexpected())
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, QueryError>) -> Result<Vec<T>, QueryError> {
        let mut items = vec![item(self)?];
        while self.take(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn columns(&mut self) -> Result<Vec<Column>, QueryError> {
        self.list(Parser::column)
    }

    /// `expression as name`, else it is called as it is written.
    fn column(&mut self) -> Result<Column, QueryError> {
        self.space();
        let begin = self.at;
        let value = self.expression()?;
        let written = self.text[begin..self.at].trim();
        let name = match (&value, self.keyword("as")) {
            (_, true) => self.name()?,
            (Expression::Field(name), _) => name.clone(),
            _ => written.to_owned(),
        };
        Ok(Column { value, name: name.into() })
    }

    fn stats(&mut self) -> Result<Command, QueryError> {
        self.aggregates = Some(Vec::new());
        let columns = self.columns();
        let aggregates = self.aggregates.take().unwrap_or_default();
        let by = if self.keyword("by") { self.columns()? } else { Vec::new() };
        Ok(Command::Stats { aggregates, columns: columns?, by })
    }

    fn sort_key(&mut self) -> Result<(Expression, Direction), QueryError> {
        // What a `stats` command has called as it was written is a field now.
        let key = self.called()?;
        let direction = if self.keyword("desc") {
            Direction::Descending
        } else {
            self.keyword("asc");
            Direction::Ascending
        };
        Ok((key, direction))
    }

    /// An expression, or a column's written name such as `count(*)` or `bin(5m)`.
    fn called(&mut self) -> Result<Expression, QueryError> {
        self.space();
        let begin = self.at;
        let name = self.letters();
        if Kind::named(name).is_some() && self.rest().starts_with('(') {
            let Some(end) = self.rest().find(')') else { return Err(self.unexpected()) };
            self.at += end + 1;
            return Ok(Expression::Field(self.text[begin..self.at].to_owned()));
        }
        if name.eq_ignore_ascii_case("bin") && self.rest().starts_with('(') {
            self.at = begin;
            let value = self.expression()?;
            let written = self.text[begin..self.at].trim().to_owned();
            // Where no column is called so, it is reckoned.
            return Ok(Expression::Call(Function::Coalesce, vec![Expression::Field(written), value]));
        }
        self.at = begin;
        self.expression()
    }

    fn limit(&mut self) -> Result<Command, QueryError> {
        self.space();
        let begin = self.at;
        let digits = self.digits();
        match digits.parse::<usize>() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(Command::Limit(limit)),
            _ => {
                self.at = begin;
                Err(self.unexpected())
            }
        }
    }

    /// `parse FIELD "glob" as a, b` or `parse FIELD /(?<a>…)/`; without a field it is the message.
    fn parse_command(&mut self) -> Result<Command, QueryError> {
        self.space();
        let bare = matches!(self.rest().chars().next(), Some('"' | '\'' | '/'));
        let source = if bare { Expression::Field("@message".to_owned()) } else { self.primary()? };
        self.space();
        let begin = self.at;
        if self.rest().starts_with('/') {
            let with = self.regex()?;
            let named = with.capture_names().enumerate();
            let mut names: Vec<(usize, std::sync::Arc<str>)> =
                named.filter_map(|(at, name)| Some((at, name?.into()))).collect();
            if self.keyword("as") {
                let given = self.list(Parser::name)?;
                if given.len() != with.captures_len() - 1 {
                    return Err(self.malformed("the number of names is not that of the groups", begin));
                }
                names = given.into_iter().enumerate().map(|(at, name)| (at + 1, name.into())).collect();
            }
            if names.is_empty() {
                return Err(self.malformed("the regular expression names no group", begin));
            }
            return Ok(Command::Parse { source, with, names });
        }
        let glob = self.string()?;
        if !self.keyword("as") {
            return Err(self.unexpected());
        }
        let names = self.list(Parser::name)?;
        let parts: Vec<String> = glob.split('*').map(regex::escape).collect();
        if names.len() != parts.len() - 1 {
            return Err(self.malformed("the number of names is not that of the asterisks", begin));
        }
        // The last asterisk takes all that is left.
        let ends = parts.last().is_some_and(String::is_empty);
        let pattern = format!("(?s){}{}", parts.join("(.*?)"), if ends { "$" } else { "" });
        let with = self.compiled(&pattern, begin)?;
        let names = names.into_iter().enumerate().map(|(at, name)| (at + 1, name.into())).collect();
        Ok(Command::Parse { source, with, names })
    }

    fn expression(&mut self) -> Result<Expression, QueryError> {
        if self.depth == DEPTH_MAX {
            return Err(self.malformed("the expression is too deep", self.at));
        }
        self.depth += 1;
        let found = self.or();
        self.depth -= 1;
        found
    }

    fn or(&mut self) -> Result<Expression, QueryError> {
        let mut one = self.and()?;
        while self.keyword("or") {
            one = Expression::Or(Box::new(one), Box::new(self.and()?));
        }
        Ok(one)
    }

    fn and(&mut self) -> Result<Expression, QueryError> {
        let mut one = self.not()?;
        while self.keyword("and") {
            one = Expression::And(Box::new(one), Box::new(self.not()?));
        }
        Ok(one)
    }

    fn not(&mut self) -> Result<Expression, QueryError> {
        let mut negated = false;
        while self.keyword("not") {
            negated = !negated;
        }
        let inner = self.comparison()?;
        Ok(if negated { Expression::Not(Box::new(inner)) } else { inner })
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let one = self.sum()?;
        let begin = self.at;
        let negated = self.keyword("not");
        let found = if self.keyword("like") || self.take("=~") {
            Expression::Like(Box::new(one), self.like()?)
        } else if self.keyword("in") {
            self.expect("[")?;
            let list = self.list(Parser::expression)?;
            self.expect("]")?;
            Expression::In(Box::new(one), list)
        } else if negated {
            self.at = begin;
            return Ok(one);
        } else {
            return match Comparison::read(|text| self.take(text)) {
                Some(comparison) => Ok(Expression::Compare(comparison, Box::new(one), Box::new(self.sum()?))),
                None => Ok(one),
            };
        };
        Ok(if negated { Expression::Not(Box::new(found)) } else { found })
    }

    fn like(&mut self) -> Result<Like, QueryError> {
        self.space();
        match self.rest().chars().next() {
            Some('/') => self.regex().map(Like::Regex),
            Some('"' | '\'') => self.string().map(Like::Text),
            _ => Err(self.unexpected()),
        }
    }

    fn sum(&mut self) -> Result<Expression, QueryError> {
        let mut one = self.product()?;
        loop {
            let operation = match () {
                () if self.take("+") => Operation::Add,
                () if self.take("-") => Operation::Subtract,
                () => return Ok(one),
            };
            one = Expression::Calculate(operation, Box::new(one), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expression, QueryError> {
        let mut one = self.power()?;
        loop {
            let operation = match () {
                () if self.take("*") => Operation::Multiply,
                () if self.take("/") => Operation::Divide,
                () if self.take("%") => Operation::Remainder,
                () => return Ok(one),
            };
            one = Expression::Calculate(operation, Box::new(one), Box::new(self.power()?));
        }
    }

    fn power(&mut self) -> Result<Expression, QueryError> {
        let mut one = self.primary()?;
        while self.take("^") {
            one = Expression::Calculate(Operation::Power, Box::new(one), Box::new(self.primary()?));
        }
        Ok(one)
    }

    fn primary(&mut self) -> Result<Expression, QueryError> {
        self.space();
        match self.rest().chars().next() {
            Some('(') => {
                self.at += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some('-') => {
                self.at += 1;
                if self.depth == DEPTH_MAX {
                    return Err(self.unexpected());
                }
                self.depth += 1;
                let inner = self.primary();
                self.depth -= 1;
                let zero = Expression::Literal(Value::Number(0.0));
                Ok(Expression::Calculate(Operation::Subtract, Box::new(zero), Box::new(inner?)))
            }
            Some('"' | '\'') => self.string().map(|text| Expression::Literal(Value::Text(text))),
            Some(digit) if digit.is_ascii_digit() => self.number(),
            _ => {
                let begin = self.at;
                let quoted = self.rest().starts_with('`');
                let name = self.name()?;
                if !quoted && self.rest().starts_with('(') {
                    self.call(&name, begin)
                } else if !quoted && (name.eq_ignore_ascii_case("true") || name.eq_ignore_ascii_case("false")) {
                    Ok(Expression::Literal(Value::Boolean(name.eq_ignore_ascii_case("true"))))
                } else {
                    Ok(Expression::Field(name))
                }
            }
        }
    }

    /// `12`, `1.5`, or a period such as `5m`.
    fn number(&mut self) -> Result<Expression, QueryError> {
        let begin = self.at;
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
        let text = &rest[..end];
        self.at += end;
        if let Ok(number) = text.parse::<f64>() {
            return Ok(Expression::Literal(Value::Number(number)));
        }
        match Period::parse(text) {
            Some(_) => Ok(Expression::Literal(Value::Text(text.to_owned()))),
            None => {
                self.at = begin;
                Err(self.unexpected())
            }
        }
    }

    fn call(&mut self, name: &str, begin: usize) -> Result<Expression, QueryError> {
        self.expect("(")?;
        if let Some(kind) = Kind::named(name) {
            return self.aggregate(kind, begin);
        }
        if UNBUILT_FUNCTIONS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(QueryError::Unsupported(format!("the function {name} in queries")));
        }
        let Some((function, count)) = Function::named(name) else {
            self.at = begin;
            return Err(self.unexpected());
        };
        let mut arguments = if self.take(")") { Vec::new() } else { self.arguments()? };
        if function == Function::Bin && arguments.len() == 1 {
            arguments.insert(0, Expression::Field("@timestamp".to_owned()));
        }
        let dated = matches!(function, Function::Bin | Function::DateFloor | Function::DateCeil);
        let is_period = |argument: Option<&Expression>| matches!(argument, Some(Expression::Literal(Value::Text(text))) if Period::parse(text).is_some());
        if !count.contains(&arguments.len()) || dated && !is_period(arguments.get(1)) {
            return Err(self.malformed(&format!("the arguments of {name} are not what it takes"), begin));
        }
        Ok(Expression::Call(function, arguments))
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, QueryError> {
        let arguments = self.list(Parser::expression)?;
        self.expect(")")?;
        Ok(arguments)
    }

    fn aggregate(&mut self, kind: Kind, begin: usize) -> Result<Expression, QueryError> {
        // None inside of another.
        let Some(mut aggregates) = self.aggregates.take() else {
            self.at = begin;
            return Err(self.unexpected());
        };
        let of = if kind == Kind::Count && (self.take("*") || self.rest().trim_start().starts_with(')')) {
            self.expect(")")?;
            Vec::new()
        } else {
            self.arguments()?
        };
        let wrong = |parser: &Self| parser.malformed("the arguments are not what the function takes", begin);
        let aggregate = match (kind, of.as_slice()) {
            (Kind::Count, []) => Aggregate { kind, of: None },
            (Kind::Percentile(median), [_]) if median > 0.0 => Aggregate { kind, of: of.into_iter().next() },
            (Kind::Percentile(_), [_, Expression::Literal(Value::Number(percent))])
                if (0.0..=100.0).contains(percent) =>
            {
                Aggregate { kind: Kind::Percentile(*percent), of: of.into_iter().next() }
            }
            (Kind::Percentile(_), _) => return Err(wrong(self)),
            (_, [_]) => Aggregate { kind, of: of.into_iter().next() },
            _ => return Err(wrong(self)),
        };
        aggregates.push(aggregate);
        let index = aggregates.len() - 1;
        self.aggregates = Some(aggregates);
        Ok(Expression::Aggregate(index))
    }

    /// `@message`, `a.b.0`, or whatever stands between backticks.
    fn name(&mut self) -> Result<String, QueryError> {
        self.space();
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix('`') {
            let Some(end) = quoted.find('`').filter(|end| *end > 0) else { return Err(self.unexpected()) };
            self.at += end + 2;
            return Ok(quoted[..end].to_owned());
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_@.$".contains(c))).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Err(self.unexpected());
        }
        self.at += end;
        Ok(name.to_owned())
    }

    fn string(&mut self) -> Result<String, QueryError> {
        let rest = self.rest();
        let mut characters = rest.char_indices();
        let quote = match characters.next() {
            Some((_, quote @ ('"' | '\''))) => quote,
            _ => return Err(self.unexpected()),
        };
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, kept)) if kept == quote || kept == '\\' => text.push(kept),
                    Some((_, kept)) => text.extend(['\\', kept]),
                    None => break,
                },
                end if end == quote => {
                    self.at += at + 1;
                    return Ok(text);
                }
                other => text.push(other),
            }
        }
        Err(self.unexpected())
    }

    /// `/…/`; a slash inside is written `\/`.
    fn regex(&mut self) -> Result<Regex, QueryError> {
        let begin = self.at;
        let body = &self.rest()[1..];
        let mut escaped = false;
        let end = body.find(|character| {
            let ends = character == '/' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { return Err(self.unexpected()) };
        self.at += end + 2;
        self.compiled(&body[..end].replace("\\/", "/"), begin)
    }

    fn compiled(&self, pattern: &str, begin: usize) -> Result<Regex, QueryError> {
        let compiled = RegexBuilder::new(pattern).size_limit(REGEX_MAX).build();
        compiled.map_err(|_| self.malformed("the regular expression is not valid", begin))
    }

    /// Space and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn take(&mut self, what: &str) -> bool {
        self.space();
        let taken = self.rest().starts_with(what);
        if taken {
            self.at += what.len();
        }
        taken
    }

    fn expect(&mut self, what: &str) -> Result<(), QueryError> {
        if self.take(what) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.space();
        let begin = self.at;
        let taken = self.letters().eq_ignore_ascii_case(word);
        if !taken {
            self.at = begin;
        }
        taken
    }

    fn letters(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn digits(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn malformed(&self, message: &str, begin: usize) -> QueryError {
        let characters = |to: usize| self.text[..to].chars().count();
        QueryError::Malformed {
            message: message.to_owned(),
            start: characters(begin),
            end: characters(self.at.max(begin)),
        }
    }

    /// What stands here does not belong here.
    fn unexpected(&self) -> QueryError {
        let rest = self.rest().trim_start();
        let begin = self.text.len() - rest.len();
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '@').unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let symbol = &rest[..word.max(first)];
        let before = &self.text[..begin];
        let line = before.matches('\n').count() + 1;
        let position = before.chars().rev().take_while(|c| *c != '\n').count();
        let shown = if symbol.is_empty() { "<EOF>" } else { symbol };
        let start = before.chars().count();
        QueryError::Malformed {
            message: format!("unexpected symbol found {shown} at line {line} and position {position}"),
            start,
            end: start + symbol.chars().count(),
        }
    }
}
