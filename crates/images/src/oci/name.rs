//! How images are named: `HOST[:PORT]/NAME[:TAG][@sha256:…]`, and `oci:/FOLDER[:TAG]` for an OCI layout folder.

use std::path::PathBuf;

use hearth_model::{CodeHash, ImageError};

/// Longest name of a repository, bytes (as registries have it).
const REPOSITORY_MAX: usize = 255;
const TAG_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Layout { folder: PathBuf, tag: Option<String> },
    Registry { host: String, repository: String, which: Which },
}

/// Which manifest of a repository. A digest counts before a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    Tag(String),
    Digest(CodeHash),
}

impl Name {
    pub fn parse(uri: &str) -> Result<Self, ImageError> {
        let parsed = match uri.strip_prefix("oci:") {
            Some(rest) => layout(rest),
            None => registry(uri),
        };
        parsed.map_err(|reason| ImageError::Name { uri: uri.chars().take(300).collect(), reason })
    }
}

fn layout(text: &str) -> Result<Name, &'static str> {
    let (folder, tag) = match text.rsplit_once(':') {
        Some((folder, tag)) if !tag.contains('/') => (folder, Some(tag)),
        _ => (text, None),
    };
    if !folder.starts_with('/') || folder.contains('\0') {
        return Err("the folder after oci: must be an absolute path");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("what follows its last colon is no tag");
    }
    Ok(Name::Layout { folder: folder.into(), tag: tag.map(str::to_owned) })
}

fn registry(text: &str) -> Result<Name, &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            (name, Some(self::digest(digest).ok_or("its digest is not sha256: and 64 hex digits")?))
        }
        None => (text, None),
    };
    let (host, rest) = name.split_once('/').ok_or("it names no registry")?;
    if !is_host(host) {
        return Err("it names no registry");
    }
    let (repository, tag) = rest.split_once(':').map_or((rest, None), |(repository, tag)| (repository, Some(tag)));
    if !is_repository(repository) {
        return Err("its repository has characters that none has");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("what follows its last colon is no tag");
    }
    let which = match (digest, tag) {
        (Some(digest), _) => Which::Digest(digest),
        (None, Some(tag)) => Which::Tag(tag.to_owned()),
        (None, None) => return Err("it has neither tag nor digest"),
    };
    Ok(Name::Registry { host: host.to_owned(), repository: repository.to_owned(), which })
}

/// `sha256:` and 64 hex digits: the one kind of digest that there is in practice.
pub fn digest(text: &str) -> Option<CodeHash> {
    text.strip_prefix("sha256:")
        .filter(|hex| !hex.contains(|c: char| c.is_ascii_uppercase()))
        .and_then(CodeHash::from_hex)
}

/// A first part is a host when it cannot be the name of a repository.
fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_name = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.chars().all(plain),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    is_name && is_port && (name.contains('.') || port.is_some() || name == "localhost" || bracketed.is_some())
}

fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        ends(part.chars().next()) && ends(part.chars().next_back()) && part.chars().all(plain)
    };
    text.len() <= REPOSITORY_MAX && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=TAG_MAX).contains(&text.len()) && !text.starts_with(['.', '-']) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, repository: &str, which: Which) -> Name {
        Name::Registry { host: host.to_owned(), repository: repository.to_owned(), which }
    }

    #[test]
    fn registries_are_named_with_host_repository_and_tag_or_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = Which::Digest(CodeHash([0xab; 32]));
        for (text, expected) in [
            (
                "registry.example.com/lambda/python:3.12".to_owned(),
                name("registry.example.com", "lambda/python", Which::Tag("3.12".into())),
            ),
            ("localhost:5000/a:1".to_owned(), name("localhost:5000", "a", Which::Tag("1".into()))),
            ("[::1]:5000/a:1".to_owned(), name("[::1]:5000", "a", Which::Tag("1".into()))),
            (format!("127.0.0.1:5000/a@{digest}"), name("127.0.0.1:5000", "a", pinned.clone())),
            (format!("h.example/a/b:tag@{digest}"), name("h.example", "a/b", pinned)),
        ] {
            assert_eq!(Name::parse(&text), Ok(expected));
        }
    }

    #[test]
    fn layouts_are_named_by_their_folder() {
        let name =
            |folder: &str, tag: Option<&str>| Name::Layout { folder: folder.into(), tag: tag.map(str::to_owned) };
        assert_eq!(Name::parse("oci:/srv/images"), Ok(name("/srv/images", None)));
        assert_eq!(Name::parse("oci:/srv/a:b/images:latest"), Ok(name("/srv/a:b/images", Some("latest"))));
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            "python:3.12",
            "library/python:3.12",
            "h.example/a",
            "h.example/A:1",
            "h.example//a:1",
            "h.example/a:",
            "h.example/a:-",
            "h.example:0/a:1",
            "h.example:99999/a:1",
            "h.example/a@sha256:12",
            "h.example/a@md5:12",
            "h.example/../a:1",
            "oci:relative",
            "oci:/x:-",
            "https://h.example/a:1",
            "h.example/a:1?x",
            "h.example/a b:1",
            "user@h.example/a:1",
        ] {
            assert!(matches!(Name::parse(text), Err(ImageError::Name { .. })), "{text}");
        }
    }
}
