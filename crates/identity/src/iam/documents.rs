//! Which policy documents are accepted, with AWS's texts, and how they are answered.

use hearth_policy::{Document, Kind, ParseError};
use hearth_wire::Error;
use hearth_wire_iam::errors::malformed_policy_document_exception as malformed;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What of a document stays as it is in an answer (RFC 3986).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A document as a caller wrote it.
pub fn checked(text: Option<String>, kind: Kind) -> Result<String, Error> {
    let text = text.unwrap_or_default();
    let value = serde_json::from_str(&text).map_err(|_| malformed(no_json(kind)))?;
    match Document::parse(&value, kind) {
        Ok(document) if document.statements.is_empty() => Err(malformed("Syntax errors in policy.")),
        Ok(_) => Ok(text),
        Err(error) => Err(malformed(told(error))),
    }
}

fn no_json(kind: Kind) -> &'static str {
    match kind {
        Kind::Trust => "This policy contains invalid Json",
        Kind::Identity | Kind::Resource => "Syntax errors in policy.",
    }
}

fn told(error: ParseError) -> String {
    match error {
        ParseError::Prohibited("Principal" | "NotPrincipal") => {
            "Policy document should not specify a principal.".to_owned()
        }
        ParseError::Prohibited(name) => format!("Has prohibited field {name}"),
        ParseError::Missing("Resource") => "Policy statement must contain resources.".to_owned(),
        ParseError::Missing("Action") => "Policy statement must contain actions.".to_owned(),
        ParseError::Missing(name) => format!("Missing required field {name}"),
        ParseError::Vendorless(_) => {
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.".to_owned()
        }
        ParseError::NotAnArn(resource) => format!("Resource {resource} must be in ARN format or \"*\"."),
        ParseError::UnknownPrincipal(principal) => format!("Invalid principal in policy: {principal}"),
        ParseError::NotOfTrust(_) => "AssumeRole policy may only specify STS AssumeRole actions.".to_owned(),
        ParseError::Duplicate(_) => "Statement IDs (SID) in a single policy must be unique.".to_owned(),
        ParseError::UnknownOperator(operator) => format!("Invalid Condition type : {operator}."),
        ParseError::NotAnObject | ParseError::UnknownMember(_) | ParseError::Malformed(_) | ParseError::Both(..) => {
            "Syntax errors in policy.".to_owned()
        }
    }
}

/// Characters that count against quotas: white space does not.
pub fn size(document: &str) -> usize {
    document.chars().filter(|character| !character.is_whitespace()).count()
}

/// As answers carry documents.
pub fn encoded(document: &str) -> String {
    utf8_percent_encode(document, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, kind: Kind) -> String {
        let error = checked(Some(text.to_owned()), kind).unwrap_err();
        assert_eq!((error.status, &*error.code), (400, "MalformedPolicyDocument"));
        error.message.unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_document_is_told_as_by_the_service() {
        assert_eq!(refused("{", Kind::Trust), "This policy contains invalid Json");
        assert_eq!(refused("{", Kind::Identity), "Syntax errors in policy.");
        let with_resource =
            r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole", "Resource": "*"}}"#;
        assert_eq!(refused(with_resource, Kind::Trust), "Has prohibited field Resource");
        assert_eq!(refused(with_resource, Kind::Identity), "Policy document should not specify a principal.");
        let bare = r#"{"Statement": {"Effect": "Allow", "Action": "s3:GetObject"}}"#;
        assert_eq!(refused(bare, Kind::Identity), "Policy statement must contain resources.");
        assert_eq!(refused(bare, Kind::Trust), "Missing required field Principal");
        let principal = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "me"}, "Action": "sts:AssumeRole"}}"#;
        assert_eq!(refused(principal, Kind::Trust), "Invalid principal in policy: \"AWS\":\"me\"");
    }

    #[test]
    fn documents_are_answered_encoded_and_measured_without_white_space() {
        assert_eq!(encoded("{\"a\": [~]}"), "%7B%22a%22%3A%20%5B~%5D%7D");
        assert_eq!(size("{ \"a\":\n 1 }"), 7);
    }
}
