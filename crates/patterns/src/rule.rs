//! What a pattern may say of one value.

use std::net::IpAddr;

use crate::json::Node;

#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    Text(Box<str>),
    /// By its text.
    Number(Box<str>),
    Bool(bool),
    Null,
    Test(Test),
    /// None of these holds.
    AnythingBut(Vec<Rule>),
    Numeric(Vec<(Comparison, f64)>),
    Cidr(Block),
    /// Whether there is a value at all.
    Exists(bool),
}

/// Of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Prefix(Box<str>),
    Suffix(Box<str>),
    /// What is compared without regard to case is kept in lower case.
    EqualsIgnoreCase(Box<str>),
    PrefixIgnoreCase(Box<str>),
    SuffixIgnoreCase(Box<str>),
    /// Literal pieces, between which anything may be.
    Wildcard(Vec<Box<str>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Addresses whose first `bits` are those of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub address: IpAddr,
    pub bits: u8,
}

impl Rule {
    /// Of a value that is there, and is neither array nor object.
    pub fn holds(&self, value: &Node<'_>) -> bool {
        match (self, value) {
            (Rule::Exists(there), _) => *there,
            (Rule::Null, Node::Null) => true,
            (Rule::Bool(one), Node::Bool(other)) => one == other,
            (Rule::Text(one), Node::Text(other)) => **one == **other,
            (Rule::Number(one), Node::Number(other)) => **one == **other,
            (Rule::Test(test), Node::Text(text)) => test.holds(text),
            (Rule::AnythingBut(rules), _) => !rules.iter().any(|rule| rule.holds(value)),
            (Rule::Numeric(ranges), Node::Number(text)) => {
                text.parse().is_ok_and(|number: f64| ranges.iter().all(|(how, than)| how.holds(number, *than)))
            }
            (Rule::Cidr(block), Node::Text(text)) => text.parse().is_ok_and(|address| block.holds(address)),
            _ => false,
        }
    }
}

impl Test {
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Test::Prefix(prefix) => text.starts_with(&**prefix),
            Test::Suffix(suffix) => text.ends_with(&**suffix),
            Test::EqualsIgnoreCase(other) => text.to_lowercase() == **other,
            Test::PrefixIgnoreCase(prefix) => text.to_lowercase().starts_with(&**prefix),
            Test::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(&**suffix),
            Test::Wildcard(pieces) => wildcard(pieces, text),
        }
    }
}

/// The first piece begins the text, the last one ends it, and the others follow one another: each as early as it can be.
fn wildcard(pieces: &[Box<str>], text: &str) -> bool {
    let [first, between @ .., last] = pieces else { return pieces.iter().any(|only| **only == *text) };
    let Some(rest) = text.strip_prefix(&**first) else { return false };
    let Some(mut rest) = rest.strip_suffix(&**last) else { return false };
    between.iter().all(|piece| match rest.split_once(&**piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

impl Comparison {
    fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Comparison::Equal => number == than,
            Comparison::Less => number < than,
            Comparison::LessOrEqual => number <= than,
            Comparison::Greater => number > than,
            Comparison::GreaterOrEqual => number >= than,
        }
    }
}

impl Block {
    fn holds(self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let rest = width - u32::from(self.bits);
        own.checked_shr(rest) == other.checked_shr(rest)
    }
}
