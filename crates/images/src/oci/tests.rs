//! Layers unpacked and laid over one another, in this process: what a root looks like then.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hearth_model::Packing;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::layer::{Error, FILES, NOTES, unpack};
use super::notes::Notes;
use super::stack::stack;

const LIMIT: u64 = 1 << 20;

/// One entry of a tar, as it is written.
#[derive(Clone)]
struct Entry {
    path: Vec<u8>,
    kind: EntryType,
    mode: u32,
    /// Content of a file, target of a link.
    content: Vec<u8>,
}

fn entry(kind: EntryType, path: &str, content: &str) -> Entry {
    Entry { path: path.into(), kind, mode: 0o644, content: content.into() }
}

fn file(path: &str, content: &str) -> Entry {
    entry(EntryType::Regular, path, content)
}

fn folder(path: &str) -> Entry {
    entry(EntryType::Directory, path, "")
}

fn link(path: &str, target: &str) -> Entry {
    entry(EntryType::Symlink, path, target)
}

fn hard(path: &str, target: &str) -> Entry {
    entry(EntryType::Link, path, target)
}

/// Names go in as they are: the library that reads tars refuses to write some of these.
fn packed(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for Entry { path, kind, mode, content } in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        let is_file = *kind == EntryType::Regular;
        if !is_file {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content);
        }
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        header.set_cksum();
        tar.append(&header, if is_file { content.as_slice() } else { b"" }).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpacked(entries: &[Entry]) -> Result<(tempfile::TempDir, Notes), Error> {
    let folder = tempfile::tempdir().unwrap();
    unpack(&*packed(entries), Packing::Plain, File::open(folder.path()).unwrap().as_fd(), LIMIT)?;
    let (notes, _) = Notes::read(&folder.path().join(NOTES)).unwrap();
    Ok((folder, notes))
}

fn root(layers: &[&[Entry]]) -> tempfile::TempDir {
    let all: Vec<_> = layers.iter().map(|entries| unpacked(entries).unwrap()).collect();
    let root = tempfile::tempdir().unwrap();
    stack(all.iter().map(|(folder, _)| folder.path()), root.path()).unwrap();
    root
}

fn text(root: &tempfile::TempDir, path: &str) -> Option<String> {
    fs::read_to_string(root.path().join(path)).ok()
}

fn is_there(root: &tempfile::TempDir, path: &str) -> bool {
    fs::symlink_metadata(root.path().join(path)).is_ok()
}

#[test]
fn later_layers_take_away_and_replace() {
    let root = root(&[
        &[file("a/gone", "1"), file("a/kept", "1"), file("b/x", "1"), file("b/y/z", "1"), file("f", "1")],
        &[
            file("a/.wh.gone", ""),
            file("b/.wh..wh..opq", ""),
            file("b/new", "2"),
            file("f", "2"),
            file("a/.wh..wh.aufs", ""),
        ],
    ]);
    assert_eq!((text(&root, "a/kept").as_deref(), text(&root, "f").as_deref()), (Some("1"), Some("2")));
    assert_eq!(text(&root, "b/new").as_deref(), Some("2"));
    for gone in ["a/gone", "a/.wh.gone", "b/x", "b/y", "b/.wh..wh..opq", "a/.wh..wh.aufs"] {
        assert!(!is_there(&root, gone), "{gone}");
    }
}

#[test]
fn what_a_layer_takes_away_is_of_the_layers_beneath_wherever_it_says_so() {
    let root = root(&[&[file("d/old", "1")], &[file("d/x", "2"), file("d/.wh..wh..opq", ""), file("d/.wh.x", "")]]);
    assert_eq!(text(&root, "d/x").as_deref(), Some("2"));
    assert!(!is_there(&root, "d/old"));
}

#[test]
fn nothing_leads_out_of_a_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "whole").unwrap();
    let target = outside.path().to_str().unwrap();
    let up = "../../../../../../../../../..";
    let root = root(&[
        &[link("d", target), link("e", &format!("{up}{target}"))],
        &[file("d/.wh.victim", ""), file("e/.wh..wh..opq", ""), file("d/victim", "inside")],
    ]);
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "whole");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(is_there(&root, "d/victim"));
}

#[test]
fn a_folder_that_no_entry_names_stands_for_what_a_link_beneath_leads_to() {
    let usr = [folder("usr/lib"), file("usr/lib/old", "1"), link("lib", "usr/lib")];
    let implied = root(&[&usr, &[file("lib/new", "2"), file("lib/deep/er", "2")]]);
    assert_eq!(text(&implied, "usr/lib/new").as_deref(), Some("2"));
    assert_eq!(text(&implied, "usr/lib/deep/er").as_deref(), Some("2"));
    assert!(fs::symlink_metadata(implied.path().join("lib")).unwrap().is_symlink());
    let named = root(&[&usr, &[folder("lib"), file("lib/new", "2")]]);
    assert!(fs::symlink_metadata(named.path().join("lib")).unwrap().is_dir());
    assert!(!is_there(&named, "usr/lib/new"));
    let within = root(&[&[folder("usr/lib"), link("lib", "usr/lib"), file("lib/x", "1")]]);
    assert_eq!(text(&within, "usr/lib/x").as_deref(), Some("1"));
}

