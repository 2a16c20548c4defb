//! Any order in which extensions and the platform say things: beside it the simplest account of who was told what, which
//! must agree. Some of them subscribe to telemetry.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arbitrary::Arbitrary;
use hearth_model::{RequestId, Source};
use hearth_runtime_api::{
    Api, EXTENSIONS_MAX, Event, Extensions, Failing, Notice, ShutdownReason, Subscription, Subscriptions, Unsubscribed,
    Wants,
};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

#[derive(Arbitrary, Debug)]
struct Story {
    external: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Register { name: Name, events: Vec<Wish> },
    Close,
    Ask { who: u8, connected: bool },
    Fail { who: u8, exit: bool, error_type: String },
    Invoke,
    ShutDown,
    Missed { at: u8 },
    NotLaunched { at: u8, error_type: String },
    Exited { at: u8, error_type: String },
    BeginTelemetry,
    CloseTelemetry,
    EndTelemetry,
    Subscribe { who: u8, logs: bool, sources: [bool; 3], reachable: bool },
}

#[derive(Arbitrary, Debug)]
enum Name {
    External(u8),
    Other(String),
}

#[derive(Arbitrary, Debug)]
enum Wish {
    Invoke,
    ShutDown,
    Other(String),
}

impl Wish {
    fn text(&self) -> String {
        match self {
            Wish::Invoke => "INVOKE".to_owned(),
            Wish::ShutDown => "SHUTDOWN".to_owned(),
            Wish::Other(text) => text.clone(),
        }
    }
}

const TELEMETRY: &[u8] =
    br#"{"schemaVersion": "2022-07-01", "types": ["function"], "destination": {"protocol": "TCP", "port": 1}}"#;
const LOGS: &[u8] = br#"{"types": ["function"], "destination": {"protocol": "TCP", "port": 1}}"#;

/// What is known of one that has registered.
#[derive(Default)]
struct Account {
    at: Option<usize>,
    invoke: bool,
    /// It has asked and was not released since.
    waits: bool,
    /// It has failed, or is gone.
    over: bool,
}

fuzz_target!(|story: Story| {
    let Story { mut external, steps } = story;
    external.truncate(EXTENSIONS_MAX);
    external.sort();
    external.dedup();
    let mut all = Extensions::new(&external);
    let mut accounts: HashMap<Uuid, Account> = HashMap::new();
    let mut closed = false;
    let mut telemetry = Telemetry::default();
    for step in steps {
        match step {
            Step::BeginTelemetry | Step::CloseTelemetry | Step::EndTelemetry | Step::Subscribe { .. } => {
                telemetry.play(&all, &accounts, step);
            }
            step => play(&mut all, &external, &mut accounts, &mut closed, step),
        }
        let standings: Vec<_> = all.standings().collect();
        assert!(standings.len() <= EXTENSIONS_MAX.max(external.len()));
        for one in &standings {
            assert!(one.name.len() <= 255 && one.error_type.as_ref().is_none_or(|text| text.len() <= 255));
        }
        let names: HashSet<_> = standings.iter().map(|one| &one.name).collect();
        assert_eq!(names.len(), standings.len(), "two of one name");
        assert_eq!(all.are_ready(), standings.iter().all(|one| one.state == "Ready"));
    }
});

