//! Many patterns against one event. Each value of the event is looked up among what patterns say of its path; a pattern
//! is looked at only when every field that it needs has been found, and then mostly not even matched.
//!
//! ```text
//!   pattern ──► lines (one for each way of its choices) ──► a bit for each field of a line
//!   event   ──► values by path ──► texts, prefixes, tests ──► bits set ──► lines that are whole ──► patterns
//! ```
//!
//! A line is exact when its bits alone say that it matches. What bits do not say, fields that may be absent or that most
//! values match, and elements of arrays that must match together, the pattern decides itself.

use std::collections::HashMap;

use crate::json::Node;
use crate::pattern::{Field, Fields, Pattern};
use crate::rule::{Rule, Test};

/// Lines of one pattern. What has more is matched by itself: choices multiply.
const LINES_MAX: usize = 64;
/// Fields that a line has bits for.
const FIELDS_MAX: usize = 64;

/// A field of a line.
type Place = (u32, u8);

#[derive(Default)]
pub struct Index {
    patterns: Vec<Pattern>,
    lines: Vec<Line>,
    nodes: Vec<Paths>,
    /// Patterns that are matched by themselves every time.
    always: Vec<u32>,
}

struct Line {
    pattern: u32,
    /// The bits of all its fields.
    whole: u64,
    exact: bool,
}

/// What is asked at one path.
#[derive(Default)]
struct Paths {
    inner: HashMap<Box<str>, u32>,
    texts: HashMap<Box<str>, Vec<Place>>,
    numbers: HashMap<Box<str>, Vec<Place>>,
    literals: Vec<(Rule, Place)>,
    prefixes: Affixes,
    suffixes: Affixes,
    lower_case: HashMap<Box<str>, Vec<Place>>,
    exists: Vec<Place>,
    /// What must be tried one by one.
    others: Vec<(Rule, Place)>,
}

/// Beginnings or ends of texts, by their lengths.
#[derive(Default)]
struct Affixes {
    lengths: Vec<usize>,
    all: HashMap<Box<str>, Vec<Place>>,
}

impl Index {
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        let mut index = Index { nodes: vec![Paths::default()], ..Index::default() };
        for pattern in patterns {
            index.add(pattern);
        }
        index
    }

    fn add(&mut self, pattern: Pattern) {
        let number = self.patterns.len() as u32;
        let lines = lines(&pattern.fields);
        let needed: Option<Vec<Vec<&Asked<'_>>>> =
            lines.as_ref().map(|all| all.iter().map(|line| needed(line)).collect());
        match (&lines, &needed) {
            (Some(lines), Some(needed)) if needed.iter().all(|line| (1..=FIELDS_MAX).contains(&line.len())) => {
                for (line, needed) in lines.iter().zip(needed) {
                    let own = self.lines.len() as u32;
                    let exact = needed.len() == line.len() && are_distinct(needed);
                    let whole = u64::MAX >> (FIELDS_MAX - needed.len());
                    self.lines.push(Line { pattern: number, whole, exact });
                    for (bit, asked) in needed.iter().enumerate() {
                        let node = self.node(&asked.path);
                        asked.rules.iter().for_each(|rule| self.nodes[node].add(rule, (own, bit as u8)));
                    }
                }
            }
            _ => self.always.push(number),
        }
        self.patterns.push(pattern);
    }

    fn node(&mut self, path: &[&str]) -> usize {
        path.iter().fold(0, |at, name| {
            let next = self.nodes.len();
            let found = *self.nodes[at].inner.entry((*name).into()).or_insert(next as u32) as usize;
            if found == next {
                self.nodes.push(Paths::default());
            }
            found
        })
    }

    /// The patterns that match, by their numbers, in ascending order.
    pub fn matches(&self, event: &Node<'_>) -> Vec<usize> {
        let mut found = Found { bits: vec![0; self.lines.len()], touched: Vec::new(), arrays: false };
        self.walk(0, event, &mut found);
        let is_plain = !found.arrays;
        let mut matched: Vec<usize> = Vec::new();
        for line in &found.touched {
            let (bits, line) = (found.bits[*line as usize], &self.lines[*line as usize]);
            let number = line.pattern as usize;
            if bits == line.whole && (line.exact && is_plain || self.patterns[number].matches(event)) {
                matched.push(number);
            }
        }
        let always = self.always.iter().map(|number| *number as usize);
        matched.extend(always.filter(|number| self.patterns[*number].matches(event)));
        matched.sort_unstable();
        matched.dedup();
        matched
    }

    fn walk(&self, at: usize, value: &Node<'_>, found: &mut Found) {
        let paths = &self.nodes[at];
        match value {
            Node::Object(members) => {
                let mut seen = 0;
                for (name, inner) in members {
                    if let Some(next) = paths.inner.get(&**name) {
                        seen += 1;
                        self.walk(*next as usize, inner, found);
                    }
                }
                // Of members of one name the last one counts: too many were looked at, and the pattern decides.
                found.arrays |= seen > 1 && has_twins(members);
            }
            Node::Array(elements) => {
                found.arrays |= elements.iter().any(|element| matches!(element, Node::Object(_) | Node::Array(_)));
                elements.iter().for_each(|element| self.walk(at, element, found));
            }
            value => paths.look(value, found),
        }
    }
}

fn has_twins(members: &[(std::borrow::Cow<'_, str>, Node<'_>)]) -> bool {
    members.iter().enumerate().any(|(at, (name, _))| members[at + 1..].iter().any(|(other, _)| other == name))
}

