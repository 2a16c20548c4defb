use proptest::prelude::*;

use super::*;

fn is_match(pattern: &str, message: &str) -> bool {
    Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {}", error.0)).is_match(message.as_bytes())
}

fn refusal(pattern: &str) -> String {
    Pattern::parse(pattern).err().unwrap_or_else(|| panic!("{pattern} was taken")).0
}

#[test]
fn terms_are_all_in_the_message_excluded_ones_are_not() {
    let message = "[ERROR 400] BAD REQUEST";
    for pattern in
        ["", " ", "ERROR", "ERROR REQUEST", "\"BAD REQUEST\"", "?ERROR ?WARN", "%4\\d{2}%", "ERROR -WARN", "-WARN"]
    {
        assert!(is_match(pattern, message), "{pattern}");
    }
    for pattern in ["error", "ERROR WARN", "\"REQUEST BAD\"", "?INFO ?WARN", "%^ERROR%", "ERROR -BAD", "-\"BAD REQ\""] {
        assert!(!is_match(pattern, message), "{pattern}");
    }
    assert!(is_match("?WARN REQUEST", message), "`?` means nothing beside others");
}

#[test]
fn members_of_json_are_compared() {
    let message = r#"{"eventType": "UpdateTrail", "ip": "111.111.111.111", "arrayKey": ["value", "another value"],
        "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "none": null, "yes": true, "code": 404.5,
        "a.b": {"c d": "x"}, "text": "12"}"#;
    for pattern in [
        r#"{ $.eventType = "UpdateTrail" }"#,
        "{ $.eventType = UpdateTrail }",
        "{$.eventType=Update*}",
        "{ $.ip != 123.123.* }",
        "{ $.ip = 111.111.* }",
        r#"{ $.arrayKey[0] = "value" }"#,
        r#"{ $.arrayKey[*] = "another*" }"#,
        "{ $.objectList[1].id = 2 }",
        "{ $.objectList[*].id >= 2 && $.objectList[*].name = a }",
        "{ $.none IS NULL }",
        "{ $.yes IS TRUE }",
        "{ $.yes is true || $.no IS TRUE }",
        "{ $.nothing NOT EXISTS }",
        r#"{ $.eventType = "*" }"#,
        "{ $.code > 404 && $.code <= 404.5 }",
        "{ ($.code = 1 || $.code = 404.5) && $.yes IS TRUE }",
        "{ $.code = 1 && $.x = 2 || $.code = 4045e-1 }",
        "{ $.['a.b'].[\"c d\"] = x }",
        "{ $.ip = %1[0-9]{2}\\.% }",
        "{ $.text > 11 }",
    ] {
        assert!(is_match(pattern, message), "{pattern}");
    }
    for pattern in [
        "{ $.eventType = updatetrail }",
        "{ $.eventType != UpdateTrail }",
        "{ $.missing != x }",
        "{ $.missing = * }",
        "{ $.yes IS FALSE }",
        "{ $.code < 404 }",
        "{ $.eventType > 3 }",
        "{ $.objectList[5].id = 2 }",
        "{ $.none EXISTS && $.yes IS NULL }",
    ] {
        assert!(!is_match(pattern, message), "{pattern}");
    }
    assert!(!is_match("{ $.a = 1 }", "a = 1"));
}

#[test]
fn words_have_their_places() {
    let message = r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;
    for pattern in [
        "[ip, server, username, timestamp, request, status_code, bytes]",
        "[ip, server, username, timestamp, request = \"*index.html*\", status_code = 4*, bytes > 1000]",
        "[..., request = %index%, status_code = 404 || status_code = 500, bytes]",
        "[ip = 127.*, ..., bytes >= 1534]",
        "[ip, ...]",
        "[...]",
        "[..., (status != 200 && status != 500), bytes]",
    ] {
        assert!(is_match(pattern, message), "{pattern}");
    }
    for pattern in
        ["[ip, server]", "[ip, ..., bytes < 1534]", "[..., status_code = 5*, bytes]", "[a,b,c,d,e,f,g,h,...]"]
    {
        assert!(!is_match(pattern, message), "{pattern}");
    }
}

