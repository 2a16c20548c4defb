use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Kind, ParseError};

const FUNCTION: &str = "arn:aws:lambda:us-east-1:111111111111:function:f";

fn document(statements: Value) -> Document {
    Document::parse(&json!({"Version": "2012-10-17", "Statement": statements}), Kind::Resource).unwrap()
}

fn decide(statements: Value, principal: Principal<'_>, action: &str, facts: &Facts) -> Decision {
    evaluate(&[&document(statements)], &Request { principal, action, resource: FUNCTION, facts })
}

fn account(id: &str) -> Principal<'_> {
    Principal::Account { id, arns: &[] }
}

fn allows(condition: Value, facts: Facts) -> bool {
    let statement = json!({
        "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": FUNCTION,
        "Condition": condition,
    });
    decide(statement, Principal::Service("s3.amazonaws.com"), "lambda:InvokeFunction", &facts).is_allowed()
}

#[test]
fn principals_are_told_apart() {
    let of = |principal: Value| json!([{"Effect": "Allow", "Principal": principal, "Action": "*", "Resource": "*"}]);
    let facts = Facts::default();
    let asks = |named: Value, who| decide(of(named), who, "lambda:GetFunction", &facts).is_allowed();
    assert!(asks(json!("*"), account("2")) && asks(json!({"AWS": "*"}), Principal::Service("x")));
    assert!(asks(json!({"AWS": "222222222222"}), account("222222222222")));
    assert!(asks(json!({"AWS": ["arn:aws:iam::222222222222:root"]}), account("222222222222")));
    assert!(!asks(json!({"AWS": "222222222222"}), account("333333333333")));
    assert!(asks(json!({"Service": "s3.amazonaws.com"}), Principal::Service("s3.amazonaws.com")));
    assert!(!asks(json!({"Service": "s3.amazonaws.com"}), Principal::Service("sns.amazonaws.com")));
    let role = "arn:aws:iam::222222222222:role/r";
    let who = Principal::Account { id: "222222222222", arns: &[role] };
    assert!(asks(json!({"AWS": role}), who) && !asks(json!({"AWS": role}), account("222222222222")));
}

#[test]
fn a_denial_decides_wherever_it_stands() {
    let allow = json!({"Sid": "a", "Effect": "Allow", "Principal": "*", "Action": "lambda:*", "Resource": "*"});
    let deny = json!({"Sid": "d", "Effect": "Deny", "Principal": {"AWS": "222222222222"}, "Action": "lambda:Invoke*", "Resource": "*"});
    let facts = Facts::default();
    for (order, denying) in [(json!([allow, deny]), 1), (json!([deny, allow]), 0)] {
        let decided = |who, action| decide(order.clone(), account(who), action, &facts);
        assert_eq!(
            decided("222222222222", "lambda:InvokeFunction"),
            Decision::Denied { document: 0, statement: denying }
        );
        assert!(decided("222222222222", "lambda:GetFunction").is_allowed());
        assert!(decided("333333333333", "lambda:InvokeFunction").is_allowed());
        assert_eq!(decided("333333333333", "sqs:SendMessage"), Decision::NotMentioned);
    }
}

#[test]
fn every_condition_of_add_permission_holds_for_what_it_names_alone() {
    let arn = "arn:aws:s3:::bucket";
    let source = |value: &str| Facts::default().with("aws:SourceArn", value);
    assert!(allows(json!({"ArnLike": {"AWS:SourceArn": arn}}), source(arn)));
    assert!(allows(json!({"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::buck*"}}), source(arn)));
    assert!(!allows(json!({"ArnLike": {"AWS:SourceArn": arn}}), source("arn:aws:s3:::other")));
    assert!(!allows(json!({"ArnLike": {"AWS:SourceArn": arn}}), Facts::default()));
    for (key, operator) in [
        ("AWS:SourceAccount", "StringEquals"),
        ("lambda:EventSourceToken", "StringEquals"),
        ("lambda:FunctionUrlAuthType", "StringEquals"),
        ("aws:PrincipalOrgID", "StringEquals"),
    ] {
        assert!(allows(json!({operator: {key: "v"}}), Facts::default().with(key, "v")), "{key}");
        assert!(!allows(json!({operator: {key: "v"}}), Facts::default().with(key, "w")), "{key}");
    }
    let by_url = json!({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}});
    assert!(allows(by_url.clone(), Facts::default().with("lambda:invokedViaFunctionUrl", "true")));
    assert!(!allows(by_url, Facts::default()));
}

