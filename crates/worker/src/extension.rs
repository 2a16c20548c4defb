//! External extensions as a layer brings them: which there are, and what their processes find.

use std::io;

use hearth_model::CodeTree;

use crate::make::Made;

/// Where they are, inside.
pub(crate) const EXTENSIONS: &str = "/opt/extensions";

/// Variables of the runtime alone (spec 3.2).
const RUNTIME_ONLY: [&str; 6] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// Names of the files in `extensions` of this tree, in order. Foreign files: no link is followed.
pub(crate) async fn list(opt: &CodeTree) -> io::Result<Vec<String>> {
    let folder = opt.path.join("extensions");
    let lease = opt.lease.clone();
    let listing = tokio::task::spawn_blocking(move || {
        let _lease = lease;
        if !std::fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    });
    listing.await.map_err(io::Error::other)?
}

/// The environment of an extension's process: the runtime's without what is the runtime's alone.
pub(crate) fn variables(made: &Made) -> Vec<(String, String)> {
    let kept = made.variables.iter().filter(|(key, value)| {
        !key.starts_with('_') && !RUNTIME_ONLY.contains(&key.as_str()) && !made.entry.is_of_language(key, value)
    });
    kept.cloned().collect()
}
