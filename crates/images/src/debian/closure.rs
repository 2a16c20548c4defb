//! Which packages are needed: those that are wanted, and what they depend on, once each. Of several that would do the
//! first is taken, as the suite's own order has it; suites are made so that this comes out even.

use std::collections::{BTreeMap, VecDeque};

use super::index::{Dependency, Index, Package};

/// More packages than any runtime needs.
const PACKAGES_MAX: usize = 500;

/// Packages of the system that only their installation uses. No script of a package is run here.
const FOR_INSTALLATION: &[&str] = &[
    "ca-certificates-java",
    "cdebconf",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "install-info",
    "java-common",
    "sensible-utils",
    "ucf",
];

/// All that is needed for `wanted`, by name.
pub fn of<'i, 'a>(index: &'i Index<'a>, wanted: &[&str]) -> Result<Vec<&'i Package<'a>>, String> {
    let mut chosen: BTreeMap<&str, &Package<'a>> = BTreeMap::new();
    let mut open = VecDeque::new();
    for name in wanted {
        let package = index.get(name).ok_or_else(|| format!("it has no package {name}"))?;
        if chosen.insert(package.name, package).is_none() {
            open.push_back(package);
        }
    }
    while let Some(package) = open.pop_front() {
        for alternatives in &package.depends {
            let is_there = |wanted: &Dependency<'_>| chosen.values().any(|package| package.satisfies(wanted));
            let left_out = |wanted: &Dependency<'_>| FOR_INSTALLATION.contains(&wanted.name);
            if alternatives.iter().any(|wanted| left_out(wanted) || is_there(wanted)) {
                continue;
            }
            let next = alternatives.iter().find_map(|wanted| index.satisfying(wanted).first().copied());
            let next = next.ok_or_else(|| {
                let name = alternatives.first().map_or("", |wanted| wanted.name);
                format!("its package {} needs {name}, which it has not", package.name)
            })?;
            chosen.insert(next.name, next);
            open.push_back(next);
            if chosen.len() > PACKAGES_MAX {
                return Err(format!("more than {PACKAGES_MAX} packages are needed"));
            }
        }
    }
    Ok(chosen.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::super::archive::Kind;
    use super::super::index::tests::paragraph;
    use super::*;

    fn names(text: &str, wanted: &[&str]) -> Result<Vec<String>, String> {
        let index = Index::parse(&[(Kind::Main, text)]).unwrap();
        Ok(of(&index, wanted)?.into_iter().map(|package| package.name.to_owned()).collect())
    }

    #[test]
    fn what_is_needed_comes_with_it_once_also_in_circles() {
        let text = paragraph("a", "1", "Depends: b, c (>= 2)")
            + &paragraph("b", "1", "Depends: a, debconf (>= 1) | nothing")
            + &paragraph("c", "2", "Pre-Depends: d")
            + &paragraph("d", "1", "")
            + &paragraph("e", "1", "");
        assert_eq!(names(&text, &["a"]).unwrap(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn of_alternatives_one_that_is_there_is_enough_and_else_the_first_that_fits() {
        let text = paragraph("a", "1", "Depends: gone | b (>= 2) | c")
            + &paragraph("b", "1", "")
            + &paragraph("c", "1", "")
            + &paragraph("d", "1", "Depends: a, v")
            + &paragraph("e", "1", "Provides: v");
        assert_eq!(names(&text, &["a"]).unwrap(), ["a", "c"]);
        assert_eq!(names(&text, &["d"]).unwrap(), ["a", "c", "d", "e"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = paragraph("a", "1", "Depends: b (>= 2)") + &paragraph("b", "1", "");
        assert_eq!(names(&text, &["a"]).unwrap_err(), "its package a needs b, which it has not");
        assert_eq!(names(&text, &["z"]).unwrap_err(), "it has no package z");
    }
}
