//! The Runtime API's protocol for one environment, without HTTP.
//!
//! ```text
//!   Started ──next──► Ready ──deliver──► Running ──response, error──► Responded ──next──► Ready
//!      └──init error──► InitError              └──next: the same event again
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hearth_model::{ErrorType, RequestId};
use tokio::sync::{mpsc, oneshot};

/// What a runtime is given to work on.
#[derive(Clone, Debug)]
pub struct Event {
    pub request_id: RequestId,
    /// Milliseconds since the epoch.
    pub deadline_ms: u64,
    pub invoked_arn: String,
    pub trace: Option<String>,
    pub client_context: Option<String>,
    pub content_type: Option<String>,
    pub payload: Bytes,
}

/// A function's answer, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Set when the runtime posted an error.
    pub error: Option<ErrorType>,
    pub content_type: String,
    pub body: Bytes,
}

/// What the environment's driver must know. At most three of these can wait: each needs a step of the driver before it.
#[derive(Clone, Debug)]
pub enum Said {
    /// The runtime asked for an event: init, or the invocation before, is over.
    Ready,
    /// It answered; the caller has the answer already. Holds the error type of a function error.
    Answered(Option<ErrorType>),
    InitError(Answer),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Started,
    InitError,
    Ready,
    Running,
    Responded,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Started => "Started",
            State::InitError => "InitError",
            State::Ready => "Ready",
            State::Running => "Running",
            State::Responded => "RuntimeResponseSentState",
        }
    }
}

/// Shared by the driver and the connections of one environment.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Grows when the runtime is ended: what its connections still say counts no more.
    generation: u64,
    state: State,
    event: Option<Event>,
    answer: Option<oneshot::Sender<Answer>>,
    /// The call for `next` that waits.
    parked: Option<oneshot::Sender<Event>>,
    said: mpsc::Sender<Said>,
}

/// What `next` is answered with.
pub enum Next {
    Now(Event),
    Later(oneshot::Receiver<Event>),
}

impl Session {
    /// A session and what will be said in it.
    pub fn new() -> (Self, mpsc::Receiver<Said>) {
        let (said, hears) = mpsc::channel(16);
        let inner = Inner { generation: 0, state: State::Started, event: None, answer: None, parked: None, said };
        (Session { inner: Arc::new(Mutex::new(inner)) }, hears)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the runtime its next event. The runtime is ready; the answer goes straight to `answer`.
    pub fn deliver(&self, event: Event, answer: oneshot::Sender<Answer>) {
        let mut inner = self.inner();
        inner.state = State::Running;
        inner.answer = Some(answer);
        if let Some(parked) = inner.parked.take() {
            // When the connection is gone the runtime asks again and gets it then.
            let _ = parked.send(event.clone());
        }
        inner.event = Some(event);
    }

    /// Takes the caller's line back: the platform answers in the runtime's place. `None` when it has been answered.
    pub fn take_answer(&self) -> Option<oneshot::Sender<Answer>> {
        self.inner().answer.take()
    }

    /// The runtime was ended: a new one begins from `Started`.
    pub fn reset(&self) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner.state = State::Started;
        inner.event = None;
        inner.answer = None;
        inner.parked = None;
    }

    /// Whose connections are accepted now.
    pub fn generation(&self) -> u64 {
        self.inner().generation
    }

    pub fn next(&self, generation: u64) -> Result<Next, Refusal> {
        let mut inner = self.inner();
        inner.check(generation)?;
        match inner.state {
            State::InitError => return Err(inner.transition("Ready")),
            State::Running => {
                if let Some(event) = &inner.event {
                    return Ok(Next::Now(event.clone()));
                }
            }
            State::Started | State::Responded => {
                inner.state = State::Ready;
                inner.event = None;
                inner.say(Said::Ready);
            }
            State::Ready => {}
        }
        let (parked, later) = oneshot::channel();
        inner.parked = Some(parked);
        Ok(Next::Later(later))
    }

    /// Checked before the body is read, and again when it has been.
    pub fn may_answer(&self, generation: u64, id: &str, to: &'static str) -> Result<(), Refusal> {
        let inner = self.inner();
        inner.check(generation)?;
        match &inner.event {
            Some(event) if event.request_id.as_str() == id && inner.state == State::Running => Ok(()),
            Some(event) if event.request_id.as_str() == id && inner.state != State::Responded => {
                Err(inner.transition(to))
            }
            _ => Err(Refusal::InvalidRequestId),
        }
    }

