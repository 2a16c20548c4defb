//! What the runtime's process says through its connections, brought to the environment that it belongs to.

use std::sync::{Arc, MutexGuard};

use hearth_model::ErrorType;
use hearth_runtime_api::{Answer, Asked, Next, Refusal, Runtime};
use tokio::sync::oneshot;

use super::{Shared, State};
use crate::failure::Cause;
use crate::machine::Input;

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
            self.shared.step(state, Input::Ready);
        }
        Ok(Next::Later(later))
    }

    fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal> {
        self.state()?.protocol.may_answer(id, to)
    }

    fn answer(&self, id: &str, to: &'static str, answer: Answer) -> Result<(), Refusal> {
        let mut state = self.state()?;
        state.protocol.answer(id, to)?;
        let error_type = answer.error.clone();
        if let Some(call) = &mut state.call {
            call.answer(Ok(answer));
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
}
