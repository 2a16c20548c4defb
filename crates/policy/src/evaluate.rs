//! The decision: a statement that denies decides over every one that allows, and what no statement is about is not allowed.

use std::collections::BTreeMap;

use crate::document::{Chosen, Document, Effect, Named, Statement};
use crate::glob;

/// Facts of a request, for conditions: keys such as `aws:SourceArn`, the same whatever their case.
#[derive(Clone, Debug, Default)]
pub struct Facts(BTreeMap<String, Vec<String>>);

impl Facts {
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.entry(key.to_lowercase()).or_default().push(value.into());
        self
    }

    pub(crate) fn get(&self, lower_case_key: &str) -> Option<&Vec<String>> {
        self.0.get(lower_case_key)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Principal<'a> {
    /// Somebody of an account; `arns` when more is known than the account: a session has its role's and its own.
    Account { id: &'a str, arns: &'a [&'a str] },
    /// `s3.amazonaws.com`.
    Service(&'a str),
    /// Whoever it is: only what is said of everyone is said of them.
    Anyone,
}

#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub principal: Principal<'a>,
    /// `lambda:InvokeFunction`.
    pub action: &'a str,
    /// An ARN.
    pub resource: &'a str,
    pub facts: &'a Facts,
}

/// Numbers are those of the document and of the statement in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed {
        document: usize,
        statement: usize,
    },
    Denied {
        document: usize,
        statement: usize,
    },
    /// No statement is about it, so it is not allowed.
    NotMentioned,
}

impl Decision {
    pub fn is_allowed(self) -> bool {
        matches!(self, Decision::Allowed { .. })
    }
}

/// Decides over all documents together.
pub fn evaluate(documents: &[&Document], request: &Request<'_>) -> Decision {
    let mut decision = Decision::NotMentioned;
    for (document, statements) in documents.iter().map(|document| &document.statements).enumerate() {
        for (statement, found) in statements.iter().enumerate().filter(|(_, statement)| statement.is_about(request)) {
            match found.effect {
                Effect::Deny => return Decision::Denied { document, statement },
                Effect::Allow if decision == Decision::NotMentioned => {
                    decision = Decision::Allowed { document, statement };
                }
                Effect::Allow => {}
            }
        }
    }
    decision
}

impl Statement {
    fn is_about(&self, request: &Request<'_>) -> bool {
        let principal = self.principals.as_ref().is_none_or(|principals| match principals {
            Chosen::Only(named) => named.iter().any(|named| is(named, &request.principal)),
            Chosen::Not(named) => !named.iter().any(|named| is(named, &request.principal)),
        });
        principal
            && among(&self.actions, |action| glob::matches_any_case(action, request.action))
            && self.resources.as_ref().is_none_or(|resources| {
                among(resources, |resource| resource == "*" || glob::matches(resource, request.resource))
            })
            && self.conditions.iter().all(|condition| condition.holds(request.facts))
    }
}

fn among(chosen: &Chosen<Vec<String>>, is: impl Fn(&str) -> bool) -> bool {
    match chosen {
        Chosen::Only(all) => all.iter().any(|one| is(one)),
        Chosen::Not(all) => !all.iter().any(|one| is(one)),
    }
}

fn is(named: &Named, principal: &Principal<'_>) -> bool {
    match (named, principal) {
        (Named::Everyone, _) => true,
        (Named::Account(account), Principal::Account { id, .. }) => account == id,
        (Named::Arn(wanted), Principal::Account { arns, .. }) => arns.contains(&wanted.as_str()),
        (Named::Service(wanted), Principal::Service(service)) => wanted == service,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
