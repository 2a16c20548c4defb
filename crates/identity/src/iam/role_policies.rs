//! The handlers of the group `role_policies`: documents in a role, and managed policies that it has.

use async_trait::async_trait;
use hearth_policy::Kind;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_iam::RolePoliciesApi;
use hearth_wire_iam::errors::{limit_exceeded_exception, no_such_entity_exception as no_such_entity};
use hearth_wire_iam::types::*;

use super::check::{self, quota};
use super::page::{Cut, Page};
use super::usage::not_found;
use super::{account, documents};
use crate::arn::PolicyArn;
use crate::coverage::IAM;
use crate::identity::{Batch, Identity};
use crate::record::{self, ROLE, id_of};

/// Characters of all documents in a role, white space not counted.
const INLINE_MAX: usize = 10_240;
/// Bytes of them all as they were given, so that a role stays small whatever white space is in it.
const INLINE_BYTES_MAX: usize = 131_072;
/// Managed policies of a role.
const ATTACHED_MAX: usize = 10;

#[async_trait]
impl RolePoliciesApi for Identity {
    fn coverage(&self) -> &'static [Coverage] {
        IAM
    }

    async fn put_role_policy(&self, cx: &Context, input: PutRolePolicyRequest) -> Result<(), Error> {
        let name = check::name("policyName", input.policy_name.as_deref())?.to_owned();
        let document = documents::checked(input.policy_document, Kind::Identity)?;
        let changed = self.change_role(cx, input.role_name.as_deref(), |role| {
            role.inline.insert(name, document);
            let sum = |size: fn(&str) -> usize| role.inline.values().map(|document| size(document)).sum::<usize>();
            if sum(documents::size) > INLINE_MAX || sum(str::len) > INLINE_BYTES_MAX {
                let text = format!("Maximum policy size of {INLINE_MAX} bytes exceeded for role {}", role.name);
                return Err(limit_exceeded_exception(text));
            }
            Ok(())
        });
        changed.await.map(drop)
    }

    async fn get_role_policy(&self, cx: &Context, input: GetRolePolicyRequest) -> Result<GetRolePolicyResponse, Error> {
        let role = self.known_role(cx, input.role_name.as_deref()).await?.value;
        let name = check::name("policyName", input.policy_name.as_deref())?;
        let document = role.inline.get(name).ok_or_else(|| no_document(name))?;
        Ok(GetRolePolicyResponse {
            role_name: Some(role.name.clone()),
            policy_name: Some(name.to_owned()),
            policy_document: Some(documents::encoded(document)),
        })
    }

    async fn list_role_policies(
        &self,
        cx: &Context,
        input: ListRolePoliciesRequest,
    ) -> Result<ListRolePoliciesResponse, Error> {
        let role = self.known_role(cx, input.role_name.as_deref()).await?.value;
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        let names = role.inline.into_keys().map(|name| (name.clone(), name));
        let Cut { items, is_truncated, marker } = page.cut(names);
        Ok(ListRolePoliciesResponse { policy_names: Some(items), is_truncated, marker })
    }

    async fn delete_role_policy(&self, cx: &Context, input: DeleteRolePolicyRequest) -> Result<(), Error> {
        let name = check::name("policyName", input.policy_name.as_deref())?;
        let changed = self.change_role(cx, input.role_name.as_deref(), |role| {
            role.inline.remove(name).map(drop).ok_or_else(|| no_document(name))
        });
        changed.await.map(drop)
    }

    async fn attach_role_policy(&self, cx: &Context, input: AttachRolePolicyRequest) -> Result<(), Error> {
        let (account, arn) = (account(cx), input.policy_arn.unwrap_or_default());
        let _turn = self.turn(&account).await;
        let mut role = self.known_role(cx, input.role_name.as_deref()).await?;
        let mut policy = self.attachable(&account, &arn).await?;
        if !role.value.attached.insert(arn) {
            return Ok(());
        }
        if role.value.attached.len() > ATTACHED_MAX {
            return Err(quota("PoliciesPerRole", ATTACHED_MAX));
        }
        let id = id_of(&role.value.name);
        policy.usage_mut().attached.insert(id.clone());
        let batch = Batch::default().put(record::key(&account, ROLE, &id), &role)?;
        self.commit(policy.put(batch)?).await
    }

    async fn detach_role_policy(&self, cx: &Context, input: DetachRolePolicyRequest) -> Result<(), Error> {
        let (account, arn) = (account(cx), input.policy_arn.unwrap_or_default());
        let _turn = self.turn(&account).await;
        let mut role = self.known_role(cx, input.role_name.as_deref()).await?;
        let mut policy = self.policy(&account, &arn).await?.ok_or_else(|| not_found(&arn))?;
        if !role.value.attached.remove(&arn) {
            return Err(not_found(&arn));
        }
        let id = id_of(&role.value.name);
        policy.usage_mut().attached.remove(&id);
        let batch = Batch::default().put(record::key(&account, ROLE, &id), &role)?;
        self.commit(policy.put(batch)?).await
    }

    async fn list_attached_role_policies(
        &self,
        cx: &Context,
        input: ListAttachedRolePoliciesRequest,
    ) -> Result<ListAttachedRolePoliciesResponse, Error> {
        let role = self.known_role(cx, input.role_name.as_deref()).await?.value;
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        let prefix = input.path_prefix.unwrap_or_default();
        let attached = role.attached.into_iter().filter_map(|arn| Some((PolicyArn::parse(&arn)?, arn)));
        let mut attached: Vec<(String, AttachedPolicy)> = attached
            .filter(|(parsed, _)| parsed.path.starts_with(&prefix))
            // A marker has room for a name, not for every ARN; AWS may have a policy of the same name.
            .map(|(parsed, arn)| {
                let position = format!("{}/{}", parsed.name, if parsed.account.is_some() { "own" } else { "aws" });
                (position, AttachedPolicy { policy_name: Some(parsed.name), policy_arn: Some(arn) })
            })
            .collect();
        attached.sort_by(|(one, _), (other, _)| one.cmp(other));
        let Cut { items, is_truncated, marker } = page.cut(attached);
        Ok(ListAttachedRolePoliciesResponse { attached_policies: Some(items), is_truncated, marker })
    }
}

fn no_document(name: &str) -> Error {
    no_such_entity(format!("The role policy with name {name} cannot be found."))
}
