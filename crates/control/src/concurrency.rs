//! Concurrency set aside for functions: the handlers of the group `reserved concurrency` (spec 8.3). What is written here
//! is intent; placement accounts.

use async_trait::async_trait;
use hearth_model::{FunctionArn, Qualifier};
use hearth_wire::rest_json::Nothing;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::ReservedConcurrencyApi;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types::{Concurrency, *};

use crate::access::no_function;
use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::names;
use crate::record::{FUNCTION, Owner};

/// What an account must keep for functions without a reservation.
pub(crate) const UNRESERVED_MIN: u32 = 100;

#[async_trait]
impl ReservedConcurrencyApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn put_function_concurrency(
        &self,
        cx: &Context,
        input: PutFunctionConcurrencyRequest,
    ) -> Result<Concurrency, Error> {
        let arn = self.existing(cx, input.function_name.as_deref(), "PutFunctionConcurrency")?;
        let wanted = u32::try_from(input.reserved_concurrent_executions.unwrap_or(0)).unwrap_or(u32::MAX);
        self.reserve(&arn, Some(wanted)).await?;
        Ok(Concurrency { reserved_concurrent_executions: Some(i64::from(wanted)) })
    }

    async fn get_function_concurrency(
        &self,
        cx: &Context,
        input: GetFunctionConcurrencyRequest,
    ) -> Result<GetFunctionConcurrencyResponse, Error> {
        let arn = self.existing(cx, input.function_name.as_deref(), "GetFunctionConcurrency")?;
        let reserved = self.function(&arn)?.record.reserved_concurrency;
        Ok(GetFunctionConcurrencyResponse { reserved_concurrent_executions: reserved.map(i64::from) })
    }

    async fn delete_function_concurrency(
        &self,
        cx: &Context,
        input: DeleteFunctionConcurrencyRequest,
    ) -> Result<Nothing, Error> {
        let arn = self.existing(cx, input.function_name.as_deref(), "DeleteFunctionConcurrency")?;
        self.reserve(&arn, None).await?;
        Ok(Nothing {})
    }
}

impl Control {
    /// The function, before any value is looked at (recorded); its text names `$LATEST`.
    fn existing(&self, cx: &Context, name: Option<&str>, operation: &str) -> Result<FunctionArn, Error> {
        let arn = names::of_function(self.asked(cx, name, None, operation)?)?;
        match self.inner.state.function(&Owner::of(&arn), &arn.name) {
            Some(_) => Ok(arn),
            None => Err(no_function(&arn.qualified(Qualifier::new(Qualifier::LATEST)))),
        }
    }

    async fn reserve(&self, arn: &FunctionArn, wanted: Option<u32>) -> Result<(), Error> {
        // The sum over the account is decided on: one after another.
        let _account = self.inner.state.turn(&Owner::of(arn), FUNCTION, "").await;
        let _turn = self.turn(arn).await;
        let function = self.function(arn)?;
        let provisioned = function.record.total_provisioned();
        let old = function.record.set_aside();
        let others = function.totals.reserved() - old;
        let new = wanted.unwrap_or(provisioned);
        let left = self.inner.config.quotas.concurrent_executions.saturating_sub(others.saturating_add(new));
        if new > old && left < UNRESERVED_MIN {
            return Err(invalid(format!(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
                 its minimum value of [{UNRESERVED_MIN}]."
            )));
        }
        if new < provisioned {
            // The spaces are AWS's (recorded).
            return Err(invalid(format!(
                " ReservedConcurrentExecutions  {new} should not be lower than function's total provisioned concurrency \
                 [{provisioned}]."
            )));
        }
        if function.record.reserved_concurrency != wanted {
            let mut changes = function.changes();
            if let Some(root) = &mut changes.root {
                root.reserved_concurrency = wanted;
            }
            self.commit(&function, changes).await?;
        }
        Ok(())
    }
}
