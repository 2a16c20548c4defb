//! Where records and dead letters go. Functions are reached in this room; what leaves it is taken there by [`Couriers`].

use bytes::Bytes;
use hearth_model::BoxFuture;
use hearth_store::queue::Ms;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    Lambda,
    Sqs,
    Sns,
    EventBridge,
    S3,
}

/// The parts of a destination's ARN: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub arn: String,
    pub service: Service,
    /// Empty for buckets.
    pub region: String,
    /// Empty for buckets.
    pub account: String,
    /// A queue's or topic's name, `event-bus/NAME`, a bucket, `function:NAME[:QUALIFIER]`.
    pub resource: String,
}

impl Target {
    /// `None` for what is no ARN, or one of another service.
    pub fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        if parts.next() != Some("arn") || !parts.next()?.starts_with("aws") {
            return None;
        }
        let (service, region, account) = (parts.next()?, parts.next()?, parts.next()?);
        let resource = parts.next().filter(|resource| !resource.is_empty())?;
        let service = match service {
            "lambda" if resource.starts_with("function:") => Service::Lambda,
            "sqs" => Service::Sqs,
            "sns" => Service::Sns,
            "events" if resource.starts_with("event-bus/") => Service::EventBridge,
            "s3" if region.is_empty() => Service::S3,
            _ => return None,
        };
        let (arn, region) = (arn.to_owned(), region.to_owned());
        Some(Target { arn, service, region, account: account.to_owned(), resource: resource.to_owned() })
    }
}

/// Something on its way out of the room.
pub struct Delivery {
    /// Whose function it comes from, and where that is.
    pub account: String,
    pub region: String,
    pub target: Target,
    pub parcel: Parcel,
    /// `X-Amzn-Trace-Id` of the event.
    pub trace: Option<String>,
}

pub enum Parcel {
    /// What became of an event (spec 5.5).
    Record {
        json: Bytes,
        success: bool,
        /// Of the function, with `$LATEST`.
        function_arn: String,
        function_name: String,
        request_id: String,
        at: Ms,
    },
    /// What became of records of a stream (spec 6.5), and they themselves, as JSON with commas between.
    Batch {
        json: Bytes,
        records: Bytes,
        /// Of the mapping and its shard.
        folder: String,
        request_id: String,
        at: Ms,
    },
    /// An event that came to nothing, as it was accepted (spec 5.6).
    DeadLetter { body: Bytes, request_id: String, error_code: String, error_message: String },
}

/// Reaches what is not in this room.
pub trait Couriers: Send + Sync + 'static {
    /// Why nothing can be taken to this service here, in words; `None` when it can.
    fn unable(&self, service: Service) -> Option<String>;

    /// `Err` says why it is not there. What is delivered twice, after a crash, must do no harm that once does not.
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_the_five_services_are_told_from_others() {
        let service = |arn: &str| Target::parse(arn).map(|target| target.service);
        let at = "us-east-1:000000000000";
        assert_eq!(service(&format!("arn:aws:lambda:{at}:function:f:live")), Some(Service::Lambda));
        assert_eq!(service(&format!("arn:aws:sqs:{at}:q")), Some(Service::Sqs));
        assert_eq!(service(&format!("arn:aws:sns:{at}:t")), Some(Service::Sns));
        assert_eq!(service(&format!("arn:aws:events:{at}:event-bus/default")), Some(Service::EventBridge));
        assert_eq!(service("arn:aws:s3:::bucket"), Some(Service::S3));
        for other in ["", "arn", "arn:aws:kinesis:us-east-1:1:stream/s", "arn:aws:sqs:us-east-1:1:", "q"] {
            assert_eq!(service(other), None, "{other}");
        }
        let lambda = Target::parse(&format!("arn:aws:lambda:{at}:function:f:live")).unwrap();
        assert_eq!((lambda.account.as_str(), lambda.resource.as_str()), ("000000000000", "function:f:live"));
    }
}
