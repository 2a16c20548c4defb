//! The API of the AWS Security Token Service, as far as roles and sessions go: shapes, constraints and errors,
//! and one trait an operation group. All other operations are known by name, to be refused.
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
pub use generated::operations::{Info, OPERATIONS, Operation, REFUSED, VERSION};
pub use generated::types;
