//! `hearth coverage`.

use super::{Failure, Global, output};
use crate::documents::{Operation, coverage};

pub fn run(global: &Global) -> Result<(), Failure> {
    let coverage = coverage();
    if global.json {
        return output::document(&coverage);
    }
    let rows = coverage.services.iter().flat_map(|service| {
        service.operations.iter().map(|operation| {
            [service.service.to_owned(), operation.operation.to_owned(), operation.status.to_owned(), notes(operation)]
        })
    });
    output::table(["SERVICE", "OPERATION", "STATUS", "PARAMETERS THAT DO LESS"], rows)
}

fn notes(operation: &Operation) -> String {
    let named: Vec<String> =
        operation.parameters.iter().map(|parameter| format!("{} {}", parameter.name, parameter.status)).collect();
    named.join(", ")
}
