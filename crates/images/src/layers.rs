//! Several layers as one tree: each laid over those before it, as if unpacked into one folder. Nothing is written through a
//! link, and files are the same files as in the layers' own trees where the file system allows it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hearth_model::CodeHash;
use sha2::{Digest, Sha256};

/// The name of the tree of these layers in this order.
pub fn name(layers: &[CodeHash]) -> String {
    let mut digest = Sha256::new();
    layers.iter().for_each(|layer| digest.update(layer.0));
    format!("layers-{}", CodeHash(digest.finalize().into()).to_hex())
}

/// Lays trees one over another in an empty folder.
pub fn merge(layers: &[PathBuf], folder: &Path) -> io::Result<()> {
    layers.iter().try_for_each(|layer| lay(layer, folder, &|_, _| Ok(None)))
}

/// Where a folder is to be laid that meets a link: its path, and the folder that is laid. `None`: in the link's place.
pub type Through<'a> = dyn Fn(&Path, &Path) -> io::Result<Option<PathBuf>> + 'a;

/// Most folders below one another, with those that the cache lies in: each is a step of recursion, here and where a tree
/// is removed.
const DEPTH_MAX: usize = 300;

/// Lays one tree over another.
pub fn lay(from: &Path, to: &Path, through: &Through<'_>) -> io::Result<()> {
    if to.components().count() > DEPTH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its folders lie too deep in one another"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, source, target) = (entry.file_type()?, entry.path(), to.join(entry.file_name()));
        let beneath = match fs::symlink_metadata(&target) {
            Ok(found) => Some(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if kind.is_dir() {
            let mut place = target;
            match beneath {
                Some(found) if found.is_dir() => {}
                Some(found) => match through(&place, &source)?.filter(|_| found.is_symlink()) {
                    Some(behind) => place = behind,
                    None => {
                        fs::remove_file(&place)?;
                        fs::create_dir(&place)?;
                    }
                },
                None => fs::create_dir(&place)?,
            }
            lay(&source, &place, through)?;
            continue;
        }
        match beneath {
            Some(found) if found.is_dir() => fs::remove_dir_all(&target)?,
            Some(_) => fs::remove_file(&target)?,
            None => {}
        }
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::hard_link(&source, &target).or_else(|_| copy(&source, &target))?;
        }
    }
    File::open(to)?.set_modified(fs::metadata(from)?.modified()?)
}

/// With its time, which `fs::copy` leaves out.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    fs::copy(source, target)?;
    File::open(target)?.set_modified(fs::metadata(source)?.modified()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Paths and contents; a link's content is where it leads.
    type Files = BTreeMap<String, String>;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        folder
    }

    fn read(folder: &Path, below: &str, files: &mut Files) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                read(&entry.path(), &format!("{path}/"), files);
            } else if kind.is_symlink() {
                files.insert(path, format!("-> {}", fs::read_link(entry.path()).unwrap().display()));
            } else {
                files.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }

    fn merged(layers: &[&[(&str, &str)]]) -> Files {
        let trees: Vec<_> = layers.iter().map(|files| tree(files)).collect();
        let paths: Vec<PathBuf> = trees.iter().map(|tree| tree.path().to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        merge(&paths, folder.path()).unwrap();
        let mut files = Files::new();
        read(folder.path(), "", &mut files);
        files
    }

    #[test]
    fn later_layers_lie_over_earlier_ones() {
        let files = merged(&[&[("bin/a", "1"), ("lib/x", "1")], &[("bin/a", "2"), ("bin/b", "2")]]);
        let expected = [("bin/a", "2"), ("bin/b", "2"), ("lib/x", "1")];
        assert_eq!(files, expected.map(|(path, content)| (path.to_owned(), content.to_owned())).into());
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let outside = tree(&[("victim", "whole")]);
        let target = format!("-> {}", outside.path().display());
        let files = merged(&[&[("d", target.as_str()), ("f", "-> /etc/passwd")], &[("d/victim", "gone"), ("f", "x")]]);
        assert_eq!((files["d/victim"].as_str(), files["f"].as_str()), ("gone", "x"));
        assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "whole");
    }

    #[test]
    fn files_and_folders_take_each_others_place() {
        assert_eq!(merged(&[&[("x/y/z", "1")], &[("x", "2")]]), Files::from([("x".to_owned(), "2".to_owned())]));
        assert_eq!(merged(&[&[("x", "1")], &[("x/y", "2")]]), Files::from([("x/y".to_owned(), "2".to_owned())]));
    }

    #[test]
    fn the_order_names_the_tree() {
        let (a, b) = (CodeHash([1; 32]), CodeHash([2; 32]));
        assert_ne!(name(&[a, b]), name(&[b, a]));
        assert_eq!(name(&[a, b]), name(&[a, b]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn merging_is_what_unpacking_in_order_is(layers in prop::collection::vec(prop::collection::btree_map("[ab](/[ab]){0,2}", "[0-9]", 0..5), 1..4)) {
            // A layer in which a file lies below a file cannot be.
            let whole = |files: &Files| !files.keys().any(|path| files.keys().any(|other| other.starts_with(&format!("{path}/"))));
            prop_assume!(layers.iter().all(whole));
            let mut model = Files::new();
            for layer in &layers {
                for (path, content) in layer {
                    model.retain(|old, _| old != path && !old.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{old}/")));
                    model.insert(path.clone(), content.clone());
                }
            }
            let borrowed: Vec<Vec<(&str, &str)>> =
                layers.iter().map(|layer| layer.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect()).collect();
            let slices: Vec<&[(&str, &str)]> = borrowed.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(merged(&slices), model);
        }
    }
}
