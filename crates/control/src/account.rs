//! The handler of the group `account`.

use async_trait::async_trait;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::AccountApi;
use hearth_wire_lambda::types::*;

use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::names;

#[async_trait]
impl AccountApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn get_account_settings(
        &self,
        cx: &Context,
        _: GetAccountSettingsRequest,
    ) -> Result<GetAccountSettingsResponse, Error> {
        let quotas = &self.inner.config.quotas;
        let read = |account: &crate::state::account::Account| {
            (account.functions.len() as u64, account.totals.code_size(), account.totals.reserved())
        };
        let (functions, code_size, reserved) = self.inner.state.account(&names::owner(cx), read);
        let whole = |number: u64| i64::try_from(number).ok();
        Ok(GetAccountSettingsResponse {
            account_limit: Some(AccountLimit {
                total_code_size: whole(quotas.code_storage),
                code_size_unzipped: whole(quotas.code_size_unzipped),
                code_size_zipped: whole(quotas.code_size_zipped),
                concurrent_executions: Some(i64::from(quotas.concurrent_executions)),
                unreserved_concurrent_executions: Some(i64::from(
                    quotas.concurrent_executions.saturating_sub(reserved),
                )),
            }),
            account_usage: Some(AccountUsage { total_code_size: whole(code_size), function_count: whole(functions) }),
        })
    }
}
