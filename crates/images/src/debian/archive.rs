//! Where Debian's archives are, and who vouches for them: as the host's own `apt` has it, or as the operator says.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::index::fields;

/// Where `apt` keeps what it is told.
const APT: &str = "/etc/apt";
/// Debian's own, of its package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Largest file of sources or keys that is read, bytes.
const FILE_MAX: u64 = 4 << 20;

/// Which part of a release an archive has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Main,
    /// What was mended between two editions of the release.
    Updates,
    Security,
}

impl Kind {
    /// The name of the part of a release that it has.
    pub fn suite(self, release: &str) -> String {
        match self {
            Kind::Main => release.to_owned(),
            Kind::Updates => format!("{release}-updates"),
            Kind::Security => format!("{release}-security"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub kind: Kind,
    /// Without a slash at its end.
    pub uri: String,
    pub keys: Keys,
}

/// Public keys of which one must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    Files(Vec<PathBuf>),
    /// As text in a list of sources.
    Armored(String),
}

/// What the operator says of it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Instead of what `apt` has. What ends in `-security` has the mended packages.
    pub mirrors: Vec<Mirror>,
    pub keyring: Option<PathBuf>,
}

/// The address of a mirror, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror(String);

impl FromStr for Mirror {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_web = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        let is_address = is_web && text.parse::<hyper::Uri>().is_ok();
        let uri = text.trim_end_matches('/').to_owned();
        if is_address { Ok(Mirror(uri)) } else { Err("is no address that begins with http:// or https://") }
    }
}

impl Settings {
    /// All archives, the one that must be there first.
    pub fn archives(&self) -> Result<Vec<Archive>, String> {
        let mut archives = if self.mirrors.is_empty() { of_apt(Path::new(APT)) } else { self.named() };
        if let Some(keyring) = &self.keyring {
            archives.iter_mut().for_each(|archive| archive.keys = Keys::Files(vec![keyring.clone()]));
        }
        archives.sort_by_key(|archive| archive.kind);
        archives.dedup_by_key(|archive| archive.kind);
        match archives.first() {
            Some(first) if first.kind == Kind::Main => Ok(archives),
            _ => Err("this host's apt has no mirror of Debian; name one by runtimes.debian_mirrors".to_owned()),
        }
    }

    fn named(&self) -> Vec<Archive> {
        let of = |Mirror(uri): &Mirror| {
            let kinds: &[Kind] =
                if uri.ends_with("-security") { &[Kind::Security] } else { &[Kind::Main, Kind::Updates] };
            let uri = uri.clone();
            kinds.iter().map(move |&kind| Archive { kind, uri: uri.clone(), keys: usual() })
        };
        self.mirrors.iter().flat_map(of).collect()
    }
}

/// Keys for who names none.
fn usual() -> Keys {
    let keyring = PathBuf::from(KEYRING);
    if keyring.exists() {
        return Keys::Files(vec![keyring]);
    }
    let mut files = files_in(&Path::new(APT).join("trusted.gpg.d"), &["gpg", "asc"]);
    files.insert(0, Path::new(APT).join("trusted.gpg"));
    Keys::Files(files.into_iter().filter(|file| file.exists()).collect())
}

/// The archives of Debian in the lists of `apt` (sources.list(5)), as they come.
fn of_apt(folder: &Path) -> Vec<Archive> {
    let below = folder.join("sources.list.d");
    let mut archives = Vec::new();
    let lines = [folder.join("sources.list")].into_iter().chain(files_in(&below, &["list"]));
    for text in lines.filter_map(|file| read(&file).ok()) {
        archives.extend(text.lines().filter_map(of_line).flatten());
    }
    for text in files_in(&below, &["sources"]).iter().filter_map(|file| read(file).ok()) {
        archives.extend(text.replace("\r\n", "\n").split("\n\n").flat_map(of_paragraph));
    }
    archives
}