#[test]
fn operators_are_as_the_reference_says() {
    let facts = || {
        Facts::default()
            .with("n", "5")
            .with("ip", "10.1.2.3")
            .with("t", "2026-01-31T12:00:00Z")
            .with("s", "Text")
            .with("many", "a")
            .with("many", "b")
    };
    for (condition, expected) in [
        (json!({"NumericLessThan": {"n": "6"}}), true),
        (json!({"NumericGreaterThanEquals": {"n": 6}}), false),
        (json!({"NumericNotEquals": {"n": [5, 7]}}), false),
        (json!({"IpAddress": {"ip": "10.1.0.0/16"}}), true),
        (json!({"NotIpAddress": {"ip": ["10.1.0.0/16"]}}), false),
        (json!({"IpAddress": {"ip": "::/0"}}), false),
        (json!({"IpAddress": {"ip": "0.0.0.0/0"}}), true),
        (json!({"DateGreaterThan": {"t": "2026-01-01"}}), true),
        (json!({"DateLessThan": {"t": "1769860800"}}), false),
        (json!({"StringEqualsIgnoreCase": {"s": "tEXT"}}), true),
        (json!({"StringEquals": {"s": ["x", "Text"]}}), true),
        (json!({"StringLike": {"s": "T?x*"}}), true),
        (json!({"StringNotLike": {"s": "T?x*"}}), false),
        (json!({"StringNotEquals": {"absent": "x"}}), true),
        (json!({"StringEqualsIfExists": {"absent": "x"}}), true),
        (json!({"StringEquals": {"absent": "x"}}), false),
        (json!({"Null": {"absent": "true"}}), true),
        (json!({"Null": {"s": "true"}}), false),
        (json!({"ForAllValues:StringEquals": {"many": ["a", "b"]}}), true),
        (json!({"ForAllValues:StringEquals": {"many": ["a"]}}), false),
        (json!({"ForAllValues:StringEquals": {"absent": ["a"]}}), true),
        (json!({"ForAnyValue:StringEquals": {"many": ["a"]}}), true),
        (json!({"ForAnyValue:StringEquals": {"absent": ["a"]}}), false),
    ] {
        assert_eq!(allows(condition.clone(), facts()), expected, "{condition}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let parse = |value: Value| Document::parse(&value, Kind::Resource).unwrap_err();
    let statement = |change: Value| {
        let mut whole = json!({"Effect": "Allow", "Principal": "*", "Action": "a:b", "Resource": "*"});
        for (name, value) in change.as_object().unwrap() {
            whole[name] = value.clone();
        }
        json!({"Statement": [whole]})
    };
    assert_eq!(parse(json!([])), ParseError::NotAnObject);
    assert_eq!(parse(json!({})), ParseError::Missing("Statement"));
    assert_eq!(parse(statement(json!({"Effect": "allow"}))), ParseError::Malformed("Effect"));
    assert_eq!(parse(statement(json!({"NotAction": "x"}))), ParseError::Both("Action", "NotAction"));
    assert_eq!(parse(statement(json!({"Principals": "x"}))), ParseError::UnknownMember("Principals".to_owned()));
    assert_eq!(parse(statement(json!({"Principal": "me"}))), ParseError::Malformed("Principal"));
    assert_eq!(
        parse(statement(json!({"Condition": {"Equals": {"a": "b"}}}))),
        ParseError::UnknownOperator("Equals".to_owned())
    );
    assert_eq!(parse(statement(json!({"Condition": {"IpAddress": {"a": "x"}}}))), ParseError::Malformed("Condition"));
    let twice = json!({"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "a:b", "Resource": "*"});
    assert_eq!(parse(json!({"Statement": [twice, twice]})), ParseError::Duplicate("s".to_owned()));
}

#[test]
fn each_kind_of_policy_says_what_it_must_and_nothing_else() {
    let parse = |kind: Kind, statement: Value| Document::parse(&json!({"Statement": statement}), kind).map(|_| ());
    let identity = json!({"Effect": "Allow", "Action": ["s3:Get*"], "Resource": "arn:aws:s3:::b/*"});
    let trust =
        json!({"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"});
    assert_eq!(parse(Kind::Identity, identity.clone()), Ok(()));
    assert_eq!(parse(Kind::Trust, trust.clone()), Ok(()));
    assert_eq!(parse(Kind::Identity, trust), Err(ParseError::Prohibited("Principal")));
    assert_eq!(parse(Kind::Trust, identity.clone()), Err(ParseError::Prohibited("Resource")));
    let changed = |name: &str, value: Value| {
        let mut changed = identity.clone();
        changed[name] = value;
        changed
    };
    let refused = |name, value| parse(Kind::Identity, changed(name, value)).unwrap_err();
    assert_eq!(refused("Action", json!("GetObject")), ParseError::Vendorless("GetObject".to_owned()));
    assert_eq!(refused("Resource", json!(["*", "b"])), ParseError::NotAnArn("b".to_owned()));
    let of_trust = |principal: Value, action: &str| {
        parse(Kind::Trust, json!({"Effect": "Allow", "Principal": principal, "Action": action}))
    };
    assert_eq!(of_trust(json!("*"), "lambda:*"), Err(ParseError::NotOfTrust("lambda:*".to_owned())));
    let unknown = ParseError::UnknownPrincipal("\"AWS\":\"me\"".to_owned());
    assert_eq!(of_trust(json!({"AWS": "me"}), "sts:AssumeRole"), Err(unknown));
}

#[test]
fn a_session_is_its_role_and_itself_and_its_account() {
    let (role, session) = ("arn:aws:iam::222222222222:role/r", "arn:aws:sts::222222222222:assumed-role/r/s");
    let trusts = |who: &str| {
        let statement = json!([{"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sts:AssumeRole"}]);
        let document = Document::parse(&json!({"Statement": statement}), Kind::Trust).unwrap();
        let principal = Principal::Account { id: "222222222222", arns: &[role, session] };
        let request = Request {
            principal,
            action: "sts:AssumeRole",
            resource: "arn:aws:iam::1:role/x",
            facts: &Facts::default(),
        };
        evaluate(&[&document], &request).is_allowed()
    };
    assert!(trusts(role) && trusts(session) && trusts("222222222222"));
    assert!(!trusts("arn:aws:iam::222222222222:role/other") && !trusts("333333333333"));
}

fn statements() -> impl Strategy<Value = Vec<Value>> {
    let statement =
        (any::<bool>(), 0..3usize, 0..3usize, any::<bool>()).prop_map(|(allow, who, action, conditional)| {
            let principals = [json!("*"), json!({"AWS": "111111111111"}), json!({"AWS": "222222222222"})];
            let actions = ["lambda:*", "lambda:Get*", "lambda:InvokeFunction"];
            let effect = if allow { "Allow" } else { "Deny" };
            let mut statement =
                json!({"Effect": effect, "Principal": principals[who], "Action": actions[action], "Resource": "*"});
            if conditional {
                statement["Condition"] = json!({"StringEquals": {"k": "v"}});
            }
            statement
        });
    prop::collection::vec(statement, 0..6)
}

proptest! {
    #[test]
    fn adding_a_denial_never_allows_more(statements in statements(), denial in statements(), fact in any::<bool>()) {
        let facts = if fact { Facts::default().with("k", "v") } else { Facts::default() };
        for who in ["111111111111", "222222222222", "333333333333"] {
            for action in ["lambda:GetFunction", "lambda:InvokeFunction"] {
                let before = decide(json!(statements), account(who), action, &facts);
                let denying = denial.iter().filter(|statement| statement["Effect"] == "Deny").cloned();
                let more: Vec<Value> = statements.iter().cloned().chain(denying).collect();
                let after = decide(json!(more), account(who), action, &facts);
                prop_assert!(before.is_allowed() || !after.is_allowed());
            }
        }
    }

    #[test]
    fn the_order_of_statements_decides_nothing(statements in statements(), fact in any::<bool>()) {
        let facts = if fact { Facts::default().with("k", "v") } else { Facts::default() };
        let mut reversed = statements.clone();
        reversed.reverse();
        let kind = |decision| std::mem::discriminant(&decision);
        let one = decide(json!(statements), account("222222222222"), "lambda:GetFunction", &facts);
        let other = decide(json!(reversed), account("222222222222"), "lambda:GetFunction", &facts);
        prop_assert_eq!(kind(one), kind(other));
    }

    #[test]
    fn the_statement_that_decided_would_decide_alone(statements in statements()) {
        let facts = Facts::default();
        let decided = decide(json!(statements), account("111111111111"), "lambda:GetFunction", &facts);
        if let Decision::Allowed { statement, .. } | Decision::Denied { statement, .. } = decided {
            let alone = decide(json!([statements[statement]]), account("111111111111"), "lambda:GetFunction", &facts);
            prop_assert_eq!(std::mem::discriminant(&alone), std::mem::discriminant(&decided));
        }
    }

    #[test]
    fn no_json_makes_the_parser_fail_otherwise_than_by_an_error(text in "[\\[\\]{}\":,a-zA-Z*]{0,60}") {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = Document::parse(&value, Kind::Resource);
        }
    }
}
