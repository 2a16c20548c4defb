//! What an archive says of a suite, signed: the digests of its lists. The signature is checked by the host's `gpgv`, and
//! nothing is read but what it says was signed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use hearth_model::CodeHash;
use jiff::Timestamp;
use jiff::civil::DateTime;

use super::archive::Keys;
use crate::fault::Fault;
use crate::host;
use crate::run::run;

const PATIENCE: Duration = Duration::from_secs(60);

/// A suite as its archive vouches for it.
#[derive(Debug)]
pub struct Release {
    /// Of each list, below the suite.
    files: HashMap<String, (CodeHash, u64)>,
    /// Lists are to be had by their digests too, also when newer ones have come since.
    pub by_hash: bool,
}

impl Release {
    /// Proves and reads a signed document of the suite of this name.
    pub fn prove(signed: &[u8], keys: &Keys, suite: &str) -> Result<Self, Fault> {
        let text = verify(signed, keys)?;
        Self::parse(&text, suite, Timestamp::now(), checks_age)
    }

    pub fn file(&self, name: &str) -> Option<(CodeHash, u64)> {
        self.files.get(name).copied()
    }

    /// `is_age_checked` is asked only where it matters.
    fn parse(text: &str, suite: &str, now: Timestamp, is_age_checked: fn() -> bool) -> Result<Self, Fault> {
        let damaged = |reason: &str| Fault::Damaged(format!("what vouches for {suite} {reason}"));
        let fields = super::index::fields(text);
        let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        // Else one suite could be had in another's place, with packages whose faults are known.
        if ![field("Codename"), field("Suite")].contains(&Some(suite)) {
            return Err(damaged("is of another suite"));
        }
        if let Some(until) = field("Valid-Until") {
            let until = time(until).ok_or_else(|| damaged("has no time"))?;
            if until < now && is_age_checked() {
                return Err(Fault::Unavailable(format!(
                    "what the mirror has of {suite} was good until {until} (apt's Acquire::Check-Valid-Until decides)"
                )));
            }
        }
        let mut files = HashMap::new();
        let lines = text.lines().skip_while(|line| line.trim_end() != "SHA256:").skip(1);
        for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
            let mut words = line.split_whitespace();
            let entry = (|| {
                let digest = CodeHash::from_hex(words.next()?)?;
                Some((digest, words.next()?.parse().ok()?, words.next()?.to_owned()))
            })();
            let (digest, size, name) = entry.ok_or_else(|| damaged("has a line that is none"))?;
            files.insert(name, (digest, size));
        }
        if files.is_empty() {
            return Err(damaged("names no digests of SHA-256"));
        }
        Ok(Release { files, by_hash: field("Acquire-By-Hash") == Some("yes") })
    }
}

/// `Sat, 21 Nov 2026 09:15:44 UTC`
fn time(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once(", ")?;
    let moment = DateTime::strptime("%d %b %Y %H:%M:%S", rest.strip_suffix(" UTC")?).ok()?;
    Some(moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Whether the host's `apt` refuses what its mirrors have kept for too long, as it does unless it is told otherwise.
fn checks_age() -> bool {
    let Some(program) = host::program("apt-config") else { return true };
    let mut ask = Command::new(program);
    ask.args(["--format", "%v%n", "dump", "Acquire::Check-Valid-Until"]);
    let said = run(&mut ask, PATIENCE).and_then(crate::run::Ended::success).unwrap_or_default();
    !matches!(said.trim().to_ascii_lowercase().as_str(), "false" | "no" | "off" | "without" | "disable" | "0")
}

/// What of a document one of the keys has signed.
fn verify(signed: &[u8], keys: &Keys) -> Result<String, Fault> {
    let program = host::program("gpgv").ok_or_else(|| {
        Fault::Unavailable("this host has no gpgv, which checks signatures (Debian: apt-get install gpgv)".to_owned())
    })?;
    let folder = tempfile::tempdir()?;
    let (document, plain) = (folder.path().join("signed"), folder.path().join("plain"));
    fs::write(&document, signed)?;
    let mut gpgv = Command::new(program);
    gpgv.arg("--homedir").arg(folder.path()).args(["--status-fd", "1", "--weak-digest", "SHA1"]);
    for keyring in keys.keyrings(folder.path())? {
        gpgv.arg("--keyring").arg(keyring);
    }
    let said = run(gpgv.arg("--output").arg(&plain).arg(&document), PATIENCE)?;
    judge(&said.stdout).map_err(|reason| Fault::Damaged(format!("its archive's signature is not good: {reason}")))?;
    fs::read_to_string(&plain).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => Fault::Damaged("what is signed is no text".to_owned()),
        _ => e.into(),
    })
}

