//! Random histories of concurrent calls on one function, each checked against a sequential model: there is an order of the
//! calls, within what the clock allows, in which the model gives the same answers.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hearth_model::Quotas;
use hearth_store::simulation::{Rewritten, Written};
use hearth_store::{MemoryRecords, Records};
use hearth_wire::Error;
use hearth_wire_lambda::types::*;
use hearth_wire_lambda::{AliasesApi, CodeApi, FunctionsApi, VersionsApi};
use proptest::prelude::*;

use support::{World, blob};

/// Calls run side by side, each task one after another.
type Plan = Vec<Vec<Call>>;

#[derive(Clone, Debug)]
enum Call {
    Create,
    Delete,
    /// With the revision that the task has seen last, or without.
    Update {
        code: u8,
        guarded: bool,
    },
    Publish,
    DeleteVersion(u64),
    Point {
        alias: u8,
        version: u64,
    },
    DeleteAlias(u8),
    Get,
    List,
}

/// What a caller sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Done,
    Revision(String),
    Version(u64),
    Versions(Vec<u64>),
    Refused(u16),
}

#[derive(Clone, Debug)]
struct Event {
    call: Call,
    /// The revision that the call named.
    named: Option<String>,
    answer: Answer,
    begun: u64,
    ended: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Revision {
    Seen(String),
    /// Nobody has seen it yet.
    New,
}

#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Model(Option<Function>);

/// The code that functions are created with.
const FIRST: u8 = u8::MAX;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Function {
    code: u8,
    updating: bool,
    revision: Revision,
    /// Every revision that anybody has seen: none comes twice.
    seen: BTreeSet<String>,
    last_version: u64,
    versions: BTreeMap<u64, u8>,
    aliases: BTreeMap<u8, u64>,
}

impl Model {
    /// The model after `event`, when it would have given the same answer.
    fn after(&self, event: &Event) -> Option<Model> {
        let agrees = |answer: Answer, next: Option<Function>| (event.answer == answer).then_some(Model(next));
        let Some(function) = &self.0 else {
            return match (&event.call, &event.answer) {
                (Call::Create, Answer::Revision(revision)) => Some(Model(Some(Function {
                    code: FIRST,
                    updating: true,
                    revision: Revision::Seen(revision.clone()),
                    seen: [revision.clone()].into(),
                    last_version: 0,
                    versions: BTreeMap::new(),
                    aliases: BTreeMap::new(),
                }))),
                (Call::Create, _) => None,
                _ => agrees(Answer::Refused(404), None),
            };
        };
        let mut next = function.clone();
        match &event.call {
            Call::Create => agrees(Answer::Refused(409), Some(next)),
            Call::Delete => agrees(Answer::Done, None),
            Call::Get => match &event.answer {
                Answer::Revision(revision) => {
                    let possible = match &function.revision {
                        Revision::Seen(current) => current == revision,
                        Revision::New => next.seen.insert(revision.clone()),
                    };
                    next.revision = Revision::Seen(revision.clone());
                    possible.then_some(Model(Some(next)))
                }
                _ => None,
            },
            Call::List => agrees(Answer::Versions(function.versions.keys().copied().collect()), Some(next)),
            Call::Update { code, .. } => {
                let stale =
                    event.named.as_ref().is_some_and(|named| function.revision != Revision::Seen(named.clone()));
                match &event.answer {
                    Answer::Refused(412) => stale.then_some(Model(Some(next))),
                    Answer::Refused(409) => (!stale && function.updating).then_some(Model(Some(next))),
                    Answer::Revision(revision) if !stale && !function.updating => {
                        next.code = *code;
                        next.updating = true;
                        next.revision = Revision::Seen(revision.clone());
                        next.seen.insert(revision.clone()).then_some(Model(Some(next)))
                    }
                    _ => None,
                }
            }
            Call::Publish if function.updating => agrees(Answer::Refused(409), Some(next)),
            Call::Publish => {
                if function.versions.get(&function.last_version) != Some(&function.code) {
                    next.last_version += 1;
                    next.versions.insert(next.last_version, next.code);
                    next.revision = Revision::New;
                }
                agrees(Answer::Version(next.last_version), Some(next))
            }
            Call::DeleteVersion(number) => {
                if function.aliases.values().any(|pointed| pointed == number) {
                    return agrees(Answer::Refused(409), Some(next));
                }
                next.versions.remove(number);
                agrees(Answer::Done, Some(next))
            }
            Call::Point { alias, version } => {
                if !function.versions.contains_key(version) {
                    return agrees(Answer::Refused(404), Some(next));
                }
                if function.aliases.contains_key(alias) {
                    return agrees(Answer::Refused(409), Some(next));
                }
                next.aliases.insert(*alias, *version);
                agrees(Answer::Done, Some(next))
            }
            Call::DeleteAlias(alias) => {
                next.aliases.remove(alias);
                agrees(Answer::Done, Some(next))
            }
        }
    }

