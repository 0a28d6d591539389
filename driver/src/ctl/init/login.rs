//! How psid logs in: the flags of each method, and the keys of the config.

use std::path::PathBuf;

use psi_common::Exit;

use super::checks::{is_absolute, is_line, is_one_word};
use super::config_text::{ACCESS_TOKEN, CLIENT_KEY, CLIENT_SECRET, setting};
use crate::ctl::args::{LoginMethod, ProviderArgs};
use crate::error::CliError;

/// How psid logs in.
#[derive(Clone, Debug)]
pub(super) enum Login {
    Universal { client_id: String },
    AccessToken,
    Identity { method: LoginMethod, identity_id: String, more: IdentitySetting },
    Certificate { identity_id: String, certificate: Certificate },
}

/// What a method needs besides the identity's id.
#[derive(Clone, Debug)]
pub(super) enum IdentitySetting {
    None,
    /// The file of the token, unless it is the usual one.
    TokenFile(PathBuf),
    /// The client id at Azure of one of several managed identities.
    ClientId(String),
}

/// A client certificate.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) file: PathBuf,
    pub(super) key: CertificateKey,
    pub(super) login_url: Option<String>,
}

/// Where the private key of a certificate is.
#[derive(Clone, Debug)]
pub(super) enum CertificateKey {
    Sealed,
    OnToken(String),
}

impl Login {
    /// `universal-auth, client id …`
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Universal { client_id } => format!("universal-auth, client id {client_id}"),
            Self::AccessToken => LoginMethod::Token.name().to_owned(),
            Self::Identity { method, identity_id, .. } => {
                format!("{}, identity {identity_id}", method.name())
            }
            Self::Certificate { identity_id, .. } => {
                format!("{}, identity {identity_id}", LoginMethod::TlsCert.name())
            }
        }
    }

    /// The keys of `[providers.infisical.auth]`.
    pub(super) fn to_toml(&self) -> String {
        match self {
            Self::Universal { client_id } => {
                setting("method", LoginMethod::UniversalAuth.name())
                    + &setting("client_id", client_id)
                    + &setting("client_secret_credential", CLIENT_SECRET)
            }
            Self::AccessToken => {
                setting("method", LoginMethod::Token.name())
                    + &setting("token_credential", ACCESS_TOKEN)
            }
            Self::Identity { method, identity_id, more } => {
                let more = match more {
                    IdentitySetting::None => String::new(),
                    IdentitySetting::TokenFile(file) => {
                        setting("token_file", &file.display().to_string())
                    }
                    IdentitySetting::ClientId(id) => setting("client_id", id),
                };
                setting("method", method.name()) + &setting("identity_id", identity_id) + &more
            }
            Self::Certificate { identity_id, certificate } => {
                setting("method", LoginMethod::TlsCert.name())
                    + &setting("identity_id", identity_id)
                    + &certificate.to_toml()
            }
        }
    }

    /// Whether the PKCS#11 token signs the login.
    pub(super) fn is_on_token(&self) -> bool {
        let Self::Certificate { certificate, .. } = self else { return false };
        matches!(certificate.key, CertificateKey::OnToken(_))
    }
}

impl Certificate {
    fn to_toml(&self) -> String {
        let key = match &self.key {
            CertificateKey::Sealed => setting("key_credential", CLIENT_KEY),
            CertificateKey::OnToken(label) => setting("key_label", label),
        };
        let login_url = self.login_url.as_ref().map(|url| setting("login_url", url));
        setting("certificate_file", &self.file.display().to_string())
            + &key
            + &login_url.unwrap_or_default()
    }
}

/// The flags of single methods: each is given or not, and has its methods.
fn flags(args: &ProviderArgs) -> [(&'static str, bool, &'static [LoginMethod]); 9] {
    use LoginMethod::{
        AwsIam, Azure, Gcp, Jwt, Kubernetes, Oidc, Spiffe, TlsCert, Token, UniversalAuth,
    };
    let of_certificates: &[LoginMethod] = &[TlsCert];
    [
        ("--client-id", args.client_id.is_some(), &[UniversalAuth, Azure]),
        ("--client-secret-file", args.client_secret_file.is_some(), &[UniversalAuth]),
        ("--access-token-file", args.access_token_file.is_some(), &[Token]),
        (
            "--identity-id",
            args.identity_id.is_some(),
            &[AwsIam, Gcp, Azure, Kubernetes, Jwt, Oidc, Spiffe, TlsCert],
        ),
        ("--token-file", args.token_file.is_some(), &[Kubernetes, Jwt, Oidc, Spiffe]),
        ("--certificate-file", args.certificate_file.is_some(), of_certificates),
        ("--private-key-file", args.private_key_file.is_some(), of_certificates),
        ("--private-key-label", args.private_key_label.is_some(), of_certificates),
        ("--login-url", args.login_url.is_some(), of_certificates),
    ]
}

