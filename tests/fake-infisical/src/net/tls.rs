//! Certificates, valid and invalid, made at the start.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::client_certificate::PassThrough;
use crate::cli::Certificate;

/// Writes `ca.pem`, the authority that a client should trust, and presents a certificate of the
/// given kind.
pub fn prepare(
    certificate: Certificate,
    directory: &Path,
) -> Result<(TlsAcceptor, PathBuf), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let trusted = authority("fake-infisical CA", kept_key(&directory.join("ca.key"))?)?;
    let file = directory.join("ca.pem");
    fs::write(&file, trusted.pem())?;

    let issuer = match certificate {
        Certificate::Valid | Certificate::Expired => trusted,
        Certificate::WrongCa => authority("another CA", KeyPair::generate()?)?,
    };
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    if certificate == Certificate::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(PassThrough(provider)))
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), file))
}

/// A restarted fake on the same directory has the same authority, so an earlier `ca.pem` stays
/// valid.
fn kept_key(file: &Path) -> Result<KeyPair, Box<dyn Error>> {
    if file.exists() {
        return Ok(KeyPair::from_pem(&fs::read_to_string(file)?)?);
    }
    let key = KeyPair::generate()?;
    fs::write(file, key.serialize_pem())?;
    Ok(key)
}

fn authority(name: &str, key: KeyPair) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key)
}
