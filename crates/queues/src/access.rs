//! What a queue's policy lets whom do. An account may do everything with its own queues but what their policies deny it;
//! others, and services, may do what a policy says.

use hearth_policy::{Decision, Facts, Principal, Request, evaluate};
use hearth_wire::{Context, Error};

use crate::live::Live;

/// Which account's asks are heard without a policy: the owner's.
pub fn check(cx: &Context, live: &Live, action: &str) -> Result<(), Error> {
    let arns: Vec<&str> = cx.session.iter().map(|session| session.role.as_str()).collect();
    let root = format!("arn:aws:iam::{}:root", cx.account);
    let arns = if arns.is_empty() { vec![root.as_str()] } else { arns };
    let principal = Principal::Account { id: &cx.account, arns: &arns };
    let facts = Facts::default().with("aws:PrincipalAccount", &cx.account).with("aws:PrincipalArn", arns[0]);
    let is_own = cx.account == live.place.account;
    if is_let(live, principal, action, &facts, is_own) {
        return Ok(());
    }
    let why = if is_own { "with an explicit deny in" } else { "because no resource-based policy allows it by" };
    Err(Error::new(
        403,
        "AccessDenied",
        format!(
            "User: {} is not authorized to perform: sqs:{} on resource: {} {why} a resource-based policy",
            arns[0],
            action.to_lowercase(),
            live.place.arn()
        ),
    ))
}

pub fn is_let(live: &Live, principal: Principal<'_>, action: &str, facts: &Facts, is_own: bool) -> bool {
    let kept = live.kept();
    let action = format!("sqs:{action}");
    let request = Request { principal, action: &action, resource: &live.place.arn(), facts };
    match evaluate(&kept.settings.policy.iter().collect::<Vec<_>>(), &request) {
        Decision::Allowed { .. } => true,
        Decision::Denied { .. } => false,
        Decision::NotMentioned => is_own,
    }
}