    /// `response` or `error` of the event with this id.
    pub fn answer(&self, generation: u64, id: &str, answer: Answer) -> Result<(), Refusal> {
        let to = if answer.error.is_some() { "InvocationErrorResponse" } else { "InvocationResponse" };
        self.may_answer(generation, id, to)?;
        let mut inner = self.inner();
        inner.check(generation)?;
        if inner.state != State::Running {
            return Err(Refusal::InvalidRequestId);
        }
        inner.state = State::Responded;
        inner.say(Said::Answered(answer.error.clone()));
        if let Some(caller) = inner.answer.take() {
            let _ = caller.send(answer);
        }
        Ok(())
    }

    pub fn init_error(&self, generation: u64, answer: Answer) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.check(generation)?;
        if inner.state != State::Started {
            return Err(inner.transition("InitError"));
        }
        inner.state = State::InitError;
        inner.say(Said::InitError(answer));
        Ok(())
    }
}

impl Inner {
    fn check(&self, generation: u64) -> Result<(), Refusal> {
        if generation == self.generation { Ok(()) } else { Err(Refusal::Ended) }
    }

    fn transition(&self, to: &'static str) -> Refusal {
        Refusal::InvalidTransition { from: self.state.name(), to }
    }

    fn say(&self, said: Said) {
        // Cannot be full: every message needs a step of the driver before it.
        let _ = self.said.try_send(said);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: &str) -> Event {
        Event {
            request_id: RequestId::new(id),
            deadline_ms: 0,
            invoked_arn: String::new(),
            trace: None,
            client_context: None,
            content_type: None,
            payload: Bytes::new(),
        }
    }

    fn answer() -> Answer {
        Answer { error: None, content_type: "application/json".to_owned(), body: Bytes::from_static(b"1") }
    }

    fn running(id: &str) -> (Session, mpsc::Receiver<Said>, oneshot::Receiver<Answer>) {
        let (session, hears) = Session::new();
        assert!(matches!(session.next(0), Ok(Next::Later(_))));
        let (caller, called) = oneshot::channel();
        session.deliver(event(id), caller);
        (session, hears, called)
    }

    #[test]
    fn asking_twice_gives_the_same_event_again() {
        let (session, ..) = running("a");
        assert!(matches!(session.next(0), Ok(Next::Now(e)) if e.request_id.as_str() == "a"));
    }

    #[test]
    fn a_second_answer_and_a_foreign_id_are_refused() {
        let (session, _hears, mut called) = running("a");
        assert_eq!(session.answer(0, "b", answer()), Err(Refusal::InvalidRequestId));
        session.answer(0, "a", answer()).unwrap();
        assert_eq!(session.answer(0, "a", answer()), Err(Refusal::InvalidRequestId));
        assert_eq!(called.try_recv().unwrap().body, "1");
    }

    #[test]
    fn an_init_error_is_the_last_word() {
        let (session, mut hears) = Session::new();
        session.init_error(0, answer()).unwrap();
        assert!(matches!(hears.try_recv(), Ok(Said::InitError(_))));
        assert!(matches!(session.next(0), Err(Refusal::InvalidTransition { from: "InitError", to: "Ready" })));
        assert!(session.init_error(0, answer()).is_err());
    }

    #[test]
    fn an_ended_runtime_is_not_heard() {
        let (session, _hears, mut called) = running("a");
        session.reset();
        assert_eq!(session.answer(0, "a", answer()), Err(Refusal::Ended));
        assert!(called.try_recv().is_err());
        assert!(matches!(session.next(1), Ok(Next::Later(_))));
    }

    proptest! {
        /// Whatever a runtime says in whatever order, a caller is answered at most once, and what the driver hears
        /// stays within its queue.
        #[test]
        fn no_order_of_calls_answers_twice(calls in prop::collection::vec(0..5u8, 0..64)) {
            let (session, mut hears) = Session::new();
            let mut delivered = 0u32;
            let mut answered = 0u32;
            let mut ready = false;
            let mut waiting = Vec::new();
            for call in calls {
                let id = delivered.to_string();
                match call {
                    0 => drop(session.next(0)),
                    1 => drop(session.answer(0, &id, answer())),
                    2 => drop(session.answer(0, "x", answer())),
                    3 => drop(session.init_error(0, answer())),
                    _ if ready => {
                        delivered += 1;
                        let (caller, called) = oneshot::channel();
                        session.deliver(event(&delivered.to_string()), caller);
                        waiting.push(called);
                        ready = false;
                    }
                    _ => {}
                }
                while let Ok(said) = hears.try_recv() {
                    match said {
                        Said::Ready => ready = true,
                        Said::Answered(_) => answered += 1,
                        Said::InitError(_) => {}
                    }
                }
            }
            let got = waiting.iter_mut().filter_map(|called| called.try_recv().ok()).count();
            prop_assert_eq!(got as u32, answered);
            prop_assert!(answered <= delivered);
        }
    }
}
