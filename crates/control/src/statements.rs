//! Resource policies as documents: how they grow and shrink by statements (spec 1.8, 1.10). What they decide is the
//! `policy` crate's.

use hearth_policy::{Document, Facts, Kind, Principal, Request, evaluate, statements};
use hearth_wire::Error;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, policy_length_exceeded_exception, resource_conflict_exception,
    resource_not_found_exception as not_found,
};
use serde_json::{Map, Value, json};

use crate::control::revision;
use crate::record::PolicyRecord;

/// Bytes of a policy (spec 11.1).
const SIZE_MAX: usize = 20_480;

/// A policy with one more statement.
pub fn with(policy: Option<&PolicyRecord>, sid: &str, statement: &Value) -> Result<PolicyRecord, Error> {
    let mut document = match policy {
        Some(policy) => policy.document.clone(),
        None => json!({"Version": "2012-10-17", "Id": "default", "Statement": []}),
    };
    let statements = statements(&mut document);
    if statements.iter().any(|statement| statement["Sid"] == sid) {
        return Err(resource_conflict_exception(format!(
            "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing \
             statement."
        )));
    }
    statements.push(statement.clone());
    within_size(&document)?;
    Ok(PolicyRecord { document, revision_id: revision() })
}

/// A policy without one statement; `None` when that was the last.
pub fn without(policy: Option<&PolicyRecord>, sid: &str) -> Result<Option<PolicyRecord>, Error> {
    let policy = policy.ok_or_else(no_policy)?;
    let mut document = policy.document.clone();
    let statements = statements(&mut document);
    let before = statements.len();
    statements.retain(|statement| statement["Sid"] != sid);
    if statements.len() == before {
        return Err(not_found(format!("Statement {sid} is not found in resource policy.")));
    }
    let is_empty = statements.is_empty();
    Ok((!is_empty).then(|| PolicyRecord { document, revision_id: revision() }))
}

/// A whole policy as a caller wrote it.
pub fn whole(text: &str) -> Result<PolicyRecord, Error> {
    let document: Value = serde_json::from_str(text).map_err(|_| invalid("The provided policy is not valid JSON."))?;
    let parsed = Document::parse(&document, Kind::Resource)
        .map_err(|error| invalid(format!("The provided policy is not valid: {error}.")))?;
    if parsed.statements.is_empty() || parsed.statements.iter().any(|statement| !statement.has_principal()) {
        return Err(invalid(
            "The provided policy is not valid: every statement of a resource policy names a principal.",
        ));
    }
    within_size(&document)?;
    Ok(PolicyRecord { document, revision_id: revision() })
}

pub fn no_policy() -> Error {
    not_found("No policy is associated with the given resource.")
}

fn within_size(document: &Value) -> Result<(), Error> {
    let size = document.to_string().len();
    if size > SIZE_MAX {
        return Err(policy_length_exceeded_exception(format!(
            "The final policy size ({size}) is bigger than the limit ({SIZE_MAX})."
        )));
    }
    Ok(())
}

/// `Principal` of a statement, from what a caller gave.
pub fn principal(text: &str, partition: &str) -> Result<Value, Error> {
    let digits = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if text == "*" {
        Ok(json!("*"))
    } else if digits {
        Ok(json!({"AWS": format!("arn:{partition}:iam::{text}:root")}))
    } else if text.starts_with("arn:") && names_an_identity(text) {
        Ok(json!({"AWS": text}))
    } else if text.ends_with(".amazonaws.com") || text.ends_with(".amazonaws.com.cn") {
        Ok(json!({"Service": text}))
    } else {
        Err(invalid("The provided principal was invalid. Please check the principal and try again."))
    }
}

fn names_an_identity(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.as_slice(), ["arn", _, "iam" | "sts", "", id, rest] if account(id) && !rest.is_empty())
}

/// A statement that allows; conditions are operator, key and value, in order.
pub fn allowing(
    sid: &str,
    principal: Value,
    action: &str,
    resource: &str,
    conditions: &[(&str, &str, String)],
) -> Value {
    let mut statement = json!({
        "Sid": sid, "Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource,
    });
    let mut operators = Map::new();
    for (operator, key, value) in conditions {
        operators.entry(*operator).or_insert_with(|| json!({}))[*key] = value.as_str().into();
    }
    if !operators.is_empty() {
        statement["Condition"] = Value::Object(operators);
    }
    statement
}

/// Whether a policy lets somebody of `account` do something to the resource that has it.
pub fn allows(policy: Option<&PolicyRecord>, account: &str, action: &str, resource: &str) -> bool {
    let Some(document) = policy.and_then(|policy| Document::parse(&policy.document, Kind::Resource).ok()) else {
        return false;
    };
    let facts = Facts::default().with("aws:PrincipalAccount", account);
    let principal = Principal::Account { id: account, arns: &[] };
    evaluate(&[&document], &Request { principal, action, resource, facts: &facts }).is_allowed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sid: &str) -> Value {
        allowing(sid, json!("*"), "lambda:InvokeFunction", "arn", &[])
    }

    #[test]
    fn a_policy_grows_to_its_limit_and_goes_with_its_last_statement() {
        let mut policy = None;
        let mut count = 0;
        let refused = loop {
            match with(policy.as_ref(), &format!("s{count:04}"), &statement(&format!("s{count:04}"))) {
                Ok(next) => policy = Some(next),
                Err(error) => break error,
            }
            count += 1;
        };
        assert_eq!(refused.code, "PolicyLengthExceededException");
        let size = policy.as_ref().unwrap().document.to_string().len();
        assert!(size <= SIZE_MAX && size + statement("s0000").to_string().len() + 1 > SIZE_MAX);
        assert_eq!(
            with(policy.as_ref(), "s0000", &statement("s0000")).err().unwrap().code,
            "ResourceConflictException"
        );
        for sid in 0..count {
            policy = without(policy.as_ref(), &format!("s{sid:04}")).ok().unwrap();
        }
        assert!(policy.is_none());
        assert_eq!(without(None, "s").err().unwrap().message.unwrap(), no_policy().message.unwrap());
    }

    #[test]
    fn principals_are_written_as_aws_writes_them() {
        let of = |text| principal(text, "aws").ok().map(|principal| principal.to_string());
        assert_eq!(of("s3.amazonaws.com").unwrap(), r#"{"Service":"s3.amazonaws.com"}"#);
        assert_eq!(of("123456789012").unwrap(), r#"{"AWS":"arn:aws:iam::123456789012:root"}"#);
        assert_eq!(of("arn:aws:iam::123456789012:role/r").unwrap(), r#"{"AWS":"arn:aws:iam::123456789012:role/r"}"#);
        assert_eq!(of("*").unwrap(), r#""*""#);
        assert_eq!((of("me"), of("arn:aws:s3:::b"), of("12345678901")), (None, None, None));
    }
}
