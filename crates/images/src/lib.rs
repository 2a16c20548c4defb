//! Turns foreign bytes into read-only trees: packages into code trees, interpreters into runtime trees.
//!
//! - `package`: checks and unpacks zips, which are hostile
//! - `code`: the unpacked trees in the cache folder, and who uses them
//! - `runtimes`: what can run here, and from where
//! - `skeleton`: the made part of a root
//!
//! Everything in the cache folder can be made again from the blobs and the host; it is safe to delete when no Hearth
//! runs.

mod code;
mod images;
mod package;
mod runtimes;
mod skeleton;

pub use images::{Config, Images};
pub use runtimes::{InstalledRuntime, Source};
