//! ARNs of what belongs to an account beside functions: `arn:PARTITION:lambda:REGION:ACCOUNT:TYPE:NAME`.

use std::fmt;

use crate::{AccountId, Region};

/// The parts of an ARN of this service, as text says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceArn<'a> {
    pub region: Region,
    pub account: AccountId,
    /// `function`, `layer`, `code-signing-config`, …
    pub kind: &'a str,
    /// All that follows.
    pub name: &'a str,
}

impl<'a> ResourceArn<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(7, ':');
        if parts.next() != Some("arn") || !parts.next()?.starts_with("aws") || parts.next() != Some("lambda") {
            return None;
        }
        let (region, account) = (Region::parse(parts.next()?)?, AccountId::parse(parts.next()?)?);
        let (kind, name) = (parts.next()?, parts.next().filter(|name| !name.is_empty())?);
        Some(ResourceArn { region, account, kind, name })
    }
}

impl fmt::Display for ResourceArn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResourceArn { region, account, kind, name } = self;
        write!(f, "arn:{}:lambda:{region}:{account}:{kind}:{name}", region.partition())
    }
}

/// `arn:…:layer:NAME` or, of one version, `arn:…:layer:NAME:NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerArn {
    pub region: Region,
    pub account: AccountId,
    pub name: String,
    pub version: Option<u64>,
}

impl LayerArn {
    pub fn parse(text: &str) -> Option<Self> {
        let ResourceArn { region, account, kind, name } = ResourceArn::parse(text)?;
        let (name, version) = match name.split_once(':') {
            Some((name, version)) => (name, Some(version.parse().ok()?)),
            None => (name, None),
        };
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (kind == "layer" && plain).then(|| LayerArn { region, account, name: name.to_owned(), version })
    }

    pub fn of(region: &Region, account: &AccountId, name: &str, version: Option<u64>) -> Self {
        LayerArn { region: region.clone(), account: account.clone(), name: name.to_owned(), version }
    }
}

impl fmt::Display for LayerArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LayerArn { region, account, name, version } = self;
        write!(f, "arn:{}:lambda:{region}:{account}:layer:{name}", region.partition())?;
        version.map_or(Ok(()), |version| write!(f, ":{version}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_arn_reads_back_as_it_is_written() {
        let text = "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdef0";
        assert_eq!(ResourceArn::parse(text).unwrap().to_string(), text);
        for bad in ["", "arn", "arn:aws:s3:us-east-1:123456789012:layer:l", "arn:aws:lambda:us-east-1:1:layer:l"] {
            assert!(ResourceArn::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn layers_read_back_as_they_are_written(name in "[a-zA-Z0-9_-]{1,140}", version in prop::option::of(any::<u64>())) {
            let arn = LayerArn::of(&Region::default_region(), &AccountId::default_account(), &name, version);
            prop_assert_eq!(LayerArn::parse(&arn.to_string()), Some(arn));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise_than_by_none(text in "\\PC{0,80}") {
            let _ = (ResourceArn::parse(&text), LayerArn::parse(&text));
        }
    }
}
