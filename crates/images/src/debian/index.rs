//! A suite's list of packages, as its archive has it (`Packages`). Its digest was proven, so it is what the archive's keys
//! vouch for; it is read with care all the same.

use std::cmp::Ordering;
use std::collections::HashMap;

use hearth_model::CodeHash;

use super::archive::Kind;
use super::version;

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub provides: Vec<Dependency<'a>>,
    /// All of them are needed, and of each one of these.
    pub depends: Vec<Vec<Dependency<'a>>>,
    pub archive: Kind,
    /// Below the archive.
    pub path: &'a str,
    pub size: u64,
    pub digest: CodeHash,
}

/// A name, and which versions of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency<'a> {
    pub name: &'a str,
    pub version: Option<(Relation, &'a str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Earlier,
    AtMost,
    Exactly,
    AtLeast,
    Later,
}

impl Relation {
    pub fn holds(self, version: &str, bound: &str) -> bool {
        let order = version::compare(version, bound);
        match self {
            Relation::Earlier => order == Ordering::Less,
            Relation::AtMost => order.is_le(),
            Relation::Exactly => order.is_eq(),
            Relation::AtLeast => order.is_ge(),
            Relation::Later => order == Ordering::Greater,
        }
    }
}

/// All packages of a suite: of several versions the latest.
#[derive(Debug, Default)]
pub struct Index<'a> {
    packages: HashMap<&'a str, Package<'a>>,
    /// Who stands in for a name.
    providers: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Index<'a> {
    /// Of several lists, each with the archive that it is of.
    pub fn parse(lists: &[(Kind, &'a str)]) -> Result<Self, String> {
        let mut index = Index::default();
        for (archive, text) in lists {
            for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
                let package = Package::parse(*archive, paragraph)?;
                match index.packages.get(package.name) {
                    Some(known) if version::compare(known.version, package.version).is_ge() => {}
                    _ => drop(index.packages.insert(package.name, package)),
                }
            }
        }
        for package in index.packages.values() {
            for provided in &package.provides {
                index.providers.entry(provided.name).or_default().push(package.name);
            }
        }
        index.providers.values_mut().for_each(|names| names.sort_unstable());
        Ok(index)
    }

    pub fn get(&self, name: &str) -> Option<&Package<'a>> {
        self.packages.get(name)
    }

    /// Who satisfies a dependency: the package of that name, or those that provide it.
    pub fn satisfying(&self, wanted: &Dependency<'_>) -> Vec<&Package<'a>> {
        let own = self.packages.get(wanted.name);
        let providers = self.providers.get(wanted.name).into_iter().flatten();
        let all = own.into_iter().chain(providers.filter_map(|name| self.packages.get(name)));
        all.filter(|package| package.satisfies(wanted)).collect()
    }
}

impl<'a> Package<'a> {
    pub fn satisfies(&self, wanted: &Dependency<'_>) -> bool {
        let fits = |version: &str| wanted.version.is_none_or(|(relation, bound)| relation.holds(version, bound));
        let provided = self.provides.iter().filter(|provided| provided.name == wanted.name);
        (self.name == wanted.name && fits(self.version))
            || provided.into_iter().any(|provided| match provided.version {
                Some((_, version)) => fits(version),
                None => wanted.version.is_none(),
            })
    }

    fn parse(archive: Kind, paragraph: &'a str) -> Result<Self, String> {
        let fields = fields(paragraph);
        let field = |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
        let name = field("Package").ok_or("a package of the list has no name")?;
        let needed = |key: &str| field(key).ok_or_else(|| format!("the package {name:?} has no {key}"));
        let digest = CodeHash::from_hex(needed("SHA256")?).ok_or_else(|| format!("the digest of {name:?} is none"))?;
        let size = needed("Size")?.parse().map_err(|_| format!("the size of {name:?} is none"))?;
        let depends = [field("Pre-Depends"), field("Depends")].into_iter().flatten().flat_map(alternatives).collect();
        let provides = field("Provides").into_iter().flat_map(alternatives).flatten().collect();
        let (version, path) = (needed("Version")?, needed("Filename")?);
        if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("the path of {name:?} leads out of its archive"));
        }
        Ok(Package { name, version, provides, depends, archive, path, size, digest })
    }
}

