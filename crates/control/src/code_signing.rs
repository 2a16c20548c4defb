//! Code signing configurations and who has them: the handlers of the group `code signing` (spec 1.11).
//!
//! Packages cannot be found to be signed: the format of AWS's signatures is not documented. So every package is unsigned,
//! which `Warn` lets pass and `Enforce` refuses.

use std::ops::Bound;

use async_trait::async_trait;
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::CodeSigningApi;
use hearth_wire_lambda::errors::{
    code_signing_config_not_found_exception, code_verification_failed_exception,
    resource_conflict_exception as conflict, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::page::{MANY, Page};
use hearth_wire_lambda::types::*;

use crate::access::stored_resource;
use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::record::{CODE_SIGNING, CodeSigningRecord, Owner};
use crate::{check, names};

#[async_trait]
impl CodeSigningApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn create_code_signing_config(
        &self,
        cx: &Context,
        input: CreateCodeSigningConfigRequest,
    ) -> Result<CreateCodeSigningConfigResponse, Error> {
        let owner = names::owner(cx);
        let tags = input.tags.unwrap_or_default();
        check::tags(&tags)?;
        let mut record = CodeSigningRecord {
            description: input.description.unwrap_or_default(),
            allowed_publishers: Vec::new(),
            enforce: false,
            last_modified: self.now(),
            tags,
        };
        set(&mut record, input.allowed_publishers, input.code_signing_policies);
        let id = format!("csc-{}", &uuid::Uuid::new_v4().simple().to_string()[..17]);
        let answer = presented(&owner, &id, &record);
        let _turn = self.inner.state.turn(&owner, CODE_SIGNING, &id).await;
        self.inner.state.commit_code_signing(&owner, &id, Some(record)).await.map_err(stored_resource)?;
        Ok(CreateCodeSigningConfigResponse { code_signing_config: Some(answer) })
    }

    async fn get_code_signing_config(
        &self,
        cx: &Context,
        input: GetCodeSigningConfigRequest,
    ) -> Result<GetCodeSigningConfigResponse, Error> {
        let (owner, id) = self.configuration(cx, input.code_signing_config_arn.as_deref())?;
        let found = self.inner.state.code_signing(&owner, &id);
        let code_signing_config = found.map(|found| presented(&owner, &id, &found.record));
        Ok(GetCodeSigningConfigResponse { code_signing_config })
    }

    async fn update_code_signing_config(
        &self,
        cx: &Context,
        input: UpdateCodeSigningConfigRequest,
    ) -> Result<UpdateCodeSigningConfigResponse, Error> {
        let arn = input.code_signing_config_arn.unwrap_or_default();
        let (owner, id) = self.configuration(cx, Some(&arn))?;
        let _turn = self.inner.state.turn(&owner, CODE_SIGNING, &id).await;
        let found = self.inner.state.code_signing(&owner, &id).ok_or_else(|| missing(&arn))?;
        let mut record = found.record.clone();
        record.description = input.description.unwrap_or(record.description);
        set(&mut record, input.allowed_publishers, input.code_signing_policies);
        record.last_modified = self.now();
        let answer = presented(&owner, &id, &record);
        self.inner.state.commit_code_signing(&owner, &id, Some(record)).await.map_err(stored_resource)?;
        Ok(UpdateCodeSigningConfigResponse { code_signing_config: Some(answer) })
    }

    async fn delete_code_signing_config(
        &self,
        cx: &Context,
        input: DeleteCodeSigningConfigRequest,
    ) -> Result<DeleteCodeSigningConfigResponse, Error> {
        let arn = input.code_signing_config_arn.unwrap_or_default();
        let (owner, id) = self.configuration(cx, Some(&arn))?;
        // Nobody attaches it meanwhile.
        let _account = self.inner.state.turn(&owner, CODE_SIGNING, "").await;
        let _turn = self.inner.state.turn(&owner, CODE_SIGNING, &id).await;
        self.inner.state.code_signing(&owner, &id).ok_or_else(|| missing(&arn))?;
        let in_use =
            |account: &crate::state::account::Account| account.signed.get(&id).is_some_and(|set| !set.is_empty());
        if self.inner.state.account(&owner, in_use) {
            return Err(conflict(format!("The code signing configuration {arn} is in use by one or more functions.")));
        }
        self.inner.state.commit_code_signing(&owner, &id, None).await.map_err(stored_resource)?;
        Ok(DeleteCodeSigningConfigResponse::default())
    }

    async fn list_code_signing_configs(
        &self,
        cx: &Context,
        input: ListCodeSigningConfigsRequest,
    ) -> Result<ListCodeSigningConfigsResponse, Error> {
        let owner = names::owner(cx);
        let page = Page::of(input.marker.as_deref(), input.max_items, MANY)?;
        let from = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let (configs, next_marker) = self.inner.state.account(&owner, |account| {
            let (found, next) =
                page.take(account.code_signing.range((from, Bound::Unbounded)), |(id, _)| (*id).clone());
            (found.into_iter().map(|(id, found)| presented(&owner, id, &found.record)).collect(), next)
        });
        Ok(ListCodeSigningConfigsResponse { next_marker, code_signing_configs: Some(configs) })
    }

    async fn list_functions_by_code_signing_config(
        &self,
        cx: &Context,
        input: ListFunctionsByCodeSigningConfigRequest,
    ) -> Result<ListFunctionsByCodeSigningConfigResponse, Error> {
        let (owner, id) = self.configuration(cx, input.code_signing_config_arn.as_deref())?;
        let page = Page::of(input.marker.as_deref(), input.max_items, MANY)?;
        let after = page.after.as_deref();
        let (functions, next_marker) = self.inner.state.account(&owner, |account| {
            let names = account.signed.get(&id).into_iter().flatten();
            let names = names.skip_while(|name| after.is_some_and(|after| name.as_str() <= after));
            page.take(names.cloned(), |name| name.to_string())
        });
        let function_arns = functions.iter().map(|name| owner.function(name).to_string()).collect();
        Ok(ListFunctionsByCodeSigningConfigResponse { next_marker, function_arns: Some(function_arns) })
    }

    async fn put_function_code_signing_config(
        &self,
        cx: &Context,
        input: PutFunctionCodeSigningConfigRequest,
    ) -> Result<PutFunctionCodeSigningConfigResponse, Error> {
        let arn = names::unqualified(cx, input.function_name.as_deref())?;
        let config = input.code_signing_config_arn.unwrap_or_default();
        self.function(&arn)?;
        // It is not deleted meanwhile.
        let _account = self.inner.state.turn(&Owner::of(&arn), CODE_SIGNING, "").await;
        let id = self.attachable(cx, &config)?;
        self.attach(&arn, Some(id)).await?;
        Ok(PutFunctionCodeSigningConfigResponse {
            code_signing_config_arn: Some(config),
            function_name: Some(arn.name.to_string()),
        })
    }

    async fn get_function_code_signing_config(
        &self,
        cx: &Context,
        input: GetFunctionCodeSigningConfigRequest,
    ) -> Result<GetFunctionCodeSigningConfigResponse, Error> {
        let function = self.function(&names::unqualified(cx, input.function_name.as_deref())?)?;
        // Without one the answer is empty (recorded).
        let Some(id) = &function.record.code_signing else {
            return Ok(GetFunctionCodeSigningConfigResponse::default());
        };
        Ok(GetFunctionCodeSigningConfigResponse {
            code_signing_config_arn: Some(names::code_signing_arn(&function.owner, id)),
            function_name: Some(function.name.to_string()),
        })
    }

    async fn delete_function_code_signing_config(
        &self,
        cx: &Context,
        input: DeleteFunctionCodeSigningConfigRequest,
    ) -> Result<Nothing, Error> {
        let arn = names::unqualified(cx, input.function_name.as_deref())?;
        self.attach(&arn, None).await?;
        Ok(Nothing {})
    }
}

