//! Connections of the door that lead to nothing are let go.

use std::time::Duration;

use hearth_frontend::{Config, Frontend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Long enough for a busy host, short enough to wait for.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);

async fn door(client_timeout: Duration) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let frontend = Frontend::new(Config { client_timeout, ..Config::default() });
    (address, tokio::spawn(async move { frontend.serve(listener, None, std::future::pending()).await }))
}

/// What is answered until the connection ends, which it must.
async fn until_the_end(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset is an end, too.
    let _ = ended.expect("the connection was not ended");
    answer
}

#[tokio::test]
async fn who_says_nothing_or_not_enough_is_let_go() {
    let (address, door) = door(CLIENT_TIMEOUT).await;
    for said in
        ["", "P", "PRI * HT", "GET / HT", "GET / HTTP/1.1\r\nhost: localhost\r\nx", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let answer = String::from_utf8_lossy(&until_the_end(stream).await).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{said:?}: {answer}");
    }
    door.abort();
}

#[tokio::test]
async fn a_head_that_comes_a_byte_at_a_time_has_no_longer_than_any_other() {
    let (address, door) = door(CLIENT_TIMEOUT).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let slow = tokio::spawn(async move {
        let head = "GET / HTTP/1.1\r\n".to_owned() + &"x: y\r\n".repeat(10_000);
        for byte in head.bytes() {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(CLIENT_TIMEOUT / 20).await;
        }
    });
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)).await;
    let _ = ended.expect("the connection was not ended");
    slow.abort();
    door.abort();
}

#[tokio::test]
async fn a_connection_that_is_used_is_kept_and_then_let_go() {
    let (address, door) = door(CLIENT_TIMEOUT).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut piece = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&piece[..read]).starts_with("HTTP/1.1 503 "));
    }
    assert!(until_the_end(stream).await.is_empty());
    door.abort();
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_answered_once_with_400() {
    let (address, door) = door(PATIENCE).await;
    for lengths in
        ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{lengths}\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8_lossy(&until_the_end(stream).await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    }
    door.abort();
}
