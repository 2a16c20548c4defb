//! The Extensions API's protocol for the processes of one generation, without HTTP (spec 4.5).
//!
//! ```text
//!   Started ──register──► Registered ──next──► Ready ◄──next── Running
//!                             │                  └──invoke, shutdown──► │
//!                             └──init error──► InitError     exit error └──► ExitError
//! ```
//!
//! External extensions are known before they speak: they are programs of `/opt/extensions`, and named like them. Others
//! are internal: the runtime's own process registers them, until it asks for its first event.

use std::sync::Arc;

use uuid::Uuid;

use crate::protocol::Event;

/// Of one environment, internal and external (spec 3.1).
pub const EXTENSIONS_MAX: usize = 10;
/// Bytes of a name or an error type that are kept.
const TEXT_MAX: usize = 255;

/// What an extension wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub invoke: bool,
    pub shutdown: bool,
}

impl Events {
    /// As they were asked for. The first one that an extension of this kind cannot have, with AWS's words for it.
    fn of(asked: &[String], external: bool) -> Result<Self, (String, &'static str)> {
        let mut events = Events::default();
        for event in asked {
            match event.as_str() {
                "INVOKE" => events.invoke = true,
                "SHUTDOWN" if external => events.shutdown = true,
                "SHUTDOWN" => return Err((event.clone(), "ShutdownEventNotSupportedForInternalExtension")),
                _ => return Err((event.clone(), "ErrorInvalidEventType")),
            }
        }
        Ok(events)
    }

    pub fn names(self) -> Vec<&'static str> {
        [(self.invoke, "INVOKE"), (self.shutdown, "SHUTDOWN")].iter().filter(|e| e.0).map(|e| e.1).collect()
    }
}

/// Why an environment's processes are ended (spec 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    Spindown,
    Timeout,
    Failure,
}

impl ShutdownReason {
    pub fn as_str(self) -> &'static str {
        match self {
            ShutdownReason::Spindown => "spindown",
            ShutdownReason::Timeout => "timeout",
            ShutdownReason::Failure => "failure",
        }
    }
}

/// What an extension is told.
#[derive(Clone, Debug)]
pub enum Notice {
    Invoke(Arc<Event>),
    Shutdown {
        /// Milliseconds since the epoch.
        deadline_ms: u64,
        reason: ShutdownReason,
    },
}

/// Why a call is refused, with what the extension is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    InvalidEventType {
        event: String,
        why: &'static str,
    },
    /// States as AWS names them; `who` is the extension's name or its id.
    InvalidTransition {
        from: &'static str,
        to: &'static str,
        who: String,
    },
    NameTaken,
    RegistrationClosed,
    TooMany,
    Unknown(Uuid),
    /// The process that called belongs to a generation that was ended.
    Ended,
}

/// Which error an extension posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    Init,
    Exit,
}

/// A registration that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// It was the last of the external extensions: the runtime may start.
    pub last: bool,
}

/// What a call for the next event means.
#[derive(Debug)]
pub enum Wants {
    /// It has finished what it did before, and waits now.
    Waits,
    /// It has asked before, and the connection on which it did is gone: this call gets the event.
    Again,
    /// It was told something that never reached it.
    Missed(Notice),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
    Exited,
    LaunchError,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Started => "Started",
            State::Registered => "Registered",
            State::Ready => "Ready",
            State::Running => "Running",
            State::InitError => "InitError",
            State::ExitError => "ExitError",
            State::Exited => "Exited",
            State::LaunchError => "LaunchError",
        }
    }
}

#[derive(Debug)]
struct Extension {
    name: String,
    /// From its registration on.
    id: Option<Uuid>,
    external: bool,
    state: State,
    events: Events,
    error_type: Option<String>,
    /// What it was told on a connection that was gone.
    missed: Option<Notice>,
}

/// How an extension stands, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub name: String,
    pub state: &'static str,
    pub events: Vec<&'static str>,
    pub error_type: Option<String>,
}

/// See the module. Extensions are named by their place in it, external ones first.
#[derive(Debug, Default)]
pub struct Extensions {
    all: Vec<Extension>,
    closed: bool,
}

