//! Any bytes as a subscription of the Telemetry API or the Logs API: what is taken leads nowhere but into the sandbox.
#![no_main]

use std::time::Duration;

use hearth_model::{Destination, Source};
use hearth_runtime_api::{Api, Subscription};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: (bool, &[u8])| -> Corpus {
    let (logs, body) = input;
    let api = if logs { Api::Logs } else { Api::Telemetry };
    let Ok(taken) = Subscription::parse(api, body) else { return Corpus::Keep };
    assert_eq!(taken.api, api);
    let in_order: Vec<_> = Source::ALL.into_iter().filter(|source| taken.sources.contains(source)).collect();
    assert!(!taken.sources.is_empty() && taken.sources == in_order);
    let buffering = &taken.buffering;
    assert!((1_000..=10_000).contains(&buffering.items_max), "{buffering:?}");
    assert!((262_144..=1_048_576).contains(&buffering.bytes_max), "{buffering:?}");
    assert!((Duration::from_millis(25)..=Duration::from_secs(30)).contains(&buffering.timeout), "{buffering:?}");
    let port = match &taken.destination {
        Destination::Tcp { port } => *port,
        Destination::Http { host, port, path } => {
            let place = host.strip_prefix("sandbox.localdomain:").or_else(|| host.strip_prefix("sandbox:"));
            assert_eq!(place, Some(port.to_string().as_str()), "{host}");
            let plain = |byte: u8| byte > b' ' && byte != 0x7f;
            assert!(path.len() <= 2048 && path.starts_with(['/', '?']) && path.bytes().all(plain), "{path:?}");
            *port
        }
    };
    assert!(!matches!(port, 0 | 9001));
    Corpus::Keep
});
