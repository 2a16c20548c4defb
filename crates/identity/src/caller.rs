//! What a request's signature says of its caller: the credential scope (`KEY/DATE/REGION/SERVICE/aws4_request`) names
//! region and service, a key of twelve digits an account, and credentials that Hearth issued their session.

use hearth_model::{AccountId, Region};
use hearth_wire::RoleSession;
use hearth_wire::sigv4::Scope;

use crate::sessions::{Expired, Sessions};

/// Longest header or query value that is looked at, bytes.
const LENGTH_MAX: usize = 8192;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub account: AccountId,
    pub region: Region,
    /// Signing name of the service; none when the request is not signed.
    pub service: Option<String>,
    pub access_key: Option<String>,
    pub identified: Identified,
}

/// How much is known of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identified {
    /// Credentials from elsewhere: somebody of the account.
    No,
    /// Credentials of Hearth's own: the account's, or those of a role.
    As(Option<RoleSession>),
}

/// Where credentials are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
    /// The header `X-Amz-Security-Token`.
    pub token: Option<&'a str>,
    pub query: &'a str,
}

/// A signature that does not read, or is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// AWS: 403 `IncompleteSignatureException`.
    #[error("Authorization header requires 'Credential' parameter. Authorization={0}")]
    NoCredential(String),
    /// Likewise.
    #[error("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{0}'")]
    Malformed(String),
    /// AWS: 403 `ExpiredTokenException`, or without the last word. Holds the service that was asked.
    #[error("The security token included in the request is expired")]
    Expired(String),
}

