//! Invariants 1 and 2: crates depend only on rows beneath them; only the edge names HTTP; only `sandbox` has `unsafe`,
//! and only its own tests take layers of confinement away.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The rows of ARCHITECTURE.md. Development crates are not in it.
const ROWS: &[(&str, u8)] = &[
    ("model", 0),
    ("patterns", 0),
    ("tls", 0),
    ("store", 1),
    ("wire", 1),
    ("policy", 1),
    ("wire-iam", 2),
    ("wire-lambda", 2),
    ("wire-logs", 2),
    ("wire-scheduler", 2),
    ("wire-sqs", 2),
    ("wire-sts", 2),
    ("observe", 2),
    ("egress", 3),
    ("identity", 3),
    ("sandbox", 3),
    ("runtime-api", 3),
    ("control", 4),
    ("logs", 4),
    ("events", 4),
    ("objects", 4),
    ("queues", 4),
    ("worker", 4),
    ("images", 4),
    ("mappings", 5),
    ("frontend", 5),
    ("placement", 5),
    ("schedules", 5),
    ("hearth", 6),
];

const MAY_NAME_HTTP: &[&str] = &["wire", "wire-lambda", "frontend", "images", "objects", "runtime-api", "hearth"];

pub fn run() -> Result<()> {
    let mut broken = Vec::new();
    for entry in fs::read_dir(crate::root().join("crates"))? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some(row) = row(&name) else {
            if name != "xtask" && name != "bench" {
                broken.push(format!("{name} is in no row: add it to layers.rs and ARCHITECTURE.md"));
            }
            continue;
        };
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml"))?.parse()?;
        let dependencies = manifest.get("dependencies").and_then(|d| d.as_table()).context("no dependencies")?;
        if name != "sandbox" && manifest.to_string().contains("weaken") {
            broken.push(format!("{name} names the feature that takes layers of confinement away"));
        }
        for dependency in dependencies.keys() {
            let other = dependency.strip_prefix("hearth-");
            if let Some(other) = other
                && self::row(other).is_none_or(|other| other >= row)
            {
                broken.push(format!("{name} (row {row}) depends on {other}, which is not beneath it"));
            }
            if matches!(dependency.as_str(), "http" | "hyper" | "hyper-util" | "axum")
                && !MAY_NAME_HTTP.contains(&&*name)
            {
                broken.push(format!("{name} names {dependency}: HTTP ends at the edge"));
            }
        }
        if name != "sandbox" {
            unsafe_free(&folder.join("src"), &mut broken)?;
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("{}", broken.join("\n")) }
}

fn row(name: &str) -> Option<u8> {
    ROWS.iter().find(|(known, _)| *known == name).map(|(_, row)| *row)
}

fn unsafe_free(folder: &Path, broken: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            unsafe_free(&path, broken)?;
        } else if fs::read_to_string(&path)?.contains("allow(unsafe_code)") {
            broken.push(format!("{} allows unsafe code: only `sandbox` may", path.display()));
        }
    }
    Ok(())
}
