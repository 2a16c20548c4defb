//! What patterns match (spec 6.9), and that an index says the same as each pattern by itself.

use hearth_patterns::{Index, Node, Pattern, PatternError};
use proptest::prelude::*;

fn matches(pattern: &str, event: &str) -> bool {
    let pattern = Pattern::compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let event = Node::parse(event).unwrap();
    let alone = pattern.matches(&event);
    assert_eq!(!Index::new([pattern]).matches(&event).is_empty(), alone, "the index says otherwise: {event:?}");
    alone
}

#[track_caller]
fn expect(pattern: &str, good: &[&str], bad: &[&str]) {
    good.iter().for_each(|event| assert!(matches(pattern, event), "{pattern} should match {event}"));
    bad.iter().for_each(|event| assert!(!matches(pattern, event), "{pattern} should not match {event}"));
}

#[test]
fn values_are_compared_as_they_are() {
    expect(r#"{"a":["x","y"]}"#, &[r#"{"a":"x"}"#, r#"{"b":1,"a":"y"}"#], &[r#"{"a":"X"}"#, r#"{"a":["z"]}"#, "{}"]);
    expect(r#"{"a":[5]}"#, &[r#"{"a":5}"#], &[r#"{"a":5.0}"#, r#"{"a":"5"}"#, r#"{"a":50}"#]);
    expect(r#"{"a":["5"]}"#, &[r#"{"a":"5"}"#], &[r#"{"a":5}"#]);
    expect(r#"{"a":[null]}"#, &[r#"{"a":null}"#], &[r#"{"a":""}"#, r#"{"a":"null"}"#, "{}"]);
    expect(r#"{"a":[""]}"#, &[r#"{"a":""}"#], &[r#"{"a":null}"#, "{}"]);
    expect(r#"{"a":[true]}"#, &[r#"{"a":true}"#], &[r#"{"a":false}"#, r#"{"a":"true"}"#]);
}

#[test]
fn keys_are_all_needed_and_values_are_any() {
    let pattern = r#"{"a":["x"],"b":{"c":[1],"d":["y"]}}"#;
    let bad = [r#"{"a":"x","b":{"c":1}}"#, r#"{"b":{"c":1,"d":"y"}}"#, r#"{"a":"x","b":"y"}"#];
    expect(pattern, &[r#"{"a":"x","b":{"c":1,"d":"y","e":0}}"#], &bad);
    expect(r#"{"a":["x"],"a":["y"]}"#, &[r#"{"a":"y"}"#, r#"{"a":"x","a":"y"}"#], &[r#"{"a":"y","a":"x"}"#]);
}

#[test]
fn texts_are_tested_from_both_ends_and_without_regard_to_case() {
    expect(r#"{"a":[{"prefix":"ab"}]}"#, &[r#"{"a":"ab"}"#, r#"{"a":"abc"}"#], &[r#"{"a":"Ab"}"#, r#"{"a":5}"#]);
    expect(r#"{"a":[{"suffix":"ab"}]}"#, &[r#"{"a":"ab"}"#, r#"{"a":"cab"}"#], &[r#"{"a":"b"}"#, r#"{"a":"é"}"#]);
    expect(r#"{"a":[{"equals-ignore-case":"aÉ"}]}"#, &[r#"{"a":"Aé"}"#], &[r#"{"a":"ae"}"#]);
    expect(r#"{"a":[{"prefix":{"equals-ignore-case":"AB"}}]}"#, &[r#"{"a":"abc"}"#], &[r#"{"a":"ba"}"#]);
    expect(r#"{"a":[{"suffix":{"equals-ignore-case":"AB"}}]}"#, &[r#"{"a":"cab"}"#], &[r#"{"a":"ba"}"#]);
    let good = [r#"{"a":"log/1.gz"}"#, r#"{"a":"log/.gz"}"#];
    expect(r#"{"a":[{"wildcard":"log/*.gz"}]}"#, &good, &[r#"{"a":"log/1"}"#, r#"{"a":"log.gz"}"#]);
    expect(r#"{"a":[{"wildcard":"a*b*c"}]}"#, &[r#"{"a":"abbc"}"#, r#"{"a":"axbyc"}"#], &[r#"{"a":"acb"}"#]);
    expect(r#"{"a":[{"wildcard":"\\**"}]}"#, &[r#"{"a":"*x"}"#], &[r#"{"a":"x"}"#]);
}

#[test]
fn anything_but_needs_a_value() {
    expect(
        r#"{"a":[{"anything-but":["x",5]}]}"#,
        &[r#"{"a":"y"}"#, r#"{"a":6}"#, r#"{"a":null}"#],
        &[r#"{"a":"x"}"#, r#"{"a":5}"#, "{}"],
    );
    expect(r#"{"a":[{"anything-but":"x"}]}"#, &[r#"{"a":"y"}"#], &[r#"{"a":"x"}"#]);
    expect(r#"{"a":[{"anything-but":{"prefix":["x","y"]}}]}"#, &[r#"{"a":"z"}"#], &[r#"{"a":"xa"}"#, r#"{"a":"y"}"#]);
    expect(r#"{"a":[{"anything-but":{"suffix":"x"}}]}"#, &[r#"{"a":"xa"}"#], &[r#"{"a":"ax"}"#]);
    expect(r#"{"a":[{"anything-but":{"equals-ignore-case":["X"]}}]}"#, &[r#"{"a":"y"}"#], &[r#"{"a":"x"}"#]);
}

#[test]
fn numbers_are_compared_as_numbers_only_where_they_are() {
    let range = r#"{"a":[{"numeric":[">=",0,"<",10]}]}"#;
    expect(range, &[r#"{"a":0}"#, r#"{"a":9.99}"#, r#"{"a":1e0}"#], &[r#"{"a":10}"#, r#"{"a":-1}"#, r#"{"a":"5"}"#]);
    expect(r#"{"a":[{"numeric":["=",5]}]}"#, &[r#"{"a":5.0}"#, r#"{"a":5e0}"#], &[r#"{"a":5.1}"#]);
    expect(r#"{"dynamodb":{"n":{"N":[{"numeric":[">",1]}]}}}"#, &[], &[r#"{"dynamodb":{"n":{"N":"42"}}}"#]);
}

#[test]
fn existence_is_a_leafs() {
    expect(
        r#"{"a":[{"exists":true}]}"#,
        &[r#"{"a":null}"#, r#"{"a":[1]}"#],
        &["{}", r#"{"a":{"b":1}}"#, r#"{"a":[]}"#],
    );
    expect(r#"{"a":[{"exists":false}]}"#, &["{}", r#"{"a":{"b":1}}"#], &[r#"{"a":null}"#]);
    expect(r#"{"a":["x",{"exists":false}],"b":[1]}"#, &[r#"{"b":1}"#, r#"{"a":"x","b":1}"#], &[r#"{"a":"y","b":1}"#]);
    expect(r#"{"a":{"b":[{"exists":false}]}}"#, &["{}", r#"{"a":{}}"#, r#"{"a":5}"#], &[r#"{"a":{"b":0}}"#]);
}

#[test]
fn addresses_are_in_blocks() {
    expect(r#"{"a":[{"cidr":"10.0.0.0/24"}]}"#, &[r#"{"a":"10.0.0.255"}"#], &[r#"{"a":"10.0.1.0"}"#, r#"{"a":"x"}"#]);
    expect(r#"{"a":[{"cidr":"::/0"}]}"#, &[r#"{"a":"2001:db8::1"}"#], &[r#"{"a":"10.0.1.0"}"#]);
}

#[test]
fn one_choice_does() {
    let pattern = r#"{"s":["x"],"$or":[{"a":[1],"b":[2]},{"c":{"d":[3]}}]}"#;
    let good = [r#"{"s":"x","a":1,"b":2}"#, r#"{"s":"x","c":{"d":3}}"#];
    expect(pattern, &good, &[r#"{"s":"x","a":1}"#, r#"{"a":1,"b":2}"#, r#"{"s":"x"}"#]);
    expect(
        r#"{"a":{"$or":[{"b":[1]},{"c":[{"exists":false}]}]}}"#,
        &[r#"{"a":{"b":1,"c":1}}"#, "{}"],
        &[r#"{"a":{"b":2,"c":1}}"#],
    );
    // A field of that name is no choice.
    expect(r#"{"$or":["x"]}"#, &[r#"{"$or":"x"}"#], &["{}"]);
}

#[test]
fn what_is_asked_together_is_found_together_in_an_array() {
    let pattern = r#"{"a":{"x":[1],"y":[4]}}"#;
    let good = [r#"{"a":[{"x":0},{"x":1,"y":[3,4]}]}"#];
    expect(pattern, &good, &[r#"{"a":[{"x":1,"y":2},{"x":3,"y":4}]}"#, r#"{"a":[]}"#]);
}

#[test]
fn what_is_no_pattern_is_refused() {
    let bad = [
        "",
        "x",
        "null",
        "[]",
        "\"x\"",
        r#"{"a":"x"}"#,
        r#"{"a":5}"#,
        r#"{"a":null}"#,
        r#"{"a":[]}"#,
        r#"{"a":{}}"#,
        r#"{"a":[["x"]]}"#,
        r#"{"a":[{"other":"x"}]}"#,
        r#"{"a":[{"prefix":5}]}"#,
        r#"{"a":[{"prefix":"x","suffix":"y"}]}"#,
        r#"{"a":[{"exists":"true"}]}"#,
        r#"{"a":[{"numeric":[]}]}"#,
        r#"{"a":[{"numeric":["<"]}]}"#,
        r#"{"a":[{"numeric":["<","5"]}]}"#,
        r#"{"a":[{"numeric":["<",5,">",6]}]}"#,
        r#"{"a":[{"numeric":[">",6,"<",5]}]}"#,
        r#"{"a":[{"numeric":["!",6]}]}"#,
        r#"{"a":[{"numeric":["<",6e9]}]}"#,
        r#"{"a":[{"anything-but":[]}]}"#,
        r#"{"a":[{"anything-but":[null]}]}"#,
        r#"{"a":[{"anything-but":{"numeric":["=",5]}}]}"#,
        r#"{"a":[{"cidr":"10.0.0.0/33"}]}"#,
        r#"{"a":[{"wildcard":"a**"}]}"#,
        r#"{"a":[{"wildcard":"a\\b"}]}"#,
        r#"{"$or":[{"a":[1]},{}]}"#,
    ];
    bad.iter().for_each(|text| assert!(Pattern::compile(text).is_err(), "{text}"));
    assert_eq!(Pattern::compile("{}").map(|pattern| pattern.matches(&Node::parse("{}").unwrap())), Ok(true));
    assert!(matches!(Pattern::compile("[1"), Err(PatternError::Json(_))));
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("2.5".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        "[abAB]{0,3}".prop_map(|text| format!("{text:?}")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(("[a-c]", inner), 0..3).prop_map(|all| object(&all)),
        ]
    })
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn event() -> impl Strategy<Value = String> {
    proptest::collection::vec(("[a-c]", value()), 0..4).prop_map(|members| object(&members))
}

fn rules() -> impl Strategy<Value = String> {
    let rule = prop_oneof![
        Just("1".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        "[abAB]{0,2}".prop_map(|text| format!("{text:?}")),
        ("prefix|suffix|equals-ignore-case", "[abAB]{1,2}").prop_map(|(test, text)| format!("{{{test:?}:{text:?}}}")),
        "[ab]".prop_map(|text| format!(r#"{{"anything-but":[{text:?},1]}}"#)),
        Just(r#"{"numeric":[">",1]}"#.to_owned()),
        any::<bool>().prop_map(|there| format!(r#"{{"exists":{there}}}"#)),
    ];
    proptest::collection::vec(rule, 1..3).prop_map(|all| format!("[{}]", all.join(",")))
}

fn pattern() -> impl Strategy<Value = String> {
    let fields = |inner: BoxedStrategy<String>| {
        proptest::collection::btree_map("[a-c]", inner, 1..3).prop_map(|all| object(&Vec::from_iter(all)))
    };
    let leaf = fields(rules().boxed());
    let inner = leaf.clone().boxed();
    let nested = fields(prop_oneof![rules(), inner.clone()].boxed());
    prop_oneof![
        leaf,
        nested,
        (inner.clone(), inner.clone(), rules())
            .prop_map(|(one, other, rules)| format!(r#"{{"a":{rules},"$or":[{one},{other}]}}"#)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn an_index_says_what_each_pattern_says(patterns in proptest::collection::vec(pattern(), 1..8), event in event()) {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::compile(text).unwrap()).collect();
        let event = Node::parse(&event).unwrap();
        let alone: Vec<usize> = (0..patterns.len()).filter(|at| patterns[*at].matches(&event)).collect();
        prop_assert_eq!(Index::new(patterns).matches(&event), alone);
    }

    #[test]
    fn no_text_breaks_the_compiler(text in "[{}\\[\\]:,\"a-c$or0-9 ]{0,40}|\\PC{0,40}") {
        let _ = Pattern::compile(&text);
    }
}

/// `cargo test --release -p hearth-patterns -- --ignored --nocapture`: 100,000 events a second are asked for.
#[test]
#[ignore = "a measurement"]
fn events_a_second_against_a_thousand_patterns() {
    let patterns = (0..1000).map(|n| {
        let rule = match n % 5 {
            0 => format!(r#"["order-{n}"]"#),
            1 => format!(r#"[{{"prefix":"order-{n}"}}]"#),
            2 => format!(r#"[{{"anything-but":["order-1"]}}],"amount":[{{"numeric":[">",{}]}}]"#, 900 + n),
            3 => format!(r#"[{{"suffix":"-{n}"}}]"#),
            _ => format!(r#"["x"],"customer":{{"country":["c{n}"]}}"#),
        };
        Pattern::compile(&format!(r#"{{"source":["shop{}"],"detail":{{"id":{rule}}}}}"#, n % 50)).unwrap()
    });
    let index = Index::new(patterns);
    let events: Vec<String> = (0..1000)
        .map(|n| {
            format!(
                r#"{{"version":"0","id":"6a7e8feb-b491-4cf7-a9f1-bf3703467718","source":"shop{}","account":"111122223333",
                "time":"2026-01-31T12:00:00Z","region":"us-east-1","resources":["arn:aws:x:::y"],"detail":
                {{"id":"order-{n}","amount":{n},"customer":{{"name":"somebody","country":"c{n}"}},"items":[1,2,3]}}}}"#,
                n % 50
            )
        })
        .collect();
    let start = std::time::Instant::now();
    let (mut count, mut found) = (0, 0);
    while start.elapsed().as_secs() < 3 {
        for event in &events {
            found += index.matches(&Node::parse(event).unwrap()).len();
        }
        count += events.len();
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} events/s against 1000 patterns, {:.2} matches an event", found as f64 / count as f64);
    assert!(found > 0);
}
