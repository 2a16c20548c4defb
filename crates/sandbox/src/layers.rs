//! The layers of confinement, each by name, so that the escape suite can ask what would happen without one.
//!
//! In every ordinary build all of them stand and `stands` is a constant. With the feature `weaken`, which no other crate
//! enables and an optimised build refuses, a test may start a launcher without some.

#[cfg(all(feature = "weaken", not(debug_assertions)))]
compile_error!("the feature `weaken` is for tests: it takes layers of confinement away");

/// What stands between code in a sandbox and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "weaken"), allow(dead_code))]
pub enum Layer {
    /// The filter of system calls.
    Filter,
    /// A user namespace: root inside is nobody outside, and neighbours are different users.
    Users,
    /// The function is not the sandbox's root and has no capabilities.
    Privileges,
    /// No program may gain privileges: bounding set, no_new_privs.
    Gaining,
    /// A root of its own instead of the host's.
    Root,
    /// Mounts are read-only, without set-user-id programs and devices.
    Seal,
    /// `/proc` shows own processes, is read-only, and much of it is covered.
    Proc,
    Pids,
    Network,
    Ipc,
    /// Nothing is inherited but the three standard streams.
    Descriptors,
    /// Landlock.
    Walls,
    /// No core files, and no crash handler of the host.
    Core,
}

#[cfg(not(feature = "weaken"))]
pub const fn stands(_: Layer) -> bool {
    true
}

#[cfg(feature = "weaken")]
pub use weaken::stands;

#[cfg(feature = "weaken")]
pub mod weaken {
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::Layer;

    const VARIABLE: &str = "HEARTH_TEST_WITHOUT";
    static WITHOUT: Mutex<String> = Mutex::new(String::new());

    /// Launchers that are started from now on do without these.
    pub fn without(layers: &[Layer]) {
        let names: Vec<String> = layers.iter().map(|layer| format!("{layer:?}")).collect();
        *WITHOUT.lock().unwrap_or_else(PoisonError::into_inner) = names.join(",");
    }

    pub fn tell(command: &mut std::process::Command) {
        command.env(VARIABLE, &*WITHOUT.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// In a launcher and what it forks.
    pub fn stands(layer: Layer) -> bool {
        static HERE: OnceLock<String> = OnceLock::new();
        let here = HERE.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default());
        !here.split(',').any(|name| name == format!("{layer:?}"))
    }

    pub use crate::sys::weaken::{own_network, terminal};
}
