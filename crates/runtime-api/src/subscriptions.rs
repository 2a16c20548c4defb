//! Who is subscribed to what the processes of one generation and the platform say (spec 4.6, 4.7), without HTTP, queue or
//! socket. Both APIs are one: an extension has one subscription, by whichever it asked last.
//!
//! ```text
//!   Nobody ──begin──► Open ──close──► Closed
//!      ▲               │ subscribe       │ those of before are sent to on
//!      └──────end──────┴─────────────────┘
//! ```
//!
//! Subscribers are named by their place, in the order in which they subscribed last.

use hearth_model::Source;
use uuid::Uuid;

use crate::extensions::{Extensions, Refused};
use crate::telemetry::Subscription;

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsubscribed {
    Refused(Refused),
    /// Init is over.
    Closed,
    /// Nothing can be sent into this environment.
    Unsupported,
}

/// A subscription that was taken. Its place is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Of the extension.
    pub name: String,
    /// The place of its subscription of before, which is no more; those behind it move up.
    pub replaces: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stand {
    /// There are no processes.
    #[default]
    Nobody,
    /// Init goes on.
    Open,
    Closed,
}

/// See the module. There are never more subscribers than extensions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    stand: Stand,
    all: Vec<(Uuid, Vec<Source>)>,
}

impl Subscriptions {
    /// Init begins, with new processes.
    pub fn begin(&mut self) {
        (self.stand, self.all) = (Stand::Open, Vec::new());
    }

    /// Init is over: nobody can subscribe any more.
    pub fn close(&mut self) {
        if self.stand == Stand::Open {
            self.stand = Stand::Closed;
        }
    }

    /// The processes are gone.
    pub fn end(&mut self) {
        (self.stand, self.all) = (Stand::Nobody, Vec::new());
    }

    /// Somebody may still subscribe.
    pub fn is_open(&self) -> bool {
        self.stand == Stand::Open
    }

    /// Whether anything that is said is of use to anybody.
    pub fn is_on(&self) -> bool {
        self.is_open() || !self.all.is_empty()
    }

    /// Takes a subscription. `reachable`: something can be sent into the environment.
    pub fn subscribe(
        &mut self,
        extensions: &Extensions,
        extension: Uuid,
        subscription: &Subscription,
        reachable: bool,
    ) -> Result<Subscribed, Unsubscribed> {
        let name = extensions.name(extension).map_err(Unsubscribed::Refused)?.to_owned();
        if !reachable {
            return Err(Unsubscribed::Unsupported);
        }
        if !self.is_open() {
            return Err(Unsubscribed::Closed);
        }
        let replaces = self.all.iter().position(|(one, _)| *one == extension);
        if let Some(before) = replaces {
            self.all.remove(before);
        }
        self.all.push((extension, subscription.sources.clone()));
        Ok(Subscribed { name, replaces })
    }

    /// Whether the subscriber at a place is to be sent what comes from a source.
    pub fn wants(&self, place: usize, source: Source) -> bool {
        self.all.get(place).is_some_and(|(_, sources)| sources.contains(&source))
    }
}

#[cfg(test)]
mod tests;
