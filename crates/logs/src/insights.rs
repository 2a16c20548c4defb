//! The query language of CloudWatch Logs Insights.
//!
//! ```text
//! fields @timestamp, @message | filter level = "ERROR" | stats count(*) as n by bin(5m) | sort n desc | limit 20
//! ```
//!
//! - `parse`: text to a [`Query`], with where it is wrong; `expression`: what stands in commands
//! - `value`: what events and expressions are; `function`: what can be called; `event`: fields of an event
//! - `aggregate`: `stats`; `run`: a query that is fed events, and its rows
//!
//! Pure: knows nothing of groups or files.

mod aggregate;
mod event;
mod expression;
mod function;
mod parse;
mod run;
mod value;

pub use event::{Event, Pointer};
pub use run::{Fed, Run};
pub use value::Value;

use std::sync::Arc;

use regex::Regex;

use aggregate::Aggregate;
use expression::Expression;

/// What a client is told of a query that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// Where it is wrong, in characters.
    Malformed { message: String, start: usize, end: usize },
    /// A command or function that is not built.
    Unsupported(String),
}

/// A query that makes sense.
#[derive(Clone, Debug)]
pub struct Query {
    commands: Vec<Command>,
}

#[derive(Clone, Debug)]
struct Column {
    value: Expression,
    name: Arc<str>,
}

#[derive(Clone, Debug)]
enum Command {
    Fields(Vec<Column>),
    Display(Vec<Column>),
    Filter(Expression),
    Parse { source: Expression, with: Regex, names: Vec<(usize, Arc<str>)> },
    Stats { aggregates: Vec<Aggregate>, columns: Vec<Column>, by: Vec<Column> },
    Sort(Vec<(Expression, Direction)>),
    Dedup(Vec<Arc<str>>),
    Limit(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

impl Query {
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parse::parse(text)
    }
}

#[cfg(test)]
mod tests;
