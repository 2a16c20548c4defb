//! Ruby runtimes: the interpreter of a system of packages at `/var/lang/bin/ruby`, and Hearth's bootstrap at `/var/runtime`.

use std::path::Path;

use hearth_model::{Runtime, RuntimeEntry};

use crate::runtimes::Entry;
use crate::skeleton::Skeleton;

/// The bootstrap's files below `/var/runtime`.
const BOOTSTRAP: &[(&str, &str)] = &[
    ("bootstrap.rb", include_str!("../../../bootstraps/ruby/bootstrap.rb")),
    ("_hearth_runtime/client.rb", include_str!("../../../bootstraps/ruby/_hearth_runtime/client.rb")),
    ("_hearth_runtime/context.rb", include_str!("../../../bootstraps/ruby/_hearth_runtime/context.rb")),
    ("_hearth_runtime/errors.rb", include_str!("../../../bootstraps/ruby/_hearth_runtime/errors.rb")),
    ("_hearth_runtime/handler.rb", include_str!("../../../bootstraps/ruby/_hearth_runtime/handler.rb")),
    ("_hearth_runtime/output.rb", include_str!("../../../bootstraps/ruby/_hearth_runtime/output.rb")),
    ("_hearth_runtime/serve.rb", include_str!("../../../bootstraps/ruby/_hearth_runtime/serve.rb")),
];

/// Adds the runtime of the Ruby that the root's own system has.
pub fn add_of_system(skeleton: &mut Skeleton<'_>, runtime: Runtime, version: &str) -> Entry {
    let language = runtime.language_version().unwrap_or_default();
    skeleton.link("var/lang/bin/ruby", Path::new("../../../usr/bin").join(format!("ruby{language}")));
    skeleton.bootstrap(BOOTSTRAP);
    // What gems are made for: `3.3.0` for all of 3.3.
    let gems = format!("{language}.0");
    Entry {
        // The locale that functions are told of need not be installed.
        start: RuntimeEntry::Hearths(
            ["/var/lang/bin/ruby", "-EUTF-8", "/var/runtime/bootstrap.rb"].map(str::to_owned).into(),
        ),
        variables: vec![
            ("GEM_HOME", "/var/runtime".to_owned()),
            (
                "GEM_PATH",
                format!(
                    "/var/task/vendor/bundle/ruby/{gems}:/opt/ruby/gems/{gems}:/var/runtime:/var/runtime/ruby/{gems}"
                ),
            ),
            ("RUBYLIB", "/var/task:/var/runtime/lib:/opt/ruby/lib".to_owned()),
        ],
        version: format!("ruby:{version}"),
        leases: Vec::new(),
    }
}
