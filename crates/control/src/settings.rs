//! Small settings of a function: the handlers of the groups `recursion` and `runtime management` (spec 1.11).

use std::sync::Arc;

use async_trait::async_trait;
use hearth_model::Qualifier;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{RecursionApi, RuntimeManagementApi};

use crate::access::{Found, no_function, settled};
use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::names;
use crate::record::{Readiness, RuntimeManagement, VersionRecord};

#[async_trait]
impl RecursionApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn get_function_recursion_config(
        &self,
        cx: &Context,
        input: GetFunctionRecursionConfigRequest,
    ) -> Result<GetFunctionRecursionConfigResponse, Error> {
        let function = self.function(&names::bare(cx, input.function_name.as_deref())?)?;
        let recursive_loop = if function.record.recursion_allowed { "Allow" } else { "Terminate" };
        Ok(GetFunctionRecursionConfigResponse { recursive_loop: Some(recursive_loop.to_owned()) })
    }

    async fn put_function_recursion_config(
        &self,
        cx: &Context,
        input: PutFunctionRecursionConfigRequest,
    ) -> Result<PutFunctionRecursionConfigResponse, Error> {
        let arn = names::bare(cx, input.function_name.as_deref())?;
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        let mut changes = function.changes();
        if let Some(root) = &mut changes.root {
            root.recursion_allowed = input.recursive_loop.as_deref() == Some("Allow");
        }
        self.commit(&function, changes).await?;
        Ok(PutFunctionRecursionConfigResponse { recursive_loop: input.recursive_loop })
    }
}

#[async_trait]
impl RuntimeManagementApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn get_runtime_management_config(
        &self,
        cx: &Context,
        input: GetRuntimeManagementConfigRequest,
    ) -> Result<GetRuntimeManagementConfigResponse, Error> {
        let arn = names::function(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let function = self.function(&arn)?;
        let qualifier = arn.qualifier.as_ref().map(Qualifier::as_str);
        let (number, management) = match function.found(qualifier).ok_or_else(|| no_function(&arn))? {
            Found::Latest => (None, &function.record.runtime_management),
            Found::Published(number, version) => (Some(number), &version.record.runtime_management),
        };
        let arn = number.map_or_else(|| function.arn(), |number| function.qualified(&number.to_string()));
        let (update_runtime_on, runtime_version_arn) = presented(management);
        let function_arn = Some(arn.to_string());
        Ok(GetRuntimeManagementConfigResponse { update_runtime_on, function_arn, runtime_version_arn })
    }

    async fn put_runtime_management_config(
        &self,
        cx: &Context,
        input: PutRuntimeManagementConfigRequest,
    ) -> Result<PutRuntimeManagementConfigResponse, Error> {
        let arn = names::function(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let management = match (input.update_runtime_on.as_deref(), input.runtime_version_arn) {
            (Some("Manual"), Some(runtime_version_arn)) => RuntimeManagement::Manual { runtime_version_arn },
            (Some("Manual"), None) => {
                return Err(invalid("RuntimeVersionArn must be specified when UpdateRuntimeOn is Manual."));
            }
            (_, Some(_)) => {
                return Err(invalid("RuntimeVersionArn must not be specified when UpdateRuntimeOn is not Manual."));
            }
            (Some("FunctionUpdate"), None) => RuntimeManagement::FunctionUpdate,
            _ => RuntimeManagement::Auto,
        };
        let _turn = self.turn(&arn).await;
        let function = self.function(&arn)?;
        let mut changes = function.changes();
        let region = &function.owner.region;
        let qualifier = arn.qualifier.as_ref().map(Qualifier::as_str);
        let number = match function.found(qualifier).ok_or_else(|| no_function(&arn))? {
            Found::Latest => {
                settled(&function)?;
                if let Some(root) = &mut changes.root {
                    root.intent = Arc::new(self.managed(region, &root.intent, &management)?);
                    root.runtime_management = management.clone();
                }
                None
            }
            Found::Published(number, version) => {
                if version.record.readiness == Readiness::Pending {
                    settled(&function)?;
                }
                let definition = Arc::new(self.managed(region, &version.record.definition, &management)?);
                let runtime_management = management.clone();
                let record = VersionRecord { definition, runtime_management, ..version.record.clone() };
                changes.versions.insert(number, Some(record));
                Some(number)
            }
        };
        self.commit(&function, changes).await?;
        let arn = number.map_or_else(|| function.arn(), |number| function.qualified(&number.to_string()));
        let (update_runtime_on, runtime_version_arn) = presented(&management);
        let function_arn = Some(arn.to_string());
        Ok(PutRuntimeManagementConfigResponse { update_runtime_on, function_arn, runtime_version_arn })
    }
}

fn presented(management: &RuntimeManagement) -> (Option<String>, Option<String>) {
    let (name, arn) = match management {
        RuntimeManagement::Auto => ("Auto", None),
        RuntimeManagement::FunctionUpdate => ("FunctionUpdate", None),
        RuntimeManagement::Manual { runtime_version_arn } => ("Manual", Some(runtime_version_arn.clone())),
    };
    (Some(name.to_owned()), arn)
}
