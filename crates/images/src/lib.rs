//! Turns foreign bytes into read-only trees: packages into code trees, interpreters into runtime trees.
//!
//! - `oci`: container images, from registries and folders; `debian`: distribution packages; `added`: runtimes made of
//!   either
//! - `web`, `intake`, `gather`, `progress`, `fault`: how what is elsewhere comes here
//! - `package`: checks and unpacks zips, which are hostile; `unpacker`: the process of its own in which it does
//! - `layers`: several packages merged into one tree
//! - `trees`: the trees in the cache folder, and who uses them
//! - `host`, `fetch`: interpreters, from where they are
//! - `python`, `node`, `java`, `sdk`: what a runtime adds to a root
//! - `skeleton`, `programs`: the made part of a root
//! - `runtimes`: what can run here
//!
//! Everything in the cache folder can be made again from the blobs, the host and the registries; it is safe to delete
//! when no Hearth runs.

mod added;
mod copy;
mod debian;
mod fault;
mod fetch;
mod gather;
mod host;
mod images;
mod intake;
mod java;
mod layers;
mod node;
mod oci;
mod package;
mod programs;
mod progress;
mod python;
mod ruby;
mod run;
mod runtimes;
mod sdk;
mod skeleton;
mod trees;
mod unpacker;
mod web;

pub use debian::{Mirror, Settings as DebianSettings};
pub use fault::Fault;
pub use host::Closed;
pub use images::{Config, Images, OpenError, Ports};
pub use progress::Progress;
pub use runtimes::{InstalledRuntime, RuntimeError, Source};
pub use unpacker::main_if_asked;

/// What the unpacker's process does with its input.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::oci::layer::{unpack as unpack_layer, unpack_package};
    pub use crate::package::{check, unpack};
}
