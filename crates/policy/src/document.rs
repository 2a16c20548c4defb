//! What a policy document says. Reading it is strict: what is not understood is an error, never ignored.

use serde_json::{Map, Value};

use crate::condition::{Condition, Operator};

/// Versions of the language.
const VERSIONS: &[&str] = &["2012-10-17", "2008-10-17"];

#[derive(Clone, Debug)]
pub struct Document {
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub sid: Option<String>,
    pub effect: Effect,
    /// `None` in policies of identities, which are about whoever has them.
    pub(crate) principals: Option<Chosen<Vec<Named>>>,
    pub(crate) actions: Chosen<Vec<String>>,
    pub(crate) resources: Chosen<Vec<String>>,
    /// All must hold.
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// `Action` or `NotAction`, and the like.
#[derive(Clone, Debug)]
pub(crate) enum Chosen<T> {
    Only(T),
    Not(T),
}

/// Who a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Everyone,
    /// An account: its id, or the ARN of its root.
    Account(String),
    /// ARN of a user, a role or a session.
    Arn(String),
    Service(String),
    /// `Federated`, `CanonicalUser`: kind and text.
    Other(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("Policy document must be an object")]
    NotAnObject,
    #[error("{0} is not a member of a policy")]
    UnknownMember(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} does not read")]
    Malformed(&'static str),
    #[error("{0} and {1} exclude each other")]
    Both(&'static str, &'static str),
    #[error("Statement ids are not unique: {0}")]
    Duplicate(String),
    #[error("{0} is not a condition operator")]
    UnknownOperator(String),
}

impl Document {
    pub fn parse(value: &Value) -> Result<Self, ParseError> {
        let members = value.as_object().ok_or(ParseError::NotAnObject)?;
        known(members, &["Version", "Id", "Statement"])?;
        if members.get("Version").is_some_and(|version| !version.as_str().is_some_and(|v| VERSIONS.contains(&v))) {
            return Err(ParseError::Malformed("Version"));
        }
        if members.get("Id").is_some_and(|id| !id.is_string()) {
            return Err(ParseError::Malformed("Id"));
        }
        let statements: Vec<Statement> = match members.get("Statement").ok_or(ParseError::Missing("Statement"))? {
            Value::Array(statements) => statements.iter().map(Statement::parse).collect::<Result<_, _>>()?,
            one => vec![Statement::parse(one)?],
        };
        let mut sids: Vec<&str> = statements.iter().filter_map(|statement| statement.sid.as_deref()).collect();
        sids.sort_unstable();
        match sids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ParseError::Duplicate(pair[0].to_owned())),
            None => Ok(Document { statements }),
        }
    }
}

impl Statement {
    pub fn parse(value: &Value) -> Result<Self, ParseError> {
        let members = value.as_object().ok_or(ParseError::Malformed("Statement"))?;
        let names = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        known(members, &names)?;
        let sid = match members.get("Sid") {
            None => None,
            Some(sid) => Some(sid.as_str().ok_or(ParseError::Malformed("Sid"))?.to_owned()),
        };
        let effect = match members.get("Effect").ok_or(ParseError::Missing("Effect"))?.as_str() {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(ParseError::Malformed("Effect")),
        };
        let principals = chosen(members, "Principal", "NotPrincipal", principals)?;
        let actions = chosen(members, "Action", "NotAction", texts)?.ok_or(ParseError::Missing("Action"))?;
        let resources = chosen(members, "Resource", "NotResource", texts)?.ok_or(ParseError::Missing("Resource"))?;
        let conditions = members.get("Condition").map_or(Ok(Vec::new()), conditions)?;
        Ok(Statement { sid, effect, principals, actions, resources, conditions })
    }

    /// Whether it is about anybody at all, whatever its conditions.
    pub fn names_everyone(&self) -> bool {
        match &self.principals {
            Some(Chosen::Only(named)) => named.contains(&Named::Everyone),
            Some(Chosen::Not(_)) => true,
            None => false,
        }
    }

    pub fn has_principal(&self) -> bool {
        self.principals.is_some()
    }

    pub fn has_conditions(&self) -> bool {
        !self.conditions.is_empty()
    }
}

fn known(members: &Map<String, Value>, names: &[&str]) -> Result<(), ParseError> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(ParseError::UnknownMember(name.chars().take(64).collect())),
        None => Ok(()),
    }
}

fn chosen<T>(
    members: &Map<String, Value>,
    name: &'static str,
    negated: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<Chosen<T>>, ParseError> {
    match (members.get(name), members.get(negated)) {
        (Some(_), Some(_)) => Err(ParseError::Both(name, negated)),
        (Some(value), None) => read(value).map(|read| Some(Chosen::Only(read))).ok_or(ParseError::Malformed(name)),
        (None, Some(value)) => read(value).map(|read| Some(Chosen::Not(read))).ok_or(ParseError::Malformed(negated)),
        (None, None) => Ok(None),
    }
}

/// One text or a list of them, none empty.
fn texts(value: &Value) -> Option<Vec<String>> {
    let texts: Vec<String> = match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        _ => return None,
    };
    (!texts.is_empty() && texts.iter().all(|text| !text.is_empty())).then_some(texts)
}

fn principals(value: &Value) -> Option<Vec<Named>> {
    match value {
        Value::String(text) if text == "*" => Some(vec![Named::Everyone]),
        Value::Object(kinds) if !kinds.is_empty() => {
            let mut all = Vec::new();
            for (kind, names) in kinds {
                for name in texts(names)? {
                    all.push(named(kind, name)?);
                }
            }
            Some(all)
        }
        _ => None,
    }
}

fn named(kind: &str, name: String) -> Option<Named> {
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        "AWS" if name == "*" => Some(Named::Everyone),
        "AWS" if is_account(&name) => Some(Named::Account(name)),
        "AWS" => {
            let parts: Vec<&str> = name.splitn(6, ':').collect();
            match parts.as_slice() {
                ["arn", partition, "iam", "", account, "root"]
                    if partition.starts_with("aws") && is_account(account) =>
                {
                    Some(Named::Account((*account).to_owned()))
                }
                ["arn", partition, "iam" | "sts", "", account, rest]
                    if partition.starts_with("aws") && is_account(account) && !rest.is_empty() =>
                {
                    Some(Named::Arn(name))
                }
                _ => None,
            }
        }
        "Service" => Some(Named::Service(name)),
        "Federated" | "CanonicalUser" => Some(Named::Other(kind.to_owned(), name)),
        _ => None,
    }
}

fn conditions(value: &Value) -> Result<Vec<Condition>, ParseError> {
    let operators = value.as_object().ok_or(ParseError::Malformed("Condition"))?;
    let mut all = Vec::new();
    for (name, keys) in operators {
        let operator =
            Operator::parse(name).ok_or_else(|| ParseError::UnknownOperator(name.chars().take(64).collect()))?;
        for (key, values) in keys.as_object().ok_or(ParseError::Malformed("Condition"))? {
            let values =
                scalars(values).filter(|values| operator.reads(values)).ok_or(ParseError::Malformed("Condition"))?;
            all.push(Condition { operator: operator.clone(), key: key.to_lowercase(), values });
        }
    }
    Ok(all)
}

/// Values of conditions may be texts, numbers and truths.
fn scalars(value: &Value) -> Option<Vec<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    match value {
        Value::Array(all) => all.iter().map(scalar).collect(),
        one => Some(vec![scalar(one)?]),
    }
}