/// `deb [signed-by=FILE] URI SUITE COMPONENT…`
fn of_line(line: &str) -> Option<Vec<Archive>> {
    let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let keys = signed_by.map_or_else(usual, |files| Keys::Files(files.split(',').map(PathBuf::from).collect()));
    words.any(|component| component == "main").then(|| archive(uri, suite, keys).into_iter().collect())
}

/// Fields and values, several of each.
fn of_paragraph(paragraph: &str) -> Vec<Archive> {
    let fields = fields(paragraph);
    let field = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let has = |name: &str, word: &str| field(name).is_some_and(|value| value.split_whitespace().any(|one| one == word));
    if !has("Types", "deb") || !has("Components", "main") || has("Enabled", "no") {
        return Vec::new();
    }
    let keys = match field("Signed-By") {
        None => usual(),
        Some("") => Keys::Armored(folded(paragraph, "Signed-By")),
        Some(files) => {
            Keys::Files(files.split([' ', ',']).filter(|file| !file.is_empty()).map(PathBuf::from).collect())
        }
    };
    let words = |name: &str| field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let suites = words("Suites");
    let pairs = words("URIs").into_iter().flat_map(|uri| suites.iter().map(move |suite| (uri.clone(), suite.clone())));
    pairs.filter_map(|(uri, suite)| archive(&uri, &suite, keys.clone())).collect()
}

