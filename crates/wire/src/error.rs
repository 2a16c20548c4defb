//! Errors as AWS services answer them, rendered once per protocol.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::Reply;
use crate::query::escape;

/// Which member carries the message: services differ by exception (spec 1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKey {
    Lower,
    Upper,
}

/// Whose fault it was, for the member `Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    User,
    Service,
}

#[derive(Clone, Debug)]
pub struct Error {
    pub status: u16,
    pub code: Cow<'static, str>,
    /// Some AWS errors have none.
    pub message: Option<String>,
    pub key: MessageKey,
    /// Absent on errors outside the model.
    pub fault: Option<Fault>,
    pub extra: Vec<(&'static str, Value)>,
}

impl Error {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Error {
            status,
            code: code.into(),
            message: Some(message.into()),
            key: MessageKey::Lower,
            fault: None,
            extra: Vec::new(),
        }
    }

    pub fn modelled(status: u16, code: &'static str, key: MessageKey, message: impl Into<String>) -> Self {
        let fault = if status < 500 { Fault::User } else { Fault::Service };
        Error { key, fault: Some(fault), ..Error::new(status, code, message) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.push((name, value.into()));
        self
    }

    /// What is not built refuses by name. Clients do not retry a 501.
    pub fn not_supported(what: impl std::fmt::Display) -> Self {
        Error::new(501, "NotImplementedException", format!("Hearth does not support {what}."))
    }

    /// A model constraint is broken; the text is AWS's collective one.
    pub fn validation(text: String) -> Self {
        Error::new(400, "ValidationException", text)
    }

    /// The body is not what the model says at all.
    pub fn serialization(text: impl Into<String>) -> Self {
        Error { fault: Some(Fault::User), ..Error::new(400, "SerializationException", text) }
    }

    pub fn rest_json(&self) -> Reply {
        let mut body: Map<String, Value> = self.extra.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        if let Some(fault) = self.fault {
            let name = if fault == Fault::User { "User" } else { "Service" };
            body.insert("Type".to_owned(), name.into());
        }
        let key = if self.key == MessageKey::Upper { "Message" } else { "message" };
        body.insert(key.to_owned(), self.message.clone().into());
        let mut reply = Reply::new(self.status, "application/json", Value::Object(body).to_string());
        reply.header("x-amzn-errortype", &self.code);
        reply
    }

    /// AWS-JSON: the body names the code. `content_type` says which version.
    pub fn aws_json(&self, content_type: &'static str) -> Reply {
        let mut body = Map::new();
        body.insert("__type".to_owned(), self.code.as_ref().into());
        if let Some(message) = &self.message {
            body.insert("message".to_owned(), message.as_str().into());
        }
        body.extend(self.extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut reply = Reply::new(self.status, content_type, Value::Object(body).to_string());
        reply.header("x-amzn-errortype", &self.code);
        reply
    }

    pub fn rest_xml(&self, request_id: &str) -> Reply {
        let (code, message) = (escape(&self.code), escape(self.message.as_deref().unwrap_or_default()));
        let xml = format!(
            "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
        );
        Reply::new(self.status, "application/xml", xml)
    }
}
