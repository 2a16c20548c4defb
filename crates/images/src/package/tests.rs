use std::fs::{self, File};
use std::io::Cursor;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipWriter};

use super::*;

type Writer = ZipWriter<Cursor<Vec<u8>>>;

const OPTIONS: SimpleFileOptions = SimpleFileOptions::DEFAULT;

fn zip(build: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn add(writer: &mut Writer, name: &str, content: &[u8], options: SimpleFileOptions) {
    writer.start_file(name, options).unwrap();
    writer.write_all(content).unwrap();
}

/// A zip of files, whose names must differ.
fn files(names: &[&str]) -> Vec<u8> {
    zip(|w| names.iter().for_each(|name| add(w, name, b"x", OPTIONS)))
}

/// The same bytes under another name of the same length, in both places where a zip has it.
fn rename(zip: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut renamed = zip.to_vec();
    for at in 0..=zip.len() - from.len() {
        if zip[at..].starts_with(from.as_bytes()) {
            renamed[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
    }
    renamed
}

/// Sets a field of the only central header, by its offset there.
fn patch_central(zip: &mut [u8], offset: usize, value: &[u8]) {
    let header = zip.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    zip[header + offset..header + offset + value.len()].copy_from_slice(value);
}

fn unpack_into(zip: &[u8], folder: &Path, limit: u64) -> Result<u64, Error> {
    unpack(Cursor::new(zip), File::open(folder).unwrap().as_fd(), limit)
}

/// Both ways must agree; what is refused must be refused before it is kept.
fn refused(zip: Vec<u8>) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let checked = check(Cursor::new(&zip), 1 << 20).unwrap_err();
    let unpacked = unpack_into(&zip, folder.path(), 1 << 20).unwrap_err();
    assert_eq!(std::mem::discriminant(&checked), std::mem::discriminant(&unpacked), "{checked} and {unpacked}");
    checked
}

fn unpacked(zip: Vec<u8>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let checked = check(Cursor::new(&zip), 1 << 20).unwrap();
    assert_eq!(unpack_into(&zip, folder.path(), 1 << 20).unwrap(), checked);
    folder
}

fn mode_of(folder: &tempfile::TempDir, path: &str) -> u32 {
    fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_are_readable_for_all_and_executable_as_packed() {
    let folder = unpacked(zip(|w| {
        add(w, "private.py", b"x", OPTIONS.unix_permissions(0o600));
        add(w, "a/b/bootstrap", b"x", OPTIONS.unix_permissions(0o700));
        add(w, "setuid", b"x", OPTIONS.unix_permissions(0o4755));
        add(w, "nothing", b"x", OPTIONS.unix_permissions(0));
    }));
    assert_eq!(mode_of(&folder, "private.py"), 0o644);
    assert_eq!(mode_of(&folder, "a/b/bootstrap"), 0o755);
    assert_eq!(mode_of(&folder, "setuid"), 0o755);
    assert_eq!(mode_of(&folder, "nothing"), 0o644);
    assert_eq!(mode_of(&folder, "a/b"), 0o755);
}

#[test]
fn files_packed_on_windows_are_not_executable() {
    let mut package = zip(|w| add(w, "bootstrap", b"x", OPTIONS.unix_permissions(0o755)));
    patch_central(&mut package, 5, &[0]);
    assert_eq!(mode_of(&unpacked(package), "bootstrap"), 0o644);
}

#[test]
fn times_are_those_of_the_package() {
    let time = DateTime::from_date_and_time(2024, 2, 29, 12, 30, 58).unwrap();
    let folder = unpacked(zip(|w| add(w, "a/f", b"x", OPTIONS.last_modified_time(time))));
    assert_eq!(fs::metadata(folder.path().join("a/f")).unwrap().mtime(), 1_709_209_858);
    assert_eq!(fs::metadata(folder.path().join("a")).unwrap().mtime(), 315_532_800);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../x", "a/../../x", "a/b/..", "/etc/x", "..\\x", "\\x", "C:/../../x", "a\0b"] {
        let plain = "n".repeat(name.len());
        let package = rename(&files(&[&plain]), &plain, name);
        assert!(matches!(refused(package), Error::Outside(_) | Error::Zip(_)), "{name:?}");
    }
}

#[test]
fn names_that_the_file_system_cannot_hold_are_refused() {
    assert!(matches!(refused(files(&[&"n".repeat(256)])), Error::Outside(_)));
    assert!(matches!(refused(files(&["n/".repeat(2100).as_str()])), Error::Outside(_)));
}

#[test]
fn names_of_windows_make_folders() {
    let folder = unpacked(files(&["a\\b\\c.py"]));
    assert!(folder.path().join("a/b/c.py").is_file());
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let package = zip(|w| {
        w.add_symlink("link", outside.path().to_str().unwrap(), OPTIONS).unwrap();
        add(w, "link/x", b"x", OPTIONS);
    });
    assert!(matches!(refused(package), Error::Conflict(_)));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn links_lead_where_they_say() {
    let folder = unpacked(zip(|w| {
        w.add_symlink("lib.so", "/opt/lib/lib.so.1", OPTIONS).unwrap();
        w.add_symlink("up", "../../etc/passwd", OPTIONS).unwrap();
    }));
    assert_eq!(fs::read_link(folder.path().join("lib.so")).unwrap(), Path::new("/opt/lib/lib.so.1"));
    assert_eq!(fs::read_link(folder.path().join("up")).unwrap(), Path::new("../../etc/passwd"));
}

#[test]
fn links_to_nothing_are_refused() {
    let mut package = zip(|w| add(w, "link", b"", OPTIONS));
    patch_central(&mut package, 40, &(0o120_777_u32).to_le_bytes()[..2]);
    patch_central(&mut package, 38, &(0o120_777_u32 << 16).to_le_bytes());
    assert!(matches!(refused(package), Error::Special(_)));
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [0o010_000_u32, 0o020_000, 0o060_000, 0o140_000] {
        let mut package = zip(|w| add(w, "device", b"x", OPTIONS));
        patch_central(&mut package, 38, &((kind | 0o666) << 16).to_le_bytes());
        assert!(matches!(refused(package), Error::Special(_)), "{kind:o}");
    }
}

#[test]
fn a_small_zip_of_much_is_refused_by_what_comes_out() {
    let mut package = zip(|w| add(w, "bomb", &vec![0; 2 << 20], OPTIONS));
    assert!(package.len() < 8192);
    assert!(matches!(refused(package.clone()), Error::TooLarge { limit: 1_048_576 }));
    // It says that it is small.
    patch_central(&mut package, 24, &10_u32.to_le_bytes());
    assert!(matches!(refused(package), Error::TooLarge { .. } | Error::Damaged(_)));
}

#[test]
fn the_limit_is_for_all_files_together() {
    let package = zip(|w| (0..3).for_each(|i| add(w, &format!("f{i}"), &vec![1; 500_000], OPTIONS)));
    assert!(matches!(refused(package), Error::TooLarge { .. }));
}

#[test]
fn exactly_the_limit_is_accepted() {
    let package = zip(|w| add(w, "f", &vec![1; 1 << 20], OPTIONS));
    assert_eq!(check(Cursor::new(package), 1 << 20).unwrap(), 1 << 20);
}

#[test]
fn one_name_for_two_files_is_refused() {
    assert!(matches!(refused(rename(&files(&["twin1", "twin2"]), "twin2", "twin1")), Error::Duplicate));
    assert!(matches!(refused(files(&["a/f", "a//f"])), Error::Conflict(_)));
    assert!(matches!(refused(files(&["a", "a/b"])), Error::Conflict(_)));
    assert!(matches!(refused(files(&["a/b", "a"])), Error::Conflict(_)));
}

#[test]
fn names_are_utf8_where_they_can_be_and_else_of_dos() {
    let said = files(&["gr\u{fc}n.py"]);
    let mut unsaid = said.clone();
    for header in [&b"PK\x03\x04"[..], b"PK\x01\x02"] {
        let at = unsaid.windows(4).position(|bytes| bytes == header).unwrap();
        // The flag that says UTF-8.
        let flag = at + if header[2] == 3 { 7 } else { 9 };
        unsaid[flag] &= !8;
    }
    assert_ne!(said, unsaid);
    for package in [said, unsaid] {
        assert!(unpacked(package).path().join("gr\u{fc}n.py").is_file());
    }
    let dos = rename(&files(&["gr__n.py"]), "gr__n.py", "gr??n.py");
    let dos: Vec<u8> = dos.iter().map(|byte| if *byte == b'?' { 0x81 } else { *byte }).collect();
    assert!(unpacked(dos).path().join("gr\u{fc}\u{fc}n.py").is_file());
}

#[test]
fn folders_and_targets_of_links_count_too() {
    // 150 names of 2,000 folders each are more than 200,000 entries.
    let deep: Vec<String> = (0..150).map(|n| format!("{n}/{}x", "d/".repeat(2000))).collect();
    let names: Vec<&str> = deep.iter().map(String::as_str).collect();
    assert!(matches!(check(Cursor::new(files(&names)), 1 << 20), Err(Error::TooManyEntries)));
    let links = zip(|w| (0..300).for_each(|n| w.add_symlink(format!("l{n}"), "t".repeat(4000), OPTIONS).unwrap()));
    assert!(matches!(check(Cursor::new(links), 1 << 20), Err(Error::TooLarge { .. })));
}

#[test]
fn a_folder_may_come_after_what_is_in_it() {
    let folder = unpacked(zip(|w| {
        add(w, "a/b/f", b"x", OPTIONS);
        w.add_directory("a/b/", OPTIONS).unwrap();
        w.add_directory("./", OPTIONS).unwrap();
    }));
    assert!(folder.path().join("a/b/f").is_file());
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let mut package = files(&["a", "b"]);
    let header = package.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    // The second entry's data are the first one's.
    package[header + 42..header + 46].copy_from_slice(&0_u32.to_le_bytes());
    assert!(matches!(refused(package), Error::Overlap | Error::Zip(_)));
}

#[test]
fn encrypted_entries_are_refused() {
    let mut package = files(&["secret"]);
    patch_central(&mut package, 8, &1_u16.to_le_bytes());
    assert!(matches!(refused(package), Error::Zip(_)));
}

#[test]
fn methods_that_aws_does_not_know_are_refused() {
    for method in [1_u16, 9, 12, 14, 93, 99] {
        let mut package = files(&["f"]);
        patch_central(&mut package, 10, &method.to_le_bytes());
        assert!(matches!(refused(package), Error::Zip(_) | Error::Method { .. }), "{method}");
    }
}

#[test]
fn damage_shows_by_the_checksum() {
    let mut package = zip(|w| add(w, "f", b"content", OPTIONS.compression_method(CompressionMethod::Stored)));
    let at = package.windows(7).position(|bytes| bytes == b"content").unwrap();
    package[at] ^= 1;
    assert!(matches!(refused(package), Error::Damaged(_)));
}

#[test]
fn a_list_longer_than_allowed_is_refused_unread() {
    let mut package = files(&["f"]);
    let end = package.len() - 22;
    // It says 65,535 entries, and that the list is as long.
    package[end + 8..end + 12].copy_from_slice(&[0xff; 4]);
    assert!(matches!(refused(package), Error::Zip(_) | Error::TooManyEntries));
}

#[test]
fn empty_and_foreign_bytes_are_refused() {
    assert!(matches!(refused(zip(|_| ())), Error::Empty));
    for foreign in [&b""[..], b"not a zip", b"PK\x03\x04", &[0; 100]] {
        assert!(matches!(refused(foreign.to_vec()), Error::Zip(_)));
    }
}

/// What a folder holds, below it.
fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            found.extend(listing(&path));
        } else {
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_packed_comes_out(
        contents in proptest::collection::btree_map("[a-z]{1,3}(/[a-z]{1,3}){0,2}\\.x", proptest::collection::vec(any::<u8>(), 0..300), 1..12),
    ) {
        let package = zip(|w| contents.iter().for_each(|(name, content)| add(w, name, content, OPTIONS)));
        let folder = unpacked(package);
        let expected: Vec<_> =
            contents.into_iter().map(|(name, content)| (folder.path().join(name), content)).collect();
        let mut expected = expected;
        expected.sort();
        prop_assert_eq!(listing(folder.path()), expected);
    }
}

/// Cases of the seeded run; `HEARTH_FUZZ_CASES` makes it longer.
const CASES: u64 = 1_500;

/// A package with one of each thing that a zip can hold.
fn rich() -> Vec<u8> {
    zip(|w| {
        add(w, "a/b.txt", &[b'x'; 700], OPTIONS);
        w.add_directory("empty/", OPTIONS).unwrap();
        w.add_symlink("c", "/opt/a", OPTIONS).unwrap();
        add(w, "d", b"more", OPTIONS.compression_method(CompressionMethod::Stored).unix_permissions(0o4755));
        add(w, "gr\u{fc}n", b"y", OPTIONS.large_file(true));
    })
}

/// Bytes that packers write where they matter: signatures, lengths at their ends, names that lead out.
const WORDS: &[&[u8]] = &[
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"\xff\xff",
    b"\xff\xff\xff\xff",
    b"\0\0",
    b"\0\0\0\0",
    b"../",
    b"/",
    b"\x75\x70",
    b"\x01\x00\x10\x00",
    b"\xed\xa1",
    b"\x00\x80",
];

fn mutate(bytes: &mut Vec<u8>, chance: &mut impl FnMut(usize) -> usize) {
    let at = chance(bytes.len().max(1)).min(bytes.len());
    match chance(7) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << chance(8),
        2 if at < bytes.len() => bytes[at] = chance(256) as u8,
        3 => {
            let word = WORDS[chance(WORDS.len())];
            let end = bytes.len().min(at + word.len());
            bytes.splice(at..end, word.iter().copied());
        }
        4 => {
            let end = bytes.len().min(at + chance(64));
            let piece = bytes[at..end].to_vec();
            let to = chance(bytes.len().max(1)).min(bytes.len());
            bytes.splice(to..to, piece);
        }
        5 => drop(bytes.drain(at..bytes.len().min(at + chance(64)))),
        _ => {
            // A field of a header, where it hurts most.
            let headers: Vec<usize> =
                (0..bytes.len().saturating_sub(4)).filter(|at| bytes[*at..].starts_with(b"PK")).collect();
            if let Some(header) = headers.get(chance(headers.len().max(1))) {
                let field = (header + chance(46)).min(bytes.len() - 1);
                bytes[field] = [0, 1, 0x7f, 0x80, 0xff][chance(5)];
            }
        }
    }
}

#[test]
fn no_mutation_writes_outside_or_makes_the_two_ways_disagree() {
    let cases = std::env::var("HEARTH_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut chance = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let whole = rich();
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("in");
    let (mut taken, mut refused) = (0, 0);
    for case in 0..cases {
        let mut bytes = whole.clone();
        for _ in 0..=chance(4) {
            mutate(&mut bytes, &mut chance);
        }
        fs::create_dir(&folder).unwrap();
        let checked = check(Cursor::new(&bytes), 2000);
        let unpacked = unpack_into(&bytes, &folder, 2000);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "case {case}");
        match (checked, unpacked) {
            (Ok(checked), Ok(unpacked)) => {
                assert_eq!(checked, unpacked, "case {case}");
                let written: u64 = listing(&folder).iter().map(|(_, content)| content.len() as u64).sum();
                assert!(written <= unpacked, "case {case}");
                taken += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (checked, unpacked) => panic!("case {case}: {checked:?}, but {unpacked:?}"),
        }
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(taken > cases / 20 && refused > cases / 20, "{taken} taken, {refused} refused");
}
