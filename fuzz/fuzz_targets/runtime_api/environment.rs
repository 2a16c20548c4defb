//! The owner of an environment, as the worker is one: the protocols' machines, and an account of what they let pass.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use bytes::Bytes;
use hearth_model::{Body, RequestId};
use hearth_runtime_api::{
    Answer, Asked, Event, Extensions, Failing, Next, NextNotice, Notice, Protocol, Refusal, Refused, Runtime,
    ShutdownReason, StreamEnd, StreamWriter, Streamed, Subscription, Unsubscribed, Wants, Welcome, stream,
};
use tokio::sync::oneshot;
use uuid::Uuid;

const RESPONSE: &str = "InvocationResponse";

pub struct Environment {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ended: bool,
    protocol: Protocol,
    waiting: VecDeque<Arc<Event>>,
    /// Whose call for the next event is open.
    parked: Option<oneshot::Sender<Arc<Event>>>,
    given_out: Vec<String>,
    answered: HashSet<String>,
    streams: bool,
    stream: Option<(StreamEnd, Option<Body>)>,
    extensions: Extensions,
    ids: Vec<Uuid>,
    listening: HashMap<usize, oneshot::Sender<Notice>>,
}

impl Environment {
    pub fn new(streams: bool, external: usize) -> Self {
        let names: Vec<_> = (0..external).map(Environment::external).collect();
        let inner = Inner { streams, extensions: Extensions::new(&names), ..Inner::default() };
        Environment { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics")
    }

    pub fn external(at: usize) -> String {
        format!("external-{at}")
    }

    /// The id of the last event but so many.
    pub fn given_out(&self, back: usize) -> String {
        let inner = self.inner();
        let at = inner.given_out.len().saturating_sub(1 + back % 3);
        inner.given_out.get(at).cloned().unwrap_or_default()
    }

    pub fn extension(&self, at: usize) -> String {
        let inner = self.inner();
        inner.ids.get(at % inner.ids.len().max(1)).copied().unwrap_or_default().to_string()
    }

    pub fn deliver(&self, payload: Vec<u8>) {
        let mut inner = self.inner();
        let id = format!("id-{}", inner.given_out.len() + inner.waiting.len());
        inner.waiting.push_back(Arc::new(Event {
            request_id: RequestId::new(id.as_str()),
            deadline_ms: 1,
            invoked_arn: "arn".to_owned(),
            trace: None,
            client_context: Some(String::from_utf8_lossy(&payload).into_owned()),
            content_type: None,
            // So that no client takes it for a head.
            payload: [b"{", &payload[..]].concat().into(),
        }));
        inner.go_on();
    }

    pub async fn read(&self) {
        let body = self.inner().stream.as_mut().and_then(|(_, body)| body.take());
        if let Some(mut body) = body {
            poll_fn(|cx| {
                let _ = body.as_mut().poll_next(cx);
                Poll::Ready(())
            })
            .await;
            if let Some((_, place)) = &mut self.inner().stream {
                *place = Some(body);
            }
        }
    }

    pub fn leave(&self) {
        if let Some((_, body)) = &mut self.inner().stream {
            *body = None;
        }
    }

    pub fn invoke(&self) {
        let mut inner = self.inner();
        if inner.extensions.are_ready() {
            let event = event_of(&inner);
            let released = inner.extensions.invoke();
            inner.tell(released, &Notice::Invoke(event));
        }
    }

    pub fn shut_down(&self) {
        let mut inner = self.inner();
        let notice = Notice::Shutdown { deadline_ms: 1, reason: ShutdownReason::Spindown };
        let released = inner.extensions.shut_down(&notice);
        inner.tell(released, &notice);
    }

    /// As when an environment is reset: nobody is told anything more.
    pub fn end(&self) {
        let mut inner = self.inner();
        inner.ended = true;
        inner.parked = None;
        inner.listening.clear();
        inner.stream = None;
    }
}

fn event_of(inner: &Inner) -> Arc<Event> {
    let id = inner.given_out.last().map_or("none", String::as_str);
    Arc::new(Event {
        request_id: RequestId::new(id),
        deadline_ms: 1,
        invoked_arn: "arn".to_owned(),
        trace: None,
        client_context: None,
        content_type: None,
        payload: Bytes::new(),
    })
}

impl Inner {
    /// Gives an event to a runtime that waits.
    fn go_on(&mut self) {
        if !self.protocol.waits() || self.waiting.is_empty() {
            return;
        }
        let (Some(parked), Some(event)) = (self.parked.take(), self.waiting.pop_front()) else { return };
        self.protocol.deliver(event.clone()).expect("it waits");
        self.given_out.push(event.request_id.as_str().to_owned());
        // Who is gone asks again.
        let _ = parked.send(event);
    }

