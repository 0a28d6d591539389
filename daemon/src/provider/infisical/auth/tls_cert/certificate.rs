//! A certificate with its chain, as far as psid reads it: to present it, and for a message.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::model::clock::{self, Timestamp};
use crate::provider::infisical::certificate::not_after;

/// A certificate, followed by its intermediates.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// The end of the certificate's validity.
    end: Timestamp,
}

impl Chain {
    /// Reads PEM; `Err` follows "the certificate in FILE".
    pub(super) fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| "is not valid PEM")?;
        let leaf = certificates.first().ok_or("is missing: the file holds no PEM certificate")?;
        let end = not_after(leaf).ok_or("is not a certificate of X.509")?;
        Ok(Self { certificates, end })
    }

    /// The certificate itself.
    pub(super) fn leaf(&self) -> &[u8] {
        self.certificates.first().map_or(&[], |leaf| leaf)
    }

    /// Whether it has expired, by this host's clock.
    pub(super) fn is_expired(&self) -> bool {
        self.end <= clock::now().wall
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
            (wrapped("####"), "is not valid PEM"),
            (wrapped("AAAA"), "is not a certificate"),
        ] {
            let why = Chain::parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
