//! What a policy document says. Reading it is strict: what is not understood is an error, never ignored.

use serde_json::{Map, Value};

use crate::condition::{Condition, Operator};

/// Versions of the language.
const VERSIONS: &[&str] = &["2012-10-17", "2008-10-17"];

/// What a document is attached to, which decides what its statements must and must not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A resource: says who, and of what.
    Resource,
    /// An identity: is about whoever has it.
    Identity,
    /// A role, as who may take it on: says who, and is about that role.
    Trust,
}

/// The statements of a document that is being changed. A single one is a list of one.
pub fn statements(document: &mut Value) -> &mut Vec<Value> {
    let statements = &mut document["Statement"];
    if !statements.is_array() {
        *statements = Value::Array(vec![statements.take()]);
    }
    match statements {
        Value::Array(statements) => statements,
        _ => unreachable!("it was made a list"),
    }
}

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
    /// `None` where it is about what the document is attached to.
    pub(crate) resources: Option<Chosen<Vec<String>>>,
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
    #[error("{0} has no place in such a policy")]
    Prohibited(&'static str),
    #[error("The action {0} does not begin with a service")]
    Vendorless(String),
    #[error("The resource {0} is no ARN")]
    NotAnArn(String),
    #[error("The principal {0} does not read")]
    UnknownPrincipal(String),
    #[error("A role's trust is about STS, not {0}")]
    NotOfTrust(String),
}

impl Document {
    pub fn parse(value: &Value, kind: Kind) -> Result<Self, ParseError> {
        let members = value.as_object().ok_or(ParseError::NotAnObject)?;
        known(members, &["Version", "Id", "Statement"])?;
        if members.get("Version").is_some_and(|version| !version.as_str().is_some_and(|v| VERSIONS.contains(&v))) {
            return Err(ParseError::Malformed("Version"));
        }
        if members.get("Id").is_some_and(|id| !id.is_string()) {
            return Err(ParseError::Malformed("Id"));
        }
        let statements: Vec<Statement> = match members.get("Statement").ok_or(ParseError::Missing("Statement"))? {
            Value::Array(all) => all.iter().map(|one| Statement::parse(one, kind)).collect::<Result<_, _>>()?,
            one => vec![Statement::parse(one, kind)?],
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
    fn parse(value: &Value, kind: Kind) -> Result<Self, ParseError> {
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
        let prohibited: &[&str] = match kind {
            Kind::Resource => &[],
            Kind::Identity => &["Principal", "NotPrincipal"],
            Kind::Trust => &["Resource", "NotResource"],
        };
        if let Some(name) = prohibited.iter().find(|name| members.contains_key(**name)) {
            return Err(ParseError::Prohibited(name));
        }
        let principals = chosen(members, "Principal", "NotPrincipal", principals)?;
        let actions = chosen(members, "Action", "NotAction", texts)?.ok_or(ParseError::Missing("Action"))?;
        let resources = chosen(members, "Resource", "NotResource", texts)?;
        match kind {
            Kind::Resource if resources.is_none() => return Err(ParseError::Missing("Resource")),
            Kind::Resource => {}
            Kind::Identity => of_identity(&actions, resources.as_ref().ok_or(ParseError::Missing("Resource"))?)?,
            Kind::Trust if principals.is_none() => return Err(ParseError::Missing("Principal")),
            Kind::Trust => of_trust(&actions)?,
        }
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

/// Actions name their service, resources are ARNs.
fn of_identity(actions: &Chosen<Vec<String>>, resources: &Chosen<Vec<String>>) -> Result<(), ParseError> {
    let (Chosen::Only(actions) | Chosen::Not(actions)) = actions;
    if let Some(action) = actions.iter().find(|action| *action != "*" && !action.contains(':')) {
        return Err(ParseError::Vendorless(shown(action)));
    }
    let (Chosen::Only(resources) | Chosen::Not(resources)) = resources;
    let is_arn = |text: &str| text == "*" || (text.starts_with("arn:") && text.splitn(6, ':').count() == 6);
    match resources.iter().find(|resource| !is_arn(resource)) {
        Some(resource) => Err(ParseError::NotAnArn(shown(resource))),
        None => Ok(()),
    }
}

fn of_trust(actions: &Chosen<Vec<String>>) -> Result<(), ParseError> {
    let (Chosen::Only(actions) | Chosen::Not(actions)) = actions;
    let of_sts = |action: &&String| action.get(..4).is_some_and(|service| service.eq_ignore_ascii_case("sts:"));
    match actions.iter().find(|action| !of_sts(action)) {
        Some(action) => Err(ParseError::NotOfTrust(shown(action))),
        None => Ok(()),
    }
}

/// Text from outside, as an error repeats it.
fn shown(text: &str) -> String {
    text.chars().take(256).collect()
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
    read: impl Fn(&'static str, &Value) -> Result<T, ParseError>,
) -> Result<Option<Chosen<T>>, ParseError> {
    match (members.get(name), members.get(negated)) {
        (Some(_), Some(_)) => Err(ParseError::Both(name, negated)),
        (Some(value), None) => Ok(Some(Chosen::Only(read(name, value)?))),
        (None, Some(value)) => Ok(Some(Chosen::Not(read(negated, value)?))),
        (None, None) => Ok(None),
    }
}

/// One text or a list of them, none empty.
fn texts(member: &'static str, value: &Value) -> Result<Vec<String>, ParseError> {
    let texts: Option<Vec<String>> = match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let texts = texts.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty()));
    texts.ok_or(ParseError::Malformed(member))
}

fn principals(member: &'static str, value: &Value) -> Result<Vec<Named>, ParseError> {
    match value {
        Value::String(text) if text == "*" => Ok(vec![Named::Everyone]),
        Value::Object(kinds) if !kinds.is_empty() => {
            let mut all = Vec::new();
            for (kind, names) in kinds {
                for name in texts(member, names)? {
                    let unknown = || ParseError::UnknownPrincipal(format!("\"{}\":\"{}\"", shown(kind), shown(&name)));
                    all.push(named(kind, name.clone()).ok_or_else(unknown)?);
                }
            }
            Ok(all)
        }
        _ => Err(ParseError::Malformed(member)),
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
