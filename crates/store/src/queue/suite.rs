//! One suite for every engine (invariant 7).

use proptest::prelude::*;

use super::*;
use crate::{Keyring, MasterKey, MemoryRecords};

fn queue(name: &str) -> QueueName {
    QueueName { partition: "000000000000/us-east-1".to_owned(), kind: "event", name: name.to_owned() }
}

fn send(name: &str, id: &str, due: Ms) -> Change {
    let (note, body) = (Bytes::from_static(b"note"), Bytes::from(format!("body of {id}")));
    Change::Send(NewMessage { queue: queue(name), id: id.to_owned(), sent: due, due, note, body })
}

fn take(name: &str, now: Ms, until: Ms, limit: usize) -> Take {
    Take { queue: Arc::new(queue(name)), now, until, limit, bytes_max: u64::MAX }
}

fn look() -> Look {
    let (since, until, below, limit) = (0, NEVER, NEVER, usize::MAX);
    Look { kind: "event", partition: None, name: None, state: None, since, until, below, limit }
}

fn tally(name: &str) -> Change {
    Change::Tally { kind: "event", name: name.to_owned(), by: 1 }
}

fn rest(receipt: Receipt) -> Change {
    Change::Rest { receipt, state: "succeeded", note: Bytes::from_static(b"done") }
}

fn ids(messages: &[(Message, Bytes)]) -> Vec<&str> {
    messages.iter().map(|(message, _)| message.id.as_str()).collect()
}

async fn what_is_due_is_taken_in_order_once_until_its_time_is_over(engine: &dyn Queue) {
    engine.commit(vec![send("a", "1", 20), send("a", "2", 10), send("a", "3", 30), send("b", "4", 5)]).await.unwrap();
    let Taken { messages, next } = engine.take(take("a", 20, 25, 9)).await.unwrap();
    assert_eq!((ids(&messages), next), (vec!["2", "1"], Some(25)));
    assert_eq!(messages[0].1, "body of 2");
    assert_eq!((messages[0].0.state.clone(), messages[0].0.turns), (State::Taken(25), 1));
    assert!(engine.take(take("a", 24, 90, 9)).await.unwrap().messages.is_empty());
    let again = engine.take(take("a", 25, NEVER, 1)).await.unwrap();
    assert_eq!((ids(&again.messages), again.next), (vec!["1"], Some(25)));
    // The first receipt of "1" is stale; the batch that names it does nothing.
    let batch = vec![rest(messages[0].0.receipt()), rest(messages[1].0.receipt()), tally("ended")];
    assert!(matches!(engine.commit(batch).await, Err(QueueError::Stale(id)) if id == "1"));
    // What it writes is undone with the rest of its batch.
    let rewrite = |at: usize, body| Change::Rewrite { receipt: messages[at].0.receipt(), body };
    let batch = vec![rewrite(0, Bytes::from_static(b"lost")), rewrite(1, Bytes::from_static(b"lost"))];
    assert!(matches!(engine.commit(batch).await, Err(QueueError::Stale(id)) if id == "1"));
    let ending = vec![rewrite(0, Bytes::new()), rest(messages[0].0.receipt()), tally("ended")];
    engine.commit(ending).await.unwrap();
    assert!(matches!(engine.commit(vec![rest(messages[0].0.receipt())]).await, Err(QueueError::Stale(_))));
    let note = Bytes::from_static(b"tried");
    engine.commit(vec![Change::Return { receipt: again.messages[0].0.receipt(), due: 40, note }]).await.unwrap();
    assert!(matches!(
        engine.commit(vec![Change::Delete(again.messages[0].0.receipt())]).await,
        Err(QueueError::Stale(_))
    ));
    let last = engine.take(take("a", 40, NEVER, 9)).await.unwrap();
    assert_eq!((ids(&last.messages), last.next), (vec!["3", "1"], None));
    assert_eq!((last.messages[1].0.note.as_ref(), last.messages[1].0.turns), (&b"tried"[..], 3));
    engine.commit(vec![Change::Delete(last.messages[0].0.receipt())]).await.unwrap();
    assert!(engine.find("event", "3".to_owned()).await.unwrap().is_none());
    let (found, body) = engine.find("event", "2".to_owned()).await.unwrap().unwrap();
    assert_eq!((found.state, found.size, body), (State::Resting("succeeded".to_owned()), 0, Bytes::new()));
    assert!(engine.find("message", "2".to_owned()).await.unwrap().is_none());
}

