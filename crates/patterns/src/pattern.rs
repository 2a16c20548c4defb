//! One pattern against one event.

use crate::compile::{self, PatternError};
use crate::json::Node;
use crate::rule::Rule;

/// Compiled once, matched often.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    pub(crate) fields: Fields,
}

/// What must hold of an object, all of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields {
    pub all: Vec<(Box<str>, Field)>,
    /// Of each of these, one must hold (`$or`).
    pub choices: Vec<Vec<Fields>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Inner(Fields),
    /// One of these must hold of the value, or of one in an array.
    Leaf(Vec<Rule>),
}

impl Pattern {
    pub fn compile(text: &str) -> Result<Self, PatternError> {
        compile::pattern(text)
    }

    pub fn matches(&self, event: &Node<'_>) -> bool {
        self.fields.hold(Some(event))
    }

    /// What is asked of a member of the event, if anything is on the top of the pattern: whether it is to be an object.
    pub fn asks_inside(&self, member: &str) -> Option<bool> {
        self.fields.asks_inside(member)
    }
}

impl Fields {
    fn hold(&self, object: Option<&Node<'_>>) -> bool {
        let held = |(name, field): &(Box<str>, Field)| field.holds(object.and_then(|object| object.get(name)));
        self.all.iter().all(held) && self.choices.iter().all(|choices| choices.iter().any(|fields| fields.hold(object)))
    }

    fn asks_inside(&self, member: &str) -> Option<bool> {
        let own = self.all.iter().find(|(name, _)| **name == *member);
        let own = own.map(|(_, field)| matches!(field, Field::Inner(_)));
        own.or_else(|| self.choices.iter().flatten().find_map(|fields| fields.asks_inside(member)))
    }
}

impl Field {
    /// What is absent has no members either. In an array one element must do for all that is asked of it together.
    fn holds(&self, value: Option<&Node<'_>>) -> bool {
        match (self, value) {
            (Field::Inner(fields), Some(Node::Array(elements))) => {
                elements.iter().any(|element| self.holds(Some(element))) || fields.hold(None)
            }
            (Field::Inner(fields), value) => fields.hold(value),
            (Field::Leaf(rules), value) => {
                let mut found = false;
                let held = value.is_some_and(|value| any(rules, value, &mut found));
                held || !found && rules.contains(&Rule::Exists(false))
            }
        }
    }
}

/// Whether a rule holds of one of the values that are no arrays or objects. `found`: whether there is one at all.
fn any(rules: &[Rule], value: &Node<'_>, found: &mut bool) -> bool {
    match value {
        Node::Array(elements) => elements.iter().any(|element| any(rules, element, found)),
        Node::Object(_) => false,
        value => {
            *found = true;
            rules.iter().any(|rule| rule.holds(value))
        }
    }
}
