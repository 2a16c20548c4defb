//! The API of Amazon CloudWatch Logs, as far as groups, streams, events, queries and filters go: shapes, constraints and
//! errors, and one trait an operation group. All other operations are known by name, to be refused.
//!
//! Everything in `generated` is made by `cargo xtask codegen`. Knows nothing of Hearth.

mod generated {
    pub mod api;
    pub mod errors;
    pub mod operations;
    pub mod shapes;
    pub mod types;
}

pub use generated::api::*;
pub use generated::errors;
pub use generated::operations::{Info, OPERATIONS, Operation, REFUSED, TARGET};
pub use generated::types;
