//! The operation Invoke (spec 2.1).

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hearth_model::{
    AccountId, CLIENT_CONTEXT_MAX, FunctionArn, FunctionRef, FunctionVersion, Invocation, Invoke, InvokeError,
    LookupError, Qualifier, RESPONSE_PAYLOAD_MAX, RefError, Region, RequestId, SYNC_PAYLOAD_MAX,
};
use hearth_wire::{Context, Coverage, Error, Parameter, ParameterStatus};
use hearth_wire_lambda::types::{InvocationRequest, InvocationResponse};
use hearth_wire_lambda::{InvokeApi, errors};

use crate::Placement;

/// The operations of this crate.
pub const COVERAGE: &[Coverage] = &[Coverage {
    operation: "Invoke",
    parameters: &[
        Parameter {
            name: "InvocationType",
            status: ParameterStatus::Refused,
            note: "Event is refused; RequestResponse and DryRun work",
        },
        Parameter { name: "DurableExecutionName", status: ParameterStatus::Refused, note: "" },
        Parameter { name: "TenantId", status: ParameterStatus::Refused, note: "" },
    ],
}];

#[async_trait]
impl InvokeApi for Placement {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn invoke(&self, cx: &Context, input: InvocationRequest) -> Result<InvocationResponse, Error> {
        refuse_unsupported(&input)?;
        let arn = arn(cx, &input)?;
        let found = self.inner.functions.find(&arn).map_err(lookup_error)?;
        if input.invocation_type.as_deref() == Some("DryRun") {
            return Ok(InvocationResponse { status_code: Some(204), ..InvocationResponse::default() });
        }
        let wants_log_tail = input.log_type.as_deref() == Some("Tail");
        let invocation = Invocation {
            request_id: RequestId::new(cx.request_id.as_str()),
            invoked_arn: arn.to_string(),
            function: found.clone(),
            client_context: client_context(input.client_context.as_deref())?,
            payload: payload(input.payload)?,
            content_type: None,
            trace: None,
            wants_log_tail,
        };
        let response = Invoke::invoke(self, invocation).await.map_err(|error| invoke_error(error, &found))?;
        let collected = response.collect(RESPONSE_PAYLOAD_MAX).await;
        let (head, body, outcome) = collected.map_err(|e| errors::service_exception(e.to_string()))?;
        let log_result = if wants_log_tail { outcome.await.log_tail.map(|tail| STANDARD.encode(tail)) } else { None };
        Ok(InvocationResponse {
            status_code: Some(200),
            function_error: head.function_error.map(|_| "Unhandled".to_owned()),
            log_result,
            payload: body,
            executed_version: Some(head.executed_version.to_string()),
            durable_execution_arn: None,
        })
    }
}

fn refuse_unsupported(input: &InvocationRequest) -> Result<(), Error> {
    let refused = [
        (input.invocation_type.as_deref() == Some("Event"), "InvocationType Event"),
        (input.durable_execution_name.is_some(), "DurableExecutionName"),
        (input.tenant_id.is_some(), "TenantId"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => Err(Error::not_supported(format_args!("lambda:Invoke with {name}"))),
        None => Ok(()),
    }
}

fn arn(cx: &Context, input: &InvocationRequest) -> Result<FunctionArn, Error> {
    let account = AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account);
    let region = Region::parse(&cx.region).unwrap_or_else(Region::default_region);
    let reference = FunctionRef::parse(input.function_name.as_deref().unwrap_or_default());
    let resolved = reference.and_then(|reference| reference.resolve(&account, &region, input.qualifier.as_deref()));
    resolved.map_err(|error| match error {
        RefError::NameTooLong { arn } => errors::resource_not_found_exception(format!("Function not found: {arn}")),
        RefError::OtherRegion { .. } => errors::resource_not_found_exception(error.to_string()),
        RefError::OtherAccount => Error { message: None, ..Error::new(403, "AccessDeniedException", "") },
        RefError::QualifierMismatch | RefError::Malformed => {
            errors::invalid_parameter_value_exception(error.to_string())
        }
    })
}

fn lookup_error(error: LookupError) -> Error {
    match error {
        LookupError::NotFound(arn) => {
            // Recorded: an unqualified invocation names `$LATEST`.
            let qualified = arn.split(':').count() > 7;
            let tail = if qualified { String::new() } else { format!(":{}", Qualifier::LATEST) };
            errors::resource_not_found_exception(format!("Function not found: {arn}{tail}"))
        }
        LookupError::NotReady(_) => errors::resource_conflict_exception(error.to_string()),
    }
}

/// Base64 of JSON, at most 3,583 bytes encoded.
fn client_context(encoded: Option<&str>) -> Result<Option<String>, Error> {
    let Some(encoded) = encoded else { return Ok(None) };
    if encoded.len() > CLIENT_CONTEXT_MAX {
        let message = format!("Client context must be no longer than {CLIENT_CONTEXT_MAX} bytes");
        return Err(errors::invalid_request_content_exception(message));
    }
    let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // One line: it travels in a header.
    let decoded = decoded.map(|text| text.replace(['\r', '\n'], " "));
    match decoded {
        Some(text) if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() => Ok(Some(text)),
        _ => {
            Err(errors::invalid_request_content_exception("Client context must be a valid Base64-encoded JSON object."))
        }
    }
}

/// Checked in one pass, without building anything. Nothing at all is `{}`.
fn payload(payload: Bytes) -> Result<Bytes, Error> {
    if payload.len() > SYNC_PAYLOAD_MAX {
        return Err(Error {
            key: hearth_wire::MessageKey::Upper,
            ..Error::new(
                413,
                "RequestEntityTooLargeException",
                format!("Request must be smaller than {SYNC_PAYLOAD_MAX} bytes for the InvokeFunction operation"),
            )
        });
    }
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        return Err(errors::invalid_request_content_exception(format!(
            "Could not parse request body into json: Could not parse payload into json: {text}\n at [Source: REDACTED; line: {}, column: {}]",
            error.line(),
            error.column()
        )));
    }
    Ok(payload)
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
        InvokeError::RuntimeMissing(runtime) => errors::invalid_runtime_exception(format!(
            "Runtime {runtime} is not installed on this host; see hearth runtimes."
        )),
        InvokeError::OtherArchitecture(architecture) => errors::invalid_runtime_exception(format!(
            "Functions for {architecture} cannot run on this host, which is {}.",
            std::env::consts::ARCH
        )),
        InvokeError::ShuttingDown => Error::new(503, "ServiceUnavailableException", "Hearth is shutting down."),
        InvokeError::Internal(cause) => {
            tracing::error!(function = %function.key.name, %cause, "an invocation failed in the platform");
            errors::service_exception("An internal error occurred; Hearth's log says more.")
        }
    }
}