impl Extensions {
    /// With these external extensions, which have been or will be started.
    pub fn new(external: &[String]) -> Self {
        let all = external.iter().map(|name| Extension::new(name, true)).collect();
        Extensions { all, closed: false }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn has_external(&self) -> bool {
        self.all.iter().any(|one| one.external)
    }

    /// Takes a registration; `id` is new.
    pub fn register(&mut self, name: &str, asked: &[String], id: Uuid) -> Result<Registered, Refused> {
        let name = &cut(name);
        let known = self.all.iter_mut().find(|one| one.name == *name);
        let external = known.as_ref().is_some_and(|one| one.external);
        let events = Events::of(asked, external).map_err(|(event, why)| Refused::InvalidEventType { event, why })?;
        if let Some(one) = known {
            if !one.external {
                return Err(if self.closed { Refused::RegistrationClosed } else { Refused::NameTaken });
            }
            if one.state != State::Started {
                let (from, to) = (one.state.name(), State::Registered.name());
                return Err(Refused::InvalidTransition { from, to, who: name.to_owned() });
            }
            (one.state, one.events, one.id) = (State::Registered, events, Some(id));
            return Ok(Registered { last: !self.all.iter().any(|one| one.external && one.state == State::Started) });
        }
        if self.closed {
            return Err(Refused::RegistrationClosed);
        }
        if self.all.len() >= EXTENSIONS_MAX {
            return Err(Refused::TooMany);
        }
        let fresh = Extension::new(name, false);
        self.all.push(Extension { id: Some(id), events, state: State::Registered, ..fresh });
        Ok(Registered { last: false })
    }

    /// The runtime is ready: no more register.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// A call for the next event. `connected`: the connection on which this extension asked before is still there.
    pub fn ask(&mut self, id: Uuid, connected: impl FnOnce(usize) -> bool) -> Result<(usize, Wants), Refused> {
        let at = self.find(id)?;
        let one = &mut self.all[at];
        match one.state {
            State::Running if one.missed.is_some() => match one.missed.take() {
                Some(notice) => Ok((at, Wants::Missed(notice))),
                None => Ok((at, Wants::Waits)),
            },
            State::Registered | State::Running => {
                one.state = State::Ready;
                Ok((at, Wants::Waits))
            }
            State::Ready if !connected(at) => Ok((at, Wants::Again)),
            state => {
                Err(Refused::InvalidTransition { from: state.name(), to: State::Ready.name(), who: id.to_string() })
            }
        }
    }

    /// An extension says that it failed. The first one to say so in a state in which it may is heard (`true`); it says it
    /// again in vain.
    pub fn fail(&mut self, id: Uuid, failing: Failing, error_type: &str) -> Result<bool, Refused> {
        let at = self.find(id)?;
        let one = &mut self.all[at];
        let (to, said) = match failing {
            Failing::Init => (State::InitError, State::InitError.name()),
            Failing::Exit => (State::ExitError, State::Exited.name()),
        };
        let may = match failing {
            Failing::Init => matches!(one.state, State::Registered),
            Failing::Exit => matches!(one.state, State::Registered | State::Ready | State::Running),
        };
        if one.state == to {
            return Ok(false);
        }
        if !may {
            return Err(Refused::InvalidTransition { from: one.state.name(), to: said, who: id.to_string() });
        }
        one.state = to;
        one.error_type = Some(cut(error_type));
        Ok(true)
    }

    /// The name of the extension with this id.
    pub fn name(&self, id: Uuid) -> Result<&str, Refused> {
        self.find(id).map(|at| self.all[at].name.as_str())
    }

    /// Nobody is waited for: every extension has asked for its next event.
    pub fn are_ready(&self) -> bool {
        self.all.iter().all(|one| one.state == State::Ready)
    }

    /// Releases those that want to be told of invocations. Only when [`Extensions::are_ready`].
    pub fn invoke(&mut self) -> Vec<usize> {
        self.release(|one| one.events.invoke)
    }

    /// Releases the external ones that want to be told of the end and wait for something. Those that are busy are told
    /// when they ask next.
    pub fn shut_down(&mut self, notice: &Notice) -> Vec<usize> {
        for one in self.all.iter_mut().filter(|one| one.external && one.events.shutdown) {
            if matches!(one.state, State::Registered | State::Running) {
                (one.state, one.missed) = (State::Running, Some(notice.clone()));
            }
        }
        self.release(|one| one.external && one.events.shutdown)
    }

    /// Whether an external extension, by its place, is one that ends by itself when it is told of the end.
    pub fn ends_itself(&self, at: usize) -> bool {
        self.all.get(at).is_some_and(|one| {
            one.events.shutdown && matches!(one.state, State::Registered | State::Ready | State::Running)
        })
    }

    /// What was to be told did not reach it: it is told when it asks again.
    pub fn missed(&mut self, at: usize, notice: Notice) {
        if let Some(one) = self.all.get_mut(at) {
            one.missed = Some(notice);
        }
    }

    /// An external extension's process could not be started.
    pub fn not_launched(&mut self, at: usize, error_type: &str) {
        self.leave(at, State::LaunchError, error_type);
    }

    /// An external extension's process has ended.
    pub fn exited(&mut self, at: usize, error_type: &str) {
        self.leave(at, State::Exited, error_type);
    }

    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.all.iter().map(|one| Standing {
            name: one.name.clone(),
            state: one.state.name(),
            events: one.events.names(),
            error_type: one.error_type.clone(),
        })
    }

    fn find(&self, id: Uuid) -> Result<usize, Refused> {
        self.all.iter().position(|one| one.id == Some(id)).ok_or(Refused::Unknown(id))
    }

    fn release(&mut self, which: impl Fn(&Extension) -> bool) -> Vec<usize> {
        let waiting = self.all.iter_mut().enumerate().filter(|(_, one)| one.state == State::Ready && which(one));
        waiting.map(|(at, one)| (one.state = State::Running, at).1).collect()
    }

    fn leave(&mut self, at: usize, state: State, error_type: &str) {
        let Some(one) = self.all.get_mut(at) else { return };
        if !matches!(one.state, State::InitError | State::ExitError) {
            one.state = state;
            one.error_type = Some(cut(error_type));
        }
    }
}

impl Extension {
    fn new(name: &str, external: bool) -> Self {
        let (events, state) = (Events::default(), State::Started);
        Extension { name: cut(name), id: None, external, state, events, error_type: None, missed: None }
    }
}

fn cut(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_MAX)).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests;
