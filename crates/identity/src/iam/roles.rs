//! The handlers of the group `roles`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use hearth_policy::Kind;
use hearth_wire::{Context, Coverage, Error, Timestamp};
use hearth_wire_iam::RolesApi;
use hearth_wire_iam::errors::{delete_conflict_exception as delete_conflict, entity_already_exists_exception};
use hearth_wire_iam::types::*;

use super::check::{self, listed_tags, quota};
use super::page::{Cut, Page};
use super::{account, documents, partition};
use crate::arn::RoleArn;
use crate::coverage::IAM;
use crate::identity::{Batch, Identity, Stored, new_id};
use crate::record::{self, ACCOUNT, Account, ROLE, id_of};

const ROLES_MAX: usize = 1000;
/// Characters of a trust policy, white space not counted.
const TRUST_MAX: usize = 2048;
const SESSION_S: i64 = 3600;

#[async_trait]
impl RolesApi for Identity {
    fn coverage(&self) -> &'static [Coverage] {
        IAM
    }

    async fn create_role(&self, cx: &Context, input: CreateRoleRequest) -> Result<CreateRoleResponse, Error> {
        let (account, name) = (account(cx), check::name("roleName", input.role_name.as_deref())?.to_owned());
        let trust = trust(input.assume_role_policy_document)?;
        let tags = check::tags(&BTreeMap::new(), input.tags)?;
        let _turn = self.turn(&account).await;
        let boundary = match &input.permissions_boundary {
            Some(arn) => Some(self.attachable(&account, arn).await?),
            None => None,
        };
        if self.role(&account, &name).await?.is_some() {
            return Err(entity_already_exists_exception(format!("Role with name {name} already exists.")));
        }
        let of_account = record::key(&account, ACCOUNT, "1");
        let mut counted = self.read_or_new::<Account>(of_account.clone()).await?;
        if counted.value.roles >= ROLES_MAX {
            return Err(quota("RolesPerAccount", ROLES_MAX));
        }
        counted.value.roles += 1;
        let id = id_of(&name);
        let role = Stored::new(record::Role {
            name,
            path: input.path.unwrap_or_else(|| "/".to_owned()),
            id: new_id("AROA"),
            created: self.now(),
            trust,
            description: input.description,
            max_session_s: input.max_session_duration.unwrap_or(SESSION_S),
            boundary: input.permissions_boundary,
            tags,
            inline: BTreeMap::new(),
            attached: BTreeSet::new(),
        });
        let mut batch = Batch::default().put(record::key(&account, ROLE, &id), &role)?.put(of_account, &counted)?;
        if let Some(mut policy) = boundary {
            policy.usage_mut().bounds.insert(id);
            batch = policy.put(batch)?;
        }
        self.commit(batch).await?;
        Ok(CreateRoleResponse { role: Some(whole(cx, &role.value)) })
    }

    async fn get_role(&self, cx: &Context, input: GetRoleRequest) -> Result<GetRoleResponse, Error> {
        let role = self.known_role(cx, input.role_name.as_deref()).await?;
        let role = Role { role_last_used: Some(RoleLastUsed::default()), ..whole(cx, &role.value) };
        Ok(GetRoleResponse { role: Some(role) })
    }

    async fn list_roles(&self, cx: &Context, input: ListRolesRequest) -> Result<ListRolesResponse, Error> {
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        let prefix = input.path_prefix.unwrap_or_default();
        let wanted = |role: &record::Role| role.path.starts_with(&prefix);
        let found = self.scan(&account(cx), ROLE, page.after.clone(), page.size, wanted).await?;
        let Cut { items, is_truncated, marker } = page.ended(found);
        let roles = items.iter().map(|role| listed(cx, role)).collect();
        Ok(ListRolesResponse { roles: Some(roles), is_truncated, marker })
    }

    async fn update_role(&self, cx: &Context, input: UpdateRoleRequest) -> Result<UpdateRoleResponse, Error> {
        self.change_role(cx, input.role_name.as_deref(), |role| {
            role.max_session_s = input.max_session_duration.unwrap_or(SESSION_S);
            if input.description.is_some() {
                role.description = input.description;
            }
            Ok(())
        })
        .await?;
        Ok(UpdateRoleResponse {})
    }

    async fn update_role_description(
        &self,
        cx: &Context,
        input: UpdateRoleDescriptionRequest,
    ) -> Result<UpdateRoleDescriptionResponse, Error> {
        let changed = self.change_role(cx, input.role_name.as_deref(), |role| {
            role.description = input.description;
            Ok(())
        });
        Ok(UpdateRoleDescriptionResponse { role: Some(whole(cx, &changed.await?)) })
    }

    async fn update_assume_role_policy(&self, cx: &Context, input: UpdateAssumeRolePolicyRequest) -> Result<(), Error> {
        let trust = trust(input.policy_document)?;
        let changed = self.change_role(cx, input.role_name.as_deref(), |role| {
            role.trust = trust;
            Ok(())
        });
        changed.await.map(drop)
    }

    async fn delete_role(&self, cx: &Context, input: DeleteRoleRequest) -> Result<(), Error> {
        let account = account(cx);
        let _turn = self.turn(&account).await;
        let role = self.known_role(cx, input.role_name.as_deref()).await?;
        if !role.value.attached.is_empty() {
            return Err(delete_conflict("Cannot delete entity, must detach all policies first."));
        }
        if !role.value.inline.is_empty() {
            return Err(delete_conflict("Cannot delete entity, must delete policies first."));
        }
        let of_account = record::key(&account, ACCOUNT, "1");
        let mut counted = self.read_or_new::<Account>(of_account.clone()).await?;
        counted.value.roles = counted.value.roles.saturating_sub(1);
        let id = id_of(&role.value.name);
        let mut batch = Batch::default().delete(record::key(&account, ROLE, &id), &role).put(of_account, &counted)?;
        if let Some(arn) = &role.value.boundary
            && let Some(mut policy) = self.policy(&account, arn).await?
        {
            policy.usage_mut().bounds.remove(&id);
            batch = policy.put(batch)?;
        }
        self.commit(batch).await
    }

    async fn tag_role(&self, cx: &Context, input: TagRoleRequest) -> Result<(), Error> {
        let changed = self.change_role(cx, input.role_name.as_deref(), |role| {
            role.tags = check::tags(&role.tags, input.tags)?;
            Ok(())
        });
        changed.await.map(drop)
    }

    async fn untag_role(&self, cx: &Context, input: UntagRoleRequest) -> Result<(), Error> {
        let keys: Vec<String> = input.tag_keys.unwrap_or_default().iter().map(|key| key.to_lowercase()).collect();
        let changed = self.change_role(cx, input.role_name.as_deref(), |role| {
            role.tags.retain(|key, _| !keys.contains(&key.to_lowercase()));
            Ok(())
        });
        changed.await.map(drop)
    }

    async fn list_role_tags(&self, cx: &Context, input: ListRoleTagsRequest) -> Result<ListRoleTagsResponse, Error> {
        let role = self.known_role(cx, input.role_name.as_deref()).await?;
        let tags = listed_tags(&role.value.tags).unwrap_or_default();
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        let positioned = tags.into_iter().map(|tag| (tag.key.clone().unwrap_or_default(), tag));
        let Cut { items, is_truncated, marker } = page.cut(positioned);
        Ok(ListRoleTagsResponse { tags: Some(items), is_truncated, marker })
    }

    /// There is nothing that makes instance profiles here, so a role is in none.
    async fn list_instance_profiles_for_role(
        &self,
        cx: &Context,
        input: ListInstanceProfilesForRoleRequest,
    ) -> Result<ListInstanceProfilesForRoleResponse, Error> {
        self.known_role(cx, input.role_name.as_deref()).await?;
        let (instance_profiles, is_truncated) = (Some(Vec::new()), Some(false));
        Ok(ListInstanceProfilesForRoleResponse { instance_profiles, is_truncated, marker: None })
    }
}

