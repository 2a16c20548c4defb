//! Container images without a container engine: from a registry or an OCI layout folder to a directory tree.
//!
//! ```text
//!   name ─► source (registry │ layout) ─► manifest ─► Image, pinned by digest            resolve
//!   Image ─► each layer: intake (digest) ─► unpacker's process: files, notes ─┐
//!            …                                                                ├─► stack ─► tree     pull
//!            layer trees of other images, which may be the same ones ─────────┘
//! ```
//!
//! Layers are trees of their own, by digest: images that share a layer share its files, on disk and in memory.

mod challenge;
mod credentials;
pub mod layer;
mod layout;
mod manifest;
mod name;
mod notes;
mod path;
mod pull;
mod registry;
mod source;
mod stack;
#[cfg(test)]
mod tests;

pub use pull::{pull, resolve, tree_name};
pub use registry::Registries;
pub use stack::stack;
