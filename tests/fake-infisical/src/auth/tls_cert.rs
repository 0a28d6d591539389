//! TLS certificate auth: the client's certificate, which the proxy in front of the server passes on, as
//! `identity-tls-cert-auth-service.ts` verifies it (without its trust-anchor mode).

use percent_encoding::percent_decode_str;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::api::error::ApiError;
use crate::fake::FakeInfisical;

/// The header of the proxy, by default.
pub const HEADER: &str = "x-identity-tls-cert-auth-client-cert";

pub fn verify(fake: &FakeInfisical, identity: &str, header: Option<&str>) -> Result<(), ApiError> {
    let header =
        header.ok_or_else(|| ApiError::bad_request("Missing TLS certificate in header"))?;
    let identity = fake.state.identity(identity);
    let settings =
        identity.and_then(|identity| identity.methods.tls_cert.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "TLS Certificate auth method not found for identity, did you configure TLS Certificate auth?",
            )
        })?;
    let text = percent_decode_str(header).decode_utf8_lossy().into_owned();
    let leaf = first(&text).ok_or_else(|| ApiError::bad_request("Missing client certificate"))?;
    let ca = first(&settings.ca_certificate).ok_or_else(ApiError::internal)?;
    let (leaf, ca) = (parsed(&leaf)?, parsed(&ca)?);
    let denied = |why: &str| Err(ApiError::unauthorized(format!("Access denied: {why}")));
    if leaf.verify_signature(Some(ca.public_key())).is_err() {
        return denied("Certificate not issued by the provided CA.");
    }
    if leaf.is_ca() || leaf.as_raw() == ca.as_raw() {
        return denied("a CA certificate cannot be used as a client certificate.");
    }
    let now = i64::try_from(fake.clock.real() / 1000).unwrap_or(i64::MAX);
    if leaf.validity().not_after.timestamp() < now {
        return denied("Certificate has expired.");
    }
    if leaf.validity().not_before.timestamp() > now {
        return denied("Certificate not yet valid.");
    }
    let name = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let names = &settings.allowed_common_names;
    if !names.is_empty() && !names.split(',').any(|one| Some(one) == name) {
        return denied("TLS Certificate Auth common name not allowed.");
    }
    Ok(())
}

/// The first certificate of a PEM text.
fn first(text: &str) -> Option<Vec<u8>> {
    let pem = Pem::iter_from_buffer(text.as_bytes()).next()?.ok()?;
    Some(pem.contents)
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, ApiError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ApiError::internal())?;
    Ok(certificate)
}
