//! The handlers of schedules.

use async_trait::async_trait;
use hearth_identity::RoleArn;
use hearth_policy::Facts;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_scheduler::SchedulesApi;
use hearth_wire_scheduler::errors::{
    conflict_exception as conflict, resource_not_found_exception as not_found,
    service_quota_exceeded_exception as over_quota, validation_exception as invalid,
};
use hearth_wire_scheduler::types::*;

use crate::page::List;
use crate::record::{DEFAULT, Definition, MadeBy, Place, SCHEDULE, ScheduleRecord, group_arn};
use crate::schedules::{Schedules, delete, put, unstored};
use crate::{check, ids, machine, present};

/// Who takes on the role of a target.
const SCHEDULER: &str = "scheduler.amazonaws.com";

pub(crate) fn partition(cx: &Context) -> String {
    format!("{}/{}", cx.account, cx.region)
}

fn place(cx: &Context, group: Option<String>, name: Option<String>) -> Place {
    let group = group.unwrap_or_else(|| DEFAULT.to_owned());
    Place { partition: partition(cx), group, name: name.unwrap_or_default() }
}

fn no_schedule(place: &Place) -> Error {
    not_found(format!("Schedule {} does not exist.", place.name))
}

/// What a request asked for, but for its token.
fn made_by(token: Option<&str>, definition: &Definition) -> Option<MadeBy> {
    // Texts and numbers: it cannot fail.
    let asked = serde_json::to_string(definition).unwrap_or_default();
    Some(MadeBy { token: token?.to_owned(), digest: ids::digest(&[&asked]) })
}

#[async_trait]
impl SchedulesApi for Schedules {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn create_schedule(&self, cx: &Context, input: CreateScheduleInput) -> Result<CreateScheduleOutput, Error> {
        let place = place(cx, input.group_name.clone(), input.name.clone());
        let token = input.client_token.clone();
        let now = self.shared.now();
        let definition = check::definition(cx, "CreateSchedule", input, now)?;
        self.passes_role(cx, &place, &definition.target.role).await?;
        let timetable = definition.timetable(now).ok_or_else(|| invalid("Invalid Schedule Expression."))?;
        let made_by = made_by(token.as_deref(), &definition);
        self.group_to_use(&place.partition, &place.group).await?;
        let _turn = self.shared.turn(&place).await;
        // It may be going since.
        self.group_to_use(&place.partition, &place.group).await?;
        let schedule_arn = Some(place.arn());
        if let Some(there) = self.shared.read::<ScheduleRecord>(place.key()).await.map_err(unstored)? {
            if made_by.is_some() && made_by == there.made_by {
                return Ok(CreateScheduleOutput { schedule_arn });
            }
            return Err(conflict(format!("Schedule {} already exists.", place.name)));
        }
        if let Some(made_by) = &made_by
            && self.shared.has_gone(&place, made_by, now).await.map_err(unstored)?
        {
            return Ok(CreateScheduleOutput { schedule_arn });
        }
        if !self.shared.is_room(&place.partition) {
            let most = self.shared.config.schedules_max;
            return Err(over_quota(format!("The number of schedules exceeds the quota of {most}.")));
        }
        let uuid = (self.shared.ports.uuids)().to_string();
        let (created, modified, anchor) = (now, now, now);
        let mut record =
            ScheduleRecord { uuid, definition, created, modified, anchor, turn: 0, next: None, fired: None, made_by };
        machine::tell(None, &mut record, &timetable, now);
        self.shared.write(vec![put(place.key(), &record)]).await.map_err(unstored)?;
        self.shared.add_total(&place.partition);
        self.shared.plan(&place, Some(&record));
        self.shared.changed.notify_one();
        Ok(CreateScheduleOutput { schedule_arn })
    }

    async fn update_schedule(&self, cx: &Context, input: UpdateScheduleInput) -> Result<UpdateScheduleOutput, Error> {
        let place = place(cx, input.group_name.clone(), input.name.clone());
        let now = self.shared.now();
        let definition = check::definition(cx, "UpdateSchedule", as_made(input), now)?;
        self.passes_role(cx, &place, &definition.target.role).await?;
        let _turn = self.shared.turn(&place).await;
        let before = self.schedule(&place).await?;
        let is_same = before.definition.expression == definition.expression;
        let anchor = if is_same { before.anchor } else { now };
        let timetable = definition.timetable(anchor).ok_or_else(|| invalid("Invalid Schedule Expression."))?;
        let mut record = ScheduleRecord { definition, modified: now, anchor, ..before.clone() };
        machine::tell(Some(&before), &mut record, &timetable, now);
        self.shared.write(vec![put(place.key(), &record)]).await.map_err(unstored)?;
        self.shared.plan(&place, Some(&record));
        self.shared.changed.notify_one();
        Ok(UpdateScheduleOutput { schedule_arn: Some(place.arn()) })
    }

