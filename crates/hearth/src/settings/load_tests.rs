use std::time::Duration;

use proptest::prelude::*;

use super::*;

struct Fixed(Vec<(String, String)>);

impl Variables for Fixed {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone()).filter(|text| !text.is_empty())
    }

    fn hearth_names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).filter(|name| name.starts_with("HEARTH_")).collect()
    }
}

fn host() -> Host {
    Host { root: true, home: None, xdg: BTreeMap::new(), docker: None, memory: Some(10 << 30) }
}

fn variables(pairs: &[(&str, &str)]) -> Fixed {
    Fixed(pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect())
}

/// Loads from a file with `text`, which is always named so that no file of the machine is read.
fn load_from(text: &str, pairs: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Loaded, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearth.toml");
    std::fs::write(&path, text).unwrap();
    load(Sources {
        flags: flags.iter().map(|(key, text)| (*key, text.to_string())).collect(),
        config: Some(path),
        variables: &variables(pairs),
        host: host(),
    })
}

fn refusal(text: &str, pairs: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
    load_from(text, pairs, flags).unwrap_err().to_string()
}

#[test]
fn defaults_hold_when_nothing_is_set() {
    let settings = load_from("", &[], &[]).unwrap().settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:4566");
    assert_eq!(settings.data_dir, PathBuf::from("/var/lib/hearth"));
    assert_eq!(settings.environments_idle_timeout, Duration::from_secs(600));
    assert_eq!(settings.environments_memory_budget.0, (10u64 << 30) / 100 * 80);
}

#[test]
fn an_ordinary_user_keeps_data_at_home() {
    let mut host = Host { root: false, home: Some("/home/u".into()), ..host() };
    assert_eq!(default_of("data_dir", &host).unwrap(), "/home/u/.local/share/hearth");
    host.xdg.insert("XDG_CACHE_HOME", "/x".into());
    assert_eq!(default_of("cache_dir", &host).unwrap(), "/x/hearth");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let said = refusal("environment.wait = \"1s\"", &[], &[]);
    assert!(said.ends_with("unknown setting environment.wait; the nearest is environments.wait"), "{said}");
    let said = refusal("[async]\nretry_base = \"1s\"", &[], &[]);
    assert!(said.ends_with("unknown setting async.retry_base; the nearest is async.retry_base_delay"), "{said}");
}

#[test]
fn a_bad_value_names_where_it_came_from() {
    assert_eq!(
        refusal("", &[("HEARTH_ENVIRONMENTS_WAIT", "soon")], &[]),
        "HEARTH_ENVIRONMENTS_WAIT: \"soon\" is not a duration such as 500ms, 1s, 10m, 6h or 30d (setting \
         environments.wait)"
    );
}

#[test]
fn a_bad_value_shows_no_credentials() {
    for bad in ["ftp://key:hidden@s3.test", "key:hidden@s3.test"] {
        let said = refusal("", &[("HEARTH_ENDPOINTS_S3", bad)], &[]);
        assert!(said.contains("…@s3.test") && !said.contains("hidden"), "{said}");
    }
}

#[test]
fn unknown_variables_are_one_warning_each_and_empty_ones_are_unset() {
    let pairs = [("HEARTH_LISTNE", "x"), ("HEARTH_LISTEN", ""), ("HEARTH_ENDPOINT", "http://x")];
    let loaded = load_from("listen = \"127.0.0.1:1\"", &pairs, &[]).unwrap();
    assert_eq!(loaded.settings.listen.port(), 1);
    assert_eq!(
        loaded.warnings,
        ["the variable HEARTH_LISTNE is not known and has no effect; the nearest is HEARTH_LISTEN"]
    );
}

#[test]
fn a_named_file_must_be_there() {
    let sources = Sources {
        flags: vec![],
        config: Some("/nowhere/hearth.toml".into()),
        variables: &variables(&[]),
        host: host(),
    };
    assert!(matches!(load(sources), Err(SettingsError::File { .. })));
}

proptest! {
    #[test]
    fn flag_beats_variable_beats_file(
        in_file in proptest::option::of(1u32..1000),
        in_variable in proptest::option::of(1u32..1000),
        in_flag in proptest::option::of(1u32..1000),
    ) {
        let text = in_file.map(|n| format!("[account]\nconcurrent_executions = {n}")).unwrap_or_default();
        let variable = in_variable.map(|n| n.to_string()).unwrap_or_default();
        let flag = in_flag.map(|n| n.to_string());
        let flags: Vec<(&'static str, &str)> =
            flag.iter().map(|n| ("account.concurrent_executions", n.as_str())).collect();
        let loaded = load_from(&text, &[("HEARTH_ACCOUNT_CONCURRENT_EXECUTIONS", &variable)], &flags).unwrap();
        let expect = in_flag.or(in_variable).or(in_file).unwrap_or(1000);
        prop_assert_eq!(loaded.settings.account_concurrent_executions, expect);
    }

    #[test]
    fn no_file_makes_the_loader_panic(text in "\\PC{0,200}") {
        let _ = load_from(&text, &[], &[]);
    }
}
