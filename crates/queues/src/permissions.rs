//! Statements of a queue's policy, by their label.

use async_trait::async_trait;
use hearth_policy::statements;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_sqs::PermissionsApi;
use hearth_wire_sqs::errors::over_limit;
use hearth_wire_sqs::types::{AddPermissionRequest, RemovePermissionRequest};
use serde_json::{Value, json};

use crate::live::Live;
use crate::names::is_account;
use crate::queues::Queues;
use crate::refusals::{given, invalid, invalid_value, missing};

const POLICY: &str = "Policy";
const ACTIONS_MAX: usize = 7;
/// What a permission can be for.
const ACTIONS: &[&str] = &[
    "*",
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "SendMessage",
];

#[async_trait]
impl PermissionsApi for Queues {
    fn coverage(&self) -> &'static [Coverage] {
        crate::COVERAGE
    }

    async fn add_permission(&self, cx: &Context, input: AddPermissionRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "AddPermission")?;
        let label = given(input.label, "Label")?;
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if label.len() > 80 || !label.chars().all(is_good) {
            let reason = "Labels have alphanumeric characters, hyphens and underscores, 80 at most.";
            return Err(invalid_value(label.chars().take(80).collect::<String>(), "Label", reason));
        }
        let accounts = input.aws_account_ids.filter(|all| !all.is_empty()).ok_or_else(|| missing("AWSAccountIds"))?;
        let actions = input.actions.filter(|all| !all.is_empty()).ok_or_else(|| missing("Actions"))?;
        if let Some(account) = accounts.iter().find(|account| !is_account(account)) {
            return Err(invalid_value(account, "PrincipalId", "Unable to verify."));
        }
        if let Some(action) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
            let reason = "Only the queue owner is allowed to invoke this action.";
            return Err(invalid_value(format!("SQS:{action}"), "ActionName", reason));
        }
        if actions.len() > ACTIONS_MAX {
            return Err(over_limit(format!("{} Actions were found, maximum allowed is {ACTIONS_MAX}.", actions.len())));
        }
        let principals: Vec<String> = accounts.iter().map(|account| format!("arn:aws:iam::{account}:root")).collect();
        let actions: Vec<String> = actions.iter().map(|action| format!("SQS:{action}")).collect();
        let statement = json!({
            "Sid": label, "Effect": "Allow", "Principal": {"AWS": one_or_all(principals)}, "Action": one_or_all(actions),
            "Resource": live.place.arn(),
        });
        let _turn = self.inner.turn.lock().await;
        let mut document = policy(&live).unwrap_or_else(|| {
            json!({"Version": "2012-10-17", "Id": format!("{}/SQSDefaultPolicy", live.place.arn()), "Statement": []})
        });
        let statements = statements(&mut document);
        if statements.iter().any(|statement| statement["Sid"] == *label) {
            return Err(invalid_value(&label, "Label", "Already exists."));
        }
        statements.push(statement);
        self.with_policy(&live, Some(&document)).await
    }

    async fn remove_permission(&self, cx: &Context, input: RemovePermissionRequest) -> Result<(), Error> {
        let live = self.asked(cx, input.queue_url, "RemovePermission")?;
        let label = given(input.label, "Label")?;
        let absent = || {
            invalid(format!(
                "Value {label} for parameter Label is invalid. Reason: can't find label on existing policy."
            ))
        };
        let _turn = self.inner.turn.lock().await;
        let mut document = policy(&live).ok_or_else(absent)?;
        let statements = statements(&mut document);
        let before = statements.len();
        statements.retain(|statement| statement["Sid"] != *label);
        let (after, is_empty) = (statements.len(), statements.is_empty());
        if before == after {
            return Err(absent());
        }
        self.with_policy(&live, (!is_empty).then_some(&document)).await
    }
}

impl Queues {
    async fn with_policy(&self, live: &Live, document: Option<&Value>) -> Result<(), Error> {
        let mut record = live.kept().record.clone();
        match document {
            Some(document) => record.attributes.insert(POLICY.to_owned(), document.to_string()),
            None => record.attributes.remove(POLICY),
        };
        record.modified = self.now() / 1000;
        self.keep(live, record).await
    }
}

fn policy(live: &Live) -> Option<Value> {
    serde_json::from_str(live.kept().record.attributes.get(POLICY)?).ok()
}

fn one_or_all(mut all: Vec<String>) -> Value {
    if all.len() == 1 { all.remove(0).into() } else { all.into() }
}
