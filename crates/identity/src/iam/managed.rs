//! The managed policies of AWS itself that are about Lambda, as AWS publishes them. Others are known to be there and
//! refused by name.

use std::sync::LazyLock;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::sessions::letters;

#[derive(Deserialize)]
pub struct Managed {
    pub name: String,
    pub path: String,
    /// The default one; earlier ones are not kept.
    pub version: u32,
    /// That version, seconds since 1970.
    pub created: i64,
    document: serde_json::Value,
}

static ALL: LazyLock<Vec<Managed>> = LazyLock::new(|| {
    // A test reads it.
    serde_json::from_str(include_str!("managed.json")).unwrap_or_default()
});

/// Ascending by name.
pub fn all() -> &'static [Managed] {
    &ALL
}

pub fn find(path: &str, name: &str) -> Option<&'static Managed> {
    all().iter().find(|policy| policy.name == name && policy.path == path)
}

impl Managed {
    pub fn arn(&self, partition: &str) -> String {
        format!("arn:{partition}:iam::aws:policy{}{}", self.path, self.name)
    }

    /// Always the same one.
    pub fn id(&self) -> String {
        format!("ANPA{}", letters(&Sha256::digest(self.arn("aws"))[..17]))
    }

    pub fn document(&self) -> String {
        self.document.to_string()
    }
}

#[cfg(test)]
mod tests {
    use hearth_policy::{Document, Kind};

    use super::*;

    #[test]
    fn every_policy_reads_and_stands_in_order() {
        assert!(all().len() > 10 && all().is_sorted_by(|one, other| one.name < other.name));
        for policy in all() {
            let read = Document::parse(&policy.document, Kind::Identity);
            assert!(read.is_ok_and(|document| !document.statements.is_empty()), "{}", policy.name);
        }
        let basic = find("/service-role/", "AWSLambdaBasicExecutionRole").unwrap();
        assert_eq!(basic.arn("aws"), "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole");
        assert_eq!(basic.created, 1_428_591_823);
    }
}
