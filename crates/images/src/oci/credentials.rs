//! Names and passwords for registries, from a file as `docker login` writes it. Read for each image, because tokens in
//! it are renewed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// Largest file that is read, bytes.
const FILE_MAX: u64 = 1 << 20;

/// For Basic authentication: `name:password`, in base64.
pub struct Basic(pub String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    username: Option<String>,
    password: Option<String>,
}

/// What the file has for a registry. A file that is not there has nothing.
pub fn find(file: &Path, host: &str) -> Result<Option<Basic>, String> {
    let said = |reason: String| format!("{}: {reason}", file.display());
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(error.to_string())),
    };
    parse(&bytes, host).map_err(said)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Errors say where, and nothing of what is there.
fn parse(bytes: &[u8], host: &str) -> Result<Option<Basic>, String> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|e| format!("it is no file of docker login (line {}, column {})", e.line(), e.column()))?;
    let of_host = raw.auths.iter().find(|(name, _)| registry(name) == host).map(|(_, entry)| entry);
    if let Some(Entry { auth, username, password }) = of_host {
        if let (Some(username), Some(password)) = (username, password) {
            return Ok(Some(Basic(BASE64_STANDARD.encode(format!("{username}:{password}")))));
        }
        if !auth.is_empty() {
            let decoded = BASE64_STANDARD.decode(auth).map_err(|_| format!("what it has for {host} is not base64"))?;
            if !decoded.contains(&b':') {
                return Err(format!("what it has for {host} is not a name and a password"));
            }
            return Ok(Some(Basic(auth.clone())));
        }
    }
    let elsewhere = raw.cred_helpers.contains_key(host) || raw.creds_store.is_some();
    if elsewhere {
        // Those are programs of the user's desktop.
        return Err(format!("credential helpers are not built: put the password for {host} into auths"));
    }
    Ok(None)
}

/// Entries may be URLs: `https://index.docker.io/v1/`.
fn registry(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    match name.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_login_writes_is_read() {
        let file = br#"{"auths": {
            "127.0.0.1:5000": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "aDpp"},
            "plain.example": {"username": "u", "password": "p"}, "broken.example": {"auth": "!"}, "empty.example": {}
        }, "credHelpers": {"helped.example": "ecr-login"}}"#;
        let of = |host: &str| parse(file, host).map(|found| found.map(|basic| basic.0));
        assert_eq!(of("127.0.0.1:5000"), Ok(Some("dTpw".to_owned())));
        assert_eq!(of("docker.io"), Ok(Some("aDpp".to_owned())));
        assert_eq!(of("plain.example"), Ok(Some("dTpw".to_owned())));
        assert_eq!(of("127.0.0.1:5001"), Ok(None));
        assert_eq!(of("empty.example"), Ok(None));
        assert!(of("broken.example").unwrap_err().contains("not base64"));
        assert!(of("helped.example").unwrap_err().contains("credential helpers"));
    }

    #[test]
    fn errors_do_not_tell_what_is_in_the_file() {
        let error = parse(br#"{"auths": {"h": {"auth": 12345}}}"#, "h").err().unwrap();
        assert!(error.contains("line 1") && !error.contains("12345"), "{error}");
    }
}
