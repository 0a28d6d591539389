//! A certificate with its chain, as far as psid reads it: to present it, and for a message.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::model::clock;
use crate::provider::Validity;
use crate::provider::infisical::certificate::validity;

/// A certificate, followed by its intermediates.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// How long the certificate is valid.
    pub(super) validity: Validity,
}

impl Chain {
    /// Reads PEM; `Err` follows "the certificate in FILE".
    pub(super) fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| "is not complete PEM: is it being written?")?;
        let leaf = certificates.first().ok_or("is missing: the file holds no PEM certificate")?;
        let validity = validity(leaf).ok_or("is not a certificate of X.509")?;
        Ok(Self { certificates, validity })
    }

    /// The certificate itself.
    pub(super) fn leaf(&self) -> &[u8] {
        self.certificates.first().map_or(&[], |leaf| leaf)
    }

    /// Whether it has expired, by this host's clock.
    pub(super) fn is_expired(&self) -> bool {
        self.validity.end <= clock::now().wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /O=psi/CN=host`
    const PEM: &[u8] = include_bytes!("test-certificate.pem");

    #[test]
    fn chain_is_read_from_pem() {
        let chain = Chain::parse(PEM).unwrap();
        assert_eq!(chain.certificates.len(), 1);
        assert!(!chain.is_expired() && !chain.leaf().is_empty());
        assert_eq!(Chain::parse(&[PEM, PEM].concat()).unwrap().certificates.len(), 2);
    }

    #[test]
    fn text_other_than_a_certificate_is_refused() {
        let wrapped = |body: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        for (text, words) in [
            (String::new(), "holds no PEM certificate"),
            ("a text".to_owned(), "holds no PEM certificate"),
            (wrapped("####"), "is not complete PEM"),
            (wrapped("AAAA"), "is not a certificate"),
        ] {
            let why = Chain::parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
