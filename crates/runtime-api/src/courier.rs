//! Brings events to a subscriber over a connection that its owner made inside the sandbox.

use std::io;
use std::net::TcpStream as Socket;

use bytes::{BufMut, Bytes, BytesMut};
use hearth_model::Destination;
use http::{Method, Request};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::posted;

/// See the module. One per subscription.
pub struct Courier {
    destination: Destination,
    /// Of a TCP destination, which gets all events on one connection.
    line: Option<TcpStream>,
}

impl Courier {
    pub fn new(destination: Destination) -> Self {
        Courier { destination, line: None }
    }

    /// Where to connect to; `None` when there is a connection.
    pub fn port(&self) -> Option<u16> {
        match self.destination {
            _ if self.line.is_some() => None,
            Destination::Http { port, .. } | Destination::Tcp { port } => Some(port),
        }
    }

    /// Sends events, on the new connection where one was asked for. An error means that they did not arrive, or that the
    /// subscriber says so. What is sent to a frozen subscriber waits with it.
    pub async fn deliver(&mut self, events: &[Bytes], connection: Option<Socket>) -> io::Result<()> {
        let connection = connection.map(TcpStream::from_std).transpose()?;
        match (&self.destination, connection) {
            (Destination::Http { host, path, .. }, Some(connection)) => {
                connected(&connection).await?;
                post(connection, host, path, array(events)).await
            }
            (Destination::Tcp { .. }, connection) => {
                let mut line = match connection {
                    Some(connection) => {
                        connected(&connection).await?;
                        connection
                    }
                    None => self.line.take().ok_or(io::ErrorKind::NotConnected)?,
                };
                line.write_all(&lines(events)).await?;
                // Kept only when all went well.
                self.line = Some(line);
                Ok(())
            }
            (Destination::Http { .. }, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The connection may have been begun only.
async fn connected(connection: &TcpStream) -> io::Result<()> {
    connection.writable().await?;
    connection.take_error()?.map_or(Ok(()), Err)
}

async fn post(connection: TcpStream, host: &str, path: &str, body: Bytes) -> io::Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(io::Error::other)?;
    let request = Request::builder().method(Method::POST).uri(path).header("host", host);
    let request = request.header("content-type", "application/json").header("connection", "close");
    let request = request.body(Full::new(body)).map_err(io::Error::other)?;
    let exchange = async {
        let reply = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = reply.status();
        // It counts from its head on; a long body is not read to its end.
        posted::discard(reply.into_body()).await;
        if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("the subscriber answered {status}"))) }
    };
    tokio::pin!(exchange);
    tokio::select! {
        sent = &mut exchange => sent,
        ended = connection => match ended {
            // What came last may still have to be read.
            Ok(()) => exchange.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

fn array(events: &[Bytes]) -> Bytes {
    let mut body = BytesMut::with_capacity(events.iter().map(|event| event.len() + 1).sum::<usize>() + 2);
    body.put_u8(b'[');
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.put_u8(b',');
        }
        body.put_slice(event);
    }
    body.put_u8(b']');
    body.freeze()
}

fn lines(events: &[Bytes]) -> Bytes {
    let mut body = BytesMut::with_capacity(events.iter().map(|event| event.len() + 1).sum());
    for event in events {
        body.put_slice(event);
        body.put_u8(b'\n');
    }
    body.freeze()
}
