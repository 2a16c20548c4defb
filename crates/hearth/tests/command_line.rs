//! The program from outside, as far as no server is needed: what it answers, and with which status.

use std::process::{Command, Output};

use serde_json::Value;

fn hearth(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearth"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        // No hearth.toml lies there.
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = hearth(arguments, &[]);
    assert!(output.status.success(), "{}", err(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_version_names_the_commit() {
    let output = hearth(&["version"], &[]);
    let document = json(&["version", "--json"]);
    let (version, commit) = (document["version"].as_str().unwrap(), document["commit"].as_str().unwrap());
    assert_eq!(out(&output), format!("hearth {version} ({commit})\n"));
    assert_eq!(out(&hearth(&["--version"], &[])), out(&output));
}

#[test]
fn coverage_lists_every_operation_once() {
    let document = json(&["--json", "coverage"]);
    let services = document["services"].as_array().unwrap();
    let lambda = services.iter().find(|service| service["service"] == "lambda").unwrap();
    let operations = lambda["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 91);
    for operation in operations {
        let status = operation["status"].as_str().unwrap();
        assert!(["works", "partial", "refused"].contains(&status), "{status}");
        let parameters = operation["parameters"].as_array().unwrap();
        let does_less = parameters.iter().any(|parameter| parameter["status"] != "works");
        assert_eq!(status == "partial", does_less && status != "refused", "{operation}");
    }
    let text = hearth(&["coverage"], &[]);
    assert!(operations.iter().all(|operation| out(&text).contains(operation["operation"].as_str().unwrap())));
}

#[test]
fn the_page_of_coverage_is_as_the_tables_are() {
    let page = hearth(&["coverage", "--markdown"], &[]);
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/coverage.md");
    let kept = std::fs::read_to_string(kept).unwrap_or_default();
    assert!(out(&page) == kept, "run `hearth coverage --markdown > docs/coverage.md`");
}

#[test]
fn doctor_answers_without_a_server() {
    let output = hearth(&["doctor", "--json"], &[]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let promises = document["promises"].as_array().unwrap();
    assert_eq!(promises.len(), 10);
    for promise in promises {
        let reason = if promise["held"] == true { "by" } else { "why" };
        assert!(promise[reason].as_str().is_some_and(|text| !text.is_empty()), "{promise}");
    }
    let all_held = promises.iter().all(|promise| promise["held"] == true);
    let strict = hearth(&["doctor", "--strict"], &[]);
    assert_eq!(strict.status.code(), Some(i32::from(!all_held)));
}

#[test]
fn env_prints_exports_for_the_endpoint_that_was_named() {
    let output = hearth(&["env", "--region", "eu-west-1"], &[("HEARTH_ENDPOINT", "http://localhost:1")]);
    assert!(out(&output).starts_with("export AWS_ENDPOINT_URL=http://localhost:1\nexport AWS_REGION=eu-west-1\n"));
    let flag = hearth(&["env", "--endpoint", "http://127.0.0.1:2"], &[("HEARTH_ENDPOINT", "http://localhost:1")]);
    assert!(out(&flag).contains("http://127.0.0.1:2"));
    let other = hearth(&["env"], &[("HEARTH_ENDPOINT", ""), ("AWS_ENDPOINT_URL", "http://127.0.0.1:3")]);
    assert!(out(&other).contains("http://127.0.0.1:3"));
}

#[test]
fn a_server_that_is_not_there_is_status_three() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    for command in [&["list"][..], &["invoke", "f"], &["logs", "f"], &["runtimes"], &["delete", "f", "--yes"]] {
        let output = hearth(&[command, &["--endpoint", &endpoint]].concat(), &[]);
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(err(&output).contains(&endpoint) && output.stdout.is_empty(), "{}", err(&output));
    }
}

#[test]
fn wrong_usage_is_status_two_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 9] = [
        (&["lsit"], "lsit"),
        (&["invoke"], "<NAME>"),
        (&["list", "--endpoint", "ftp://127.0.0.1"], "http://"),
        (&["list", "--region", "nowhere"], "nowhere"),
        (&["serve", "--data-dri", "x"], "--data-dir"),
        (&["serve", "--environments-wait", "soon"], "environments.wait"),
        (&["serve", "--endpoints-kinesis", "h"], "endpoints.kinesis"),
        (&["serve", "--isolation", "docker"], "isolation"),
        (&["serve", "--config", "/nowhere.toml"], "/nowhere.toml"),
    ];
    for (arguments, named) in cases {
        let output = hearth(arguments, &[("HOME", "/nowhere")]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(named) && output.stdout.is_empty(), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn an_address_that_others_reach_is_refused_with_the_reason() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4566"] {
        let output = hearth(&["serve", "--listen", address], &[("HOME", "/nowhere")]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains("signature") && err(&output).contains("loopback"), "{}", err(&output));
    }
}

#[test]
fn the_help_of_serve_lists_every_setting_as_flag_variable_and_default() {
    let page = include_str!("../../../docs/configuration.md");
    let keys: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("## `").and_then(|key| key.strip_suffix('`'))).collect();
    assert!(keys.len() > 10);
    let output = hearth(&["serve", "--help"], &[]);
    for key in keys {
        let flag = format!("--{} ", key.replace(['.', '_'], "-"));
        let variable = format!("[HEARTH_{}]", key.replace('.', "_").to_uppercase());
        assert!(out(&output).contains(&flag) && out(&output).contains(&variable), "{key}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = hearth(&["completions", shell], &[]);
        assert!(output.status.success() && out(&output).contains("deploy"), "{shell}");
    }
}
