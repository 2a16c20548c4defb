//! Answers that are taken as they come, through real processes.

mod support;

use std::future::poll_fn;

use bytes::Bytes;
use hearth_model::{Body, Response, ResponseMode, Status};
use hearth_worker::Environment;
use support::{PATIENCE, World, invocation, running};

/// A runtime that streams: it says a piece, waits for the file of that name, and goes on.
const STREAMS: &str = r#"
import socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def begin(id):
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: x\r\n"
        "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    return connection
def piece(connection, text):
    connection.sendall(f"{len(text):x}\r\n{text}\r\n".encode())
def end(connection):
    connection.sendall(b"0\r\n\r\n")
    connection.recv(1000)
"#;

fn world(code: &str) -> World {
    World::new(&format!("{STREAMS}{code}"))
}

async fn streamed(environment: &Environment, id: &str, payload: &str) -> Response {
    let invocation = hearth_model::Invocation { mode: ResponseMode::Streamed, ..invocation(environment, id, payload) };
    tokio::time::timeout(PATIENCE, environment.invoke(invocation, running())).await.unwrap().unwrap()
}

async fn next(body: &mut Body) -> Option<Result<Bytes, (String, Bytes)>> {
    let piece = tokio::time::timeout(PATIENCE, poll_fn(|cx| body.as_mut().poll_next(cx))).await.unwrap();
    piece.map(|piece| piece.map_err(|error| (error.error_type, error.details)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_arrives_before_the_next_one_is_made() {
    let code = "while True:\n  id, event = next_event()\n  to = begin(id)\n  piece(to, 'one')\n  \
                while not os.path.exists(event): time.sleep(0.001)\n  piece(to, 'two')\n  end(to)\n";
    let mut world = world(code);
    let environment = world.start();
    let go = tempfile::tempdir().unwrap().keep().join("go");
    let mut response = streamed(&environment, "r", go.to_str().unwrap()).await;
    assert_eq!(next(&mut response.body).await, Some(Ok("one".into())));
    std::fs::write(&go, "").unwrap();
    assert_eq!(next(&mut response.body).await, Some(Ok("two".into())));
    assert_eq!(next(&mut response.body).await, None);
    let report = response.outcome.await.report;
    assert_eq!((report.status, report.error_type), (Status::Success, None));
    std::fs::remove_dir_all(go.parent().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_shut_down_in_the_middle_ends_in_an_error() {
    let mut world = world("id, event = next_event()\nto = begin(id)\npiece(to, 'one')\ntime.sleep(100)\n");
    let environment = world.start();
    let mut response = streamed(&environment, "r", "1").await;
    assert_eq!(next(&mut response.body).await, Some(Ok("one".into())));
    environment.shutdown().await;
    let (error_type, details) = next(&mut response.body).await.unwrap().unwrap_err();
    assert_eq!(error_type, "Sandbox.Failure");
    let expected = r#"{"errorType":"Sandbox.Failure","errorMessage":"RequestId: r Error: The execution environment was shut down"}"#;
    assert_eq!(details, expected);
    assert_eq!(response.outcome.await.report.status, Status::Failure);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_reads_ends_like_any_other() {
    let code = "while True:\n  id, event = next_event()\n  to = begin(id)\n  for n in range(100): piece(to, 'x' * 65536)\n  \
                end(to)\n  say('said it all\\n')\n";
    let mut world = world(code);
    let environment = world.start();
    drop(streamed(&environment, "r", "1").await);
    world.wait_idle().await;
    world.wait_log("said it all").await;
    let mut response = streamed(&environment, "s", "1").await;
    let mut size = 0;
    while let Some(Ok(piece)) = next(&mut response.body).await {
        size += piece.len();
    }
    assert_eq!(size, 100 * 65536);
}
