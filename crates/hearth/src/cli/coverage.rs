//! `hearth coverage`.

use std::fmt::Write;

use super::{Failure, Global, output};
use crate::documents::{CoverageList, Operation, coverage};

pub fn run(global: &Global, markdown: bool) -> Result<(), Failure> {
    let coverage = coverage();
    if markdown {
        print!("{}", page(&coverage));
        return Ok(());
    }
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

/// Of operations that are there.
fn notes(operation: &Operation) -> String {
    if operation.status == "refused" {
        return String::new();
    }
    let less = operation.parameters.iter().filter(|parameter| parameter.status != "works");
    let named: Vec<String> = less.map(|parameter| format!("{} {}", parameter.name, parameter.status)).collect();
    named.join(", ")
}

/// The page `docs/coverage.md`.
fn page(coverage: &CoverageList) -> String {
    let mut page = String::from(
        "# Coverage\n\nMade by `hearth coverage --markdown` from the tables that the router consults; a test compares it with \
         them. A parameter *works* as on AWS, is *kept* (validated, stored and answered; why it has no effect of its own, or \
         less than AWS's, stands behind it), or is *refused* with an error that names it. An operation is *complete* when nothing \
         of its own is missing: what is refused of it is a part of another feature, which stands behind it. It is *partial* \
         otherwise.\n",
    );
    for service in &coverage.services {
        let count = |status: &str| service.operations.iter().filter(|operation| operation.status == status).count();
        let (all, works, refused) = (service.operations.len(), count("works"), count("refused"));
        let complete = service.operations.iter().filter(|operation| operation.complete).count();
        let partial = all - complete - refused;
        let _ = write!(
            page,
            "\n## {}\n\n{all} operations: {complete} are complete ({works} with every parameter), {partial} are partial, {refused} are refused.\n\n\
             | operation | status | parameters that work | kept | refused |\n|---|---|---|---|---|\n",
            service.service
        );
        for operation in service.operations.iter().filter(|operation| operation.status != "refused") {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                operation.operation,
                if operation.complete { "complete" } else { operation.status },
                working(operation),
                cell(operation, "kept"),
                cell(operation, "refused")
            );
        }
        let refused: Vec<&str> = service
            .operations
            .iter()
            .filter(|operation| operation.status == "refused")
            .map(|operation| operation.operation)
            .collect();
        if !refused.is_empty() {
            let _ = write!(page, "\nRefused whole: {}.\n", refused.join(", "));
        }
    }
    page
}

/// Where no parameter is told that works, those work that are not told at all.
fn working(operation: &Operation) -> String {
    Some(cell(operation, "works")).filter(|cell| !cell.is_empty()).unwrap_or_else(|| "all others".to_owned())
}

/// Parameters of one status, with their notes.
fn cell(operation: &Operation, status: &str) -> String {
    let of_status = operation.parameters.iter().filter(|parameter| parameter.status == status);
    let named: Vec<String> = of_status
        .map(|parameter| match parameter.note {
            "" => parameter.name.clone(),
            note => format!("{} ({note})", parameter.name),
        })
        .collect();
    named.join(", ")
}