    fn tell(&mut self, released: Vec<usize>, notice: &Notice) {
        for at in released {
            let listening = self.listening.remove(&at).expect("it has asked");
            if let Err(notice) = listening.send(notice.clone()) {
                self.extensions.missed(at, notice);
            }
        }
    }

    fn answered(&mut self, id: &str) {
        assert!(self.given_out.iter().any(|given| given == id), "an answer to nothing");
        assert!(self.answered.insert(id.to_owned()), "{id} is answered twice");
    }

    fn lives(&self) -> Result<(), Refusal> {
        if self.ended { Err(Refusal::Ended) } else { Ok(()) }
    }
}

impl Runtime for Environment {
    fn next(&self) -> Result<Next, Refusal> {
        let mut inner = self.inner();
        inner.lives()?;
        if let Asked::Repeat(event) = inner.protocol.ask()? {
            return Ok(Next::Again(event));
        }
        let (parked, later) = oneshot::channel();
        inner.extensions.close();
        inner.parked = Some(parked);
        inner.go_on();
        Ok(Next::Later(later))
    }

    fn respond(&self, id: &str, _: &str) -> Result<Option<StreamWriter>, Refusal> {
        let mut inner = self.inner();
        inner.lives()?;
        inner.protocol.may_answer(id, RESPONSE)?;
        if !inner.streams {
            return Ok(None);
        }
        inner.protocol.begin(id, RESPONSE)?;
        let (writer, end, body) = stream();
        inner.stream = Some((end, Some(body)));
        Ok(Some(writer))
    }

    fn streamed(&self, id: &str, streamed: Streamed) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.lives()?;
        inner.protocol.end(id)?;
        inner.answered(id);
        if let Some((end, _)) = inner.stream.take() {
            end.end(streamed.error.map_or(Ok(()), |(error, _)| Err(error)));
        }
        Ok(())
    }

    fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal> {
        let inner = self.inner();
        inner.lives()?;
        inner.protocol.may_answer(id, to)
    }

    fn answer(&self, id: &str, to: &'static str, _: Answer) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.lives()?;
        inner.protocol.answer(id, to)?;
        inner.answered(id);
        Ok(())
    }

    fn init_error(&self, _: Answer) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.lives()?;
        inner.protocol.init_error()?;
        assert!(inner.given_out.is_empty(), "init fails after an event");
        Ok(())
    }

    fn register(&self, name: &str, events: &[String]) -> Result<Welcome, Refused> {
        let mut inner = self.inner();
        let id = Uuid::from_u128(inner.ids.len() as u128 + 1);
        inner.extensions.register(name, events, id)?;
        inner.ids.push(id);
        let [function_name, function_version, handler, account_id] = ["f", "7", "m.h", "123"].map(str::to_owned);
        Ok(Welcome { id, function_name, function_version, handler, account_id })
    }

    fn next_notice(&self, extension: Uuid) -> Result<NextNotice, Refused> {
        let Inner { extensions, listening, ended, .. } = &mut *self.inner();
        if *ended {
            return Err(Refused::Ended);
        }
        let connected = |at| listening.get(&at).is_some_and(|listening| !listening.is_closed());
        let (at, wants) = extensions.ask(extension, connected)?;
        if let Wants::Missed(notice) = wants {
            return Ok(NextNotice::Now(notice));
        }
        let (sender, later) = oneshot::channel();
        listening.insert(at, sender);
        Ok(NextNotice::Later(later))
    }

    fn extension_error(&self, extension: Uuid, failing: Failing, error_type: &str) -> Result<(), Refused> {
        self.inner().extensions.fail(extension, failing, error_type).map(drop)
    }

    fn subscribe(&self, extension: Uuid, _: Subscription) -> Result<(), Unsubscribed> {
        self.inner().extensions.name(extension).map(drop).map_err(Unsubscribed::Refused)
    }
}
