use std::sync::Mutex;
use std::time::{Instant, UNIX_EPOCH};

use hearth_model::{AccountId, LogStreamId, Region, Version};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

struct At(Mutex<SystemTime>);

impl At {
    fn day(&self, day: u32) {
        *self.0.lock().unwrap() = UNIX_EPOCH + DAY * 20_000 + DAY * day;
    }
}

impl Clock for At {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

pub(super) fn group(name: &str) -> LogGroup {
    LogGroup { account: AccountId::default_account(), region: Region::default_region(), name: name.into() }
}

pub(super) fn stream() -> LogStreamName {
    a_stream("ab")
}

fn a_stream(id: &str) -> LogStreamName {
    LogStreamName::new((2026, 1, 2), None, Version::Latest, &LogStreamId::new(id))
}

struct Fixture {
    folder: tempfile::TempDir,
    clock: Arc<At>,
    logs: Logs,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(At(Mutex::new(UNIX_EPOCH)));
        clock.day(0);
        let logs = open(&folder, &clock);
        Fixture { folder, clock, logs }
    }

    async fn reopen(&mut self) {
        self.logs.close().await;
        self.logs = open(&self.folder, &self.clock);
    }

    fn say(&self, name: &str, stream: &LogStreamName, texts: &[&str]) {
        let at = self.clock.wall();
        let event = |text: &&str| LogEvent { at, message: Bytes::copy_from_slice(text.as_bytes()) };
        self.logs.append(&group(name), stream, texts.iter().map(event).collect());
    }

    async fn texts(&self, query: Query) -> Vec<String> {
        texts(&self.logs.read(query).await.unwrap())
    }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<At>) -> Logs {
    Logs::open(folder.path(), Config { retention: 7 * DAY, clock: clock.clone() }).unwrap()
}

fn texts(events: &[Stored]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.message.to_vec()).unwrap()).collect()
}

