//! The Extensions API, with AWS's statuses and texts (spec 4.5).

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use uuid::Uuid;

use super::{Door, NextNotice, Welcome};
use crate::extensions::{EXTENSIONS_MAX, Failing, Notice, Refused};
use crate::posted;
use crate::reply::{self, Reply};

/// Bytes of a registration. It holds a few words.
const REGISTRATION_MAX: usize = 16 * 1024;

const NAME: &str = "lambda-extension-name";
const FEATURES: &str = "lambda-extension-accept-feature";
const IDENTIFIER: &str = "lambda-extension-identifier";
const EVENT_IDENTIFIER: &str = "lambda-extension-event-identifier";
const ERROR_TYPE: &str = "lambda-extension-function-error-type";

pub(super) async fn register(door: &Door, head: &Parts, mut body: Incoming) -> Reply {
    let name = text(&head.headers, NAME);
    if name.is_empty() {
        return door.refuse(body, forbidden("Extension.InvalidExtensionName", "Empty extension name")).await;
    }
    let events = match posted::read_at_most(&mut body, REGISTRATION_MAX).await {
        Ok(posted) => events(&posted.body),
        Err(_) => Err(format!("the registration is longer than {REGISTRATION_MAX} bytes, or was cut off")),
    };
    let registered = match events {
        Ok(events) => door.runtime.register(&name, &events).map_err(|refused| refusal(&refused)),
        Err(message) => Err(forbidden("InvalidRequestFormat", &message)),
    };
    match registered {
        Ok(welcome) => {
            let features = text(&head.headers, FEATURES);
            greeting(&welcome, features.split(',').any(|feature| feature.trim() == "accountId"))
        }
        Err(reply) => door.refuse(body, reply).await,
    }
}

pub(super) async fn next(door: &Door, head: &Parts, body: Incoming) -> Reply {
    let asked = identifier(&head.headers)
        .and_then(|id| door.runtime.next_notice(id).map_err(|refused| Box::new(refusal(&refused))));
    match asked {
        Ok(NextNotice::Now(notice)) => {
            door.waste(0).await;
            told(&notice)
        }
        Ok(NextNotice::Later(later)) => match later.await {
            Ok(notice) => told(&notice),
            Err(_) => door.refuse(body, refusal(&Refused::Ended)).await,
        },
        Err(reply) => door.refuse(body, *reply).await,
    }
}

/// Whatever else it says of its error is not kept: neither does AWS.
pub(super) async fn error(door: &Door, failing: Failing, head: &Parts, body: Incoming) -> Reply {
    let reply = match (identifier(&head.headers), text(&head.headers, ERROR_TYPE)) {
        (Err(reply), _) => *reply,
        (Ok(_), error_type) if error_type.is_empty() => {
            forbidden("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
        }
        (Ok(id), error_type) => match door.runtime.extension_error(id, failing, &error_type) {
            Ok(()) => reply::accepted(),
            Err(Refused::Unknown(_)) => {
                forbidden("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")
            }
            Err(refused) => refusal(&refused),
        },
    };
    door.refuse(body, reply).await
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// Whose call it is, else what is said to it.
pub(super) fn identifier(headers: &HeaderMap) -> Result<Uuid, Box<Reply>> {
    let id = text(headers, IDENTIFIER);
    if id.is_empty() {
        let message = "Missing Lambda-Extension-Identifier header";
        return Err(Box::new(forbidden("Extension.MissingExtensionIdentifier", message)));
    }
    let invalid = || forbidden("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier");
    Uuid::parse_str(&id).map_err(|_| Box::new(invalid()))
}

/// What a registration asks to be told of.
fn events(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Registration {
        events: Option<Vec<String>>,
        configuration_keys: Option<Vec<String>>,
    }
    let registration: Registration = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    if registration.configuration_keys.is_some_and(|keys| !keys.is_empty()) {
        return Err("configurationKeys are deprecated; use environment variables instead".to_owned());
    }
    Ok(registration.events.unwrap_or_default())
}

fn greeting(welcome: &Welcome, with_account: bool) -> Reply {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        function_name: &'a str,
        function_version: &'a str,
        handler: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        account_id: Option<&'a str>,
    }
    let body = Body {
        function_name: &welcome.function_name,
        function_version: &welcome.function_version,
        handler: &welcome.handler,
        account_id: with_account.then_some(&welcome.account_id),
    };
    with_id(json(&body), IDENTIFIER, welcome.id)
}

fn told(notice: &Notice) -> Reply {
    #[derive(serde::Serialize)]
    struct Tracing<'a> {
        r#type: &'static str,
        value: &'a str,
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        event_type: &'static str,
        deadline_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        invoked_function_arn: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tracing: Option<Tracing<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        shutdown_reason: Option<&'static str>,
    }
    let body = match notice {
        Notice::Invoke(event) => Body {
            event_type: "INVOKE",
            deadline_ms: event.deadline_ms,
            request_id: Some(event.request_id.as_str()),
            invoked_function_arn: Some(&event.invoked_arn),
            tracing: Some(Tracing { r#type: "X-Amzn-Trace-Id", value: event.trace.as_deref().unwrap_or_default() }),
            shutdown_reason: None,
        },
        Notice::Shutdown { deadline_ms, reason } => Body {
            event_type: "SHUTDOWN",
            deadline_ms: *deadline_ms,
            request_id: None,
            invoked_function_arn: None,
            tracing: None,
            shutdown_reason: Some(reason.as_str()),
        },
    };
    with_id(json(&body), EVENT_IDENTIFIER, Uuid::new_v4())
}

fn json(body: &impl serde::Serialize) -> Reply {
    // These structures have nothing that cannot be written.
    let body = serde_json::to_vec(body).unwrap_or_default();
    reply::reply(StatusCode::OK, reply::JSON, Bytes::from(body))
}

fn with_id(mut reply: Reply, name: &'static str, id: Uuid) -> Reply {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

fn forbidden(error_type: &str, message: &str) -> Reply {
    reply::failure(StatusCode::FORBIDDEN, error_type, message)
}

pub(super) fn refusal(refused: &Refused) -> Reply {
    match refused {
        Refused::InvalidEventType { event, why } => forbidden("Extension.InvalidEventType", &format!("{event}: {why}")),
        Refused::InvalidTransition { from, to, who } => {
            let message = format!(
                "State transition from {from} to {to} failed for extension {who}. Error: State transition is not allowed"
            );
            forbidden("Extension.InvalidExtensionState", &message)
        }
        Refused::NameTaken => {
            forbidden("Extension.InvalidExtensionState", "Extension with this name already registered")
        }
        Refused::RegistrationClosed => {
            forbidden("Extension.RegistrationClosed", "Extension registration closed already")
        }
        Refused::TooMany => {
            forbidden("Extension.TooManyExtensions", &format!("Extension limit ({EXTENSIONS_MAX}) reached"))
        }
        Refused::Unknown(id) => forbidden("Extension.UnknownExtensionIdentifier", &format!("Unknown extension {id}")),
        Refused::Ended => {
            reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")
        }
    }
}
