//! Takes records of invocations and dead letters to what is not a function: a [`Destination`] for each service.

mod buckets;
mod publish;
mod queues;

use std::sync::Arc;

use hearth_events::{Couriers, Delivery, Service};
use hearth_model::BoxFuture;

pub use buckets::Buckets;
pub use publish::{Buses, Publisher, Topics};
pub use queues::Queues;

/// One service that can be reached.
pub trait Destination: Send + Sync + 'static {
    /// As [`Couriers::deliver`] says it.
    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>>;
}

/// The way to a service, or why there is none, in words.
pub type Way = Result<Arc<dyn Destination>, &'static str>;

pub struct Courier {
    pub queues: Way,
    pub topics: Way,
    pub buses: Way,
    pub buckets: Way,
}

impl Courier {
    fn way(&self, service: Service) -> &Way {
        match service {
            Service::Sqs => &self.queues,
            Service::Sns => &self.topics,
            Service::EventBridge => &self.buses,
            Service::S3 => &self.buckets,
            // Functions are reached by `events` itself.
            Service::Lambda => &Err("functions"),
        }
    }
}

impl Couriers for Courier {
    fn unable(&self, service: Service) -> Option<String> {
        self.way(service).as_ref().err().map(|why| (*why).to_owned())
    }

    fn deliver(&self, delivery: Delivery) -> BoxFuture<'_, Result<(), String>> {
        match self.way(delivery.target.service) {
            Ok(destination) => destination.deliver(delivery),
            Err(why) => Box::pin(async move { Err(format!("Hearth does not support {why}")) }),
        }
    }
}
