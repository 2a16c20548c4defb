//! Development tasks: `cargo xtask codegen [--check]`, `cargo xtask layers`.

mod codegen;
mod layers;
mod model;
mod recorded;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["codegen"] => codegen::run(false),
        ["codegen", "--check"] => codegen::run(true),
        ["layers"] => layers::run(),
        _ => bail!("usage: cargo xtask codegen [--check] | layers"),
    }
}

/// The workspace's folder.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(std::path::Path::new(".")).to_owned()
}
