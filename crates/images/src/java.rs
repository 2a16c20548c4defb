//! Java runtimes: a Java of a system of packages, and the runtime client that AWS publishes, unmodified, from a repository
//! of Maven's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hearth_model::{CodeHash, Runtime, RuntimeEntry};
use sha1::{Digest, Sha1};

use crate::copy::link_tree;
use crate::fault::Fault;
use crate::runtimes::{Entry, hash};
use crate::skeleton::Skeleton;
use crate::trees::{Tree, Trees};
use crate::web::{self, Web};

const BOOTSTRAP: &str = include_str!("../../../bootstraps/java/bootstrap");
/// Where Maven looks when nothing else is configured.
const CENTRAL: &str = "https://repo.maven.apache.org/maven2";
/// Where hosts have their authorities, all in one file.
const AUTHORITIES: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// What everybody knows to be the password of Java's authorities.
const PASSWORD: &str = "changeit";

/// A file of the client: group as a path, name, version, bytes, SHA-256. It is this one, or it is not used.
struct Jar(&'static str, &'static str, &'static str, u64, &'static str);

const CLIENT: &[Jar] = &[
    Jar(
        "com/amazonaws",
        "aws-lambda-java-runtime-interface-client",
        "2.10.1",
        1_614_973,
        "b0dd01f45b7258da0e32ade0bff950b12d0cf279ccebf416ad8c3795af21f1db",
    ),
    Jar(
        "com/amazonaws",
        "aws-lambda-java-core",
        "1.4.0",
        10_623,
        "575c24393cc1ad645e83e618956eabd89ffe8cc09efae2cb62bc6589154d68ed",
    ),
    Jar(
        "com/amazonaws",
        "aws-lambda-java-serialization",
        "1.2.0",
        3_726_540,
        "1513c1f945a3213f916a4b2de1760c97b51d84d110f82bbbcf9cfac53d5651e7",
    ),
    Jar(
        "software/amazon/awssdk",
        "utils-lite",
        "2.34.0",
        8_796,
        "efaf784f07ae526f0b5c89d71ef21cf16636131c47d44616e3df9bedc3f4f89a",
    ),
];

/// The client as a folder of jars: found or, where that is allowed, fetched. Blocking, in a thread of the async runtime.
pub fn client(trees: &Trees, web: &Web, may_fetch: bool) -> Result<Tree, Fault> {
    let all: String = CLIENT.iter().map(|jar| jar.4).collect();
    trees.make(&format!("java-client-{}", &hash(&all)[..32]), |folder| {
        if !may_fetch {
            let reason = "AWS's runtime client is not here, and fetching is switched off (runtimes.fetch)";
            return Err(Fault::Unavailable(reason.to_owned()));
        }
        let repository = repository();
        for Jar(group, name, version, size, digest) in CLIENT {
            let file = format!("{name}-{version}.jar");
            let digest = CodeHash::from_hex(digest).ok_or(Fault::Missing)?;
            let url = format!("{repository}/{group}/{name}/{version}/{file}");
            let named = |fault| Fault::Unavailable(format!("{file} cannot be fetched: {fault}"));
            let mut jar = web::fetch(web, &[url], *size, digest, folder, &|_| {}).map_err(named)?;
            io::copy(&mut jar, &mut fs::File::create(folder.join(&file))?)?;
        }
        Ok(())
    })
}

/// As Maven is configured by the user's file, or not at all.
fn repository() -> String {
    let settings = std::env::var_os("HOME").map(|home| Path::new(&home).join(".m2/settings.xml"));
    let text = settings.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    mirror(&text).unwrap_or(CENTRAL).trim_end_matches('/').to_owned()
}

/// The mirror of everything, or of Maven's central repository, in a file of settings.
fn mirror(settings: &str) -> Option<&str> {
    let within = |text: &'_ str, name: &str| -> Option<(usize, usize)> {
        let begin = text.find(&format!("<{name}>"))? + name.len() + 2;
        Some((begin, begin + text[begin..].find(&format!("</{name}>"))?))
    };
    settings.split("<mirror>").skip(1).find_map(|mirror| {
        let (begin, end) = within(mirror, "mirrorOf")?;
        let of = mirror[begin..end].split(',').map(str::trim).any(|of| matches!(of, "*" | "central" | "external:*"));
        let (begin, end) = within(mirror, "url")?;
        of.then(|| mirror[begin..end].trim())
    })
}

