//! STS: who calls, and taking on roles.

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use hearth_model::AccountId;
use hearth_policy::{Document, Facts, Kind, Principal, Request, evaluate};
use hearth_wire::{Context, Coverage, Error, RoleSession, Timestamp};
use hearth_wire_sts::SessionsApi;
use hearth_wire_sts::types::*;

use crate::arn::RoleArn;
use crate::coverage::STS;
use crate::identity::Identity;
use crate::names::Names;
use crate::record::Role;
use crate::sessions::{self, Session};

const ASSUME_ROLE: &str = "sts:AssumeRole";
/// Of a session of a role or an account, where the caller says nothing.
const ROLE_LIFETIME_S: i64 = 3600;
const ACCOUNT_LIFETIME_S: i64 = 12 * 3600;
/// A role that takes on another keeps it no longer than this.
const CHAINED_LIFETIME_MAX_S: i64 = 3600;

#[async_trait]
impl SessionsApi for Identity {
    fn coverage(&self) -> &'static [Coverage] {
        STS
    }

    async fn assume_role(&self, cx: &Context, input: AssumeRoleRequest) -> Result<AssumeRoleResponse, Error> {
        refuse(
            "AssumeRole",
            &[
                (input.policy.is_some(), "Policy"),
                (input.policy_arns.is_some(), "PolicyArns"),
                (input.tags.is_some(), "Tags"),
                (input.transitive_tag_keys.is_some(), "TransitiveTagKeys"),
                (input.serial_number.is_some(), "SerialNumber"),
                (input.token_code.is_some(), "TokenCode"),
                (input.source_identity.is_some(), "SourceIdentity"),
                (input.provided_contexts.is_some(), "ProvidedContexts"),
                (input.minimum_session_token_size.is_some(), "MinimumSessionTokenSize"),
            ],
        )?;
        let (asked, name) = (input.role_arn.unwrap_or_default(), input.role_session_name.unwrap_or_default());
        let arn = RoleArn::parse(&asked).ok_or_else(|| invalid(format!("{asked} is invalid")))?;
        let caller = Names::of_context(cx);
        let denied = || {
            let message =
                format!("User: {} is not authorized to perform: {ASSUME_ROLE} on resource: {asked}", caller.arn);
            Error::new(403, "AccessDenied", message)
        };
        let role = self.role(&arn.account, &arn.name).await?.map(|role| role.value);
        let role = role.filter(|role| role.path == arn.path).ok_or_else(denied)?;
        let mut facts = caller.facts(Facts::default()).with("sts:RoleSessionName", &name);
        if let Some(external) = input.external_id {
            facts = facts.with("sts:ExternalId", external);
        }
        let arns = caller.arns();
        let principal = Principal::Account { id: &cx.account, arns: &arns };
        if !is_trusted(&role, &arn, principal, &facts) {
            return Err(denied());
        }
        let lifetime = input.duration_seconds.unwrap_or(ROLE_LIFETIME_S);
        if cx.session.is_some() && lifetime > CHAINED_LIFETIME_MAX_S {
            return Err(invalid(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            ));
        }
        if lifetime > role.max_session_s {
            return Err(invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role."));
        }
        let session = RoleSession { role: arn.to_string(), name: name.clone() };
        let session = Session { account: arn.account.clone(), role: Some(session) };
        Ok(AssumeRoleResponse {
            credentials: Some(self.credentials(session, lifetime)),
            assumed_role_user: Some(AssumedRoleUser {
                assumed_role_id: Some(format!("{}:{name}", role.id)),
                arn: Some(arn.assumed(&name)),
            }),
            ..AssumeRoleResponse::default()
        })
    }

    async fn get_caller_identity(
        &self,
        cx: &Context,
        _: GetCallerIdentityRequest,
    ) -> Result<GetCallerIdentityResponse, Error> {
        let names = Names::of_context(cx);
        let user_id = Some(self.user_id(&names).await?);
        Ok(GetCallerIdentityResponse { user_id, account: Some(names.account), arn: Some(names.arn) })
    }

    async fn get_session_token(
        &self,
        cx: &Context,
        input: GetSessionTokenRequest,
    ) -> Result<GetSessionTokenResponse, Error> {
        refuse(
            "GetSessionToken",
            &[
                (input.serial_number.is_some(), "SerialNumber"),
                (input.token_code.is_some(), "TokenCode"),
                (input.minimum_session_token_size.is_some(), "MinimumSessionTokenSize"),
            ],
        )?;
        if cx.session.is_some() {
            return Err(Error::new(403, "AccessDenied", "Cannot call GetSessionToken with session credentials"));
        }
        let account = AccountId::parse(&cx.account).unwrap_or_else(AccountId::default_account);
        let lifetime = input.duration_seconds.unwrap_or(ACCOUNT_LIFETIME_S);
        let credentials = Some(self.credentials(Session { account, role: None }, lifetime));
        Ok(GetSessionTokenResponse { credentials, ..GetSessionTokenResponse::default() })
    }
}

impl Identity {
    fn credentials(&self, session: Session, lifetime_s: i64) -> Credentials {
        let lifetime = Duration::from_secs(lifetime_s.unsigned_abs());
        let sessions::Credentials { access_key, secret, token, expires } = self.sessions().issue(session, lifetime);
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Credentials {
            access_key_id: Some(access_key),
            secret_access_key: Some(secret.reveal().to_owned()),
            session_token: Some(token.reveal().to_owned()),
            expiration: Some(Timestamp(i64::try_from(expires).unwrap_or(i64::MAX))),
        }
    }
}

/// Whether a role's trust policy lets somebody take it on.
pub fn is_trusted(role: &Role, arn: &RoleArn, principal: Principal<'_>, facts: &Facts) -> bool {
    let document = serde_json::from_str(&role.trust).ok();
    let Some(document) = document.and_then(|document| Document::parse(&document, Kind::Trust).ok()) else {
        return false;
    };
    let resource = arn.to_string();
    evaluate(&[&document], &Request { principal, action: ASSUME_ROLE, resource: &resource, facts }).is_allowed()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(400, "ValidationError", message)
}

/// Refuses by name the first parameter that was given and is not built.
fn refuse(operation: &str, parameters: &[(bool, &str)]) -> Result<(), Error> {
    match parameters.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(Error::not_supported(format_args!("sts:{operation} with {name}"))),
        None => Ok(()),
    }
}
