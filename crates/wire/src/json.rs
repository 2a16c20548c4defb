//! What is wrong with a text that is not JSON, in the words of the service's own parser (Jackson's messages, its places
//! after the offending character; spec 2.1). Only for error answers: whether a text is JSON is decided elsewhere.

/// Deeper nesting is not looked into: the parser's own limit.
const DEPTH_MAX: usize = 1000;
/// Characters of an unknown token that are repeated.
const TOKEN_MAX: usize = 256;
const VALUES: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// The parser's text and, on a line of its own, the place.
pub fn fault(text: &[u8]) -> String {
    let mut scan = Scan { text, at: 0, line: 1, line_start: 0, open: Vec::new() };
    let message = match scan.document() {
        Err(message) => message,
        // Only the decoding of escapes finds fault then.
        Ok(()) => "Invalid character escape".to_owned(),
    };
    format!("{message}\n at {}", scan.place(scan.at + 1 - scan.line_start))
}

/// An object or array that has begun.
struct Open {
    object: bool,
    line: usize,
    column: usize,
}

/// Where the parser stands.
struct Scan<'a> {
    text: &'a [u8],
    /// The next byte.
    at: usize,
    line: usize,
    line_start: usize,
    open: Vec<Open>,
}

type Found<T> = Result<T, String>;

