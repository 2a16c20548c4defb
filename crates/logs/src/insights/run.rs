//! A query at work: it is fed events, the newest first, and then asked for its rows.
//!
//! Commands before the first `stats`, `sort`, `dedup` or `limit` look at one event at a time. What comes then is either
//! counted at once (`stats`) or kept; where only the first rows are wanted, no more than those are.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::sync::Arc;

use super::aggregate::{Aggregate, Aggregation};
use super::event::Event;
use super::expression::{Expression, Fields};
use super::value::Value;
use super::{Column, Command, Direction, Query};

/// Bytes of rows that one query may keep.
const KEPT_MAX: usize = 256 << 20;
/// Rows beyond those wanted that are kept before they are thinned out.
const SLACK: usize = 4096;

/// A query wants to keep more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    More,
    /// Events that are earlier than this, in milliseconds, can be of no use any more.
    Since(i64),
}

struct Row {
    /// None after `stats`.
    event: Option<Box<Event>>,
    values: Vec<(Arc<str>, Value)>,
}

impl Fields for Row {
    fn get(&self, name: &str) -> Value {
        let named = self.values.iter().rev().find(|(known, _)| **known == *name);
        named.map_or_else(
            || self.event.as_ref().map_or(Value::Nothing, |event| event.get(name)),
            |(_, value)| value.clone(),
        )
    }

    fn message(&self) -> Option<&str> {
        let shadowed = self.values.iter().any(|(name, _)| &**name == "@message");
        self.event.as_ref().filter(|_| !shadowed).map(|event| event.message.as_str())
    }
}

impl Row {
    fn size(&self) -> usize {
        let values: usize = self.values.iter().map(|(_, value)| value.size() + 16).sum();
        values + self.event.as_ref().map_or(0, |event| event.size())
    }
}

enum Sink {
    Stats(Aggregation),
    /// Every row, or the first `wanted` by the keys.
    Rows {
        rows: Vec<Row>,
        bytes: usize,
        wanted: Option<usize>,
    },
}

/// A query, events going in.
pub struct Run {
    query: Query,
    /// Commands that look at one event: those before this one.
    first: usize,
    /// Rows that are answered, unless the query says how many.
    limit: usize,
    sink: Sink,
    matched: u64,
}

impl Run {
    pub fn new(query: Query, limit: usize) -> Self {
        let gathers = |command: &Command| {
            matches!(command, Command::Stats { .. } | Command::Sort(_) | Command::Dedup(_) | Command::Limit(_))
        };
        let first = query.commands.iter().position(gathers).unwrap_or(query.commands.len());
        let rest = &query.commands[first..];
        let sink = match rest.first() {
            Some(Command::Stats { .. }) => Sink::Stats(Aggregation::default()),
            _ => Sink::Rows { rows: Vec::new(), bytes: 0, wanted: wanted(rest, limit) },
        };
        Run { query, first, limit, sink, matched: 0 }
    }

    /// Rows that every condition before the first aggregation let pass.
    pub fn matched(&self) -> u64 {
        self.matched
    }

    pub fn feed(&mut self, event: Event) -> Result<Fed, TooMuch> {
        let at = event.at;
        let mut row = Row { event: Some(Box::new(event)), values: Vec::new() };
        let (streaming, rest) = self.query.commands.split_at(self.first);
        if !streaming.iter().all(|command| pass(command, &mut row)) {
            return Ok(Fed::More);
        }
        self.matched += 1;
        let sorted = sorted(rest);
        match &mut self.sink {
            Sink::Stats(aggregation) => match rest.first() {
                Some(Command::Stats { aggregates, by, .. }) => {
                    aggregation.see(aggregates, by, &row).map(|()| Fed::More)
                }
                _ => Ok(Fed::More),
            },
            Sink::Rows { rows, bytes, wanted } => {
                *bytes += row.size();
                rows.push(row);
                if let Some(wanted) = *wanted
                    && rows.len() >= wanted + SLACK
                {
                    sort(rows, sorted);
                    rows.truncate(wanted);
                    *bytes = rows.iter().map(Row::size).sum();
                    // Rows in the order of their times, the latest first: what is earlier than the last is not wanted.
                    if sorted.is_empty() {
                        let last = rows.last().and_then(|row| row.event.as_ref()).map_or(at, |event| event.at);
                        return Ok(Fed::Since(last));
                    }
                }
                if *bytes > KEPT_MAX { Err(TooMuch) } else { Ok(Fed::More) }
            }
        }
    }

    /// Names and values of each row; what a row does not have is left out.
    pub fn finish(self) -> Vec<Vec<(String, String)>> {
        let Run { query, first, limit, sink, .. } = self;
        let (mut rows, rest) = match (sink, &query.commands[first..]) {
            (Sink::Stats(aggregation), [Command::Stats { aggregates, columns, by }, rest @ ..]) => {
                (aggregated(aggregation, aggregates, columns, by), rest)
            }
            (Sink::Rows { mut rows, .. }, rest) => {
                sort(&mut rows, &[]);
                (rows, rest)
            }
            (Sink::Stats(_), _) => return Vec::new(),
        };
        let mut limited = false;
        for command in rest {
            match command {
                Command::Stats { aggregates, columns, by } => {
                    let mut aggregation = Aggregation::default();
                    // These are results already: never too many.
                    for row in &rows {
                        let _ = aggregation.see(aggregates, by, row);
                    }
                    rows = aggregated(aggregation, aggregates, columns, by);
                }
                Command::Sort(keys) => sort(&mut rows, keys),
                Command::Dedup(names) => {
                    let mut seen = HashSet::new();
                    rows.retain(|row| {
                        let key: Vec<Option<String>> = names.iter().map(|name| row.get(name).text()).collect();
                        // Rows without any of the fields are kept.
                        key.iter().all(Option::is_none) || seen.insert(key)
                    });
                }
                Command::Limit(limit) => {
                    rows.truncate(*limit);
                    limited = true;
                }
                other => rows.retain_mut(|row| pass(other, row)),
            }
        }
        if !limited {
            rows.truncate(limit);
        }
        let columns = columns(&query);
        rows.iter().map(|row| answered(row, &columns)).collect()
    }
}

