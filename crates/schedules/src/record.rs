//! What is stored: a JSON document for each schedule and group, keyed by account and region, and `GROUP/NAME` or `GROUP`;
//! and what a queue of the store holds of each occurrence that is on its way to its target.

use std::collections::BTreeMap;

use hearth_store::Key;
use hearth_store::queue::Ms;
use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::ids;
use crate::timetable::{Timetable, zone};

pub const SCHEDULE: &str = "schedule";
/// By which request a schedule was made that is completed and gone.
pub const GONE: &str = "schedule-gone";
pub const GROUP: &str = "schedule-group";
/// The group that is there from the start, and always.
pub const DEFAULT: &str = "default";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// No other schedule has it, nor one that is made later by the same name.
    pub uuid: String,
    pub definition: Definition,
    /// Milliseconds since 1970, as all moments here.
    pub created: Ms,
    pub modified: Ms,
    /// Since when its expression holds: where a rate without a start is counted from.
    pub anchor: Ms,
    /// How often what is next was decided anew: an occurrence that fired before may fire again then.
    #[serde(default)]
    pub turn: u32,
    /// The occurrence that is next; none when it is disabled, or completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Ms>,
    /// The last occurrence that fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Ms>,
    /// By which request it was made: its token, and a digest of what it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
}

/// A schedule that is completed and gone: its creation, asked for once more, does not make it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneRecord {
    pub made_by: MadeBy,
    /// It is remembered so long.
    pub until: Ms,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    pub token: String,
    pub digest: String,
}

/// What a schedule was told to do. Checked: its expression and zone are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub expression: String,
    pub zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Ms>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Ms>,
    /// Of a flexible window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_minutes: Option<u32>,
    pub enabled: bool,
    /// Deleted when it is completed.
    pub goes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    pub target: Target,
}

impl Definition {
    /// `None` of a record that another version has written.
    pub fn timetable(&self, anchor: Ms) -> Option<Timetable> {
        let (expression, zone) = (Expression::parse(&self.expression)?, zone(&self.zone)?);
        Some(Timetable { expression, zone, start: self.start, end: self.end, anchor })
    }

    /// Whether another definition occurs at the same moments.
    pub fn has_times_of(&self, other: &Definition) -> bool {
        (&self.expression, &self.zone, self.start, self.end) == (&other.expression, &other.zone, other.start, other.end)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub arn: String,
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    pub age_max_s: u32,
    pub retries: u32,
    /// For queues that are FIFO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_group: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    pub created: Ms,
    pub modified: Ms,
    /// It is going, and its schedules with it.
    #[serde(default)]
    pub going: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
}

/// Where a schedule is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// `ACCOUNT/REGION`.
    pub partition: String,
    pub group: String,
    pub name: String,
}

impl Place {
    pub fn key(&self) -> Key {
        Key { partition: self.partition.clone(), kind: SCHEDULE, id: format!("{}/{}", self.group, self.name) }
    }

    /// Of what is remembered of a schedule that a request of that token has made.
    pub fn gone_key(&self, token: &str) -> Key {
        let id = format!("{}/{}/{}", self.group, self.name, ids::digest(&[token]));
        Key { partition: self.partition.clone(), kind: GONE, id }
    }

    pub fn of(partition: &str, id: &str) -> Option<Self> {
        let (group, name) = id.split_once('/')?;
        Some(Place { partition: partition.to_owned(), group: group.to_owned(), name: name.to_owned() })
    }

    pub fn arn(&self) -> String {
        let (account, region) = split(&self.partition);
        format!("{}:schedule/{}/{}", arn_head(account, region), self.group, self.name)
    }
}

pub fn group_key(partition: &str, group: &str) -> Key {
    Key { partition: partition.to_owned(), kind: GROUP, id: group.to_owned() }
}

pub fn group_arn(partition: &str, group: &str) -> String {
    let (account, region) = split(partition);
    format!("{}:schedule-group/{group}", arn_head(account, region))
}

/// Account and region.
pub fn split(partition: &str) -> (&str, &str) {
    partition.split_once('/').unwrap_or((partition, ""))
}

fn arn_head(account: &str, region: &str) -> String {
    let partition = hearth_model::Region::parse(region).map_or("aws", |region| region.partition());
    format!("arn:{partition}:scheduler:{region}:{account}")
}

/// An occurrence on its way: the body of its message. It holds what its schedule was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// `ACCOUNT/REGION`, group and name of the schedule.
    pub partition: String,
    pub group: String,
    pub name: String,
    pub target: Target,
    /// The occurrence, without its place in a flexible window.
    pub scheduled: Ms,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

impl Firing {
    pub fn place(&self) -> Place {
        Place { partition: self.partition.clone(), group: self.group.clone(), name: self.name.clone() }
    }
}

/// An occurrence that was missed when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    pub by: Ms,
    /// Occurrences after it that were over as well, and do not fire.
    pub skipped: u64,
    /// Whether the server was down when it was due; else it was held up.
    pub was_down: bool,
}

/// What is kept beside a message: what was tried so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub failures: u32,
}
