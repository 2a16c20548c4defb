//! AWS-JSON 1.0, and the Query protocol that older clients speak. Every error has a code in each (AWS's guide to SQS,
//! "Common errors", and the trait `awsQueryError` of its model); answers in JSON name the other one in a header.

use hearth_wire::aws_json::CONTENT_TYPE_1_0;
use hearth_wire::query::{self, Flat, Flattened, Form};
use hearth_wire::{Context, Error, Reply};
use serde_json::Value;

use crate::generated::api::Service;
use crate::generated::operations::OPERATIONS;

/// Of the API, as forms name it.
pub const VERSION: &str = "2012-11-05";
const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";
/// Before the names of errors in JSON.
const ERRORS: &str = "com.amazonaws.sqs#";

const NAMES: &[Flat] = &[
    list("AWSAccountIds", "AWSAccountId"),
    list("Actions", "ActionName"),
    list("AttributeNames", "AttributeName"),
    list("BinaryListValues", "BinaryListValue"),
    list("Entries", "*RequestEntry"),
    list("Failed", "BatchResultErrorEntry"),
    list("MessageAttributeNames", "MessageAttributeName"),
    list("MessageSystemAttributeNames", "MessageSystemAttributeName"),
    list("Messages", "Message"),
    list("QueueUrls", "QueueUrl"),
    list("Results", "ListMessageMoveTasksResultEntry"),
    list("StringListValues", "StringListValue"),
    list("Successful", "*ResultEntry"),
    list("TagKeys", "TagKey"),
    list("queueUrls", "QueueUrl"),
    map("Attributes", "Attribute", "Name"),
    map("MessageAttributes", "MessageAttribute", "Name"),
    map("MessageSystemAttributes", "MessageSystemAttribute", "Name"),
    map("Tags", "Tag", "Key"),
    map("tags", "Tag", "Key"),
];

const fn list(member: &'static str, element: &'static str) -> Flat {
    Flat { member, element, key: "" }
}

const fn map(member: &'static str, element: &'static str, key: &'static str) -> Flat {
    Flat { member, element, key }
}

/// Codes whose name in Query is another, and their status there.
const QUERY_CODES: &[(&str, &str, u16)] = &[
    ("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400),
    ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400),
    ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400),
    ("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400),
    ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400),
    ("OverLimit", "OverLimit", 403),
    ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403),
    ("QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400),
    ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400),
    ("QueueNameExists", "QueueAlreadyExists", 400),
    ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404),
    ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400),
    ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400),
];

/// What Query calls an error, also in the answers of batches.
pub fn query_code(code: &str) -> &str {
    QUERY_CODES.iter().find(|(json, ..)| *json == code).map_or(code, |(_, query, _)| query)
}

impl Service {
    /// Answers in AWS-JSON. `name` is the operation that `X-Amz-Target` names.
    pub async fn answer(&self, cx: &Context, name: &str, body: &[u8]) -> Reply {
        match self.call(cx, name, body).await {
            Ok(reply) => Reply::with(200, CONTENT_TYPE_1_0, reply.body),
            Err(error) => in_json(error),
        }
    }

    /// Answers in Query. `path` is where the form was sent, which may be the queue that it is about.
    pub async fn answer_form(&self, cx: &Context, path: &str, form: &Form) -> Reply {
        self.call_form(cx, path, form).await.unwrap_or_else(|error| in_query(error, &cx.request_id))
    }

    async fn call_form(&self, cx: &Context, path: &str, form: &Form) -> Result<Reply, Error> {
        let action = form.action()?;
        let Some(info) = OPERATIONS.iter().find(|info| info.name == action) else {
            return Err(query::unknown("sqs", action, &[], VERSION));
        };
        let flattened = Flattened { names: NAMES, action: info.name };
        let shape = info.input.ok_or_else(|| Error::not_supported(format_args!("sqs:{action}")))?;
        let mut input = flattened.read(shape, form, cx)?;
        if !input.contains_key("QueueUrl") && path.len() > 1 {
            input.insert("QueueUrl".to_owned(), path.into());
        }
        let reply = self.call(cx, info.name, Value::Object(input).to_string().as_bytes()).await?;
        Ok(flattened.write(NAMESPACE, reply.whole().map_or(&[], |body| body), &cx.request_id))
    }
}

/// Also for requests that no operation has seen.
pub fn in_json(error: Error) -> Reply {
    let fault = if error.status < 500 { "Sender" } else { "Receiver" };
    let told = format!("{};{fault}", query_code(&error.code));
    let code = format!("{ERRORS}{}", error.code);
    let mut reply = Error { code: code.into(), ..error }.aws_json(CONTENT_TYPE_1_0);
    reply.header("x-amzn-query-error", &told);
    reply
}

fn in_query(error: Error, request_id: &str) -> Reply {
    let known = QUERY_CODES.iter().find(|(json, ..)| *json == error.code);
    let error = match known {
        Some((_, code, status)) => Error { code: (*code).into(), status: *status, ..error },
        None => error,
    };
    query::error(&error, NAMESPACE, request_id)
}
