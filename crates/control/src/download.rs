//! `Code.Location`: a URL from which the same bytes download again for ten minutes, without credentials. The token
//! carries what it is for, until when, and a signature.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_model::CodeHash;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// How long a URL is good for (spec 1.6).
const VALID: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    #[error("the link is not one of this server's")]
    Invalid,
    #[error("the link has expired")]
    Expired,
    #[error("the package is gone")]
    Missing,
}

/// Signs with one key for all servers over the same records.
pub struct Signer {
    key: [u8; 32],
}

impl Signer {
    pub fn new(key: [u8; 32]) -> Self {
        Signer { key }
    }

    /// `HEX-EXPIRY-SIGNATURE`.
    pub fn token(&self, code: CodeHash, now: SystemTime) -> String {
        let expiry = seconds(now + VALID);
        let signed = format!("{}-{expiry}", code.to_hex());
        format!("{signed}-{}", self.sign(&signed))
    }

    pub fn open(&self, token: &str, now: SystemTime) -> Result<CodeHash, DownloadError> {
        let (signed, signature) = token.rsplit_once('-').ok_or(DownloadError::Invalid)?;
        let signature = CodeHash::from_hex(signature).ok_or(DownloadError::Invalid)?;
        // Compares in constant time.
        self.mac(signed).verify_slice(&signature.0).map_err(|_| DownloadError::Invalid)?;
        let (code, expiry) = signed.split_once('-').ok_or(DownloadError::Invalid)?;
        if expiry.parse::<u64>().map_err(|_| DownloadError::Invalid)? < seconds(now) {
            return Err(DownloadError::Expired);
        }
        CodeHash::from_hex(code).ok_or(DownloadError::Invalid)
    }

    fn sign(&self, text: &str) -> String {
        CodeHash(self.mac(text).finalize().into_bytes().into()).to_hex()
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut padded = [0; 64];
        padded[..32].copy_from_slice(&self.key);
        let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&padded.into());
        mac.update(text.as_bytes());
        mac
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_ten_minutes_and_for_what_it_names() {
        let (signer, now) = (Signer::new([1; 32]), UNIX_EPOCH + Duration::from_secs(1000));
        let (code, other) = (CodeHash([2; 32]), CodeHash([3; 32]));
        let token = signer.token(code, now);
        assert_eq!(signer.open(&token, now), Ok(code));
        assert_eq!(signer.open(&token, now + Duration::from_secs(601)), Err(DownloadError::Expired));
        let forged = token.replacen(&code.to_hex(), &other.to_hex(), 1);
        assert_eq!(signer.open(&forged, now), Err(DownloadError::Invalid));
        assert_eq!(Signer::new([9; 32]).open(&token, now), Err(DownloadError::Invalid));
        assert_eq!(signer.open("x", now), Err(DownloadError::Invalid));
    }
}
