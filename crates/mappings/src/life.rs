//! States of a mapping (spec 6.1). Decisions only.
//!
//! ```text
//!   created ──► Creating ──┬──► Enabled ◄── Enabling ◄── told to be enabled
//!                          │       │  ▲
//!   told anything else     │       │  └── Updating (of one that is to be enabled)
//!        └──► Updating ────┤       ▼
//!                          └──► Disabled ◄── Disabling ◄── told to be disabled
//!   deleted ──► Deleting ──► gone
//! ```

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Creating,
    Enabling,
    Enabled,
    Disabling,
    Disabled,
    Updating,
    Deleting,
}

impl State {
    /// Of a new one. One that is not to be enabled has nothing to begin with (recorded).
    pub fn of_new(enabled: bool) -> Self {
        if enabled { State::Creating } else { State::Disabled }
    }

    /// What it comes to when it is told to be `enabled`, and maybe something else, too. `was`: what it was told before.
    pub fn told(was: bool, enabled: bool, something_else: bool) -> Self {
        match (was, enabled) {
            _ if something_else => State::Updating,
            (false, true) => State::Enabling,
            (true, false) => State::Disabling,
            _ => State::Updating,
        }
    }

    /// Where a transition ends; `None` of a state that stays.
    pub fn settles(self, enabled: bool) -> Option<Self> {
        match self {
            State::Creating | State::Enabling | State::Disabling | State::Updating => {
                Some(if enabled { State::Enabled } else { State::Disabled })
            }
            State::Enabled | State::Disabled | State::Deleting => None,
        }
    }

    /// Whether it takes no orders.
    pub fn is_busy(self) -> bool {
        matches!(self, State::Creating | State::Updating | State::Deleting)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            State::Creating => "Creating",
            State::Enabling => "Enabling",
            State::Enabled => "Enabled",
            State::Disabling => "Disabling",
            State::Disabled => "Disabled",
            State::Updating => "Updating",
            State::Deleting => "Deleting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transition_ends_as_was_asked_for() {
        assert_eq!(State::of_new(false), State::Disabled);
        for (was, enabled, else_too, through) in [
            (false, true, false, State::Enabling),
            (true, false, false, State::Disabling),
            (true, true, false, State::Updating),
            (true, true, true, State::Updating),
            (true, false, true, State::Updating),
        ] {
            let told = State::told(was, enabled, else_too);
            assert_eq!(told, through);
            assert_eq!(told.settles(enabled), Some(if enabled { State::Enabled } else { State::Disabled }));
        }
        let resting = [State::Enabled, State::Disabled];
        assert!(resting.iter().all(|state| state.settles(true).is_none() && !state.is_busy()));
        assert!(State::Deleting.is_busy() && State::Deleting.settles(true).is_none());
    }
}
