//! Who a request means: the one place where names and ARNs of requests are taken apart (spec 1.3).

use hearth_model::{AccountId, FunctionArn, FunctionName, FunctionRef, LayerArn, RefError, Region, ResourceArn};
use hearth_wire::{Context, Error};
use hearth_wire_lambda::errors::{
    invalid_parameter_value_exception as invalid, resource_not_found_exception as not_found,
};
use hearth_wire_lambda::other_account;

use crate::record::Owner;

const FUNCTIONS_ONLY: &str = "This operation is permitted on Lambda functions only. Aliases and versions do not support this \
                              operation. Please specify either a function name or an unqualified function ARN.";

/// Seen in the wild, from updates of code and configuration.
const LATEST_ONLY: &str = "Current operation does not support versions other than $LATEST. Please set the version to $LATEST or \
                           do not set a version in your request.";

/// The caller's account and region.
pub fn owner(cx: &Context) -> Owner {
    Owner {
        account: AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account),
        region: Region::parse(&cx.region).unwrap_or_else(Region::default_region),
    }
}

/// The caller's function that is meant, in whichever form, with what selects a version.
pub fn function(cx: &Context, name: Option<&str>, qualifier: Option<&str>) -> Result<FunctionArn, Error> {
    let arn = anyones(cx, name, qualifier)?;
    if arn.account == owner(cx).account { Ok(arn) } else { Err(other_account()) }
}

/// As [`function`], but maybe another account's.
pub fn anyones(cx: &Context, name: Option<&str>, qualifier: Option<&str>) -> Result<FunctionArn, Error> {
    let owner = owner(cx);
    let reference = FunctionRef::parse(name.unwrap_or_default());
    let resolved = reference.and_then(|reference| {
        let account = reference.account.as_deref().and_then(AccountId::parse).unwrap_or(owner.account);
        reference.resolve(&account, &owner.region, qualifier)
    });
    resolved.map_err(|error| match error {
        RefError::OtherRegion { .. } => not_found(error.to_string()),
        RefError::OtherAccount => other_account(),
        RefError::NameTooLong { arn } => not_found(format!("Function not found: {arn}")),
        RefError::QualifierMismatch | RefError::Malformed => invalid(error.to_string()),
    })
}

/// The function that a caller wants changed: `$LATEST` may be named, nothing else of it.
pub fn unqualified(cx: &Context, name: Option<&str>) -> Result<FunctionArn, Error> {
    of_latest(&function(cx, name, None)?)
}

/// See [`unqualified`].
pub fn of_latest(arn: &FunctionArn) -> Result<FunctionArn, Error> {
    match &arn.qualifier {
        Some(qualifier) if !qualifier.is_latest() => Err(invalid(LATEST_ONLY)),
        _ => Ok(arn.unqualified()),
    }
}

/// As [`unqualified`], where not even `$LATEST` may be named.
pub fn bare(cx: &Context, name: Option<&str>) -> Result<FunctionArn, Error> {
    of_function(function(cx, name, None)?)
}

/// See [`bare`].
pub fn of_function(arn: FunctionArn) -> Result<FunctionArn, Error> {
    if arn.qualifier.is_some() { Err(invalid(FUNCTIONS_ONLY)) } else { Ok(arn) }
}

/// On creation a long name is an error of its own (recorded).
pub fn created(cx: &Context, name: Option<&str>) -> Result<FunctionArn, Error> {
    let text = name.unwrap_or_default();
    if text.len() > FunctionName::MAX && !text.contains(':') {
        return Err(invalid(format!(
            "1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: Member must have \
             length less than or equal to {}",
            FunctionName::MAX
        )));
    }
    unqualified(cx, name)
}

/// A layer by its name or ARN, maybe another account's. Without a version.
pub fn layer(cx: &Context, name: Option<&str>) -> Result<LayerArn, Error> {
    let owner = owner(cx);
    let text = name.unwrap_or_default();
    if !text.contains(':') {
        return Ok(LayerArn::of(&owner.region, &owner.account, text, None));
    }
    let arn = LayerArn::parse(text).filter(|arn| arn.version.is_none());
    let arn = arn.ok_or_else(|| invalid(format!("Invalid Layer name: {text}")))?;
    in_region(&owner, &arn.region, "Layers")?;
    Ok(arn)
}

/// A layer that the caller owns.
pub fn own_layer(cx: &Context, name: Option<&str>) -> Result<LayerArn, Error> {
    let arn = layer(cx, name)?;
    if arn.account == owner(cx).account { Ok(arn) } else { Err(other_account()) }
}

/// A code signing configuration of the caller: its id, or `None` when the ARN leads to nobody's.
pub fn code_signing<'a>(cx: &Context, arn: &'a str) -> Result<Option<&'a str>, Error> {
    let owner = owner(cx);
    let Some(parsed) = ResourceArn::parse(arn).filter(|parsed| parsed.kind == "code-signing-config") else {
        return Ok(None);
    };
    if parsed.account != owner.account {
        return Err(other_account());
    }
    Ok((parsed.region == owner.region).then_some(parsed.name))
}

pub fn code_signing_arn(owner: &Owner, id: &str) -> String {
    let Owner { account, region } = owner.clone();
    ResourceArn { region, account, kind: "code-signing-config", name: id }.to_string()
}

fn in_region(owner: &Owner, region: &Region, what: &str) -> Result<(), Error> {
    if *region == owner.region {
        return Ok(());
    }
    Err(not_found(format!("{what} from '{region}' are not reachable in this region ('{}')", owner.region)))
}
