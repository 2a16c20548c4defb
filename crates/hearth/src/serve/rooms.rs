//! Every room of the server, made in the order in which they need each other.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_control::Control;
use hearth_egress::Egress;
use hearth_events::Events;
use hearth_frontend::{Frontend, Services};
use hearth_identity::{Identity, Verifier};
use hearth_images::{Closed, Images};
use hearth_logs::{CloudWatch, Destinations};
use hearth_mappings::{Mappings, Streams, Tags};
use hearth_model::{BoxFuture, Clock, Functions, Guard, Quotas, SystemClock};
use hearth_objects::Objects;
use hearth_observe::Logs;
use hearth_placement::Placement;
use hearth_queues::Queues;
use hearth_sandbox::launcher::{Launcher, Started};
use hearth_sandbox::process::{self, ProcessDriver};
use hearth_sandbox::{Driver, Isolation, Unavailable};
use hearth_schedules::Schedules;
use hearth_store::{Blobs, DataDir, Records};
use hearth_wire_lambda::TagsApi;
use hearth_worker::{Endpoint, EndpointIdentity, Meminfo, Pools, Worker};
use tokio::sync::{OnceCell, watch};

use super::courier::{self, Buckets, Buses, Courier, Destination, Publisher, Topics};
use super::dependents::Kept;
use super::failed;
use super::kinesis::Kinesis;
use super::operator::ServerOperator;
use super::probe::Probe;
use super::store::Store;
use crate::cli::Failure;
use crate::settings::Settings;

/// The port of the Hearth endpoint inside every environment.
const ENDPOINT_PORT: u16 = 4566;

/// The door inside environments. Rooms need each other in a ring here, which is opened at the end.
pub struct Inside(RwLock<Option<Frontend>>);

impl Inside {
    /// No new environment is served.
    pub fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Endpoint for Inside {
    fn serve(&self, listener: TcpListener, identity: EndpointIdentity) -> io::Result<Box<dyn Any + Send + Sync>> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(frontend) => Endpoint::serve(frontend, listener, identity),
            None => Err(io::Error::other("the server is ending")),
        }
    }
}

/// What was made while the server still had its privileges.
pub struct Made {
    pub launcher: Started,
    pub way: &'static str,
    /// Interpreters that only root could reach.
    pub closed: Closed,
}

pub struct Rooms {
    pub inside: Arc<Inside>,
    pub logs: Logs,
    pub cloudwatch: CloudWatch,
    pub images: Images,
    pub driver: Arc<dyn Driver>,
    /// In front of the driver, for environments.
    pub pools: Pools,
    /// Ready, with how it ended, when the launcher is gone.
    pub launcher_ended: BoxFuture<'static, ExitStatus>,
    pub objects: Option<Objects>,
    pub queues: Option<Queues>,
    pub control: Control,
    pub worker: Worker,
    pub placement: Placement,
    pub events: Events,
    pub mappings: Option<Mappings>,
    pub schedules: Option<Schedules>,
    pub frontend: Frontend,
}