    /// An update that is under way may be finished at any time.
    fn settled(&self) -> Option<Model> {
        let function = self.0.as_ref().filter(|function| function.updating)?;
        Some(Model(Some(Function { updating: false, revision: Revision::New, ..function.clone() })))
    }
}

/// Looks for an order of all events that the model agrees with.
fn has_an_order(events: &[Event]) -> bool {
    let mut seen = HashSet::new();
    let mut waiting = vec![(0u32, Model::default())];
    while let Some((done, model)) = waiting.pop() {
        if done.count_ones() as usize == events.len() {
            return true;
        }
        if !seen.insert((done, model.clone())) {
            continue;
        }
        waiting.extend(model.settled().map(|settled| (done, settled)));
        let left = || events.iter().enumerate().filter(|(index, _)| done & 1 << index == 0);
        // What has ended before another began comes before it.
        let first_end = left().map(|(_, event)| event.ended).min().unwrap_or(u64::MAX);
        for (index, event) in left().filter(|(_, event)| event.begun <= first_end) {
            waiting.extend(model.after(event).map(|next| (done | 1 << index, next)));
        }
    }
    false
}

/// Lets others go first, as often as its seed says.
struct Hesitation(Mutex<u64>);

impl Hesitation {
    async fn hesitate(&self) {
        let times = {
            let mut seed = self.0.lock().unwrap();
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *seed >> 61
        };
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }
}

async fn perform(world: &World, call: &Call, named: Option<String>) -> Answer {
    let name = || Some("f".to_owned());
    let revision = |done: Result<FunctionConfiguration, Error>| done.map(|f| Answer::Revision(f.revision_id.unwrap()));
    let done = match call {
        Call::Create => revision(world.create("f").await),
        Call::Delete => world.delete("f").await.map(|_| Answer::Done),
        Call::Update { code, .. } => {
            let input = UpdateFunctionCodeRequest {
                function_name: name(),
                zip_file: blob(&format!("PK-{code}")),
                revision_id: named,
                ..UpdateFunctionCodeRequest::default()
            };
            revision(world.control.update_function_code(&world.cx, input).await)
        }
        Call::Publish => {
            let input = PublishVersionRequest { function_name: name(), ..PublishVersionRequest::default() };
            let published = world.control.publish_version(&world.cx, input).await;
            published.map(|version| Answer::Version(version.version.unwrap().parse().unwrap()))
        }
        Call::DeleteVersion(number) => {
            let input = DeleteFunctionRequest { function_name: name(), qualifier: Some(number.to_string()) };
            world.control.delete_function(&world.cx, input).await.map(|_| Answer::Done)
        }
        Call::Point { alias, version } => {
            world.alias("f", &format!("a{alias}"), &version.to_string()).await.map(|_| Answer::Done)
        }
        Call::DeleteAlias(alias) => {
            let input = DeleteAliasRequest { function_name: name(), name: Some(format!("a{alias}")) };
            world.control.delete_alias(&world.cx, input).await.map(|_| Answer::Done)
        }
        Call::Get => {
            let input = GetFunctionConfigurationRequest { function_name: name(), qualifier: None };
            revision(world.control.get_function_configuration(&world.cx, input).await)
        }
        Call::List => {
            let input = ListVersionsByFunctionRequest { function_name: name(), ..Default::default() };
            let listed = world.control.list_versions_by_function(&world.cx, input).await;
            listed.map(|listed| {
                let numbers = listed.versions.unwrap().into_iter().filter_map(|v| v.version.unwrap().parse().ok());
                Answer::Versions(numbers.collect())
            })
        }
    };
    done.unwrap_or_else(|error| Answer::Refused(error.status))
}

/// Runs a plan and says what was seen, when.
async fn history(plan: Plan, seed: u64) -> Vec<Event> {
    let hesitation = Arc::new(Hesitation(Mutex::new(seed)));
    let others = hesitation.clone();
    let written = move |records: Arc<MemoryRecords>, writes| -> Written {
        let others = others.clone();
        Box::pin(async move {
            others.hesitate().await;
            let committed = records.commit(writes).await;
            others.hesitate().await;
            committed
        })
    };
    let records = Arc::new(Rewritten::new(Arc::default(), written));
    let world = Arc::new(World::on(records, Quotas::default()).await);
    let clock = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for calls in plan {
        let (world, clock, hesitation) = (world.clone(), clock.clone(), hesitation.clone());
        tasks.spawn(async move {
            let mut events = Vec::new();
            let mut last_seen: Option<String> = None;
            for call in calls {
                hesitation.hesitate().await;
                let guarded = matches!(call, Call::Update { guarded: true, .. });
                let named = last_seen.clone().filter(|_| guarded);
                let begun = clock.fetch_add(1, Ordering::SeqCst);
                let answer = perform(&world, &call, named.clone()).await;
                let ended = clock.fetch_add(1, Ordering::SeqCst);
                if let Answer::Revision(revision) = &answer {
                    last_seen = Some(revision.clone());
                }
                events.push(Event { call, named, answer, begun, ended });
            }
            events
        });
    }
    let events = tasks.join_all().await.into_iter().flatten().collect();
    world.reconciler.abort();
    events
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => Just(Call::Create),
        1 => Just(Call::Delete),
        4 => (0..2u8, any::<bool>()).prop_map(|(code, guarded)| Call::Update { code, guarded }),
        4 => Just(Call::Publish),
        2 => (1..3u64).prop_map(Call::DeleteVersion),
        3 => (0..2u8, 1..3u64).prop_map(|(alias, version)| Call::Point { alias, version }),
        1 => (0..2u8).prop_map(Call::DeleteAlias),
        3 => Just(Call::Get),
        2 => Just(Call::List),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn concurrent_calls_have_an_order(
        mut plan in prop::collection::vec(prop::collection::vec(call(), 1..6), 2..4),
        seed in any::<u64>(),
    ) {
        // Most histories are of a function that is there.
        plan[0].insert(0, Call::Create);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let events = runtime.block_on(history(plan, seed));
        prop_assert!(has_an_order(&events), "no order explains {events:#?}");
    }
}

#[test]
fn the_check_finds_what_cannot_be() {
    let event = |call, answer, begun| Event { call, named: None, answer, begun, ended: begun + 1 };
    let revision = |text: &str| Answer::Revision(text.to_owned());
    let created = event(Call::Create, revision("r"), 0);
    // Two versions with one number.
    let twice = [
        created.clone(),
        event(Call::Publish, Answer::Version(1), 2),
        event(Call::DeleteVersion(1), Answer::Done, 4),
        event(Call::Publish, Answer::Version(1), 6),
    ];
    assert!(!has_an_order(&twice) && has_an_order(&twice[..3]));
    // An update that another one has undone without a trace.
    let lost = [
        created,
        event(Call::Update { code: 1, guarded: false }, revision("s"), 2),
        event(Call::Get, revision("r"), 4),
    ];
    assert!(!has_an_order(&lost) && has_an_order(&lost[..2]));
}
