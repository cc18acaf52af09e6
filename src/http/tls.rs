//! Certificates, and how they are exchanged while the server runs.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use hearth_core::config::Tls;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

/// The certificate of one listener.
#[derive(Debug)]
pub struct Certificate {
    files: Tls,
    config: RwLock<Arc<ServerConfig>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is no PEM.
    #[error("cannot read {file}: {reason}", file = .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate file holds no certificate.
    #[error("there is no certificate in {file}", file = .0.display())]
    Empty(PathBuf),
    /// The files do not go together.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When they cannot be read or do not go together.
    pub fn read(files: Tls) -> Result<Self, TlsError> {
        let config = RwLock::new(server_config(&files)?);
        Ok(Self { files, config })
    }

    /// Reads the files again; on an error the old certificate stays.
    ///
    /// # Errors
    ///
    /// When they cannot be read or do not go together.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = server_config(&self.files)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Accepts a connection with the certificate of now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn server_config(files: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(&files.cert, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(files.cert.clone()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, &error))?;
    // The provider is named, since there is none for the whole process unless somebody sets it.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unreadable(file: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::File {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