/// Of what `gpgv` says of each signature: one must be good, and none bad. Those by keys that the host does not have say
/// nothing.
fn judge(status: &str) -> Result<(), &'static str> {
    let said = |word: &str| {
        status
            .lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] "))
            .any(|line| line.split(' ').next() == Some(word))
    };
    match () {
        () if said("BADSIG") => Err("what it is of was changed"),
        () if said("GOODSIG") => Ok(()),
        () if said("EXPKEYSIG") || said("EXPSIG") => Err("its key or itself is out of date"),
        () if said("REVKEYSIG") => Err("its key was revoked"),
        () if said("NO_PUBKEY") => Err("it is by no key that this host trusts for it"),
        () => Err("there is none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(more: &str) -> String {
        let digest = "ab".repeat(32);
        format!(
            "Origin: Debian\nSuite: stable\nCodename: trixie\n{more}Acquire-By-Hash: yes\nMD5Sum:\n 00 1 main/x\nSHA256:\n {digest} 12 main/binary-amd64/Packages.xz\n {digest} 3 main/y\nOther: x\n"
        )
    }

    fn parse(text: &str, suite: &str, is_age_checked: fn() -> bool) -> Result<Release, Fault> {
        Release::parse(text, suite, "2026-11-26T00:00:00Z".parse().unwrap(), is_age_checked)
    }

    #[test]
    fn lists_are_found_with_their_digests() {
        let release = parse(&text(""), "trixie", || panic!("it says no time")).unwrap();
        assert_eq!(release.file("main/binary-amd64/Packages.xz"), Some((CodeHash([0xab; 32]), 12)));
        assert_eq!((release.file("main/x"), release.by_hash), (None, true));
        assert!(parse(&text(""), "stable", || true).is_ok());
    }

    #[test]
    fn another_suite_and_one_kept_too_long_are_refused() {
        let refused =
            |text: &str, suite: &str, checked: fn() -> bool| parse(text, suite, checked).unwrap_err().to_string();
        assert!(refused(&text(""), "bookworm", || true).contains("another suite"));
        let old = text("Valid-Until: Fri, 06 Nov 2026 08:08:01 UTC\n");
        assert!(refused(&old, "trixie", || true).contains("good until 2026-11-06T08:08:01Z"));
        assert!(parse(&old, "trixie", || false).is_ok());
        assert!(parse(&text("Valid-Until: Fri, 27 Nov 2026 08:08:01 UTC\n"), "trixie", || true).is_ok());
        assert!(refused(&text("Valid-Until: soon\n"), "trixie", || true).contains("no time"));
        let digest = "ab".repeat(32);
        assert!(refused(&text("").replace(&digest, "12"), "trixie", || true).contains("a line"));
    }

    #[test]
    fn one_good_signature_is_needed_and_no_bad_one() {
        let said = |words: &[&str]| words.iter().map(|word| format!("[GNUPG:] {word} 0123 x\n")).collect::<String>();
        assert!(judge(&said(&["NEWSIG", "GOODSIG", "VALIDSIG", "NEWSIG", "ERRSIG", "NO_PUBKEY"])).is_ok());
        for bad in
            [&["GOODSIG", "BADSIG"][..], &["EXPKEYSIG", "VALIDSIG"], &["REVKEYSIG"], &["ERRSIG", "NO_PUBKEY"], &[]]
        {
            assert!(judge(&said(bad)).is_err(), "{bad:?}");
        }
        assert!(judge("GOODSIG 0123").is_err(), "only what gpgv says itself");
    }
}
