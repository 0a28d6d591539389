//! What an admin chose, and the config that says it.

use std::path::PathBuf;

use psi_common::{SealMode, SecretBytes};

use super::config_text::{PIN, key, quoted, setting};
use super::login::Login;
use crate::ctl::args::{Backend, ProjectArg, WorkloadArg};

/// A new config.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub(super) api_url: String,
    pub(super) allow_http: bool,
    pub(super) ca_cert: Option<PathBuf>,
    pub(super) login: Login,
    pub(super) project: ProjectArg,
    pub(super) workloads: Vec<WorkloadArg>,
    pub(super) key: KeyChoice,
    /// The token that keeps the key of the cache, or the one of the login.
    pub(super) token: Option<TokenArgs>,
}

/// Where the key of the cache is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyChoice {
    /// Sealed by systemd-creds, to this.
    Sealed(SealMode),
    /// In the token.
    Token,
}

/// The token of `[providers.pkcs11]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenArgs {
    pub(super) module: PathBuf,
    pub(super) label: String,
    pub(super) key_label: Option<String>,
}

/// The secrets that were given, by the names of their credentials.
#[derive(Default)]
pub(super) struct GivenSecrets(Vec<(&'static str, SecretBytes)>);

impl GivenSecrets {
    pub(super) fn set(&mut self, name: &'static str, secret: SecretBytes) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, secret));
    }

    pub(super) fn get(&self, name: &str) -> Option<&SecretBytes> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, secret)| secret)
    }
}

impl KeyChoice {
    pub(super) fn backend(&self) -> Backend {
        match self {
            Self::Sealed(_) => Backend::Tpm,
            Self::Token => Backend::Hsm,
        }
    }
}

impl Choices {
    /// The config.
    pub(super) fn to_toml(&self) -> String {
        let header = "# Written by `psictl init`. psi.toml(5) documents every key. After a change: `psid check`, then\n\
             # `systemctl reload psid`.\n\n[cache]\n";
        let mut text = psi_common::for_own_scope(header).into_owned();
        text += &setting("backend", self.key.backend().name());
        if self.key == KeyChoice::Sealed(SealMode::Host) {
            text += &setting("seal_with", "host");
        }
        text += &self.provider();
        for WorkloadArg { name, project, path } in &self.workloads {
            text += &format!(
                "\n[workloads.{}]\nprovider = \"infisical\"\nsecrets = [{{ project = {}, path = {} }}]\n",
                key(name),
                quoted(project),
                quoted(path)
            );
        }
        text
    }

    fn provider(&self) -> String {
        let mut text = format!("\n[providers.infisical]\n{}", setting("api_url", &self.api_url));
        if self.allow_http {
            text += "allow_http = true\n";
        }
        if let Some(ca_cert) = &self.ca_cert {
            text += &setting("ca_cert", &ca_cert.display().to_string());
        }
        text += "\n[providers.infisical.auth]\n";
        text += &self.login.to_toml();
        let ProjectArg { name, id, environment } = &self.project;
        text += &format!("\n[providers.infisical.projects.{}]\n", key(name));
        text += &(setting("id", id) + &setting("environment", environment));
        if let Some(TokenArgs { module, label, key_label }) = &self.token {
            text += "\n[providers.pkcs11]\n";
            text += &setting("pkcs11_module", &module.display().to_string());
            text += &setting("token_label", label);
            text +=
                &key_label.as_ref().map_or_else(String::new, |label| setting("key_label", label));
            text += &setting("pin_credential", PIN);
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::config_text::{ACCESS_TOKEN, CLIENT_SECRET};
    use super::super::login::IdentitySetting;
    use super::*;
    use crate::ctl::args::LoginMethod;

    pub(in crate::ctl::init) fn choices() -> Choices {
        Choices {
            api_url: "https://app.infisical.com".into(),
            allow_http: false,
            ca_cert: None,
            login: Login::Universal { client_id: "client".into() },
            project: ProjectArg { name: "p".into(), id: "1-2".into(), environment: "prod".into() },
            workloads: vec![WorkloadArg {
                name: "app.v1".into(),
                project: "p".into(),
                path: "/a\"b".into(),
            }],
            key: KeyChoice::Sealed(SealMode::Tpm2),
            token: None,
        }
    }

    fn parsed(choices: &Choices) -> toml::Table {
        choices.to_toml().parse().unwrap()
    }

    #[test]
    fn to_toml_writes_what_was_chosen() {
        let table = parsed(&choices());
        assert_eq!(table["cache"]["backend"].as_str(), Some("tpm"));
        assert!(table["cache"].get("seal_with").is_none());
        let infisical = &table["providers"]["infisical"];
        assert_eq!(infisical["auth"]["client_secret_credential"].as_str(), Some(CLIENT_SECRET));
        assert_eq!(infisical["projects"]["p"]["environment"].as_str(), Some("prod"));
        assert_eq!(table["workloads"]["app.v1"]["secrets"][0]["path"].as_str(), Some("/a\"b"));
    }

    #[test]
    fn to_toml_names_the_token_the_host_and_other_logins() {
        let token = TokenArgs { module: "/m.so".into(), label: "psi".into(), key_label: None };
        let table = parsed(&Choices { key: KeyChoice::Token, token: Some(token), ..choices() });
        assert_eq!(table["cache"]["backend"].as_str(), Some("hsm"));
        assert_eq!(table["providers"]["pkcs11"]["pin_credential"].as_str(), Some(PIN));
        let login = Login::Identity {
            method: LoginMethod::AwsIam,
            identity_id: "i".into(),
            more: IdentitySetting::None,
        };
        let key = KeyChoice::Sealed(SealMode::Host);
        let table = parsed(&Choices { login: Login::AccessToken, ..choices() });
        let auth = &table["providers"]["infisical"]["auth"];
        assert_eq!(auth["token_credential"].as_str(), Some(ACCESS_TOKEN));
        let table = parsed(&Choices { key, login, allow_http: true, ..choices() });
        assert_eq!(table["cache"]["seal_with"].as_str(), Some("host"));
        assert_eq!(table["providers"]["infisical"]["auth"]["identity_id"].as_str(), Some("i"));
        assert_eq!(table["providers"]["infisical"]["allow_http"].as_bool(), Some(true));
    }
}
