use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const NOON: i64 = 1_769_860_800_000;

fn event(at: i64, message: &str) -> Event {
    let stream = Arc::from(format!("s{}", at % 2));
    let pointer = Pointer { group: Arc::from("g"), at: NOON + at, number: 1 + at.unsigned_abs() };
    Event::new(pointer, NOON + at + 5, (Arc::from("0:g"), stream), message.to_owned())
}

/// Rows as `name=value`, without pointers.
fn rows(query: &str, messages: &[&str]) -> Vec<String> {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let mut run = Run::new(query, 1000);
    for (at, message) in messages.iter().enumerate().rev() {
        run.feed(event(at as i64 * 60_000, message)).unwrap();
    }
    let shown = |row: Vec<(String, String)>| {
        let shown = row.into_iter().filter(|(name, _)| name != "@ptr").map(|(name, value)| format!("{name}={value}"));
        shown.collect::<Vec<_>>().join(" ")
    };
    run.finish().into_iter().map(shown).collect()
}

const JSON: &[&str] = &[
    r#"{"level": "INFO", "ms": 10, "user": {"id": "a", "tags": ["x", "y"]}}"#,
    r#"{"level": "ERROR", "ms": 30, "user": {"id": "b"}}"#,
    r#"{"level": "ERROR", "ms": "50", "user": {"id": "a"}, "odd-name": 1}"#,
    "plain text with ms=7",
];

#[test]
fn without_commands_of_columns_time_and_message_are_shown_the_latest_first() {
    let found = rows("filter @message like 'plain' or level = \"INFO\"", JSON);
    assert_eq!(
        found,
        [
            "@timestamp=2026-01-31 12:03:00.000 @message=plain text with ms=7".to_owned(),
            format!("@timestamp=2026-01-31 12:00:00.000 @message={}", JSON[0])
        ]
    );
}

#[test]
fn conditions_compare_numbers_texts_and_patterns() {
    let count = |condition: &str| rows(&format!("filter {condition}"), JSON).len();
    for (condition, expected) in [
        ("ms > 10", 2),
        ("ms >= 10 and level = 'ERROR'", 2),
        ("ms = 50", 1),
        ("level like /ERR/", 2),
        ("level not like /(?i)err/", 2),
        ("level =~ /^INFO$/", 1),
        ("level in ['INFO', 'DEBUG']", 1),
        ("level not in ['INFO']", 3),
        ("not ispresent(level)", 1),
        ("ispresent(user.tags.1) and user.tags.1 = 'y'", 1),
        ("`odd-name` = 1", 1),
        ("(level = 'INFO' or ms > 40) and user.id = 'a'", 2),
        ("ms + 10 * 2 = 50", 1),
        ("ms % 20 = 10 and ms ^ 2 < 1000", 2),
        ("@message like \"ms=\"", 1),
        ("strlen(user.id) = 1 and toupper(user.id) != 'B'", 2),
        ("missing > 1", 0),
    ] {
        assert_eq!(count(condition), expected, "{condition}");
    }
}

#[test]
fn events_are_counted_by_groups_and_bins() {
    assert_eq!(
        rows("stats count(*), avg(ms) as mean by level | sort level asc", &JSON[..3]),
        ["level=ERROR count(*)=2 mean=40", "level=INFO count(*)=1 mean=10"]
    );
    assert_eq!(
        rows("stats count(*) as n by bin(2m) as t | sort t", JSON),
        ["t=2026-01-31 12:00:00.000 n=2", "t=2026-01-31 12:02:00.000 n=2"]
    );
    assert_eq!(
        rows(
            "stats max(ms) - min(ms) as spread, pct(ms, 50), count_distinct(user.id) as users, sum(ms), stddev(ms)",
            JSON
        ),
        ["spread=40 pct(ms, 50)=30 users=2 sum(ms)=90 stddev(ms)=16.3299"]
    );
    assert_eq!(
        rows("stats latest(level) as last, earliest(level) as first, sortsFirst(user.id) as u", JSON),
        ["last=ERROR first=INFO u=a"]
    );
    assert_eq!(rows("stats count(*) by level | sort count(*) desc | limit 1", &JSON[..3]), ["level=ERROR count(*)=2"]);
    assert_eq!(
        rows("stats count(*) by bin(1m) | sort bin(1m) desc | limit 1", JSON),
        ["bin(1m)=2026-01-31 12:03:00.000 count(*)=1"]
    );
    assert_eq!(rows("stats count(*) as n by level | stats max(n) as most", &JSON[..3]), ["most=2"]);
    assert_eq!(rows("filter 1 = 2 | stats count(*) as n, sum(ms)", JSON), ["n=0"]);
}

