//! HTTPS with valid and invalid certificates.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::support::FakeInfisical;
use serde_json::json;

fn fetch(fake: &FakeInfisical, host: &'static str) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(fake.ca.as_ref().unwrap()).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(&fake.public).unwrap();
    let mut stream = Stream::new(&mut session, &mut socket);
    let request = b"GET /api/status HTTP/1.1\r\nconnection: close\r\n\r\n";
    stream.write_all(request).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    // The end depends on the server, with or without a closing alert
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
}

#[test]
fn valid_certificate_serves_both_names() {
    let fake = FakeInfisical::secure("valid");
    for host in ["localhost", "127.0.0.1"] {
        assert!(fetch(&fake, host).unwrap().contains("\"Ok\""));
    }
    fake.fault(json!({"kind": "truncate"}));
    assert!(!fetch(&fake, "localhost").unwrap().contains("secretScanning"));
}

#[test]
fn bad_certificate_fails_with_its_own_reason() {
    let expired = fetch(&FakeInfisical::secure("expired"), "localhost").unwrap_err();
    assert!(expired.contains("expired"), "{expired}");
    let unknown = fetch(&FakeInfisical::secure("wrong-ca"), "localhost").unwrap_err();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
}
