//! The API of Amazon EventBridge Scheduler: the shapes, constraints and errors of every operation, and one trait an
//! operation group.
//!
//! Everything in `generated` is made by `cargo xtask codegen`. Knows nothing of Hearth.

mod generated {
    pub mod api;
    pub mod errors;
    pub mod operations;
    pub mod shapes;
    pub mod types;
}
mod route;

pub use generated::api::*;
pub use generated::errors;
pub use generated::operations::{Info, OPERATIONS, Operation};
pub use generated::types;
pub use route::route;
