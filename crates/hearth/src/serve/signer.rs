//! Signatures of version 4, of requests that Hearth itself makes of other services.

use std::time::SystemTime;

use hearth_wire::hex;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Who asks, where and when.
pub struct Signer<'a> {
    pub region: &'a str,
    pub key: &'a str,
    pub secret: &'a str,
    pub at: SystemTime,
}

/// What is signed.
pub struct Asked<'a> {
    pub service: &'a str,
    pub method: &'a str,
    /// Percent-encoded.
    pub path: &'a str,
    pub query: &'a str,
    /// In lower case and sorted; the date's comes last and is added.
    pub headers: &'a [(&'a str, &'a str)],
    /// Hash of the body, in hexadecimal digits.
    pub body: &'a str,
}

impl Signer<'_> {
    /// `20260131T123456Z`: the header `x-amz-date`.
    pub fn date(&self) -> String {
        let at = jiff::Timestamp::try_from(self.at).unwrap_or_default();
        at.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// The header `Authorization`.
    pub fn authorization(&self, asked: &Asked<'_>) -> String {
        let Asked { service, method, path, query, headers, body } = asked;
        let date = self.date();
        let day = date.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{service}/aws4_request", self.region);
        let signed: Vec<(&str, &str)> = headers.iter().copied().chain([("x-amz-date", date.as_str())]).collect();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{body}");
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
        let mut key = mac(format!("AWS4{}", self.secret).as_bytes(), day);
        for part in [self.region, service, "aws4_request"] {
            key = mac(&key, part);
        }
        let signature = hex(&mac(&key, &to_sign));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.key)
    }
}

/// SHA-256 in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length will do.
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_signature_is_that_of_awss_own_client() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_862_896);
        let signer = Signer { region: "eu-west-1", key: "AKIDEXAMPLE", secret, at };
        assert_eq!(signer.date(), "20260131T123456Z");
        let body = &hash(b"");
        let headers = &[("host", "s3.test:9000"), ("x-amz-content-sha256", &**body)];
        let path = "/code/a%20b/%C3%A9.zip";
        let asked = Asked { service: "s3", method: "GET", path, query: "versionId=v%2B1", headers, body };
        let expected = "0faa4371acb1fa28d085b1242c89bc0a5032a583a641d196cdf90ad92700fc55";
        assert_eq!(signer.authorization(&asked).rsplit_once("Signature=").unwrap().1, expected);
    }
}
