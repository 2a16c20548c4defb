//! Invocations with no caller waiting (spec 5.1): checked here, and accepted once they are on disk. `events` runs them.

use hearth_model::{ASYNC_PAYLOAD_MAX, AcceptError, NewEvent, RequestId};
use hearth_wire::{Context, Error};
use hearth_wire_lambda::errors::service_exception;
use hearth_wire_lambda::types::{InvocationRequest, InvocationResponse, InvokeAsyncRequest, InvokeAsyncResponse};

use crate::api::{admitted, lookup_error};
use crate::{Placement, input};

/// Largest payload of the legacy InvokeAsync, bytes (spec 2.1).
const LEGACY_PAYLOAD_MAX: usize = 262_144;

impl Placement {
    pub(crate) async fn accept(&self, cx: &Context, input: InvocationRequest) -> Result<InvocationResponse, Error> {
        let arn = self.arn(cx, input.function_name.as_deref(), input.qualifier.as_deref())?;
        let function = self.inner.functions.known(&arn).map_err(lookup_error)?;
        let tenant = admitted(&function, input.tenant_id.as_deref())?;
        let mut trace = self.trace(cx);
        // It is accepted all the same: its end is the queue's to tell.
        trace.enter(&arn, self.inner.guard.means_all());
        let event = NewEvent {
            request_id: RequestId::new(cx.request_id.as_str()),
            arn,
            payload: input::event_payload(input.payload, ASYNC_PAYLOAD_MAX)?,
            content_type: cx.content_type.clone(),
            client_context: input::client_context(input.client_context.as_deref())?,
            tenant,
            trace: Some(trace.for_runtime),
            origin: None,
        };
        self.inner.events.accept(event).await.map_err(not_accepted)?;
        cx.answer_header("x-amzn-remapped-content-length", "0".to_owned());
        cx.answer_header("x-amzn-trace-id", trace.for_caller);
        Ok(InvocationResponse { status_code: Some(202), ..InvocationResponse::default() })
    }

    pub(crate) async fn accept_legacy(
        &self,
        cx: &Context,
        input: InvokeAsyncRequest,
    ) -> Result<InvokeAsyncResponse, Error> {
        let arn = self.arn(cx, input.function_name.as_deref(), None)?;
        let function = self.inner.functions.known(&arn).map_err(lookup_error)?;
        let tenant = admitted(&function, None)?;
        let event = NewEvent {
            request_id: RequestId::new(cx.request_id.as_str()),
            arn,
            payload: input::event_payload(input.invoke_args, LEGACY_PAYLOAD_MAX)?,
            content_type: cx.content_type.clone(),
            client_context: None,
            tenant,
            // It traces nothing (spec 2.1).
            trace: None,
            origin: None,
        };
        self.inner.events.accept(event).await.map_err(not_accepted)?;
        Ok(InvokeAsyncResponse { status: Some(202) })
    }
}

fn not_accepted(error: AcceptError) -> Error {
    match error {
        // Every call has a request id of its own.
        AcceptError::NotStored | AcceptError::Repeated => {
            service_exception("The event could not be stored; Hearth's log says more.")
        }
    }
}