/// Where a system has its Java, below it.
pub fn home(system: &Path, runtime: Runtime) -> io::Result<PathBuf> {
    let machines = Path::new("usr/lib/jvm");
    let begin = format!("java-{}-openjdk-", runtime.language_version().unwrap_or_default());
    let is_it = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with(&begin));
    let names = fs::read_dir(system.join(machines))?.flatten().map(|entry| entry.file_name());
    let found = names.filter(is_it).find(|name| system.join(machines).join(name).join("bin/java").exists());
    found
        .map(|name| machines.join(name))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its packages have no Java"))
}

/// Adds the runtime of the Java that the root's own system has.
pub fn add_of_system<'a>(skeleton: &mut Skeleton<'a>, home: &Path, version: &str, client: &'a Tree) -> Entry {
    skeleton.link("var/lang/bin/java", Path::new("../../..").join(home).join("bin/java"));
    skeleton.file("var/runtime/bootstrap", BOOTSTRAP);
    skeleton.file(home.join("lib/security/cacerts"), authorities());
    let fact = format!("client {}", client.path.display());
    skeleton.finish(fact, |root| link_tree(&client.path, &root.join("var/runtime/lib")));
    Entry {
        start: RuntimeEntry::Own(vec!["/bin/sh".to_owned(), "/var/runtime/bootstrap".to_owned()]),
        variables: Vec::new(),
        version: format!("java:{version}"),
        leases: Vec::new(),
    }
}

/// The host's authorities as Java reads them.
fn authorities() -> Vec<u8> {
    let text = AUTHORITIES.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    key_store(&certificates(&text))
}

/// The certificates of a text, in DER.
fn certificates(pem: &str) -> Vec<Vec<u8>> {
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = blocks.filter_map(|block| block.split("-----END").next());
    bodies.filter_map(|body| BASE64_STANDARD.decode(body.split_whitespace().collect::<String>()).ok()).collect()
}

/// A key store of Java's own kind (JKS), of certificates that are trusted.
fn key_store(certificates: &[Vec<u8>]) -> Vec<u8> {
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(text.bytes());
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let mut store = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
    store.extend(count(certificates.len()));
    for (number, certificate) in certificates.iter().enumerate() {
        // A certificate, by which name, since when.
        store.extend(2u32.to_be_bytes());
        text(&mut store, &format!("authority-{number}"));
        store.extend(0u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(count(certificate.len()));
        store.extend(certificate);
    }
    let password: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let digest = Sha1::new().chain_update(password).chain_update("Mighty Aphrodite").chain_update(&store).finalize();
    store.extend(digest);
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_everything_is_asked() {
        let settings = |of: &str| {
            format!(
                "<settings><mirrors><mirror><id>a</id><mirrorOf>other</mirrorOf><url>http://no</url></mirror>\n<mirror>\n <mirrorOf>{of}</mirrorOf> <url> https://m.example/maven </url></mirror></mirrors></settings>"
            )
        };
        assert_eq!(mirror(&settings("*")), Some("https://m.example/maven"));
        assert_eq!(mirror(&settings("x, central")), Some("https://m.example/maven"));
        assert_eq!([mirror(&settings("x")), mirror(""), mirror("<mirror><mirrorOf>*")], [None; 3]);
    }

    #[test]
    fn certificates_of_a_text_become_a_key_store() {
        let pem = "# one\n-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nZGU=\n-----END CERTIFICATE-----\n";
        let found = certificates(pem);
        assert_eq!(found, [b"abc".to_vec(), b"de".to_vec()]);
        let store = key_store(&found);
        assert_eq!(store[..12], [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 2]);
        assert!(store.windows(3).any(|bytes| bytes == b"abc"));
    }

    #[test]
    fn every_jar_is_pinned_by_its_digest() {
        assert!(CLIENT.iter().all(|jar| CodeHash::from_hex(jar.4).is_some()));
    }
}