fn all() -> Query {
    Query::latest(group("/a"), 100)
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_at_once_and_after_closing() {
    let mut fixture = Fixture::new();
    fixture.say("/a", &stream(), &["one", "two"]);
    fixture.say("/b", &stream(), &["other"]);
    fixture.say("/a", &a_stream("cd"), &["three"]);
    assert_eq!(fixture.texts(all()).await, ["one", "two", "three"]);
    fixture.reopen().await;
    assert_eq!(fixture.texts(all()).await, ["one", "two", "three"]);
    assert_eq!(fixture.texts(Query { limit: 1, ..all() }).await, ["three"]);
    assert_eq!(fixture.texts(Query { grep: Some("w".to_owned()), ..all() }).await, ["two"]);
}

#[tokio::test]
async fn pages_follow_each_other_over_days_and_restarts() {
    let mut fixture = Fixture::new();
    for day in 0..4 {
        fixture.clock.day(day);
        fixture.say("/a", &stream(), &[&format!("{day}a"), &format!("{day}b")]);
        fixture.reopen().await;
    }
    let mut after = Some(0);
    let mut found = Vec::new();
    loop {
        let page = fixture.logs.read(Query { after, limit: 3, ..all() }).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.number);
        found.extend(texts(&page));
    }
    assert_eq!(found, ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"]);
    fixture.clock.day(1);
    let since = Some(fixture.clock.wall());
    fixture.clock.day(3);
    let until = Some(fixture.clock.wall());
    assert_eq!(fixture.texts(Query { since, until, ..all() }).await, ["1a", "1b", "2a", "2b"]);
    assert_eq!(fixture.texts(Query { limit: 3, ..all() }).await, ["2b", "3a", "3b"]);
}

#[tokio::test]
async fn one_request_is_read_from_start_to_report_in_its_own_stream() {
    let mut fixture = Fixture::new();
    let (one, two) = (a_stream("01"), a_stream("02"));
    fixture.say("/a", &one, &["INIT_START", "START RequestId: r1 Version: $LATEST", "from r1"]);
    fixture.say("/a", &two, &["START RequestId: r2 Version: $LATEST", "from r2 about RequestId: r1"]);
    fixture.clock.day(1);
    fixture.reopen().await;
    fixture.say("/a", &one, &["more of r1", "END RequestId: r1", "REPORT RequestId: r1\tDuration: 1 ms\t"]);
    fixture.say("/a", &one, &["START RequestId: r3 Version: $LATEST", "from r3"]);
    let of = |request: &str| Query { request: Some(RequestId::new(request)), ..all() };
    let expected = ["START RequestId: r1 Version: $LATEST", "from r1", "more of r1", "END RequestId: r1"];
    assert_eq!(fixture.texts(of("r1")).await[..4], expected);
    assert_eq!(fixture.texts(of("r1")).await.len(), 5);
    assert_eq!(fixture.texts(of("r3")).await, ["START RequestId: r3 Version: $LATEST", "from r3"]);
    assert!(fixture.texts(of("r")).await.is_empty());
}

#[tokio::test]
async fn days_older_than_the_retention_are_deleted() {
    let mut fixture = Fixture::new();
    for day in 0..9 {
        fixture.clock.day(day);
        fixture.say("/a", &stream(), &[&day.to_string()]);
        // A day's file begins with the first write of that day.
        assert!(!fixture.texts(all()).await.is_empty());
    }
    assert_eq!(fixture.texts(all()).await, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    fixture.clock.day(100);
    fixture.reopen().await;
    fixture.logs.close().await;
    assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_follower_sees_its_group_live_and_is_told_what_it_missed() {
    let fixture = Fixture::new();
    let mut follower = fixture.logs.follow(&group("/a")).unwrap();
    fixture.say("/b", &stream(), &["other"]);
    fixture.say("/a", &stream(), &["one", "two"]);
    let Some(Followed::Events(events)) = follower.next().await else { panic!("no events") };
    assert_eq!(texts(&events), ["one", "two"]);
    assert_eq!(events.to_vec(), fixture.logs.read(all()).await.unwrap());
    for i in 0..300 {
        fixture.say("/a", &stream(), &[&i.to_string()]);
    }
    assert_eq!(follower.next().await, Some(Followed::Missed { batches: 300 - 256 }));
    let Some(Followed::Events(events)) = follower.next().await else { panic!("no events") };
    assert_eq!(texts(&events), ["44"]);
    let mut ends = fixture.logs.follow(&group("/a")).unwrap();
    fixture.logs.close().await;
    assert_eq!(ends.next().await, None);
}

#[tokio::test]
async fn events_that_could_not_be_kept_are_counted_in_their_log() {
    let fixture = Fixture::new();
    // The writer is still: the day's file cannot be made.
    let blocked = fixture.folder.path().join(format!("{}.sqlite", days::name(fixture.clock.wall())));
    std::fs::create_dir(&blocked).unwrap();
    fixture.say("/a", &stream(), &["one", "two"]);
    assert!(fixture.logs.read(all()).await.is_err());
    std::fs::remove_dir(&blocked).unwrap();
    fixture.say("/a", &stream(), &["three"]);
    let found = fixture.texts(all()).await;
    assert!(found.contains(&"three".to_owned()), "{found:?}");
    assert!(found.iter().any(|text| text.starts_with("hearth: 2 log events are missing here")), "{found:?}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_and_the_next_page_goes_on() {
    let fixture = Fixture::new();
    let long = "x".repeat(3 * 1024 * 1024);
    for _ in 0..7 {
        fixture.say("/a", &stream(), &[&long]);
    }
    let first = fixture.logs.read(Query { after: Some(0), ..all() }).await.unwrap();
    let rest = fixture.logs.read(Query { after: first.last().map(|event| event.number), ..all() }).await.unwrap();
    assert_eq!((first.len(), rest.len()), (5, 2));
}
