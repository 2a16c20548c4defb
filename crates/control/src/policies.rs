//! Who else may use a function: the handlers of the group `resource policies`, by statements and by whole policies
//! (spec 1.8). Each of function, version and alias has a policy of its own.

use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::{FunctionArn, Qualifier, ResourceArn};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::PoliciesApi;
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::types::*;

use crate::access::{no_function, same_revision};
use crate::aliases::no_alias;
use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::record::{Owner, PolicyRecord};
use crate::state::function::{Function, number};
use crate::urls::INVOKE_URL;
use crate::{names, statements};

#[async_trait]
impl PoliciesApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn add_permission(&self, cx: &Context, input: AddPermissionRequest) -> Result<AddPermissionResponse, Error> {
        let arn = names::function(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        refuse_latest(&arn)?;
        if input.function_url_auth_type.is_some() && input.action.as_deref() != Some(INVOKE_URL) {
            // Seen in the wild.
            return Err(invalid(format!("FunctionUrlAuthType is only supported for {INVOKE_URL} action")));
        }
        let principal = statements::principal(input.principal.as_deref().unwrap_or_default(), arn.region.partition())?;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn.unqualified())?;
        exists(&function, &arn)?;
        let policy = policy(&function, &arn);
        same_revision(input.revision_id.as_deref(), revision_of(policy), "GetPolicy")?;
        let given = [
            ("StringEquals", "AWS:SourceAccount", input.source_account),
            ("StringEquals", "lambda:EventSourceToken", input.event_source_token),
            ("StringEquals", "lambda:FunctionUrlAuthType", input.function_url_auth_type),
            ("StringEquals", "aws:PrincipalOrgID", input.principal_org_id),
            ("ArnLike", "AWS:SourceArn", input.source_arn),
            ("Bool", "lambda:InvokedViaFunctionUrl", input.invoked_via_function_url.map(|via| via.to_string())),
        ];
        let conditions: Vec<(&str, &str, String)> =
            given.into_iter().filter_map(|(operator, key, value)| Some((operator, key, value?))).collect();
        let sid = input.statement_id.unwrap_or_default();
        let action = input.action.unwrap_or_default();
        let statement = statements::allowing(&sid, principal, &action, &arn.to_string(), &conditions);
        let grown = statements::with(policy, &sid, &statement)?;
        self.set_policy(&function, &arn, Some(grown)).await?;
        Ok(AddPermissionResponse { statement: Some(statement.to_string()) })
    }

    async fn remove_permission(&self, cx: &Context, input: RemovePermissionRequest) -> Result<Nothing, Error> {
        let arn = names::function(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let _turn = self.turn(&arn).await;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name);
        let function = function.ok_or_else(|| not_found(format!("No policy found for: {arn}")))?;
        let policy = policy(&function, &arn);
        if policy.is_some() {
            same_revision(input.revision_id.as_deref(), revision_of(policy), "GetPolicy")?;
        }
        let left = statements::without(policy, input.statement_id.as_deref().unwrap_or_default())?;
        self.set_policy(&function, &arn, left).await?;
        Ok(Nothing {})
    }

    async fn get_policy(&self, cx: &Context, input: GetPolicyRequest) -> Result<GetPolicyResponse, Error> {
        let arn = self.asked(cx, input.function_name.as_deref(), input.qualifier.as_deref(), "GetPolicy")?;
        let policy = self.policy(&arn)?;
        Ok(GetPolicyResponse {
            policy: Some(policy.document.to_string()),
            revision_id: Some(policy.revision_id.clone()),
        })
    }

    async fn get_resource_policy(
        &self,
        cx: &Context,
        input: GetResourcePolicyRequest,
    ) -> Result<GetResourcePolicyResponse, Error> {
        let arn = resource(cx, input.resource_arn.as_deref().unwrap_or_default())?;
        let policy = self.policy(&arn)?;
        let (policy, revision_id) = (Some(policy.document.to_string()), Some(policy.revision_id.clone()));
        Ok(GetResourcePolicyResponse { policy, revision_id })
    }

    async fn put_resource_policy(
        &self,
        cx: &Context,
        input: PutResourcePolicyRequest,
    ) -> Result<PutResourcePolicyResponse, Error> {
        let arn = resource(cx, input.resource_arn.as_deref().unwrap_or_default())?;
        refuse_latest(&arn)?;
        let _turn = self.turn(&arn).await;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_resource)?;
        exists(&function, &arn).map_err(|_| no_resource())?;
        same_revision(input.revision_id.as_deref(), revision_of(policy(&function, &arn)), "GetResourcePolicy")?;
        let put = statements::whole(input.policy.as_deref().unwrap_or_default())?;
        let (policy, revision_id) = (Some(put.document.to_string()), Some(put.revision_id.clone()));
        self.set_policy(&function, &arn, Some(put)).await?;
        Ok(PutResourcePolicyResponse { policy, revision_id })
    }

    async fn delete_resource_policy(&self, cx: &Context, input: DeleteResourcePolicyRequest) -> Result<Nothing, Error> {
        let arn = resource(cx, input.resource_arn.as_deref().unwrap_or_default())?;
        let _turn = self.turn(&arn).await;
        let function = self.inner.state.function(&Owner::of(&arn), &arn.name).ok_or_else(no_resource)?;
        let policy = policy(&function, &arn).ok_or_else(no_resource)?;
        same_revision(input.revision_id.as_deref(), &policy.revision_id, "GetResourcePolicy")?;
        self.set_policy(&function, &arn, None).await?;
        Ok(Nothing {})
    }
}

