//! The operations Invoke and InvokeWithResponseStream (spec 2.1, 2.3).

use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_model::{
    AccountId, FunctionArn, FunctionRef, FunctionVersion, Idle, Invocation, Invoke, InvokeError, LookupError,
    Qualifier, RESPONSE_PAYLOAD_MAX, RefError, Region, RequestId, Response, ResponseMode, TenancyError, TenantId,
    Trace, Way, draw,
};
use hearth_wire::coverage::{Coverage, beyond, works};
use hearth_wire::{Context, Error, EventStream};
use hearth_wire_lambda::types::{
    InvocationRequest, InvocationResponse, InvokeAsyncRequest, InvokeAsyncResponse, InvokeWithResponseStreamRequest,
    InvokeWithResponseStreamResponse,
};
use hearth_wire_lambda::{InvokeApi, errors};

use crate::streaming::Events;
use crate::{Placement, input};

/// The operations of this crate.
pub const COVERAGE: &[Coverage] = &[
    Coverage { operation: "Invoke", parameters: &[beyond("DurableExecutionName", "durable functions")] },
    works("InvokeAsync"),
    works("InvokeWithResponseStream"),
];

#[async_trait]
impl InvokeApi for Placement {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn invoke(&self, cx: &Context, input: InvocationRequest) -> Result<InvocationResponse, Error> {
        refuse_unsupported(&input)?;
        if input.invocation_type.as_deref() == Some("Event") {
            return self.accept(cx, input).await;
        }
        let call = Call {
            function_name: input.function_name.as_deref(),
            qualifier: input.qualifier.as_deref(),
            invocation_type: input.invocation_type.as_deref(),
            log_type: input.log_type.as_deref(),
            client_context: input.client_context.as_deref(),
            tenant: input.tenant_id.as_deref(),
            payload: input.payload,
            mode: ResponseMode::Buffered,
        };
        let wants_log_tail = call.wants_log_tail();
        let Some(response) = self.call(cx, call).await? else {
            return Ok(InvocationResponse { status_code: Some(204), ..InvocationResponse::default() });
        };
        let collected = response.collect(RESPONSE_PAYLOAD_MAX).await;
        let (head, body, outcome) = collected.map_err(|e| errors::service_exception(e.to_string()))?;
        let log_result = if wants_log_tail { outcome.await.log_tail.map(|tail| STANDARD.encode(tail)) } else { None };
        cx.answer_header("content-type", head.content_type);
        cx.answer_header("x-amzn-remapped-content-length", "0".to_owned());
        Ok(InvocationResponse {
            status_code: Some(200),
            function_error: head.function_error.map(|error| error.as_str().to_owned()),
            log_result,
            payload: body,
            executed_version: Some(head.executed_version.to_string()),
            durable_execution_arn: None,
        })
    }

    async fn invoke_async(&self, cx: &Context, input: InvokeAsyncRequest) -> Result<InvokeAsyncResponse, Error> {
        self.accept_legacy(cx, input).await
    }

    async fn invoke_with_response_stream(
        &self,
        cx: &Context,
        input: InvokeWithResponseStreamRequest,
    ) -> Result<InvokeWithResponseStreamResponse, Error> {
        let call = Call {
            function_name: input.function_name.as_deref(),
            qualifier: input.qualifier.as_deref(),
            invocation_type: input.invocation_type.as_deref(),
            log_type: input.log_type.as_deref(),
            client_context: input.client_context.as_deref(),
            tenant: input.tenant_id.as_deref(),
            payload: input.payload,
            mode: ResponseMode::Streamed,
        };
        let wants_log_tail = call.wants_log_tail();
        let Some(response) = self.call(cx, call).await? else {
            let status_code = Some(204);
            return Ok(InvokeWithResponseStreamResponse { status_code, ..InvokeWithResponseStreamResponse::default() });
        };
        Ok(InvokeWithResponseStreamResponse {
            status_code: Some(200),
            executed_version: Some(response.head.executed_version.to_string()),
            // The header that would tell it says that the answer is an event stream.
            response_stream_content_type: None,
            event_stream: EventStream::new(Events::new(response, wants_log_tail)),
        })
    }
}

