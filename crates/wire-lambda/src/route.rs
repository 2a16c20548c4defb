//! Which operation a method and a path mean.

use hearth_wire::route::Labels;

use crate::{Info, OPERATIONS, Operation};

/// The operation and its labels; `None` when the service has no such path or method.
pub fn route(method: &str, path: &str, query: &str) -> Option<(&'static Info, Labels)> {
    // The operation that runs functions is asked for far more often than all others together.
    let invoke = &OPERATIONS[Operation::Invoke as usize];
    let found = |info: &'static Info| {
        // Two operations share a path and differ by what the query says.
        let asked =
            info.template.uri.split_once('?').is_none_or(|(_, wanted)| query.split('&').any(|pair| pair == wanted));
        let labels = if asked { info.template.matches(method, path) } else { None };
        labels.map(|labels| (info, labels))
    };
    // Where a plain path and a label both match, the plain one is meant: it has fewer labels.
    let closest = |(info, labels): &(&'static Info, Labels)| (labels.len(), !info.template.uri.contains('?'));
    found(invoke).or_else(|| OPERATIONS.iter().filter_map(found).min_by_key(closest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_own_template() {
        for info in &OPERATIONS {
            let path: Vec<String> = (info.template.uri.split('?').next().unwrap().split('/'))
                .map(|part| if part.starts_with('{') { "x1".to_owned() } else { part.to_owned() })
                .collect();
            let (path, query) = (path.join("/"), info.template.uri.split_once('?').map_or("", |(_, query)| query));
            let found = route(info.template.method, &path, query).map(|(info, _)| info.name);
            assert_eq!(found, Some(info.name), "{path}?{query}");
        }
    }

    #[test]
    fn unknown_paths_and_methods_are_nobodys() {
        assert!(route("PATCH", "/2015-03-31/functions", "").is_none());
        assert!(route("GET", "/2015-03-31/nothing", "").is_none());
    }
}
