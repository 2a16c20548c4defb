use serde_json::json;

use super::{Failure, Global, output};

/// `0.1.0 (abc1234)`.
pub const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HEARTH_COMMIT"), ")");

pub fn run(global: &Global) -> Result<(), Failure> {
    if global.json {
        return output::document(&json!({"version": env!("CARGO_PKG_VERSION"), "commit": env!("HEARTH_COMMIT")}));
    }
    output::line(&format!("hearth {TEXT}"))
}
