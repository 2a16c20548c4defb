//! The API of Amazon SQS: shapes, constraints and errors, one trait an operation group, and the two protocols that its
//! clients speak.
//!
//! Everything in `generated` is made by `cargo xtask codegen`. Knows nothing of Hearth.

mod generated {
    pub mod api;
    pub mod errors;
    pub mod operations;
    pub mod shapes;
    pub mod types;
}
mod protocols;

pub use generated::api::*;
pub use generated::errors;
pub use generated::operations::{Info, OPERATIONS, Operation, REFUSED, TARGET};
pub use generated::types;
pub use protocols::{VERSION, in_json, query_code};
