//! Universal targets: operations of other services, whose input is the request (User Guide, "Using universal targets"). Of
//! their thousands there are two here.

use hearth_model::{AccountId, FunctionArn, FunctionRef, Region};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    SendMessage,
    Invoke,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Send { queue: String, body: String, group: Option<String>, deduplication: Option<String> },
    Invoke { function: FunctionArn, payload: String },
}

/// Why an input is no request that can be made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// In AWS's eyes, too.
    Invalid(String),
    NotBuilt(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage {
    queue_url: String,
    message_body: String,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Invoke {
    function_name: String,
    invocation_type: Option<String>,
    payload: Option<String>,
    qualifier: Option<String>,
}

impl Operation {
    pub fn of(arn: &str) -> Option<Self> {
        match arn.strip_prefix("arn:aws:scheduler:::aws-sdk:")? {
            "sqs:sendMessage" => Some(Operation::SendMessage),
            "lambda:invoke" => Some(Operation::Invoke),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Operation::SendMessage => "aws-sdk:sqs:sendMessage",
            Operation::Invoke => "aws-sdk:lambda:invoke",
        }
    }

    fn known(self) -> &'static [&'static str] {
        match self {
            Operation::SendMessage => &["QueueUrl", "MessageBody", "MessageGroupId", "MessageDeduplicationId"],
            Operation::Invoke => &["FunctionName", "InvocationType", "Payload", "Qualifier"],
        }
    }

    /// The request that an input is, of a schedule of this account and region.
    pub fn read(self, input: &str, account: &str, region: &str) -> Result<Call, Unusable> {
        let name = self.name();
        let invalid = |why: String| Unusable::Invalid(format!("The Input of {name} does not read: {why}"));
        let request: Map<String, Value> = serde_json::from_str(input).map_err(|error| invalid(error.to_string()))?;
        if let Some(other) = request.keys().find(|key| !self.known().contains(&key.as_str())) {
            return Err(Unusable::NotBuilt(format!("{other} in the Input of {name}")));
        }
        let request = Value::Object(request);
        match self {
            Operation::SendMessage => {
                let SendMessage { queue_url, message_body, message_group_id, message_deduplication_id } =
                    serde_json::from_value(request).map_err(|error| invalid(error.to_string()))?;
                let mut parts = queue_url.rsplit('/');
                let (Some(queue), Some(owner)) = (parts.next(), parts.next()) else {
                    return Err(invalid(format!("{queue_url} is no URL of a queue")));
                };
                let queue = format!("arn:aws:sqs:{region}:{owner}:{queue}");
                let (group, deduplication) = (message_group_id, message_deduplication_id);
                Ok(Call::Send { queue, body: message_body, group, deduplication })
            }
            Operation::Invoke => {
                let Invoke { function_name, invocation_type, payload, qualifier } =
                    serde_json::from_value(request).map_err(|error| invalid(error.to_string()))?;
                if invocation_type.as_deref() != Some("Event") {
                    return Err(Unusable::NotBuilt(format!("{name} of another InvocationType than Event")));
                }
                let payload = payload.unwrap_or_else(|| "{}".to_owned());
                if serde_json::from_str::<serde::de::IgnoredAny>(&payload).is_err() {
                    return Err(invalid("Payload is no JSON".to_owned()));
                }
                let function = AccountId::parse(account).zip(Region::parse(region)).and_then(|(account, region)| {
                    FunctionRef::parse(&function_name).ok()?.resolve(&account, &region, qualifier.as_deref()).ok()
                });
                let function = function.ok_or_else(|| invalid(format!("{function_name} is no function here")))?;
                Ok(Call::Invoke { function, payload })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACCOUNT: &str = "000000000000";

    fn read(operation: Operation, input: &str) -> Result<Call, Unusable> {
        operation.read(input, ACCOUNT, "us-east-1")
    }

    #[test]
    fn requests_are_read_as_their_services_spell_them() {
        let input = r#"{"MessageBody":"Hello","QueueUrl":"http://h:1/000000000000/q.fifo","MessageGroupId":"g"}"#;
        let queue = "arn:aws:sqs:us-east-1:000000000000:q.fifo".to_owned();
        let (body, group) = ("Hello".to_owned(), Some("g".to_owned()));
        let expected = Call::Send { queue, body, group, deduplication: None };
        assert_eq!(read(Operation::SendMessage, input), Ok(expected));
        let input = r#"{"FunctionName":"f","InvocationType":"Event","Payload":"{\"a\":1}","Qualifier":"live"}"#;
        let function = FunctionArn::parse("arn:aws:lambda:us-east-1:000000000000:function:f:live").unwrap();
        let expected = Call::Invoke { function, payload: "{\"a\":1}".to_owned() };
        assert_eq!(read(Operation::Invoke, input), Ok(expected));
    }

    #[test]
    fn what_is_not_built_is_named_and_what_is_wrong_is_said() {
        for (operation, input, name) in [
            (Operation::SendMessage, r#"{"QueueUrl":"u/q","MessageBody":"b","DelaySeconds":5}"#, "DelaySeconds in"),
            (Operation::Invoke, r#"{"FunctionName":"f"}"#, "InvocationType"),
        ] {
            assert!(matches!(read(operation, input), Err(Unusable::NotBuilt(what)) if what.contains(name)), "{input}");
        }
        for input in ["", "[]", "{}", r#"{"QueueUrl":"q","MessageBody":"b"}"#, r#"{"QueueUrl":"u/q","MessageBody":1}"#]
        {
            assert!(matches!(read(Operation::SendMessage, input), Err(Unusable::Invalid(_))), "{input}");
        }
        let input = r#"{"FunctionName":"f","InvocationType":"Event","Payload":"{"}"#;
        assert!(matches!(read(Operation::Invoke, input), Err(Unusable::Invalid(_))));
    }

    proptest! {
        #[test]
        fn no_input_is_trusted(input in "\\PC{0,60}", is_queue in any::<bool>()) {
            let operation = if is_queue { Operation::SendMessage } else { Operation::Invoke };
            let _ = read(operation, &input);
        }
    }
}