/// What a caller asks for, by either operation.
struct Call<'a> {
    function_name: Option<&'a str>,
    qualifier: Option<&'a str>,
    invocation_type: Option<&'a str>,
    log_type: Option<&'a str>,
    client_context: Option<&'a str>,
    tenant: Option<&'a str>,
    payload: Bytes,
    mode: ResponseMode,
}

impl Call<'_> {
    fn wants_log_tail(&self) -> bool {
        self.log_type == Some("Tail")
    }
}

impl Placement {
    /// Runs the function that is meant. Nothing is run, and nothing answered, when the caller only wants to know whether
    /// it could be.
    async fn call(&self, cx: &Context, call: Call<'_>) -> Result<Option<Response>, Error> {
        let arn = self.arn(cx, call.function_name, call.qualifier)?;
        let found = self.inner.functions.find(&arn);
        let found = found.and_then(|target| target.choose(draw(uuid::Uuid::new_v4().as_u128())));
        let function = found.map_err(|error| {
            if call.invocation_type != Some("DryRun") {
                self.inner.functions.wake(&arn);
            }
            lookup_error(error)
        })?;
        let tenant = admitted(&function, call.tenant)?;
        if call.invocation_type == Some("DryRun") {
            return Ok(None);
        }
        let mut trace = self.trace(cx);
        let allowed = || self.inner.functions.allows_loops(&function.key);
        self.inner.guard.enter(&mut trace, &arn, Way::Called, allowed).map_err(|cut| {
            tracing::warn!(function = %arn, runs = cut.runs, trace = %trace.for_caller, "a recursive loop was cut: a call");
            errors::recursive_invocation_exception(format!("Hearth stopped a recursive loop: {cut}."))
        })?;
        let invocation = Invocation {
            request_id: RequestId::new(cx.request_id.as_str()),
            invoked_arn: arn.to_string(),
            function: function.clone(),
            client_context: input::client_context(call.client_context)?,
            tenant,
            wants_log_tail: call.wants_log_tail(),
            payload: input::payload(call.payload)?,
            content_type: cx.content_type.clone(),
            trace: Some(trace.for_runtime),
            mode: call.mode,
        };
        let response = Invoke::invoke(self, invocation).await.map_err(|error| invoke_error(error, &function))?;
        cx.answer_header("x-amzn-trace-id", trace.for_caller);
        Ok(Some(response))
    }

    /// The function that is meant, also another account's when its policy lets the caller invoke it.
    pub(crate) fn arn(&self, cx: &Context, name: Option<&str>, qualifier: Option<&str>) -> Result<FunctionArn, Error> {
        let caller = AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account);
        let region = Region::parse(&cx.region).unwrap_or_else(Region::default_region);
        let reference = FunctionRef::parse(name.unwrap_or_default());
        let resolved = reference.and_then(|reference| {
            let account = reference.account.as_deref().and_then(AccountId::parse).unwrap_or_else(|| caller.clone());
            reference.resolve(&account, &region, qualifier)
        });
        let arn = resolved.map_err(|error| match error {
            RefError::NameTooLong { arn } => not_found(&arn),
            RefError::OtherRegion { .. } => errors::resource_not_found_exception(error.to_string()),
            RefError::OtherAccount | RefError::QualifierMismatch | RefError::Malformed => {
                errors::invalid_parameter_value_exception(error.to_string())
            }
        })?;
        if arn.account == caller || self.inner.functions.lets_invoke(&arn, &caller) {
            return Ok(arn);
        }
        let message = format!(
            "User: arn:{}:iam::{caller}:root is not authorized to perform: lambda:InvokeFunction on resource: {arn} because \
             no resource-based policy allows the lambda:InvokeFunction action",
            region.partition()
        );
        Err(Error::new(403, "AccessDeniedException", message))
    }

    pub(crate) fn trace(&self, cx: &Context) -> Trace {
        let now = self.inner.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Trace::of(cx.trace.as_deref(), now, uuid::Uuid::new_v4().as_u128())
    }
}

