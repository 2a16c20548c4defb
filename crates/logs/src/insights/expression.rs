//! What stands in commands: fields, literals, operators, calls.

use memchr::memmem;
use regex::Regex;

use super::function::Function;
use super::value::Value;
use crate::comparison::Comparison;

#[derive(Clone, Debug)]
pub enum Expression {
    Literal(Value),
    Field(String),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Compare(Comparison, Box<Expression>, Box<Expression>),
    Calculate(Operation, Box<Expression>, Box<Expression>),
    Like(Box<Expression>, Like),
    In(Box<Expression>, Vec<Expression>),
    Call(Function, Vec<Expression>),
    /// The result of one of a `stats` command's aggregates.
    Aggregate(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

#[derive(Clone, Debug)]
pub enum Like {
    Text(String),
    Regex(Regex),
}

/// Where fields come from.
pub trait Fields {
    fn get(&self, name: &str) -> Value;

    /// The message, when it can be had without being copied.
    fn message(&self) -> Option<&str>;
}

impl Expression {
    /// `aggregates` are those that [`Expression::Aggregate`] counts.
    pub fn value(&self, fields: &dyn Fields, aggregates: &[Value]) -> Value {
        let value = |expression: &Expression| expression.value(fields, aggregates);
        match self {
            Expression::Literal(literal) => literal.clone(),
            Expression::Field(name) => fields.get(name),
            Expression::Not(inner) => Value::Boolean(!value(inner).is_true()),
            Expression::And(one, other) => Value::Boolean(value(one).is_true() && value(other).is_true()),
            Expression::Or(one, other) => Value::Boolean(value(one).is_true() || value(other).is_true()),
            Expression::Compare(comparison, one, other) => {
                Value::Boolean(comparison.holds(value(one).compare(&value(other))))
            }
            Expression::Calculate(operation, one, other) => operation.of(&value(one), &value(other)),
            Expression::Like(of, like) => Value::Boolean(match (&**of, fields.message()) {
                (Expression::Field(name), Some(message)) if name == "@message" => like.is_in(message),
                _ => value(of).text().is_some_and(|text| like.is_in(&text)),
            }),
            Expression::In(of, list) => {
                let of = value(of);
                Value::Boolean(list.iter().any(|item| Comparison::Is.holds(of.compare(&value(item)))))
            }
            Expression::Call(function, arguments) => {
                let arguments: Vec<Value> = arguments.iter().map(value).collect();
                function.call(&arguments)
            }
            Expression::Aggregate(index) => aggregates.get(*index).cloned().unwrap_or_default(),
        }
    }

    pub fn is_true(&self, fields: &dyn Fields) -> bool {
        self.value(fields, &[]).is_true()
    }
}

impl Operation {
    fn of(self, one: &Value, other: &Value) -> Value {
        let (Some(one), Some(other)) = (one.number(), other.number()) else { return Value::Nothing };
        let result = match self {
            Operation::Add => one + other,
            Operation::Subtract => one - other,
            Operation::Multiply => one * other,
            Operation::Divide => one / other,
            Operation::Remainder => one % other,
            Operation::Power => one.powf(other),
        };
        if result.is_finite() { Value::Number(result) } else { Value::Nothing }
    }
}

impl Like {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Like::Text(wanted) => memmem::find(text.as_bytes(), wanted.as_bytes()).is_some(),
            Like::Regex(regex) => regex.is_match(text),
        }
    }
}
