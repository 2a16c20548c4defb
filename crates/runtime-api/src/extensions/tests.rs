use bytes::Bytes;
use hearth_model::RequestId;
use proptest::prelude::*;

use super::*;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn events(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn both() -> Vec<String> {
    events(&["INVOKE", "SHUTDOWN"])
}

fn gone(_: usize) -> bool {
    false
}

fn there(_: usize) -> bool {
    true
}

fn end() -> Notice {
    Notice::Shutdown { deadline_ms: 1, reason: ShutdownReason::Spindown }
}

fn event() -> Arc<Event> {
    Arc::new(Event {
        request_id: RequestId::new("r"),
        deadline_ms: 0,
        invoked_arn: String::new(),
        trace: None,
        client_context: None,
        tenant: None,
        content_type: None,
        payload: Bytes::new(),
    })
}

/// One external extension with the id 1, ready.
fn ready() -> Extensions {
    let mut all = Extensions::new(&["a".to_owned()]);
    assert_eq!(all.register("a", &both(), id(1)), Ok(Registered { last: true }));
    assert!(matches!(all.ask(id(1), gone), Ok((0, Wants::Waits))));
    all
}

fn transition(from: &'static str, to: &'static str, who: &str) -> Refused {
    Refused::InvalidTransition { from, to, who: who.to_owned() }
}

#[test]
fn the_runtime_may_start_when_every_external_extension_has_registered() {
    let mut all = Extensions::new(&["a".to_owned(), "b".to_owned()]);
    assert_eq!(all.register("b", &both(), id(1)), Ok(Registered { last: false }));
    assert_eq!(all.register("a", &both(), id(2)), Ok(Registered { last: true }));
    assert_eq!(all.register("mine", &events(&["INVOKE"]), id(3)), Ok(Registered { last: false }));
    assert!(!all.are_ready());
}

#[test]
fn events_are_those_that_an_extension_of_its_kind_can_have() {
    let mut all = Extensions::new(&["a".to_owned()]);
    let refused = |event: &str, why| Err(Refused::InvalidEventType { event: event.to_owned(), why });
    assert_eq!(all.register("a", &events(&["NAP"]), id(1)), refused("NAP", "ErrorInvalidEventType"));
    let why = "ShutdownEventNotSupportedForInternalExtension";
    assert_eq!(all.register("mine", &both(), id(1)), refused("SHUTDOWN", why));
    assert!(all.register("a", &[], id(1)).is_ok(), "none at all is allowed");
}

#[test]
fn a_name_that_is_too_long_is_one_name() {
    let mut all = Extensions::new(&[]);
    all.register(&"n".repeat(300), &[], id(1)).unwrap();
    assert_eq!(all.register(&"n".repeat(300), &[], id(2)), Err(Refused::NameTaken));
}

#[test]
fn nobody_registers_twice_late_or_as_the_eleventh() {
    let mut all = Extensions::new(&["a".to_owned()]);
    all.register("a", &both(), id(0)).unwrap();
    assert_eq!(all.register("a", &both(), id(9)), Err(transition("Registered", "Registered", "a")));
    for number in 1..10 {
        all.register(&format!("i{number}"), &[], id(number)).unwrap();
    }
    assert_eq!(all.register("i1", &[], id(11)), Err(Refused::NameTaken));
    assert_eq!(all.register("i10", &[], id(11)), Err(Refused::TooMany));
    all.close();
    assert_eq!(all.register("i10", &[], id(11)), Err(Refused::RegistrationClosed));
}

#[test]
fn an_invocation_releases_who_wants_it_and_waits_for_them_alone() {
    let mut all = Extensions::new(&["a".to_owned(), "quiet".to_owned()]);
    all.register("a", &both(), id(1)).unwrap();
    all.register("quiet", &events(&["SHUTDOWN"]), id(2)).unwrap();
    for number in [1, 2] {
        assert!(!all.are_ready());
        all.ask(id(number), gone).unwrap();
    }
    assert!(all.are_ready());
    assert_eq!(all.invoke(), [0]);
    assert!(!all.are_ready());
    assert!(matches!(all.ask(id(1), gone), Ok((0, Wants::Waits))));
    assert!(all.are_ready());
    assert_eq!(all.shut_down(&end()), [0, 1]);
}

#[test]
fn a_second_call_for_an_event_is_refused_unless_the_first_ones_connection_is_gone() {
    let mut all = ready();
    let refused = all.ask(id(1), there).unwrap_err();
    assert_eq!(refused, transition("Ready", "Ready", &id(1).to_string()));
    assert!(matches!(all.ask(id(1), gone), Ok((0, Wants::Again))));
    assert_eq!(all.ask(id(7), gone).unwrap_err(), Refused::Unknown(id(7)));
}

#[test]
fn what_did_not_reach_an_extension_is_told_when_it_asks_again() {
    let mut all = ready();
    assert_eq!(all.invoke().len(), 1);
    all.missed(0, Notice::Invoke(event()));
    assert!(matches!(all.ask(id(1), gone), Ok((0, Wants::Missed(Notice::Invoke(_))))));
    assert!(!all.are_ready());
    assert!(matches!(all.ask(id(1), gone), Ok((0, Wants::Waits))));
}

#[test]
fn one_that_is_busy_is_told_of_the_end_when_it_asks() {
    let mut all = ready();
    assert_eq!(all.invoke().len(), 1);
    assert_eq!(all.shut_down(&end()).len(), 0);
    assert!(all.ends_itself(0));
    assert!(matches!(all.ask(id(1), gone), Ok((0, Wants::Missed(Notice::Shutdown { .. })))));
}

#[test]
fn errors_are_heard_once_and_only_where_they_belong() {
    let mut all = ready();
    let refused = all.fail(id(1), Failing::Init, "My.Error").unwrap_err();
    assert_eq!(refused, transition("Ready", "InitError", &id(1).to_string()));
    assert_eq!(all.fail(id(1), Failing::Exit, "My.Error"), Ok(true));
    assert_eq!(all.fail(id(1), Failing::Exit, "Other"), Ok(false));
    let refused = all.fail(id(1), Failing::Init, "Other").unwrap_err();
    assert_eq!(refused, transition("ExitError", "InitError", &id(1).to_string()));
    assert_eq!(all.ask(id(1), gone).unwrap_err(), transition("ExitError", "Ready", &id(1).to_string()));
    all.exited(0, "Extension.Crash");
    let standing = all.standings().next().unwrap();
    assert_eq!((standing.state, standing.error_type.as_deref()), ("ExitError", Some("My.Error")));
    assert_eq!(standing.events, ["INVOKE", "SHUTDOWN"]);
    assert!(!all.ends_itself(0));
}

#[test]
fn what_extensions_call_themselves_and_their_errors_is_cut() {
    let mut all = Extensions::default();
    all.register(&"é".repeat(1000), &[], id(1)).unwrap();
    all.fail(id(1), Failing::Init, &"x".repeat(1000)).unwrap();
    let standing = all.standings().next().unwrap();
    assert_eq!((standing.name.len(), standing.error_type.unwrap().len()), (254, 255));
}

#[derive(Clone, Debug)]
enum Call {
    Register(usize, bool),
    Ask(usize, bool),
    Fail(usize, bool),
    Close,
    Invoke,
    ShutDown,
    Exited(usize),
}

fn call() -> impl Strategy<Value = Call> {
    let who = 0..4usize;
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, all)| Call::Register(who, all)),
        8 => (who.clone(), any::<bool>()).prop_map(|(who, connected)| Call::Ask(who, connected)),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, init)| Call::Fail(who, init)),
        1 => Just(Call::Close),
        4 => Just(Call::Invoke),
        1 => Just(Call::ShutDown),
        1 => who.prop_map(Call::Exited),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever extensions say in whatever order: there are never more than ten, each is told of an invocation only when
    /// it wants to be and waits for one, and none is waited for that has asked.
    #[test]
    fn no_order_of_calls_confuses_who_is_waited_for(calls in prop::collection::vec(call(), 0..64)) {
        let names = ["a", "b", "i", "j"];
        let mut all = Extensions::new(&[names[0].to_owned(), names[1].to_owned()]);
        // What this test knows of each: what it wants, and whether it has asked and not been told since.
        let mut model: [Option<(bool, bool)>; 4] = [None; 4];
        let (mut closed, mut next) = (false, 100u128);
        let mut ids = [None; 4];
        let mut places = Vec::new();
        for call in calls {
            match call {
                Call::Register(who, invoke) => {
                    next += 1;
                    let asked = if invoke { events(&["INVOKE"]) } else { Vec::new() };
                    let taken = all.register(names[who], &asked, id(next));
                    prop_assert_eq!(taken.is_ok(), ids[who].is_none() && (who < 2 || !closed));
                    if taken.is_ok() {
                        (ids[who], model[who]) = (Some(id(next)), Some((invoke, false)));
                        if who >= 2 {
                            places.push(who);
                        }
                    }
                }
                Call::Ask(who, connected) => {
                    let Some(known) = ids[who] else { continue };
                    if let (Ok((_, Wants::Waits)), Some(model)) = (all.ask(known, |_| connected), &mut model[who]) {
                        prop_assert!(!model.1, "it waited already");
                        model.1 = true;
                    }
                }
                Call::Fail(who, init) => {
                    let Some(known) = ids[who] else { continue };
                    let failing = if init { Failing::Init } else { Failing::Exit };
                    if let (Ok(true), Some(model)) = (all.fail(known, failing, "E"), &mut model[who]) {
                        model.1 = false;
                    }
                }
                Call::Close => {
                    all.close();
                    closed = true;
                }
                Call::Invoke => {
                    for at in all.invoke() {
                        let who = if at < 2 { at } else { places[at - 2] };
                        prop_assert_eq!(model[who], Some((true, true)));
                        model[who] = Some((true, false));
                    }
                }
                Call::ShutDown => prop_assert_eq!(all.shut_down(&end()).len(), 0, "nobody wanted to be told"),
                Call::Exited(who) => {
                    if who < 2 {
                        all.exited(who, "Extension.Crash");
                        model[who] = model[who].map(|(invoke, _)| (invoke, false));
                        ids[who] = ids[who].or(Some(id(0)));
                    }
                }
            }
            let waiting = (0..2).all(|who| model[who].is_some_and(|model| model.1))
                && places.iter().all(|&who| model[who].is_some_and(|model| model.1));
            prop_assert_eq!(all.are_ready(), waiting);
        }
    }
}
