//! A caller, as policies and answers name it.

use hearth_model::Region;
use hearth_policy::Facts;
use hearth_wire::{Context, Error, RoleSession};
use sha2::{Digest, Sha256};

use crate::arn::RoleArn;
use crate::caller::{Caller, Identified};
use crate::identity::Identity;
use crate::sessions::letters;

pub struct Names {
    pub account: String,
    /// The session, or the root of the account.
    pub arn: String,
    /// `aws:PrincipalArn`: the role, or the root of the account.
    principal: String,
    /// A role that was taken on, and the name of the session.
    pub session: Option<(RoleArn, String)>,
}

impl Names {
    pub fn of_context(cx: &Context) -> Self {
        let region = Region::parse(&cx.region).unwrap_or_else(Region::default_region);
        Names::of(cx.account.clone(), &region, cx.session.as_ref())
    }

    fn of(account: String, region: &Region, session: Option<&RoleSession>) -> Self {
        let session = session.and_then(|session| Some((RoleArn::parse(&session.role)?, session.name.clone())));
        let arn = match &session {
            Some((role, name)) => role.assumed(name),
            None => format!("arn:{}:iam::{account}:root", region.partition()),
        };
        let principal = session.as_ref().map_or_else(|| arn.clone(), |(role, _)| role.to_string());
        Names { account, arn, principal, session }
    }

    /// What a policy may name it by, beside its account.
    pub fn arns(&self) -> [&str; 2] {
        [&self.principal, &self.arn]
    }

    /// What conditions may ask of a caller, beside what is known of the request.
    pub fn facts(&self, facts: Facts) -> Facts {
        facts.with("aws:PrincipalAccount", &self.account).with("aws:PrincipalArn", &self.principal)
    }
}

impl Caller {
    pub fn names(&self) -> Names {
        let session = match &self.identified {
            Identified::As(session) => session.as_ref(),
            Identified::No => None,
        };
        Names::of(self.account.to_string(), &self.region, session)
    }
}

impl Identity {
    /// `UserId` of a caller.
    pub async fn user_id(&self, names: &Names) -> Result<String, Error> {
        match &names.session {
            None => Ok(names.account.clone()),
            Some((role, session)) => Ok(format!("{}:{session}", self.role_id(role).await?)),
        }
    }

    /// A function may have a role that was never made: it has an id all the same, always the same one.
    async fn role_id(&self, arn: &RoleArn) -> Result<String, Error> {
        let found = self.role(&arn.account, &arn.name).await?.filter(|role| role.value.path == arn.path);
        Ok(match found {
            Some(role) => role.value.id,
            None => format!("AROA{}", letters(&Sha256::digest(arn.to_string())[..17])),
        })
    }
}
