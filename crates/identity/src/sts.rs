//! STS, as far as this first mode needs it: `GetCallerIdentity` answers, all else refuses by name.

use hearth_model::AccountId;
use hearth_wire::{Error, Reply, query};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Who asks.
pub enum Principal<'a> {
    /// Outside: the account's root, as nobody is told apart there yet.
    Account(&'a AccountId),
    /// A function: its role's session.
    Role { account: &'a AccountId, arn: &'a str, session: &'a str },
}

/// Answers one Query request.
pub fn answer(form: &[u8], principal: &Principal<'_>, request_id: &str) -> Reply {
    let Some(action) = query::action(form) else {
        let error = Error::new(400, "MissingAction", "The request must contain the parameter Action.");
        return query::error(&error, NAMESPACE, request_id);
    };
    if action != "GetCallerIdentity" {
        let error = Error::not_supported(format_args!("sts:{}", action.chars().take(64).collect::<String>()));
        return query::error(&error, NAMESPACE, request_id);
    }
    let (account, user, arn) = match principal {
        Principal::Account(account) => {
            (account.to_string(), account.to_string(), format!("arn:aws:iam::{account}:root"))
        }
        Principal::Role { account, arn, session } => {
            let role = arn.rsplit('/').next().unwrap_or_default();
            let assumed = format!("arn:aws:sts::{account}:assumed-role/{role}/{session}");
            (account.to_string(), format!("AROAHEARTH:{session}"), assumed)
        }
    };
    let members = [("Arn", arn.as_str()), ("UserId", user.as_str()), ("Account", account.as_str())];
    query::reply("GetCallerIdentity", NAMESPACE, &members, request_id)
}
