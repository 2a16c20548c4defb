//! Connections that come in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::outgoing::provider;

/// How often the files are looked at, at most, and only when somebody connects.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is spoken, by preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The first byte of a connection of TLS: the record that a handshake is in.
const HANDSHAKE: u8 = 22;

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{} and {} do not go together: {why}", certificate.display(), key.display())]
    Unfit { certificate: PathBuf, key: PathBuf, why: rustls::Error },
}

/// A certificate with those that vouch for it, and its key, from two files in PEM. A cheap handle.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    current: Mutex<Current>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

struct Current {
    acceptor: TlsAcceptor,
    /// When the files were changed that it was made of.
    changed: [Option<SystemTime>; 2],
    looked: Instant,
}

impl Certificate {
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Unusable> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let changed = files.changed();
        let current = Current { acceptor: files.load()?, changed, looked: Instant::now() };
        Ok(Certificate { inner: Arc::new(Inner { files, current: Mutex::new(current) }) })
    }

    /// Takes a connection, once its handshake is over. A client that begins with something else is no client of TLS:
    /// [`Accepted::Plain`]. The caller limits the time.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE] {
            return Ok(Accepted::Plain(stream));
        }
        Ok(Accepted::Secure(Box::new(self.acceptor().accept(stream).await?)))
    }

    /// Of the files as they are: a renewed certificate is taken without a restart. One that cannot be used is complained
    /// about, and the one before goes on.
    fn acceptor(&self) -> TlsAcceptor {
        let Inner { files, current } = &*self.inner;
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let changed = files.changed();
            if changed != current.changed {
                current.changed = changed;
                match files.load() {
                    Ok(acceptor) => {
                        tracing::info!(certificate = %files.certificate.display(), "the renewed certificate is used");
                        current.acceptor = acceptor;
                    }
                    Err(error) => tracing::error!(%error, "the changed certificate cannot be used; the old one is"),
                }
            }
        }
        current.acceptor.clone()
    }
}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.inner.files.certificate).finish()
    }
}

/// A connection that came in.
pub enum Accepted {
    Secure(Box<TlsStream<TcpStream>>),
    /// What it began with is still unread.
    Plain(TcpStream),
}

impl Files {
    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|path| std::fs::metadata(path).and_then(|data| data.modified()).ok())
    }

    fn load(&self) -> Result<TlsAcceptor, Unusable> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|source| Unusable::Unreadable { path: path.to_owned(), source });
        let malformed = |path: &Path, why: String| Unusable::Malformed { path: path.to_owned(), why };
        let certificates: Result<Vec<_>, PemError> =
            CertificateDer::pem_slice_iter(&read(&self.certificate)?).collect();
        let certificates = certificates.map_err(|error| malformed(&self.certificate, error.to_string()))?;
        if certificates.is_empty() {
            return Err(malformed(&self.certificate, "there is no certificate in PEM in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|error| {
            let why = match error {
                PemError::NoItemsFound => "there is no private key in PEM in it".to_owned(),
                error => error.to_string(),
            };
            malformed(&self.key, why)
        })?;
        let unfit = |why| Unusable::Unfit { certificate: self.certificate.clone(), key: self.key.clone(), why };
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(unfit)?;
        let mut config = builder.with_no_client_auth().with_single_cert(certificates, key).map_err(unfit)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_certificate_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
        let refused = || Certificate::load(&certificate, &key).unwrap_err().to_string();
        assert!(refused().contains("certificate: No such file"), "{}", refused());
        std::fs::write(&certificate, "").unwrap();
        assert!(refused().contains("there is no certificate in PEM in it"), "{}", refused());
        std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        std::fs::write(&key, "nothing").unwrap();
        assert!(refused().contains("there is no private key in PEM in it"), "{}", refused());
    }
}
