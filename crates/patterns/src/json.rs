//! An event as a tree. Numbers keep their text: patterns compare it.

use std::borrow::Cow;

/// Arrays and objects within one another. As deep as other readers of JSON go.
const DEPTH_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// In the order of the text; of members of one name the last one counts.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no JSON at byte {at}")]
pub struct JsonError {
    pub at: usize,
}

impl<'a> Node<'a> {
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        let mut reader = Reader { text, at: 0 };
        reader.space();
        let node = reader.value(0).and_then(|node| {
            reader.space();
            (reader.at == text.len()).then_some(node)
        });
        node.ok_or(JsonError { at: reader.at })
    }

    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Node::Text(text.into())
    }

    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        match self {
            Node::Object(members) => members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn value(&mut self, depth: usize) -> Option<Node<'a>> {
        if depth >= DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Node::Text),
            b'n' => self.word("null").map(|()| Node::Null),
            b't' => self.word("true").map(|()| Node::Bool(true)),
            b'f' => self.word("false").map(|()| Node::Bool(false)),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Node<'a>> {
        let mut members = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b'}').is_some() {
            return Some(Node::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.take(b':')?;
            self.space();
            members.push((name, self.value(depth + 1)?));
            self.space();
            if self.take(b',').is_none() {
                self.take(b'}')?;
                return Some(Node::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Node<'a>> {
        let mut elements = Vec::new();
        self.at += 1;
        self.space();
        if self.take(b']').is_some() {
            return Some(Node::Array(elements));
        }
        loop {
            self.space();
            elements.push(self.value(depth + 1)?);
            self.space();
            if self.take(b',').is_none() {
                self.take(b']')?;
                return Some(Node::Array(elements));
            }
        }
    }

    fn number(&mut self) -> Option<Node<'a>> {
        let start = self.at;
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(Node::Number(Cow::Borrowed(&self.text[start..self.at])))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                b'\\' => break,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        let mut owned = self.text[start..self.at].to_owned();
        let mut plain = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    owned.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    return Some(Cow::Owned(owned));
                }
                b'\\' => {
                    owned.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    owned.push(self.escaped()?);
                    plain = self.at;
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.unit()? {
                high @ 0xd800..0xdc00 => {
                    self.take(b'\\')?;
                    self.take(b'u')?;
                    let low = self.unit().filter(|low| (0xdc00..0xe000).contains(low))?;
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?
                }
                unit => char::from_u32(unit)?,
            },
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let unit = u32::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn same(node: &Node<'_>, value: &Value) -> bool {
        match (node, value) {
            (Node::Null, Value::Null) => true,
            (Node::Bool(one), Value::Bool(other)) => one == other,
            (Node::Number(text), Value::Number(number)) => text.parse().ok() == number.as_f64(),
            (Node::Text(one), Value::String(other)) => one == other,
            (Node::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
            }
            (Node::Object(_), Value::Object(other)) => {
                other.iter().all(|(key, value)| node.get(key).is_some_and(|node| same(node, value)))
            }
            _ => false,
        }
    }

    #[test]
    fn numbers_keep_their_text_and_the_last_of_a_name_counts() {
        let node = Node::parse(r#" {"a":1.50e+3,"a":-0 , "b\u00e9\ud83d\ude00":[true]} "#).unwrap();
        assert_eq!(node.get("a"), Some(&Node::Number("-0".into())));
        assert_eq!(node.get("bé😀"), Some(&Node::Array(vec![Node::Bool(true)])));
        assert_eq!(Node::parse("1.50e+3"), Ok(Node::Number("1.50e+3".into())));
    }

    #[test]
    fn what_is_too_deep_is_no_event() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Node::parse(&deep(DEPTH_MAX)).is_ok());
        assert!(Node::parse(&deep(DEPTH_MAX + 1)).is_err());
        assert!(Node::parse(&deep(1_000_000)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_reads_and_as_what_is_as_other_readers_say(text in "[\\[\\]{}\",:a0-9.eE+\\-\\\\u \\n]{0,24}|\\PC{0,12}") {
            // Numbers beyond what others hold are left out.
            match (Node::parse(&text), serde_json::from_str::<Value>(&text)) {
                (Ok(node), Ok(value)) => prop_assert!(same(&node, &value), "{text}"),
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{text}: {error}"),
                (Err(_), Ok(_)) => prop_assert!(false, "{}", text),
                (Err(_), Err(_)) => {}
            }
        }
    }
}
