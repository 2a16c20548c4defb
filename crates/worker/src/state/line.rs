//! What the processes of the runtime and its extensions say through their connections, brought to the environment that
//! they belong to.

use std::sync::{Arc, MutexGuard};

use hearth_model::{ErrorType, PlatformRecord};
use hearth_runtime_api::{
    Answer, Api, Asked, Failing, Next, NextNotice, Refusal, Refused, Registered, Runtime, StreamWriter, Streamed,
    Subscription, Unsubscribed, Welcome,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Shared, State};
use crate::failure::Cause;
use crate::machine::Input;

/// Of a response, as AWS names it.
const RESPONSE: &str = "InvocationResponse";

/// The Runtime API of one generation of processes.
pub(crate) struct Line {
    generation: u64,
    shared: Arc<Shared>,
}

impl Line {
    pub(super) fn new(generation: u64, shared: Arc<Shared>) -> Self {
        Line { generation, shared }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.shared.lock();
        if state.generation == self.generation { Ok(state) } else { Err(Refusal::Ended) }
    }

    /// Extensions are heard a little longer than the runtime: until they have ended in order.
    fn state_of_extensions(&self) -> Result<MutexGuard<'_, State>, Refused> {
        let state = self.shared.lock();
        let heard = [Some(state.generation), state.closing].contains(&Some(self.generation));
        if heard { Ok(state) } else { Err(Refused::Ended) }
    }
}

impl Runtime for Line {
    fn next(&self) -> Result<Next, Refusal> {
        let mut state = self.state()?;
        let asked = state.protocol.ask()?;
        if let Asked::Repeat(event) = asked {
            return Ok(Next::Again(event));
        }
        let (parked, later) = oneshot::channel();
        state.parked = Some(parked);
        if let Asked::Ready = asked {
            state.runtime_asked(&self.shared);
            state.attached.protocol.close();
            if state.notes.steps.ready.is_none() {
                state.notes.steps.ready = Some(self.shared.clock.now());
            }
            if state.attached.protocol.are_ready() {
                self.shared.step(state, Input::Ready);
            }
        }
        Ok(Next::Later(later))
    }

    fn respond(&self, id: &str, content_type: &str) -> Result<Option<StreamWriter>, Refusal> {
        let mut state = self.state()?;
        state.protocol.may_answer(id, RESPONSE)?;
        let now = self.shared.clock.now();
        state.notes.first_byte.get_or_insert(now);
        if state.log.wants_times() {
            state.timeline.responds(now);
        }
        let writer = state.call.as_mut().and_then(|call| call.stream(content_type));
        if writer.is_some() {
            state.protocol.begin(id, RESPONSE)?;
        }
        Ok(writer)
    }

    fn streamed(&self, id: &str, streamed: Streamed) -> Result<(), Refusal> {
        let mut state = self.state()?;
        state.protocol.end(id)?;
        let Streamed { bytes, error, unread } = streamed;
        if unread {
            let function = &self.shared.function.key.name;
            tracing::info!(%function, request_id = id, bytes, "a caller went away before the end of a stream");
        }
        let (error, error_type) = error.unzip();
        if state.log.wants_times() {
            state.timeline.answered(self.shared.clock.now(), bytes, error_type.clone());
        }
        if let Some(call) = &mut state.call {
            call.end_stream(error.map_or(Ok(()), Err));
        }
        self.shared.step(state, Input::Answered(error_type));
        Ok(())
    }

    fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal> {
        let mut state = self.state()?;
        state.protocol.may_answer(id, to)?;
        if state.log.wants_times() {
            state.timeline.responds(self.shared.clock.now());
        }
        Ok(())
    }

    fn answer(&self, id: &str, to: &'static str, answer: Answer) -> Result<(), Refusal> {
        let mut state = self.state()?;
        state.protocol.answer(id, to)?;
        let error_type = answer.error.clone();
        if state.log.wants_times() {
            state.timeline.answered(self.shared.clock.now(), answer.body.len(), error_type.clone());
        }
        if let Some(call) = &mut state.call {
            call.answer(answer);
        }
        self.shared.step(state, Input::Answered(error_type));
        Ok(())
    }

    fn init_error(&self, answer: Answer) -> Result<(), Refusal> {
        let mut state = self.state()?;
        state.protocol.init_error()?;
        let error_type = answer.error.clone().unwrap_or(ErrorType::RUNTIME_UNKNOWN);
        state.cause = Some(Cause::Posted(answer));
        self.shared.step(state, Input::Failed(error_type));
        Ok(())
    }

    fn register(&self, name: &str, events: &[String]) -> Result<Welcome, Refused> {
        let mut state = self.state_of_extensions()?;
        let id = Uuid::new_v4();
        let Registered { last } = state.attached.protocol.register(name, events, id)?;
        if last {
            self.shared.step(state, Input::Registered);
        }
        let function = &self.shared.function;
        Ok(Welcome {
            id,
            function_name: function.key.name.as_str().to_owned(),
            function_version: function.key.version.to_string(),
            handler: function.program.handler().to_owned(),
            account_id: function.key.account.as_str().to_owned(),
        })
    }

    fn next_notice(&self, extension: Uuid) -> Result<NextNotice, Refused> {
        let mut state = self.state_of_extensions()?;
        let (next, finished) = state.attached.ask(extension)?;
        let all_wait = state.protocol.waits() && state.attached.protocol.are_ready();
        if finished && all_wait && state.generation == self.generation {
            self.shared.step(state, Input::Ready);
        }
        Ok(next)
    }

    fn extension_error(&self, extension: Uuid, failing: Failing, error_type: &str) -> Result<(), Refused> {
        self.state_of_extensions()?.attached.fail(extension, failing, error_type)
    }

    fn subscribe(&self, extension: Uuid, subscription: Subscription) -> Result<(), Unsubscribed> {
        let mut state = self.state_of_extensions().map_err(Unsubscribed::Refused)?;
        let (logs, sources) = (subscription.api == Api::Logs, subscription.sources.clone());
        let State { log, attached, sandbox, .. } = &mut *state;
        let (telemetry, clock) = (&mut log.telemetry, &self.shared.clock);
        let name = telemetry.subscribe(&attached.protocol, extension, subscription, sandbox.as_ref(), clock)?;
        state.log.platform(&PlatformRecord::Subscription { name, logs, sources });
        Ok(())
    }
}
