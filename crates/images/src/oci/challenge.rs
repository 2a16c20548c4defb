//! What a registry asks for when it answers 401 (`WWW-Authenticate`).

#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// A token is to be had from there.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        let mut rest = rest.trim_start();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                "scope" => scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        Some(Challenge::Bearer { realm: realm?, service, scope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: text(service), scope: text(scope) })
        };
        let docker = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(docker),
            bearer("https://auth.example/token", Some("registry"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(Challenge::parse("bearer realm=http://h/t, error=\"x\""), bearer("http://h/t", None, None));
        assert_eq!(Challenge::parse("Basic realm=\"registry\""), Some(Challenge::Basic));
        for other in ["", "Digest realm=\"x\"", "Bearer", "Bearer realm=\"x", "Negotiate"] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }
}
