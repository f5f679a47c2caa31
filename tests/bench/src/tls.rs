//! A certificate authority of our own, so that an endpoint on this machine can be called by TLS.
//!
//! In: a path. Out: a file that clients trust (`SSL_CERT_FILE`), and what a server needs. Guarantee: made anew for each run,
//! for 127.0.0.1 only.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Where a Linux keeps the authorities that it trusts: on Debian, and on Amazon Linux.
const TRUSTED: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The authority, and a server's key that it has signed.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The file with its certificate, among those that the machine trusts.
    pub file: PathBuf,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// # Errors
    /// The file cannot be written.
    pub fn create(file: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // OpenSSL takes a certificate for self-signed that has the name of its issuer.
        params.distinguished_name.push(DnType::CommonName, "an authority of the benchmarks");
        let key = KeyPair::generate()?;
        // A process reads all of them when it starts, which takes it longer than anything else: one alone would flatter it.
        let trusted = TRUSTED.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let own = params.self_signed(&key)?.pem();
        std::fs::write(file, trusted.unwrap_or_default() + "\n" + &own)?;
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        let certificate = certificate.signed_by(&server_key, &issuer)?;
        let key =
            PrivateKeyDer::try_from(server_key.serialize_der()).map_err(anyhow::Error::msg)?;
        // The workspace is built as one, and with the libraries of its tests there are two of them.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { file: file.to_owned(), server: Arc::new(server) })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.server.clone())
    }
}
