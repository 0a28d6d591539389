//! Handshakes that failed because of the client's certificate or key.

use std::error::Error;
use std::io;

use rustls::AlertDescription;

use crate::provider::ProviderError;

/// The error of a handshake that failed because of the client's certificate or key, which is no outage.
pub(super) fn certificate_error(error: &reqwest::Error, peer: &str) -> Option<ProviderError> {
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