/// The first lines of the fields of a paragraph; none that is read here has more.
pub fn fields(paragraph: &str) -> Vec<(&str, &str)> {
    let of_line = |line: &'_ str| -> Option<(usize, usize)> {
        let colon = line.find(':').filter(|_| !line.starts_with([' ', '\t', '#']))?;
        Some((colon, line.len()))
    };
    paragraph
        .lines()
        .filter_map(|line| of_line(line).map(|(colon, end)| (&line[..colon], line[colon + 1..end].trim())))
        .collect()
}

/// `a (>= 1) | b, c:any`: for each dependency who would do.
fn alternatives(text: &str) -> impl Iterator<Item = Vec<Dependency<'_>>> {
    text.split(',').map(|one| one.split('|').filter_map(dependency).collect::<Vec<_>>()).filter(|one| !one.is_empty())
}

fn dependency(text: &str) -> Option<Dependency<'_>> {
    let (name, rest) = text.split_once('(').unwrap_or((text, ""));
    let name = name.trim().split(':').next().filter(|name| !name.is_empty())?;
    let Some(bound) = rest.split(')').next().map(str::trim).filter(|bound| !bound.is_empty()) else {
        return Some(Dependency { name, version: None });
    };
    let (sign, version) = bound.split_at(bound.find(|c: char| !"<>=".contains(c)).unwrap_or(bound.len()));
    let relation = match sign {
        "<<" => Relation::Earlier,
        "<=" | "<" => Relation::AtMost,
        "=" => Relation::Exactly,
        ">=" | ">" => Relation::AtLeast,
        ">>" => Relation::Later,
        _ => return None,
    };
    Some(Dependency { name, version: Some((relation, version.trim())) })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A paragraph of a list.
    pub fn paragraph(name: &str, version: &str, more: &str) -> String {
        let digest = format!("{:02x}", name.len() % 256).repeat(32);
        format!("Package: {name}\nVersion: {version}\nFilename: pool/{name}.deb\nSize: 7\nSHA256: {digest}\n{more}\n\n")
    }

    #[test]
    fn packages_are_read_with_what_they_need() {
        let more = "Description: text\n more: of it\nPre-Depends: c (>= 2.1~)\nDepends: a (= 1:2-3) | b:any, d\nProvides: v (= 7), w";
        let text = paragraph("p", "1-1", more);
        let index = Index::parse(&[(Kind::Main, &text)]).unwrap();
        let package = index.get("p").unwrap();
        let plain = |name| Dependency { name, version: None };
        let bound = |name, relation, version| Dependency { name, version: Some((relation, version)) };
        assert_eq!(
            package.depends,
            [
                vec![bound("c", Relation::AtLeast, "2.1~")],
                vec![bound("a", Relation::Exactly, "1:2-3"), plain("b")],
                vec![plain("d")],
            ]
        );
        assert_eq!((package.path, package.size), ("pool/p.deb", 7));
        assert_eq!(index.satisfying(&bound("v", Relation::AtLeast, "7")).len(), 1);
        assert_eq!(index.satisfying(&bound("v", Relation::Later, "7")).len(), 0);
        assert_eq!(index.satisfying(&bound("w", Relation::AtLeast, "1")).len(), 0, "without a version it has none");
        assert_eq!(index.satisfying(&plain("w")).len(), 1);
    }

    #[test]
    fn of_several_versions_the_latest_counts_wherever_it_is() {
        let (main, security) = (paragraph("p", "1-1", ""), paragraph("p", "1-1+deb13u1", ""));
        let index = Index::parse(&[(Kind::Security, &security), (Kind::Main, &main)]).unwrap();
        assert_eq!((index.get("p").unwrap().version, index.get("p").unwrap().archive), ("1-1+deb13u1", Kind::Security));
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        let bad = ["Version: 1", "Package: p\nVersion: 1\nFilename: a\nSize: x\nSHA256: 00"];
        for text in bad {
            assert!(Index::parse(&[(Kind::Main, text)]).is_err(), "{text}");
        }
        let outside = paragraph("p", "1", "").replace("pool/", "../");
        assert!(Index::parse(&[(Kind::Main, &outside)]).unwrap_err().contains("leads out"));
    }
}
