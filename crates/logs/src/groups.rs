//! Log groups: the handlers of the group `groups`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_observe::{Group, GroupSettings};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::GroupsApi;
use hearth_wire_logs::errors::invalid_parameter_exception as invalid;
use hearth_wire_logs::types::*;

use crate::cloudwatch::{CloudWatch, Kind, failed, refused};
use crate::coverage::COVERAGE;
use crate::{names, page, tags};

/// What AWS takes for a retention, in days.
const RETENTIONS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
/// Groups of a page, unless the client says how many.
const USUAL: usize = 50;
const STANDARD: &str = "STANDARD";

#[async_trait]
impl GroupsApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_log_group(&self, cx: &Context, input: CreateLogGroupRequest) -> Result<(), Error> {
        if input.kms_key_id.is_some() {
            return Err(Error::not_supported("logs:CreateLogGroup with kmsKeyId"));
        }
        if let Some(class) = input.log_group_class.as_deref().filter(|class| *class == "DELIVERY") {
            return Err(Error::not_supported(format_args!("log groups of the class {class}")));
        }
        let settings = GroupSettings {
            class: input.log_group_class.filter(|class| class != STANDARD),
            protected: input.deletion_protection_enabled.unwrap_or(false),
            tags: tags::checked(input.tags.unwrap_or_default())?,
            ..GroupSettings::default()
        };
        let name = names::group(cx, &input.log_group_name.unwrap_or_default());
        self.logs.create_group(name, settings).await.map_err(refused(Kind::Group))
    }

    async fn delete_log_group(&self, cx: &Context, input: DeleteLogGroupRequest) -> Result<(), Error> {
        let name = names::group(cx, &input.log_group_name.unwrap_or_default());
        self.logs.delete_group(name).await.map_err(refused(Kind::Group))?;
        self.watch.changed().await;
        Ok(())
    }

    async fn put_retention_policy(&self, cx: &Context, input: PutRetentionPolicyRequest) -> Result<(), Error> {
        let days = input.retention_in_days.unwrap_or_default();
        let known = u32::try_from(days).ok().filter(|_| RETENTIONS.contains(&days));
        let Some(days) = known else {
            let all: Vec<String> = RETENTIONS.iter().map(i64::to_string).collect();
            return Err(invalid(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member must \
                 satisfy enum value set: [{}]",
                all.join(", ")
            )));
        };
        self.set(cx, &input.log_group_name.unwrap_or_default(), move |settings| {
            settings.retention_days = Some(days);
            Ok(())
        })
        .await
    }

    async fn delete_retention_policy(&self, cx: &Context, input: DeleteRetentionPolicyRequest) -> Result<(), Error> {
        self.set(cx, &input.log_group_name.unwrap_or_default(), |settings| {
            settings.retention_days = None;
            Ok(())
        })
        .await
    }

    async fn put_log_group_deletion_protection(
        &self,
        cx: &Context,
        input: PutLogGroupDeletionProtectionRequest,
    ) -> Result<(), Error> {
        let group = names::identified(cx, &input.log_group_identifier.unwrap_or_default())?;
        let protected = input.deletion_protection_enabled.unwrap_or(false);
        self.set(cx, &group.name, move |settings| {
            settings.protected = protected;
            Ok(())
        })
        .await
    }

    async fn describe_log_groups(
        &self,
        cx: &Context,
        input: DescribeLogGroupsRequest,
    ) -> Result<DescribeLogGroupsResponse, Error> {
        let own = input.account_identifiers.iter().flatten().all(|account| *account == cx.account);
        let (prefix, pattern) = (input.log_group_name_prefix, input.log_group_name_pattern);
        if prefix.is_some() && pattern.is_some() {
            return Err(invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."));
        }
        let identified = input.log_group_identifiers.map(|all| {
            all.iter().map(|one| names::identified(cx, one).map(|group| group.name)).collect::<Result<Vec<_>, _>>()
        });
        let identified = identified.transpose()?;
        if identified.is_some() && (prefix.is_some() || pattern.is_some() || input.log_group_class.is_some()) {
            return Err(invalid("logGroupIdentifiers can be combined with includeLinkedAccounts only."));
        }
        let class = input.log_group_class;
        let wanted = move |group: &Group| {
            own && prefix.as_ref().is_none_or(|prefix| group.name.name.starts_with(&**prefix))
                && pattern.as_ref().is_none_or(|pattern| group.name.name.contains(&**pattern))
                && identified.as_ref().is_none_or(|all| all.contains(&group.name.name))
                && class.as_ref().is_none_or(|class| class_of(group) == *class)
        };
        let (groups, next_token) = self.groups(cx, input.next_token, page::size(input.limit, USUAL), wanted).await?;
        Ok(DescribeLogGroupsResponse { log_groups: Some(groups.iter().map(described).collect()), next_token })
    }

    async fn list_log_groups(&self, cx: &Context, input: ListLogGroupsRequest) -> Result<ListLogGroupsResponse, Error> {
        if input.data_sources.is_some() || input.field_index_names.is_some() {
            return Err(Error::not_supported("logs:ListLogGroups with dataSources or fieldIndexNames"));
        }
        let own = input.account_identifiers.iter().flatten().all(|account| *account == cx.account);
        let patterns: Vec<String> =
            input.log_group_name_pattern.iter().flat_map(|all| all.split('|')).map(str::to_owned).collect();
        let tags: BTreeMap<String, Vec<String>> = input
            .log_group_tags
            .into_iter()
            .flatten()
            .map(|filter| (filter.key.unwrap_or_default(), filter.values.unwrap_or_default()))
            .collect();
        let class = input.log_group_class;
        let named = move |name: &str| {
            let is = |pattern: &String| match pattern.strip_prefix('^') {
                Some(prefix) => name.starts_with(prefix),
                None => name.contains(&**pattern),
            };
            patterns.is_empty() || patterns.iter().any(is)
        };
        let tagged = move |group: &Group| {
            tags.iter().all(|(key, values)| {
                let value = group.settings.tags.get(key);
                value.is_some_and(|value| values.is_empty() || values.contains(value))
            })
        };
        let wanted = move |group: &Group| {
            own && named(&group.name.name)
                && tagged(group)
                && class.as_ref().is_none_or(|class| class_of(group) == *class)
        };
        let (groups, next_token) = self.groups(cx, input.next_token, page::size(input.limit, USUAL), wanted).await?;
        let summary = |group: &Group| LogGroupSummary {
            log_group_name: Some(group.name.name.to_string()),
            log_group_arn: Some(names::arn(&group.name)),
            log_group_class: Some(class_of(group).to_owned()),
        };
        Ok(ListLogGroupsResponse { log_groups: Some(groups.iter().map(summary).collect()), next_token })
    }
}

