//! Who asks registries: names, passwords and tokens from a file as `docker login` writes it, or from the programs that it
//! names (credential helpers). Read for each image whose registry asks for it, because tokens are renewed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::host;
use crate::run::run_with;

/// Largest file that is read, bytes.
const FILE_MAX: u64 = 1 << 20;
/// How long a helper may take: some ask somebody else.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a helper says instead of a name when its secret is a token.
const TOKEN: &str = "<token>";
/// What helpers say when they know nothing of a registry.
const UNKNOWN: &str = "credentials not found";

/// What there is for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// For Basic authentication: `name:password`, in base64.
    Basic(String),
    /// For whoever gives tokens for registries.
    Identity(String),
    /// For the registry itself.
    Registry(String),
}

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
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default, rename = "registrytoken")]
    registry_token: String,
}

/// What a helper says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    username: String,
    secret: String,
}

/// Where a registry's credential is.
enum Place {
    Here(Credential),
    /// By the name of a helper.
    With(String),
    Nowhere,
}

/// What the file, or a helper that it names, has for a registry. A file that is not there has nothing. Blocking.
pub fn find(file: &Path, host: &str) -> Result<Option<Credential>, String> {
    let said = |reason: String| format!("{}: {reason}", file.display());
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(error.to_string())),
    };
    match parse(&bytes, host).map_err(said)? {
        Place::Here(credential) => Ok(Some(credential)),
        Place::With(helper) => ask(&helper, host),
        Place::Nowhere => Ok(None),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Errors say where, and nothing of what is there.
fn parse(bytes: &[u8], host: &str) -> Result<Place, String> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|e| format!("it is no file of docker login (line {}, column {})", e.line(), e.column()))?;
    if let Some((_, helper)) = raw.cred_helpers.iter().find(|(name, _)| registry(name) == host) {
        return Ok(Place::With(helper.clone()));
    }
    let entry = raw.auths.into_iter().find(|(name, _)| registry(name) == host).map(|(_, entry)| entry);
    let credential = entry.map(|entry| entry.credential(host)).transpose()?.flatten();
    Ok(match (credential, raw.creds_store) {
        (Some(credential), _) => Place::Here(credential),
        (None, Some(helper)) if !helper.is_empty() => Place::With(helper),
        _ => Place::Nowhere,
    })
}

impl Entry {
    fn credential(self, host: &str) -> Result<Option<Credential>, String> {
        if !self.registry_token.is_empty() {
            return Ok(Some(Credential::Registry(self.registry_token)));
        }
        if !self.identity_token.is_empty() {
            return Ok(Some(Credential::Identity(self.identity_token)));
        }
        if let (Some(username), Some(password)) = (self.username, self.password) {
            return Ok(Some(basic(&username, &password)));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let decoded =
            BASE64_STANDARD.decode(&self.auth).map_err(|_| format!("what it has for {host} is not base64"))?;
        if !decoded.contains(&b':') {
            return Err(format!("what it has for {host} is not a name and a password"));
        }
        Ok(Some(Credential::Basic(self.auth)))
    }
}

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic(BASE64_STANDARD.encode(format!("{username}:{password}")))
}

/// Runs `docker-credential-NAME get`, which reads the registry's name and writes what it has for it.
fn ask(name: &str, host: &str) -> Result<Option<Credential>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) {
        return Err("the name of a credential helper has characters that none has".to_owned());
    }
    let program = format!("docker-credential-{name}");
    let path = host::program(&program).ok_or_else(|| format!("there is no program {program} on the server's PATH"))?;
    // The one registry that has another name there.
    let server = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
    let ended = run_with(Command::new(path).arg("get"), server.as_bytes(), PATIENCE);
    let ended = ended.map_err(|e| format!("{program}: {e}"))?;
    if !ended.status.success() {
        // Then it says why where it says what it has otherwise.
        return match ended.stdout.trim() {
            said if said.to_ascii_lowercase().contains(UNKNOWN) => Ok(None),
            said => Err(format!("{program}: {}: {}", ended.status, said.lines().next().unwrap_or_default())),
        };
    }
    let said: Said = serde_json::from_str(&ended.stdout).map_err(|_| format!("{program} answers what is no answer"))?;
    Ok(Some(if said.username == TOKEN {
        Credential::Identity(said.secret)
    } else {
        basic(&said.username, &said.secret)
    }))
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
            "plain.example": {"username": "u", "password": "p"}, "broken.example": {"auth": "!"}, "empty.example": {},
            "identity.example": {"auth": "dTo=", "identitytoken": "i"}, "registry.example": {"registrytoken": "r"},
            "both.example": {"auth": "dTpw"}
        }, "credHelpers": {"helped.example": "ecr-login", "both.example": "x"}}"#;
        let of = |host: &str| match parse(file, host)? {
            Place::Here(Credential::Basic(basic)) => Ok(format!("basic {basic}")),
            Place::Here(Credential::Identity(token)) => Ok(format!("identity {token}")),
            Place::Here(Credential::Registry(token)) => Ok(format!("registry {token}")),
            Place::With(helper) => Ok(format!("with {helper}")),
            Place::Nowhere => Ok::<_, String>("nowhere".to_owned()),
        };
        for (host, expected) in [
            ("127.0.0.1:5000", "basic dTpw"),
            ("docker.io", "basic aDpp"),
            ("plain.example", "basic dTpw"),
            ("127.0.0.1:5001", "nowhere"),
            ("empty.example", "nowhere"),
            ("identity.example", "identity i"),
            ("registry.example", "registry r"),
            ("helped.example", "with ecr-login"),
            ("both.example", "with x"),
        ] {
            assert_eq!(of(host).as_deref(), Ok(expected), "{host}");
        }
        assert!(of("broken.example").unwrap_err().contains("not base64"));
        let store = br#"{"auths": {"a.example": {"auth": "dTpw"}, "b.example": {}}, "credsStore": "pass"}"#;
        let is_with = |host: &str| matches!(parse(store, host), Ok(Place::With(helper)) if helper == "pass");
        assert!(!is_with("a.example") && is_with("b.example") && is_with("c.example"));
    }

    #[test]
    fn a_helper_is_a_program_of_the_servers_path_and_no_other() {
        assert!(ask("../x", "h").err().unwrap().contains("characters"));
        assert!(ask("that-is-nowhere", "h").err().unwrap().contains("no program docker-credential-that-is-nowhere"));
    }

    #[test]
    fn errors_do_not_tell_what_is_in_the_file() {
        let error = parse(br#"{"auths": {"h": {"auth": 12345}}}"#, "h").err().unwrap();
        assert!(error.contains("line 1") && !error.contains("12345"), "{error}");
    }
}