/// After the one above: "2" rests, "1" is taken for ever, "4" waits.
async fn messages_are_looked_at_counted_and_swept(engine: &dyn Queue) {
    assert!(matches!(
        engine.commit(vec![tally("ended"), send("b", "1", 0)]).await,
        Err(QueueError::Duplicate(id)) if id == "1"
    ));
    let census = engine.census("event").await.unwrap();
    assert_eq!((census.waiting, census.taken), (1, 1));
    assert_eq!(census.tallies, BTreeMap::from([("ended".to_owned(), 1)]));
    assert_eq!(engine.census("message").await.unwrap(), Census::default());
    assert_eq!(engine.queues("event").await.unwrap(), [(queue("b"), 5)]);
    let found = async |look| {
        let found: Vec<Message> = engine.look(look).await.unwrap();
        found.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(found(look()).await, ["4", "2", "1"]);
    assert_eq!(found(Look { limit: 1, ..look() }).await, ["4"]);
    let below = engine.look(look()).await.unwrap()[0].number;
    assert_eq!(found(Look { below, ..look() }).await, ["2", "1"]);
    assert_eq!(found(Look { name: Some("a".to_owned()), ..look() }).await, ["2", "1"]);
    assert_eq!(found(Look { partition: Some("1/us-east-1".to_owned()), ..look() }).await, [""; 0]);
    assert_eq!(found(Look { state: Some(Which::Taken), ..look() }).await, ["1"]);
    assert_eq!(found(Look { state: Some(Which::Waiting), ..look() }).await, ["4"]);
    assert_eq!(found(Look { state: Some(Which::Resting("succeeded".to_owned())), ..look() }).await, ["2"]);
    assert_eq!(found(Look { since: 10, until: 20, ..look() }).await, ["2"]);
    assert_eq!(engine.recover("event", 50).await.unwrap(), 1);
    assert_eq!(engine.recover("event", 50).await.unwrap(), 0);
    let recovered = engine.take(take("a", 50, NEVER, 9)).await.unwrap();
    assert_eq!(ids(&recovered.messages), ["1"]);
    // Nothing that is not done with is ever swept, and nothing younger.
    assert_eq!(engine.sweep("event", 10, 0, 9).await.unwrap(), None);
    assert_eq!(found(look()).await, ["4", "2", "1"]);
    let after = engine.sweep("event", 99, 0, 2).await.unwrap().unwrap();
    assert_eq!(engine.sweep("event", 99, after, 2).await.unwrap(), None);
    assert_eq!(found(look()).await, ["4", "1"]);
}

async fn bodies_bound_a_taking_but_one_always_comes(engine: &dyn Queue) {
    engine.commit((10..14).map(|id| send("c", &id.to_string(), 0)).collect()).await.unwrap();
    let bounded = |bytes_max| Take { bytes_max, ..take("c", 0, NEVER, 9) };
    assert_eq!(engine.take(bounded(1)).await.unwrap().messages.len(), 1);
    // Sealing makes bodies larger in the engine beneath.
    let two = engine.take(bounded(25)).await.unwrap().messages.len();
    assert!((1..3).contains(&two), "{two}");
}

fn in_line(id: &str, line: &str, key: Option<&str>, now: Ms) -> Change {
    let (queue, body) = (queue("lines"), Bytes::from(format!("body of {id}")));
    let message = NewMessage { queue, id: id.to_owned(), sent: now, due: now, note: Bytes::new(), body };
    let once = key.map(|key| Once { key: key.to_owned(), now, until: now + 50 });
    Change::SendInLine { message, line: line.to_owned(), once }
}

async fn a_line_keeps_its_order_and_waits_for_what_is_held(engine: &dyn Queue) {
    let all = vec![in_line("l1", "x", Some("k"), 0), in_line("l2", "x", None, 0), in_line("l3", "y", None, 0)];
    engine.commit(all).await.unwrap();
    let repeated = engine.commit(vec![in_line("l4", "z", None, 0), in_line("l5", "x", Some("k"), 49)]).await;
    let number = engine.find("event", "l1".to_owned()).await.unwrap().unwrap().0.number;
    assert!(
        matches!(repeated, Err(QueueError::Repeated { id, first, number: n }) if (&*id, &*first, n) == ("l5", "l1", number))
    );
    let taken = engine.take_in_line(take("lines", 0, 10, 1)).await.unwrap();
    assert_eq!(ids(&taken.messages), ["l1"]);
    assert_eq!((taken.messages[0].0.first, taken.messages[0].0.line.as_deref()), (Some(0), Some("x")));
    let held = taken.messages[0].0.receipt();
    let taken = engine.take_in_line(take("lines", 0, 20, 9)).await.unwrap();
    assert_eq!((ids(&taken.messages), taken.next), (vec!["l3"], Some(10)));
    assert_eq!(engine.counts(queue("lines"), 0).await.unwrap(), Counts { due: 1, delayed: 0, held: 2 });
    engine.commit(vec![Change::Hold { receipt: held.clone(), now: 5, due: 30 }]).await.unwrap();
    assert!(engine.take_in_line(take("lines", 10, 20, 9)).await.unwrap().messages.is_empty());
    let over = Change::Hold { receipt: held.clone(), now: 30, due: 40 };
    assert!(matches!(engine.commit(vec![over]).await, Err(QueueError::Stale(_))));
    engine.commit(vec![Change::Delete(held)]).await.unwrap();
    assert_eq!(ids(&engine.take_in_line(take("lines", 30, 40, 9)).await.unwrap().messages), ["l2", "l3"]);
    // What was sent once is not sent again before its time, also when it is gone.
    assert!(matches!(engine.commit(vec![in_line("l6", "x", Some("k"), 49)]).await, Err(QueueError::Repeated { .. })));
    engine.commit(vec![in_line("l7", "x", Some("k"), 50)]).await.unwrap();
    assert_eq!(engine.clear(queue("lines"), 50, 1).await.unwrap(), 1);
    assert_eq!(engine.clear(queue("lines"), 50, 9).await.unwrap(), 1);
    assert_eq!(engine.clear(queue("lines"), NEVER, 9).await.unwrap(), 1);
    assert_eq!(engine.counts(queue("lines"), 50).await.unwrap(), Counts::default());
}

async fn suite(engine: &dyn Queue) {
    what_is_due_is_taken_in_order_once_until_its_time_is_over(engine).await;
    messages_are_looked_at_counted_and_swept(engine).await;
    bodies_bound_a_taking_but_one_always_comes(engine).await;
    a_line_keeps_its_order_and_waits_for_what_is_held(engine).await;
}

async fn sealed(inner: Arc<dyn Queue>) -> SealedQueue {
    let keys = Keyring::open(Arc::new(MemoryRecords::default()), MasterKey::generate()).await.unwrap();
    SealedQueue::new(inner, Arc::new(keys))
}

#[tokio::test]
async fn every_engine_passes_also_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| SqliteQueue::open(&dir.path().join(name)).unwrap();
    suite(&MemoryQueue::default()).await;
    suite(&open("plain")).await;
    suite(&sealed(Arc::new(MemoryQueue::default())).await).await;
    suite(&sealed(Arc::new(open("sealed"))).await).await;
}

