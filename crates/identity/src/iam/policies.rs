//! The handlers of the group `policies`: managed policies and their versions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_policy::Kind;
use hearth_wire::{Context, Coverage, Error, Timestamp};
use hearth_wire_iam::PoliciesApi;
use hearth_wire_iam::errors::{
    delete_conflict_exception as delete_conflict, entity_already_exists_exception, limit_exceeded_exception,
    no_such_entity_exception as no_such_entity,
};
use hearth_wire_iam::types::*;

use super::check::{self, listed_tags, quota};
use super::managed::{self, Managed};
use super::page::{Cut, Page};
use super::usage::{Known, not_found};
use super::{account, documents, partition};
use crate::coverage::IAM;
use crate::identity::{Batch, Identity, Stored, new_id};
use crate::record::{self, ACCOUNT, AWS_POLICY, Account, POLICY, Usage, Version, id_of};

const POLICIES_MAX: usize = 1500;
/// Characters of a document, white space not counted.
const SIZE_MAX: usize = 6144;
const VERSIONS_MAX: usize = 5;

#[async_trait]
impl PoliciesApi for Identity {
    fn coverage(&self) -> &'static [Coverage] {
        IAM
    }

    async fn create_policy(&self, cx: &Context, input: CreatePolicyRequest) -> Result<CreatePolicyResponse, Error> {
        let (account, name) = (account(cx), check::name("policyName", input.policy_name.as_deref())?.to_owned());
        let document = document(input.policy_document)?;
        let tags = check::tags(&BTreeMap::new(), input.tags)?;
        let _turn = self.turn(&account).await;
        let key = record::key(&account, POLICY, &id_of(&name));
        if self.read::<record::Policy>(key.clone()).await?.is_some() {
            let text = format!("A policy called {name} already exists. Duplicate names are not allowed.");
            return Err(entity_already_exists_exception(text));
        }
        let of_account = record::key(&account, ACCOUNT, "1");
        let mut counted = self.read_or_new::<Account>(of_account.clone()).await?;
        if counted.value.policies >= POLICIES_MAX {
            return Err(quota("PoliciesPerAccount", POLICIES_MAX));
        }
        counted.value.policies += 1;
        let now = self.now();
        let policy = Stored::new(record::Policy {
            name,
            path: input.path.unwrap_or_else(|| "/".to_owned()),
            id: new_id("ANPA"),
            created: now,
            updated: now,
            description: input.description,
            tags,
            versions: BTreeMap::from([(1, Version { document, created: now })]),
            default: 1,
            last: 1,
            usage: Usage::default(),
        });
        self.commit(Batch::default().put(key, &policy)?.put(of_account, &counted)?).await?;
        // The description is for GetPolicy alone.
        let tags = listed_tags(&policy.value.tags);
        Ok(CreatePolicyResponse { policy: Some(Policy { tags, ..of_account_own(cx, &policy.value) }) })
    }

    async fn get_policy(&self, cx: &Context, input: GetPolicyRequest) -> Result<GetPolicyResponse, Error> {
        let arn = input.policy_arn.unwrap_or_default();
        let policy = match self.policy(&account(cx), &arn).await?.ok_or_else(|| not_found(&arn))? {
            Known::Aws(managed, _, usage) => of_aws(cx, managed, &usage.value),
            Known::Own(_, Stored { value, .. }) => Policy {
                description: value.description.clone(),
                tags: listed_tags(&value.tags),
                ..of_account_own(cx, &value)
            },
        };
        Ok(GetPolicyResponse { policy: Some(policy) })
    }

    async fn list_policies(&self, cx: &Context, input: ListPoliciesRequest) -> Result<ListPoliciesResponse, Error> {
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        let (scope, prefix) = (input.scope.as_deref().unwrap_or("All"), input.path_prefix.unwrap_or_default());
        let by_usage = input.policy_usage_filter.as_deref();
        let only_attached = input.only_attached == Some(true);
        let used = |usage: &Usage| match by_usage {
            Some("PermissionsBoundary") => !usage.bounds.is_empty(),
            Some(_) => !usage.attached.is_empty(),
            None => !only_attached || !usage.attached.is_empty(),
        };
        // AWS's come first: positions are `1/NAME` and `2/ID`.
        let after = page.after.as_deref().unwrap_or_default();
        let mut found: Vec<(String, Policy)> = Vec::new();
        if scope != "Local" && !after.starts_with("2/") {
            let used_by: BTreeMap<String, Usage> =
                self.list(&account(cx), AWS_POLICY, None, managed::all().len()).await?.into_iter().collect();
            let none = Usage::default();
            found.extend(managed::all().iter().filter_map(|managed| {
                let usage = used_by.get(&managed.name).unwrap_or(&none);
                let position = format!("1/{}", managed.name);
                let wanted = *position > *after && managed.path.starts_with(&prefix) && used(usage);
                wanted.then(|| (position, of_aws(cx, managed, usage)))
            }));
        }
        if scope != "AWS" && found.len() <= page.size {
            let wanted = |policy: &record::Policy| policy.path.starts_with(&prefix) && used(&policy.usage);
            let after = after.strip_prefix("2/").map(str::to_owned);
            let own = self.scan(&account(cx), POLICY, after, page.size - found.len(), wanted).await?;
            found.extend(own.iter().map(|(id, policy)| (format!("2/{id}"), of_account_own(cx, policy))));
        }
        let Cut { items, is_truncated, marker } = page.ended(found);
        Ok(ListPoliciesResponse { policies: Some(items), is_truncated, marker })
    }

    async fn delete_policy(&self, cx: &Context, input: DeletePolicyRequest) -> Result<(), Error> {
        let account = account(cx);
        let _turn = self.turn(&account).await;
        let (key, policy) = self.own_policy(&account, &input.policy_arn.unwrap_or_default()).await?;
        if policy.value.usage != Usage::default() {
            return Err(delete_conflict("Cannot delete a policy attached to entities."));
        }
        if policy.value.versions.len() > 1 {
            return Err(delete_conflict(
                "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. \
                 The default version is deleted with the policy.",
            ));
        }
        let of_account = record::key(&account, ACCOUNT, "1");
        let mut counted = self.read_or_new::<Account>(of_account.clone()).await?;
        counted.value.policies = counted.value.policies.saturating_sub(1);
        self.commit(Batch::default().delete(key, &policy).put(of_account, &counted)?).await
    }

    async fn create_policy_version(
        &self,
        cx: &Context,
        input: CreatePolicyVersionRequest,
    ) -> Result<CreatePolicyVersionResponse, Error> {
        let document = document(input.policy_document)?;
        let (arn, now) = (input.policy_arn.unwrap_or_default(), self.now());
        let changed = self.change_policy(cx, &arn, |policy| {
            if policy.versions.len() >= VERSIONS_MAX {
                return Err(limit_exceeded_exception(format!(
                    "A managed policy can have up to {VERSIONS_MAX} versions. Before you create a new version, you must delete \
                     an existing version."
                )));
            }
            policy.last += 1;
            policy.updated = now;
            policy.versions.insert(policy.last, Version { document, created: now });
            if input.set_as_default == Some(true) {
                policy.default = policy.last;
            }
            Ok(())
        });
        let policy = changed.await?;
        let version = policy.versions.get(&policy.last).map(|version| told(&policy, policy.last, version));
        Ok(CreatePolicyVersionResponse { policy_version: version })
    }

    async fn get_policy_version(
        &self,
        cx: &Context,
        input: GetPolicyVersionRequest,
    ) -> Result<GetPolicyVersionResponse, Error> {
        let (arn, asked) = (input.policy_arn.unwrap_or_default(), input.version_id.unwrap_or_default());
        let missing = || no_version(&arn, &asked);
        let version = match self.policy(&account(cx), &arn).await?.ok_or_else(|| not_found(&arn))? {
            Known::Aws(managed, ..) => (number(&asked) == Some(managed.version)).then(|| PolicyVersion {
                document: Some(documents::encoded(&managed.document())),
                ..version_of_aws(managed)
            }),
            Known::Own(_, Stored { value, .. }) => number(&asked).and_then(|number| {
                let version = value.versions.get(&number)?;
                let document = Some(documents::encoded(&version.document));
                Some(PolicyVersion { document, ..told(&value, number, version) })
            }),
        };
        Ok(GetPolicyVersionResponse { policy_version: Some(version.ok_or_else(missing)?) })
    }

    async fn list_policy_versions(
        &self,
        cx: &Context,
        input: ListPolicyVersionsRequest,
    ) -> Result<ListPolicyVersionsResponse, Error> {
        let arn = input.policy_arn.unwrap_or_default();
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        // The newest first: positions grow as numbers fall.
        let position = |number: u32| format!("{:010}", u32::MAX - number);
        let versions: Vec<(String, PolicyVersion)> =
            match self.policy(&account(cx), &arn).await?.ok_or_else(|| not_found(&arn))? {
                Known::Aws(managed, ..) => vec![(position(managed.version), version_of_aws(managed))],
                Known::Own(_, Stored { value, .. }) => {
                    let newest = value.versions.iter().rev();
                    newest.map(|(number, version)| (position(*number), told(&value, *number, version))).collect()
                }
            };
        let Cut { items, is_truncated, marker } = page.cut(versions);
        Ok(ListPolicyVersionsResponse { versions: Some(items), is_truncated, marker })
    }

    async fn set_default_policy_version(
        &self,
        cx: &Context,
        input: SetDefaultPolicyVersionRequest,
    ) -> Result<(), Error> {
        let (arn, asked) = (input.policy_arn.unwrap_or_default(), input.version_id.unwrap_or_default());
        let now = self.now();
        let changed = self.change_policy(cx, &arn, |policy| {
            let number = number(&asked).filter(|number| policy.versions.contains_key(number));
            policy.default = number.ok_or_else(|| no_version(&arn, &asked))?;
            policy.updated = now;
            Ok(())
        });
        changed.await.map(drop)
    }

    async fn delete_policy_version(&self, cx: &Context, input: DeletePolicyVersionRequest) -> Result<(), Error> {
        let (arn, asked) = (input.policy_arn.unwrap_or_default(), input.version_id.unwrap_or_default());
        let changed = self.change_policy(cx, &arn, |policy| match number(&asked) {
            Some(number) if number == policy.default => {
                Err(delete_conflict("Cannot delete the default version of a policy."))
            }
            Some(number) if policy.versions.remove(&number).is_some() => Ok(()),
            _ => Err(no_version(&arn, &asked)),
        });
        changed.await.map(drop)
    }

    async fn list_entities_for_policy(
        &self,
        cx: &Context,
        input: ListEntitiesForPolicyRequest,
    ) -> Result<ListEntitiesForPolicyResponse, Error> {
        let (account, arn) = (account(cx), input.policy_arn.unwrap_or_default());
        let page = Page::of(input.marker.as_deref(), input.max_items)?;
        let policy = self.policy(&account, &arn).await?.ok_or_else(|| not_found(&arn))?;
        let Usage { attached, bounds } = policy.usage();
        let ids = match (input.entity_filter.as_deref(), input.policy_usage_filter.as_deref()) {
            // Nothing but roles has policies here.
            (Some("User" | "Group"), _) => Default::default(),
            (_, Some("PermissionsBoundary")) => bounds.clone(),
            (_, Some(_)) => attached.clone(),
            (_, None) => attached | bounds,
        };
        let prefix = input.path_prefix.unwrap_or_default();
        let mut roles = Vec::new();
        for id in ids {
            let Some(role) = self.role(&account, &id).await?.filter(|role| role.value.path.starts_with(&prefix)) else {
                continue;
            };
            roles.push((id, PolicyRole { role_name: Some(role.value.name), role_id: Some(role.value.id) }));
        }
        let Cut { items, is_truncated, marker } = page.cut(roles);
        Ok(ListEntitiesForPolicyResponse {
            policy_groups: Some(Vec::new()),
            policy_users: Some(Vec::new()),
            policy_roles: Some(items),
            is_truncated,
            marker,
        })
    }
}

