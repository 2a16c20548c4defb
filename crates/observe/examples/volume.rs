//! How fast lines are appended and looked through: `cargo run --release -p hearth-observe --example volume -- [LINES]`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hearth_model::{AccountId, LogEvent, LogGroup, LogStreamName, Region, SystemClock};
use hearth_observe::{Config, Logs, Position, Scan, Streams, Way};

const BATCH: usize = 20;
const STREAMS: usize = 50;

#[tokio::main]
async fn main() {
    let lines: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a folder");
    let config =
        Config { retention: Duration::from_secs(30 * 86_400), bytes_max: u64::MAX, clock: Arc::new(SystemClock) };
    let logs = Logs::open(folder.path(), config).expect("the logs");
    let group = LogGroup {
        account: AccountId::default_account(),
        region: Region::default_region(),
        name: "/aws/lambda/volume".into(),
    };
    let streams: Vec<LogStreamName> = (0..STREAMS).map(|i| LogStreamName::named(&format!("s{i}"))).collect();
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    for batch in 0..lines / BATCH {
        let event = |i: usize| {
            LogEvent {
            at: SystemTime::now(),
            message: format!(
                "2026-01-31T12:00:00.000Z\t3d5ff08a-0a4e-4d8e-8f5c-{batch:012}\tINFO\tline {i} of a function that says something"
            )
            .into(),
        }
        };
        let events: Vec<LogEvent> = (0..BATCH).map(event).collect();
        loop {
            let events = events.clone();
            let append = Instant::now();
            let taken = logs.append(&group, &streams[batch % STREAMS], events);
            longest = longest.max(append.elapsed());
            if taken {
                break;
            }
            // The queue is full: as fast as the disk takes it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    while logs.flush().await.is_err() {}
    let appended = begin.elapsed();
    println!("appended: {:.0} lines a second", lines as f64 / appended.as_secs_f64());
    let id = logs.group(&group).await.expect("the group").expect("a group").id;
    let begin = Instant::now();
    let (mut after, mut found, mut scanned) = (Some(Position::FIRST), 0, 0);
    let wanted = memchr::memmem::Finder::new("4d8e-8f5c-000000000777").into_owned();
    while let Some(position) = after {
        let wanted = wanted.clone();
        let scan =
            Scan { group: id, streams: Streams::All, from: 0, to: i64::MAX, way: Way::After(position), limit: 10_000 };
        let page = logs.scan(scan, move |candidate| wanted.find(candidate.message).is_some()).await.expect("a page");
        (found, scanned) = (found + page.events.len(), scanned + page.scanned_events);
        after = page.next;
    }
    println!(
        "looked through: {:.0} lines a second, {found} found of {scanned}",
        scanned as f64 / begin.elapsed().as_secs_f64()
    );
    println!("dropped: {:?}; longest append {longest:?}", logs.dropped().events);
    logs.close().await;
}
