//! Who may call a URL: whoever has both permissions that AWS asks for (spec 7.1). Anybody's requests are let by the policy
//! of the function alone; a signed one of the same account by either side, of another account by both.

use hearth_identity::{Caller, Granted};
use hearth_model::Qualifier;
use hearth_policy::{Decision, Document, Facts, Kind, Principal, Request, evaluate};
use hearth_wire::Error;

use super::FunctionUrl;
use crate::control::Control;
use crate::record::UrlAuth;

pub const INVOKE_URL: &str = "lambda:InvokeFunctionUrl";
const INVOKE: &str = "lambda:InvokeFunction";

/// The permission that is missing.
#[derive(Debug)]
pub enum NotLet {
    Lacks(&'static str),
    /// The policies could not be read.
    Failed(Error),
}

impl Control {
    /// Whether somebody who has proven who they are, or anybody, may call a URL. `facts` are those of the request.
    pub async fn lets_call(&self, url: &FunctionUrl, caller: Option<&Caller>, facts: Facts) -> Result<(), NotLet> {
        let own = Own { policy: url.policy(), resource: url.arn.to_string() };
        let facts =
            facts.with("lambda:FunctionUrlAuthType", url.auth().as_str()).with("lambda:FunctionArn", &own.resource);
        let invoked = facts.clone().with("lambda:InvokedViaFunctionUrl", "true");
        for (action, facts) in [(INVOKE_URL, facts), (INVOKE, invoked)] {
            let lets = match (url.auth(), caller) {
                (UrlAuth::None, _) => own.says(Principal::Anyone, action, &facts).is_allowed(),
                (UrlAuth::Iam, None) => false,
                (UrlAuth::Iam, Some(caller)) => self.lets_caller(url, &own, caller, action, facts).await?,
            };
            if !lets {
                return Err(NotLet::Lacks(action));
            }
        }
        Ok(())
    }

    async fn lets_caller(
        &self,
        url: &FunctionUrl,
        own: &Own,
        caller: &Caller,
        action: &'static str,
        facts: Facts,
    ) -> Result<bool, NotLet> {
        let names = caller.names();
        let facts = names.facts(facts);
        let granted = self.inner.ports.identity.grants(&names, action, &own.resource, &facts).await;
        let granted = granted.map_err(NotLet::Failed)?;
        let arns = names.arns();
        let said = own.says(Principal::Account { id: &names.account, arns: &arns }, action, &facts);
        if granted == Granted::Denied || matches!(said, Decision::Denied { .. }) {
            return Ok(false);
        }
        if names.account != url.arn.account.as_str() {
            return Ok(granted == Granted::Allowed && said.is_allowed());
        }
        // A statement that names the account leaves it to the account's own policies.
        let by_name = own.says(Principal::Account { id: "", arns: &arns }, action, &facts);
        Ok(granted == Granted::Allowed || by_name.is_allowed())
    }
}

impl FunctionUrl {
    /// Of the function, or of its alias.
    fn policy(&self) -> Option<Document> {
        let place = self.arn.qualifier.as_ref().map_or("", Qualifier::as_str);
        Document::parse(&self.function.policies.get(place)?.document, Kind::Resource).ok()
    }
}

/// What is to be called, and the policy that goes with it.
struct Own {
    policy: Option<Document>,
    resource: String,
}

impl Own {
    fn says(&self, principal: Principal<'_>, action: &str, facts: &Facts) -> Decision {
        let documents: Vec<&Document> = self.policy.iter().collect();
        evaluate(&documents, &Request { principal, action, resource: &self.resource, facts })
    }
}
