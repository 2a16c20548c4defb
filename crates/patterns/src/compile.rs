//! The text of a pattern, read and checked once.

use std::net::IpAddr;

use crate::json::{JsonError, Node};
use crate::pattern::{Field, Fields, Pattern};
use crate::rule::{Block, Comparison, Rule, Test};

/// Numbers that can be compared (AWS: "five billion" either way).
const NUMBER_MAX: f64 = 5e9;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("a pattern is an object")]
    NoObject,
    #[error("{0} is neither an object nor a list of values")]
    NoList(String),
    #[error("{0} is empty")]
    Empty(String),
    #[error("{0} cannot be matched")]
    NoRule(String),
    #[error("{0} is no rule")]
    Unknown(String),
}

/// What every rule is compiled to.
type Compiled<T> = Result<T, PatternError>;

pub fn pattern(text: &str) -> Compiled<Pattern> {
    let Node::Object(members) = Node::parse(text)? else { return Err(PatternError::NoObject) };
    Ok(Pattern { fields: fields(&members)? })
}

fn fields(members: &[(std::borrow::Cow<'_, str>, Node<'_>)]) -> Compiled<Fields> {
    let mut compiled = Fields::default();
    for (at, (name, value)) in members.iter().enumerate() {
        // The last one of a name counts.
        if members[at + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        match value {
            Node::Array(choices) if name == "$or" && choices.len() > 1 && choices.iter().all(is_choice) => {
                compiled.choices.push(choices.iter().map(choice).collect::<Result<_, _>>()?);
            }
            Node::Object(members) if members.is_empty() => return Err(PatternError::Empty(name.to_string())),
            Node::Object(members) => compiled.all.push((name.as_ref().into(), Field::Inner(fields(members)?))),
            Node::Array(values) if values.is_empty() => return Err(PatternError::Empty(name.to_string())),
            Node::Array(values) => {
                let rules = values.iter().map(rule).collect::<Result<_, _>>()?;
                compiled.all.push((name.as_ref().into(), Field::Leaf(rules)));
            }
            _ => return Err(PatternError::NoList(name.to_string())),
        }
    }
    Ok(compiled)
}

/// A field may be called `$or`, too: its values are then no patterns.
fn is_choice(node: &Node<'_>) -> bool {
    matches!(node, Node::Object(members) if members.iter().all(|(name, value)| {
        matches!(value, Node::Object(_) | Node::Array(_)) && !matches!(&**name, "numeric" | "anything-but")
    }))
}

fn choice(node: &Node<'_>) -> Compiled<Fields> {
    match node {
        Node::Object(members) if !members.is_empty() => fields(members),
        _ => Err(PatternError::Empty("$or".to_owned())),
    }
}

fn rule(node: &Node<'_>) -> Compiled<Rule> {
    let Node::Object(members) = node else { return literal(node) };
    let [(name, value)] = members.as_slice() else {
        return Err(PatternError::Unknown(members.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ")));
    };
    let wrong = || PatternError::NoRule(name.to_string());
    match (&**name, value) {
        ("exists", Node::Bool(there)) => Ok(Rule::Exists(*there)),
        ("anything-but", value) => anything_but(value),
        ("numeric", Node::Array(parts)) => numeric(parts),
        ("cidr", Node::Text(text)) => block(text).map(Rule::Cidr).ok_or_else(wrong),
        _ => Ok(Rule::Test(test(name, value)?)),
    }
}

fn literal(node: &Node<'_>) -> Compiled<Rule> {
    match node {
        Node::Null => Ok(Rule::Null),
        Node::Bool(value) => Ok(Rule::Bool(*value)),
        Node::Number(text) => Ok(Rule::Number(text.as_ref().into())),
        Node::Text(text) => Ok(Rule::Text(text.as_ref().into())),
        Node::Array(_) | Node::Object(_) => Err(PatternError::NoRule("a list in a list".to_owned())),
    }
}

fn test(name: &str, value: &Node<'_>) -> Compiled<Test> {
    let wrong = || PatternError::NoRule(name.to_owned());
    let ignoring = |value: &Node<'_>| match value.get("equals-ignore-case") {
        Some(Node::Text(text)) if !text.is_empty() => Some(text.to_lowercase().into_boxed_str()),
        _ => None,
    };
    match (name, value) {
        ("prefix", Node::Text(text)) => Ok(Test::Prefix(text.as_ref().into())),
        ("prefix", value) => ignoring(value).map(Test::PrefixIgnoreCase).ok_or_else(wrong),
        ("suffix", Node::Text(text)) => Ok(Test::Suffix(text.as_ref().into())),
        ("suffix", value) => ignoring(value).map(Test::SuffixIgnoreCase).ok_or_else(wrong),
        ("equals-ignore-case", Node::Text(text)) => Ok(Test::EqualsIgnoreCase(text.to_lowercase().into())),
        ("wildcard", Node::Text(text)) => pieces(text).map(Test::Wildcard).ok_or_else(wrong),
        ("equals-ignore-case" | "wildcard" | "exists" | "numeric" | "cidr", _) => Err(wrong()),
        _ => Err(PatternError::Unknown(name.to_owned())),
    }
}

/// `*` is anything, `\*` a star, `\\` a backslash. Two stars side by side are refused, as AWS does.
fn pieces(text: &str) -> Option<Vec<Box<str>>> {
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut chars = text.chars();
    let mut after_star = false;
    while let Some(char) = chars.next() {
        match char {
            '*' if after_star => return None,
            '*' => pieces.push(std::mem::take(&mut piece).into_boxed_str()),
            '\\' => piece.push(chars.next().filter(|next| matches!(next, '*' | '\\'))?),
            other => piece.push(other),
        }
        after_star = char == '*';
    }
    pieces.push(piece.into_boxed_str());
    Some(pieces)
}

fn anything_but(value: &Node<'_>) -> Compiled<Rule> {
    let name = || "anything-but".to_owned();
    let plain = |node: &Node<'_>| match node {
        Node::Number(_) | Node::Text(_) => literal(node),
        _ => Err(PatternError::NoRule(name())),
    };
    let rules = match value {
        Node::Array(values) if values.is_empty() => return Err(PatternError::Empty(name())),
        Node::Array(values) => values.iter().map(plain).collect::<Result<_, _>>()?,
        Node::Object(members) => {
            let [(test_name, value)] = members.as_slice() else { return Err(PatternError::NoRule(name())) };
            match value {
                Node::Array(values) if values.is_empty() => return Err(PatternError::Empty(name())),
                Node::Array(values) => {
                    values.iter().map(|value| test(test_name, value).map(Rule::Test)).collect::<Result<_, _>>()?
                }
                value => vec![Rule::Test(test(test_name, value)?)],
            }
        }
        value => vec![plain(value)?],
    };
    Ok(Rule::AnythingBut(rules))
}

/// One comparison, or a lower bound and then an upper one.
fn numeric(parts: &[Node<'_>]) -> Compiled<Rule> {
    let wrong = || PatternError::NoRule("numeric".to_owned());
    let bound = |pair: &[Node<'_>]| {
        let [Node::Text(how), Node::Number(than)] = pair else { return None };
        let how = match &**how {
            "=" => Comparison::Equal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        than.parse().ok().filter(|than: &f64| than.abs() <= NUMBER_MAX).map(|than| (how, than))
    };
    if !matches!(parts.len(), 2 | 4) {
        return Err(wrong());
    }
    let bounds: Vec<_> = parts.chunks(2).map(bound).collect::<Option<_>>().ok_or_else(wrong)?;
    let is_lower = |how| matches!(how, Comparison::Greater | Comparison::GreaterOrEqual);
    let is_upper = |how| matches!(how, Comparison::Less | Comparison::LessOrEqual);
    match bounds.as_slice() {
        [(low, from), (high, to)] if !(is_lower(*low) && is_upper(*high) && from < to) => Err(wrong()),
        _ => Ok(Rule::Numeric(bounds)),
    }
}

fn block(text: &str) -> Option<Block> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse().ok().filter(|bits| *bits <= width)?;
    Some(Block { address, bits })
}