/// From the `Authorization` header, else from a presigned query, else nobody in particular.
pub fn identify(sessions: &Sessions, presented: Presented<'_>) -> Result<Caller, IdentifyError> {
    let Presented { authorization, token, query } = presented;
    let credential = match authorization.filter(|value| value.starts_with("AWS4-")) {
        Some(value) => Some(of_header(value)?),
        None => of_query(query, "X-Amz-Credential"),
    };
    let mut caller = match credential {
        Some(credential) => {
            let malformed = || IdentifyError::Malformed(credential.chars().take(200).collect());
            of_scope(Scope::parse(&credential).ok_or_else(malformed)?)
        }
        None => without_scope(of_version_2(authorization, query)),
    };
    let token = token.map(str::to_owned).or_else(|| of_query(query, "X-Amz-Security-Token"));
    if let (Some(token), Some(key)) = (token, &caller.access_key) {
        let opened = sessions.open(key, &token);
        let opened = opened.map_err(|Expired| IdentifyError::Expired(caller.service.clone().unwrap_or_default()))?;
        if let Some(session) = opened {
            caller.account = session.account;
            caller.identified = Identified::As(session.role);
        }
    }
    Ok(caller)
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

/// A value of the query. Names of the second version are in lower case.
fn of_query(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    let decoded = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
    Some(decoded.into_owned()).filter(|value| value.len() <= LENGTH_MAX)
}

/// The key of a signature of the second version, which only S3 still has: it names no service, and no region.
fn of_version_2(authorization: Option<&str>, query: &str) -> Option<String> {
    let of_header = authorization.and_then(|value| Some(value.strip_prefix("AWS ")?.split_once(':')?.0.to_owned()));
    let key = of_header.or_else(|| of_query(query, "Signature").and(of_query(query, "AWSAccessKeyId")));
    key.filter(|key| !key.is_empty() && key.len() <= LENGTH_MAX)
}

/// `key` is of a signature of the second version, if there is any.
fn without_scope(key: Option<String>) -> Caller {
    Caller {
        account: key.as_deref().and_then(AccountId::parse).unwrap_or_else(AccountId::default_account),
        region: Region::default_region(),
        service: key.is_some().then(|| "s3".to_owned()),
        access_key: key,
        identified: Identified::No,
    }
}

/// As far as the scope says; whose the key is may be known better.
pub fn of_scope(scope: Scope) -> Caller {
    Caller {
        account: AccountId::parse(&scope.access_key).unwrap_or_else(AccountId::default_account),
        region: Region::parse(&scope.region).unwrap_or_else(Region::default_region),
        service: Some(scope.service),
        access_key: Some(scope.access_key),
        identified: Identified::No,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use hearth_model::{FunctionName, SystemClock};

    use super::*;
    use crate::sessions::Session;

    fn sessions() -> Sessions {
        Sessions::new([1; 32], Arc::new(SystemClock))
    }

    fn signed(credential: &str) -> Result<Caller, IdentifyError> {
        let header = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
        identify(&sessions(), Presented { authorization: Some(&header), ..Presented::default() })
    }

    fn queried(query: &str) -> Caller {
        identify(&sessions(), Presented { query, ..Presented::default() }).unwrap()
    }

    #[test]
    fn the_scope_says_region_and_service_and_twelve_digits_an_account() {
        let caller = signed("123456789012/20260101/eu-west-1/lambda/aws4_request").unwrap();
        assert_eq!((caller.account.as_str(), caller.region.as_str()), ("123456789012", "eu-west-1"));
        assert_eq!(caller.service.as_deref(), Some("lambda"));
        let caller = signed("AKIDEXAMPLE/20260101/us-east-1/sts/aws4_request").unwrap();
        assert_eq!((caller.account, caller.identified), (AccountId::default_account(), Identified::No));
    }

    #[test]
    fn presigned_queries_and_unsigned_requests_are_callers_too() {
        let caller = queried("X-Amz-Credential=k%2F20260101%2Fus-west-2%2Flambda%2Faws4_request&a=b");
        assert_eq!(caller.region.as_str(), "us-west-2");
        assert_eq!(queried("").service, None);
        let basic = Presented { authorization: Some("Basic abc"), ..Presented::default() };
        assert_eq!(identify(&sessions(), basic).unwrap().service, None);
    }

    #[test]
    fn signatures_of_the_second_version_are_of_s3() {
        let header = Presented { authorization: Some("AWS 123456789012:abc="), ..Presented::default() };
        let caller = identify(&sessions(), header).unwrap();
        assert_eq!((caller.account.as_str(), caller.service.as_deref()), ("123456789012", Some("s3")));
        let caller = queried("AWSAccessKeyId=test&Signature=a%3D&Expires=1");
        assert_eq!((caller.access_key.as_deref(), caller.service.as_deref()), (Some("test"), Some("s3")));
        assert_eq!(queried("AWSAccessKeyId=test").service, None);
        let session = Session { account: AccountId::parse("123456789012").unwrap(), role: None };
        let credentials = sessions().issue(session, Duration::from_secs(60));
        let (key, token) = (&credentials.access_key, credentials.token.reveal());
        let caller = queried(&format!("AWSAccessKeyId={key}&Signature=a&x-amz-security-token={token}"));
        assert_eq!((caller.account.as_str(), caller.identified), ("123456789012", Identified::As(None)));
    }

    #[test]
    fn signatures_that_do_not_read_are_errors() {
        let without = Presented { authorization: Some("AWS4-HMAC-SHA256 SignedHeaders=host"), ..Presented::default() };
        assert!(identify(&sessions(), without).is_err());
        for scope in ["a/b/c", "k/d/r/s/other", "/20260101/us-east-1/lambda/aws4_request"] {
            assert!(signed(scope).is_err(), "{scope}");
        }
    }

    #[test]
    fn credentials_of_our_own_say_who_calls() {
        let account = AccountId::parse("123456789012").unwrap();
        let role = "arn:aws:iam::123456789012:role/r";
        let credentials = sessions().of_function(&account, role, &FunctionName::parse("f").unwrap());
        let scope = format!("{}/20260101/us-east-1/sts/aws4_request", credentials.access_key);
        let query = format!(
            "X-Amz-Credential={}&X-Amz-Security-Token={}",
            scope.replace('/', "%2F"),
            credentials.token.reveal()
        );
        let session = RoleSession { role: role.to_owned(), name: "f".to_owned() };
        let caller = queried(&query);
        assert_eq!((&caller.account, &caller.identified), (&account, &Identified::As(Some(session))));
        let header = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let presented =
            |token| identify(&sessions(), Presented { authorization: Some(&header), token: Some(token), query: "" });
        assert_eq!(presented(credentials.token.reveal()).unwrap(), caller);
        let foreign = presented("AQoDYXdzEPT//////////wEXAMPLE").unwrap();
        assert_eq!((foreign.account, foreign.identified), (AccountId::default_account(), Identified::No));
    }

    #[test]
    fn credentials_whose_time_is_over_are_refused() {
        let session = Session { account: AccountId::default_account(), role: None };
        let credentials = sessions().issue(session, Duration::ZERO);
        let query = format!(
            "X-Amz-Credential={}%2F20260101%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Security-Token={}",
            credentials.access_key,
            credentials.token.reveal()
        );
        let refused = identify(&sessions(), Presented { query: &query, ..Presented::default() });
        assert_eq!(refused, Err(IdentifyError::Expired("sts".to_owned())));
    }
}
