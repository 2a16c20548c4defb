//! ARNs of roles and policies.

use std::fmt;

use hearth_model::AccountId;

/// `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn {
    pub partition: String,
    pub account: AccountId,
    /// Begins and ends with a slash.
    pub path: String,
    pub name: String,
}

impl RoleArn {
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, account, rest) = of_iam(text)?;
        let (path, name) = path_and_name(rest.strip_prefix("role")?)?;
        Some(RoleArn { partition, account: AccountId::parse(account)?, path, name })
    }

    /// As somebody who has taken the role on is named.
    pub fn assumed(&self, session: &str) -> String {
        let RoleArn { partition, account, name, .. } = self;
        format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}")
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoleArn { partition, account, path, name } = self;
        write!(f, "arn:{partition}:iam::{account}:role{path}{name}")
    }
}

/// `arn:aws:iam::ACCOUNT:policy/PATH/NAME`, where the account is `aws` for those of AWS itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyArn {
    /// `None` is AWS.
    pub account: Option<AccountId>,
    pub path: String,
    pub name: String,
}

impl PolicyArn {
    pub fn parse(text: &str) -> Option<Self> {
        let (_, account, rest) = of_iam(text)?;
        let (path, name) = path_and_name(rest.strip_prefix("policy")?)?;
        let account = if account == "aws" { None } else { Some(AccountId::parse(account)?) };
        Some(PolicyArn { account, path, name })
    }
}

/// Partition, account, and the rest.
fn of_iam(text: &str) -> Option<(String, &str, &str)> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "iam", "", account, rest] if partition.starts_with("aws") => {
            Some(((*partition).to_owned(), account, rest))
        }
        _ => None,
    }
}

/// `/a/b/name` is `/a/b/` and `name`.
fn path_and_name(text: &str) -> Option<(String, String)> {
    let at = text.rfind('/')?;
    let (path, name) = text.split_at(at + 1);
    (path.starts_with('/') && !name.is_empty()).then(|| (path.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_read_and_written() {
        for text in ["arn:aws:iam::123456789012:role/r", "arn:aws-cn:iam::123456789012:role/a/b/r"] {
            assert_eq!(RoleArn::parse(text).unwrap().to_string(), text);
        }
        let role = RoleArn::parse("arn:aws:iam::123456789012:role/a/r").unwrap();
        assert_eq!((role.path.as_str(), role.name.as_str()), ("/a/", "r"));
        assert_eq!(role.assumed("s"), "arn:aws:sts::123456789012:assumed-role/r/s");
        let policy = PolicyArn::parse("arn:aws:iam::aws:policy/service-role/P").unwrap();
        assert_eq!((policy.account, policy.path.as_str(), policy.name.as_str()), (None, "/service-role/", "P"));
    }

    #[test]
    fn what_is_no_arn_of_a_role_is_none() {
        for text in
            ["", "r", "arn:aws:iam::1:role/r", "arn:aws:iam::123456789012:user/r", "arn:aws:iam::123456789012:role/"]
        {
            assert_eq!(RoleArn::parse(text), None, "{text}");
        }
    }
}
