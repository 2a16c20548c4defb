//! From a folder or zip on disk to a package: what it is (`infer`), what it needs (`dependencies`), its bytes (`archive`).
//!
//! Knows nothing of the server.

mod archive;
mod dependencies;
mod infer;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use archive::zip_folder;
pub use dependencies::{Target, install};
pub use infer::{Entry, Inferred, infer};

/// More than AWS takes in one request; a larger file is not read.
const ZIP_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Zip { path: PathBuf, reason: String },
    #[error("{} holds more than {limit} {unit}", path.display())]
    TooLarge { path: PathBuf, limit: u64, unit: &'static str },
    #[error("no function name can be made of {}: give one with --name", .0.display())]
    NoName(PathBuf),
    #[error("{0}")]
    Unclear(String),
    #[error("{tool} is not installed here; {source_file} needs it{advice}")]
    ToolMissing { tool: &'static str, source_file: &'static str, advice: &'static str },
    #[error("{tool} failed:\n{said}")]
    ToolFailed { tool: &'static str, said: String },
}

impl PackError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PackError {
        let path = path.to_owned();
        move |source| PackError::Io { path, source }
    }
}

/// What `hearth deploy PATH` was pointed at.
pub enum Input {
    Folder(PathBuf),
    Zip(PathBuf),
}

impl Input {
    pub fn open(path: &Path) -> Result<Self, PackError> {
        let path = path.canonicalize().map_err(PackError::io(path))?;
        let metadata = path.metadata().map_err(PackError::io(&path))?;
        Ok(if metadata.is_dir() { Input::Folder(path) } else { Input::Zip(path) })
    }

    /// The folder's or file's stem as a function name; characters that none has become `-`.
    pub fn name(&self) -> Result<String, PackError> {
        let (path, stem) = match self {
            Input::Folder(path) => (path, path.file_name()),
            Input::Zip(path) => (path, path.file_stem()),
        };
        let name: String = stem
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
            .take(64)
            .collect();
        let name = name.trim_matches('-').to_owned();
        if name.is_empty() { Err(PackError::NoName(path.clone())) } else { Ok(name) }
    }

    /// What lies in it, for [`infer`].
    pub fn entries(&self) -> Result<Vec<Entry>, PackError> {
        match self {
            Input::Folder(path) => archive::entries_of_folder(path),
            Input::Zip(path) => archive::entries_of_zip(path, open_zip(path)?),
        }
    }
}

/// The zip's bytes as they are.
pub fn read_zip(path: &Path) -> Result<Vec<u8>, PackError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    open_zip(path)?.take(ZIP_MAX).read_to_end(&mut bytes).map_err(PackError::io(path))?;
    Ok(bytes)
}

fn open_zip(path: &Path) -> Result<File, PackError> {
    let file = File::open(path).map_err(PackError::io(path))?;
    if file.metadata().map_err(PackError::io(path))?.len() > ZIP_MAX {
        return Err(PackError::TooLarge { path: path.to_owned(), limit: ZIP_MAX, unit: "bytes" });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_folders_and_file_stems() {
        assert_eq!(Input::Folder("/a/my.function v2".into()).name().unwrap(), "my-function-v2");
        assert_eq!(Input::Zip("/a/thumbs.zip".into()).name().unwrap(), "thumbs");
        assert!(Input::Folder("/".into()).name().is_err());
    }
}