#[test]
fn texts_are_taken_apart() {
    let lines = &["user=ann, took 12 ms", "user=bob, took 7 ms", "else"];
    assert_eq!(
        rows(
            "parse @message 'user=*, took * ms' as user, ms | filter ispresent(user) | display user, ms * 2 as twice | sort twice desc",
            lines
        ),
        ["user=ann twice=24", "user=bob twice=14"]
    );
    assert_eq!(
        rows(r"parse @message /user=(?<who>\w+)/ | stats count(*) by who | sort who", lines),
        ["count(*)=1", "who=ann count(*)=1", "who=bob count(*)=1"]
    );
    assert_eq!(
        rows("fields concat(user.id, '-', level) as x | filter ispresent(user.id) | sort x | limit 1", JSON),
        ["x=a-ERROR"]
    );
    assert_eq!(
        rows(
            "fields strcontains(@message, 'took') as t, replace(@message, 'user', 'u') as r | limit 1 | display t, r",
            lines
        ),
        ["t=0 r=else"]
    );
}

#[test]
fn rows_are_sorted_deduplicated_and_limited() {
    assert_eq!(rows("fields ms | sort ms desc | limit 2", JSON), ["ms=50", "ms=30"]);
    assert_eq!(
        rows("fields user.id, ms | filter ispresent(ms) | dedup user.id", JSON),
        ["user.id=a ms=50", "user.id=b ms=30"]
    );
    assert_eq!(rows("display ms | sort @timestamp asc | head 1 # the oldest", JSON), ["ms=10"]);
    let many: Vec<String> = (0..9000).map(|i| format!(r#"{{"n": {}}}"#, i * 7919 % 9000)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(rows("fields n | sort n asc | limit 3", &many), ["n=0", "n=1", "n=2"]);
    assert_eq!(rows("fields n", &many).len(), 1000, "the limit of who asks");
}

#[test]
fn lines_of_the_platform_have_fields() {
    let report = "REPORT RequestId: 3d5ff08a-0a4e-4d8e-8f5c-111111111111\tDuration: 3.01 ms\tBilled Duration: 114 ms\t\
                  Memory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\t";
    let query = "filter @type = 'REPORT' | stats max(@duration) as d, max(@billedDuration) as b, max(@memorySize / 1000 / 1000) as m, \
                 max(@maxMemoryUsed) as u, max(@initDuration) as i, count(@requestId) as n";
    assert_eq!(
        rows(query, &["START RequestId: x Version: $LATEST", report, "other"]),
        ["d=3.01 b=114 m=128 u=36000000 i=110.1 n=1"]
    );
    let line = "2026-01-31T12:00:00.000Z\t3d5ff08a-0a4e-4d8e-8f5c-111111111111\tINFO\thello {\"a\": 5}";
    assert_eq!(
        rows("display @requestId, a, datefloor(@timestamp, 1mo) as m, datefloor(@timestamp, 1d) as d", &[line]),
        ["@requestId=3d5ff08a-0a4e-4d8e-8f5c-111111111111 a=5 m=2026-01-01 00:00:00.000 d=2026-01-31 00:00:00.000"]
    );
}

#[test]
fn addresses_are_in_subnets_or_not() {
    let condition =
        |condition: &str| rows(&format!("filter {condition}"), &[r#"{"ip": "10.1.2.3", "six": "fe80::1"}"#]).len() == 1;
    assert!(condition("isValidIp(ip) and isValidIpv4(ip) and not isValidIpv6(ip) and isValidIpv6(six)"));
    assert!(condition("isIpv4InSubnet(ip, '10.0.0.0/8') and isIpInSubnet(six, 'fe80::/10')"));
    assert!(!condition("isIpv4InSubnet(ip, '10.2.0.0/16')") && !condition("isIpInSubnet(six, '10.0.0.0/8')"));
}

#[test]
fn what_is_no_query_is_told_with_its_place() {
    let told = |query: &str| match Query::parse(query).err() {
        Some(QueryError::Malformed { message, start, end }) => (message, start, end),
        other => panic!("{query}: {other:?}"),
    };
    let count = told("fields @timestamp, custom_field | count()");
    assert_eq!(count, ("unexpected symbol found count at line 1 and position 34".to_owned(), 34, 39));
    assert_eq!(
        told("fields a |\n filter"),
        ("unexpected symbol found <EOF> at line 2 and position 7".to_owned(), 18, 18)
    );
    for bad in [
        "",
        "|",
        "nonsense",
        "filter a =",
        "filter (a = 1",
        "stats count(*",
        "limit 0",
        "limit x",
        "sort",
        "parse @message 'a * b' as c, d",
        "parse @message /(/",
        "fields bin(5)",
        "filter a like b",
        "fields count(*)",
        "stats sum(count(*))",
        "filter nofunction(a)",
        "fields a as",
        "dedup",
        "filter a in []",
        "stats pct(a, 101)",
        "fields a b",
        "filter 'open",
    ] {
        told(bad);
    }
    assert!(matches!(Query::parse("pattern @message"), Err(QueryError::Unsupported(_))));
    assert!(matches!(Query::parse("fields jsonParse(@message) as j"), Err(QueryError::Unsupported(_))));
    told(&format!("filter {}a{}", "(".repeat(500), ")".repeat(500)));
    told(&format!("filter {}1", "-".repeat(5000)));
}

proptest! {
    #[test]
    fn no_text_makes_it_fail(query in "(fields|filter|stats|sort|parse|limit|dedup|display)? ?[ a-c@|.=<>!()*\"'/,+\\-0-9\\[\\]\\\\é`#%^\\n]{0,40}", message in "\\PC{0,60}") {
        if let Ok(query) = Query::parse(&query) {
            let mut run = Run::new(query, 10);
            let _ = run.feed(event(0, &message));
            run.finish();
        }
    }

    #[test]
    fn places_of_errors_are_within_the_query(query in "\\PC{0,60}") {
        if let Err(QueryError::Malformed { start, end, .. }) = Query::parse(&query) {
            prop_assert!(start <= end && end <= query.chars().count());
        }
    }

    #[test]
    fn sums_and_counts_are_those_of_the_events(numbers in prop::collection::vec((0..3_u8, -1000..1000_i32), 0..200)) {
        let messages: Vec<String> = numbers.iter().map(|(key, number)| format!(r#"{{"k": {key}, "n": {number}}}"#)).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        for row in rows("stats count(*) as c, sum(n) as s, min(n) as l by k", &messages) {
            let value = |name: &str| row.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse::<i64>().ok()).unwrap();
            let of: Vec<i64> = numbers.iter().filter(|(key, _)| i64::from(*key) == value("k")).map(|(_, number)| i64::from(*number)).collect();
            prop_assert_eq!(value("c"), of.len() as i64);
            prop_assert_eq!(value("s"), of.iter().sum::<i64>());
            prop_assert_eq!(value("l"), *of.iter().min().unwrap());
        }
    }

    #[test]
    fn sorting_and_limiting_keeps_the_first(numbers in prop::collection::vec(-1000..1000_i32, 1..60), limit in 1..20_usize) {
        let messages: Vec<String> = numbers.iter().map(|number| format!(r#"{{"n": {number}}}"#)).collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        let mut expected = numbers.clone();
        expected.sort_unstable_by(|one, other| other.cmp(one));
        let expected: Vec<String> = expected.iter().take(limit).map(|number| format!("n={number}")).collect();
        let query = format!("fields n | sort n desc | limit {limit}");
        prop_assert_eq!(rows(&query, &messages), expected);
    }
}