#[test]
fn hard_links_are_one_file_within_a_layer_and_across_layers() {
    let root = root(&[&[file("a", "1"), hard("b", "a"), link("s", "a"), hard("t", "s")], &[hard("c/d", "./a")]]);
    let inode = |path: &str| fs::symlink_metadata(root.path().join(path)).unwrap().ino();
    assert_eq!((inode("a"), inode("a")), (inode("b"), inode("c/d")));
    assert!(fs::symlink_metadata(root.path().join("t")).unwrap().is_symlink());
    let (layer, _) = unpacked(&[hard("x", "nowhere")]).unwrap();
    let nothing = tempfile::tempdir().unwrap();
    assert!(stack([layer.path()], nothing.path()).is_err());
}

#[test]
fn modes_are_for_everybody_and_raise_nothing() {
    let mut entries = vec![file("x", ""), file("setuid", ""), file("private", ""), folder("closed")];
    for (entry, mode) in entries.iter_mut().zip([0o755, 0o6755, 0o600, 0o1700]) {
        entry.mode = mode;
    }
    let root = root(&[&entries]);
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(["x", "setuid", "private", "closed"].map(mode), [0o755, 0o755, 0o644, 0o755]);
    assert_eq!(fs::metadata(root.path().join("x")).unwrap().mtime(), 1_700_000_000);
}

#[test]
fn the_later_of_two_entries_counts() {
    let root = root(&[&[
        file("a", "1"),
        file("a", "2"),
        link("b", "a"),
        file("b", "3"),
        file("c", "1"),
        folder("c"),
        folder("d"),
        folder("./d/"),
        file("d/x", "1"),
        hard("a", "a"),
    ]]);
    assert_eq!(["a", "b", "d/x"].map(|path| text(&root, path).unwrap()), ["2", "3", "1"]);
    assert!(root.path().join("c").is_dir());
    assert!(matches!(unpacked(&[folder("a"), file("a", "1")]), Err(Error::Conflict(_))));
    assert!(matches!(unpacked(&[file("a", "1"), file("a/b", "1")]), Err(Error::Conflict(_))));
}

#[test]
fn devices_are_refused_and_left_out_where_a_sandbox_has_its_own() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        assert!(matches!(unpacked(&[entry(kind, "null", "")]), Err(Error::Special(_))));
        let (layer, _) = unpacked(&[entry(kind, "dev/null", "")]).unwrap();
        assert!(!layer.path().join(FILES).join("dev/null").exists());
    }
    assert!(matches!(unpacked(&[entry(EntryType::new(b'Z'), "x", "")]), Err(Error::Special(_))));
}

#[test]
fn names_stay_inside() {
    for bad in ["../x", "a/../../x", ".wh...", "a/.wh...", "d/.wh."] {
        assert!(matches!(unpacked(&[file(bad, "")]), Err(Error::Outside(_))), "{bad}");
    }
    assert!(matches!(unpacked(&[hard("x", "../../etc/passwd")]), Err(Error::Outside(_))));
    let (layer, _) = unpacked(&[file("/etc/x", "1"), file("./y", "1")]).unwrap();
    assert!(layer.path().join(FILES).join("etc/x").exists() && layer.path().join(FILES).join("y").exists());
}

#[test]
fn sizes_are_counted_as_they_come_out() {
    let large = "x".repeat(LIMIT as usize);
    assert!(unpacked(&[file("a", &large)]).is_ok());
    assert!(matches!(unpacked(&[file("a", &large), file("b", "1")]), Err(Error::TooLarge { limit: LIMIT })));
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zipped.write_all(&packed(&[file("a", &large), file("b", "1")])).unwrap();
    let zipped = zipped.finish().unwrap();
    assert!(zipped.len() < 20_000);
    let folder = tempfile::tempdir().unwrap();
    let done = unpack(&*zipped, Packing::Gzip, File::open(folder.path()).unwrap().as_fd(), LIMIT);
    assert!(matches!(done, Err(Error::TooLarge { .. })));
}

#[test]
fn what_is_no_tar_is_damaged() {
    for (bytes, packing) in
        [(&b"nonsense"[..], Packing::Gzip), (b"nonsense", Packing::Zstd), (&[1; 4096], Packing::Plain)]
    {
        let folder = tempfile::tempdir().unwrap();
        let done = unpack(bytes, packing, File::open(folder.path()).unwrap().as_fd(), LIMIT);
        assert!(matches!(done, Err(Error::Damaged(_))), "{packing:?}");
    }
    let mut cut = packed(&[file("a", &"x".repeat(2000))]);
    cut.truncate(1500);
    let folder = tempfile::tempdir().unwrap();
    assert!(unpack(&*cut, Packing::Plain, File::open(folder.path()).unwrap().as_fd(), LIMIT).is_err());
}

