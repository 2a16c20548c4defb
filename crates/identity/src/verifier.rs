//! Who has signed a request, proven: the signature is checked with the secret of the credentials that it names.
//!
//! Credentials that Hearth issued have a secret that follows from their token. Of all others the operator's setting is the
//! secret, whatever their key: who knows it is an account, by the same rules as without a proof.

use std::sync::Arc;

use hearth_model::{Clock, Region, Secret};
use hearth_wire::sigv4::{Check, Dialect, Head, Refusal, Signature};

use crate::caller::{Caller, Identified, of_scope};
use crate::sessions::{Expired, Sessions};

/// A cheap handle. No `Debug`: it holds a secret.
#[derive(Clone)]
pub struct Verifier {
    sessions: Sessions,
    local: Arc<Secret>,
    clock: Arc<dyn Clock>,
}

/// What a signature must be for, and of which body.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub service: &'a str,
    pub region: &'a Region,
    /// SHA-256.
    pub body: [u8; 32],
}

/// Why nobody is proven to have signed; texts are AWS's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("Missing Authentication Token")]
    Unsigned,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("Credential should be scoped to correct service: '{0}'.")]
    OtherService(String),
    #[error("Credential should be scoped to a valid region.")]
    OtherRegion,
    #[error("The security token included in the request is expired")]
    Expired,
}

impl Verifier {
    /// `local` is the secret of keys that Hearth did not issue.
    pub fn new(sessions: Sessions, local: Secret, clock: Arc<dyn Clock>) -> Self {
        Verifier { sessions, local: Arc::new(local), clock }
    }

    pub fn verify(&self, head: &Head<'_>, wanted: Wanted<'_>) -> Result<Caller, Unproven> {
        let signature = Signature::presented(head)?.ok_or(Unproven::Unsigned)?;
        let scope = &signature.scope;
        if scope.service != wanted.service {
            return Err(Unproven::OtherService(wanted.service.to_owned()));
        }
        if scope.region != wanted.region.as_str() {
            return Err(Unproven::OtherRegion);
        }
        let mut caller = of_scope(scope.clone());
        let token = signature.token.as_deref();
        let issued = token.map(|token| self.sessions.open(&scope.access_key, token)).transpose();
        let issued = issued.map_err(|Expired| Unproven::Expired)?.flatten();
        let own = token.and_then(|token| self.sessions.secret(&scope.access_key, token));
        let secret = own.as_ref().unwrap_or(&self.local);
        let check = Check {
            dialect: Dialect::SERVICE,
            secret: secret.reveal(),
            now: self.clock.wall(),
            body: Some(wanted.body),
        };
        signature.verify(head, &check)?;
        if let Some(session) = issued {
            caller.account = session.account;
            caller.identified = Identified::As(session.role);
        }
        Ok(caller)
    }
}
