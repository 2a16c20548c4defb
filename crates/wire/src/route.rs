//! Path templates: which operation a method and a path mean, and what its labels hold.

use percent_encoding::percent_decode_str;

/// `/2015-03-31/functions/{FunctionName}/code`. A greedy label (`{Arn+}`) takes the rest.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    pub method: &'static str,
    pub uri: &'static str,
}

/// Labels of a matched template, decoded.
pub type Labels = Vec<(&'static str, String)>;

impl Template {
    /// The labels, when method and path match.
    pub fn matches(&self, method: &str, path: &str) -> Option<Labels> {
        if method != self.method {
            return None;
        }
        let mut labels = Labels::new();
        let template = self.uri.split('?').next().unwrap_or_default();
        let mut rest = path.trim_end_matches('/').split('/');
        for part in template.trim_end_matches('/').split('/') {
            let label = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            if let Some(greedy) = label.and_then(|label| label.strip_suffix('+')) {
                let whole: Vec<&str> = rest.by_ref().collect();
                labels.push((greedy, decode(&whole.join("/"))?));
                return Some(labels);
            }
            let found = rest.next()?;
            match label {
                Some(label) if !found.is_empty() => labels.push((label, decode(found)?)),
                None if found == part => {}
                _ => return None,
            }
        }
        rest.next().is_none().then_some(labels)
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_decoded_and_every_part_must_match() {
        let template = Template { method: "GET", uri: "/2015-03-31/functions/{FunctionName}/code" };
        let labels = template.matches("GET", "/2015-03-31/functions/arn%3Aaws%3Af/code").unwrap();
        assert_eq!(labels, [("FunctionName", "arn:aws:f".to_owned())]);
        for (method, path) in [
            ("PUT", "/2015-03-31/functions/f/code"),
            ("GET", "/2015-03-31/functions/f"),
            ("GET", "/2015-03-31/functions//code"),
            ("GET", "/2015-03-31/functions/f/code/x"),
        ] {
            assert!(template.matches(method, path).is_none(), "{method} {path}");
        }
    }

    #[test]
    fn a_trailing_slash_is_the_same_path() {
        let template = Template { method: "GET", uri: "/2015-03-31/functions/" };
        assert!(template.matches("GET", "/2015-03-31/functions").is_some());
        assert!(template.matches("GET", "/2015-03-31/functions/").is_some());
    }
}
