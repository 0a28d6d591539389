//! The client of one login by a certificate. Its connection is not kept: the next login may have another certificate.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{client_builder, within_origin};
use crate::provider::ProviderError;

/// A client certificate with its key, and where the login is made.
pub(in crate::provider::infisical) struct ClientCertificate {
    pub(in crate::provider::infisical) certified: Arc<CertifiedKey>,
    pub(in crate::provider::infisical) url: Url,
}

/// What the client has in common with the API's other one.
pub(super) struct TlsSettings {
    /// The only CAs to trust, in PEM; none: the system's.
    pub(super) ca_cert: Option<Vec<u8>>,
    pub(super) timeout: Duration,
}

impl TlsSettings {
    /// A client that presents the certificate.
    pub(super) fn client(&self, certificate: &ClientCertificate) -> Result<Client, ProviderError> {
        let unusable =
            |why: String| ProviderError::Misbehaved(format!("the client for mutual TLS: {why}"));
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?;
        let builder = match &self.ca_cert {
            None => {
                builder.with_platform_verifier().map_err(|error| unusable(error.to_string()))?
            }
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
                builder.with_root_certificates(roots)
            }
        };
        let resolver = SingleCertAndKey::from(Arc::clone(&certificate.certified));
        let mut config = builder.with_client_cert_resolver(Arc::new(resolver));
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        client_builder()
            .timeout(self.timeout)
            .connect_timeout(self.timeout.mul_f64(0.75))
            .redirect(reqwest::redirect::Policy::custom(within_origin))
            .pool_max_idle_per_host(0)
            .http1_only()
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| unusable(error.to_string()))
    }
}