#[test]
fn folders_do_not_lie_too_deep_in_one_another_by_any_way() {
    // Each link makes the next way short again.
    let way = "d/".repeat(30);
    let mut entries = vec![file(&format!("{way}x"), "1"), link("l1", &way)];
    for step in 2..8 {
        entries.push(file(&format!("l{}/{way}x", step - 1), "1"));
        entries.push(link(&format!("l{step}"), &format!("l{}/{way}", step - 1)));
    }
    assert!(unpacked(&entries[..entries.len() / 2]).is_ok());
    assert!(matches!(unpacked(&entries), Err(Error::TooDeep(_))));
    // Nor by the links of one layer and the folders of others.
    let layers: Vec<Vec<Entry>> = (0..12)
        .map(|step| {
            let below = if step == 0 { String::new() } else { format!("l{step}/") };
            vec![file(&format!("{below}{way}x"), "1"), link(&format!("l{}", step + 1), &format!("{below}{way}"))]
        })
        .collect();
    let trees: Vec<_> = layers.iter().map(|entries| unpacked(entries).unwrap()).collect();
    let root = tempfile::tempdir().unwrap();
    let stacked = stack(trees.iter().map(|(folder, _)| folder.path()), root.path());
    assert_eq!(stacked.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn every_root_has_places_to_mount_on_and_its_own_names_of_hosts() {
    let root = root(&[&[
        link("tmp", "/elsewhere"),
        file("proc", "x"),
        link("etc/hosts", "/etc/passwd"),
        file("var/task/app", "1"),
    ]]);
    for place in ["dev", "opt", "proc", "sys", "tmp", "var/task"] {
        assert!(fs::symlink_metadata(root.path().join(place)).unwrap().is_dir(), "{place}");
    }
    assert!(text(&root, "etc/hosts").unwrap().contains("localhost"));
    assert_eq!(text(&root, "var/task/app").as_deref(), Some("1"));
}

#[test]
fn layers_share_their_files_with_the_roots() {
    let (layer, _) = unpacked(&[file("a", "1")]).unwrap();
    let root = tempfile::tempdir().unwrap();
    stack([layer.path()], root.path()).unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&layer.path().join(FILES).join("a")), inode(&root.path().join("a")));
}

/// Paths and contents of a root's files, without what every root has.
fn files(folder: &Path, below: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), &path, found);
        } else {
            found.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stacking_is_what_a_model_of_maps_says(layers in prop::collection::vec(
        prop::collection::vec(("[ab](/[ab]){0,2}", prop_oneof![3 => "[0-9]".prop_map(Some), 1 => Just(None)]), 0..5), 1..4,
    )) {
        // `None` takes a path away. Within a layer each path is named once, and no file lies below a file.
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        let mut tars = Vec::new();
        for layer in &layers {
            let named: BTreeMap<&String, &Option<String>> = layer.iter().map(|(path, what)| (path, what)).collect();
            let below = |path: &str, other: &str| other.starts_with(&format!("{path}/"));
            prop_assume!(!named.keys().any(|path| named.keys().any(|other| below(path, other))));
            for (path, what) in &named {
                if what.is_none() {
                    model.retain(|old, _| old != *path && !below(path, old));
                }
            }
            let mut entries = Vec::new();
            for (path, what) in &named {
                match what {
                    Some(content) => {
                        model.retain(|old, _| old != *path && !below(path, old) && !below(old, path));
                        model.insert((*path).clone(), content.clone());
                        entries.push(file(path, content));
                    }
                    None => {
                        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                        entries.push(file(format!("{parent}/.wh.{name}").trim_start_matches('/'), ""));
                    }
                }
            }
            tars.push(entries);
        }
        let slices: Vec<&[Entry]> = tars.iter().map(Vec::as_slice).collect();
        let root = root(&slices);
        let mut found = BTreeMap::new();
        for top in ["a", "b"] {
            let path = root.path().join(top);
            if path.is_dir() {
                files(&path, Path::new(top), &mut found);
            } else if path.exists() {
                found.insert(top.into(), fs::read_to_string(path).unwrap());
            }
        }
        let model: BTreeMap<PathBuf, String> = model.into_iter().map(|(path, content)| (path.into(), content)).collect();
        prop_assert_eq!(found, model);
    }

    #[test]
    fn no_tar_makes_unpacking_panic_or_leave_its_folder(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let folder = tempfile::tempdir().unwrap();
        let _ = unpack(&*bytes, Packing::Plain, File::open(folder.path()).unwrap().as_fd(), LIMIT);
    }
}
