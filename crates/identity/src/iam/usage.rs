//! Managed policies as roles have them: those of an account and those of AWS, by ARN, and who has them.

use hearth_model::AccountId;
use hearth_store::Key;
use hearth_wire::Error;
use hearth_wire_iam::errors::{invalid_input_exception, no_such_entity_exception as no_such_entity};

use super::check::invalid;
use super::managed::{self, Managed};
use crate::arn::PolicyArn;
use crate::identity::{Batch, Identity, Stored};
use crate::record::{self, AWS_POLICY, POLICY, Policy, Usage};

/// A policy that is there.
pub enum Known {
    Own(Key, Stored<Policy>),
    Aws(&'static Managed, Key, Stored<Usage>),
}

impl Known {
    pub fn usage(&self) -> &Usage {
        match self {
            Known::Own(_, policy) => &policy.value.usage,
            Known::Aws(_, _, usage) => &usage.value,
        }
    }

    pub fn usage_mut(&mut self) -> &mut Usage {
        match self {
            Known::Own(_, policy) => &mut policy.value.usage,
            Known::Aws(_, _, usage) => &mut usage.value,
        }
    }

    /// Writes who has it.
    pub fn put(&self, batch: Batch) -> Result<Batch, Error> {
        match self {
            Known::Own(key, policy) => batch.put(key.clone(), policy),
            Known::Aws(_, key, usage) => batch.put(key.clone(), usage),
        }
    }
}

impl Identity {
    /// The text of a managed policy that counts now; `None` when there is no such policy.
    pub(crate) async fn policy_document(&self, account: &AccountId, arn: &str) -> Result<Option<String>, Error> {
        Ok(match self.policy(account, arn).await? {
            None => None,
            Some(Known::Aws(managed, ..)) => Some(managed.document()),
            Some(Known::Own(_, policy)) => {
                policy.value.versions.get(&policy.value.default).map(|version| version.document.clone())
            }
        })
    }

    /// The policy that an ARN leads to; `None` when there is none.
    pub(super) async fn policy(&self, account: &AccountId, arn: &str) -> Result<Option<Known>, Error> {
        let parsed = parsed(arn)?;
        match parsed.account {
            None => {
                let managed = managed::find(&parsed.path, &parsed.name).ok_or_else(|| unlisted(arn))?;
                let key = record::key(account, AWS_POLICY, &managed.name);
                Ok(Some(Known::Aws(managed, key.clone(), self.read_or_new(key).await?)))
            }
            Some(of) if of == *account => {
                let key = record::key(account, POLICY, &record::id_of(&parsed.name));
                let found = self.read::<Policy>(key.clone()).await?;
                Ok(found.filter(|found| found.value.path == parsed.path).map(|found| Known::Own(key, found)))
            }
            Some(_) => Ok(None),
        }
    }

    /// As [`Identity::policy`], for a role that is to have it.
    pub(super) async fn attachable(&self, account: &AccountId, arn: &str) -> Result<Known, Error> {
        let missing = || no_such_entity(format!("Policy {arn} does not exist or is not attachable."));
        self.policy(account, arn).await?.ok_or_else(missing)
    }

    /// A policy of the account that is to be changed, and its key.
    pub(super) async fn own_policy(&self, account: &AccountId, arn: &str) -> Result<(Key, Stored<Policy>), Error> {
        match self.policy(account, arn).await? {
            Some(Known::Own(key, policy)) => Ok((key, policy)),
            Some(Known::Aws(..)) => Err(Error::new(403, "AccessDenied", "Policy is outside your own account.")),
            None => Err(not_found(arn)),
        }
    }
}

fn parsed(arn: &str) -> Result<PolicyArn, Error> {
    PolicyArn::parse(arn).ok_or_else(|| match arn.starts_with("arn:") {
        true => invalid_input_exception(format!("ARN {arn} is not valid.")),
        false => invalid("Invalid ARN:  Could not be parsed!"),
    })
}

/// AWS may well have it.
fn unlisted(arn: &str) -> Error {
    Error::not_supported(format_args!("the policy {arn}"))
}

pub fn not_found(arn: &str) -> Error {
    no_such_entity(format!("Policy {arn} was not found."))
}
