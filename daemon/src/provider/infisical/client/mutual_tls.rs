//! The client of one login by a certificate. Its connection is not kept: the next login may have another certificate.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
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

/// The error of a handshake that failed because of the client's certificate or key, which is no outage.
pub(in crate::provider::infisical) fn certificate_error(
    error: &reqwest::Error,
    peer: &str,
) -> Option<ProviderError> {
    match tls_error(error)? {
        rustls::Error::AlertReceived(alert) => concerns_certificate(*alert).then(|| {
            let why = format!("{peer} refuses the client certificate (TLS alert {alert:?})");
            ProviderError::Misbehaved(why)
        }),
        // The words of the token, which did not sign.
        rustls::Error::General(why) => Some(ProviderError::Failed(why.clone())),
        _ => None,
    }
}

fn concerns_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
    )
}

/// The error of TLS in a chain of errors, of which one may be inside of an I/O error.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = inner
            .and_then(|inner| inner.downcast_ref())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if found.is_some() {
            return found;
        }
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
