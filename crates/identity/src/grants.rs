//! What the policies of a caller say of an action, whatever those of the resource say.

use hearth_policy::{Decision, Document, Facts, Kind, Principal, Request, evaluate};
use hearth_wire::Error;

use crate::arn::RoleArn;
use crate::identity::Identity;
use crate::names::Names;
use crate::record::Role;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    Allowed,
    /// By a statement: nothing else can allow it.
    Denied,
    NotMentioned,
}

impl Identity {
    /// An account may do everything with what is its own. So may a role that was never made: functions have such roles as
    /// long as nobody looks, and there is nothing that could say less.
    pub async fn grants(&self, names: &Names, action: &str, resource: &str, facts: &Facts) -> Result<Granted, Error> {
        let Some((arn, _)) = &names.session else { return Ok(Granted::Allowed) };
        let Some(role) = self.role(&arn.account, &arn.name).await?.filter(|role| role.value.path == arn.path) else {
            return Ok(Granted::Allowed);
        };
        let request = Request { principal: Principal::Anyone, action, resource, facts };
        let own = self.documents(arn, &role.value).await?;
        let own = evaluate(&own.iter().collect::<Vec<_>>(), &request);
        let bound = match &role.value.boundary {
            None => None,
            Some(boundary) => {
                let document = self.managed(arn, boundary).await?;
                Some(evaluate(&document.iter().collect::<Vec<_>>(), &request))
            }
        };
        Ok(match (own, bound) {
            (Decision::Denied { .. }, _) | (_, Some(Decision::Denied { .. })) => Granted::Denied,
            (Decision::Allowed { .. }, None | Some(Decision::Allowed { .. })) => Granted::Allowed,
            _ => Granted::NotMentioned,
        })
    }

    /// Inline and attached.
    async fn documents(&self, arn: &RoleArn, role: &Role) -> Result<Vec<Document>, Error> {
        let mut documents: Vec<Document> = role.inline.values().filter_map(|text| parsed(text)).collect();
        for attached in &role.attached {
            documents.extend(self.managed(arn, attached).await?);
        }
        Ok(documents)
    }

    /// A managed policy; `None` where it is gone.
    async fn managed(&self, role: &RoleArn, policy: &str) -> Result<Option<Document>, Error> {
        let text = self.policy_document(&role.account, policy).await?;
        Ok(text.and_then(|text| parsed(&text)))
    }
}

/// It was checked before it was stored.
fn parsed(text: &str) -> Option<Document> {
    Document::parse(&serde_json::from_str(text).ok()?, Kind::Identity).ok()
}
