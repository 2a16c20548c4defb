//! Who is sent what a function's processes and the platform say (spec 4.6), and how it gets there.
//!
//! ```text
//!   log ──► Telemetry ──► a Queue a subscriber ──► its task ──► connection made inside ──► the subscriber
//! ```
//!
//! What is said in init before somebody subscribes is kept for them, to a limit. Where nobody does, nothing is kept after
//! init and nothing is done.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hearth_model::{Clock, PlatformRecord, Source, TelemetrySchema};
use hearth_observe::telemetry::{self, Batch, Buffer};
use hearth_runtime_api::{Courier, Extensions, Subscription, Subscriptions, Unsubscribed};
use hearth_sandbox::Sandbox;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use uuid::Uuid;

/// What is kept of init for later subscribers: events, and bytes of lines.
const PRELUDE_EVENTS_MAX: usize = 1_000;
const PRELUDE_BYTES_MAX: usize = 256 * 1024;
/// How often a batch is tried, and the pause in between: who subscribes may begin to listen a little later.
const TRIES: u32 = 3;
const TRY_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Telemetry {
    /// The function's log is JSON.
    json: bool,
    /// Who may subscribe, and who has.
    subscriptions: Subscriptions,
    /// What was said while somebody may still subscribe.
    prelude: Prelude,
    /// In the order of `subscriptions`.
    subscribers: Vec<Subscriber>,
}

#[derive(Default)]
struct Prelude {
    events: Vec<(SystemTime, Said)>,
    bytes: usize,
    /// Events, and their bytes, that were too many.
    missed: (u64, u64),
}

#[derive(Clone)]
enum Said {
    Record(PlatformRecord),
    Line(Source, Bytes),
}

struct Subscriber {
    schema: TelemetrySchema,
    json: bool,
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Queue {
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    wake: Notify,
}

struct Held {
    buffer: Buffer,
    /// The subscriber is frozen and could take nothing.
    paused: bool,
}

impl Telemetry {
    pub fn new(json: bool) -> Self {
        Telemetry {
            json,
            subscriptions: Subscriptions::default(),
            prelude: Prelude::default(),
            subscribers: Vec::new(),
        }
    }

    /// The processes are gone.
    pub fn end(&mut self) {
        self.subscriptions.end();
        (self.prelude, self.subscribers) = (Prelude::default(), Vec::new());
    }

    /// Init begins, with new processes.
    pub fn begin(&mut self) {
        self.subscriptions.begin();
        (self.prelude, self.subscribers) = (Prelude::default(), Vec::new());
    }

    /// Init is over: nobody can subscribe any more.
    pub fn close(&mut self) {
        self.subscriptions.close();
        self.prelude = Prelude::default();
    }

    /// Whether anything that is said is of use to anybody.
    pub fn is_on(&self) -> bool {
        self.subscriptions.is_on()
    }

    pub fn record(&mut self, at: SystemTime, record: &PlatformRecord) {
        self.say(at, Said::Record(record.clone()));
    }

    pub fn line(&mut self, at: SystemTime, source: Source, line: &Bytes) {
        if self.is_on() {
            self.say(at, Said::Line(source, line.clone()));
        }
    }

    /// Answers the extension's name. Needs a running async runtime.
    pub fn subscribe(
        &mut self,
        extensions: &Extensions,
        extension: Uuid,
        subscription: Subscription,
        sandbox: Option<&Arc<dyn Sandbox>>,
        clock: &Arc<dyn Clock>,
    ) -> Result<String, Unsubscribed> {
        let reachable = sandbox.filter(|sandbox| sandbox.dials());
        let taken = self.subscriptions.subscribe(extensions, extension, &subscription, reachable.is_some())?;
        let Some(sandbox) = reachable else { return Err(Unsubscribed::Unsupported) };
        let held = Mutex::new(Held { buffer: Buffer::new(subscription.buffering), paused: false });
        let queue = Arc::new(Queue { clock: clock.clone(), held, wake: Notify::new() });
        let (schema, courier) = (subscription.schema, Courier::new(subscription.destination));
        let task = tokio::spawn(bring(queue.clone(), courier, schema, Arc::downgrade(sandbox)));
        if let Some(before) = taken.replaces {
            self.subscribers.remove(before);
        }
        self.subscribers.push(Subscriber { schema, json: self.json, queue, task });
        let place = self.subscribers.len() - 1;
        for (at, said) in &self.prelude.events {
            self.say_to(place, *at, said, &mut Rendered::default());
        }
        if let (records @ 1.., bytes) = self.prelude.missed {
            let missed = Said::Record(PlatformRecord::LogsDropped { records, bytes });
            self.say_to(place, clock.wall(), &missed, &mut Rendered::default());
        }
        Ok(taken.name)
    }

