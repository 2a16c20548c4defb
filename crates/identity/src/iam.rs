//! IAM: roles, their policies, managed policies.
//!
//! - one module a group of operations: `roles`, `role_policies`, `policies`
//! - `documents`: which policy documents are accepted, with AWS's texts; `check`: names, paths and tags
//! - `managed`: the policies of AWS itself; `usage`: who has a policy
//! - `page`: pages of lists

mod check;
mod documents;
mod managed;
mod page;
mod policies;
mod role_policies;
mod roles;
mod usage;

use hearth_model::{AccountId, Region};
use hearth_wire::{Context, Error};
use hearth_wire_iam::errors::no_such_entity_exception as no_such_entity;

use crate::identity::{Identity, Stored};
use crate::record::Role;

/// The caller's account.
fn account(cx: &Context) -> AccountId {
    AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account)
}

/// The partition of the ARNs that a caller is answered.
fn partition(cx: &Context) -> &'static str {
    Region::parse(&cx.region).unwrap_or_else(Region::default_region).partition()
}

impl Identity {
    /// A role that must be there.
    async fn known_role(&self, cx: &Context, name: Option<&str>) -> Result<Stored<Role>, Error> {
        let name = check::name("roleName", name)?;
        let found = self.role(&account(cx), name).await?;
        found.ok_or_else(|| no_such_entity(format!("The role with name {name} cannot be found.")))
    }
}