fn refuse_unsupported(input: &InvocationRequest) -> Result<(), Error> {
    match input.durable_execution_name {
        Some(_) => Err(Error::not_supported("lambda:Invoke with DurableExecutionName")),
        None => Ok(()),
    }
}

pub(crate) fn lookup_error(error: LookupError) -> Error {
    match error {
        LookupError::NotFound(arn) => not_found(&arn),
        LookupError::NotReady(_) => errors::resource_conflict_exception(error.to_string()),
        LookupError::Idle(Idle::Image) => errors::code_artifact_user_pending_exception(error.to_string()),
        LookupError::Idle(Idle::Vpc) => errors::resource_not_ready_exception(error.to_string()),
    }
}

/// Whom a call of this function is for, where it may be.
pub(crate) fn admitted(function: &FunctionVersion, tenant: Option<&str>) -> Result<Option<TenantId>, Error> {
    let tenant = input::tenant(tenant)?;
    function.admits(tenant.as_ref()).map_err(not_admitted)?;
    Ok(tenant)
}

fn not_admitted(error: TenancyError) -> Error {
    errors::invalid_parameter_value_exception(error.to_string())
}

/// Recorded: an unqualified invocation names `$LATEST`.
fn not_found(arn: &str) -> Error {
    let qualified = arn.split(':').count() > 7;
    let tail = if qualified { String::new() } else { format!(":{}", Qualifier::LATEST) };
    errors::resource_not_found_exception(format!("Function not found: {arn}{tail}"))
}

fn invoke_error(error: InvokeError, function: &FunctionVersion) -> Error {
    match error {
        InvokeError::Throttled(reason) => {
            errors::too_many_requests_exception("Rate Exceeded.").with("Reason", reason.as_str())
        }
        InvokeError::HostFull { budget_mb } => errors::too_many_requests_exception(format!(
            "Rate Exceeded. The host's memory budget of {budget_mb} MB is in use."
        ))
        .with("Reason", "ConcurrentInvocationLimitExceeded"),
        InvokeError::Tenancy(error) => not_admitted(error),
        InvokeError::RuntimeMissing(runtime) => errors::invalid_runtime_exception(format!(
            "Runtime {runtime} is not installed on this host; see hearth runtimes."
        )),
        error @ InvokeError::RuntimeVersionMissing { .. } => {
            errors::invalid_runtime_exception(format!("The {error}; see hearth runtimes."))
        }
        InvokeError::OtherArchitecture(architecture) => errors::invalid_runtime_exception(format!(
            "Functions for {architecture} cannot run on this host, which is {}.",
            std::env::consts::ARCH
        )),
        InvokeError::Unconfined { reason } => errors::service_exception(format!(
            "Functions cannot run confined on this host ({reason}); see hearth doctor."
        )),
        InvokeError::ShuttingDown => Error::new(503, "ServiceUnavailableException", "Hearth is shutting down."),
        InvokeError::Internal(cause) => {
            tracing::error!(function = %function.key.name, %cause, "an invocation failed in the platform");
            errors::service_exception("An internal error occurred; Hearth's log says more.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_by_chi_square_over_ten_thousand() {
        const DRAWS: u32 = 10_000;
        const BINS: usize = 20;
        let mut counts = [0u32; BINS];
        for _ in 0..DRAWS {
            let drawn = draw(uuid::Uuid::new_v4().as_u128());
            assert!((0.0..1.0).contains(&drawn));
            counts[(drawn * BINS as f64) as usize] += 1;
        }
        let expected = f64::from(DRAWS) / BINS as f64;
        let chi_square: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        // 19 degrees of freedom: passed by chance once in ten million runs.
        assert!(chi_square < 68.0, "{chi_square}: {counts:?}");
    }
}