    async fn get_schedule(&self, cx: &Context, input: GetScheduleInput) -> Result<GetScheduleOutput, Error> {
        let place = place(cx, input.group_name, input.name);
        Ok(present::schedule(&place, self.schedule(&place).await?))
    }

    async fn delete_schedule(&self, cx: &Context, input: DeleteScheduleInput) -> Result<DeleteScheduleOutput, Error> {
        let place = place(cx, input.group_name, input.name);
        let token = input.client_token.as_deref();
        let _turn = self.shared.turn(&place).await;
        // One whose record cannot be read can go as well.
        if self.shared.ports.records.get(place.key()).await.map_err(unstored)?.is_none() {
            let is_again = self.shared.was_deleted_by(token, &place.arn());
            return if is_again { Ok(DeleteScheduleOutput {}) } else { Err(no_schedule(&place)) };
        }
        self.shared.write(vec![delete(place.key())]).await.map_err(unstored)?;
        self.shared.forget(&place);
        self.shared.remember_deletion(token, place.arn());
        Ok(DeleteScheduleOutput {})
    }

    async fn list_schedules(&self, cx: &Context, input: ListSchedulesInput) -> Result<ListSchedulesOutput, Error> {
        let partition = partition(cx);
        if let Some(group) = &input.group_name {
            self.group(&partition, group).await?;
        }
        let list = List {
            partition: &partition,
            kind: SCHEDULE,
            prefix: input.group_name.map(|group| format!("{group}/")).unwrap_or_default(),
            token: input.next_token.as_deref(),
            max: input.max_results,
        };
        let prefix = input.name_prefix.unwrap_or_default();
        let wanted = |found: &hearth_store::Record| {
            let place = Place::of(&partition, &found.id).filter(|place| place.name.starts_with(&prefix))?;
            let record = serde_json::from_slice(&found.value).ok();
            let summary = record.map_or_else(|| present::unreadable(&place), |record| present::summary(&place, record));
            (input.state.is_none() || summary.state == input.state).then_some(summary)
        };
        let (schedules, next_token) = list.read(&*self.shared.ports.records, wanted).await?;
        Ok(ListSchedulesOutput { schedules: Some(schedules), next_token })
    }
}

impl Schedules {
    async fn schedule(&self, place: &Place) -> Result<ScheduleRecord, Error> {
        let found = self.shared.read(place.key()).await.map_err(unstored)?;
        found.ok_or_else(|| no_schedule(place))
    }

    /// Whether a schedule may have a role, where that is asked for: it must trust the service.
    async fn passes_role(&self, cx: &Context, place: &Place, role: &str) -> Result<(), Error> {
        let Some(identity) = &self.shared.ports.roles else { return Ok(()) };
        let refused =
            || invalid("The execution role you provide must allow AWS EventBridge Scheduler to assume the role.");
        let role = RoleArn::parse(role).ok_or_else(refused)?;
        // The group stands for its schedules (User Guide, "Confused deputy prevention").
        let source = group_arn(&place.partition, &place.group);
        let facts = Facts::default().with("aws:SourceAccount", cx.account.as_str()).with("aws:SourceArn", source);
        let asked = identity.lets_service_assume(&role, SCHEDULER, facts).await;
        let is_let = asked.map_err(|_| {
            hearth_wire_scheduler::errors::internal_server_exception(
                "The role could not be read; Hearth's log says more.",
            )
        })?;
        if is_let { Ok(()) } else { Err(refused()) }
    }
}

/// An update says all that a creation does.
fn as_made(input: UpdateScheduleInput) -> CreateScheduleInput {
    let UpdateScheduleInput {
        action_after_completion,
        client_token,
        description,
        end_date,
        flexible_time_window,
        group_name,
        kms_key_arn,
        name,
        schedule_expression,
        schedule_expression_timezone,
        start_date,
        state,
        target,
    } = input;
    CreateScheduleInput {
        action_after_completion,
        client_token,
        description,
        end_date,
        flexible_time_window,
        group_name,
        kms_key_arn,
        name,
        schedule_expression,
        schedule_expression_timezone,
        start_date,
        state,
        target,
    }
}
