//! How long an environment's processes have to end in order before they are killed (spec 3.3). Decisions only.

use std::time::Duration;

use hearth_runtime_api::Extensions;

/// With only internal extensions.
const INTERNAL: Duration = Duration::from_millis(500);
/// With external ones.
const EXTERNAL: Duration = Duration::from_secs(2);
/// What the runtime may take of it when external extensions follow.
const RUNTIME_SHARE: f64 = 0.3;

/// See the module. Both count from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// From its SIGTERM on.
    pub runtime: Duration,
    pub whole: Duration,
}

impl Budget {
    /// None when there are no extensions: everything is killed at once.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        match (extensions.is_empty(), extensions.has_external()) {
            (true, _) => None,
            (false, false) => Some(Budget { runtime: INTERNAL, whole: INTERNAL }),
            (false, true) => Some(Budget { runtime: EXTERNAL.mul_f64(RUNTIME_SHARE), whole: EXTERNAL }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_end_depends_on_the_extensions() {
        let mut internal = Extensions::default();
        assert_eq!(Budget::of(&internal), None);
        internal.register("mine", &[], uuid::Uuid::nil()).unwrap();
        let [half, share, whole] = [500, 600, 2_000].map(Duration::from_millis);
        assert_eq!(Budget::of(&internal), Some(Budget { runtime: half, whole: half }));
        let external = Extensions::new(&["a".to_owned()]);
        assert_eq!(Budget::of(&external), Some(Budget { runtime: share, whole }));
    }
}
