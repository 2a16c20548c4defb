//! Which operation a method and a path mean.

use hearth_wire::route::Labels;

use crate::{Info, OPERATIONS};

/// The operation and its labels; `None` when the service has no such path or method. No two templates match one path.
pub fn route(method: &str, path: &str) -> Option<(&'static Info, Labels)> {
    OPERATIONS.iter().find_map(|info| Some((info, info.template.matches(method, path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_own_template_alone() {
        for info in &OPERATIONS {
            let path = info.template.uri.replace("{Name}", "x").replace("{ResourceArn}", "arn%3Aaws%2Fx");
            let found: Vec<&str> = (OPERATIONS.iter())
                .filter(|other| other.template.matches(info.template.method, &path).is_some())
                .map(|other| other.name)
                .collect();
            assert_eq!(found, [info.name], "{path}");
        }
        assert!(route("PATCH", "/schedules/x").is_none() && route("GET", "/nothing").is_none());
    }
}
