//! Temporary credentials. Nothing is written down of them: the session token says whose they are and until when, and
//! carries a code that only the holder of the key can make; the secret follows from it.
//!
//! Token: base64 of the 32 bytes of the code and of the claims, which are JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hearth_model::{AccountId, Clock, FunctionName, Secret};
use hearth_wire::RoleSession;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Of a function's credentials: an environment ends before they do.
const FUNCTION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Longest token that is looked at, characters.
const TOKEN_MAX: usize = 4096;
const CODE_BYTES: usize = 32;

/// What credentials are for. No `Debug`: a secret is among them.
pub struct Credentials {
    pub access_key: String,
    pub secret: Secret,
    pub token: Secret,
    pub expires: SystemTime,
}

/// Whose credentials they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub account: AccountId,
    /// `None` is the account itself.
    pub role: Option<RoleSession>,
}

/// The credentials were Hearth's, and their time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// Issues and recognises. A cheap handle; no `Debug`: it holds the key.
#[derive(Clone)]
pub struct Sessions {
    key: Arc<[u8; 32]>,
    clock: Arc<dyn Clock>,
}

/// Short names: every request carries them.
#[derive(Serialize, Deserialize)]
struct Claims {
    /// The access key that belongs to it.
    k: String,
    /// Seconds since 1970.
    e: u64,
    a: AccountId,
    /// Role and session name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<(String, String)>,
}

impl Sessions {
    pub fn new(key: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        Sessions { key: Arc::new(key), clock }
    }

    /// Of a function's role, for one environment.
    pub fn of_function(&self, account: &AccountId, role: &str, function: &FunctionName) -> Credentials {
        let role = RoleSession { role: role.to_owned(), name: function.to_string() };
        self.issue(Session { account: account.clone(), role: Some(role) }, FUNCTION_LIFETIME)
    }

    pub fn issue(&self, session: Session, lifetime: Duration) -> Credentials {
        let chance = uuid::Uuid::new_v4();
        let access_key = format!("ASIA{}", letters(&self.code("access key", chance.as_bytes())[..16]));
        let e = (self.clock.wall() + lifetime).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let role = session.role.map(|role| (role.role, role.name));
        let claims = Claims { k: access_key.clone(), e, a: session.account, r: role };
        // Plain texts and a number cannot fail to be written.
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let mut token = self.code("token", &claims).to_vec();
        token.extend_from_slice(&claims);
        Credentials {
            access_key,
            secret: self.secret_of(&claims),
            token: Secret::new(URL_SAFE_NO_PAD.encode(token)),
            expires: UNIX_EPOCH + Duration::from_secs(e),
        }
    }

    /// The session of credentials that were issued here; `None` when they were not.
    pub fn open(&self, access_key: &str, token: &str) -> Result<Option<Session>, Expired> {
        let Some((claims, _)) = self.claims(access_key, token) else { return Ok(None) };
        if UNIX_EPOCH + Duration::from_secs(claims.e) <= self.clock.wall() {
            return Err(Expired);
        }
        let role = claims.r.map(|(role, name)| RoleSession { role, name });
        Ok(Some(Session { account: claims.a, role }))
    }

    /// The secret of credentials that were issued here, also after their time.
    pub fn secret(&self, access_key: &str, token: &str) -> Option<Secret> {
        let (_, claims) = self.claims(access_key, token)?;
        Some(self.secret_of(&claims))
    }

    fn secret_of(&self, claims: &[u8]) -> Secret {
        Secret::new(STANDARD.encode(&self.code("secret", claims)[..30]))
    }

    /// What a token says, and the very bytes.
    fn claims(&self, access_key: &str, token: &str) -> Option<(Claims, Vec<u8>)> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (code, claims) = bytes.split_at_checked(CODE_BYTES)?;
        // Compares in constant time.
        self.mac("token", claims).verify_slice(code).ok()?;
        let read: Claims = serde_json::from_slice(claims).ok()?;
        (read.k == access_key).then(|| (read, claims.to_vec()))
    }

    fn code(&self, purpose: &str, of: &[u8]) -> [u8; CODE_BYTES] {
        self.mac(purpose, of).finalize().into_bytes().into()
    }

    fn mac(&self, purpose: &str, of: &[u8]) -> Hmac<Sha256> {
        let mut padded = [0; 64];
        padded[..32].copy_from_slice(&*self.key);
        let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&padded.into());
        for part in [purpose.as_bytes(), b"\0", of] {
            mac.update(part);
        }
        mac
    }
}

/// A letter or digit of AWS's ids for each byte.
pub fn letters(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    struct Hand(Mutex<SystemTime>);

    impl Clock for Hand {
        fn now(&self) -> Instant {
            Instant::now()
        }

        fn wall(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    const ROLE: &str = "arn:aws:iam::123456789012:role/a/r";

    fn sessions(key: u8) -> (Sessions, Arc<Hand>) {
        let clock = Arc::new(Hand(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000))));
        (Sessions::new([key; 32], clock.clone()), clock)
    }

    fn of_function(sessions: &Sessions) -> Credentials {
        let account = AccountId::parse("123456789012").unwrap();
        sessions.of_function(&account, ROLE, &FunctionName::parse("f").unwrap())
    }

    #[test]
    fn credentials_lead_back_to_their_session_until_they_end() {
        let (sessions, clock) = sessions(1);
        let credentials = of_function(&sessions);
        let open = || sessions.open(&credentials.access_key, credentials.token.reveal());
        let session = open().unwrap().unwrap();
        assert!(
            sessions.secret(&credentials.access_key, credentials.token.reveal()) == Some(credentials.secret.clone())
        );
        let role = RoleSession { role: ROLE.to_owned(), name: "f".to_owned() };
        assert_eq!((session.account.as_str(), session.role), ("123456789012", Some(role)));
        let last = credentials.expires - Duration::from_secs(1);
        *clock.0.lock().unwrap() = last;
        assert!(open().unwrap().is_some());
        *clock.0.lock().unwrap() = credentials.expires;
        assert_eq!(open(), Err(Expired));
    }

    #[test]
    fn they_have_the_shape_of_awss() {
        let credentials = of_function(&sessions(1).0);
        let key = credentials.access_key.strip_prefix("ASIA").unwrap();
        assert!(key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
        assert_eq!(credentials.secret.reveal().len(), 40);
        assert!(credentials.token.reveal().len() < 400, "every request carries it");
    }

    #[test]
    fn no_two_are_alike() {
        let (sessions, _) = sessions(1);
        let (one, other) = (of_function(&sessions), of_function(&sessions));
        assert_ne!(one.access_key, other.access_key);
        assert!(one.token != other.token && one.secret != other.secret);
        assert_eq!(sessions.open(&one.access_key, other.token.reveal()), Ok(None), "a key goes with its own token");
    }

    #[test]
    fn what_was_not_issued_here_is_nobodys() {
        let (sessions, _) = sessions(1);
        let credentials = of_function(&sessions);
        let (key, token) = (credentials.access_key.as_str(), credentials.token.reveal());
        assert_eq!(super::tests::sessions(2).0.open(key, token), Ok(None), "another folder's key");
        let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(sessions.open(key, &URL_SAFE_NO_PAD.encode(&bytes)), Ok(None), "byte {at}");
            bytes[at] ^= 1;
        }
        for forged in ["", "x", "!", &token[..20], &"A".repeat(5000)] {
            assert_eq!(sessions.open(key, forged), Ok(None));
        }
    }
}