impl Control {
    fn policy(&self, arn: &FunctionArn) -> Result<Arc<PolicyRecord>, Error> {
        let function = self.inner.state.function(&Owner::of(arn), &arn.name).ok_or_else(no_resource)?;
        function.policies.get(place(arn)).cloned().ok_or_else(no_resource)
    }

    /// The caller holds the turn.
    async fn set_policy(
        &self,
        function: &Arc<Function>,
        arn: &FunctionArn,
        policy: Option<PolicyRecord>,
    ) -> Result<(), Error> {
        let mut changes = function.changes();
        changes.policies.insert(place(arn).to_owned(), policy);
        self.commit(function, changes).await.map(drop)
    }
}

fn no_resource() -> Error {
    not_found("The resource you requested does not exist.")
}

/// Where a policy is kept: by its qualifier.
fn place(arn: &FunctionArn) -> &str {
    arn.qualifier.as_ref().map_or("", Qualifier::as_str)
}

fn policy<'a>(function: &'a Function, arn: &FunctionArn) -> Option<&'a PolicyRecord> {
    function.policies.get(place(arn)).map(|policy| &**policy)
}

/// A policy that is not there has a revision that nobody can name.
fn revision_of(policy: Option<&PolicyRecord>) -> &str {
    policy.map_or("", |policy| &policy.revision_id)
}

fn refuse_latest(arn: &FunctionArn) -> Result<(), Error> {
    match &arn.qualifier {
        Some(qualifier) if qualifier.is_latest() => {
            Err(invalid("We currently do not support adding policies for $LATEST."))
        }
        _ => Ok(()),
    }
}

/// Only what is there can have a policy.
fn exists(function: &Function, arn: &FunctionArn) -> Result<(), Error> {
    let Some(qualifier) = &arn.qualifier else { return Ok(()) };
    match number(qualifier.as_str()) {
        Some(number) if function.versions.contains_key(&number) => Ok(()),
        Some(_) => Err(no_function(arn)),
        None if function.aliases.contains_key(qualifier.as_str()) => Ok(()),
        None => Err(no_alias(arn)),
    }
}

/// A function, version or alias by its full ARN.
fn resource(cx: &Context, text: &str) -> Result<FunctionArn, Error> {
    match ResourceArn::parse(text) {
        Some(arn) if arn.kind == "function" => names::function(cx, Some(text), None),
        _ => Err(invalid(format!("The resource ARN {text} is not the ARN of a function, a version or an alias."))),
    }
}
