//! The Runtime API's protocol for one runtime process, without HTTP.
//!
//! ```text
//!   Started ──next──► Ready ──deliver──► Running ──response, error──► Responded ──next──► Ready
//!      └──init error──► InitError         │    └──next: the same event again  ▲
//!                                         └──begin──► Responding ──end────────┘
//! ```

use std::sync::Arc;

use bytes::Bytes;
use hearth_model::{ErrorType, RequestId, TenantId};

/// What a runtime is given to work on.
#[derive(Debug)]
pub struct Event {
    pub request_id: RequestId,
    /// Milliseconds since the epoch.
    pub deadline_ms: u64,
    pub invoked_arn: String,
    pub trace: Option<String>,
    pub client_context: Option<String>,
    pub tenant: Option<TenantId>,
    pub content_type: Option<String>,
    pub payload: Bytes,
}

/// A function's answer, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Set when the runtime posted an error, or an answer that the platform had to replace.
    pub error: Option<ErrorType>,
    pub content_type: String,
    pub body: Bytes,
}

/// Why a call is refused, with what the runtime is told (spec 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    InvalidRequestId,
    /// States as AWS names them.
    InvalidTransition {
        from: &'static str,
        to: &'static str,
    },
    /// The process that called belongs to a runtime that was ended.
    Ended,
}

/// What a call for the next event means.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Init, or the invocation before, is over.
    Ready,
    /// It has asked before and still waits: the later call gets the event.
    Again,
    /// An event is out already and is given again.
    Repeat(Arc<Event>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Started,
    InitError,
    Ready,
    Running,
    /// A response is being streamed.
    Responding,
    Responded,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Started => "Started",
            State::InitError => "InitError",
            State::Ready => "Ready",
            State::Running => "Running",
            State::Responding => "InvocationResponse",
            State::Responded => "RuntimeResponseSentState",
        }
    }
}

/// See the module. One per runtime process; a new process begins with a new one.
#[derive(Debug)]
pub struct Protocol {
    state: State,
    event: Option<Arc<Event>>,
}

impl Default for Protocol {
    fn default() -> Self {
        Protocol { state: State::Started, event: None }
    }
}

impl Protocol {
    /// Gives the runtime its next event. Only when it is ready: otherwise the event comes back.
    pub fn deliver(&mut self, event: Arc<Event>) -> Result<(), Arc<Event>> {
        if self.state != State::Ready {
            return Err(event);
        }
        self.state = State::Running;
        self.event = Some(event);
        Ok(())
    }

    pub fn ask(&mut self) -> Result<Asked, Refusal> {
        match (self.state, &self.event) {
            (State::InitError | State::Responding, _) => Err(self.transition("Ready")),
            (State::Running, Some(event)) => Ok(Asked::Repeat(event.clone())),
            (State::Ready, _) => Ok(Asked::Again),
            (State::Started | State::Responded | State::Running, _) => {
                self.state = State::Ready;
                self.event = None;
                Ok(Asked::Ready)
            }
        }
    }

