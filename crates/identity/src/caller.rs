//! The credential scope of a SigV4 request: `KEY/DATE/REGION/SERVICE/aws4_request`.

use hearth_model::{AccountId, Region};

/// Longest header or query value that is looked at, bytes.
const LENGTH_MAX: usize = 8192;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub account: AccountId,
    pub region: Region,
    /// Signing name of the service; none when the request is not signed.
    pub service: Option<String>,
    pub access_key: Option<String>,
}

/// A signature that does not read (AWS: 403 `IncompleteSignatureException`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    #[error("Authorization header requires 'Credential' parameter. Authorization={0}")]
    NoCredential(String),
    #[error("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{0}'")]
    Malformed(String),
}

/// From the `Authorization` header, else from a presigned query, else nobody in particular.
pub fn identify(authorization: Option<&str>, query: &str) -> Result<Caller, IdentifyError> {
    let credential = match authorization.filter(|value| value.starts_with("AWS4-")) {
        Some(value) => Some(of_header(value)?),
        None => of_query(query),
    };
    if credential.is_none()
        && let Some(key) = of_version_2(authorization, query)
    {
        return Ok(Caller {
            account: AccountId::parse(&key).unwrap_or_else(AccountId::default_account),
            region: Region::default_region(),
            service: Some("s3".to_owned()),
            access_key: Some(key),
        });
    }
    let Some(credential) = credential else {
        return Ok(Caller {
            account: AccountId::default_account(),
            region: Region::default_region(),
            service: None,
            access_key: None,
        });
    };
    of_scope(&credential)
}

fn of_header(value: &str) -> Result<String, IdentifyError> {
    let short = || value.chars().take(200).collect();
    if value.len() > LENGTH_MAX {
        return Err(IdentifyError::NoCredential(short()));
    }
    let parameters = value.split_once(' ').map_or("", |(_, rest)| rest);
    let credential = parameters.split(',').find_map(|parameter| parameter.trim().strip_prefix("Credential="));
    credential.map(str::to_owned).ok_or_else(|| IdentifyError::NoCredential(short()))
}

fn of_query(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
    Some(value.replace("%2F", "/").replace("%2f", "/")).filter(|value| value.len() <= LENGTH_MAX)
}

/// The key of a signature of the second version, which only S3 still has: it names no service, and no region.
fn of_version_2(authorization: Option<&str>, query: &str) -> Option<String> {
    let of_header = authorization.and_then(|value| Some(value.strip_prefix("AWS ")?.split_once(':')?.0));
    let of_query = || {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value("Signature").and(value("AWSAccessKeyId"))
    };
    of_header.or_else(of_query).map(str::to_owned).filter(|key| !key.is_empty() && key.len() <= LENGTH_MAX)
}

fn of_scope(credential: &str) -> Result<Caller, IdentifyError> {
    let malformed = || IdentifyError::Malformed(credential.chars().take(200).collect());
    let mut parts = credential.rsplitn(5, '/');
    let (Some("aws4_request"), Some(service), Some(region), Some(_date), Some(key)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if key.is_empty() || service.is_empty() {
        return Err(malformed());
    }
    Ok(Caller {
        account: AccountId::parse(key).unwrap_or_else(AccountId::default_account),
        region: Region::parse(region).unwrap_or_else(Region::default_region),
        service: Some(service.to_owned()),
        access_key: Some(key.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(credential: &str) -> String {
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0")
    }

    #[test]
    fn the_scope_says_region_and_service_and_twelve_digits_an_account() {
        let caller = identify(Some(&header("123456789012/20260101/eu-west-1/lambda/aws4_request")), "").unwrap();
        assert_eq!((caller.account.as_str(), caller.region.as_str()), ("123456789012", "eu-west-1"));
        assert_eq!(caller.service.as_deref(), Some("lambda"));
        let caller = identify(Some(&header("AKIDEXAMPLE/20260101/us-east-1/sts/aws4_request")), "").unwrap();
        assert_eq!(caller.account, AccountId::default_account());
    }

    #[test]
    fn presigned_queries_and_unsigned_requests_are_callers_too() {
        let caller = identify(None, "X-Amz-Credential=k%2F20260101%2Fus-west-2%2Flambda%2Faws4_request&a=b").unwrap();
        assert_eq!(caller.region.as_str(), "us-west-2");
        assert_eq!(identify(None, "").unwrap().service, None);
        assert_eq!(identify(Some("Basic abc"), "").unwrap().service, None);
    }

    #[test]
    fn signatures_of_the_second_version_are_of_s3() {
        let caller = identify(Some("AWS 123456789012:abc="), "").unwrap();
        assert_eq!((caller.account.as_str(), caller.service.as_deref()), ("123456789012", Some("s3")));
        let caller = identify(None, "AWSAccessKeyId=test&Signature=a%3D&Expires=1").unwrap();
        assert_eq!((caller.access_key.as_deref(), caller.service.as_deref()), (Some("test"), Some("s3")));
        assert_eq!(identify(None, "AWSAccessKeyId=test").unwrap().service, None);
    }

    #[test]
    fn signatures_that_do_not_read_are_errors() {
        assert!(identify(Some("AWS4-HMAC-SHA256 SignedHeaders=host"), "").is_err());
        for scope in ["a/b/c", "k/d/r/s/other", "/20260101/us-east-1/lambda/aws4_request"] {
            assert!(identify(Some(&header(scope)), "").is_err(), "{scope}");
        }
    }
}
