//! The extensions of one generation of processes: their protocol, and their connections that wait to be told something.

use std::sync::Arc;

use hearth_model::{ErrorType, PlatformRecord};
use hearth_runtime_api::{Event, Extensions, Failing, NextNotice, Notice, Refused, Wants};
use tokio::sync::oneshot;
use uuid::Uuid;

#[derive(Default)]
pub(super) struct Attached {
    pub protocol: Extensions,
    /// By extension.
    listening: Vec<Option<oneshot::Sender<Notice>>>,
    /// The first error that one of them posted: what their end is then called, and the environment's.
    pub fatal: Option<ErrorType>,
}

impl Attached {
    pub fn new(external: &[String]) -> Self {
        Attached { protocol: Extensions::new(external), ..Attached::default() }
    }

    /// A call for the next event, and whether it ends what the extension did before.
    pub fn ask(&mut self, id: Uuid) -> Result<(NextNotice, bool), Refused> {
        let Attached { protocol, listening, .. } = self;
        let connected = |at: usize| matches!(listening.get(at), Some(Some(listening)) if !listening.is_closed());
        let (at, wants) = protocol.ask(id, connected)?;
        let finished = match wants {
            Wants::Missed(notice) => return Ok((NextNotice::Now(notice), false)),
            Wants::Waits => true,
            Wants::Again => false,
        };
        let (sender, later) = oneshot::channel();
        if listening.len() <= at {
            listening.resize_with(at + 1, || None);
        }
        listening[at] = Some(sender);
        Ok((NextNotice::Later(later), finished))
    }

    pub fn fail(&mut self, id: Uuid, failing: Failing, error_type: &str) -> Result<(), Refused> {
        if self.protocol.fail(id, failing, error_type)? {
            self.fatal.get_or_insert(match failing {
                Failing::Init => ErrorType::EXTENSION_INIT,
                Failing::Exit => ErrorType::EXTENSION_EXIT,
            });
        }
        Ok(())
    }

    /// Tells those of an invocation that want to know.
    pub fn invoke(&mut self, event: &Arc<Event>) {
        for at in self.protocol.invoke() {
            self.tell(at, Notice::Invoke(event.clone()));
        }
    }

    /// Tells those of the end that want to know.
    pub fn shut_down(&mut self, notice: &Notice) {
        for at in self.protocol.shut_down(notice) {
            self.tell(at, notice.clone());
        }
    }

    /// How each stands when init is over.
    pub fn records(&self) -> impl Iterator<Item = PlatformRecord> {
        self.protocol.standings().map(|one| PlatformRecord::Extension {
            name: one.name,
            state: one.state,
            events: one.events,
            error_type: one.error_type,
        })
    }

    fn tell(&mut self, at: usize, notice: Notice) {
        let listening = self.listening.get_mut(at).and_then(Option::take);
        let missed = match listening {
            Some(listening) => listening.send(notice).err(),
            None => Some(notice),
        };
        if let Some(notice) = missed {
            self.protocol.missed(at, notice);
        }
    }
}
