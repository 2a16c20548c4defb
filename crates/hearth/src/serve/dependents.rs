//! What goes with a function that is removed, of all rooms that keep something of functions. They need `control` to be
//! made, and `control` needs them: the ring is closed here.

use std::sync::OnceLock;

use hearth_control::Dependents;
use hearth_events::Events;
use hearth_model::FunctionArn;
use hearth_store::Write;

#[derive(Default)]
pub struct Kept {
    events: OnceLock<Events>,
}

impl Kept {
    /// Before the door opens.
    pub fn keep(&self, events: Events) {
        let _ = self.events.set(events);
    }
}

impl Dependents for Kept {
    fn removal(&self, arn: &FunctionArn) -> Vec<Write> {
        self.events.get().map(|events| events.removal(arn)).unwrap_or_default()
    }

    fn removed(&self, arn: &FunctionArn) {
        if let Some(events) = self.events.get() {
            events.removed(arn);
        }
    }
}