impl Identity {
    async fn change_policy(
        &self,
        cx: &Context,
        arn: &str,
        change: impl FnOnce(&mut record::Policy) -> Result<(), Error> + Send,
    ) -> Result<record::Policy, Error> {
        let account = account(cx);
        let _turn = self.turn(&account).await;
        let (key, mut policy) = self.own_policy(&account, arn).await?;
        change(&mut policy.value)?;
        self.commit(Batch::default().put(key, &policy)?).await?;
        Ok(policy.value)
    }
}

fn document(text: Option<String>) -> Result<String, Error> {
    let document = documents::checked(text, Kind::Identity)?;
    if documents::size(&document) > SIZE_MAX { Err(quota("PolicySize", SIZE_MAX)) } else { Ok(document) }
}

/// As lists name a policy of the account.
fn of_account_own(cx: &Context, policy: &record::Policy) -> Policy {
    let arn = format!("arn:{}:iam::{}:policy{}{}", partition(cx), account(cx), policy.path, policy.name);
    Policy {
        policy_name: Some(policy.name.clone()),
        policy_id: Some(policy.id.clone()),
        arn: Some(arn),
        path: Some(policy.path.clone()),
        default_version_id: Some(version_id(policy.default)),
        create_date: Some(Timestamp(policy.created)),
        update_date: Some(Timestamp(policy.updated)),
        ..counts(&policy.usage)
    }
}

