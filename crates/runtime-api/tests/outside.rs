//! The Runtime API as code in a sandbox sees it: through a socket, with good manners and without.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hearth_model::{Body, RESPONSE_PAYLOAD_MAX, RequestId};
use hearth_runtime_api::{
    Answer, Asked, Event, Extensions, Failing, Next, NextNotice, Notice, Protocol, Refusal, Refused, Runtime, Server,
    ShutdownReason, StreamEnd, StreamWriter, Streamed, Subscription, Unsubscribed, Wants, Welcome, serve, stream,
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// An environment that gives out the events it was made with, one after the other.
#[derive(Default)]
struct Fake {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    protocol: Protocol,
    events: Vec<Arc<Event>>,
    parked: Option<oneshot::Sender<Arc<Event>>>,
    answers: Vec<Answer>,
    /// Callers take answers as they come.
    streams: bool,
    /// What a stream's owner and its caller hold.
    stream: Option<(StreamEnd, Body)>,
    streamed: Option<Streamed>,
    extensions: Extensions,
    /// By extension.
    listening: HashMap<usize, oneshot::Sender<Notice>>,
    subscriptions: Vec<Subscription>,
    unsubscribed: Option<Unsubscribed>,
}

impl Runtime for Fake {
    fn next(&self) -> Result<Next, Refusal> {
        let mut inner = self.inner.lock().unwrap();
        if let Asked::Repeat(event) = inner.protocol.ask()? {
            return Ok(Next::Again(event));
        }
        let (parked, later) = oneshot::channel();
        if let Some(event) = inner.events.pop() {
            inner.protocol.deliver(event.clone()).unwrap();
            let _ = parked.send(event);
        } else {
            inner.parked = Some(parked);
        }
        Ok(Next::Later(later))
    }

    fn respond(&self, id: &str, content_type: &str) -> Result<Option<StreamWriter>, Refusal> {
        let mut inner = self.inner.lock().unwrap();
        inner.protocol.may_answer(id, "InvocationResponse")?;
        if !inner.streams {
            return Ok(None);
        }
        inner.protocol.begin(id, "InvocationResponse")?;
        assert_eq!(content_type, "text/x");
        let (writer, end, body) = stream();
        inner.stream = Some((end, body));
        Ok(Some(writer))
    }

    fn streamed(&self, id: &str, streamed: Streamed) -> Result<(), Refusal> {
        let mut inner = self.inner.lock().unwrap();
        inner.protocol.end(id)?;
        inner.streamed = Some(streamed);
        Ok(())
    }

    fn may_answer(&self, id: &str, to: &'static str) -> Result<(), Refusal> {
        self.inner.lock().unwrap().protocol.may_answer(id, to)
    }

    fn answer(&self, id: &str, to: &'static str, answer: Answer) -> Result<(), Refusal> {
        let mut inner = self.inner.lock().unwrap();
        inner.protocol.answer(id, to)?;
        inner.answers.push(answer);
        Ok(())
    }

    fn init_error(&self, answer: Answer) -> Result<(), Refusal> {
        let mut inner = self.inner.lock().unwrap();
        inner.protocol.init_error()?;
        inner.answers.push(answer);
        Ok(())
    }

    fn register(&self, name: &str, events: &[String]) -> Result<Welcome, Refused> {
        let id = Uuid::new_v4();
        self.inner.lock().unwrap().extensions.register(name, events, id)?;
        let [function_name, function_version, handler, account_id] = ["f", "7", "m.h", "123"].map(str::to_owned);
        Ok(Welcome { id, function_name, function_version, handler, account_id })
    }

    fn next_notice(&self, extension: Uuid) -> Result<NextNotice, Refused> {
        let Inner { extensions, listening, .. } = &mut *self.inner.lock().unwrap();
        let connected = |at| listening.get(&at).is_some_and(|listening| !listening.is_closed());
        let (at, wants) = extensions.ask(extension, connected)?;
        if let Wants::Missed(notice) = wants {
            return Ok(NextNotice::Now(notice));
        }
        let (sender, later) = oneshot::channel();
        listening.insert(at, sender);
        Ok(NextNotice::Later(later))
    }

    fn extension_error(&self, extension: Uuid, failing: Failing, error_type: &str) -> Result<(), Refused> {
        self.inner.lock().unwrap().extensions.fail(extension, failing, error_type).map(drop)
    }

    fn subscribe(&self, extension: Uuid, subscription: Subscription) -> Result<(), Unsubscribed> {
        let mut inner = self.inner.lock().unwrap();
        inner.extensions.name(extension).map_err(Unsubscribed::Refused)?;
        if inner.unsubscribed.is_none() {
            inner.subscriptions.push(subscription);
        }
        inner.unsubscribed.clone().map_or(Ok(()), Err)
    }
}

struct World {
    address: SocketAddr,
    fake: Arc<Fake>,
    _server: Server,
    _threads: tokio::runtime::Runtime,
}

fn event(id: &str) -> Event {
    Event {
        request_id: RequestId::new(id),
        deadline_ms: 1_700_000_000_000,
        invoked_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
        trace: None,
        client_context: None,
        tenant: None,
        content_type: None,
        payload: Bytes::from_static(b"{\"k\": 1}"),
    }
}

fn world(events: Vec<Event>) -> World {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Arc::new(Fake::default());
    fake.inner.lock().unwrap().events = events.into_iter().rev().map(Arc::new).collect();
    let server = threads.block_on(async { serve(vec![listener], fake.clone()) }).unwrap();
    World { address, fake, _server: server, _threads: threads }
}

impl World {
    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, rest: Vec::new() }
    }

    fn answers(&self) -> Vec<Answer> {
        self.fake.inner.lock().unwrap().answers.clone()
    }
}

struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        self.reply()
    }

    fn next(&mut self) -> Reply {
        self.get("/2018-06-01/runtime/invocation/next")
    }

    fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Reply {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        self.send(head.as_bytes());
        self.send(body);
        self.reply()
    }

    fn respond(&mut self, id: &str, body: &[u8]) -> Reply {
        self.post(&format!("/2018-06-01/runtime/invocation/{id}/response"), "", body)
    }

    /// One reply; what follows it is kept.
    fn reply(&mut self) -> Reply {
        let head_end = loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more() > 0, "closed before a reply: {:?}", String::from_utf8_lossy(&self.rest));
        };
        let head = String::from_utf8(self.rest[..head_end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
        while self.rest.len() < head_end + length {
            assert!(self.more() > 0, "closed within a reply");
        }
        let body = self.rest[head_end..head_end + length].to_vec();
        self.rest.drain(..head_end + length);
        Reply { status: head[9..12].parse().unwrap(), head, body }
    }

    fn more(&mut self) -> usize {
        let mut buffer = [0; 65536];
        let n = self.stream.read(&mut buffer).unwrap();
        self.rest.extend_from_slice(&buffer[..n]);
        n
    }

    fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

#[test]
fn an_event_is_delivered_with_awss_headers_and_its_bytes_as_they_came() {
    let full = Event {
        trace: Some("Root=1-a-b;Sampled=1".to_owned()),
        client_context: Some("{\"custom\":{\"ü\":1}}".to_owned()),
        tenant: None,
        content_type: Some("text/x".to_owned()),
        ..event("id-1")
    };
    let world = world(vec![full]);
    let reply = world.connect().next();
    assert_eq!((reply.status, reply.text()), (200, "{\"k\": 1}"));
    for line in [
        "Lambda-Runtime-Aws-Request-Id: id-1\r\n",
        "Lambda-Runtime-Deadline-Ms: 1700000000000\r\n",
        "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:f\r\n",
        "Lambda-Runtime-Trace-Id: Root=1-a-b;Sampled=1\r\n",
        "Lambda-Runtime-Client-Context: {\"custom\":{\"ü\":1}}\r\n",
        "Content-Type: text/x\r\n",
    ] {
        assert!(reply.head.contains(line), "{line} in {}", reply.head);
    }
}

#[test]
fn headers_without_a_value_are_left_out() {
    let world = world(vec![event("a")]);
    let head = world.connect().next().head;
    assert!(!head.contains("Trace") && !head.contains("Context"), "{head}");
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
}

#[test]
fn a_response_is_taken_byte_for_byte_on_the_same_connection() {
    let world = world(vec![event("a"), event("b")]);
    let mut client = world.connect();
    for id in ["a", "b"] {
        assert!(client.next().head.contains(&format!("Request-Id: {id}\r\n")));
        let reply = client.respond(id, b"not \xff json");
        assert_eq!((reply.status, reply.text()), (202, "{\"status\":\"OK\"}\n"));
    }
    assert_eq!(world.answers().iter().map(|a| a.body.as_ref()).collect::<Vec<_>>(), [b"not \xff json"; 2]);
}

#[test]
fn a_pipelined_response_and_next_are_both_answered() {
    let world = world(vec![event("a"), event("b")]);
    let mut client = world.connect();
    client.next();
    client.send(
        b"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1\
          GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(client.reply().status, 202);
    assert!(client.reply().head.contains("Request-Id: b\r\n"));
}

#[test]
fn chunked_bodies_and_error_trailers_are_understood() {
    let world = world(vec![event("a")]);
    let mut client = world.connect();
    client.next();
    client.send(
        b"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
          Lambda-Runtime-Function-Response-Mode: streaming\r\n\
          Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n\
          3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: Runtime.Broken\r\n\
          Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n",
    );
    assert_eq!(client.reply().status, 202);
    let answer = world.answers().remove(0);
    assert_eq!((answer.error.unwrap().as_str(), answer.body.as_ref()), ("Runtime.Broken", &b"{}"[..]));
}

/// The head of a response, chunked, by its runtime.
const STREAM: &[u8] = b"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Type: text/x\r\n\
    Transfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\r\n";

fn streaming() -> (World, Client) {
    let world = world(vec![event("a")]);
    world.fake.inner.lock().unwrap().streams = true;
    let mut client = world.connect();
    client.next();
    client.send(STREAM);
    (world, client)
}

impl World {
    /// The next piece of the stream, when it is there.
    fn piece(&self) -> Bytes {
        let (end, mut body) = self.eventually(|inner| inner.stream.take());
        let next = std::future::poll_fn(|cx| body.as_mut().poll_next(cx));
        let piece = self._threads.block_on(next).unwrap();
        self.fake.inner.lock().unwrap().stream = Some((end, body));
        piece.unwrap_or_else(|error| panic!("{}", error.error_type))
    }

    fn eventually<T>(&self, look: impl Fn(&mut Inner) -> Option<T>) -> T {
        loop {
            if let Some(found) = look(&mut self.fake.inner.lock().unwrap()) {
                return found;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_stream_is_passed_on_as_it_comes() {
    let (world, mut client) = streaming();
    client.send(b"3\r\nabc\r\n");
    assert_eq!(world.piece(), "abc");
    client.send(b"2\r\nde\r\n");
    assert_eq!(world.piece(), "de");
    client.send(b"0\r\n\r\n");
    assert_eq!(client.reply().status, 202);
    let streamed = world.eventually(|inner| inner.streamed.take());
    assert!(streamed.bytes == 5 && streamed.error.is_none() && !streamed.unread);
}

#[test]
fn the_error_after_a_stream_keeps_its_type_for_the_caller_and_gets_a_safe_one_for_the_report() {
    let (world, mut client) = streaming();
    client.send(b"1\r\na\r\n0\r\nLambda-Runtime-Function-Error-Type: My Own\r\nLambda-Runtime-Function-Error-Body: e30=\r\n\r\n");
    assert_eq!(client.reply().status, 202);
    let (error, reported) = world.eventually(|inner| inner.streamed.take()).error.unwrap();
    assert_eq!((error.error_type.as_str(), error.details.as_ref()), ("My Own", &b"{}"[..]));
    assert_eq!(reported.as_str(), "Runtime.Unknown");
}

#[test]
fn a_stream_that_is_cut_off_is_truncated() {
    let (world, mut client) = streaming();
    client.send(b"3\r\nab");
    drop(client);
    let streamed = world.eventually(|inner| inner.streamed.take());
    assert_eq!(streamed.error.unwrap().1.as_str(), "Runtime.TruncatedResponse");
}

#[test]
fn a_stream_that_nobody_reads_is_read_to_its_end_all_the_same() {
    let (world, mut client) = streaming();
    drop(world.eventually(|inner| inner.stream.take()));
    let piece = [b"10000\r\n", vec![b'x'; 0x10000].as_slice(), b"\r\n"].concat();
    (0..16).for_each(|_| client.send(&piece));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.reply().status, 202);
    let streamed = world.eventually(|inner| inner.streamed.take());
    assert!(streamed.unread && streamed.bytes == 16 * 0x10000);
}

#[test]
fn an_unknown_response_mode_is_refused_and_the_caller_told() {
    let world = world(vec![event("a")]);
    let mut client = world.connect();
    client.next();
    let mode = "Lambda-Runtime-Function-Response-Mode: Streaming\r\n";
    let reply = client.post("/2018-06-01/runtime/invocation/a/response", mode, b"1");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("InvalidFunctionResponseMode"));
    assert_eq!(world.answers()[0].error.as_ref().unwrap().as_str(), "Runtime.InvalidResponseModeHeader");
}

#[test]
fn wrong_ids_second_answers_and_wrong_states_are_refused_as_aws_does() {
    let world = world(vec![event("a")]);
    let mut client = world.connect();
    let invalid = r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#;
    assert_eq!(client.respond("a", b"1").text(), invalid, "before it was given out");
    client.next();
    assert_eq!(client.respond("b", b"1").text(), invalid);
    let refused = client.post("/2018-06-01/runtime/init/error", "", b"{}");
    assert_eq!(
        (refused.status, refused.text()),
        (
            403,
            r#"{"errorMessage":"State transition from Running to InitError failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}"#
        )
    );
    assert_eq!(client.respond("a", b"1").status, 202);
    let again = client.respond("a", b"2");
    assert_eq!((again.status, again.text()), (400, invalid));
    assert_eq!(world.answers().len(), 1);
}

#[test]
fn the_largest_response_passes_and_one_byte_more_does_not() {
    let world = world(vec![event("a"), event("b")]);
    let mut client = world.connect();
    client.next();
    assert_eq!(client.respond("a", &vec![b'x'; RESPONSE_PAYLOAD_MAX]).status, 202);
    client.next();
    let reply = client.respond("b", &vec![b'x'; RESPONSE_PAYLOAD_MAX + 1]);
    assert_eq!(
        (reply.status, reply.text()),
        (
            413,
            r#"{"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}"#
        )
    );
    let answers = world.answers();
    assert_eq!(answers[0].body.len(), RESPONSE_PAYLOAD_MAX);
    assert_eq!(
        answers[1].body,
        r#"{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#
    );
    assert_eq!(client.get("/2018-06-01/ping").text(), "pong", "the connection goes on");
}

#[test]
fn a_response_that_is_cut_off_counts_as_truncated() {
    let world = world(vec![event("a")]);
    let mut client = world.connect();
    client.next();
    client.send(b"POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.is_closed();
    assert_eq!(world.answers()[0].error.as_ref().unwrap().as_str(), "Runtime.TruncatedResponse");
}

#[test]
fn posted_errors_and_init_errors_are_taken() {
    let world = world(vec![event("a")]);
    let mut client = world.connect();
    client.next();
    let headers = "Lambda-Runtime-Function-Error-Type: Function.Oops\r\nContent-Type: application/json\r\n";
    let reply = client.post("/2018-06-01/runtime/invocation/a/error", headers, b"{\"errorType\":\"E\"}");
    assert_eq!(reply.status, 202);
    assert_eq!(world.answers()[0].error.as_ref().unwrap().as_str(), "Function.Oops");

    let other = self::world(vec![]);
    let mut client = other.connect();
    assert_eq!(client.post("/2018-06-01/runtime/init/error", headers, b"no json").status, 202);
    assert_eq!(other.answers()[0].content_type, "application/octet-stream");
    let refused = client.next();
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("State transition from InitError to Ready failed for runtime."));
}

#[test]
fn a_lost_event_is_given_again() {
    let world = world(vec![event("a")]);
    drop(world.connect().next());
    let mut client = world.connect();
    assert!(client.next().head.contains("Request-Id: a\r\n"));
    assert_eq!(client.respond("a", b"1").status, 202);
}

#[test]
fn what_is_not_there_says_so() {
    let world = world(vec![]);
    let mut client = world.connect();
    assert_eq!(client.get("/2018-06-01/runtime/restore/next").status, 404);
    assert_eq!(client.post("/2018-06-01/runtime/invocation/next", "", b"").status, 405);
}

#[test]
fn nonsense_ends_only_its_own_connection() {
    let world = world(vec![event("a")]);
    let mut large_head = b"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    large_head.extend(std::iter::repeat_n(b'x', 256 * 1024));
    let mut many_headers = b"GET /2018-06-01/ping HTTP/1.1\r\n".to_vec();
    many_headers.extend((0..1000).flat_map(|i| format!("X-{i}: y\r\n").into_bytes()));
    many_headers.extend_from_slice(b"\r\n");
    for bad in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /2018-06-01/ping HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx".to_vec(),
        large_head,
        many_headers,
    ] {
        let mut client = world.connect();
        // The server may close before it has read all of it.
        let _ = client.stream.write_all(&bad);
        assert!(client.is_closed(), "{:?}", String::from_utf8_lossy(&bad[..bad.len().min(80)]));
    }
    assert_eq!(world.connect().next().status, 200);
}

#[test]
fn connections_beyond_the_limit_wait_until_others_end() {
    let world = world(vec![event("a")]);
    let mut held: Vec<Client> = (0..64).map(|_| world.connect()).collect();
    for client in &mut held {
        assert_eq!(client.get("/2018-06-01/ping").status, 200);
    }
    let mut waiting = world.connect();
    waiting.send(b"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n");
    waiting.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(waiting.stream.read(&mut [0]).is_err(), "no answer while 64 are open");
    held.pop();
    waiting.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(waiting.reply().text(), "pong");
}

#[test]
fn a_dropped_server_closes_its_connections() {
    let World { address, fake: _fake, _server, _threads } = world(vec![]);
    let stream = TcpStream::connect(address).unwrap();
    let mut client = Client { stream, rest: Vec::new() };
    assert_eq!(client.get("/2018-06-01/ping").status, 200);
    client.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n");
    drop(_server);
    assert!(client.is_closed());
}

#[test]
fn a_closed_server_leaves_its_address_free() {
    let World { address, fake: _fake, _server, _threads } = world(vec![]);
    _threads.block_on(_server.close());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_address_of_a_closed_server_is_free_whoever_has_a_copy_of_its_listener() {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    // As a process has it that is forked from the server and has not executed yet.
    let copy = listener.try_clone().unwrap();
    threads.block_on(async { serve(vec![listener], Arc::new(Fake::default())).unwrap().close().await });
    std::net::TcpListener::bind(address).unwrap();
    drop(copy);
}

#[test]
fn quiet_waits_for_the_last_connection() {
    let world = world(vec![]);
    let mut client = world.connect();
    assert_eq!(client.get("/2018-06-01/ping").status, 200);
    let quiet = || {
        world._threads.block_on(async { tokio::time::timeout(Duration::from_secs(20), world._server.quiet()).await })
    };
    let early = world._threads.block_on(async {
        let mut quiet = Box::pin(world._server.quiet());
        std::future::poll_fn(|cx| std::task::Poll::Ready(quiet.as_mut().poll(cx).is_ready())).await
    });
    assert!(!early);
    drop(client);
    assert!(quiet().is_ok());
}

#[test]
fn what_leads_to_nothing_is_held_up_and_work_is_not() {
    let world = world((0..2000).map(|n| event(&n.to_string())).collect());
    let mut flood = world.connect();
    let began = std::time::Instant::now();
    let flooding = std::thread::spawn(move || {
        let mut writer = flood.stream.try_clone().unwrap();
        let pings = "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4500);
        let writing = std::thread::spawn(move || writer.write_all(pings.as_bytes()).unwrap());
        for _ in 0..4500 {
            assert_eq!(flood.reply().text(), "pong");
        }
        writing.join().unwrap();
        began.elapsed()
    });
    let mut runtime = world.connect();
    for n in 0..2000 {
        assert_eq!(runtime.next().status, 200);
        assert_eq!(runtime.respond(&n.to_string(), b"1").status, 202);
    }
    let worked = began.elapsed();
    let flooded = flooding.join().unwrap();
    assert!(flooded >= Duration::from_secs(4), "2,000 at once, then 500 a second: {flooded:?}");
    assert!(worked < flooded, "4,000 requests of a runtime took {worked:?}");
}

const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";

impl World {
    fn extensions(&self, change: impl FnOnce(&mut Extensions)) {
        change(&mut self.fake.inner.lock().unwrap().extensions);
    }

    /// Waits until this extension listens, and tells it something.
    fn tell(&self, at: usize, notice: Notice) {
        loop {
            let listening = self.fake.inner.lock().unwrap().listening.remove(&at);
            match listening {
                Some(listening) => return listening.send(notice).unwrap(),
                None => std::thread::yield_now(),
            }
        }
    }
}

impl Client {
    fn register(&mut self, name: &str, headers: &str, body: &str) -> Reply {
        self.post(REGISTER, &format!("Lambda-Extension-Name: {name}\r\n{headers}"), body.as_bytes())
    }

    /// Asks for an event and does not wait for the answer.
    fn ask(&mut self, id: &str) {
        self.send(format!("GET {NEXT} HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: {id}\r\n\r\n").as_bytes());
    }
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
    }

    fn refusal(&self) -> (u16, String, String) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (self.status, text("errorType"), text("errorMessage"))
    }
}

fn refused(error_type: &str, message: &str) -> (u16, String, String) {
    (403, error_type.to_owned(), message.to_owned())
}

#[test]
fn an_extension_registers_and_is_told_what_happens() {
    let world = world(vec![]);
    world.extensions(|all| *all = Extensions::new(&["watch".to_owned()]));
    let mut client = world.connect();
    let events = r#"{"events": ["INVOKE", "SHUTDOWN"]}"#;
    let welcome = client.register("watch", "Lambda-Extension-Accept-Feature: x, accountId\r\n", events);
    let expected = r#"{"functionName":"f","functionVersion":"7","handler":"m.h","accountId":"123"}"#;
    assert_eq!((welcome.status, welcome.text()), (200, expected));
    let id = welcome.header("Lambda-Extension-Identifier").to_owned();
    Uuid::parse_str(&id).unwrap();
    client.ask(&id);
    let mut traced = event("r1");
    traced.trace = Some("Root=1-2-3".to_owned());
    world.tell(0, Notice::Invoke(Arc::new(traced)));
    let told = client.reply();
    let expected = r#"{"eventType":"INVOKE","deadlineMs":1700000000000,"requestId":"r1","invokedFunctionArn":"arn:aws:lambda:us-east-1:000000000000:function:f","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-2-3"}}"#;
    assert_eq!((told.status, told.text()), (200, expected));
    Uuid::parse_str(told.header("Lambda-Extension-Event-Identifier")).unwrap();
    world.extensions(|all| drop(all.invoke()));
    client.ask(&id);
    world.tell(0, Notice::Shutdown { deadline_ms: 5, reason: ShutdownReason::Timeout });
    let expected = r#"{"eventType":"SHUTDOWN","deadlineMs":5,"shutdownReason":"timeout"}"#;
    assert_eq!(client.reply().text(), expected);
}

#[test]
fn without_the_feature_nothing_is_said_of_the_account() {
    let world = world(vec![]);
    let welcome = world.connect().register("mine", "", "{}");
    assert_eq!(welcome.text(), r#"{"functionName":"f","functionVersion":"7","handler":"m.h"}"#);
}

#[test]
fn registrations_are_refused_in_awss_words() {
    let world = world(vec![]);
    world.extensions(|all| *all = Extensions::new(&["out".to_owned()]));
    let mut client = world.connect();
    let unnamed = client.post(REGISTER, "", b"{}").refusal();
    assert_eq!(unnamed, refused("Extension.InvalidExtensionName", "Empty extension name"));
    for body in ["nonsense", "[]", r#"{"events": 1}"#, &format!("{{\"x\": \"{}\"}}", "x".repeat(20_000))] {
        let (status, error_type, _) = client.register("out", "", body).refusal();
        assert_eq!((status, error_type.as_str()), (403, "InvalidRequestFormat"), "{body}");
    }
    let keys = client.register("out", "", r#"{"events": [], "configurationKeys": ["A"]}"#).refusal();
    let message = "configurationKeys are deprecated; use environment variables instead";
    assert_eq!(keys, refused("InvalidRequestFormat", message));
    let event = client.register("out", "", r#"{"events": ["NAP"]}"#).refusal();
    assert_eq!(event, refused("Extension.InvalidEventType", "NAP: ErrorInvalidEventType"));
    let event = client.register("in", "", r#"{"events": ["SHUTDOWN"]}"#).refusal();
    let message = "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension";
    assert_eq!(event, refused("Extension.InvalidEventType", message));
    for name in ["out", "in"] {
        assert_eq!(client.register(name, "", r#"{"events": ["INVOKE"]}"#).status, 200);
    }
    let message = "State transition from Registered to Registered failed for extension out. Error: State transition is not allowed";
    assert_eq!(client.register("out", "", "{}").refusal(), refused("Extension.InvalidExtensionState", message));
    let message = "Extension with this name already registered";
    assert_eq!(client.register("in", "", "{}").refusal(), refused("Extension.InvalidExtensionState", message));
    for number in 3..=10 {
        assert_eq!(client.register(&format!("in{number}"), "", "{}").status, 200);
    }
    let full = client.register("in11", "", "{}").refusal();
    assert_eq!(full, refused("Extension.TooManyExtensions", "Extension limit (10) reached"));
    world.extensions(Extensions::close);
    let late = client.register("in11", "", "{}").refusal();
    assert_eq!(late, refused("Extension.RegistrationClosed", "Extension registration closed already"));
}

#[test]
fn calls_of_nobody_and_out_of_turn_are_refused_in_awss_words() {
    let world = world(vec![]);
    let mut client = world.connect();
    let stranger = "00000000-0000-0000-0000-000000000007";
    let unknown_type = "Extension.UnknownExtensionIdentifier";
    for (path, unknown) in [
        (NEXT, format!("Unknown extension {stranger}")),
        ("/2020-01-01/extension/init/error", "Unknown Lambda-Extension-Identifier".to_owned()),
        ("/2020-01-01/extension/exit/error", "Unknown Lambda-Extension-Identifier".to_owned()),
    ] {
        let mut call = |headers: &str| {
            let method = if path == NEXT { "GET" } else { "POST" };
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
            client.reply().refusal()
        };
        let missing = refused("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header");
        assert_eq!(call(""), missing);
        let invalid = refused("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier");
        assert_eq!(call("Lambda-Extension-Identifier: 7\r\n"), invalid);
        let error_type = "Lambda-Extension-Function-Error-Type: E\r\n";
        let headers = format!("Lambda-Extension-Identifier: {stranger}\r\n{error_type}");
        assert_eq!(call(&headers), refused(unknown_type, &unknown));
    }
    let id = client.register("in", "", "{}").header("Lambda-Extension-Identifier").to_owned();
    let mine = format!("Lambda-Extension-Identifier: {id}\r\n");
    let untyped = client.post("/2020-01-01/extension/exit/error", &mine, b"").refusal();
    assert_eq!(untyped, refused("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"));
    let typed = format!("{mine}Lambda-Extension-Function-Error-Type: Mine.Broken\r\n");
    for _ in 0..2 {
        let taken = client.post("/2020-01-01/extension/init/error", &typed, b"{\"errorMessage\": \"m\"}");
        assert_eq!((taken.status, taken.text()), (202, "{\"status\":\"OK\"}\n"));
    }
    client.ask(&id);
    let message = format!(
        "State transition from InitError to Ready failed for extension {id}. Error: State transition is not allowed"
    );
    assert_eq!(client.reply().refusal(), refused("Extension.InvalidExtensionState", &message));
}

#[test]
fn an_extension_that_has_lost_its_connection_may_ask_again() {
    let world = world(vec![]);
    let mut client = world.connect();
    let id = client.register("in", "", r#"{"events": ["INVOKE"]}"#).header("Lambda-Extension-Identifier").to_owned();
    let mut lost = world.connect();
    lost.ask(&id);
    let asked = |world: &World| world.fake.inner.lock().unwrap().listening.get(&0).map(oneshot::Sender::is_closed);
    while asked(&world) != Some(false) {
        std::thread::yield_now();
    }
    client.ask(&id);
    assert_eq!(client.reply().status, 403, "it waits already");
    drop(lost);
    while asked(&world) != Some(true) {
        std::thread::yield_now();
    }
    client.ask(&id);
    while asked(&world) != Some(false) {
        std::thread::yield_now();
    }
    world.tell(0, Notice::Invoke(Arc::new(event("r1"))));
    assert!(client.reply().text().contains("\"requestId\":\"r1\""));
}

#[test]
fn subscriptions_are_taken_and_refused_in_awss_words() {
    let world = world(vec![]);
    let mut client = world.connect();
    let id = client.register("in", "", "{}").header("Lambda-Extension-Identifier").to_owned();
    let mut put = |path: &str, id: &str, body: &str| {
        let length = body.len();
        let head = format!("Host: x\r\nLambda-Extension-Identifier: {id}\r\nContent-Length: {length}\r\n\r\n{body}");
        client.send(format!("PUT {path} HTTP/1.1\r\n{head}").as_bytes());
        client.reply()
    };
    let body =
        r#"{"schemaVersion": "2022-07-01", "types": ["platform"], "destination": {"protocol": "TCP", "port": 5}}"#;
    let logs_body = body.replace("2022-07-01", "2021-03-18");
    let stranger = "00000000-0000-0000-0000-000000000007";
    for (path, body, prefix, name) in [
        ("/2022-07-01/telemetry", body, "Telemetry", "Telemetry API"),
        ("/2020-08-15/logs", &logs_body, "Logs", "Logs API"),
    ] {
        world.fake.inner.lock().unwrap().unsubscribed = None;
        let taken = put(path, &id, body);
        assert_eq!((taken.status, taken.text()), (200, "\"OK\""));
        let unknown = refused("Extension.UnknownExtensionIdentifier", &format!("Unknown extension {stranger}"));
        assert_eq!(put(path, stranger, body).refusal(), unknown);
        let (status, error_type, message) = put(path, &id, &body.replace("platform", "all")).refusal();
        let expected = if prefix == "Logs" { "Logs.ValidationError" } else { "ValidationError" };
        assert_eq!((status, error_type.as_str()), (400, expected), "{message}");
        for (unsubscribed, status, suffix, says) in [
            (Unsubscribed::Closed, 403, "SubscriptionClosed", "subscription is closed already"),
            (Unsubscribed::Unsupported, 202, "NotSupported", "is not supported"),
        ] {
            world.fake.inner.lock().unwrap().unsubscribed = Some(unsubscribed);
            let expected = (status, format!("{prefix}.{suffix}"), format!("{name} {says}"));
            assert_eq!(put(path, &id, body).refusal(), expected);
        }
    }
    assert_eq!(world.fake.inner.lock().unwrap().subscriptions.len(), 2);
}