fn play(
    all: &mut Extensions,
    external: &[String],
    accounts: &mut HashMap<Uuid, Account>,
    closed: &mut bool,
    step: Step,
) {
    let one_of = |who: u8| Uuid::from_u128(u128::from(who) % (accounts.len() as u128 + 1));
    match step {
        Step::Register { name, events } => {
            let name = match name {
                Name::External(at) if !external.is_empty() => external[usize::from(at) % external.len()].clone(),
                Name::External(_) => return,
                Name::Other(name) => name,
            };
            let id = Uuid::from_u128(accounts.len() as u128);
            let asked: Vec<_> = events.iter().map(Wish::text).collect();
            let is_external = external.contains(&name);
            if all.register(&name, &asked, id).is_ok() {
                assert!(is_external || !*closed, "{name:?} came late");
                assert!(
                    events
                        .iter()
                        .all(|wish| !matches!(wish, Wish::Other(text) if text != "INVOKE" && text != "SHUTDOWN"))
                );
                assert!(is_external || !asked.iter().any(|event| event == "SHUTDOWN"));
                let invoke = asked.iter().any(|event| event == "INVOKE");
                accounts.insert(id, Account { invoke, ..Account::default() });
            }
        }
        Step::Close => {
            all.close();
            *closed = true;
        }
        Step::Ask { who, connected } => {
            let id = one_of(who);
            let known = accounts.get_mut(&id);
            match (all.ask(id, |_| connected), known) {
                (Ok((at, wants)), Some(account)) => {
                    assert!(!account.over, "it is over, and is told something");
                    assert!(account.at.is_none_or(|known| known == at), "it has moved");
                    account.at = Some(at);
                    match wants {
                        Wants::Waits => assert!(!std::mem::replace(&mut account.waits, true), "it waits twice"),
                        Wants::Again => assert!(account.waits && !connected),
                        Wants::Missed(_) => assert!(!account.waits),
                    }
                }
                (Err(_), _) => {}
                (Ok(_), None) => panic!("somebody that nobody knows was answered"),
            }
        }
        Step::Fail { who, exit, error_type } => {
            let id = one_of(who);
            let failing = if exit { Failing::Exit } else { Failing::Init };
            if let Ok(heard) = all.fail(id, failing, &error_type) {
                let account = accounts.get_mut(&id).expect("somebody that registered");
                assert!(!(heard && account.over), "it failed twice");
                (account.over, account.waits) = (true, false);
            }
        }
        Step::Invoke => {
            for at in all.invoke() {
                let mut released = accounts.values_mut().filter(|account| account.at == Some(at));
                let account = released.next().expect("one that has asked");
                assert!(released.next().is_none(), "two in one place");
                assert!(account.invoke && account.waits && !account.over);
                account.waits = false;
            }
        }
        Step::ShutDown => {
            let notice = Notice::Shutdown { deadline_ms: 1, reason: ShutdownReason::Spindown };
            for at in all.shut_down(&notice) {
                let account = accounts.values_mut().find(|account| account.at == Some(at)).expect("one that has asked");
                assert!(account.waits && !account.over && at < external.len());
                account.waits = false;
            }
        }
        Step::Missed { at } => {
            let event = Event {
                request_id: RequestId::new("r"),
                deadline_ms: 0,
                invoked_arn: String::new(),
                trace: None,
                client_context: None,
                content_type: None,
                payload: bytes::Bytes::new(),
            };
            // Only of those that were told.
            if accounts.values().any(|account| account.at == Some(usize::from(at)) && !account.waits && !account.over) {
                all.missed(at.into(), Notice::Invoke(Arc::new(event)));
            }
        }
        Step::NotLaunched { at, error_type } => {
            all.not_launched(at.into(), &error_type);
            end(accounts, all, at.into());
        }
        Step::Exited { at, error_type } => {
            all.exited(at.into(), &error_type);
            end(accounts, all, at.into());
        }
        Step::BeginTelemetry | Step::CloseTelemetry | Step::EndTelemetry | Step::Subscribe { .. } => {}
    }
}

/// Subscriptions, and beside them who asked for what, in order.
#[derive(Default)]
struct Telemetry {
    all: Subscriptions,
    open: bool,
    wishes: Vec<(Uuid, Vec<Source>)>,
}

impl Telemetry {
    fn play(&mut self, extensions: &Extensions, accounts: &HashMap<Uuid, Account>, step: Step) {
        match step {
            Step::BeginTelemetry => {
                self.all.begin();
                (self.open, self.wishes) = (true, Vec::new());
            }
            Step::CloseTelemetry => {
                self.all.close();
                self.open = false;
            }
            Step::EndTelemetry => {
                self.all.end();
                (self.open, self.wishes) = (false, Vec::new());
            }
            Step::Subscribe { who, logs, sources, reachable } => {
                let id = Uuid::from_u128(u128::from(who) % (accounts.len() as u128 + 1));
                let sources: Vec<_> =
                    Source::ALL.into_iter().zip(sources).filter(|one| one.1).map(|one| one.0).collect();
                let Ok(mut wish) = Subscription::parse(
                    if logs { Api::Logs } else { Api::Telemetry },
                    if logs { LOGS } else { TELEMETRY },
                ) else {
                    panic!("a subscription that is well-formed");
                };
                wish.sources.clone_from(&sources);
                match self.all.subscribe(extensions, id, &wish, reachable) {
                    Ok(_) => {
                        assert!(accounts.contains_key(&id) && reachable && self.open);
                        self.wishes.retain(|(one, _)| *one != id);
                        self.wishes.push((id, sources));
                    }
                    Err(Unsubscribed::Refused(_)) => assert!(!accounts.contains_key(&id)),
                    Err(Unsubscribed::Unsupported) => assert!(!reachable),
                    Err(Unsubscribed::Closed) => assert!(!self.open),
                }
            }
            _ => {}
        }
        assert_eq!(self.all.is_on(), self.open || !self.wishes.is_empty());
        for place in 0..=self.wishes.len() {
            for source in Source::ALL {
                let wanted = self.wishes.get(place).is_some_and(|(_, sources)| sources.contains(&source));
                assert_eq!(self.all.wants(place, source), wanted);
            }
        }
    }
}

/// Whoever is in this place is over; before it has asked, its place is not known but by its name.
fn end(accounts: &mut HashMap<Uuid, Account>, all: &Extensions, at: usize) {
    for (id, account) in accounts.iter_mut() {
        let here =
            account.at == Some(at) || all.name(*id).ok() == all.standings().nth(at).map(|one| one.name).as_deref();
        if here {
            (account.over, account.waits) = (true, false);
        }
    }
}
