//! Every setting of the server, declared once: its key, type, default and meaning. Flag, variable, file key, the help
//! text and `docs/configuration.md` all derive from the table here.
//!
//! Knows nothing of what a setting does.

mod document;
mod file;
mod load;
mod nearest;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hearth_egress::rules::Entry;
use hearth_images::Mirror;
use hearth_sandbox::Isolation;
use hearth_store::PostgresUrl;

pub use document::help_of_flag;
pub use load::{Host, Loaded, ProcessVariables, Sources, load};
pub use nearest::nearest;
pub use value::{LocalSecret, LogFormat, LogLevel, Patience, S3Bucket, ServiceEndpoint, Size, UidRange, Value};

/// One row of the table.
pub struct Setting {
    /// `environments.idle_timeout`.
    pub key: &'static str,
    /// What a value looks like, such as `DURATION`.
    pub kind: &'static str,
    pub default: Default,
    /// One or two plain sentences.
    pub doc: &'static str,
}

/// What holds when nobody sets it.
pub enum Default {
    Text(&'static str),
    /// Depends on the host: how the documentation says it, and how it is found out.
    OfHost {
        said: &'static str,
        find: fn(&Host) -> Result<String, String>,
    },
}

impl Setting {
    /// `--environments-idle-timeout`, without the dashes in front.
    pub fn flag(&self) -> String {
        flag_of(self.key)
    }

    /// `HEARTH_ENVIRONMENTS_IDLE_TIMEOUT`.
    pub fn variable(&self) -> String {
        variable_of(self.key)
    }

    pub fn default_said(&self) -> &'static str {
        match &self.default {
            Default::Text(text) => text,
            Default::OfHost { said, .. } => said,
        }
    }
}

pub fn flag_of(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

pub fn variable_of(key: &str) -> String {
    format!("HEARTH_{}", key.replace('.', "_").to_ascii_uppercase())
}

macro_rules! settings {
    ($($field:ident: $type:ty = $key:literal, $default:expr, $doc:literal;)+) => {
        /// The settings of one server, each a checked value.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $(#[doc = $doc] pub $field: $type,)+
        }

        /// Every setting that has an effect, in the order of the documentation.
        pub static TABLE: &[Setting] = &[$(Setting {
            key: $key,
            kind: <$type as Value>::KIND,
            default: $default,
            doc: $doc,
        },)+];

        impl Settings {
            /// Takes each value from `text_of(key)`.
            fn build<E>(mut text_of: impl FnMut(&'static str) -> Result<String, E>, bad: impl Fn(&'static str, String) -> E) -> Result<Self, E> {
                Ok(Settings {
                    $($field: <$type as Value>::parse(&text_of($key)?).map_err(|reason| bad($key, reason))?,)+
                })
            }
        }
    };
}