impl Control {
    /// The configuration that an ARN names: whose, and its id.
    fn configuration(&self, cx: &Context, arn: Option<&str>) -> Result<(Owner, String), Error> {
        let (owner, arn) = (names::owner(cx), arn.unwrap_or_default());
        let id = names::code_signing(cx, arn)?.filter(|id| self.inner.state.code_signing(&owner, id).is_some());
        Ok((owner, id.ok_or_else(|| missing(arn))?.to_owned()))
    }

    /// The id of a configuration that a function is to have.
    pub(crate) fn attachable(&self, cx: &Context, arn: &str) -> Result<String, Error> {
        let owner = names::owner(cx);
        let id = names::code_signing(cx, arn)?.filter(|id| self.inner.state.code_signing(&owner, id).is_some());
        id.map(str::to_owned).ok_or_else(|| {
            code_signing_config_not_found_exception(format!(
                "The code signing configuration cannot be found. Check that the provided configuration is not deleted: \
                 {arn}."
            ))
        })
    }

    async fn attach(&self, arn: &hearth_model::FunctionArn, id: Option<String>) -> Result<(), Error> {
        let _turn = self.turn(arn).await;
        let function = self.function(arn)?;
        if function.record.code_signing != id {
            let mut changes = function.changes();
            if let Some(root) = &mut changes.root {
                root.code_signing = id;
            }
            self.commit(&function, changes).await?;
        }
        Ok(())
    }

    /// Whether a package may be deployed, as far as its signature goes.
    pub(crate) fn verify_signature(&self, owner: &Owner, config: Option<&str>) -> Result<(), Error> {
        let config = config.and_then(|id| self.inner.state.code_signing(owner, id));
        if config.is_some_and(|config| config.record.enforce) {
            return Err(code_verification_failed_exception(
                "The code signature failed one or more of the validation checks for signature mismatch or expiry, and the \
                 code signing policy is set to ENFORCE. Lambda blocks the deployment.",
            ));
        }
        Ok(())
    }
}

pub fn missing(arn: &str) -> Error {
    not_found(format!("The Lambda code signing configuration {arn} can not be found."))
}

fn set(record: &mut CodeSigningRecord, publishers: Option<AllowedPublishers>, policies: Option<CodeSigningPolicies>) {
    if let Some(arns) = publishers.and_then(|publishers| publishers.signing_profile_version_arns) {
        record.allowed_publishers = arns;
    }
    if let Some(policy) = policies.and_then(|policies| policies.untrusted_artifact_on_deployment) {
        record.enforce = policy == "Enforce";
    }
}

fn presented(owner: &Owner, id: &str, record: &CodeSigningRecord) -> CodeSigningConfig {
    CodeSigningConfig {
        code_signing_config_id: Some(id.to_owned()),
        code_signing_config_arn: Some(names::code_signing_arn(owner, id)),
        description: Some(record.description.clone()),
        allowed_publishers: Some(AllowedPublishers {
            signing_profile_version_arns: Some(record.allowed_publishers.clone()),
        }),
        code_signing_policies: Some(CodeSigningPolicies {
            untrusted_artifact_on_deployment: Some(if record.enforce { "Enforce" } else { "Warn" }.to_owned()),
        }),
        last_modified: Some(record.last_modified.clone()),
    }
}
