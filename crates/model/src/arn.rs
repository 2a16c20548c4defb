//! Function ARNs and every form in which AWS accepts a function's name.

use std::fmt;

use crate::{AccountId, FunctionName, Qualifier, Region};

/// `arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionArn {
    pub region: Region,
    pub account: AccountId,
    pub name: FunctionName,
    pub qualifier: Option<Qualifier>,
}

impl FunctionArn {
    /// A full ARN, with or without a qualifier.
    pub fn parse(text: &str) -> Option<Self> {
        let reference = FunctionRef::parse(text).ok()?;
        let account = AccountId::parse(reference.account.as_deref()?)?;
        let region = Region::parse(reference.region.as_deref()?)?;
        reference.resolve(&account, &region, None).ok()
    }

    pub fn unqualified(&self) -> Self {
        FunctionArn { qualifier: None, ..self.clone() }
    }

    pub fn qualified(&self, qualifier: Qualifier) -> Self {
        FunctionArn { qualifier: Some(qualifier), ..self.clone() }
    }
}

impl fmt::Display for FunctionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:lambda:{}:{}:function:{}", self.region.partition(), self.region, self.account, self.name)?;
        match &self.qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

impl Region {
    /// The partition that a region belongs to (public endpoint lists of the SDKs).
    pub fn partition(&self) -> &'static str {
        let region = self.as_str();
        if region.starts_with("cn-") {
            "aws-cn"
        } else if region.contains("-gov-") {
            "aws-us-gov"
        } else if region.starts_with("eusc-") {
            "aws-eusc"
        } else if region.contains("-isob-") {
            "aws-iso-b"
        } else if region.contains("-isoe-") {
            "aws-iso-e"
        } else if region.contains("-isof-") {
            "aws-iso-f"
        } else if region.contains("-iso-") {
            "aws-iso"
        } else {
            "aws"
        }
    }
}

/// What a caller wrote where AWS takes a function name: a name, `name:qualifier`, a partial ARN
/// (`ACCOUNT:function:NAME`, `function:NAME`) or a full ARN, each with an optional qualifier.
///
/// The name is kept as text: on reads AWS answers "not found" for names that are too long to exist, not a
/// validation error (recorded), so only [`FunctionRef::resolve`] turns it into a [`FunctionArn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRef {
    pub region: Option<String>,
    pub account: Option<String>,
    pub name: String,
    pub qualifier: Option<String>,
}

/// Why a function reference does not lead to a function of this caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// The text has none of the accepted forms; the caller has not checked the model's pattern.
    #[error("not a function name or ARN")]
    Malformed,
    /// AWS: 404 `ResourceNotFoundException`.
    #[error("Functions from '{other}' are not reachable in this region ('{this}')")]
    OtherRegion { other: String, this: Region },
    /// AWS: 403 `AccessDeniedException` with a null message.
    #[error("function of another account")]
    OtherAccount,
    /// AWS: 400 `InvalidParameterValueException`.
    #[error("The derived qualifier from the function name does not match the specified qualifier.")]
    QualifierMismatch,
    /// The name is longer than a function's name may be. AWS: "not found" on reads, a length error on creation.
    #[error("function name longer than 64 characters")]
    NameTooLong { arn: String },
}

impl FunctionRef {
    /// Takes the accepted forms apart (spec 1.3).
    pub fn parse(text: &str) -> Result<Self, RefError> {
        let mut parts: Vec<&str> = text.split(':').collect();
        let mut region = None;
        let mut account = None;
        if parts.len() >= 3 && parts[0] == "arn" {
            if !parts[1].starts_with("aws") || parts[2] != "lambda" {
                return Err(RefError::Malformed);
            }
            parts.drain(..3);
        }
        if parts.len() > 1 && Region::parse(parts[0]).is_some() && parts[1..].len() >= 2 {
            region = Some(parts.remove(0).to_owned());
        }
        if parts.len() > 1 && AccountId::parse(parts[0]).is_some() && parts.get(1) == Some(&"function") {
            account = Some(parts.remove(0).to_owned());
        }
        if parts.len() > 1 && parts[0] == "function" {
            parts.remove(0);
        }
        match parts.as_slice() {
            [name] if !name.is_empty() => {
                Ok(FunctionRef { region, account, name: (*name).to_owned(), qualifier: None })
            }
            [name, qualifier] if !name.is_empty() && !qualifier.is_empty() => {
                Ok(FunctionRef { region, account, name: (*name).to_owned(), qualifier: Some((*qualifier).to_owned()) })
            }
            _ => Err(RefError::Malformed),
        }
    }

