use std::sync::{Mutex, PoisonError};

/// What every handler may know of a request, whatever its operation.
#[derive(Debug, Default)]
pub struct Context {
    /// Twelve digits.
    pub account: String,
    pub region: String,
    /// `x-amzn-RequestId` of the answer.
    pub request_id: String,
    /// Scheme and `Host` of the request, such as `http://127.0.0.1:4566`: URLs in answers are built from it.
    pub origin: String,
    pub access_key: Option<String>,
    /// Whose credentials these are, when they are a role's; else the account's own.
    pub session: Option<RoleSession>,
    /// `Content-Type` of the request.
    pub content_type: Option<String>,
    /// `X-Amzn-Trace-Id` of the request.
    pub trace: Option<String>,
    ignored: Mutex<Vec<String>>,
    answer_headers: Mutex<Vec<(&'static str, String)>>,
}

/// A role that somebody, or a function, has taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSession {
    /// ARN of the role.
    pub role: String,
    pub name: String,
}

impl Context {
    pub fn new(account: &str, region: &str, request_id: &str, origin: &str, access_key: Option<&str>) -> Self {
        Context {
            account: account.to_owned(),
            region: region.to_owned(),
            request_id: request_id.to_owned(),
            origin: origin.to_owned(),
            access_key: access_key.map(str::to_owned),
            ..Context::default()
        }
    }

    /// Notes members that were accepted and ignored.
    pub fn ignore(&self, members: impl IntoIterator<Item = String>) {
        self.ignored.lock().unwrap_or_else(PoisonError::into_inner).extend(members);
    }

    /// A header of the answer that no member of its shape stands for. `name` is in lower case.
    pub fn answer_header(&self, name: &'static str, value: String) {
        self.answer_headers.lock().unwrap_or_else(PoisonError::into_inner).push((name, value));
    }

    /// What [`Context::answer_header`] was told.
    pub fn take_answer_headers(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.answer_headers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the `x-hearth-ignored` header; empty when nothing was.
    pub fn ignored(&self) -> String {
        self.ignored.lock().unwrap_or_else(PoisonError::into_inner).join(",")
    }
}
