//! Where the database is. Nothing here ever shows the password.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// How long the database may take to accept a connection, for each of its hosts.
const CONNECT: Duration = Duration::from_secs(5);
/// What was sent and is not acknowledged for so long breaks the connection.
const SILENCE: Duration = Duration::from_secs(30);

/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, as PostgreSQL's own clients read it, with several hosts and parameters.
/// With `sslmode=require` or `sslmode=verify-full` connections are secure, and the database proves that it is the host;
/// else they are plain.
#[derive(Clone)]
pub struct PostgresUrl(Config);

impl PostgresUrl {
    /// Answers why a text is none, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err("is not a URL such as postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned());
        }
        // The same here: what is secure is verified.
        let text = text.replace("sslmode=verify-full", "sslmode=require");
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            use std::error::Error;
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            format!("is no URL of a PostgreSQL database: {reason}")
        })?;
        if config.get_ssl_mode() != SslMode::Require {
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_hosts().is_empty() {
            return Err("names no host".to_owned());
        }
        config.application_name("hearth").connect_timeout(CONNECT).tcp_user_timeout(SILENCE);
        Ok(PostgresUrl(config))
    }

    pub(super) fn config(&self) -> &Config {
        &self.0
    }
}

/// Hosts and database.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (at, host) in self.0.get_hosts().iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
        }
        write!(f, "/{}", self.0.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_who_connects() {
        let url =
            PostgresUrl::parse("postgres://me:secret@one,two:5433/hearth?target_session_attrs=read-write").unwrap();
        assert_eq!(url.to_string(), "postgres://one,two/hearth");
        let url = PostgresUrl::parse("postgresql:///hearth?host=/run/postgresql&user=me").unwrap();
        assert_eq!(format!("{url:?}"), "postgres:///run/postgresql/hearth");
    }

    #[test]
    fn connections_are_secure_where_the_url_says_so() {
        for (url, mode) in [
            ("postgres://h/d", SslMode::Disable),
            ("postgres://h/d?sslmode=prefer", SslMode::Disable),
            ("postgres://h/d?sslmode=require", SslMode::Require),
            ("postgres://h/d?sslmode=verify-full", SslMode::Require),
        ] {
            assert_eq!(PostgresUrl::parse(url).unwrap().config().get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for bad in
            ["", "mysql://x", "postgres://", "postgres://me:secret@h/d?sslmode=always", "postgres://secret@h/d?x=y"]
        {
            let refused = PostgresUrl::parse(bad).unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