    /// The ARN that this reference means for a caller of `account` in `region`, with the `Qualifier` parameter
    /// of the operation merged in.
    pub fn resolve(
        &self,
        account: &AccountId,
        region: &Region,
        qualifier: Option<&str>,
    ) -> Result<FunctionArn, RefError> {
        if let Some(other) = self.region.as_deref().filter(|other| *other != region.as_str()) {
            return Err(RefError::OtherRegion { other: other.to_owned(), this: region.clone() });
        }
        if self.account.as_deref().is_some_and(|other| other != account.as_str()) {
            return Err(RefError::OtherAccount);
        }
        let qualifier = match (self.qualifier.as_deref(), qualifier) {
            (Some(a), Some(b)) if a != b => return Err(RefError::QualifierMismatch),
            (Some(a), _) => Some(a),
            (None, b) => b,
        };
        let Some(name) = FunctionName::parse(&self.name) else {
            let tail = qualifier.map(|q| format!(":{q}")).unwrap_or_default();
            return Err(RefError::NameTooLong {
                arn: format!("arn:{}:lambda:{region}:{account}:function:{}{tail}", region.partition(), self.name),
            });
        };
        Ok(FunctionArn {
            region: region.clone(),
            account: account.clone(),
            name,
            qualifier: qualifier.map(Qualifier::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn here() -> (AccountId, Region) {
        (AccountId::parse("123456789012").unwrap(), Region::default_region())
    }

    #[test]
    fn every_accepted_form_means_the_same_function() {
        let (account, region) = here();
        for text in [
            "f",
            "function:f",
            "123456789012:function:f",
            "us-east-1:123456789012:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function:f",
        ] {
            let arn = FunctionRef::parse(text).unwrap().resolve(&account, &region, None).unwrap();
            assert_eq!(arn.to_string(), "arn:aws:lambda:us-east-1:123456789012:function:f", "{text}");
            let arn = FunctionRef::parse(&format!("{text}:live")).unwrap().resolve(&account, &region, None).unwrap();
            assert_eq!(arn.qualifier.unwrap().as_str(), "live", "{text}");
        }
    }

    #[test]
    fn foreign_regions_and_accounts_are_told_apart() {
        let (account, region) = here();
        let there = FunctionRef::parse("arn:aws:lambda:eu-west-1:123456789012:function:f").unwrap();
        assert_eq!(
            there.resolve(&account, &region, None).unwrap_err().to_string(),
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
        );
        let other = FunctionRef::parse("210987654321:function:f").unwrap();
        assert_eq!(other.resolve(&account, &region, None).unwrap_err(), RefError::OtherAccount);
    }

    #[test]
    fn qualifiers_must_agree() {
        let (account, region) = here();
        let named = FunctionRef::parse("f:1").unwrap();
        assert_eq!(named.resolve(&account, &region, Some("2")).unwrap_err(), RefError::QualifierMismatch);
        assert!(named.resolve(&account, &region, Some("1")).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_in_any_form_reads_back(
            name in "[a-zA-Z0-9_-]{1,64}",
            qualifier in prop::option::of("([a-zA-Z0-9_-]{1,20}|[$]LATEST)"),
            form in 0..6usize,
        ) {
            let (account, region) = here();
            // A word that is a part of other forms is told from a name by what follows.
            prop_assume!(name != "function" && name != "arn" && AccountId::parse(&name).is_none());
            prop_assume!(Region::parse(&name).is_none());
            let tail = qualifier.as_ref().map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
            let text = match form {
                0 => format!("{name}{tail}"),
                1 => format!("function:{name}{tail}"),
                2 => format!("{account}:function:{name}{tail}"),
                3 => format!("{region}:{account}:function:{name}{tail}"),
                4 => format!("arn:aws:lambda:{account}:function:{name}{tail}"),
                _ => format!("arn:aws:lambda:{region}:{account}:function:{name}{tail}"),
            };
            let arn = FunctionRef::parse(&text).unwrap().resolve(&account, &region, None).unwrap();
            prop_assert_eq!(arn.to_string(), format!("arn:aws:lambda:{region}:{account}:function:{name}{tail}"));
            let again = FunctionRef::parse(&arn.to_string()).unwrap().resolve(&account, &region, None).unwrap();
            prop_assert_eq!(again, arn);
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise_than_by_an_error(text in "[a-z0-9:$.-]{0,80}|\\PC{0,40}") {
            let (account, region) = here();
            if let Ok(reference) = FunctionRef::parse(&text) {
                let _ = reference.resolve(&account, &region, Some("live"));
            }
        }

        #[test]
        fn two_qualifiers_agree_or_are_refused(one in "[a-c]{1,2}", other in "[a-c]{1,2}") {
            let (account, region) = here();
            let resolved = FunctionRef::parse(&format!("f:{one}")).unwrap().resolve(&account, &region, Some(&other));
            prop_assert_eq!(resolved.is_ok(), one == other);
        }
    }

    #[test]
    fn a_function_may_be_called_function() {
        let (account, region) = here();
        let arn = FunctionRef::parse("function").unwrap().resolve(&account, &region, None).unwrap();
        assert_eq!(arn.name.as_str(), "function");
    }
}