impl Scan<'_> {
    fn document(&mut self) -> Found<()> {
        self.white();
        if self.peek().is_none() {
            return Err("No content to map due to end-of-input".to_owned());
        }
        self.value()?;
        while let Some(Open { object, .. }) = self.open.last() {
            if *object { self.in_object()? } else { self.in_array()? }
        }
        self.white();
        match self.next() {
            None => Ok(()),
            Some(b'}') => Err(self.mismatched('}')),
            Some(b']') => Err(self.mismatched(']')),
            Some(byte) => Err(self.unexpected(byte, "Expected space separating root-level values")),
        }
    }

    /// Begins or passes a value. What it holds, if it is an object or array, is the caller's.
    fn value(&mut self) -> Found<()> {
        self.white_between()?;
        let byte = self.next().unwrap_or_default();
        match byte {
            b'{' | b'[' => self.begin(byte == b'{'),
            b'"' => self.string("VALUE_STRING", "string value"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(byte),
            b'}' | b',' => Err(self.unexpected(byte, "expected a value")),
            b']' if self.open.last().is_some_and(|open| !open.object) => Err(self.unexpected(byte, "expected a value")),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => {
                self.at -= 1;
                Err(self.unknown_token(self.at))
            }
            _ => Err(self.unexpected(byte, &format!("expected a valid value {VALUES}"))),
        }
    }

    fn begin(&mut self, object: bool) -> Found<()> {
        if self.open.len() == DEPTH_MAX {
            let (depth, limit) = (DEPTH_MAX + 1, "StreamReadConstraints.getMaxNestingDepth()");
            return Err(format!(
                "Document nesting depth ({depth}) exceeds the maximum allowed ({DEPTH_MAX}, from `{limit}`)"
            ));
        }
        self.open.push(Open { object, line: self.line, column: self.at - self.line_start });
        self.white();
        match (object, self.peek()) {
            (true, Some(b'}')) | (false, Some(b']')) => self.close(),
            (true, Some(b']')) => {
                self.at += 1;
                Err(self.mismatched(']'))
            }
            (true, Some(_)) => self.member(),
            (false, Some(_)) => self.value(),
            (_, None) => Err(self.unclosed()),
        }
    }

    fn close(&mut self) -> Found<()> {
        self.at += 1;
        self.open.pop();
        Ok(())
    }

    /// After a member: the next one or the end.
    fn in_object(&mut self) -> Found<()> {
        self.white();
        match self.next() {
            None => Err(self.unclosed()),
            Some(b'}') => {
                self.open.pop();
                Ok(())
            }
            Some(b']') => Err(self.mismatched(']')),
            Some(b',') => {
                self.white_between()?;
                self.member()
            }
            Some(byte) => Err(self.unexpected(byte, "was expecting comma to separate Object entries")),
        }
    }

    /// After an element: the next one or the end.
    fn in_array(&mut self) -> Found<()> {
        self.white();
        match self.next() {
            None => Err(self.unclosed()),
            Some(b']') => {
                self.open.pop();
                Ok(())
            }
            Some(b'}') => Err(self.mismatched('}')),
            Some(b',') => self.value(),
            Some(byte) => Err(self.unexpected(byte, "was expecting comma to separate Array entries")),
        }
    }

    fn member(&mut self) -> Found<()> {
        match self.next() {
            Some(b'"') => self.string("field name", "name")?,
            Some(byte) => return Err(self.unexpected(byte, "was expecting double-quote to start field name")),
            None => return Err(self.unclosed()),
        }
        self.white_between()?;
        match self.next() {
            Some(b':') => self.value(),
            Some(byte) => Err(self.unexpected(byte, "was expecting a colon to separate field name and value")),
            None => Err(self.unclosed()),
        }
    }

    /// The rest of a string.
    fn string(&mut self, token: &str, place: &str) -> Found<()> {
        loop {
            match self.next() {
                None => return Err(format!("Unexpected end-of-input in {token}")),
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape(token)?,
                Some(byte @ 0..0x20) => {
                    let character = described(byte.into());
                    let rule = "has to be escaped using backslash to be included in";
                    return Err(format!("Illegal unquoted character ({character}): {rule} {place}"));
                }
                Some(byte) if byte.is_ascii() => {}
                Some(byte) => self.rest_of_character(byte)?,
            }
        }
    }

    fn escape(&mut self, token: &str) -> Found<()> {
        match self.next() {
            None => Err(format!("Unexpected end-of-input in {token}")),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => (0..4).try_for_each(|_| match self.next() {
                Some(byte) if byte.is_ascii_hexdigit() => Ok(()),
                Some(byte) => Err(self.unexpected(byte, "expected a hex-digit for character escape sequence")),
                None => Err(" in character escape sequence").map_err(|place| format!("Unexpected end-of-input{place}")),
            }),
            Some(byte) => Err(format!("Unrecognized character escape {}", described(self.character(byte)))),
        }
    }

    /// The bytes of a character beyond ASCII after its first.
    fn rest_of_character(&mut self, first: u8) -> Found<()> {
        let more = match first {
            0xc0..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf7 => 3,
            _ => return Err(format!("Invalid UTF-8 start byte 0x{first:x}")),
        };
        for _ in 0..more {
            match self.next() {
                Some(byte) if byte & 0xc0 == 0x80 => {}
                Some(byte) => return Err(format!("Invalid UTF-8 middle byte 0x{byte:x}")),
                None => return Err("Unexpected end-of-input in VALUE_STRING".to_owned()),
            }
        }
        Ok(())
    }

    /// The rest of `true`, `false` or `null`.
    fn word(&mut self, word: &str) -> Found<()> {
        let begin = self.at - 1;
        for expected in &word.as_bytes()[1..] {
            if self.peek() != Some(*expected) {
                return Err(self.unknown_token(begin));
            }
            self.at += 1;
        }
        if self.peek().is_some_and(is_of_token) { Err(self.unknown_token(begin)) } else { Ok(()) }
    }

    /// Reads on to the end of the token, and past what ended it.
    fn unknown_token(&mut self, begin: usize) -> String {
        let mut end = self.at;
        while let Some(byte) = self.next() {
            if !is_of_token(byte) {
                break;
            }
            end = self.at;
        }
        let token = String::from_utf8_lossy(&self.text[begin..end]);
        let shown: String = token.chars().take(TOKEN_MAX).collect();
        let more = if shown.len() < token.len() { "..." } else { "" };
        match &*token {
            "NaN" | "Infinity" => {
                format!("Non-standard token '{token}': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow")
            }
            _ => format!("Unrecognized token '{shown}{more}': was expecting {VALUES}"),
        }
    }

    /// The rest of a number.
    fn number(&mut self, first: u8) -> Found<()> {
        let mut lead = first;
        if first == b'-' {
            lead = self.digit("expected digit (0-9) to follow minus sign, for valid numeric value")?;
        }
        if lead == b'0' && self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
            return Err("Invalid numeric value: Leading zeroes not allowed".to_owned());
        }
        self.digits();
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("Decimal point not followed by a digit")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("Exponent indicator not followed by a digit")?;
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn digit(&mut self, rule: &str) -> Found<u8> {
        let byte = self.next().unwrap_or_default();
        if byte.is_ascii_digit() {
            return Ok(byte);
        }
        Err(format!("Unexpected character ({}) in numeric value: {rule}", described(self.character(byte))))
    }

    fn unexpected(&mut self, byte: u8, rule: &str) -> String {
        if byte >= 0x80 && self.rest_of_character(byte).is_err() {
            return format!("Invalid UTF-8 start byte 0x{byte:x}");
        }
        format!("Unexpected character ({}): {rule}", described(self.character(byte)))
    }

    fn mismatched(&self, marker: char) -> String {
        let (expected, kind, start) = match self.open.last() {
            Some(open) if open.object => ('}', "Object", self.place_at(open.line, open.column)),
            Some(open) => (']', "Array", self.place_at(open.line, open.column)),
            None => (if marker == '}' { ']' } else { '}' }, "root", self.place_at(1, 0)),
        };
        format!("Unexpected close marker '{marker}': expected '{expected}' (for {kind} starting at {start})")
    }

    fn unclosed(&self) -> String {
        match self.open.last() {
            Some(open) => {
                let start = self.place_at(open.line, open.column);
                format!("Unexpected end-of-input: expected close marker for {} (start marker at {start})", kind(open))
            }
            None => "Unexpected end-of-input".to_owned(),
        }
    }

    /// White space where something must follow.
    fn white_between(&mut self) -> Found<()> {
        self.white();
        match (self.peek(), self.open.last()) {
            (None, Some(open)) => Err(format!("Unexpected end-of-input within/between {} entries", kind(open))),
            _ => Ok(()),
        }
    }

    fn white(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            self.at += 1;
            if byte == b'\n' || (byte == b'\r' && self.peek() != Some(b'\n')) {
                self.line += 1;
                self.line_start = self.at;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// The character that ends where the parser stands and began with `first`.
    fn character(&self, first: u8) -> char {
        if first.is_ascii() {
            return first.into();
        }
        let begin = self.text[..self.at].iter().rposition(|byte| *byte & 0xc0 != 0x80).unwrap_or_default();
        let text = std::str::from_utf8(&self.text[begin..self.at]).unwrap_or_default();
        text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn place(&self, column: usize) -> String {
        self.place_at(self.line, column)
    }

    fn place_at(&self, line: usize, column: usize) -> String {
        let source = "REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled)";
        format!("[Source: {source}; line: {line}, column: {column}]")
    }
}

fn kind(open: &Open) -> &'static str {
    if open.object { "Object" } else { "Array" }
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// `'a' (code 97)`.
fn described(character: char) -> String {
    let code = u32::from(character);
    match code {
        0..0x20 => format!("(CTRL-CHAR, code {code})"),
        0x20..=0xff => format!("'{character}' (code {code})"),
        _ => format!("'{character}' (code {code} / 0x{code:x})"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(message: &str, line: usize, column: usize) -> String {
        format!("{message}\n at {}", place(line, column))
    }

    fn place(line: usize, column: usize) -> String {
        format!(
            "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
        )
    }

    #[test]
    fn faults_read_as_the_services_do() {
        let values = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";
        let token = |token: &str| format!("Unrecognized token '{token}': was expecting {values}");
        let closing = |kind: &str, column| {
            format!("Unexpected end-of-input: expected close marker for {kind} (start marker at {})", place(1, column))
        };
        for (text, message, line, column) in [
            ("notajsonstring", token("notajsonstring"), 1, 15),
            ("nope", token("nope"), 1, 5),
            ("{\"a\":tru}", token("tru"), 1, 10),
            ("hello world", token("hello"), 1, 7),
            ("{", closing("Object", 1), 1, 2),
            ("[1,2", closing("Array", 1), 1, 5),
            ("{\"a\":", "Unexpected end-of-input within/between Object entries".to_owned(), 1, 6),
            ("[1,", "Unexpected end-of-input within/between Array entries".to_owned(), 1, 4),
            ("\"abc", "Unexpected end-of-input in VALUE_STRING".to_owned(), 1, 5),
            ("{\"abc", "Unexpected end-of-input in field name".to_owned(), 1, 6),
            (
                "{'a':1}",
                "Unexpected character (''' (code 39)): was expecting double-quote to start field name".to_owned(),
                1,
                3,
            ),
            (
                "{\"a\":1,}",
                "Unexpected character ('}' (code 125)): was expecting double-quote to start field name".to_owned(),
                1,
                9,
            ),
            (
                "{\"a\" 1}",
                "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value".to_owned(),
                1,
                7,
            ),
            (
                "{\n  \"a\": 1\n  \"b\"}",
                "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries".to_owned(),
                3,
                4,
            ),
            ("{\"a\":}", "Unexpected character ('}' (code 125)): expected a value".to_owned(), 1, 7),
            ("<xml>", format!("Unexpected character ('<' (code 60)): expected a valid value {values}"), 1, 2),
            (
                "{\"a\":[1}",
                format!("Unexpected close marker '}}': expected ']' (for Array starting at {})", place(1, 6)),
                1,
                9,
            ),
            ("01", "Invalid numeric value: Leading zeroes not allowed".to_owned(), 1, 3),
            (
                "NaN",
                "Non-standard token 'NaN': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow".to_owned(),
                1,
                4,
            ),
            (
                "\"a\nb\"",
                "Illegal unquoted character ((CTRL-CHAR, code 10)): has to be escaped using backslash to be included in \
                 string value"
                    .to_owned(),
                1,
                4,
            ),
            ("\"\\x\"", "Unrecognized character escape 'x' (code 120)".to_owned(), 1, 4),
            ("", "No content to map due to end-of-input".to_owned(), 1, 1),
        ] {
            assert_eq!(fault(text.as_bytes()), at(&message, line, column), "{text}");
        }
        assert_eq!(fault(b"\"\xff\""), at("Invalid UTF-8 start byte 0xff", 1, 3));
    }

    #[test]
    fn endless_nesting_costs_no_memory() {
        let message = fault(&b"[".repeat(1_000_000));
        assert!(message.starts_with("Document nesting depth (1001) exceeds the maximum allowed (1000"), "{message}");
    }

    proptest! {
        #[test]
        fn every_text_that_is_not_json_gets_a_place(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let text = fault(&bytes);
            prop_assert!(text.contains("\n at [Source: REDACTED"));
        }

        #[test]
        fn a_fault_is_found_in_what_the_decider_refuses(text in "[\\[\\]{}:,\"a0-9 .eE+truefalsn-]{1,20}") {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_json, fault(text.as_bytes()).starts_with("Invalid character escape"));
        }
    }
}