impl Identity {
    /// Changes a role by itself, and answers what it is then.
    pub(super) async fn change_role(
        &self,
        cx: &Context,
        name: Option<&str>,
        change: impl FnOnce(&mut record::Role) -> Result<(), Error> + Send,
    ) -> Result<record::Role, Error> {
        let account = account(cx);
        let _turn = self.turn(&account).await;
        let mut role = self.known_role(cx, name).await?;
        change(&mut role.value)?;
        let key = record::key(&account, ROLE, &id_of(&role.value.name));
        self.commit(Batch::default().put(key, &role)?).await?;
        Ok(role.value)
    }
}

fn trust(document: Option<String>) -> Result<String, Error> {
    let document = documents::checked(document, Kind::Trust)?;
    if documents::size(&document) > TRUST_MAX { Err(quota("ACLSizePerRole", TRUST_MAX)) } else { Ok(document) }
}

/// As lists name a role.
fn listed(cx: &Context, role: &record::Role) -> Role {
    let arn = RoleArn {
        partition: partition(cx).to_owned(),
        account: account(cx),
        path: role.path.clone(),
        name: role.name.clone(),
    };
    Role {
        path: Some(role.path.clone()),
        role_name: Some(role.name.clone()),
        role_id: Some(role.id.clone()),
        arn: Some(arn.to_string()),
        create_date: Some(Timestamp(role.created)),
        assume_role_policy_document: Some(documents::encoded(&role.trust)),
        description: role.description.clone(),
        max_session_duration: Some(role.max_session_s),
        ..Role::default()
    }
}

fn whole(cx: &Context, role: &record::Role) -> Role {
    let boundary = role.boundary.clone().map(|arn| AttachedPermissionsBoundary {
        permissions_boundary_type: Some("Policy".to_owned()),
        permissions_boundary_arn: Some(arn),
    });
    Role { permissions_boundary: boundary, tags: listed_tags(&role.tags), ..listed(cx, role) }
}