impl Rooms {
    pub async fn make(
        settings: &Settings,
        folder: &DataDir,
        host: Made,
        address: SocketAddr,
        ended: watch::Receiver<bool>,
    ) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let Store { records, queue, packages: blobs, buckets, shared, objects } =
            Store::open(settings, folder, &clock).await?;
        let is_shared = shared.is_some();
        let log_config = hearth_observe::Config {
            retention: settings.logs_retention,
            bytes_max: settings.logs_size.0,
            clock: clock.clone(),
        };
        let logs = Logs::open(&folder.logs(), log_config).map_err(|e| failed("open the logs")(&e))?;
        let launcher = host.launcher.attach().map_err(|e| failed("reach the launcher")(&e))?;
        let launcher_ended = Box::pin(launcher.ended());
        let driver = driver(settings.isolation, folder, launcher).await;
        let pools = Pools::new(pools_budget(settings), driver.clone(), clock.clone(), Arc::new(Meminfo));
        let images = images(settings, host.closed, records.clone(), blobs.clone()).await?;
        let ports = hearth_identity::Ports { records: records.clone(), clock: clock.clone() };
        let identity = Identity::open(ports).await.map_err(|e| failed("open the identities")(&e))?;
        let dependents = Arc::new(Kept::default());
        let queues = if is_shared {
            None
        } else {
            let ports =
                hearth_queues::Ports { records: records.clone(), messages: queue.clone(), clock: clock.clone() };
            Some(Queues::open(ports).await.map_err(|e| failed("open the queues")(&e))?)
        };
        let ports = hearth_control::Ports {
            records: records.clone(),
            packages: Arc::new(images.clone()),
            images: Arc::new(images.clone()),
            runtimes: Arc::new(images.clone()),
            blobs: blobs.clone(),
            stored: buckets,
            dependents: dependents.clone(),
            clock: clock.clone(),
            identity: identity.clone(),
            shared,
        };
        let config = hearth_control::Config {
            quotas: quotas(settings),
            check_roles: settings.iam_check_roles,
            idle_timeout: settings.functions_idle_timeout,
        };
        let control = Control::open(config, ports).await.map_err(|e| failed("open the functions")(&e))?;
        images.used_by(Arc::new(control.clone()));
        let frontend = Frontend::new(hearth_frontend::Config {
            client_timeout: settings.clients_timeout.0,
            ..hearth_frontend::Config::default()
        });
        let inside = Arc::new(Inside(RwLock::new(Some(frontend.clone()))));
        let egress = Egress::new(hearth_egress::Config {
            allow: settings.egress_allow.clone(),
            ..hearth_egress::Config::default()
        });
        let worker = Worker::new(
            hearth_worker::Config {
                endpoint_ports: endpoint_ports(address),
                isolation: said(settings.isolation),
                ..hearth_worker::Config::default()
            },
            hearth_worker::Ports {
                pools: pools.clone(),
                materials: Arc::new(images.clone()),
                logs: logs.clone(),
                clock: clock.clone(),
                endpoint: inside.clone(),
                sessions: identity.sessions().clone(),
                egress: egress.clone(),
            },
        );
        let functions: Arc<dyn Functions> = Arc::new(control.clone());
        let guard = Arc::new(Guard::new(settings.guard_all_loops));
        let couriers = Arc::new(courier(settings, objects.as_ref(), queues.as_ref(), &clock));
        let ports = hearth_events::Ports {
            queue: queue.clone(),
            records: records.clone(),
            functions: functions.clone(),
            couriers: couriers.clone(),
            guard: guard.clone(),
            clock: clock.clone(),
        };
        let events = Events::open(events(settings), ports).await.map_err(|e| failed("open the events")(&e))?;
        dependents.keep(events.clone());
        let ports = hearth_placement::Ports {
            worker: worker.clone(),
            functions: functions.clone(),
            events: Arc::new(events.clone()),
            guard: guard.clone(),
            clock: clock.clone(),
        };
        let placement = Placement::new(placement(settings), ports);
        control.provisioned_by(Arc::new(placement.clone()));
        let schedules = match &queues {
            Some(queues) => {
                let targets = hearth_schedules::Local {
                    functions: functions.clone(),
                    events: Arc::new(events.clone()),
                    queues: queues.clone(),
                };
                let ports = hearth_schedules::Ports {
                    records: records.clone(),
                    queue,
                    targets: Arc::new(targets),
                    roles: settings.iam_check_roles.then(|| identity.clone()),
                    clock: clock.clone(),
                    uuids: Arc::new(uuid::Uuid::new_v4),
                };
                let config = hearth_schedules::Config::new(settings.events_retention);
                Some(Schedules::open(config, ports).await.map_err(|e| failed("open the schedules")(&e))?)
            }
            None => None,
        };
        let mappings = match &queues {
            Some(queues) => {
                let (functions, queues) = (functions.clone(), queues.clone());
                let (guard, clock) = (guard.clone(), clock.clone());
                let streams = settings.endpoints_kinesis.clone();
                let streams = streams.map(|endpoint| Kinesis::new(endpoint, clock.clone()));
                let streams = streams.map(|kinesis| Arc::new(kinesis) as Arc<dyn Streams>);
                let ports = hearth_mappings::Ports { records, functions, queues, streams, couriers, guard, clock };
                Some(Mappings::open(ports).await.map_err(|e| failed("open the event source mappings")(&e))?)
            }
            None => None,
        };
        let destinations = Destinations { functions, events: Arc::new(events.clone()) };
        let cloudwatch = CloudWatch::new(logs.clone(), destinations, clock.clone());
        let operator = ServerOperator {
            images: images.clone(),
            control: control.clone(),
            events: events.clone(),
            mappings: mappings.clone(),
            schedules: schedules.clone(),
            guard,
            logs: logs.clone(),
            cloudwatch: cloudwatch.clone(),
            isolation: settings.isolation,
            way: host.way,
            probe: Probe::new(driver.clone(), Arc::new(images.clone())),
            driver: driver.clone(),
            egress,
            placement: placement.clone(),
            worker: worker.clone(),
            doctor: OnceCell::new(),
            ended,
        };
        frontend.open(Services {
            lambda: lambda(&control, &placement, (!is_shared).then_some(&events), mappings.as_ref()),
            iam: identity.iam(),
            sts: identity.sts(),
            logs: cloudwatch.service(),
            scheduler: schedules.as_ref().map(Schedules::service),
            sqs: queues.as_ref().map(Queues::service),
            sessions: identity.sessions().clone(),
            control: control.clone(),
            verifier: verifier(settings, &identity, &clock),
            identity,
            invoke: Arc::new(placement.clone()),
            clock,
            objects: objects.clone(),
            operator: Arc::new(operator),
        });
        Ok(Rooms {
            inside,
            logs,
            cloudwatch,
            images,
            driver,
            pools,
            launcher_ended,
            objects,
            queues,
            control,
            worker,
            placement,
            events,
            mappings,
            schedules,
            frontend,
        })
    }
}