#[tokio::test]
async fn the_embedded_engine_keeps_what_it_acknowledged_and_what_was_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue");
    let engine = SqliteQueue::open(&path).unwrap();
    engine.commit(vec![send("a", "1", 0), send("a", "2", 0), tally("accepted")]).await.unwrap();
    let taken = engine.take(take("a", 0, NEVER, 1)).await.unwrap().messages.remove(0).0;
    drop(engine);
    let engine = SqliteQueue::open(&path).unwrap();
    let census = engine.census("event").await.unwrap();
    assert_eq!((census.waiting, census.taken, census.tallies["accepted"]), (1, 1, 1));
    engine.commit(vec![rest(taken.receipt())]).await.unwrap();
}

#[tokio::test]
async fn a_sealed_message_is_not_another_ones_and_its_text_is_not_on_disk() {
    let inner = Arc::new(MemoryQueue::default());
    let engine = sealed(inner.clone()).await;
    engine.commit(vec![send("a", "1", 0)]).await.unwrap();
    let (message, body) = inner.find("event", "1".to_owned()).await.unwrap().unwrap();
    assert!(!body.windows(4).any(|window| window == b"body"));
    let moved = NewMessage { queue: queue("a"), id: "2".to_owned(), sent: 0, due: 0, note: message.note, body };
    inner.commit(vec![Change::Send(moved)]).await.unwrap();
    assert!(matches!(engine.find("event", "2".to_owned()).await, Err(QueueError::Engine(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        queue: u8,
        id: u8,
        due: Ms,
    },
    Take {
        queue: u8,
        now: Ms,
        hold: Ms,
        limit: usize,
    },
    SendInLine {
        id: u8,
        line: u8,
        key: Option<u8>,
        now: Ms,
    },
    TakeInLine {
        now: Ms,
        hold: Ms,
        limit: usize,
    },
    Hold {
        receipt: usize,
        now: Ms,
        due: Ms,
    },
    Clear {
        before: Ms,
        limit: usize,
    },
    /// Of one of the receipts so far, stale or not.
    Return {
        receipt: usize,
        due: Ms,
    },
    Rest {
        receipt: usize,
    },
    Delete {
        receipt: usize,
    },
    Recover {
        due: Ms,
    },
    Sweep {
        before: Ms,
        limit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let time = 0..40u64;
    prop_oneof![
        4 => (0..2u8, any::<u8>(), time.clone()).prop_map(|(queue, id, due)| Step::Send { queue, id, due }),
        4 => (0..2u8, time.clone(), 0..20u64, 1..4usize)
            .prop_map(|(queue, now, hold, limit)| Step::Take { queue, now, hold, limit }),
        4 => (any::<u8>(), 0..3u8, prop::option::of(0..3u8), time.clone())
            .prop_map(|(id, line, key, now)| Step::SendInLine { id, line, key, now }),
        4 => (time.clone(), 0..20u64, 1..4usize).prop_map(|(now, hold, limit)| Step::TakeInLine { now, hold, limit }),
        2 => (any::<usize>(), time.clone(), time.clone())
            .prop_map(|(receipt, now, due)| Step::Hold { receipt, now, due }),
        1 => (time.clone(), 1..4usize).prop_map(|(before, limit)| Step::Clear { before, limit }),
        2 => (any::<usize>(), time.clone()).prop_map(|(receipt, due)| Step::Return { receipt, due }),
        2 => any::<usize>().prop_map(|receipt| Step::Rest { receipt }),
        2 => any::<usize>().prop_map(|receipt| Step::Delete { receipt }),
        1 => time.clone().prop_map(|due| Step::Recover { due }),
        1 => (time, 1..4usize).prop_map(|(before, limit)| Step::Sweep { before, limit }),
    ]
}

/// What an engine answered, in words.
async fn run(engine: &dyn Queue, step: &Step, receipts: &mut Vec<Receipt>) -> String {
    let held = |receipts: &[Receipt], at: usize| (!receipts.is_empty()).then(|| receipts[at % receipts.len()].clone());
    let commit = async |change: Option<Change>| match change {
        Some(change) => format!("{:?}", engine.commit(vec![tally("steps"), change]).await),
        None => String::new(),
    };
    match step {
        Step::SendInLine { id, line, key, now } => {
            let key = key.map(|key| key.to_string());
            commit(Some(in_line(&id.to_string(), &line.to_string(), key.as_deref(), *now))).await
        }
        Step::TakeInLine { now, hold, limit } => {
            let taken = engine.take_in_line(take("lines", *now, now + hold, *limit)).await.unwrap();
            receipts.extend(taken.messages.iter().map(|(message, _)| message.receipt()));
            let said = taken.messages.iter().map(|(message, _)| (&message.id, message.turns, &message.line));
            format!("{:?} {:?}", said.collect::<Vec<_>>(), taken.next)
        }
        Step::Hold { receipt, now, due } => {
            commit(held(receipts, *receipt).map(|receipt| Change::Hold { receipt, now: *now, due: *due })).await
        }
        Step::Clear { before, limit } => format!("{:?}", engine.clear(queue("lines"), *before, *limit).await),
        Step::Send { queue, id, due } => commit(Some(send(&queue.to_string(), &id.to_string(), *due))).await,
        Step::Take { queue, now, hold, limit } => {
            let taken = engine.take(take(&queue.to_string(), *now, now + hold, *limit)).await.unwrap();
            receipts.extend(taken.messages.iter().map(|(message, _)| message.receipt()));
            let said = taken.messages.iter().map(|(message, body)| (&message.id, message.turns, &message.state, body));
            format!("{:?} {:?}", said.collect::<Vec<_>>(), taken.next)
        }
        Step::Return { receipt, due } => {
            let note = Bytes::from_static(b"back");
            commit(held(receipts, *receipt).map(|receipt| Change::Return { receipt, due: *due, note })).await
        }
        Step::Rest { receipt } => commit(held(receipts, *receipt).map(rest)).await,
        Step::Delete { receipt } => commit(held(receipts, *receipt).map(Change::Delete)).await,
        Step::Recover { due } => format!("{:?}", engine.recover("event", *due).await),
        Step::Sweep { before, limit } => format!("{:?}", engine.sweep("event", *before, 0, *limit).await),
    }
}

async fn everything(engine: &dyn Queue) -> String {
    let messages = engine.look(look()).await.unwrap();
    let said = messages.iter().map(|message| (&message.id, message.turns, &message.state, &message.note));
    let queues = engine.queues("event").await.unwrap();
    let counts = engine.counts(queue("lines"), 20).await.unwrap();
    format!("{:?} {:?} {queues:?} {counts:?}", said.collect::<Vec<_>>(), engine.census("event").await.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn engines_cannot_be_told_apart(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let sqlite = SqliteQueue::open(&dir.path().join("queue")).unwrap();
        let memory = MemoryQueue::default();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for step in &steps {
            let answers = runtime.block_on(async {
                (run(&sqlite, step, &mut ours).await, run(&memory, step, &mut theirs).await)
            });
            prop_assert_eq!(answers.0, answers.1, "{:?}", step);
        }
        prop_assert_eq!(runtime.block_on(everything(&sqlite)), runtime.block_on(everything(&memory)));
    }
}