struct Found {
    /// Of every line.
    bits: Vec<u64>,
    /// Lines with a bit.
    touched: Vec<u32>,
    /// There were objects in arrays.
    arrays: bool,
}

impl Found {
    fn set(&mut self, places: &[Place]) {
        for (line, bit) in places {
            let bits = &mut self.bits[*line as usize];
            if *bits == 0 {
                self.touched.push(*line);
            }
            *bits |= 1 << bit;
        }
    }
}

impl Paths {
    fn add(&mut self, rule: &Rule, place: Place) {
        match rule {
            Rule::Text(text) => self.texts.entry(text.clone()).or_default().push(place),
            Rule::Number(text) => self.numbers.entry(text.clone()).or_default().push(place),
            Rule::Null | Rule::Bool(_) => self.literals.push((rule.clone(), place)),
            Rule::Test(Test::Prefix(text)) => self.prefixes.add(text, place),
            Rule::Test(Test::Suffix(text)) => self.suffixes.add(text, place),
            Rule::Test(Test::EqualsIgnoreCase(text)) => self.lower_case.entry(text.clone()).or_default().push(place),
            Rule::Exists(true) => self.exists.push(place),
            // A field that may be absent has no bit.
            Rule::Exists(false) => {}
            rule => self.others.push((rule.clone(), place)),
        }
    }

    fn look(&self, value: &Node<'_>, found: &mut Found) {
        found.set(&self.exists);
        match value {
            Node::Text(text) => {
                self.texts.get(&**text).into_iter().for_each(|places| found.set(places));
                let ends = |length: &usize| text.len().checked_sub(*length).and_then(|from| text.get(from..));
                self.prefixes.look(|length| text.get(..*length), found);
                self.suffixes.look(ends, found);
                if !self.lower_case.is_empty() {
                    self.lower_case.get(&*text.to_lowercase()).into_iter().for_each(|places| found.set(places));
                }
            }
            Node::Number(text) => self.numbers.get(&**text).into_iter().for_each(|places| found.set(places)),
            _ => {}
        }
        let tried = self.literals.iter().chain(&self.others);
        tried.filter(|(rule, _)| rule.holds(value)).for_each(|(_, place)| found.set(&[*place]));
    }
}

impl Affixes {
    fn add(&mut self, text: &str, place: Place) {
        if !self.lengths.contains(&text.len()) {
            self.lengths.push(text.len());
        }
        self.all.entry(text.into()).or_default().push(place);
    }

    fn look<'a>(&self, part: impl Fn(&usize) -> Option<&'a str>, found: &mut Found) {
        let places = self.lengths.iter().filter_map(part).filter_map(|part| self.all.get(part));
        places.for_each(|places| found.set(places));
    }
}

/// What one line asks at one path.
#[derive(Clone)]
struct Asked<'a> {
    path: Vec<&'a str>,
    rules: &'a [Rule],
}

impl Asked<'_> {
    fn may_be_absent(&self) -> bool {
        self.rules.contains(&Rule::Exists(false))
    }

    /// Whether it holds of few values, which are looked up.
    fn is_narrow(&self) -> bool {
        let is_narrow = |rule: &Rule| match rule {
            Rule::Text(_) | Rule::Number(_) => true,
            Rule::Test(Test::Prefix(text) | Test::Suffix(text) | Test::EqualsIgnoreCase(text)) => !text.is_empty(),
            _ => false,
        };
        self.rules.iter().all(is_narrow)
    }
}

/// The fields of a line that get bits: none that may be absent, and where there are narrow ones, only those.
fn needed<'a, 'b>(line: &'b [Asked<'a>]) -> Vec<&'b Asked<'a>> {
    let needed: Vec<&Asked<'_>> = line.iter().filter(|asked| !asked.may_be_absent()).collect();
    let narrow: Vec<&Asked<'_>> = needed.iter().copied().filter(|asked| asked.is_narrow()).collect();
    if narrow.is_empty() { needed } else { narrow }
}

fn are_distinct(line: &[&Asked<'_>]) -> bool {
    line.iter().enumerate().all(|(at, one)| line[at + 1..].iter().all(|other| one.path != other.path))
}

/// Every way in which the choices of a pattern can be made, or `None` when there are too many.
fn lines(fields: &Fields) -> Option<Vec<Vec<Asked<'_>>>> {
    let mut lines: Vec<Vec<Asked<'_>>> = vec![Vec::new()];
    for (name, field) in &fields.all {
        let ways = match field {
            Field::Leaf(rules) => vec![vec![Asked { path: vec![&**name], rules }]],
            Field::Inner(inner) => {
                let mut ways = self::lines(inner)?;
                ways.iter_mut().flatten().for_each(|asked| asked.path.insert(0, &**name));
                ways
            }
        };
        lines = times(&lines, &ways)?;
    }
    for choices in &fields.choices {
        let mut ways = Vec::new();
        for choice in choices {
            ways.extend(self::lines(choice)?);
        }
        lines = times(&lines, &ways)?;
    }
    Some(lines)
}

fn times<'a>(lines: &[Vec<Asked<'a>>], ways: &[Vec<Asked<'a>>]) -> Option<Vec<Vec<Asked<'a>>>> {
    if lines.len() * ways.len() > LINES_MAX {
        return None;
    }
    Some(lines.iter().flat_map(|line| ways.iter().map(|way| [line.as_slice(), way].concat())).collect())
}