#[test]
fn what_names_stand_for_is_told() {
    let extract = |pattern: &str, message: &str| Pattern::parse(pattern).unwrap().extract(message.as_bytes());
    let words = extract("[ip, ..., bytes > 1000]", "127.0.0.1 a b 1534");
    assert_eq!(
        words.into_iter().collect::<Vec<_>>(),
        [("$bytes".into(), "1534".into()), ("$ip".into(), "127.0.0.1".into())]
    );
    let members = extract("{ $.a.b = 1 && $.c = x }", r#"{"a": {"b": 1}, "c": "x"}"#);
    assert_eq!(members.into_iter().collect::<Vec<_>>(), [("$.a.b".into(), "1".into()), ("$.c".into(), "x".into())]);
}

#[test]
fn what_is_wrong_is_said_in_the_services_words() {
    assert_eq!(refusal("email@example.com"), "Invalid character(s) in term 'email@example.com'");
    assert_eq!(refusal("a ?"), "Invalid character(s) in term ''");
    assert_eq!(refusal("%some!thing%"), "Invalid character(s) in term '%some!thing%'");
    assert_eq!(refusal("{$.a=1 &&"), "If a filter pattern starts with '{' it must end with '}'");
    assert_eq!(refusal("[a, b"), "If a filter pattern starts with '[' it must end with ']'");
    for bad in [
        "{}",
        "{ $ = 1 }",
        "{ $.a }",
        "{ $.a = }",
        "{ $.a IS 1 }",
        "{ $.a > x }",
        "[a,,b]",
        "[..., ...]",
        "[a = 1 && b = 2]",
        "{ $.a = 1 } x",
        "\"open",
        "%open",
        "%a% %b% %c%",
        "[status_code = 4* && bytes > 1000]",
    ] {
        refusal(bad);
    }
    let error = Error::from(PatternError::characters("x y"));
    assert_eq!(
        (&*error.code, error.message.as_deref()),
        ("InvalidParameterException", Some("Invalid filter pattern: Invalid character(s) in term 'x y'"))
    );
    assert!(Pattern::parse(&format!("{{{}$.a = 1{}}}", "(".repeat(500), ")".repeat(500))).is_err(), "depth is bounded");
}

proptest! {
    #[test]
    fn no_pattern_and_no_message_make_it_fail(pattern in "[{\\[]?[ a-c$.=<>!&|()%*\",?\\-0-9\\[\\]\\\\é]{0,40}[}\\]]?", message in "\\PC{0,60}") {
        if let Ok(pattern) = Pattern::parse(&pattern) {
            pattern.is_match(message.as_bytes());
            pattern.extract(message.as_bytes());
        }
    }

    #[test]
    fn a_message_holds_each_of_its_words(words in prop::collection::vec("[a-z0-9_]{1,6}", 1..6)) {
        let message = words.join(" ");
        prop_assert!(is_match(&words.join(" "), &message));
        let quoted = format!("\"{message}\"");
        prop_assert!(is_match(&quoted, &message));
        let negated = format!("-{}", words[0]);
        prop_assert!(!is_match(&negated, &message));
        let places: Vec<String> = words.iter().enumerate().map(|(at, word)| format!("w{at} = \"{word}\"")).collect();
        let places = format!("[{}]", places.join(", "));
        prop_assert!(is_match(&places, &message), "{places}");
    }

    #[test]
    fn a_member_is_what_it_is(name in "[a-z]{1,5}", text in "[a-z ]{0,8}", number in -1_000_000..1_000_000_i64) {
        let message = serde_json::json!({ "t": text, name.clone(): number }).to_string();
        let pattern = format!("{{ $.{name} = {number} && $.{name} <= {number} && $.{name} != {} }}", number + 1);
        prop_assert!(is_match(&pattern, &message));
        if name != "t" {
            let pattern = format!("{{ $.t = \"{text}\" && $.t = \"{text}*\" }}");
            prop_assert!(is_match(&pattern, &message));
        }
    }

    #[test]
    fn stars_stand_for_anything(parts in prop::collection::vec("[ab]{0,3}", 1..5), between in "[ab]{0,3}") {
        let wild = super::value::Wild::new(&parts.join("*"));
        prop_assert!(wild.is_match(parts.join(&between).as_bytes()));
        let as_regex = regex::Regex::new(&format!("^{}$", parts.join(".*"))).unwrap();
        prop_assert_eq!(wild.is_match(between.as_bytes()), as_regex.is_match(&between));
    }
}