fn answered(row: &Row, columns: &[Arc<str>]) -> Vec<(String, String)> {
    let value = |name: &Arc<str>| Some((name.to_string(), row.get(name).text()?));
    let mut answered: Vec<(String, String)> = columns.iter().filter_map(value).collect();
    if let Some(event) = &row.event {
        answered.push(("@ptr".to_owned(), event.pointer()));
    }
    answered
}

/// Whether the row stays; commands of one row may give it values.
fn pass(command: &Command, row: &mut Row) -> bool {
    match command {
        Command::Filter(condition) => return condition.is_true(row),
        Command::Fields(columns) | Command::Display(columns) => {
            for column in columns {
                // A field that keeps its name is what it is already.
                if !matches!(&column.value, Expression::Field(name) if **name == *column.name) {
                    let value = column.value.value(row, &[]);
                    row.values.push((column.name.clone(), value));
                }
            }
        }
        Command::Parse { source, with, names } => {
            let text = source.value(row, &[]).text().unwrap_or_default();
            if let Some(found) = with.captures(&text) {
                for (group, name) in names {
                    if let Some(part) = found.get(*group) {
                        row.values.push((name.clone(), Value::Text(part.as_str().to_owned())));
                    }
                }
            }
        }
        Command::Stats { .. } | Command::Sort(_) | Command::Dedup(_) | Command::Limit(_) => {}
    }
    true
}

fn aggregated(aggregation: Aggregation, aggregates: &[Aggregate], columns: &[Column], by: &[Column]) -> Vec<Row> {
    let row = |(keys, results): (Vec<Value>, Vec<Value>)| {
        let mut values: Vec<(Arc<str>, Value)> = by.iter().map(|column| column.name.clone()).zip(keys).collect();
        let of_keys = Row { event: None, values: values.clone() };
        values.extend(columns.iter().map(|column| (column.name.clone(), column.value.value(&of_keys, &results))));
        Row { event: None, values }
    };
    aggregation.finish(aggregates, by).map(row).collect()
}

/// How many rows are wanted, when no more need be kept: where only an order and a limit follow.
fn wanted(rest: &[Command], limit: usize) -> Option<usize> {
    match rest {
        [] | [Command::Sort(_)] => Some(limit),
        [Command::Limit(limit)] | [Command::Sort(_), Command::Limit(limit)] => Some(*limit),
        _ => None,
    }
}

/// The keys of the first command, when it sorts.
fn sorted(rest: &[Command]) -> &[(Expression, Direction)] {
    match rest.first() {
        Some(Command::Sort(keys)) => keys,
        _ => &[],
    }
}

/// By the keys, else the latest first.
fn sort(rows: &mut Vec<Row>, keys: &[(Expression, Direction)]) {
    if keys.is_empty() {
        let at = |row: &Row| row.event.as_ref().map(|event| (event.at, event.number));
        rows.sort_by_key(|row| Reverse(at(row)));
        return;
    }
    let mut keyed: Vec<(Vec<Value>, Row)> = std::mem::take(rows)
        .into_iter()
        .map(|row| (keys.iter().map(|(key, _)| key.value(&row, &[])).collect(), row))
        .collect();
    keyed.sort_by(|(one, _), (other, _)| {
        let by_key = one.iter().zip(other).zip(keys).map(|((one, other), (_, direction))| match direction {
            Direction::Ascending => one.order(other),
            Direction::Descending => other.order(one),
        });
        by_key.fold(Ordering::Equal, Ordering::then)
    });
    rows.extend(keyed.into_iter().map(|(_, row)| row));
}

/// Names of what is answered, in their order.
fn columns(query: &Query) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut parsed: Vec<Arc<str>> = Vec::new();
    let mut displayed = false;
    let add = |names: &mut Vec<Arc<str>>, name: &Arc<str>| {
        if !names.contains(name) {
            names.push(name.clone());
        }
    };
    for command in &query.commands {
        match command {
            Command::Fields(columns) if !displayed => columns.iter().for_each(|column| add(&mut names, &column.name)),
            Command::Display(columns) => {
                names.clear();
                parsed.clear();
                displayed = true;
                columns.iter().for_each(|column| add(&mut names, &column.name));
            }
            Command::Stats { columns, by, .. } => {
                names.clear();
                parsed.clear();
                by.iter().chain(columns).for_each(|column| add(&mut names, &column.name));
            }
            Command::Parse { names: new, .. } if !displayed => {
                new.iter().for_each(|(_, name)| add(&mut parsed, name));
            }
            _ => {}
        }
    }
    if names.is_empty() {
        names = vec!["@timestamp".into(), "@message".into()];
    }
    parsed.iter().for_each(|name| add(&mut names, name));
    names
}
