//! Several connections to one environment's APIs, on which requests come whole, in pieces, cut off, or as any bytes,
//! while the platform goes on: every reply is one of those that there are, an event is answered at most once, and a
//! connection whose client is gone ends.
#![no_main]

#[path = "runtime_api/client.rs"]
mod client;
#[path = "runtime_api/environment.rs"]
mod environment;
#[path = "runtime_api/said.rs"]
mod said;

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use client::Client;
use environment::Environment;
use hearth_runtime_api::fuzzing::Conversations;
use libfuzzer_sys::fuzz_target;
use said::Request;
use tokio::task::JoinSet;

/// Connections at a time. There may be 64; a few show what they do to one another.
const CONNECTIONS: usize = 3;

#[derive(Arbitrary, Debug)]
struct Story {
    streams: bool,
    external: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Say {
        on: u8,
        request: Request,
    },
    /// Without its last bytes.
    Begin {
        on: u8,
        request: Request,
        missing: u8,
    },
    Bytes {
        on: u8,
        bytes: Vec<u8>,
    },
    HangUp {
        on: u8,
    },
    Event {
        payload: Vec<u8>,
    },
    /// The caller of a stream reads, or goes away.
    Read,
    Leave,
    Invoke,
    ShutDown,
}

fuzz_target!(|story: Story| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(play(story));
});

async fn play(Story { streams, external, steps }: Story) {
    let environment = Arc::new(Environment::new(streams, usize::from(external % 3)));
    let conversations = Conversations::new(environment.clone());
    let mut serving = JoinSet::new();
    let connect = |serving: &mut JoinSet<()>| {
        let (client, served) = Client::connected();
        serving.spawn(conversations.clone().converse(served));
        client
    };
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| connect(&mut serving)).collect();
    for step in steps {
        match step {
            Step::Say { on, request } => clients[usize::from(on) % CONNECTIONS].say(&request.bytes(&environment)),
            Step::Begin { on, request, missing } => {
                let bytes = request.bytes(&environment);
                clients[usize::from(on) % CONNECTIONS].say(&bytes[..bytes.len().saturating_sub(missing.into())]);
            }
            Step::Bytes { on, bytes } => clients[usize::from(on) % CONNECTIONS].say(&bytes),
            Step::HangUp { on } => {
                let client = std::mem::replace(&mut clients[usize::from(on) % CONNECTIONS], connect(&mut serving));
                client.hang_up();
            }
            Step::Event { payload } => environment.deliver(payload),
            Step::Read => environment.read().await,
            Step::Leave => environment.leave(),
            Step::Invoke => environment.invoke(),
            Step::ShutDown => environment.shut_down(),
        }
        settle(&mut clients).await;
    }
    environment.end();
    settle(&mut clients).await;
    clients.into_iter().for_each(Client::hang_up);
    let ended = async { while serving.join_next().await.is_some() {} };
    let patience = Duration::from_secs(3600);
    assert!(tokio::time::timeout(patience, ended).await.is_ok(), "a connection does not end");
}

/// Until nothing moves any more.
async fn settle(clients: &mut [Client]) {
    loop {
        let mut moved = false;
        for client in &mut *clients {
            moved |= client.exchange();
        }
        // Passes when every task waits.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !moved {
            return;
        }
    }
}
