//! The table as words: help of the flags and `docs/configuration.md`.

use super::Setting;

/// The help text of a setting's flag.
pub fn help_of_flag(setting: &Setting) -> String {
    let plain = |text: &str| text.replace('`', "");
    format!("{}\n[{}] [default: {}]", plain(setting.doc), setting.variable(), plain(setting.default_said()))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use crate::settings::TABLE;

    /// The whole of `docs/configuration.md`.
    pub fn markdown() -> String {
        let mut page = String::from(INTRODUCTION);
        for setting in TABLE {
            let default = setting.default_said();
            let default = if default.contains(['`', ' ']) { default.to_owned() } else { format!("`{default}`") };
            let _ = writeln!(
                page,
                "\n## `{}`\n\n{}\n\n- Flag: `--{} {}`\n- Variable: `{}`\n- Default: {default}",
                setting.key,
                setting.doc,
                setting.flag(),
                setting.kind,
                setting.variable(),
            );
        }
        page
    }

    const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the table in crates/hearth/src/settings.rs; change it there, then run
     HEARTH_UPDATE_DOCS=1 cargo test -p hearth -->

Every setting can be given in four ways; the first that is there counts:

1. a flag of `hearth serve`: `--environments-idle-timeout 5m`,
2. a variable: `HEARTH_ENVIRONMENTS_IDLE_TIMEOUT=5m` (an empty variable counts as unset),
3. the file: `--config FILE` or `HEARTH_CONFIG`, else `./hearth.toml`, else `/etc/hearth/hearth.toml`,
4. its default.

```toml
listen = \"127.0.0.1:4566\"

[environments]
idle_timeout = \"5m\"
memory_budget = \"4GiB\"
```

Durations are `500ms`, `1s`, `10m`, `6h`, `30d`; sizes `512MiB`, `2GiB`, or a number of bytes; lists have commas (arrays in
the file). An unknown key or flag, or a bad value, ends the start with status 2 and names the nearest key; an unknown
variable that begins with `HEARTH_` is a warning. No such variable reaches a function.
";

    #[test]
    fn the_page_in_docs_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("HEARTH_UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(kept == markdown(), "docs/configuration.md is out of date: HEARTH_UPDATE_DOCS=1 cargo test -p hearth");
    }
}
