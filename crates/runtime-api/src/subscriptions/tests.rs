use std::time::Duration;

use hearth_model::{Buffering, Destination, TelemetrySchema};
use proptest::prelude::*;

use super::*;
use crate::telemetry::Api;

fn id(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

fn wish(logs: bool, sources: &[Source]) -> Subscription {
    let (api, schema) = match logs {
        true => (Api::Logs, TelemetrySchema::Logs),
        false => (Api::Telemetry, TelemetrySchema::Telemetry),
    };
    Subscription {
        api,
        schema,
        sources: sources.to_vec(),
        buffering: Buffering { items_max: 1_000, bytes_max: 262_144, timeout: Duration::from_secs(1) },
        destination: Destination::Tcp { port: 4243 },
    }
}

/// Extensions with the names `0` to `3`, of which the first two are external, registered as themselves.
fn registered(count: usize) -> Extensions {
    let mut all = Extensions::new(&["0".to_owned(), "1".to_owned()]);
    for number in 0..count {
        all.register(&number.to_string(), &[], id(number)).unwrap();
    }
    all
}

fn taken(name: &str, replaces: Option<usize>) -> Result<Subscribed, Unsubscribed> {
    Ok(Subscribed { name: name.to_owned(), replaces })
}

#[test]
fn a_subscription_is_taken_during_init_alone() {
    let (extensions, mut all) = (registered(2), Subscriptions::default());
    let subscribe = |all: &mut Subscriptions, who| all.subscribe(&extensions, id(who), &wish(false, &[]), true);
    assert_eq!(subscribe(&mut all, 0), Err(Unsubscribed::Closed));
    all.begin();
    assert_eq!(subscribe(&mut all, 0), taken("0", None));
    all.close();
    assert_eq!(subscribe(&mut all, 1), Err(Unsubscribed::Closed));
    assert!(all.is_on() && !all.is_open());
    all.end();
    assert!(!all.is_on());
    all.close();
    assert_eq!(subscribe(&mut all, 1), Err(Unsubscribed::Closed), "what never began does not open by closing");
}

#[test]
fn the_last_subscription_of_an_extension_counts_by_whichever_api() {
    let (extensions, mut all) = (registered(2), Subscriptions::default());
    all.begin();
    all.subscribe(&extensions, id(0), &wish(true, &[Source::Platform]), true).unwrap();
    all.subscribe(&extensions, id(1), &wish(false, &[Source::Function]), true).unwrap();
    let again = all.subscribe(&extensions, id(0), &wish(false, &[Source::Extension]), true);
    assert_eq!(again, taken("0", Some(0)));
    assert!(all.wants(0, Source::Function) && all.wants(1, Source::Extension));
    assert!(!all.wants(1, Source::Platform) && !all.wants(2, Source::Extension));
}

#[test]
fn who_is_unknown_is_told_so_before_anything_else() {
    let (extensions, mut all) = (registered(1), Subscriptions::default());
    let unknown = Err(Unsubscribed::Refused(Refused::Unknown(id(3))));
    assert_eq!(all.subscribe(&extensions, id(3), &wish(false, &[]), false), unknown);
    assert_eq!(all.subscribe(&extensions, id(0), &wish(false, &[]), false), Err(Unsubscribed::Unsupported));
}

#[derive(Clone, Debug)]
enum Call {
    Register(usize),
    Subscribe { who: usize, logs: bool, sources: Vec<Source>, reachable: bool },
    Said(Source),
    Begin,
    Close,
    End,
}

fn source() -> impl Strategy<Value = Source> {
    prop::sample::select(Source::ALL.to_vec())
}

fn call() -> impl Strategy<Value = Call> {
    let subscribe = (0..5usize, any::<bool>(), prop::collection::vec(source(), 1..4), prop::bool::weighted(0.9));
    prop_oneof![
        4 => (0..4usize).prop_map(Call::Register),
        8 => subscribe.prop_map(|(who, logs, sources, reachable)| Call::Subscribe { who, logs, sources, reachable }),
        8 => source().prop_map(Call::Said),
        3 => Just(Call::Begin),
        2 => Just(Call::Close),
        1 => Just(Call::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is asked in whatever order, by either API: who registered is subscribed once at most, during init, and
    /// is sent what it asked for last until its processes end; who was refused changes nothing.
    #[test]
    fn no_order_of_requests_confuses_who_is_sent_what(calls in prop::collection::vec(call(), 0..64)) {
        let mut extensions = Extensions::new(&["0".to_owned(), "1".to_owned()]);
        let mut all = Subscriptions::default();
        // What this test knows: who has registered, whether init goes on, and who asked for what, in order.
        let (mut known, mut open, mut model) = ([false; 4], false, Vec::<(usize, Vec<Source>)>::new());
        for call in calls {
            match call {
                Call::Register(who) => {
                    let registered = extensions.register(&who.to_string(), &[], id(who)).is_ok();
                    prop_assert_eq!(registered, !known[who]);
                    known[who] = true;
                }
                Call::Subscribe { who, logs, sources, reachable } => {
                    let answer = all.subscribe(&extensions, id(who), &wish(logs, &sources), reachable);
                    let before = model.iter().position(|(one, _)| *one == who);
                    let expected = match (known.get(who), reachable, open) {
                        (None | Some(false), ..) => Err(Unsubscribed::Refused(Refused::Unknown(id(who)))),
                        (_, false, _) => Err(Unsubscribed::Unsupported),
                        (_, _, false) => Err(Unsubscribed::Closed),
                        _ => taken(&who.to_string(), before),
                    };
                    prop_assert_eq!(&answer, &expected);
                    if answer.is_ok() {
                        model.retain(|(one, _)| *one != who);
                        model.push((who, sources));
                    }
                }
                Call::Said(source) => {
                    for place in 0..8 {
                        let wanted = model.get(place).is_some_and(|(_, sources)| sources.contains(&source));
                        prop_assert_eq!(all.wants(place, source), wanted);
                    }
                }
                Call::Begin => {
                    // New processes: nobody of before is known.
                    extensions = Extensions::new(&["0".to_owned(), "1".to_owned()]);
                    all.begin();
                    (known, open) = ([false; 4], true);
                    model.clear();
                }
                Call::Close => {
                    all.close();
                    open = false;
                }
                Call::End => {
                    all.end();
                    open = false;
                    model.clear();
                }
            }
            prop_assert_eq!((all.is_open(), all.is_on()), (open, open || !model.is_empty()));
        }
    }
}