    /// Whether the runtime has asked and was given nothing yet.
    pub fn waits(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether `response` (`to` is `InvocationResponse`) or `error` (`InvocationErrorResponse`) of this id would be
    /// taken: asked before a body is read. The id is checked before the state (spec 4.3).
    pub fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal> {
        match (&self.event, self.state) {
            (Some(event), State::Running) if event.request_id.as_str() == id => Ok(()),
            (Some(event), State::Ready | State::Started | State::Responding) if event.request_id.as_str() == id => {
                Err(self.transition(to))
            }
            _ => Err(Refusal::InvalidRequestId),
        }
    }

    /// Takes the `response` or `error` of the event with this id.
    pub fn answer(&mut self, id: &str, to: &'static str) -> Result<(), Refusal> {
        self.may_answer(id, to)?;
        self.state = State::Responded;
        Ok(())
    }

    /// The response of the event with this id begins; [`Protocol::end`] follows.
    pub fn begin(&mut self, id: &str, to: &'static str) -> Result<(), Refusal> {
        self.may_answer(id, to)?;
        self.state = State::Responding;
        Ok(())
    }

    /// A response that was begun is over.
    pub fn end(&mut self, id: &str) -> Result<(), Refusal> {
        match (&self.event, self.state) {
            (Some(event), State::Responding) if event.request_id.as_str() == id => self.state = State::Responded,
            _ => return Err(Refusal::InvalidRequestId),
        }
        Ok(())
    }

    pub fn init_error(&mut self) -> Result<(), Refusal> {
        if self.state != State::Started {
            return Err(self.transition("InitError"));
        }
        self.state = State::InitError;
        Ok(())
    }

    fn transition(&self, to: &'static str) -> Refusal {
        Refusal::InvalidTransition { from: self.state.name(), to }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESPONSE: &str = "InvocationResponse";

    fn event(id: &str) -> Arc<Event> {
        Arc::new(Event {
            request_id: RequestId::new(id),
            deadline_ms: 0,
            invoked_arn: String::new(),
            trace: None,
            client_context: None,
            tenant: None,
            content_type: None,
            payload: Bytes::new(),
        })
    }

    fn running(id: &str) -> Protocol {
        let mut protocol = Protocol::default();
        assert!(matches!(protocol.ask(), Ok(Asked::Ready)));
        protocol.deliver(event(id)).unwrap();
        protocol
    }

    #[test]
    fn asking_twice_gives_the_same_event_again() {
        assert!(matches!(running("a").ask(), Ok(Asked::Repeat(e)) if e.request_id.as_str() == "a"));
    }

    #[test]
    fn a_second_answer_and_a_foreign_id_are_refused() {
        let mut protocol = running("a");
        assert_eq!(protocol.answer("b", RESPONSE), Err(Refusal::InvalidRequestId));
        protocol.answer("a", RESPONSE).unwrap();
        assert_eq!(protocol.answer("a", RESPONSE), Err(Refusal::InvalidRequestId));
        assert!(matches!(protocol.ask(), Ok(Asked::Ready)));
        assert_eq!(protocol.answer("a", RESPONSE), Err(Refusal::InvalidRequestId), "a finished id");
    }

    #[test]
    fn while_a_response_is_streamed_nothing_else_is_taken() {
        let mut protocol = running("a");
        protocol.begin("a", RESPONSE).unwrap();
        let from = "InvocationResponse";
        assert_eq!(protocol.begin("a", RESPONSE), Err(Refusal::InvalidTransition { from, to: RESPONSE }));
        assert_eq!(protocol.answer("a", RESPONSE), Err(Refusal::InvalidTransition { from, to: RESPONSE }));
        assert_eq!(protocol.ask().unwrap_err(), Refusal::InvalidTransition { from, to: "Ready" });
        assert_eq!(protocol.end("b"), Err(Refusal::InvalidRequestId));
        protocol.end("a").unwrap();
        assert_eq!(protocol.end("a"), Err(Refusal::InvalidRequestId));
        assert!(matches!(protocol.ask(), Ok(Asked::Ready)));
    }

    #[test]
    fn an_init_error_is_the_last_word() {
        let mut protocol = Protocol::default();
        protocol.init_error().unwrap();
        assert_eq!(protocol.ask().unwrap_err(), Refusal::InvalidTransition { from: "InitError", to: "Ready" });
        assert!(protocol.init_error().is_err());
    }

    #[test]
    fn an_init_error_after_init_is_a_wrong_transition() {
        let refused = Refusal::InvalidTransition { from: "Running", to: "InitError" };
        assert_eq!(running("a").init_error(), Err(refused));
    }

    #[test]
    fn a_runtime_that_is_not_ready_is_given_nothing() {
        assert!(Protocol::default().deliver(event("a")).is_err());
        assert!(running("a").deliver(event("b")).is_err());
    }

    proptest! {
        /// Whatever a runtime says in whatever order: each event is answered at most once, and between two events it
        /// has asked.
        #[test]
        fn no_order_of_calls_answers_twice(calls in prop::collection::vec(0..7u8, 0..64)) {
            let mut protocol = Protocol::default();
            let (mut delivered, mut answered, mut asked) = (0u32, 0u32, 0u32);
            for call in calls {
                let id = delivered.to_string();
                match call {
                    0 => asked += u32::from(matches!(protocol.ask(), Ok(Asked::Ready))),
                    1 => answered += u32::from(protocol.answer(&id, RESPONSE).is_ok()),
                    2 => prop_assert!(protocol.answer("x", RESPONSE).is_err()),
                    3 => drop(protocol.init_error()),
                    4 => drop(protocol.begin(&id, RESPONSE)),
                    5 => answered += u32::from(protocol.end(&id).is_ok()),
                    _ => delivered += u32::from(protocol.deliver(event(&(delivered + 1).to_string())).is_ok()),
                }
                prop_assert!(answered <= delivered && delivered <= asked);
                prop_assert!(asked <= answered + 1, "asked again before an answer");
            }
        }
    }
}
