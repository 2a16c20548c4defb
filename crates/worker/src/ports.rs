//! What environments are told, and what they need from other rooms.

use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hearth_egress::Egress;
use hearth_identity::Sessions;
use hearth_model::{AccountId, Clock, FunctionArn, LogStreamId, Materials, Region};
use hearth_observe::Logs;

use crate::environment::Environment;
use crate::pools::Pools;

#[derive(Clone, Debug)]
pub struct Config {
    /// Ports of the Hearth endpoint inside an environment; the first is what `AWS_ENDPOINT_URL` names.
    pub endpoint_ports: Vec<u16>,
    /// How long the init phase may take (spec 3.3: 10 s).
    pub init_timeout: Duration,
    /// Likewise of provisioned environments, or the function's own timeout where that is longer (130 s).
    pub provisioned_init_timeout: Duration,
    /// What every REPORT says of how functions are confined, where that is less than usual.
    pub isolation: Option<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            endpoint_ports: vec![4566],
            init_timeout: Duration::from_secs(10),
            provisioned_init_timeout: Duration::from_secs(130),
            isolation: None,
        }
    }
}

/// What environments need from other rooms.
#[derive(Clone)]
pub struct Ports {
    /// Makes sandboxes, or has some.
    pub pools: Pools,
    pub materials: Arc<dyn Materials>,
    pub logs: Logs,
    pub clock: Arc<dyn Clock>,
    pub endpoint: Arc<dyn Endpoint>,
    /// Issues the credentials of functions.
    pub sessions: Sessions,
    /// Decides what functions may reach on the network.
    pub egress: Egress,
}

/// The AWS-shaped door inside an environment (decision 3).
pub trait Endpoint: Send + Sync + 'static {
    /// Serves a non-blocking listener that was made inside, until what it answers is dropped.
    fn serve(&self, listener: TcpListener, identity: EndpointIdentity) -> std::io::Result<Box<dyn Any + Send + Sync>>;
}

/// Who calls through an environment's endpoint.
#[derive(Clone, Debug)]
pub struct EndpointIdentity {
    pub account: AccountId,
    pub region: Region,
    /// ARN of the execution role.
    pub role: String,
    /// Unqualified.
    pub function: FunctionArn,
    pub environment: LogStreamId,
}

/// What an environment tells its owner. Called from tasks of the environment, or of who calls it; must not wait, and may
/// call the environment.
pub trait EnvironmentEvents: Send + Sync + 'static {
    /// It can take an invocation, for the first time or again.
    fn idle(&self, environment: &Environment);

    /// It takes no more and holds nothing. Called once.
    fn gone(&self, environment: &Environment);
}