impl CloudWatch {
    pub(crate) async fn set(
        &self,
        cx: &Context,
        name: &str,
        decide: impl FnOnce(&mut GroupSettings) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        self.logs.set(names::group(cx, name), decide).await.map_err(refused(Kind::Group))?
    }

    /// A page of the caller's groups, and the token of the next.
    async fn groups(
        &self,
        cx: &Context,
        token: Option<String>,
        size: usize,
        wanted: impl Fn(&Group) -> bool + Send + 'static,
    ) -> Result<(Vec<Group>, Option<String>), Error> {
        let after: String = token.as_deref().map(page::mark).transpose()?.unwrap_or_default();
        let (account, region) = names::owner(cx);
        let mut groups = self.logs.groups(account, region, after, size + 1, wanted).await.map_err(failed)?;
        let more = groups.len() > size;
        groups.truncate(size);
        let next = groups.last().filter(|_| more).map(|group| page::token(&group.name.name));
        Ok((groups, next))
    }
}

fn class_of(group: &Group) -> &str {
    group.settings.class.as_deref().unwrap_or(STANDARD)
}

fn described(group: &Group) -> LogGroup {
    let arn = names::arn(&group.name);
    LogGroup {
        log_group_name: Some(group.name.name.to_string()),
        creation_time: Some(group.created),
        retention_in_days: group.settings.retention_days.map(i64::from),
        metric_filter_count: i64::try_from(group.settings.metric_filters.len()).ok(),
        arn: Some(format!("{arn}:*")),
        log_group_arn: Some(arn),
        stored_bytes: Some(group.bytes.cast_signed()),
        log_group_class: Some(class_of(group).to_owned()),
        deletion_protection_enabled: Some(group.settings.protected),
        ..LogGroup::default()
    }
}
