//! Subscriptions over HTTP, with AWS's statuses (spec 4.6, 4.7).

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;

use super::Door;
use crate::posted;
use crate::reply::{self, Reply};
use crate::subscriptions::Unsubscribed;
use crate::telemetry::{Api, Subscription};

/// Bytes of a subscription.
const SUBSCRIPTION_MAX: usize = 16 * 1024;

pub(super) async fn subscribe(door: &Door, api: Api, head: &Parts, mut body: Incoming) -> Reply {
    let reply = match super::extensions::identifier(&head.headers) {
        Err(reply) => *reply,
        Ok(id) => match posted::read_at_most(&mut body, SUBSCRIPTION_MAX).await {
            Err(_) => {
                invalid(api, &format!("the subscription is longer than {SUBSCRIPTION_MAX} bytes, or was cut off"))
            }
            Ok(posted) => match Subscription::parse(api, &posted.body) {
                Err(message) => invalid(api, &message),
                Ok(subscription) => match door.runtime.subscribe(id, subscription) {
                    Ok(()) => reply::reply(StatusCode::OK, reply::JSON, Bytes::from_static(b"\"OK\"")),
                    Err(unsubscribed) => refusal(api, &unsubscribed),
                },
            },
        },
    };
    door.refuse(body, reply).await
}

fn invalid(api: Api, message: &str) -> Reply {
    let error_type = match api {
        Api::Telemetry => "ValidationError",
        Api::Logs => "Logs.ValidationError",
    };
    reply::failure(StatusCode::BAD_REQUEST, error_type, message)
}

fn refusal(api: Api, unsubscribed: &Unsubscribed) -> Reply {
    let (prefix, name) = match api {
        Api::Telemetry => ("Telemetry", "Telemetry API"),
        Api::Logs => ("Logs", "Logs API"),
    };
    match unsubscribed {
        Unsubscribed::Refused(refused) => super::extensions::refusal(refused),
        Unsubscribed::Closed => {
            let message = format!("{name} subscription is closed already");
            reply::failure(StatusCode::FORBIDDEN, &format!("{prefix}.SubscriptionClosed"), &message)
        }
        // So says AWS's own emulator, and extensions go on without it.
        Unsubscribed::Unsupported => {
            let message = format!("{name} is not supported");
            reply::failure(StatusCode::ACCEPTED, &format!("{prefix}.NotSupported"), &message)
        }
    }
}
