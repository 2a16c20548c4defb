//! Turns foreign bytes into read-only trees: packages into code trees, interpreters into runtime trees.
//!
//! - `oci`: container images, from registries and folders; `added`: runtimes made of them
//! - `package`: checks and unpacks zips, which are hostile; `unpacker`: the process of its own in which it does
//! - `layers`: several packages merged into one tree
//! - `trees`: the trees in the cache folder, and who uses them
//! - `host`, `fetch`: interpreters, from where they are
//! - `python`, `node`, `sdk`: what a runtime adds to a root
//! - `skeleton`, `programs`: the made part of a root
//! - `runtimes`: what can run here
//!
//! Everything in the cache folder can be made again from the blobs, the host and the registries; it is safe to delete
//! when no Hearth runs.

mod added;
mod copy;
mod fetch;
mod host;
mod images;
mod layers;
mod node;
mod oci;
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
pub use images::{Config, Images, OpenError, Ports};
pub use oci::Progress;
pub use runtimes::{InstalledRuntime, RuntimeError, Source};
pub use unpacker::main_if_asked;
