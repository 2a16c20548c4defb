//! Copies of directory trees.

use std::fs;
use std::io;
use std::path::Path;

/// Copies files and folders, and what links lead to; leaves out what bears one of the unwanted names, and links to
/// nowhere.
pub fn copy_tree(from: &Path, to: &Path, unwanted: &[&str]) -> io::Result<()> {
    walk(from, to, unwanted, &mut |from, to| fs::copy(from, to).map(drop))
}

/// As [`copy_tree`], but files are the same files where the file system allows it. They must never be written to.
pub fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    walk(from, to, &[], &mut |from, to| fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)))
}

fn walk(
    from: &Path,
    to: &Path,
    unwanted: &[&str],
    file: &mut dyn FnMut(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| unwanted.contains(&name)) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(&path, &to.join(&name), unwanted, file)?;
        } else if path.exists() {
            file(&path, &to.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwanted_names_and_dangling_links_stay_behind() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("a/test")).unwrap();
        fs::write(from.path().join("a/f"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", from.path().join("a/link")).unwrap();
        copy_tree(from.path(), &to.path().join("copy"), &["test"]).unwrap();
        let names: Vec<_> = fs::read_dir(to.path().join("copy/a")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["f"]);
    }
}
