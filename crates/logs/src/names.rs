//! Which group or stream a request means: the one place where names and ARNs of requests are taken apart.

use hearth_model::{AccountId, LogGroup, Region};
use hearth_wire::{Context, Error};
use hearth_wire_logs::errors::invalid_parameter_exception as invalid;

/// The caller's account and region.
pub fn owner(cx: &Context) -> (AccountId, Region) {
    (
        AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account),
        Region::parse(&cx.region).unwrap_or_else(Region::default_region),
    )
}

/// The caller's group of this name.
pub fn group(cx: &Context, name: &str) -> LogGroup {
    let (account, region) = owner(cx);
    LogGroup { account, region, name: name.into() }
}

/// The group that is named by `logGroupName` or, by name or ARN, by `logGroupIdentifier`: exactly one of them.
pub fn named(cx: &Context, name: Option<&str>, identifier: Option<&str>) -> Result<LogGroup, Error> {
    match (name, identifier) {
        (Some(name), None) => Ok(group(cx, name)),
        (None, Some(identifier)) => identified(cx, identifier),
        (Some(_), Some(_)) => Err(invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")),
        (None, None) => Err(invalid("Either LogGroup name or LogGroup ARN must be provided.")),
    }
}

/// A name, or an ARN without `:*`. Groups of other accounts are nobody's here.
pub fn identified(cx: &Context, identifier: &str) -> Result<LogGroup, Error> {
    if !identifier.starts_with("arn:") {
        return Ok(group(cx, identifier));
    }
    let not_one = || invalid(format!("The specified log group ARN is invalid: {identifier}"));
    of_arn(identifier).filter(|group| group.region == owner(cx).1).ok_or_else(not_one)
}

/// `arn:PARTITION:logs:REGION:ACCOUNT:log-group:NAME`.
pub fn of_arn(arn: &str) -> Option<LogGroup> {
    let mut parts = arn.splitn(7, ':');
    if parts.next()? != "arn" || !parts.next()?.starts_with("aws") || parts.next()? != "logs" {
        return None;
    }
    let (region, account) = (Region::parse(parts.next()?)?, AccountId::parse(parts.next()?)?);
    let name = (parts.next()? == "log-group").then(|| parts.next())??;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/#".contains(&b));
    plain.then(|| LogGroup { account, region, name: name.into() })
}

pub fn arn(group: &LogGroup) -> String {
    let LogGroup { account, region, name } = group;
    format!("arn:{}:logs:{region}:{account}:log-group:{name}", region.partition())
}

pub fn stream_arn(group: &LogGroup, stream: &str) -> String {
    format!("{}:log-stream:{stream}", arn(group))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_read_back_as_they_are_written(name in "[\\.\\-_/#A-Za-z0-9]{1,60}") {
            let group = LogGroup { account: AccountId::default_account(), region: Region::default_region(), name: name.into() };
            prop_assert_eq!(of_arn(&arn(&group)), Some(group));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise_than_by_none(text in "\\PC{0,80}") {
            let _ = of_arn(&text);
        }
    }

    #[test]
    fn an_arn_of_all_streams_is_not_a_groups() {
        assert!(of_arn("arn:aws:logs:us-east-1:000000000000:log-group:a:*").is_none());
        assert!(of_arn("arn:aws:s3:us-east-1:000000000000:log-group:a").is_none());
    }
}
