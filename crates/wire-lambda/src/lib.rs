//! The API of AWS Lambda: the shapes, constraints and errors of every operation, and one trait an operation group.
//!
//! - `page`: pages of lists
//!
//! Everything in `generated` is made by `cargo xtask codegen`. Knows nothing of Hearth: a method that nobody implements
//! refuses by name.

mod generated {
    pub mod api;
    pub mod errors;
    pub mod operations;
    #[allow(clippy::large_const_arrays)]
    pub mod shapes;
    pub mod types;
}
pub mod page;
mod route;

use hearth_wire::Error;

pub use generated::api::*;
pub use generated::errors;
pub use generated::operations::{Info, OPERATIONS, Operation};
pub use generated::types;
pub use route::route;

/// AWS gives no text to who names a resource of another account.
pub fn other_account() -> Error {
    Error { message: None, ..Error::new(403, "AccessDeniedException", "") }
}