fn of_aws(cx: &Context, policy: &Managed, usage: &Usage) -> Policy {
    Policy {
        policy_name: Some(policy.name.clone()),
        policy_id: Some(policy.id()),
        arn: Some(policy.arn(partition(cx))),
        path: Some(policy.path.clone()),
        default_version_id: Some(version_id(policy.version)),
        create_date: Some(Timestamp(policy.created)),
        update_date: Some(Timestamp(policy.created)),
        ..counts(usage)
    }
}

fn counts(usage: &Usage) -> Policy {
    let count = |of: usize| i64::try_from(of).ok();
    Policy {
        attachment_count: count(usage.attached.len()),
        permissions_boundary_usage_count: count(usage.bounds.len()),
        is_attachable: Some(true),
        ..Policy::default()
    }
}

/// As lists name a version.
fn told(policy: &record::Policy, number: u32, version: &Version) -> PolicyVersion {
    PolicyVersion {
        document: None,
        version_id: Some(version_id(number)),
        is_default_version: Some(number == policy.default),
        create_date: Some(Timestamp(version.created)),
    }
}

fn version_of_aws(policy: &Managed) -> PolicyVersion {
    PolicyVersion {
        document: None,
        version_id: Some(version_id(policy.version)),
        is_default_version: Some(true),
        create_date: Some(Timestamp(policy.created)),
    }
}

fn version_id(number: u32) -> String {
    format!("v{number}")
}

/// Of `v3`.
fn number(version_id: &str) -> Option<u32> {
    version_id.strip_prefix('v')?.parse().ok()
}

fn no_version(arn: &str, version: &str) -> Error {
    no_such_entity(format!("Policy {arn} version {version} does not exist or is not attachable."))
}
