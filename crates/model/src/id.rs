//! Names and ids. Each is checked once, where text enters.

use std::fmt;
use std::sync::Arc;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Twelve digits.
    AccountId
);
text_id!(
    /// `us-east-1`. Any text of AWS's region shape is accepted: Hearth is every region at once.
    Region
);
text_id!(
    /// A bare function name: `[a-zA-Z0-9-_]+`, 1 to 64 characters.
    FunctionName
);
text_id!(
    /// The text that selects a version or alias: `$LATEST`, a number, or an alias name.
    Qualifier
);
text_id!(
    /// The id of one invocation: a UUID in lower case. The same id is `x-amzn-RequestId` and the handler's
    /// `aws_request_id`.
    RequestId
);
text_id!(
    /// Whom a call is for, where a function serves tenants apart: `[a-zA-Z0-9._:/=+\-@ ]+`, 1 to 256 characters (spec 2.1).
    TenantId
);
text_id!(
    /// The 32 hex digits that end a log stream's name; one per execution environment.
    LogStreamId
);

impl TenantId {
    pub fn parse(text: &str) -> Option<Self> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/=+-@ ".contains(&byte);
        (matches!(text.len(), 1..=256) && text.bytes().all(is_good)).then(|| TenantId(text.into()))
    }
}

impl AccountId {
    /// The account of callers whose access key id is not itself an account.
    pub fn default_account() -> Self {
        AccountId("000000000000".into())
    }

    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())).then(|| AccountId(text.into()))
    }
}

impl Region {
    pub fn default_region() -> Self {
        Region("us-east-1".into())
    }

    /// `(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}` (API model).
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("eusc-").unwrap_or(text);
        let parts: Vec<&str> = rest.split('-').collect();
        let lower = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase());
        let digit = |s: &str| s.len() == 1 && s.as_bytes()[0].is_ascii_digit();
        let ok = match parts.as_slice() {
            [country, place, number] => country.len() == 2 && lower(country) && lower(place) && digit(number),
            [country, partition, place, number] => {
                country.len() == 2
                    && lower(country)
                    && (*partition == "gov"
                        || (partition.starts_with("iso") && partition.len() <= 4 && lower(partition)))
                    && lower(place)
                    && digit(number)
            }
            _ => false,
        };
        ok.then(|| Region(text.into()))
    }
}

impl FunctionName {
    pub const MAX: usize = 64;

    pub fn parse(text: &str) -> Option<Self> {
        let ok = !text.is_empty()
            && text.len() <= Self::MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        ok.then(|| FunctionName(text.into()))
    }
}

impl Qualifier {
    pub const LATEST: &'static str = "$LATEST";

    /// The caller has checked it against the model's pattern.
    pub fn new(text: &str) -> Self {
        Qualifier(text.into())
    }

    pub fn is_latest(&self) -> bool {
        &*self.0 == Self::LATEST
    }
}

impl RequestId {
    pub fn new(uuid: impl Into<Arc<str>>) -> Self {
        RequestId(uuid.into())
    }
}

impl LogStreamId {
    pub fn new(hex: impl Into<Arc<str>>) -> Self {
        LogStreamId(hex.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_awss_shape() {
        for good in ["us-east-1", "eu-central-2", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1"] {
            assert!(Region::parse(good).is_some(), "{good}");
        }
        for bad in ["", "us", "us-east", "US-east-1", "us-east-12", "useast1", "us-foo-east-1"] {
            assert!(Region::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn accounts_are_twelve_digits() {
        assert!(AccountId::parse("123456789012").is_some());
        assert!(AccountId::parse("12345678901").is_none());
        assert!(AccountId::parse("12345678901a").is_none());
    }
}