settings! {
    listen: SocketAddr = "listen", Default::Text("127.0.0.1:4566"),
        "The address of the door. Only loopback addresses: in this mode every signature is accepted. Port 0 takes a free one.";
    tls_certificate: Option<PathBuf> = "tls.certificate", Default::OfHost {
        said: "none: plain HTTP",
        find: |_| Ok(String::new()),
    }, "A file in PEM with a certificate, and behind it those that vouch for it. The door then speaks HTTPS alone (TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2). A renewed file is taken without a restart, where the server's user can read it.";
    tls_key: Option<PathBuf> = "tls.key", Default::OfHost {
        said: "none",
        find: |_| Ok(String::new()),
    }, "A file in PEM with the certificate's private key.";
    data_dir: PathBuf = "data_dir", Default::OfHost {
        said: "`/var/lib/hearth` as root, else `$XDG_DATA_HOME/hearth`",
        find: |host| host.folder("/var/lib/hearth", "XDG_DATA_HOME", ".local/share"),
    }, "Records, code and logs. One server at a time uses a data folder. As root the server runs as the folder's owner; where that is root, the folder is given to the first of `sandbox.uids`. A folder that this user cannot reach is refused.";
    cache_dir: PathBuf = "cache_dir", Default::OfHost {
        said: "`/var/cache/hearth` as root, else `$XDG_CACHE_HOME/hearth`",
        find: |host| host.folder("/var/cache/hearth", "XDG_CACHE_HOME", ".cache"),
    }, "Runtimes and unpacked code. Shared by data folders; safe to delete while no server runs.";
    isolation: Isolation = "isolation", Default::Text("process"),
        "How functions are confined. `process`: namespaces, control groups, seccomp and Landlock. `landlock`: the weakest tier, for hosts where no namespace can be made: seccomp and Landlock. `none`: not at all. The last two add `Isolation: NAME` to every REPORT.";
    clients_timeout: Patience = "clients.timeout", Default::Text("60s"),
        "How long a client may be silent between requests, take to send a request's head, take for a body before it must come at 16 KiB a second, and leave an answer unread. Then its connection ends. Clients inside environments have no such limit.";
    shutdown_drain: Duration = "shutdown.drain", Default::Text("30s"),
        "How long running invocations may go on after the server was told to end.";
    account_concurrent_executions: u32 = "account.concurrent_executions", Default::Text("1000"),
        "Invocations that may run at once in an account and region.";
    account_code_storage: Size = "account.code_storage", Default::Text("80530636800"),
        "Bytes of code that an account may keep in a region.";
    functions_idle_timeout: Duration = "functions.idle_timeout", Default::Text("14d"),
        "A function of an image or a VPC, or a version of one, that nobody called for about this long becomes `Inactive`, as on AWS. The next call of it fails, and makes it ready again.";
    environments_idle_timeout: Duration = "environments.idle_timeout", Default::Text("10m"),
        "An execution environment without work for this long is shut down.";
    environments_memory_budget: Size = "environments.memory_budget", Default::OfHost {
        said: "80 % of the host's memory",
        find: |host| host.memory_percent(80),
    }, "Memory sizes of all execution environments together stay below this.";
    environments_wait: Duration = "environments.wait", Default::Text("1s"),
        "How long a call waits for room in the memory budget before it is refused.";
    environments_scaling_rate: u32 = "environments.scaling_rate", Default::Text("1000"),
        "Execution environments that may be started for one function in 10 s.";
    pools_enabled: bool = "pools.enabled", Default::Text("true"),
        "Keeps sandboxes prepared for functions that may start soon, and runtimes started in them: as many as were started at once lately, 64 at most. A start that finds none makes its own.";
    pools_memory: Size = "pools.memory", Default::OfHost {
        said: "10 % of the host's memory",
        find: |host| host.memory_percent(10),
    }, "Memory that prepared sandboxes may hold together: each counts as 1 MiB, with Python in it as 13 MiB, with Node.js as 49 MiB. None are kept while less than 5 % of the host's memory is available.";
    sandbox_uids: UidRange = "sandbox.uids", Default::Text("1879048192-1879113727"),
        "As root: host user ids that functions run as; two for each execution environment. At least 1024; servers on one host may share a range, of which each takes so many at a time. Nothing but servers runs as the first.";
    encryption_key_file: Option<PathBuf> = "encryption.key_file", Default::OfHost {
        said: "`key` in the data folder",
        find: |_| Ok(String::new()),
    }, "The file with the key that encrypts the data folder: 64 hexadecimal digits. Made where nothing is encrypted yet. Keep a copy: without it nothing in the data folder can be read. The variable `HEARTH_ENCRYPTION_KEY` holds the key itself, and counts before the file.";
    store_url: Option<PostgresUrl> = "store.url", Default::OfHost {
        said: "none: the data folder",
        find: |_| Ok(String::new()),
    }, "A PostgreSQL (15 or newer) that servers share as their records: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with `?sslmode=verify-full` for TLS (authorities as for `endpoints.s3`). Best given by the variable, as flags are seen by everybody on the host. Needs `store.packages`, and the same encryption key for every server. See [docs/servers.md](servers.md).";
    store_packages: Option<S3Bucket> = "store.packages", Default::OfHost {
        said: "none: the data folder",
        find: |_| Ok(String::new()),
    }, "The bucket of another S3 in which servers that share a database keep packages: `https://KEY:SECRET@HOST:PORT/BUCKET`, also with a folder behind it. It must be there. Used with `store.url` only.";
    endpoints_s3: Option<ServiceEndpoint> = "endpoints.s3", Default::OfHost {
        said: "none: the embedded S3",
        find: |_| Ok(String::new()),
    },
        "Another S3 than the embedded one, for the code of functions and layers: `http://HOST:PORT` or `https://HOST`, with `KEY:SECRET@` before the host (percent-encoded) where requests are to be signed. Buckets are addressed by path. Trusted are the certificate authorities of the host and those in the file that `AWS_CA_BUNDLE` names.";
    endpoints_sns: Option<ServiceEndpoint> = "endpoints.sns", Default::OfHost {
        said: "none",
        find: |_| Ok(String::new()),
    }, "An SNS, for topics as destinations of events and as dead-letter queues, written as `endpoints.s3` is. Without it they are refused.";
    endpoints_events: Option<ServiceEndpoint> = "endpoints.events", Default::OfHost {
        said: "none",
        find: |_| Ok(String::new()),
    }, "An EventBridge, for buses as destinations of events, written as `endpoints.s3` is. Without it they are refused.";
    endpoints_kinesis: Option<ServiceEndpoint> = "endpoints.kinesis", Default::OfHost {
        said: "none",
        find: |_| Ok(String::new()),
    }, "A Kinesis, for event source mappings of streams, written as `endpoints.s3` is. Without it they are refused.";
    runtimes_substitute: bool = "runtimes.substitute", Default::Text("false"),
        "Runs a function whose runtime is not installed on the nearest one that is, and says so in its log.";
    runtimes_fetch: bool = "runtimes.fetch", Default::Text("true"),
        "Fetches from package registries what a runtime lacks.";
    runtimes_debian_mirrors: Vec<Mirror> = "runtimes.debian_mirrors", Default::OfHost {
        said: "those of the host's `apt`",
        find: |_| Ok(String::new()),
    }, "Mirrors that Debian's packages come from, `http://` or `https://`. One that ends in `-security` has the security updates.";
    runtimes_debian_keyring: Option<PathBuf> = "runtimes.debian_keyring", Default::OfHost {
        said: "what the host's `apt` trusts for each mirror, else `/usr/share/keyrings/debian-archive-keyring.gpg`",
        find: |_| Ok(String::new()),
    }, "The file with the keys of which one must have signed what a mirror has.";
    registries_credentials: Option<PathBuf> = "registries.credentials", Default::OfHost {
        said: "none as root, else `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`",
        find: |host| Ok(host.docker_credentials()),
    }, "The file with names and passwords for registries of images, as `docker login` writes it; read for each image whose registry asks for it. Credential helpers that it names are run by the server, as its user.";
    iam_check_roles: bool = "iam.check_roles", Default::Text("false"),
        "Refuses a function whose role does not exist or cannot be assumed by Lambda, as AWS does.";
    auth_local_secret: LocalSecret = "auth.local_secret", Default::Text("test"),
        "The secret of access keys that Hearth did not issue, where a signature is verified: so far at function URLs with `AuthType` `AWS_IAM`.";
    egress_allow: Vec<Entry> = "egress.allow", Default::OfHost {
        said: "nothing",
        find: |_| Ok(String::new()),
    }, "What functions may reach beside public addresses: ranges (`10.0.0.0/8`), addresses, names, each with a port or without (`db.internal:5432`). Without it private ranges, link-local addresses (metadata of clouds), multicast and this host's own addresses are kept from them. Loopback is each function's own, always.";
    logs_retention: Duration = "logs.retention", Default::Text("30d"),
        "Log events older than this are deleted, in whole days, where their group has no retention policy of its own.";
    logs_size: Size = "logs.size", Default::Text("20GiB"),
        "What logs may take of the disk. Beyond it the oldest day is deleted, whatever the retention says.";
    async_retry_base_delay: Duration = "async.retry_base_delay", Default::Text("60s"),
        "How long an event waits before its second attempt when its function failed; before the third it waits twice that.";
    events_retention: Duration = "events.retention", Default::Text("7d"),
        "Asynchronous events and what became of them are kept this long after they were accepted, payloads included.";
    guard_all_loops: bool = "guard.all_loops", Default::Text("false"),
        "Stops loops of functions that call one another, too, after 16 rounds. Without it only loops through queues are stopped, as AWS stops them.";
    log_level: LogLevel = "log.level", Default::Text("info"),
        "The server's own log, on stderr.";
    log_format: LogFormat = "log.format", Default::Text("text"),
        "Form of the server's own log.";
}

/// Every key.
pub fn keys() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|setting| setting.key)
}

/// Variables that begin with `HEARTH_` and are not settings of the server.
pub const OTHER_VARIABLES: &[&str] = &["HEARTH_CONFIG", "HEARTH_ENDPOINT", ENCRYPTION_KEY];

/// The key that encrypts the data folder. No setting: a flag would show it to everybody on the host.
pub const ENCRYPTION_KEY: &str = "HEARTH_ENCRYPTION_KEY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_flag_or_a_variable() {
        let keys: Vec<&str> = keys().collect();
        for spell in [flag_of as fn(&str) -> String, variable_of] {
            let mut spelled: Vec<String> = keys.iter().map(|key| spell(key)).collect();
            spelled.sort();
            spelled.dedup();
            assert_eq!(spelled.len(), keys.len());
        }
    }

    #[test]
    fn one_key_has_four_spellings() {
        assert_eq!(flag_of("async.retry_base_delay"), "async-retry-base-delay");
        assert_eq!(variable_of("async.retry_base_delay"), "HEARTH_ASYNC_RETRY_BASE_DELAY");
    }
}
