//! TLS certificate auth: the client's certificate, which the proxy in front of the server passes on, as
//! `identity-tls-cert-auth-service.ts` verifies it (without name constraints).

use percent_encoding::percent_decode_str;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::state::method::TlsCertAuth;

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
    let presented = certificates(&text);
    let presented = presented.iter().map(|der| parsed(der)).collect::<Result<Vec<_>, _>>()?;
    let (leaf, intermediates) = presented
        .split_first()
        .ok_or_else(|| ApiError::bad_request("Missing client certificate"))?;
    let ca = certificates(&settings.ca_certificate);
    let ca = parsed(ca.first().ok_or_else(ApiError::internal)?)?;
    let seconds = i64::try_from(fake.clock.real() / 1000).unwrap_or(i64::MAX);
    let now = ASN1Time::from_timestamp(seconds).map_err(|_| ApiError::internal())?;
    if settings.verify_client_certificate_chain {
        chain(leaf, &Issuers { intermediates, anchor: &ca, now }).map_err(denied)?;
    } else if leaf.verify_signature(Some(ca.public_key())).is_err() {
        return Err(denied("Certificate not issued by the provided CA."));
    }
    end_entity(leaf, &ca, now, settings).map_err(denied)
}

fn denied(why: &str) -> ApiError {
    ApiError::unauthorized(format!("Access denied: {why}"))
}

/// The rules of the certificate itself.
fn end_entity(
    leaf: &X509Certificate<'_>,
    ca: &X509Certificate<'_>,
    now: ASN1Time,
    settings: &TlsCertAuth,
) -> Result<(), &'static str> {
    if leaf.is_ca() || leaf.as_raw() == ca.as_raw() {
        return Err("a CA certificate cannot be used as a client certificate.");
    }
    if leaf.validity().not_after < now {
        return Err("Certificate has expired.");
    }
    if leaf.validity().not_before > now {
        return Err("Certificate not yet valid.");
    }
    let name = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let names = &settings.allowed_common_names;
    if !names.is_empty() && !names.split(',').any(|one| Some(one) == name) {
        return Err("TLS Certificate Auth common name not allowed.");
    }
    let allowed = &settings.allowed_subject_alt_names;
    let has = alternative_names(leaf);
    if !allowed.is_empty() && !allowed.iter().any(|one| has.contains(&canonical(one))) {
        return Err("TLS Certificate Auth subject alternative name not allowed.");
    }
    Ok(())
}

/// What a path from the leaf to the trust anchor may be built of.
struct Issuers<'a, 'b> {
    intermediates: &'a [X509Certificate<'b>],
    anchor: &'a X509Certificate<'b>,
    now: ASN1Time,
}

/// Trust-anchor mode: the CA need not have issued the leaf itself.
fn chain(leaf: &X509Certificate<'_>, issuers: &Issuers<'_, '_>) -> Result<(), &'static str> {
    const OUTSIDE: &str = "A certificate in the chain is outside its validity period.";
    if !leaf.validity().is_valid_at(issuers.now) {
        return Err(OUTSIDE);
    }
    let mut was_outside = false;
    if reaches(leaf, &mut Vec::new(), issuers, &mut was_outside) {
        return Ok(());
    }
    Err(if was_outside {
        OUTSIDE
    } else {
        "Certificate chain could not be validated against the provided CA."
    })
}

/// Whether a path leads from a certificate to the anchor; `path` are the intermediates on it.
fn reaches(
    from: &X509Certificate<'_>,
    path: &mut Vec<usize>,
    issuers: &Issuers<'_, '_>,
    was_outside: &mut bool,
) -> bool {
    let issued_by = |issuer: &X509Certificate<'_>| {
        let is_named = issuer.is_ca() && from.issuer().as_raw() == issuer.subject().as_raw();
        is_named && from.verify_signature(Some(issuer.public_key())).is_ok()
    };
    let mut is_valid = |issuer: &X509Certificate<'_>| {
        let is_valid = issuer.validity().is_valid_at(issuers.now);
        *was_outside |= !is_valid;
        is_valid
    };
    if issued_by(issuers.anchor) && is_valid(issuers.anchor) {
        return true;
    }
    let next: Vec<usize> = (0..issuers.intermediates.len())
        .filter(|at| !path.contains(at) && issued_by(&issuers.intermediates[*at]))
        .filter(|at| is_valid(&issuers.intermediates[*at]))
        .collect();
    next.into_iter().any(|at| {
        path.push(at);
        let reaches = reaches(&issuers.intermediates[at], path, issuers, was_outside);
        path.pop();
        reaches
    })
}

/// The alternative names in the server's form: `dns:host.example`, `uri:spiffe://…`.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        all.extend(names.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(canonical(&format!("dns:{name}"))),
            GeneralName::URI(uri) => Some(canonical(&format!("uri:{uri}"))),
            GeneralName::RFC822Name(name) => Some(canonical(&format!("email:{name}"))),
            GeneralName::IPAddress(bytes) => {
                let bytes = <[u8; 4]>::try_from(*bytes).ok()?;
                Some(format!("ip:{}", std::net::Ipv4Addr::from(bytes)))
            }
            _ => None,
        }));
    }
    all
}

/// An alternative name with its type; without one it is a DNS name, whose case does not matter.
fn canonical(name: &str) -> String {
    let name = name.trim();
    let typed = name.split_once(':').and_then(|(kind, value)| {
        let kind = match kind.trim().to_lowercase().as_str() {
            "uri" | "url" => "uri",
            "ip" => "ip",
            "email" => "email",
            "dns" => "dns",
            _ => return None,
        };
        Some((kind, value.trim()))
    });
    match typed {
        None | Some(("dns", _)) => {
            format!("dns:{}", typed.map_or(name, |(_, value)| value).to_lowercase())
        }
        Some((kind, value)) => format!("{kind}:{value}"),
    }
}

/// Each certificate of a PEM text.
fn certificates(text: &str) -> Vec<Vec<u8>> {
    let all = Pem::iter_from_buffer(text.as_bytes());
    all.map_while(Result::ok).map(|pem| pem.contents).collect()
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, ApiError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ApiError::internal())?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternative_names_have_the_server_s_form() {
        for (name, form) in [
            ("Host.Example", "dns:host.example"),
            (" dns: Host.Example ", "dns:host.example"),
            ("url:spiffe://Example.org/A", "uri:spiffe://Example.org/A"),
            ("IP:10.0.0.1", "ip:10.0.0.1"),
            ("other:x", "dns:other:x"),
        ] {
            assert_eq!(canonical(name), form, "{name}");
        }
    }
}
