//! Turns foreign bytes into read-only trees: packages into code trees, interpreters into runtime trees.
//!
//! - `package`: checks and unpacks zips, which are hostile; `unpacker`: the process of its own in which it does
//! - `trees`: the trees in the cache folder, and who uses them
//! - `host`, `fetch`: interpreters, from where they are
//! - `python`, `node`, `sdk`: what a runtime adds to a root
//! - `skeleton`, `programs`: the made part of a root
//! - `runtimes`: what can run here
//!
//! Everything in the cache folder can be made again from the blobs, the host and the registries; it is safe to delete
//! when no Hearth runs.

mod copy;
mod fetch;
mod host;
mod images;
mod node;
#[doc(hidden)]
pub mod package;
mod programs;
mod python;
mod run;
mod runtimes;
mod sdk;
mod skeleton;
mod trees;
mod unpacker;

pub use host::Closed;
pub use images::{Config, Images};
pub use runtimes::{InstalledRuntime, Source};
pub use unpacker::main_if_asked;