/// Whether each flag is one of the method's.
pub(super) fn are_of(method: LoginMethod, args: &ProviderArgs) -> Result<(), CliError> {
    let other = flags(args).into_iter().find(|(_, given, of)| *given && !of.contains(&method));
    let Some((flag, _, of)) = other else { return Ok(()) };
    let of: Vec<&str> = of.iter().map(|method| method.name()).collect();
    let (name, of) = (method.name(), of.join(", "));
    Err(CliError::new(
        Exit::Usage,
        format!("{flag} is a flag of {of}, and the login method is {name}"),
        "leave it out, or give another --method; nothing was changed",
    ))
}

/// The method that the flags without --method mean.
pub(super) fn of_flags(args: &ProviderArgs) -> Option<LoginMethod> {
    if !flags(args).iter().any(|(_, given, _)| *given) {
        return None;
    }
    let mut fitting = LoginMethod::ALL.into_iter().filter(|method| are_of(*method, args).is_ok());
    match (fitting.next()?, fitting.next()) {
        (LoginMethod::UniversalAuth, _) => Some(LoginMethod::UniversalAuth),
        (method, None) => Some(method),
        (_, Some(_)) => None,
    }
}

/// Checks the text of a flag; the error says what it must be.
pub(super) type TextCheck = fn(&str) -> Result<(), String>;

/// The first flag that is wrong by itself.
pub(super) fn fault(args: &ProviderArgs) -> Option<(&'static str, String)> {
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let (token, certificate) = (text(&args.token_file), text(&args.certificate_file));
    let checks: [(&str, Option<&str>, TextCheck); 5] = [
        ("--client-id", args.client_id.as_deref(), is_one_word),
        ("--identity-id", args.identity_id.as_deref(), is_one_word),
        ("--token-file", token.as_deref(), is_absolute),
        ("--certificate-file", certificate.as_deref(), is_absolute),
        ("--private-key-label", args.private_key_label.as_deref(), is_line),
    ];
    checks.into_iter().find_map(|(flag, given, check)| Some((flag, check(given?).err()?)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        provider: ProviderArgs,
    }

    fn provider(args: &[&str]) -> ProviderArgs {
        Line::try_parse_from([&["init"][..], args].concat()).unwrap().provider
    }

    #[test]
    fn flag_of_another_method_is_refused_with_its_own_methods() {
        let refused = |method, args: &[&str]| are_of(method, &provider(args)).unwrap_err();
        let error = refused(LoginMethod::Gcp, &["--client-id", "c"]);
        assert_eq!(error.exit(), Exit::Usage);
        let text = error.to_string();
        assert!(
            text.starts_with(
                "--client-id is a flag of universal-auth, azure, and the login method is gcp"
            ),
            "{text}"
        );
        let text = refused(LoginMethod::Token, &["--identity-id", "i"]).to_string();
        assert!(text.contains("--identity-id is a flag of aws-iam, gcp, azure"), "{text}");
        let all = ["--identity-id", "i", "--certificate-file", "/c", "--private-key-label", "k"];
        assert!(are_of(LoginMethod::TlsCert, &provider(&all)).is_ok());
        assert!(are_of(LoginMethod::Jwt, &provider(&all)).is_err());
    }

    #[test]
    fn flags_of_one_method_choose_it() {
        for (args, method) in [
            (&[][..], None),
            (&["--client-id", "c"], Some(LoginMethod::UniversalAuth)),
            (&["--access-token-file", "-"], Some(LoginMethod::Token)),
            (&["--certificate-file", "/c", "--identity-id", "i"], Some(LoginMethod::TlsCert)),
            (&["--client-id", "c", "--identity-id", "i"], Some(LoginMethod::Azure)),
            (&["--identity-id", "i"], None),
            (&["--access-token-file", "-", "--identity-id", "i"], None),
        ] {
            assert_eq!(of_flags(&provider(args)), method, "{args:?}");
        }
    }

    #[test]
    fn each_flag_is_checked_by_itself() {
        for (args, flag) in [
            (["--client-id", "a b"], "--client-id"),
            (["--identity-id", ""], "--identity-id"),
            (["--token-file", "relative"], "--token-file"),
            (["--certificate-file", "client.pem"], "--certificate-file"),
            (["--private-key-label", ""], "--private-key-label"),
        ] {
            assert_eq!(fault(&provider(&args)).unwrap().0, flag);
        }
        assert_eq!(fault(&provider(&["--token-file", "/run/t", "--client-id", "c"])), None);
    }

    #[test]
    fn certificate_s_key_is_sealed_or_on_the_token() {
        let with = |key, login_url| Login::Certificate {
            identity_id: "i".into(),
            certificate: Certificate { file: "/c.pem".into(), key, login_url },
        };
        let auth = |login: &Login| login.to_toml().parse::<toml::Table>().unwrap();
        let sealed = with(CertificateKey::Sealed, Some("https://h:8443".into()));
        let table = auth(&sealed);
        assert_eq!(table["key_credential"].as_str(), Some(CLIENT_KEY));
        assert_eq!(table["certificate_file"].as_str(), Some("/c.pem"));
        assert_eq!(table["login_url"].as_str(), Some("https://h:8443"));
        let on_token = with(CertificateKey::OnToken("k".into()), None);
        assert_eq!(auth(&on_token)["key_label"].as_str(), Some("k"));
        assert!(on_token.is_on_token() && !sealed.is_on_token());
        assert_eq!(sealed.describe(), "tls-cert, identity i");
    }
}
