//! The login, from flags and from a terminal.

use std::path::PathBuf;

use super::checks::{is_absolute, is_one_word};
use super::gather::Gather;
use super::login::{Certificate, CertificateKey, IdentitySetting, Login, are_of, of_flags};
use crate::ctl::args::LoginMethod;
use crate::error::CliError;

impl Gather<'_> {
    pub(super) fn login(&mut self) -> Result<Login, CliError> {
        let method = self.method()?;
        are_of(method, &self.options.provider)?;
        match method {
            LoginMethod::UniversalAuth => self.universal(),
            LoginMethod::Token => Ok(Login::AccessToken),
            LoginMethod::TlsCert => self.certificate(),
            _ => self.identity(method),
        }
    }

    fn method(&self) -> Result<LoginMethod, CliError> {
        let provider = &self.options.provider;
        let chosen = provider.method.or_else(|| of_flags(provider));
        let (None, Some(terminal)) = (chosen, self.terminal) else {
            return Ok(chosen.unwrap_or(LoginMethod::UniversalAuth));
        };
        let names = LoginMethod::ALL.map(LoginMethod::name).join(", ");
        let default = self.previous.as_ref().map_or(LoginMethod::UniversalAuth, |previous| {
            match &previous.login {
                Login::Universal { .. } => LoginMethod::UniversalAuth,
                Login::AccessToken => LoginMethod::Token,
                Login::Identity { method, .. } => *method,
                Login::Certificate { .. } => LoginMethod::TlsCert,
            }
        });
        let answer =
            terminal.ask(&format!("Login method ({names})"), Some(default.name()), |name| {
                LoginMethod::of(name).map(|_| ()).ok_or_else(|| format!("one of {names}"))
            })?;
        Ok(LoginMethod::of(&answer).unwrap_or(default))
    }

    fn universal(&mut self) -> Result<Login, CliError> {
        let previous = match self.previous.as_ref().map(|choices| &choices.login) {
            Some(Login::Universal { client_id }) => Some(client_id.clone()),
            _ => None,
        };
        let flag = ("--client-id", self.options.provider.client_id.as_deref());
        let question = "Client ID of the machine identity";
        let client_id = self.answer(flag, question, previous.as_deref(), is_one_word)?;
        Ok(Login::Universal { client_id })
    }

    fn identity_id(&mut self) -> Result<String, CliError> {
        let previous = match self.previous.as_ref().map(|choices| &choices.login) {
            Some(Login::Identity { identity_id, .. } | Login::Certificate { identity_id, .. }) => {
                Some(identity_id.clone())
            }
            _ => None,
        };
        let flag = ("--identity-id", self.options.provider.identity_id.as_deref());
        self.answer(flag, "ID of the machine identity", previous.as_deref(), is_one_word)
    }

    fn identity(&mut self, method: LoginMethod) -> Result<Login, CliError> {
        let identity_id = self.identity_id()?;
        let provider = &self.options.provider;
        let more = match (method, &provider.token_file, &provider.client_id) {
            (LoginMethod::Azure, _, Some(id)) => IdentitySetting::ClientId(id.clone()),
            (LoginMethod::Kubernetes, Some(file), _) => IdentitySetting::TokenFile(file.clone()),
            (LoginMethod::Jwt | LoginMethod::Oidc | LoginMethod::Spiffe, given, _) => {
                let given = given.as_ref().map(|path| path.display().to_string());
                let previous = match self.previous.as_ref().map(|choices| &choices.login) {
                    Some(Login::Identity { more: IdentitySetting::TokenFile(file), .. }) => {
                        Some(file.display().to_string())
                    }
                    _ => None,
                };
                let flag = ("--token-file", given.as_deref());
                let question = "File of the token";
                let file = self.answer(flag, question, previous.as_deref(), is_absolute)?;
                IdentitySetting::TokenFile(file.into())
            }
            _ => IdentitySetting::None,
        };
        Ok(Login::Identity { method, identity_id, more })
    }

    fn certificate(&mut self) -> Result<Login, CliError> {
        let identity_id = self.identity_id()?;
        let provider = &self.options.provider;
        let previous = match self.previous.as_ref().map(|choices| &choices.login) {
            Some(Login::Certificate { certificate, .. }) => Some(certificate.clone()),
            _ => None,
        };
        let of = |path: &PathBuf| path.display().to_string();
        let (given, before) = (
            provider.certificate_file.as_ref().map(of),
            previous.as_ref().map(|certificate| of(&certificate.file)),
        );
        let flag = ("--certificate-file", given.as_deref());
        let question = "File of the client certificate in PEM";
        let file = self.answer(flag, question, before.as_deref(), is_absolute)?.into();
        let key = match (&provider.private_key_label, &provider.private_key_file, self.terminal) {
            (Some(label), _, _) => CertificateKey::OnToken(label.clone()),
            (None, None, Some(terminal)) => {
                let before = match previous.as_ref().map(|certificate| &certificate.key) {
                    Some(CertificateKey::OnToken(label)) => label.as_str(),
                    _ => "",
                };
                let question =
                    "Label of the private key on the PKCS#11 token (empty: the key is in a file)";
                match terminal.ask(question, Some(before), |_| Ok(()))? {
                    label if label.is_empty() => CertificateKey::Sealed,
                    label => CertificateKey::OnToken(label),
                }
            }
            _ => CertificateKey::Sealed,
        };
        let login_url = provider.login_url.clone();
        Ok(Login::Certificate { identity_id, certificate: Certificate { file, key, login_url } })
    }
}