fn verifier(settings: &Settings, identity: &Identity, clock: &Arc<dyn Clock>) -> Verifier {
    Verifier::new(identity.sessions().clone(), settings.auth_local_secret.0.clone(), clock.clone())
}

/// Where functions cannot be confined, the server serves all but them, and says why.
async fn driver(isolation: Isolation, folder: &DataDir, launcher: Launcher) -> Arc<dyn Driver> {
    let config =
        process::Config { instance: folder.instance().to_owned(), scratch: folder.path().join("scratch"), isolation };
    match ProcessDriver::open(launcher.clone(), config).await {
        Ok(driver) => Arc::new(driver),
        Err(error) => {
            tracing::error!(%error, "functions cannot run: see hearth doctor");
            Arc::new(Unavailable::new(&error, launcher))
        }
    }
}

/// Of pools that are off, nothing is kept.
fn pools_budget(settings: &Settings) -> u64 {
    if settings.pools_enabled { settings.pools_memory.0 } else { 0 }
}

/// What every REPORT says of it.
fn said(isolation: Isolation) -> Option<&'static str> {
    (isolation != Isolation::Process).then(|| isolation.as_str())
}

/// Looks for runtimes, which takes a moment.
async fn images(
    settings: &Settings,
    closed: Closed,
    records: Arc<dyn Records>,
    blobs: Arc<dyn Blobs>,
) -> Result<Images, Failure> {
    let config = hearth_images::Config {
        cache_dir: settings.cache_dir.clone(),
        closed,
        substitute: settings.runtimes_substitute,
        fetch: settings.runtimes_fetch,
        registry_credentials: settings.registries_credentials.clone(),
        debian: hearth_images::DebianSettings {
            mirrors: settings.runtimes_debian_mirrors.clone(),
            keyring: settings.runtimes_debian_keyring.clone(),
        },
    };
    let opened = Images::open(config, hearth_images::Ports { blobs, records }).await;
    opened.map_err(|e| failed("make the runtimes ready")(&e))
}

