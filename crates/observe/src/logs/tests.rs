use std::sync::Mutex;
use std::time::{Instant, UNIX_EPOCH};

use hearth_model::{AccountId, LogStreamId, Region, RequestId, Version};

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
        texts(&self.logs.read(&query).await.unwrap().events)
    }

    /// Every page's texts, forwards.
    async fn pages(&self, mut query: Query) -> Vec<String> {
        query.after = Some(Position::FIRST);
        let mut found = Vec::new();
        while query.after.is_some() {
            let page = self.logs.read(&query).await.unwrap();
            assert!(page.events.len() <= query.limit);
            found.extend(texts(&page.events));
            query.after = page.next;
        }
        found
    }

    async fn days(&self) -> usize {
        days::sizes(self.folder.path()).unwrap().len()
    }

    /// Polls: the sweeper works by itself.
    async fn eventually(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so(self).await {
            assert!(Instant::now() < deadline, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<At>) -> Logs {
    open_with(folder, clock, u64::MAX)
}

fn open_with(folder: &tempfile::TempDir, clock: &Arc<At>, bytes_max: u64) -> Logs {
    Logs::open(folder.path(), Config { retention: 7 * DAY, bytes_max, clock: clock.clone() }).unwrap()
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
    assert_eq!(fixture.pages(Query { limit: 3, ..all() }).await, ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"]);
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
async fn days_older_than_the_retention_are_neither_shown_nor_kept() {
    let mut fixture = Fixture::new();
    for day in 0..9 {
        fixture.clock.day(day);
        fixture.say("/a", &stream(), &[&day.to_string()]);
        assert!(!fixture.texts(all()).await.is_empty());
    }
    assert_eq!(fixture.texts(all()).await, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    fixture.reopen().await;
    fixture.eventually("the first day goes", async |fixture| fixture.days().await == 8).await;
    fixture.clock.day(100);
    fixture.reopen().await;
    fixture.eventually("every day goes", async |fixture| fixture.days().await == 0).await;
    let group = fixture.logs.group(&group("/a")).await.unwrap().unwrap();
    assert_eq!(group.bytes, 0);
    let streams = fixture.logs.streams(group.id, String::new(), BY_NAME, None, 10).await.unwrap();
    assert!(streams.is_empty(), "streams go with their last event");
}

const BY_NAME: StreamOrder = StreamOrder::Name { descending: false };

#[tokio::test]
async fn each_group_has_its_own_retention() {
    let mut fixture = Fixture::new();
    fixture.say("/a", &stream(), &["a"]);
    fixture.say("/b", &stream(), &["b"]);
    let set = |days| {
        move |settings: &mut GroupSettings| -> Result<(), ()> {
            settings.retention_days = Some(days);
            Ok(())
        }
    };
    fixture.logs.flush().await.unwrap();
    fixture.logs.set(group("/a"), set(1)).await.unwrap().unwrap();
    fixture.logs.set(group("/b"), set(365)).await.unwrap().unwrap();
    fixture.clock.day(30);
    fixture.reopen().await;
    let of_b = || Query::latest(group("/b"), 10);
    assert!(fixture.texts(all()).await.is_empty());
    assert_eq!(fixture.texts(of_b()).await, ["b"]);
    let bytes = async |name: &str, fixture: &Fixture| fixture.logs.group(&group(name)).await.unwrap().unwrap().bytes;
    fixture.eventually("its bytes go", async |fixture| bytes("/a", fixture).await == 0).await;
    assert!(bytes("/b", &fixture).await > 0);
    assert_eq!(fixture.texts(of_b()).await, ["b"]);
}

#[tokio::test]
async fn a_deleted_group_or_stream_is_gone_and_its_name_is_free() {
    let fixture = Fixture::new();
    let other = a_stream("cd");
    fixture.say("/a", &stream(), &["one"]);
    fixture.say("/a", &other, &["two"]);
    assert_eq!(fixture.texts(all()).await, ["one", "two"]);
    fixture.logs.delete_stream(group("/a"), other.clone()).await.unwrap();
    fixture.say("/a", &other, &["three"]);
    assert_eq!(fixture.texts(all()).await, ["one", "three"]);
    fixture.logs.delete_group(group("/a")).await.unwrap();
    assert!(fixture.logs.group(&group("/a")).await.unwrap().is_none());
    assert!(matches!(fixture.logs.delete_group(group("/a")).await, Err(ChangeError::NoGroup)));
    assert!(fixture.texts(all()).await.is_empty());
    fixture.say("/a", &other, &["four"]);
    assert_eq!(fixture.texts(all()).await, ["four"]);
}

#[tokio::test]
async fn the_oldest_day_goes_when_the_disks_share_is_used_up() {
    let mut fixture = Fixture::new();
    let long = "x".repeat(200_000);
    for day in 0..3 {
        fixture.clock.day(day);
        (0..5).for_each(|_| fixture.say("/a", &stream(), &[&long]));
        fixture.logs.flush().await.unwrap();
    }
    fixture.logs.close().await;
    fixture.logs = open_with(&fixture.folder, &fixture.clock, 2_500_000);
    fixture.eventually("one day goes", async |fixture| fixture.days().await == 2).await;
    assert_eq!(fixture.pages(all()).await.len(), 10);
    fixture.logs.close().await;
    fixture.logs = open_with(&fixture.folder, &fixture.clock, 200_000);
    fixture
        .eventually("all that is left is one day, and it is small", async |fixture| {
            let sizes = days::sizes(fixture.folder.path()).unwrap();
            sizes.len() == 1 && sizes[0].1 < 1_000_000
        })
        .await;
}

#[tokio::test]
async fn events_are_ordered_by_their_time_forwards_and_backwards() {
    let fixture = Fixture::new();
    let begin = fixture.clock.wall();
    let mut expected = Vec::new();
    for i in 0..200_u64 {
        // Neither in order nor in one day.
        let later = Duration::from_millis(i * 7919 % 200 * 1_000_000);
        let text = format!("{:09}", later.as_millis());
        expected.push(text.clone());
        let name = a_stream(&format!("{}", i % 3));
        fixture.logs.append(&group("/a"), &name, vec![LogEvent { at: begin + later, message: text.into() }]);
    }
    expected.sort();
    assert_eq!(fixture.pages(Query { limit: 7, ..all() }).await, expected);
    let id = fixture.logs.group(&group("/a")).await.unwrap().unwrap().id;
    let mut found = Vec::new();
    let mut next = Some(Position::LAST);
    while let Some(position) = next {
        let way = Way::Before(position);
        let scan = Scan { group: id, streams: Streams::All, from: 0, to: i64::MAX, way, limit: 7 };
        let page = fixture.logs.scan(scan, |_| true).await.unwrap();
        found.splice(0..0, texts(&page.events));
        next = page.next;
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn events_of_a_former_version_are_taken_over() {
    let mut fixture = Fixture::new();
    fixture.logs.close().await;
    let file = fixture.folder.path().join("2024-10-04.sqlite");
    let former = Connection::open(&file).unwrap();
    former
        .execute_batch(
            "CREATE TABLE events (number INTEGER PRIMARY KEY, grp TEXT, at INTEGER, stream TEXT, message BLOB)",
        )
        .unwrap();
    let at = i64::try_from(fixture.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    for number in 1..=2500 {
        let message = number.to_string();
        let values = rusqlite::params![number, "000000000000/us-east-1/a", at + number * 1000, "s", message.as_bytes()];
        former.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", values).unwrap();
    }
    drop(former);
    fixture.logs = open(&fixture.folder, &fixture.clock);
    fixture.eventually("the file is gone", async |_| !file.exists()).await;
    assert_eq!(fixture.pages(all()).await, (1..=2500).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn numbers_go_on_after_a_restart() {
    let mut fixture = Fixture::new();
    let last = async |fixture: &Fixture| fixture.logs.read(&all()).await.unwrap().events.last().unwrap().number;
    fixture.say("/a", &stream(), &["one"]);
    let before = last(&fixture).await;
    fixture.reopen().await;
    fixture.say("/a", &stream(), &["two"]);
    assert!(last(&fixture).await > before);
}

#[tokio::test]
async fn more_than_a_page_looks_through_of_one_moment_has_an_end_and_is_read_whole() {
    let fixture = Fixture::new();
    let long = "x".repeat(100_000);
    // All of one millisecond, in many blocks; twice as much as is gathered for a page.
    for i in 0..340 {
        fixture.say("/a", &stream(), &[&format!("{i:03}{long}")]);
    }
    let id = fixture.logs.group(&group("/a")).await.unwrap().unwrap().id;
    for (way, kept) in
        [(Way::After(Position::FIRST), 340), (Way::Before(Position::LAST), 340), (Way::After(Position::FIRST), 1)]
    {
        let (mut way, mut found, mut pages) = (way, Vec::new(), 0);
        loop {
            let scan = Scan { group: id, streams: Streams::All, from: 0, to: i64::MAX, way, limit: 100 };
            let wanted = move |event: &Candidate<'_>| kept == 340 || event.message.starts_with(b"339");
            let page = fixture.logs.scan(scan, wanted).await.unwrap();
            let texts = page.events.iter().map(|event| String::from_utf8_lossy(&event.message[..3]).into_owned());
            match way {
                Way::After(_) => found.extend(texts),
                Way::Before(_) => found.splice(0..0, texts.collect::<Vec<_>>()).for_each(drop),
            }
            pages += 1;
            assert!(pages < 100, "there is no end");
            let Some(next) = page.next else { break };
            way = if let Way::After(_) = way { Way::After(next) } else { Way::Before(next) };
        }
        assert_eq!(found, (340 - kept..340).map(|i| format!("{i:03}")).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn streams_know_their_first_and_last_event() {
    let fixture = Fixture::new();
    for (day, name) in [(3, "03"), (1, "01"), (2, "02"), (4, "01")] {
        fixture.clock.day(day);
        fixture.say("/a", &a_stream(name), &["x"]);
    }
    let id = fixture.logs.group(&group("/a")).await.unwrap().unwrap().id;
    let order = StreamOrder::LastEvent { descending: true };
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let page = fixture.logs.streams(id, "2026/".to_owned(), order, after, 1).await.unwrap();
        let Some(stream) = page.last() else { break };
        after = Some(StreamMark::of(stream));
        found.push((stream.name[stream.name.len() - 2..].to_owned(), stream.last.unwrap() - stream.first.unwrap()));
    }
    let day = i64::try_from(DAY.as_millis()).unwrap();
    assert_eq!(found, [("01".to_owned(), 3 * day), ("03".to_owned(), 0), ("02".to_owned(), 0)]);
}

#[tokio::test]
async fn a_follower_sees_its_group_live_and_is_told_what_it_missed() {
    let fixture = Fixture::new();
    let mut follower = fixture.logs.follow(&group("/a")).unwrap();
    fixture.say("/b", &stream(), &["other"]);
    fixture.say("/a", &stream(), &["one", "two"]);
    let Some(Followed::Events(events)) = follower.next().await else { panic!("no events") };
    assert_eq!(texts(&events), ["one", "two"]);
    assert_eq!(events.to_vec(), fixture.logs.read(&all()).await.unwrap().events);
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
    // The day's file cannot be made.
    let blocked = fixture.folder.path().join(format!("{}.blocks", "2024-10-04"));
    std::fs::create_dir(&blocked).unwrap();
    fixture.say("/a", &stream(), &["one", "two"]);
    assert!(fixture.logs.flush().await.is_err());
    std::fs::remove_dir(&blocked).unwrap();
    fixture.say("/a", &stream(), &["three"]);
    let found = fixture.texts(all()).await;
    assert!(found.contains(&"three".to_owned()), "{found:?}");
    let told = found.iter().find(|text| text.contains("platform.logsDropped")).unwrap();
    assert!(told.contains(r#""droppedBytes":6"#) && told.contains(r#""droppedRecords":2"#), "{told}");
    assert_eq!(fixture.logs.dropped(), Missing { events: 2, bytes: 6 });
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_and_the_next_page_goes_on() {
    let fixture = Fixture::new();
    let long = "x".repeat(300_000);
    for _ in 0..7 {
        fixture.say("/a", &stream(), &[&long]);
    }
    let first = fixture.logs.read(&Query { after: Some(Position::FIRST), ..all() }).await.unwrap();
    let rest = fixture.logs.read(&Query { after: first.next, ..all() }).await.unwrap();
    assert_eq!((first.events.len(), rest.events.len()), (3, 3));
}
