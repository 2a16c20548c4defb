//! How much stands between functions and the host.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Namespaces, control groups where there are some, seccomp, Landlock.
    Process,
    /// The weakest tier, for hosts where no namespace can be made: seccomp and Landlock.
    Landlock,
    /// Nothing.
    None,
}

impl Isolation {
    pub const ALL: [Isolation; 3] = [Isolation::Process, Isolation::Landlock, Isolation::None];

    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Process => "process",
            Isolation::Landlock => "landlock",
            Isolation::None => "none",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isolation| isolation.as_str() == text)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
