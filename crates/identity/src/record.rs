//! What is stored: JSON documents, keyed by account, kind and id. IAM knows no region.
//!
//! | kind | id |
//! |---|---|
//! | `role` | name in lower case: names differ in more than case |
//! | `managed-policy` | likewise; with its versions, and who has it |
//! | `aws-policy` | name: who in the account has a policy of AWS's |
//! | `identity-account` | `1`: how many there are |
//! | `session-key` | `1`, of no account: the key of session tokens |
//!
//! Who has a policy is written together with the role that has it, so neither can miss the other.

use std::collections::{BTreeMap, BTreeSet};

use hearth_model::AccountId;
use hearth_store::Key;
use serde::{Deserialize, Serialize};

pub const ROLE: &str = "role";
pub const POLICY: &str = "managed-policy";
pub const AWS_POLICY: &str = "aws-policy";
pub const ACCOUNT: &str = "identity-account";
pub const SESSION_KEY: &str = "session-key";

#[derive(Clone, Serialize, Deserialize)]
pub struct Role {
    pub name: String,
    pub path: String,
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// As it was given.
    pub trust: String,
    pub description: Option<String>,
    pub max_session_s: i64,
    /// ARN of a policy.
    pub boundary: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// Documents, by name.
    pub inline: BTreeMap<String, String>,
    /// ARNs of policies.
    pub attached: BTreeSet<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Policy {
    pub name: String,
    pub path: String,
    pub id: String,
    pub created: i64,
    pub updated: i64,
    pub description: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub versions: BTreeMap<u32, Version>,
    pub default: u32,
    /// The number given last: none is given twice.
    pub last: u32,
    pub usage: Usage,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Version {
    pub document: String,
    pub created: i64,
}

/// Ids of roles that have a policy, attached or as their boundary.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub attached: BTreeSet<String>,
    pub bounds: BTreeSet<String>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Account {
    pub roles: usize,
    pub policies: usize,
}

pub fn key(account: &AccountId, kind: &'static str, id: &str) -> Key {
    Key { partition: account.to_string(), kind, id: id.to_owned() }
}

/// The id of a name.
pub fn id_of(name: &str) -> String {
    name.to_lowercase()
}