/// The further lines of a field; a dot stands for an empty one.
fn folded(paragraph: &str, name: &str) -> String {
    let is_field = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase()));
    let lines = paragraph.lines().skip_while(|line| !is_field(line)).skip(1);
    let more = lines.take_while(|line| line.starts_with([' ', '\t'])).map(str::trim);
    more.map(|line| if line == "." { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// What is one of Debian's, by the name of its suite.
fn archive(uri: &str, suite: &str, keys: Keys) -> Option<Archive> {
    let (name, kind) = match suite.rsplit_once('-') {
        Some((name, "security")) => (name, Kind::Security),
        Some((name, "updates")) => (name, Kind::Updates),
        _ => (suite, Kind::Main),
    };
    let Mirror(uri) = uri.parse().ok()?;
    is_name(name).then_some(Archive { kind, uri, keys })
}

/// Names of releases, of Debian and of what follows its ways: a word. Others in the lists of `apt` are mostly longer.
pub fn is_name(text: &str) -> bool {
    (3..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Sorted by name, as `apt` reads them.
fn files_in(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let fits = |file: &PathBuf| file.extension().and_then(|end| end.to_str()).is_some_and(|end| ends.contains(&end));
    let mut files: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).filter(fits).collect();
    files.sort();
    files
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

impl Keys {
    /// As files that `gpgv` reads, where they are not, in a folder for them.
    pub fn keyrings(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let texts = match self {
            Keys::Armored(text) => vec![text.clone().into_bytes()],
            Keys::Files(files) => files.iter().map(|file| read_keys(file)).collect::<io::Result<_>>()?,
        };
        let mut keyrings = Vec::new();
        for (number, keys) in texts.into_iter().enumerate() {
            let keyring = folder.join(format!("keys-{number}.gpg"));
            let is_armored = std::str::from_utf8(&keys).ok().filter(|text| text.contains("-----BEGIN PGP"));
            match is_armored {
                Some(text) => fs::write(&keyring, dearmored(text)?)?,
                None => fs::write(&keyring, keys)?,
            }
            keyrings.push(keyring);
        }
        Ok(keyrings)
    }
}

fn read_keys(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(FILE_MAX).read_to_end(&mut bytes));
    read.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))?;
    Ok(bytes)
}

/// The bytes of all blocks of keys in a text.
fn dearmored(text: &str) -> io::Result<Vec<u8>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "there are keys that cannot be read");
    let mut bytes = Vec::new();
    for block in text.split("-----BEGIN PGP PUBLIC KEY BLOCK-----").skip(1) {
        let block = block.split("-----END PGP").next().unwrap_or_default();
        // Headers of a block end at the first empty line; its check sum begins with `=`.
        let body = block.split_once("\n\n").map_or(block, |(_, body)| body);
        let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('='));
        let packed = lines.collect::<String>();
        bytes.extend(BASE64_STANDARD.decode(packed).map_err(|_| bad())?);
    }
    if bytes.is_empty() { Err(bad()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apt(files: &[(&str, &str)]) -> Vec<(Kind, String, Keys)> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        of_apt(folder.path()).into_iter().map(|Archive { kind, uri, keys }| (kind, uri, keys)).collect()
    }

    #[test]
    fn both_ways_of_writing_sources_are_read() {
        let keys = Keys::Files(vec!["/k.gpg".into()]);
        let lines = "# deb http://no.example/debian bookworm main\n\
                     deb [arch=amd64 signed-by=/k.gpg] https://a.example/debian/ bookworm main contrib\n\
                     deb-src http://b.example/debian bookworm main\n\
                     deb [signed-by=/k.gpg] http://c.example/debian-security bookworm-security main\n\
                     deb [signed-by=/k.gpg] http://d.example/linux bookworm stable\n\
                     deb [signed-by=/k.gpg] cdrom:[x]/ bookworm main\n";
        let expected = [
            (Kind::Main, "https://a.example/debian".to_owned(), keys.clone()),
            (Kind::Security, "http://c.example/debian-security".to_owned(), keys.clone()),
        ];
        assert_eq!(apt(&[("sources.list", lines)]), expected);
        let paragraphs = "Types: deb deb-src\n# a comment\nURIs: https://a.example/debian\nSuites: bookworm bookworm-updates bookworm-backports\n\
                          Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: https://off.example\nSuites: sid\nComponents: main\n";
        let expected = [
            (Kind::Main, "https://a.example/debian".to_owned(), keys.clone()),
            (Kind::Updates, "https://a.example/debian".to_owned(), keys),
        ];
        assert_eq!(apt(&[("sources.list.d/debian.sources", paragraphs)]), expected);
    }

    #[test]
    fn keys_may_be_in_the_list_itself() {
        let paragraph = "Types: deb\nURIs: http://a.example/debian\nSuites: sid\nComponents: main\nSigned-By:\n \
                         -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n a2V5\n =abcd\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let found = apt(&[("sources.list.d/a.sources", paragraph)]);
        let Keys::Armored(text) = &found[0].2 else { panic!("{found:?}") };
        assert_eq!(dearmored(text).unwrap(), b"key");
        let folder = tempfile::tempdir().unwrap();
        let written = found[0].2.keyrings(folder.path()).unwrap();
        assert_eq!(fs::read(&written[0]).unwrap(), b"key");
    }

    #[test]
    fn what_the_operator_names_counts_instead_of_what_apt_has() {
        let mirrors = |mirrors: &[&str]| Settings {
            mirrors: mirrors.iter().map(|uri| uri.parse().unwrap()).collect(),
            keyring: Some("/own.gpg".into()),
        };
        let archives = mirrors(&["http://m.example/debian-security", "http://m.example/debian/"]).archives().unwrap();
        let kinds: Vec<_> = archives.iter().map(|archive| (archive.kind, archive.uri.as_str())).collect();
        assert_eq!(
            kinds,
            [
                (Kind::Main, "http://m.example/debian"),
                (Kind::Updates, "http://m.example/debian"),
                (Kind::Security, "http://m.example/debian-security"),
            ]
        );
        assert!(archives.iter().all(|archive| archive.keys == Keys::Files(vec!["/own.gpg".into()])));
        assert!("ftp://m.example".parse::<Mirror>().is_err() && "http://m example".parse::<Mirror>().is_err());
        assert!(mirrors(&["http://m.example/debian-security"]).archives().is_err(), "the main one is not there");
    }
}
