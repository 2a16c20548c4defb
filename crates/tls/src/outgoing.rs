//! Connections that go out.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Names a file of further authorities in PEM, as the AWS CLI and the SDKs know it.
const AUTHORITIES: &str = "AWS_CA_BUNDLE";

/// Nobody can be trusted, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Untrusting(String);

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What connections out are made with. Trusted are the authorities of the host (where `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` say, else where the system has them) and those that `AWS_CA_BUNDLE` names, as they were when the
/// first one was made.
pub fn client() -> Result<Arc<ClientConfig>, Untrusting> {
    trust().map(|trust| trust.client)
}

#[derive(Clone)]
struct Trust {
    client: Arc<ClientConfig>,
    is_in_nobody: bool,
}

fn trust() -> Result<Trust, Untrusting> {
    static TRUST: OnceLock<Result<Trust, Untrusting>> = OnceLock::new();
    TRUST.get_or_init(|| make(std::env::var_os(AUTHORITIES).as_ref().map(Path::new))).clone()
}

fn make(further: Option<&Path>) -> Result<Trust, Untrusting> {
    let mut roots = RootCertStore::empty();
    // What is odd in the system's own store is left out, as everybody does.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = further.filter(|path| !path.as_os_str().is_empty()) {
        let refuse = |why: String| Untrusting(format!("{AUTHORITIES} ({}): {why}", path.display()));
        let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
        }
    }
    let is_in_nobody = roots.is_empty();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Untrusting(error.to_string()))?;
    Ok(Trust { client: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()), is_in_nobody })
}

/// A connection that is secure.
pub type Outgoing<S> = TlsStream<S>;

/// Secures a connection to `host`, a name or an address, which must prove that it is it. The caller limits the time.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(host: &str, stream: S) -> io::Result<Outgoing<S>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let trust = trust().map_err(io::Error::other)?;
    if trust.is_in_nobody {
        let why = format!("this host knows no certificate authorities: install ca-certificates, or set {AUTHORITIES}");
        return Err(io::Error::other(why));
    }
    TlsConnector::from(trust.client).connect(name, stream).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_none_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let refused = make(Some(file.path())).err().unwrap().to_string();
        assert!(refused.starts_with("AWS_CA_BUNDLE ("), "{refused}");
        assert!(make(Some(Path::new("/no/such/bundle"))).is_err());
    }
}