fn quotas(settings: &Settings) -> Quotas {
    Quotas {
        concurrent_executions: settings.account_concurrent_executions,
        code_storage: settings.account_code_storage.0,
        ..Quotas::default()
    }
}

fn placement(settings: &Settings) -> hearth_placement::Config {
    hearth_placement::Config {
        concurrent_executions: settings.account_concurrent_executions,
        idle_timeout: settings.environments_idle_timeout,
        memory_budget: settings.environments_memory_budget.0,
        wait: settings.environments_wait,
        scaling_rate: settings.environments_scaling_rate,
    }
}

/// The port that `AWS_ENDPOINT_URL` names inside, and the server's own, so that URLs made outside work inside.
fn endpoint_ports(address: SocketAddr) -> Vec<u16> {
    let mut ports = vec![ENDPOINT_PORT];
    if address.port() != ENDPOINT_PORT {
        ports.push(address.port());
    }
    ports
}

/// What takes records of events to other services.
fn courier(settings: &Settings, objects: Option<&Objects>, queues: Option<&Queues>, clock: &Arc<dyn Clock>) -> Courier {
    let other = |endpoint: &Option<_>| endpoint.clone().map(|endpoint| Publisher { endpoint, clock: clock.clone() });
    let topics = other(&settings.endpoints_sns).map(|sns| Arc::new(Topics(sns)) as Arc<dyn Destination>);
    let buses = other(&settings.endpoints_events).map(|events| Arc::new(Buses(events)) as Arc<dyn Destination>);
    let queues = queues.map(|queues| Arc::new(courier::Queues(queues.clone())) as Arc<dyn Destination>);
    let buckets = objects.map(|objects| Arc::new(Buckets(objects.clone())) as Arc<dyn Destination>);
    Courier {
        queues: queues.ok_or("SQS where servers share their records"),
        topics: topics.ok_or("SNS without the setting endpoints.sns"),
        buses: buses.ok_or("EventBridge without the setting endpoints.events"),
        buckets: buckets.ok_or("S3 where servers share their records"),
    }
}

fn events(settings: &Settings) -> hearth_events::Config {
    hearth_events::Config {
        retry_base_delay: settings.async_retry_base_delay,
        retention: settings.events_retention,
        under_way_max: settings.account_concurrent_executions as usize,
        // A quarter is left for who waits.
        memory_share: settings.environments_memory_budget.0 / 4 * 3,
    }
}

/// Event-invoke configurations are not followed yet where other servers write them, and refused there; so are mappings,
/// whose queues are not there.
fn lambda(
    control: &Control,
    placement: &Placement,
    events: Option<&Events>,
    mappings: Option<&Mappings>,
) -> hearth_wire_lambda::Service {
    let own = Arc::new(control.clone());
    let tags: Arc<dyn TagsApi> = match mappings {
        Some(mappings) => Arc::new(Tags::new(mappings.clone(), own.clone())),
        None => own.clone(),
    };
    hearth_wire_lambda::Service {
        account: Some(own.clone()),
        aliases: Some(own.clone()),
        code: Some(own.clone()),
        code_signing: Some(own.clone()),
        event_source_mappings: mappings.map(|mappings| Arc::new(mappings.clone()) as _),
        event_invoke_configs: events.map(|events| Arc::new(events.clone()) as _),
        functions: Some(own.clone()),
        function_urls: Some(own.clone()),
        invoke: Some(Arc::new(placement.clone())),
        layers: Some(own.clone()),
        policies: Some(own.clone()),
        provisioned_concurrency: Some(own.clone()),
        recursion: Some(own.clone()),
        reserved_concurrency: Some(own.clone()),
        runtime_management: Some(own.clone()),
        tags: Some(tags),
        versions: Some(own),
        ..hearth_wire_lambda::Service::default()
    }
}
