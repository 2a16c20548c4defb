//! Registries, by the API that Docker's registry has and all others copied (`/v2/`): HTTPS, or HTTP on loopback. What
//! they say is believed only as far as its digest goes; where they redirect to gets no credential.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hearth_model::CodeHash;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::challenge::Challenge;
use super::credentials::{self, Credential};
use super::manifest::{ACCEPT, DOCUMENT_MAX};
use crate::fault::Fault;
use crate::intake::Intake;
use crate::web::{self, Ask, Tried, Wanted, Web, is_loopback, is_safe};

/// Longest token, and what is said with it, bytes.
const TOKEN_MAX: u64 = 64 * 1024;

/// All registries.
pub struct Registries {
    /// As `docker login` writes it.
    credentials: Option<PathBuf>,
    web: Arc<Web>,
}

impl Registries {
    pub fn new(credentials: Option<PathBuf>, web: Arc<Web>) -> Self {
        Registries { credentials, web }
    }

    pub fn repository(&self, host: &str, repository: &str) -> Repository {
        let credentials = self.credentials.clone().map(|file| (file, host.to_owned()));
        // The one registry whose name is not its host.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if is_loopback(host) { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{repository}");
        let web = self.web.clone();
        Repository {
            web,
            base,
            repository: repository.to_owned(),
            credentials,
            credential: OnceCell::new(),
            authorization: Mutex::default(),
        }
    }
}

/// One repository of a registry, while one image is fetched.
pub struct Repository {
    web: Arc<Web>,
    /// `https://HOST/v2/NAME`.
    base: String,
    repository: String,
    /// The file with them, and what the registry is called there.
    credentials: Option<(PathBuf, String)>,
    /// Looked for when the registry asks first.
    credential: OnceCell<Option<Credential>>,
    /// What it asked for last.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Repository {
    /// A manifest or index, by tag or digest.
    pub async fn manifest(&self, which: &str) -> Result<Bytes, Fault> {
        web::document(self, &format!("{}/manifests/{which}", self.base), Some(ACCEPT), DOCUMENT_MAX).await
    }

    /// A small blob.
    pub async fn small(&self, digest: CodeHash, size: u64) -> Result<Bytes, Fault> {
        web::document(self, &self.blob(digest), None, size).await
    }

    /// A large blob.
    pub async fn download(&self, digest: CodeHash, to: &mut Intake<'_>) -> Result<(), Fault> {
        web::download(self, &self.blob(digest), to).await
    }

    fn blob(&self, digest: CodeHash) -> String {
        format!("{}/blobs/sha256:{}", self.base, digest.to_hex())
    }

    async fn credential(&self) -> Result<Option<&Credential>, Fault> {
        let found = self.credential.get_or_try_init(|| async {
            let Some((file, host)) = self.credentials.clone() else { return Ok(None) };
            let found = tokio::task::spawn_blocking(move || credentials::find(&file, &host)).await;
            found.unwrap_or_else(|e| Err(e.to_string())).map_err(Fault::Denied)
        });
        Ok(found.await?.as_ref())
    }

    fn denied(&self, status: StatusCode) -> Fault {
        Fault::Denied(match self.credential.get() {
            Some(Some(_)) => format!("the registry does not accept the credentials that there are for it ({status})"),
            _ => format!("the registry asks for credentials, and there are none for it ({status})"),
        })
    }

    async fn prove(&self, challenge: Challenge) -> Result<Tried<HeaderValue>, Fault> {
        let credential = self.credential().await?;
        let (realm, service, scope) = match (challenge, credential) {
            (Challenge::Basic, Some(Credential::Basic(basic))) => {
                return Ok(Tried::Done(secret(&format!("Basic {basic}"))?));
            }
            (Challenge::Basic, _) => return Err(self.denied(StatusCode::UNAUTHORIZED)),
            (Challenge::Bearer { .. }, Some(Credential::Registry(token))) => {
                return Ok(Tried::Done(secret(&format!("Bearer {token}"))?));
            }
            (Challenge::Bearer { realm, service, scope }, _) => (realm, service, scope),
        };
        let realm_uri: Option<Uri> = realm.parse().ok();
        if !realm_uri.as_ref().is_some_and(is_safe) {
            return Err(Fault::Denied("the registry sends to an address for tokens that is not safe".to_owned()));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut pairs: Vec<(&str, String)> = service.map(|service| ("service", service)).into_iter().collect();
        pairs.push(("scope", scope));
        let answer = match credential {
            Some(Credential::Identity(token)) => {
                // Where it is exchanged, it is not part of an address, which is written into logs.
                let more =
                    [("grant_type", "refresh_token"), ("client_id", "hearth"), ("refresh_token", token.as_str())];
                pairs.extend(more.map(|(key, value)| (key, value.to_owned())));
                let form = encoded(&pairs);
                self.web.follow(&realm, Wanted { form: Some(&form), ..Wanted::default() }, None, is_safe).await?
            }
            other => {
                let basic = match other {
                    Some(Credential::Basic(basic)) => Some(secret(&format!("Basic {basic}"))?),
                    _ => None,
                };
                let url = format!("{realm}{}{}", if realm.contains('?') { '&' } else { '?' }, encoded(&pairs));
                self.web.follow(&url, Wanted::default(), basic, is_safe).await?
            }
        };
        let response = match answer {
            Tried::Done(response) => response,
            Tried::Again(fault) => return Ok(Tried::Again(fault)),
        };
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(self.denied(status));
            }
            status => return Ok(web::refusal(status)),
        }
        let body = match web::whole(response, TOKEN_MAX).await? {
            Tried::Done(body) => body,
            Tried::Again(fault) => return Ok(Tried::Again(fault)),
        };
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let token = token.ok_or_else(|| Fault::Denied("the registry's tokens are none".to_owned()))?;
        Ok(Tried::Done(secret(&format!("Bearer {token}"))?))
    }
}

/// As in addresses and forms.
fn encoded(pairs: &[(&str, String)]) -> String {
    let pair = |(key, value): &(&str, String)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

impl Ask for Repository {
    /// Proves who asks where that is asked for.
    async fn ask(&self, url: &str, wanted: Wanted<'_>) -> Result<Tried<Response<Incoming>>, Fault> {
        let mut is_proven = false;
        loop {
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let response = match self.web.follow(url, wanted, authorization, is_safe).await? {
                Tried::Done(response) => response,
                Tried::Again(fault) => return Ok(Tried::Again(fault)),
            };
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(Tried::Done(response)),
                StatusCode::UNAUTHORIZED if !is_proven => {
                    let asked = response.headers().get(header::WWW_AUTHENTICATE).and_then(|asked| asked.to_str().ok());
                    let Some(challenge) = asked.and_then(Challenge::parse) else { return Err(self.denied(status)) };
                    let authorization = match self.prove(challenge).await? {
                        Tried::Done(authorization) => authorization,
                        Tried::Again(fault) => return Ok(Tried::Again(fault)),
                    };
                    *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
                    is_proven = true;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied(status)),
                StatusCode::NOT_FOUND => return Err(Fault::Missing),
                status => return Ok(web::refusal(status)),
            }
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn secret(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Fault::Denied("a credential has characters that none has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
