//! The handlers of groups. A group goes with its schedules: it is marked first, so that a crash leaves no half of it.

use async_trait::async_trait;
use hearth_store::{Record, RecordsError, Write};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_scheduler::GroupsApi;
use hearth_wire_scheduler::errors::{
    conflict_exception as conflict, resource_not_found_exception as not_found,
    service_quota_exceeded_exception as over_quota, validation_exception as invalid,
};
use hearth_wire_scheduler::types::*;

use crate::ids;
use crate::operations::partition;
use crate::page::List;
use crate::present;
use crate::record::{DEFAULT, GROUP, GroupRecord, MadeBy, Place, SCHEDULE, group_arn, group_key};
use crate::schedules::{Schedules, Shared, delete, put, unstored};
use crate::tags;

/// Schedules that one step of a deletion removes.
const STEP: usize = 50;

#[async_trait]
impl GroupsApi for Schedules {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn create_schedule_group(
        &self,
        cx: &Context,
        input: CreateScheduleGroupInput,
    ) -> Result<CreateScheduleGroupOutput, Error> {
        let (partition, name) = (partition(cx), input.name.unwrap_or_default());
        let tags = tags::given(input.tags.unwrap_or_default());
        tags::check(&tags)?;
        let asked = serde_json::to_string(&tags).unwrap_or_default();
        let made_by = input.client_token.map(|token| MadeBy { token, digest: ids::digest(&[&asked]) });
        let schedule_group_arn = Some(group_arn(&partition, &name));
        let _turn = self.shared.all.write().await;
        self.default_group(&partition).await?;
        if let Some(there) = self.shared.read::<GroupRecord>(group_key(&partition, &name)).await.map_err(unstored)? {
            if made_by.is_some() && made_by == there.made_by {
                return Ok(CreateScheduleGroupOutput { schedule_group_arn });
            }
            return Err(conflict(format!("Schedule group {name} already exists.")));
        }
        let most = self.shared.config.groups_max;
        let there = self.shared.ports.records.list(partition.clone(), GROUP, None, most + 1).await.map_err(unstored)?;
        if there.len() >= most {
            return Err(over_quota(format!("The number of schedule groups exceeds the quota of {most}.")));
        }
        let now = self.shared.now();
        let record = GroupRecord { created: now, modified: now, going: false, tags, made_by };
        self.shared.write(vec![put(group_key(&partition, &name), &record)]).await.map_err(unstored)?;
        Ok(CreateScheduleGroupOutput { schedule_group_arn })
    }

    async fn get_schedule_group(
        &self,
        cx: &Context,
        input: GetScheduleGroupInput,
    ) -> Result<GetScheduleGroupOutput, Error> {
        let (partition, name) = (partition(cx), input.name.unwrap_or_default());
        let ScheduleGroupSummary { arn, name, state, creation_date, last_modification_date } =
            present::group(&partition, &name, &self.group(&partition, &name).await?);
        Ok(GetScheduleGroupOutput { arn, name, state, creation_date, last_modification_date })
    }

    async fn delete_schedule_group(
        &self,
        cx: &Context,
        input: DeleteScheduleGroupInput,
    ) -> Result<DeleteScheduleGroupOutput, Error> {
        let (partition, name) = (partition(cx), input.name.unwrap_or_default());
        if name == DEFAULT {
            return Err(invalid("The default schedule group cannot be deleted."));
        }
        let (token, arn) = (input.client_token.as_deref(), group_arn(&partition, &name));
        let turn = self.shared.all.write().await;
        let record = match self.group(&partition, &name).await {
            Ok(record) => record,
            Err(missing) if missing.status == 404 && self.shared.was_deleted_by(token, &arn) => {
                return Ok(DeleteScheduleGroupOutput {});
            }
            Err(error) => return Err(error),
        };
        let going = GroupRecord { going: true, modified: self.shared.now(), ..record };
        self.shared.write(vec![put(group_key(&partition, &name), &going)]).await.map_err(unstored)?;
        drop(turn);
        self.shared.clear_group(&partition, &name).await.map_err(unstored)?;
        self.shared.remember_deletion(token, arn);
        Ok(DeleteScheduleGroupOutput {})
    }

    async fn list_schedule_groups(
        &self,
        cx: &Context,
        input: ListScheduleGroupsInput,
    ) -> Result<ListScheduleGroupsOutput, Error> {
        let partition = partition(cx);
        self.group(&partition, DEFAULT).await?;
        let prefix = input.name_prefix.unwrap_or_default();
        let token = input.next_token.as_deref();
        let list = List { partition: &partition, kind: GROUP, prefix: String::new(), token, max: input.max_results };
        let wanted = |found: &Record| {
            let record = serde_json::from_slice(&found.value).ok().filter(|_| found.id.starts_with(&prefix))?;
            Some(present::group(&partition, &found.id, &record))
        };
        let (groups, next_token) = list.read(&*self.shared.ports.records, wanted).await?;
        Ok(ListScheduleGroupsOutput { schedule_groups: Some(groups), next_token })
    }
}

impl Schedules {
    /// A group as it is, or the refusal. The default one is there from the first look on.
    pub(crate) async fn group(&self, partition: &str, name: &str) -> Result<GroupRecord, Error> {
        if let Some(found) = self.shared.read(group_key(partition, name)).await.map_err(unstored)? {
            return Ok(found);
        }
        if name == DEFAULT {
            return self.default_group(partition).await;
        }
        Err(not_found(format!("Schedule group {name} does not exist.")))
    }

    /// A group that schedules can be made in.
    pub(crate) async fn group_to_use(&self, partition: &str, name: &str) -> Result<(), Error> {
        match self.group(partition, name).await? {
            GroupRecord { going: true, .. } => Err(conflict(format!("Schedule group {name} is being deleted."))),
            _ => Ok(()),
        }
    }

    async fn default_group(&self, partition: &str) -> Result<GroupRecord, Error> {
        let key = group_key(partition, DEFAULT);
        let now = self.shared.now();
        let record = GroupRecord { created: now, modified: now, going: false, tags: Default::default(), made_by: None };
        let value = serde_json::to_vec(&record).unwrap_or_default().into();
        let write = Write::Put { key: key.clone(), expect: hearth_store::Expect::Absent, value };
        match self.shared.write(vec![write]).await {
            Ok(()) => Ok(record),
            Err(RecordsError::Conflict(_)) => Ok(self.shared.read(key).await.map_err(unstored)?.unwrap_or(record)),
            Err(error) => Err(unstored(error)),
        }
    }
}

impl Shared {
    /// Removes the schedules of a group that is going, and then the group. Others fire between its steps, however many
    /// there are.
    pub async fn clear_group(&self, partition: &str, name: &str) -> Result<(), RecordsError> {
        let prefix = format!("{name}/");
        loop {
            let _turn = self.all.write().await;
            // Who deleted it as well may have come first, and somebody may have made it anew since.
            let group = self.read::<GroupRecord>(group_key(partition, name)).await?;
            if !group.is_some_and(|group| group.going) {
                return Ok(());
            }
            let records = &self.ports.records;
            let mut page = records.list(partition.to_owned(), SCHEDULE, Some(prefix.clone()), STEP).await?;
            page.retain(|record| record.id.starts_with(&prefix));
            let places: Vec<Place> = page.iter().filter_map(|record| Place::of(partition, &record.id)).collect();
            if places.is_empty() {
                return self.write(vec![delete(group_key(partition, name))]).await;
            }
            self.write(places.iter().map(|place| delete(place.key())).collect()).await?;
            places.iter().for_each(|place| self.forget(place));
        }
    }
}
