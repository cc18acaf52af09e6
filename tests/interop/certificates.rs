//! A certificate authority for the servers of a test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Signs the certificates of servers; they are told to trust it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, a PEM file.
    pub(crate) file: PathBuf,
    pem: String,
}

/// The certificate of a server and its key, PEM files.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority, whose certificate lies in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Interoperability");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let file = folder.join("ca.pem");
        std::fs::write(&file, &pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
            pem,
        }
    }

    /// Certifies that whoever has the key is `host`, a name or an address, and nobody else.
    pub(crate) fn certify(&self, host: &str, folder: &Path) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([host.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let files = Certificate {
            chain: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
        };
        std::fs::write(&files.chain, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// Its certificate for a client that shall trust it.
    pub(crate) fn root(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_pem(self.pem.as_bytes()).unwrap()
    }
}