    /// What there is goes out at once.
    pub fn hurry(&self) {
        for Subscriber { queue, .. } in &self.subscribers {
            queue.held().buffer.hurry();
            queue.wake.notify_one();
        }
    }

    /// Nothing is sent to processes that are frozen.
    pub fn pause(&self, paused: bool) {
        for Subscriber { queue, .. } in &self.subscribers {
            queue.held().paused = paused;
            queue.wake.notify_one();
        }
    }

    fn say(&mut self, at: SystemTime, said: Said) {
        let mut rendered = Rendered::default();
        for place in 0..self.subscribers.len() {
            self.say_to(place, at, &said, &mut rendered);
        }
        if !self.subscriptions.is_open() {
            return;
        }
        let prelude = &mut self.prelude;
        let bytes = match &said {
            Said::Line(_, line) => line.len(),
            Said::Record(_) => 0,
        };
        if prelude.events.len() < PRELUDE_EVENTS_MAX && prelude.bytes + bytes <= PRELUDE_BYTES_MAX {
            prelude.bytes += bytes;
            prelude.events.push((at, said));
        } else {
            prelude.missed = (prelude.missed.0 + 1, prelude.missed.1 + bytes as u64);
        }
    }

    fn say_to(&self, place: usize, at: SystemTime, said: &Said, rendered: &mut Rendered) {
        if self.subscriptions.wants(place, said.source()) {
            self.subscribers[place].say(at, said, rendered);
        }
    }
}

impl Said {
    fn source(&self) -> Source {
        match self {
            Said::Record(_) => Source::Platform,
            Said::Line(source, _) => *source,
        }
    }
}

/// An event as each schema has it, made once for all subscribers.
type Rendered = [Option<Option<Bytes>>; TelemetrySchema::COUNT];

impl Subscriber {
    fn say(&self, at: SystemTime, said: &Said, rendered: &mut Rendered) {
        let event = rendered[self.schema as usize].get_or_insert_with(|| match said {
            Said::Record(record) => telemetry::platform(self.schema, at, record),
            Said::Line(source, line) => Some(telemetry::line(self.schema, *source, at, line, self.json)),
        });
        let Some(event) = event else { return };
        if self.queue.held().buffer.push(event.clone(), self.queue.clock.now()) {
            self.queue.wake.notify_one();
        }
    }
}

impl Queue {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be sent next.
    async fn next(&self) -> Batch {
        loop {
            let at = {
                let mut held = self.held();
                if held.paused {
                    None
                } else if let Some(batch) = held.buffer.take(self.clock.now()) {
                    return batch;
                } else {
                    held.buffer.wake_at()
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = async { match at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                } } => {}
            }
        }
    }
}

/// Sends what comes, one batch after the other, as long as the sandbox is there. A subscriber that does not take its batch
/// holds up nobody else.
async fn bring(queue: Arc<Queue>, mut courier: Courier, schema: TelemetrySchema, sandbox: Weak<dyn Sandbox>) {
    loop {
        let Batch { mut events, missed } = queue.next().await;
        if let Some((records, bytes)) = missed {
            let record = PlatformRecord::LogsDropped { records, bytes };
            events.extend(telemetry::platform(schema, queue.clock.wall(), &record));
        }
        let mut tries = 0;
        let arrived = loop {
            match deliver(&mut courier, &events, &sandbox).await {
                Ok(()) => break true,
                Err(error) => {
                    tries += 1;
                    tracing::debug!(%error, tries, "telemetry did not arrive");
                    if tries == TRIES {
                        break false;
                    }
                    sleep(TRY_PAUSE).await;
                }
            }
        };
        let buffer = &mut queue.held().buffer;
        if arrived { buffer.done() } else { buffer.failed() }
    }
}

async fn deliver(courier: &mut Courier, events: &[Bytes], sandbox: &Weak<dyn Sandbox>) -> std::io::Result<()> {
    let connection = match courier.port() {
        Some(port) => {
            let sandbox = sandbox.upgrade().ok_or(std::io::ErrorKind::NotConnected)?;
            let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
            Some(sandbox.dial(address).await.map_err(std::io::Error::other)?)
        }
        None => None,
    };
    courier.deliver(events, connection).await
}
