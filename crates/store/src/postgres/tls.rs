//! TLS under the connections to the database, where its URL asks for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hearth_model::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// Makes connections secure.
#[derive(Clone, Copy)]
pub struct Secured;

/// For one host.
pub struct Securing(String);

/// A secure connection.
pub struct Secure<S>(hearth_tls::Outgoing<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Secured {
    type Stream = Secure<S>;
    type TlsConnect = Securing;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Securing> {
        Ok(Securing(host.to_owned()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Securing {
    type Stream = Secure<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secure<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { hearth_tls::connect(&self.0, stream).await.map(Secure) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Secure<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secure<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secure<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
